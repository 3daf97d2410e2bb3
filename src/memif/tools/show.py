"""``memif show``: the state of an interface."""

import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final, cast

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from memif.interface import Interface
from memif.tools.columns import Heading, fit_table, width_of
from memif.tools.linking import Waiting, in_own_words, why_down
from memif.tools.options import LinkOptions, duration_option, examples, json_option, link_options
from memif.tools.screen import escaped, live
from memif.tools.terminal import Stop, print_json, print_rich
from memif.tools.transfer import bursts
from memif.tools.values import si, sparkline
from memif.tools.verb import Verb
from memif.types import Details, InterfaceStats, QueueDetails

_SAMPLES = 40


@click.command(
    "show",
    cls=Verb,
    epilog=examples("show --role master", "show --once", "show --once --json --socket /run/vpp/memif.sock --id 3"),
)
@click.option("--once", is_flag=True, help="Print it once, when the link is up or the time for that is over.")
@click.option(
    "--timeout",
    type=click.FloatRange(0),
    default=5.0,
    show_default=True,
    help="With --once: seconds for the link to come up.",
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
    link: LinkOptions, as_json: bool, once: bool, timeout: float, interval: float, duration: float | None
) -> None:
    """Open an interface with the options below and show its state, peer, queues, rings, rates and drops.

    Nothing can look into another program's interfaces: this one is a new end of a link, and packets that arrive on it
    are counted and dropped. To watch the link between two other programs see memif sniff.

    Exit code with --once: 0 when the link is up, 1 when it is not.
    """
    with Stop(duration if not once else timeout) as stop, link.open("show") as interface:
        view = View(interface, interval)
        if once:
            waiting = Waiting(interface)
            with in_own_words():
                while not interface.up and not stop:
                    waiting.tick()
                    interface.socket.poll(stop.left())
            view.print(as_json)
            sys.exit(0 if interface.up else 1)
        if as_json or not sys.stdout.isatty():
            view.stream(stop, as_json)
        else:
            view.live(stop)


class View:
    """An interface with the rates of each queue. One thread."""

    interface: Interface
    interval: float

    def __init__(self, interface: Interface, interval: float) -> None:
        self.interface, self.interval = interface, interval
        self.history: deque[float] = deque(maxlen=_SAMPLES)
        self.rates: dict[tuple[str, int], tuple[float, float]] = {}
        self._last = time.monotonic()
        self._before = self._totals()
        self._refused = 0
        self.refusal: str | None = None  # why the last connection was refused

    def _totals(self) -> dict[tuple[str, int], tuple[int, int]]:
        stats = self.interface.stats
        return {(side, i): (q["packets"], q["bytes"]) for side in ("rx", "tx") for i, q in enumerate(stats[side])}

    def look(self) -> None:
        """Note why a connection was refused; call while the link is down."""
        if (refused := self.interface.stats["refused"]) != self._refused:
            self._refused, self.refusal = refused, self.interface.disconnect_reason

    def sample(self) -> None:
        """Compute the rates since the last sample."""
        self.look()
        now, totals = time.monotonic(), self._totals()
        span = max(now - self._last, 1e-6)
        for key, (packets, size) in totals.items():
            old_packets, old_size = self._before.get(key, (0, 0))
            self.rates[key] = (packets - old_packets) / span, (size - old_size) / span
        self._last, self._before = now, totals
        self.history.append(sum(rate for rate, _ in self.rates.values()))

    def stream(self, stop: Stop, as_json: bool) -> None:
        """Print a report per interval, one after the other."""
        due = time.monotonic() + self.interval
        for _ in bursts(self.interface, stop, waiting=Waiting(self.interface)):
            if time.monotonic() >= due:
                due += self.interval
                self.sample()
                self.print(as_json)
                if not as_json:
                    click.echo()

    def live(self, stop: Stop) -> None:
        """Update the state in place on the terminal; the last one stays."""
        from rich.live import Live

        self.sample()
        console = Console()
        with live(console), Live(self.render(), console=console, auto_refresh=False) as picture:
            picture.refresh()
            due = time.monotonic() + self.interval
            up = self.interface.up
            for _ in bursts(self.interface, stop):
                if not self.interface.up:
                    self.look()
                if time.monotonic() >= due or self.interface.up != up:
                    up = self.interface.up
                    due = time.monotonic() + self.interval
                    self.sample()
                    picture.update(self.render(), refresh=True)

    def print(self, as_json: bool) -> None:
        """Print the present state."""
        if as_json:
            print_json(as_dict(self))
            return
        print_rich(self.render())

    def render(self) -> RenderableType:
        """Return two tables: the interface and its queues."""
        details = self.interface.details()
        width = width_of(sys.stdout)
        spark = ""
        if self.history:
            spark = f"{si(self.history[-1], 'pps'):<9}  {sparkline([*self.history][-max(width - 24, 1) :])}"
        self.look()
        state = "" if details.link_up else why_down(self.interface)
        return Group(
            _interface_table(details, state, self.interface.stats, self.refusal, spark),
            _queue_table(self.queues(details), width),
        )

    def queues(self, details: Details) -> list[dict[str, Any]]:
        """Return a dict for each queue: its ring, counters and rates. After a link has ended there are no rings."""
        rows: list[dict[str, Any]] = []
        counters = self.interface.stats
        for side, shown, counted in (
            ("rx", details.rx_queues, counters["rx"]),
            ("tx", details.tx_queues, counters["tx"]),
        ):
            rings = {ring.qid: ring for ring in shown}
            for qid, found in enumerate(counted if counters["connects"] else []):
                stats = cast(dict[str, int], found)
                ring = rings.get(qid)
                pps, rate = self.rates.get((side, qid), (0.0, 0.0))
                lost = ("dropped_bad", "dropped_oversize", "dropped_left") if side == "rx" else ("ring_full",)
                drops = sum(stats[name] for name in lost)
                shape: dict[str, Any] = {"qid": qid} | (
                    dict.fromkeys(("region", "ring_size", "flags", "head", "tail", "buffer_size", "used"))
                    if ring is None
                    else asdict(ring) | {"used": used(ring, (side == "rx") == (details.role == "slave"))}
                )
                if side == "rx" and details.role == "master":
                    shape["buffer_size"] = None  # only the slave knows it; descriptors do not tell
                rows.append(
                    {
                        "direction": side,
                        **shape,
                        **stats,
                        "drops": drops,
                        "pps": pps,
                        "bps": 8 * rate,
                    }
                )
        return rows


