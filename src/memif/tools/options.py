"""The options that verbs share, above all those that open an interface."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, cast, get_args

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from memif.address import DEFAULT_SOCKET
from memif.errors import MemifValueError
from memif.types import ModeName, RoleName, RxMode

if TYPE_CHECKING:
    from memif.interface import Interface, Options

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class LinkOptions:
    """How to open an interface, as the common options say; they are arguments of `memif.Socket.interface`."""

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

    def open(self, name: str) -> "Interface":
        """Open the interface on a socket of its own; return at once.

        Args:
            name: Of the interface, shown to the peer.

        Raises:
            click.UsageError: An option is invalid.
        """
        from memif.socket import open_interface

        options = asdict(self) | {"name": name}
        try:
            return open_interface(options.pop("socket"), cast("Options", options))
        except MemifValueError as error:
            raise click.UsageError(error.detail) from error


def link_options(*, short_socket: bool = True) -> Callable[[Command], Command]:
    """Decorator: adds the options of `LinkOptions`, and passes them to the command as ``link``.

    Args:
        short_socket: Whether -s means the socket; for captures it means the snap length.
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
            type=click.Choice(get_args(RoleName)),
            default="slave",
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
            type=click.Choice(get_args(ModeName)),
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
            type=click.Choice(get_args(RxMode)),
            default="interrupt",
            show_default=True,
            help="How to wait for packets.",
        ),
    ]

    def decorate(command: Command) -> Command:
        def call(**arguments: Any) -> Any:
            if (file := arguments.pop("secret_file")) is not None:
                arguments["secret"] = _from_file(file)
            names = LinkOptions.__dataclass_fields__
            link = LinkOptions(**{name: arguments.pop(name) for name in names})
            return command(link=link, **arguments)

        call.__name__, call.__doc__ = command.__name__, command.__doc__
        for option in reversed(options):
            call = option(call)
        call.__click_params__ = [*getattr(command, "__click_params__", []), *call.__click_params__]  # type: ignore[attr-defined]
        return call  # type: ignore[return-value]

    return decorate


def _from_file(file: str) -> bytes:
    """The secret of ``--secret-file``, which goes before the environment's."""
    context = click.get_current_context()
    if context.get_parameter_source("secret") is ParameterSource.COMMANDLINE:
        raise click.UsageError("--secret and --secret-file: only one of them", context)
    return read_secret(file)


def read_secret(file: str) -> bytes:
    """Return the first line of a file; usage error when it cannot be read."""
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
    """Return the epilog of a help text, one command per line."""
    return "\b\nExamples:\n" + "\n".join(f"  memif {line}" for line in lines)
