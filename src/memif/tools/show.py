"""``memif show``: the state of an interface."""

import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, cast

import click
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from memif.interface import Interface
from memif.tools.options import LinkOptions, duration_option, examples, json_option, link_options
from memif.tools.terminal import Stop, print_json, print_rich
from memif.tools.transfer import bursts
from memif.tools.values import si, sparkline
from memif.tools.verb import Verb
from memif.types import Details, InterfaceStats

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
            while not interface.up and not stop:
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

    def _totals(self) -> dict[tuple[str, int], tuple[int, int]]:
        stats = self.interface.stats
        return {(side, i): (q["packets"], q["bytes"]) for side in ("rx", "tx") for i, q in enumerate(stats[side])}

    def sample(self) -> None:
        """Compute the rates since the last sample."""
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
        for _ in bursts(self.interface, stop):
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
        with Live(self.render(), auto_refresh=False) as live:
            due = time.monotonic() + self.interval
            for _ in bursts(self.interface, stop):
                if time.monotonic() >= due:
                    due += self.interval
                    self.sample()
                    live.update(self.render(), refresh=True)

    def print(self, as_json: bool) -> None:
        """Print the present state."""
        if as_json:
            print_json(as_dict(self))
            return
        print_rich(self.render())

    def render(self) -> RenderableType:
        """Return two tables: the interface and its queues."""
        details = self.interface.details()
        spark = f"{si(self.history[-1], 'pps')}  {sparkline(self.history)}" if self.history else ""
        return Group(_interface_table(details, self.interface.stats, spark), _queue_table(self.queues(details)))

    def queues(self, details: Details) -> list[dict[str, Any]]:
        """Return a dict for each queue: its ring, counters and rates."""
        rows = []
        counters = self.interface.stats
        for side, shown, counted in (
            ("rx", details.rx_queues, counters["rx"]),
            ("tx", details.tx_queues, counters["tx"]),
        ):
            for ring in shown:
                stats = cast(dict[str, int], counted[ring.qid])
                pps, rate = self.rates.get((side, ring.qid), (0.0, 0.0))
                lost = ("dropped_bad", "dropped_oversize", "dropped_left") if side == "rx" else ("ring_full",)
                drops = sum(stats[name] for name in lost)
                shape = asdict(ring)
                if side == "rx" and details.role == "master":
                    shape["buffer_size"] = None  # only the slave knows it; descriptors do not tell
                rows.append(
                    {
                        "direction": side,
                        **shape,
                        "used": used(ring.head, ring.tail, ring.ring_size, (side == "rx") == (details.role == "slave")),
                        **stats,
                        "drops": drops,
                        "pps": pps,
                        "bps": 8 * rate,
                    }
                )
        return rows


def used(head: int, tail: int, size: int, m2s: bool) -> int:
    """Return how many slots hold packets that the receiver has not taken.

    In M2S rings packets are put behind the tail, in S2M rings before the head.
    """
    free_or_used = (head - tail) & 0xFFFF
    return max(size - free_or_used, 0) if m2s else free_or_used


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
        table.add_row(name, value if isinstance(value, Text) else Text(value))
    return table


def _interface_table(details: Details, stats: InterfaceStats, rate: str) -> Table:
    """State, peer and memory of an interface."""
    state = Text("up", style="green") if details.link_up else Text("down", style="red")
    rows: list[tuple[str, str | Text]] = [
        ("interface", f"{details.name}, id {details.id}, {details.role}, {details.mode}"),
        ("socket", details.socket),
        ("link", state),
    ]
    peer = details.peer
    if peer is not None:
        rows.append(("peer", f"{peer.name} ({peer.app_name}), pid {peer.pid}, uid {peer.uid}"))
    if details.disconnect_reason:
        rows.append(("last end", details.disconnect_reason))
    regions = ", ".join(f"{si(region.size, 'B')}" for region in details.regions)
    if regions:
        rows.append(("memory", f"{len(details.regions)} region{'s' * (len(details.regions) > 1)}: {regions}"))
    rows.append(("connects", f"{stats['connects']}, {stats['disconnects']} ended, {stats['refused']} refused"))
    if rate:
        rows.append(("rate", rate))
    return _pairs_table(rows)


def _queue_table(queues: Sequence[dict[str, Any]]) -> RenderableType:
    """One row a queue."""
    if not queues:
        return Text("")
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for name in ("queue", "slots", "used", "buffer", "packets", "bytes", "pps", "bit/s", "drops"):
        table.add_column(name, justify="left" if name == "queue" else "right", no_wrap=True)
    for q in queues:
        table.add_row(
            f"{q['direction']} {q['qid']}",
            str(q["ring_size"]),
            str(q["used"]),
            str(q["buffer_size"] or "-"),
            si(q["packets"]),
            si(q["bytes"], "B"),
            si(q["pps"]),
            si(q["bps"]),
            Text(str(q["drops"]), style="red" if q["drops"] else ""),
        )
    return table
