"""The line that tells how it goes while a verb runs: in place on a terminal, one line an interval elsewhere."""

import sys
import time
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, Self

from memif.tools.units import si, sparkline

if TYPE_CHECKING:
    from rich.progress import Progress

_SAMPLES = 16


class Status:
    """Context manager around a loop, which calls `tick` after each burst with its totals so far.

    Writes to standard error, so that results on standard output stay apart. `interval`: seconds between two updates,
    0 for none at all. `total`: packets or seconds that make up 100 %, for a progress bar; None without one.
    """

    def __init__(self, what: str, interval: float = 1.0, *, total: float | None = None) -> None:
        self._what, self._interval, self._total = what, interval, total
        self._rates: deque[float] = deque(maxlen=_SAMPLES)
        self._packets = self._bytes = 0
        self._begun = self._last = time.monotonic()
        self._next = self._last + interval if interval else float("inf")
        self._progress: Progress | None = None

    def __enter__(self) -> Self:
        if self._interval and sys.stderr.isatty():
            self._progress = _progress(self._what, self._total)
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def tick(self, packets: int, size: int, extra: str = "", done: float | None = None) -> None:
        """Totals so far: `packets`, `size` in bytes; `extra` is shown behind the rates; `done` of the total."""
        now = time.monotonic()
        if now < self._next or (not packets and self._progress is None):
            return
        span = now - self._last
        rate, bits = (packets - self._packets) / span, 8 * (size - self._bytes) / span
        self._packets, self._bytes, self._last = packets, size, now
        self._next = now + self._interval
        self._rates.append(rate)
        numbers = f"{si(rate, 'pps'):>9}  {si(bits, 'bit/s'):>11}"
        if self._progress is None:
            print(
                f"{now - self._begun:7.1f} s  {numbers}  {packets} packets  {extra}".rstrip(),
                file=sys.stderr,
                flush=True,
            )
            return
        task = self._progress.task_ids[0]
        self._progress.update(
            task, completed=packets if done is None else done, text=f"{numbers}  {sparkline(self._rates)}  {extra}"
        )
        self._progress.refresh()

    @property
    def enabled(self) -> bool:
        """False without any report."""
        return self._interval > 0

    def say(self, text: str) -> None:
        """A line of its own, above the status."""
        if self._progress is not None:
            self._progress.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)


def _progress(what: str, total: float | None) -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn

    columns: list[ProgressColumn] = [TextColumn("{task.description}"), TimeElapsedColumn()]
    if total is not None:
        columns.append(BarColumn(bar_width=16))
    columns.append(TextColumn("{task.fields[text]}"))
    progress = Progress(*columns, console=Console(stderr=True), auto_refresh=False, transient=True)
    progress.add_task(what, total=total, text="")
    return progress
