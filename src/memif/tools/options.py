"""The options that verbs share, above all those that open an interface."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast, get_args

import click
from click.shell_completion import CompletionItem

from memif import profiles
from memif.address import DEFAULT_SOCKET
from memif.errors import MemifValueError
from memif.tools.verb import LinkOption
from memif.types import ModeName, RoleName, RxMode

if TYPE_CHECKING:
    from memif.interface import Interface, Options

Command = TypeVar("Command", bound=Callable[..., Any])
Decorator = Callable[[Command], Command]


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

    @contextmanager
    def open_all(self, name: str, ids: Iterable[int]) -> "Iterator[list[Interface]]":
        """Context: interfaces with these numbers in place of `id`, on one socket; see `open`."""
        from memif.socket import Socket

        options = asdict(self) | {"name": name}
        path = options.pop("socket")
        with ExitStack() as stack:
            try:
                socket = stack.enter_context(Socket(path))
                interfaces = [socket.interface(**cast("Options", options | {"id": number})) for number in ids]
            except MemifValueError as error:
                raise click.UsageError(error.detail) from error
            yield interfaces


def link_options() -> Callable[[Command], Command]:
    """Decorator: adds the options of `LinkOptions`, and passes them to the command as ``link``.

    What the command line leaves open comes from the profile, the environment and the file of profiles, see
    `memif.profiles`.

    All but the profile are written out: the short forms are for what ping(8), tcpdump, tcpreplay and iperf3 mean by
    them.
    """
    options = [
        *_socket_options(),
        _option("--id", type=click.IntRange(0, 0xFFFFFFFF), default=0, help="Interface id, as at the other end."),
        _option(
            "--role",
            type=click.Choice(get_args(RoleName)),
            default="slave",
            help="slave (client) connects, master (server) listens.",
        ),
        _option(
            "--secret",
            metavar="TEXT",
            help="Shared secret, at most 23 bytes. Every user of this machine can see it here; better use "
            "--secret-file or the environment.",
        ),
        _option(
            "--secret-file",
            metavar="FILE",
            shell_complete=complete_file,
            help="File whose first line is the shared secret.",
        ),
        _option(
            "--mode",
            type=click.Choice(get_args(ModeName)),
            default="ethernet",
            help="What the packets start with.",
        ),
        _option("--rx-queues", type=click.IntRange(0, 255), help="Receive queues (slave: 1; master: any)."),
        _option("--tx-queues", type=click.IntRange(0, 255), help="Transmit queues (slave: 1; master: any)."),
        _option("--ring-size", type=int, metavar="SLOTS", default=1024, help="Slots of a ring (slave)."),
        _option("--buffer-size", type=int, metavar="BYTES", default=2048, help="Bytes of a buffer (slave)."),
        _option("--rx-mode", type=click.Choice(get_args(RxMode)), default="interrupt", help="How to wait for packets."),
    ]

    def decorate(command: Command) -> Command:
        def call(**arguments: Any) -> Any:
            arguments["secret"] = _secret(arguments["secret"], arguments.pop("secret_file"))
            names = LinkOptions.__dataclass_fields__
            link = LinkOptions(**{name: arguments.pop(name) for name in names})
            return command(link=link, **arguments)

        call.__name__, call.__doc__ = command.__name__, command.__doc__
        for option in reversed(options):
            call = option(call)
        call.__click_params__ = [*getattr(command, "__click_params__", []), *call.__click_params__]  # type: ignore[attr-defined]
        return call  # type: ignore[return-value]

    return decorate


def socket_options(command: Command) -> Command:
    """Decorator: ``--profile`` and ``--socket`` alone, as ``socket``, for a verb that opens no interface itself."""
    for option in reversed(_socket_options()):
        command = option(command)
    return command


def _option(*names: str, **settings: Any) -> Decorator[Any]:
    return click.option(*names, cls=LinkOption, show_default=True, **settings)


def _socket_options() -> list[Decorator[Any]]:
    return [
        _option(
            "-P",
            "--profile",
            metavar="NAME",
            is_eager=True,
            expose_value=False,
            callback=_take_profile,
            shell_complete=complete_profile,
            help="A profile of the file named below, for what is not said here.",
        ),
        _option(
            "--socket",
            default=DEFAULT_SOCKET,
            metavar="NAME",
            shell_complete=complete_socket,
            help="Control socket: a path, @abstract or abstract:name.",
        ),
    ]


_SECRET: Final = "memif.tools.secret"  # of the profile or the environment, in a context


def _take_profile(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    """Make the options of the profile, the environment and the file the defaults of the others."""
    try:
        found = profiles.link_options(value)
    except MemifValueError as error:
        if ctx.resilient_parsing:  # the shell asks for words that could follow
            return
        raise click.UsageError(error.detail.removeprefix("argument "), ctx) from error
    ctx.meta[_SECRET] = found.pop("secret", None)
    ctx.default_map = found


def _secret(text: str | None, file: str | None) -> str | bytes | None:
    """The secret: of the options, else of the profile or the environment."""
    context = click.get_current_context()
    if text is not None and file is not None:
        raise click.UsageError("--secret and --secret-file: only one of them", context)
    if file is not None:
        return read_secret(file)
    return context.meta.get(_SECRET) if text is None else text


def read_secret(file: str) -> bytes:
    """Return the first line of a file; usage error when it cannot be read."""
    try:
        return profiles.read_secret(file)
    except OSError as error:
        raise click.UsageError(f"secret file {file!r}: {error.strerror}") from error


def complete_file(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Shell completion: names of files."""
    return [CompletionItem(incomplete, type="file")]


def complete_socket(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Shell completion: the sockets that somebody listens on; files if there are none of that name."""
    from memif.discovery import find_sockets

    try:
        names = [found.name for found in find_sockets(ask="none") if found.name.startswith(incomplete)]
    except OSError:
        names = []
    return [*map(CompletionItem, names)] or complete_file(ctx, param, incomplete)


def complete_profile(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Shell completion: names of profiles."""
    return [CompletionItem(name) for name in profiles.profile_names() if name.startswith(incomplete)]


def json_option(command: Command) -> Command:
    """Decorator: ``--json``, as ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(command)


def timeout_option(command: Command) -> Command:
    """Decorator: ``--timeout``, for the link."""
    return click.option(
        "--timeout", type=click.FloatRange(0), default=5.0, show_default=True, help="Seconds for the link to come up."
    )(command)


def duration_option(command: Command, *short: str) -> Command:
    """Decorator: ``--duration``, also by the names `short`."""
    return click.option(
        *short, "--duration", type=click.FloatRange(0), metavar="SECONDS", help="End after so many seconds."
    )(command)


def interval_option(command: Command, *short: str) -> Command:
    """Decorator: ``--interval`` between two lines of progress, also by the names `short`."""
    return click.option(
        *short,
        "--interval",
        type=click.FloatRange(0),
        default=1.0,
        show_default=True,
        metavar="SECONDS",
        help="Time between two reports while it runs, 0 for none.",
    )(command)


def iperf_options(command: Command) -> Command:
    """Decorator: ``--duration`` and ``--interval``, also by iperf3's short names."""
    return duration_option(interval_option(command, "-i"), "-t")


def examples(*lines: str) -> str:
    """Return the epilog of a help text, one command per line."""
    return "\b\nExamples:\n" + "\n".join(f"  memif {line}" for line in lines)
