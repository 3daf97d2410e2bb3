"""What came in over one link: counted, and measured by the stamps of ``memif send``."""

import time
from collections.abc import Sequence
from typing import Any, Final

import click
import numpy as np
from numpy.typing import NDArray

from memif.ring import Burst
from memif.tools.intervals import Totals
from memif.tools.stamp import OFFSETS, Analysis
from memif.tools.values import seconds, si

_BAR: Final = 30
_Rows = NDArray[np.uint8]


class Received:
    """Packets from one peer. One thread.

    Attributes:
        peer: Who it is, for people.
        packets: Packets.
        bytes: Bytes of these.
        analysis: What their stamps say; None: not looked at.
    """

    peer: str
    packets: int
    bytes: int
    analysis: Analysis | None

    def __init__(self, mode: str, peer: str = "", *, analyse: bool = True) -> None:
        self.peer, self.packets, self.bytes = peer, 0, 0
        self.analysis = Analysis(OFFSETS.get(mode, OFFSETS["ip"])) if analyse else None
        self.first: float | None = None
        self.last: float = 0.0

    def add(self, burst: Burst) -> None:
        """Count a burst that has just been received."""
        now = time.monotonic_ns()
        lengths = burst.lengths
        self.last = now * 1e-9
        if self.first is None:
            self.first = self.last
        self.packets += len(burst)
        if self.analysis is None:
            self.bytes += int(lengths.sum())
        else:
            self.bytes += self.analysis.add(burst.gather(self.analysis.width), lengths, now)

    @property
    def totals(self) -> Totals:
        """The counters for a line of an interval."""
        a = self.analysis
        if a is None or not a.streams:
            return Totals(self.packets, self.bytes)
        return Totals(self.packets, self.bytes, a.lost, a.jitter)

    def result(self) -> dict[str, Any]:
        """Return the counts and rates; rates are between the first and the last packet."""
        span = self.last - self.first if self.first is not None else 0.0
        result: dict[str, Any] = {
            "peer": self.peer,
            "packets": self.packets,
            "bytes": self.bytes,
            "seconds": span,
            "pps": self.packets / span if span else 0.0,
            "bps": 8 * self.bytes / span if span else 0.0,
        }
        if (a := self.analysis) is not None:
            result |= {
                "stamped": a.received,
                "lost": a.lost,
                "reordered": a.reordered,
                "duplicates": a.duplicates,
                "jitter": a.jitter,
                "latency": a.latency(),
                "histogram": [{"from": low, "to": high, "packets": n} for low, high, n in a.histogram()],
            }
        return result


def together(parts: Sequence[Received]) -> Received:
    """Return what came from several peers, one after the other, as from one."""
    if len(parts) == 1:
        return parts[0]
    whole = Received("ethernet", analyse=bool(parts) and parts[0].analysis is not None)
    for part in parts:
        whole.packets += part.packets
        whole.bytes += part.bytes
        if part.first is not None:
            whole.first = part.first if whole.first is None else whole.first
            whole.last = part.last
    if whole.analysis is not None:
        whole.analysis.merge(part.analysis for part in parts if part.analysis is not None)
    return whole


def report(result: dict[str, Any], *, bad: int = 0, histogram: bool = True) -> None:
    """Print a result for people; `bad`: packets that were malformed."""
    malformed = f", {bad} malformed" if bad else ""
    click.echo(
        f"{result['packets']} packets, {si(result['bytes'], 'B')} received in {seconds(result['seconds'])}{malformed}"
    )
    click.echo(f"  {si(result['pps'], 'pps')}, {si(result['bps'], 'bit/s')}")
    if not result.get("stamped"):
        if "stamped" in result and result["packets"]:
            click.echo("  none has the stamp of memif send: loss and latency are not known")
        return
    share = 100 * result["lost"] / (result["lost"] + result["stamped"])
    click.echo(
        f"  {result['stamped']} numbered: {result['lost']} lost ({share:.3g} %), "
        f"{result['reordered']} out of order, {result['duplicates']} twice"
    )
    latency = result["latency"]
    times = [f"{name} {seconds(value)}" for name, value in latency.items() if name in ("min", "p50", "p99", "max")]
    click.echo(f"  latency {', '.join(times)}; jitter {seconds(result['jitter'])}")
    if histogram:
        _print_histogram(result["histogram"])


def _print_histogram(rows: list[dict[str, Any]]) -> None:
    """Print a line with a bar for each doubling of the latency."""
    most = max(row["packets"] for row in rows)
    for row in rows:
        bar = "█" * round(_BAR * row["packets"] / most) or ("▏" if row["packets"] else "")
        click.echo(f"  {seconds(row['from']):>8} to {seconds(row['to']):>8} {row['packets']:>10} {bar}")
