"""What the verbs share: options that open an interface, output for people or machines, a clean end on Ctrl-C."""

import errno
import json
import logging
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from memif.address import DEFAULT_SOCKET
from memif.config import MODES, ROLES, RX_MODES
from memif.errors import MemifError, MemifValueError
from memif.interface import Interface
from memif.socket import Socket

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Link:
    """How to open an interface, as the common options say."""

    socket: str
    id: int
    role: str
    secret: str | bytes | None = field(repr=False)
    mode: str
    rx_queues: int | None
    tx_queues: int | None
    ring_size: int
    buffer_size: int
    rx_mode: str

    def open(self, *, name: str | None = None, app_name: str = "memif for Python", **more: Any) -> Interface:
        """Open the interface on a socket of its own; returns at once. Usage error for an option that can not be."""
        options = asdict(self) | {"name": name} | more
        try:
            socket = Socket(options.pop("socket"), app_name=app_name)
        except MemifValueError as error:
            raise click.UsageError(error.detail) from error
        try:
            return socket.only_interface(**options)
        except BaseException as error:
            socket.close()
            if isinstance(error, MemifValueError):
                raise click.UsageError(error.detail) from error
            raise


def link_options(role: str = "slave", *, short_socket: bool = True) -> Callable[[Command], Command]:
    """Decorator: adds the options of a `Link`, and passes it to the command as ``link``.

    `short_socket`: whether -s means the socket; for captures it means the snap length everywhere.
    """
    options = [
        click.option(
            *(("-s",) if short_socket else ()),
            "--socket",
            default=DEFAULT_SOCKET,
            show_default=True,
            metavar="NAME",
            shell_complete=complete_file,
            help="Control socket: a path, @abstract or abstract:name.",
        ),
        click.option(
            "-i", "--id", type=click.IntRange(0, 0xFFFFFFFF), default=0, show_default=True, help="Interface id."
        ),
        click.option(
            "-r",
            "--role",
            type=click.Choice(list(ROLES)),
            default=role,
            show_default=True,
            help="slave (client) connects, master (server) listens.",
        ),
        click.option(
            "--secret",
            metavar="TEXT",
            envvar="MEMIF_SECRET",
            show_envvar=True,
            help="Shared secret, at most 23 bytes. Every user of this machine can see it here; better use the "
            "environment, or --secret-file.",
        ),
        click.option(
            "--secret-file",
            metavar="FILE",
            shell_complete=complete_file,
            help="File whose first line is the shared secret.",
        ),
        click.option(
            "-m",
            "--mode",
            type=click.Choice(list(MODES)),
            default="ethernet",
            show_default=True,
            help="What the packets start with.",
        ),
        click.option("--rx-queues", type=click.IntRange(0, 255), help="Receive queues (slave: 1; master: any)."),
        click.option("--tx-queues", type=click.IntRange(0, 255), help="Transmit queues (slave: 1; master: any)."),
        click.option("--ring-size", type=int, default=1024, show_default=True, help="Slots of a ring (slave)."),
        click.option("--buffer-size", type=int, default=2048, show_default=True, help="Bytes of a buffer (slave)."),
        click.option(
            "--rx-mode",
            type=click.Choice(RX_MODES),
            default="interrupt",
            show_default=True,
            help="How to wait for packets.",
        ),
    ]

    def decorate(command: Command) -> Command:
        def call(**arguments: Any) -> Any:
            if (file := arguments.pop("secret_file")) is not None:
                arguments["secret"] = _from_file(file)
            names = Link.__dataclass_fields__
            link = Link(**{name: arguments.pop(name) for name in names})
            return run(command, link=link, **arguments)

        call.__name__, call.__doc__ = command.__name__, command.__doc__
        for option in reversed(options):
            call = option(call)
        call.__click_params__ = [*getattr(command, "__click_params__", []), *call.__click_params__]  # type: ignore[attr-defined]
        return call  # type: ignore[return-value]

    return decorate


def _from_file(file: str) -> bytes:
    """The secret of ``--secret-file``, which goes before the others. Usage error when it can not be read."""
    context = click.get_current_context()
    if context.get_parameter_source("secret") is ParameterSource.COMMANDLINE:
        raise click.UsageError("--secret and --secret-file: only one of them", context)
    return read_secret(file)


def read_secret(file: str) -> bytes:
    """The first line of a file; usage error when it can not be read."""
    try:
        with open(file, "rb") as source:
            return source.readline(1024).rstrip(b"\r\n")
    except OSError as error:
        raise click.UsageError(f"secret file {file!r}: {error.strerror}") from error


def complete_file(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Shell completion: names of files."""
    return [CompletionItem(incomplete, type="file")]


def json_option(command: Command) -> Command:
    """Decorator: ``--json``, as ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(command)


def timeout_option(command: Command) -> Command:
    """Decorator: ``--timeout``, for the link."""
    return click.option(
        "--timeout", type=click.FloatRange(0), default=5.0, show_default=True, help="Seconds for the link to come up."
    )(command)


def duration_option(command: Command) -> Command:
    """Decorator: ``--duration``."""
    return click.option(
        "-d", "--duration", type=click.FloatRange(0), metavar="SECONDS", help="End after so many seconds."
    )(command)


def interval_option(command: Command) -> Command:
    """Decorator: ``--interval`` between two lines of progress."""
    return click.option(
        "--interval",
        type=click.FloatRange(0),
        default=1.0,
        show_default=True,
        metavar="SECONDS",
        help="Time between two reports while it runs, 0 for none.",
    )(command)


def examples(*lines: str) -> str:
    """The epilog of a help text, one command a line."""
    return "\b\nExamples:\n" + "\n".join(f"  memif {line}" for line in lines)


def fail(text: str) -> None:
    """One line on standard error."""
    click.echo(f"memif: {text}", err=True)


class _Once(logging.Filter):
    """Drops a message that is the same as the one before: a client that tries again every few seconds."""

    _last = ""

    def filter(self, record: logging.LogRecord) -> bool:
        """False for a repetition."""
        text = record.getMessage()
        again, self._last = text == self._last, text
        return not again


def _log_to_stderr() -> None:
    """Warnings of the library on standard error, one line each, in the manner of the tool's own."""
    log = logging.getLogger("memif")
    if not log.handlers:
        handler = logging.StreamHandler()
        handler.addFilter(_Once())
        handler.setFormatter(logging.Formatter("memif: %(message)s"))
        log.addHandler(handler)
        log.propagate = False


def run(command: Callable[..., Any], **arguments: Any) -> Any:
    """Call a verb: an error becomes one line and exit code 1, Ctrl-C and SIGTERM are the ordinary end."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _log_to_stderr()
    try:
        return command(**arguments)
    except MemifError as error:
        fail(str(error))
        sys.exit(1)
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise  # whoever read our output has gone: click ends without a word
        fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def print_json(value: Any, *, err: bool = False) -> None:
    """One JSON document on a line of its own; `err`: on standard error."""
    click.echo(json.dumps(value, default=str), err=err)
