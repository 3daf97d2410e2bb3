"""What the verbs share: options that open an interface, output for people or machines, a clean end on Ctrl-C."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import click

from memif.address import DEFAULT_SOCKET
from memif.config import MODES, ROLES, RX_MODES
from memif.errors import MemifError
from memif.interface import Interface
from memif.socket import Socket

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Link:
    """How to open an interface, as the common options say."""

    socket: str
    id: int
    role: str
    secret: str | None
    mode: str
    rx_queues: int | None
    tx_queues: int | None
    ring_size: int
    buffer_size: int
    rx_mode: str

    def open(self, *, name: str | None = None, app_name: str = "memif for Python", **more: Any) -> Interface:
        """Open the interface on a socket of its own; returns at once."""
        options = asdict(self) | {"name": name} | more
        socket = Socket(options.pop("socket"), app_name=app_name)
        try:
            return socket.only_interface(**options)
        except BaseException:
            socket.close()
            raise


def link_options(role: str = "slave") -> Callable[[Command], Command]:
    """Decorator: adds the options of a `Link`, and passes it to the command as ``link``."""
    options = [
        click.option("-s", "--socket", default=DEFAULT_SOCKET, show_default=True, metavar="NAME",
                     help="Control socket: a path, @abstract or abstract:name."),
        click.option("-i", "--id", type=click.IntRange(0, 0xFFFFFFFF), default=0, show_default=True,
                     help="Interface id."),
        click.option("-r", "--role", type=click.Choice(list(ROLES)), default=role, show_default=True,
                     help="slave (client) connects, master (server) listens."),
        click.option("--secret", metavar="TEXT", help="Shared secret, at most 23 bytes."),
        click.option("-m", "--mode", type=click.Choice(list(MODES)), default="ethernet", show_default=True,
                     help="What the packets start with."),
        click.option("--rx-queues", type=click.IntRange(0, 255), help="Receive queues (slave: 1; master: any)."),
        click.option("--tx-queues", type=click.IntRange(0, 255), help="Transmit queues (slave: 1; master: any)."),
        click.option("--ring-size", type=int, default=1024, show_default=True, help="Slots of a ring (slave)."),
        click.option("--buffer-size", type=int, default=2048, show_default=True, help="Bytes of a buffer (slave)."),
        click.option("--rx-mode", type=click.Choice(RX_MODES), default="interrupt", show_default=True,
                     help="How to wait for packets."),
    ]

    def decorate(command: Command) -> Command:
        def call(**arguments: Any) -> Any:
            names = Link.__dataclass_fields__
            link = Link(**{name: arguments.pop(name) for name in names})
            return run(command, link=link, **arguments)

        call.__name__, call.__doc__ = command.__name__, command.__doc__
        for option in reversed(options):
            call = option(call)
        call.__click_params__ = [*getattr(command, "__click_params__", []), *call.__click_params__]  # type: ignore[attr-defined]
        return call  # type: ignore[return-value]

    return decorate


def run(command: Callable[..., Any], **arguments: Any) -> Any:
    """Call a verb: an error becomes one line and exit code 1, Ctrl-C is the ordinary end."""
    try:
        return command(**arguments)
    except MemifError as error:
        click.echo(f"memif: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def print_json(value: Any) -> None:
    """One JSON document on a line of its own."""
    click.echo(json.dumps(value, default=str))
