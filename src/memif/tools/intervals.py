"""What ``send`` and ``sink`` print while they run: a line for each interval, as iperf3 does."""

import sys
import time
from dataclasses import dataclass
from typing import Final

import click

from memif.tools.columns import fit, width_of
from memif.tools.values import seconds, si

#: Heading, rank and width of each column.
_COLUMNS: Final = (
    ("", 0, 2),
    ("Interval", 0, 14),
    ("Transfer", 3, 8),
    ("Bitrate", 0, 11),
    ("Packets/s", 0, 9),
    ("Jitter", 2, 7),
    ("Lost/Total", 0, 10),
)


@dataclass(frozen=True, slots=True)
class Totals:
    """Counters of one direction so far.

    Attributes:
        packets: Packets.
        bytes: Bytes of these.
        lost: Packets that did not come, or were dropped by the sender.
        jitter: Now, in seconds; None: not known.
    """

    packets: int = 0
    bytes: int = 0
    lost: int = 0
    jitter: float | None = None


class Intervals:
    """Prints a line for each interval and direction on standard output."""

    def __init__(self, interval: float) -> None:
        """Begin; `interval` is in seconds, 0: print nothing."""
        self._interval = interval
        self._headed = False
        self.restart()

    def restart(self) -> None:
        """Begin at time 0, with all counters at 0."""
        self._begun = self._last = time.monotonic()
        self._before: dict[str, Totals] = {}

    @property
    def due(self) -> bool:
        """Whether the interval is over."""
        return bool(self._interval) and time.monotonic() - self._last >= self._interval

    def finish(self, **directions: Totals) -> None:
        """Print what `show` does for the rest of the last interval, if that is a fair part of one."""
        if self._interval and time.monotonic() - self._last >= self._interval / 5:
            self.show(**directions)

    def show(self, **directions: Totals) -> None:
        """Print a line for each direction, named "tx" or "rx", and begin the next interval."""
        now = time.monotonic()
        if not self._headed:
            self._headed = True
            self._print([name for name, _, _ in _COLUMNS])
        for name, totals in directions.items():
            self._line(name.upper() if len(directions) > 1 else "", now, self._before.get(name, Totals()), totals)
        self._before.update(directions)
        self._last = now

    def _line(self, name: str, now: float, before: Totals, after: Totals) -> None:
        span = now - self._last
        packets, size, lost = after.packets - before.packets, after.bytes - before.bytes, after.lost - before.lost
        total = packets + max(lost, 0)
        self._print(
            [
                name,
                f"{self._last - self._begun:.2f}-{now - self._begun:.2f} s",
                si(size, "B"),
                si(8 * size / span, "bit/s"),
                si(packets / span, "pps"),
                "" if after.jitter is None else seconds(after.jitter),
                f"{lost}/{total} ({100 * max(lost, 0) / total if total else 0:.2g}%)",
            ]
        )

    def _print(self, cells: list[str]) -> None:
        shown = []
        for text, (_, rank, width) in zip(cells, _COLUMNS, strict=True):
            shown.append((rank, text.ljust(width) if rank == 0 and width in (2, 14) else text.rjust(width)))
        click.echo(fit(shown, width_of(sys.stdout)))
