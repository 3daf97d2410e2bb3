"""``memif sink``: receive, count and measure."""

import sys
import time
from typing import Any

import click

from memif.interface import Interface
from memif.tools.options import LinkOptions, examples, iperf_options, json_option, link_options
from memif.tools.terminal import Status, Stop, print_json
from memif.tools.transfer import bursts
from memif.tools.values import Count, seconds, si
from memif.tools.verb import Verb

_BAR = 30


@click.command(
    "sink",
    cls=Verb,
    epilog=examples(
        "sink --role master --duration 10", "sink --count 1M --json", "sink --rx-mode polling --no-analyse"
    ),
)
@click.option("-k", "--count", type=Count(), default=0, help="End after so many packets (0: never).")
@iperf_options
@click.option(
    "--wait",
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="End when nothing has come for so long, once packets have come.",
)
@click.option("--analyse/--no-analyse", default=True, help="Look at the packets' stamps (default), or only count.")
@json_option
@link_options()
def command(
    link: LinkOptions,
    as_json: bool,
    interval: float,
    count: int,
    duration: float | None,
    wait: float | None,
    analyse: bool,
) -> None:
    """Receive packets and drop them: how many, how fast, and for those of memif send: lost, out of order, latency.

    Waits for the link, through reconnects. Ends after --count, --duration, --wait or with Ctrl-C.
    """
    sink = Sink(link.mode, analyse=analyse)
    with Stop(duration) as stop, link.open("sink") as interface:
        with Status("sink", 0 if as_json else interval, total=count or duration) as status:
            sink.run(interface, stop, status, count, wait, by_time=not count)
        result = sink.result(interface)
    print_json(result) if as_json else report(result)
    if not result["packets"]:
        sys.exit(1)


class Sink:
    """Counts received packets and reads their stamps. One thread."""

    packets: int

    def __init__(self, mode: str, *, analyse: bool) -> None:
        from memif.tools.stamp import OFFSETS, Analysis

        self.analysis: Analysis | None = Analysis(OFFSETS.get(mode, OFFSETS["ip"])) if analyse else None
        self.packets = 0
        self.bytes: int = 0
        self.first: float | None = None
        self.last: float = 0.0

    def run(
        self, interface: Interface, stop: Stop, status: Status, count: int, wait: float | None, *, by_time: bool
    ) -> None:
        """Receive until it is time to end.

        Args:
            interface: The interface.
            stop: Ends it at any time.
            status: Shows the progress.
            count: Packets after which to end; 0: no limit.
            wait: Seconds without a packet, once there was one, after which to end; None: no limit.
            by_time: Whether the progress bar shows time instead of packets.
        """
        say = status.say if status.enabled else None
        for item in bursts(interface, stop, say=say):
            if item is not None:
                now = time.monotonic_ns()
                burst = item[1]
                if self.first is None:
                    self.first = now * 1e-9
                self.last = now * 1e-9
                self.packets += len(burst)
                lengths = burst.lengths
                self.bytes += int(lengths.sum())
                if self.analysis is not None:
                    self.analysis.add(burst.gather(self.analysis.width), lengths, now)
                if count and self.packets >= count:
                    return
            elif wait is not None and self.first is not None and time.monotonic() - self.last >= wait:
                return
            status.tick(self.packets, self.bytes, self._extra(), stop.elapsed if by_time else None)

    def _extra(self) -> str:
        return f"{self.analysis.lost} lost" if self.analysis is not None and self.analysis.streams else ""

    def result(self, interface: Interface) -> dict[str, Any]:
        """Return the counts and rates; rates are between the first and the last packet."""
        span = self.last - self.first if self.first is not None else 0.0
        result: dict[str, Any] = {
            "packets": self.packets,
            "bytes": self.bytes,
            "seconds": span,
            "pps": self.packets / span if span else 0.0,
            "bps": 8 * self.bytes / span if span else 0.0,
            "bad": sum(q["dropped_bad"] + q["dropped_oversize"] for q in interface.stats["rx"]),
            "connects": interface.stats["connects"],
        }
        if self.analysis is not None:
            a = self.analysis
            result |= {
                "stamped": a.received,
                "lost": a.lost,
                "reordered": a.reordered,
                "duplicates": a.duplicates,
                "latency": a.latency(),
                "histogram": [{"from": low, "to": high, "packets": n} for low, high, n in a.histogram()],
            }
        return result


def report(result: dict[str, Any]) -> None:
    """Print the result for people."""
    bad = f", {result['bad']} malformed" if result["bad"] else ""
    click.echo(f"{result['packets']} packets, {si(result['bytes'], 'B')} received in {seconds(result['seconds'])}{bad}")
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
    click.echo(
        "  latency "
        + ", ".join(
            f"{name} {seconds(value)}" for name, value in latency.items() if name in ("min", "p50", "p99", "max")
        )
    )
    print_histogram(result["histogram"])


def print_histogram(rows: list[dict[str, Any]]) -> None:
    """Print a line with a bar for each doubling of the latency."""
    most = max(row["packets"] for row in rows)
    for row in rows:
        bar = "█" * round(_BAR * row["packets"] / most) or ("▏" if row["packets"] else "")
        click.echo(f"  {seconds(row['from']):>8} to {seconds(row['to']):>8} {row['packets']:>10} {bar}")