def used(ring: QueueDetails, m2s: bool) -> int:
    """Return how many slots hold packets that the receiver has not taken.

    In M2S rings packets are put behind the tail, in S2M rings before the head.
    """
    free_or_used = (ring.head - ring.tail) & 0xFFFF
    return max(ring.ring_size - free_or_used, 0) if m2s else free_or_used


def as_dict(view: View) -> dict[str, Any]:
    """Return everything for a program; of the secret only whether there is one."""
    details = view.interface.details()
    result = asdict(details) | {"secret": bool(details.secret)}
    del result["rx_queues"], result["tx_queues"]
    counts = {key: value for key, value in view.interface.stats.items() if key not in ("rx", "tx")}
    return result | counts | {"queues": view.queues(details)}


# -- tables


def _pairs_table(rows: Sequence[tuple[str, str | Text]]) -> Table:
    """Names and values."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, value if isinstance(value, Text) else Text(escaped(value)))
    return table


def _interface_table(details: Details, waits: str, stats: InterfaceStats, refusal: str | None, rate: str) -> Table:
    """State, peer and memory of an interface; `waits`: for whom and why, while it is down."""
    state = Text("up", style="green") if details.link_up else Text.assemble(("down", "red"), f", {waits}")
    rows: list[tuple[str, str | Text]] = [
        ("interface", f"{details.name}, id {details.id}, {details.role}, {details.mode}"),
        ("socket", details.socket),
        ("link", state),
    ]
    peer = details.peer
    if peer is not None:
        rows.append(("peer", f"{peer.name} ({peer.app_name}), pid {peer.pid}, uid {peer.uid}"))
    if details.disconnect_reason and stats["disconnects"]:
        rows.append(("last end", details.disconnect_reason))
    regions = ", ".join(f"{si(region.size, 'B')}" for region in details.regions)
    if regions:
        rows.append(("memory", f"{len(details.regions)} region{'s' * (len(details.regions) > 1)}: {regions}"))
    last = f", last: {refusal}" if refusal else ""
    rows.append(("connects", f"{stats['connects']}, {stats['disconnects']} ended; refused {stats['refused']}{last}"))
    if rate:
        rows.append(("rate", rate))
    return _pairs_table(rows)


_HEADINGS: Final = (
    Heading("queue", justify="left"),
    Heading("slots", 4),
    Heading("used", 3),
    Heading("buffer", 5),
    Heading("packets"),
    Heading("bytes", 2),
    Heading("pps"),
    Heading("bit/s", 1),
    Heading("drops"),
)


def _queue_table(queues: Sequence[dict[str, Any]], width: int) -> RenderableType:
    """One row a queue."""
    if not queues:
        return Text("")
    rows = [
        (
            f"{q['direction']} {q['qid']}",
            _number(q["ring_size"]),
            _number(q["used"]),
            _number(q["buffer_size"]),
            si(q["packets"]),
            si(q["bytes"], "B"),
            si(q["pps"]),
            si(q["bps"]),
            Text(str(q["drops"]), style="red" if q["drops"] else ""),
        )
        for q in queues
    ]
    return fit_table(_HEADINGS, rows, width, lambda: Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1)))


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)
