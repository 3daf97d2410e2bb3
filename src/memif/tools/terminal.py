"""The terminal: progress, results for people and for programs, errors, and when to stop."""

import io
import json
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Self

import click

from memif.tools.values import si, sparkline

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.progress import Progress

_SAMPLES = 16


def fail(error: object) -> None:
    """Print an error as one line on standard error."""
    click.echo(f"memif: {error}", err=True)


def print_json(value: Any, *, err: bool = False) -> None:
    """Print one JSON document on a line of its own, with `err` on standard error."""
    click.echo(json.dumps(value, default=str), err=err)


def print_rich(what: "RenderableType") -> None:
    """Print a table to standard output; if that is not a terminal, in 80 columns and without trailing blanks."""
    from rich.console import Console

    if sys.stdout.isatty():
        Console().print(what)
        return
    console = Console(width=80, file=io.StringIO(), no_color=True)
    with console.capture() as captured:
        console.print(what)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()).rstrip())


class Status:
    """The line that shows the progress of a verb: in place on a terminal, one line per interval elsewhere.

    Context manager around a loop that calls `tick` after each burst. Writes to standard error, so that results on
    standard output stay apart.
    """

    def __init__(self, what: str, interval: float = 1.0, *, total: float | None = None) -> None:
        """Prepare it.

        Args:
            what: The verb.
            interval: Seconds between two updates; 0: no updates.
            total: Packets or seconds that are 100 % of a progress bar; None: no bar.
        """
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
        """Update the line when it is time for that.

        Args:
            packets: Packets so far.
            size: Bytes so far.
            extra: Text behind the rates.
            done: How much of the total is done (default: `packets`).
        """
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
        """Whether there are any updates."""
        return self._interval > 0

    def say(self, text: str) -> None:
        """Print a line of its own, above the status."""
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


class Stop:
    """True once a verb has to end: Ctrl-C, SIGTERM, or the end of its duration.

    Context manager: inside, SIGINT and SIGTERM only set this flag. Loops check it at least ten times a second, so that
    nothing is cut off in the middle of a burst or of a block of a file. A second Ctrl-C raises KeyboardInterrupt, for a
    loop that does not check. Main thread only.

    Attributes:
        started: When it began, by `time.monotonic`.
    """

    def __init__(self, duration: float | None = None) -> None:
        """Begin now, for `duration` seconds; None: no end."""
        self.started: float = time.monotonic()
        self._deadline = None if duration is None else self.started + duration
        self._asked = False
        self._deaf = True  # to signals: they only set the flag
        self._saved: dict[int, Any] = {}

    def __bool__(self) -> bool:
        return self._asked or (self._deadline is not None and time.monotonic() >= self._deadline)

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Context in which signals act as usual, and after which the duration starts: for waiting for the link."""
        self._deaf = False
        yield
        self._deaf = True
        now = time.monotonic()
        if self._deadline is not None:
            self._deadline += now - self.started
        self.started = now

    def left(self, longest: float = 0.1) -> float:
        """Return how many seconds a wait may take now, at most `longest`."""
        if self._asked:
            return 0.0
        if self._deadline is None:
            return longest
        return max(min(longest, self._deadline - time.monotonic()), 0.0)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._asked or not self._deaf:
            raise KeyboardInterrupt
        self._asked = True

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._saved[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._saved.items():
            signal.signal(number, handler)
