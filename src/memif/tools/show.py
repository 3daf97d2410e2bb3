"""``memif show``: join links, and show their state."""

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, cast

import click
from click.core import ParameterSource
from rich.console import RenderableType

from memif.errors import MemifDisconnectedError
from memif.interface import Interface
from memif.tools.columns import width_of
from memif.tools.linking import Waiting, in_own_words
from memif.tools.options import LinkOptions, duration_option, examples, json_option, link_options
from memif.tools.picture import View, as_dict, render
from memif.tools.screen import live
from memif.tools.terminal import Stop, print_json, print_rich
from memif.tools.verb import Verb
from memif.waiting import Waitable, wait

if TYPE_CHECKING:
    from memif.socket import Socket

_MOST = 256  # interfaces


@click.command(
    "show",
    cls=Verb,
    epilog=examples(
        "show --role master", "show --once", "show 0-3 7", "show --once --json --socket /run/vpp/memif.sock --id 3"
    ),
)
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--once", is_flag=True, help="Print it once, when all links are up or the time for that is over.")
@click.option(
    "--timeout",
    type=click.FloatRange(0),
    default=5.0,
    show_default=True,
    help="With --once: seconds for the links to come up.",
)
@click.option(
    "--interval",
    type=click.FloatRange(0.1),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Time between two updates.",
)
@duration_option
@json_option
@link_options()
def command(
    link: LinkOptions,
    ids: tuple[str, ...],
    as_json: bool,
    once: bool,
    timeout: float,
    interval: float,
    duration: float | None,
) -> None:
    """Join links, and show their state, peers, queues, rings, rates and drops.

    Nothing can look into another program's interfaces: what is shown is a new end of each link, and what arrives on it
    is counted and dropped. To see who is there without joining use memif list, and memif sniff to watch the link
    between two other programs.

    Each ID is the number of an interface or a range as 0-3, in place of --id. All are on one socket, with the same
    options. With --json there is a document for each.

    Exit code with --once: 0 when all links are up, 1 when one is not.
    """
    numbers = parse_ids(ids) or [link.id]
    with Stop(duration if not once else timeout) as stop, link.open_all("show", numbers) as interfaces:
        show = Show(interfaces, interval)
        if once:
            waiting = show.waiting()
            with in_own_words():
                while not all(each.up for each in interfaces) and not stop:
                    for each in waiting:
                        each.tick()
                    interfaces[0].socket.poll(stop.left())
            show.print(as_json)
            sys.exit(0 if all(each.up for each in interfaces) else 1)
        if as_json or not sys.stdout.isatty():
            show.stream(stop, as_json)
        else:
            show.live(stop)


def parse_ids(words: Sequence[str]) -> list[int]:
    """Return the numbers of interfaces, without repetitions; usage error for what is none, and beside ``--id``."""
    context = click.get_current_context()
    if words and context.get_parameter_source("id") is ParameterSource.COMMANDLINE:
        raise click.UsageError("ID and --id: only one of them", context)
    found: dict[int, None] = {}
    for word in words:
        first, dash, last = word.partition("-")
        ends = [first, last if dash else first]
        if not all(each.isascii() and each.isdigit() and int(each) <= 0xFFFFFFFF for each in ends):
            raise click.BadParameter(f"{word!r} is no number from 0 to 4294967295, nor a range as 0-3", param_hint="ID")
        low, high = map(int, ends)
        if high < low or high - low >= _MOST - len(found):
            raise click.BadParameter(f"{word!r}: 1 to {_MOST} interfaces at once", param_hint="ID")
        found |= dict.fromkeys(range(low, high + 1))
    return list(found)


class Show:
    """Interfaces of one socket, shown together. One thread."""

    interval: float

    def __init__(self, interfaces: Sequence[Interface], interval: float) -> None:
        self._interfaces, self.interval = interfaces, interval
        self._views = [View(each) for each in interfaces]

    def waiting(self) -> list[Waiting]:
        """Return what says for whom each interface waits."""
        several = len(self._interfaces) > 1
        return [Waiting(each, f"id {each.id}" if several else "") for each in self._interfaces]

    def stream(self, stop: Stop, as_json: bool) -> None:
        """Print a report per interval, one after the other."""
        waiting = self.waiting()
        due = time.monotonic() + self.interval

        def report() -> None:
            nonlocal due
            for each in waiting:
                each.tick()
            if time.monotonic() >= due:
                due += self.interval
                self._sample()
                self.print(as_json)
                if not as_json:
                    click.echo()

        self._receive(stop, report)

    def live(self, stop: Stop) -> None:
        """Update the state in place on the terminal; the last one stays."""
        from rich.console import Console
        from rich.live import Live

        self._sample()
        console = Console()
        with live(console), Live(self._picture(), console=console, auto_refresh=False) as picture:
            picture.refresh()
            due, up = 0.0, [each.up for each in self._interfaces]

            def update() -> None:
                nonlocal due, up
                for view in self._views:
                    view.look()
                now = [each.up for each in self._interfaces]
                if time.monotonic() >= due or now != up:
                    due, up = time.monotonic() + self.interval, now
                    self._sample()
                    picture.update(self._picture(), refresh=True)

            self._receive(stop, update)

    def _receive(self, stop: Stop, then: Callable[[], None]) -> None:
        """Drop what arrives, which counts it, through all connections; call `then` about ten times a second or more."""
        first = self._interfaces[0]
        things: list[Waitable] = [*self._interfaces, cast("Socket", first.socket)]
        while not stop:
            then()
            busy = [_drop(each) for each in self._interfaces]
            if not any(busy):
                tries = first.role == "slave" and not all(each.up for each in self._interfaces)
                with in_own_words() if tries else nullcontext():
                    wait(things, stop.left())

    def _sample(self) -> None:
        for view in self._views:
            view.sample()

    def print(self, as_json: bool) -> None:
        """Print the present state."""
        if as_json:
            for view in self._views:
                print_json(as_dict(view))
        else:
            print_rich(self._picture())

    def _picture(self) -> RenderableType:
        return render(self._views, width_of(sys.stdout))


def _drop(interface: Interface) -> bool:
    """Receive a burst on each queue, also what a peer that has left had sent; return whether there was anything."""
    busy = False
    for queue in interface.rx:
        with suppress(MemifDisconnectedError), queue.recv(512, 0) as burst:
            busy |= len(burst) > 0
    return busy
