"""The terminal: progress, results for people and for programs, errors, and when to stop."""

import io
import json
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Self

import click

from memif.tools.columns import PIPE_WIDTH, fit, width_of
from memif.tools.screen import live, say
from memif.tools.values import si, sparkline

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

_SAMPLES = 16


def fail(error: object) -> None:
    """Print an error as one line on standard error."""
    say(f"memif: {error}")


def print_json(value: Any, *, err: bool = False) -> None:
    """Print one JSON document on a line of its own, with `err` on standard error."""
    click.echo(json.dumps(value, default=str), err=err)


def print_rich(what: "RenderableType") -> None:
    """Print a table to standard output; without trailing blanks if that is not a terminal."""
    from rich.console import Console

    if sys.stdout.isatty():
        Console().print(what)
        return
    console = Console(width=PIPE_WIDTH, file=io.StringIO(), no_color=True)
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
            total: Packets that are 100 %; None: not known.
        """
        self._what, self._interval, self._total = what, interval, total
        self._rates: deque[float] = deque(maxlen=_SAMPLES)
        self._packets = self._bytes = 0
        self._begun = self._last = time.monotonic()
        self._next = self._last + interval if interval else float("inf")
        self._live: Live | None = None
        self._exit = ExitStack()

    def __enter__(self) -> Self:
        if self._interval and sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            console = Console(stderr=True)
            self._live = Live(console=console, auto_refresh=False, transient=True)
            self._exit.enter_context(live(console))
            self._exit.enter_context(self._live)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    def tick(self, packets: int, size: int, extra: str = "") -> None:
        """Update the line when it is time for that.

        Args:
            packets: Packets so far.
            size: Bytes so far.
            extra: Text behind the rates.
        """
        now = time.monotonic()
        if now < self._next or (not packets and self._live is None):
            return
        span = now - self._last
        rate, bits = (packets - self._packets) / span, 8 * (size - self._bytes) / span
        self._packets, self._bytes, self._last = packets, size, now
        self._next = now + self._interval
        self._rates.append(rate)
        numbers = f"{si(rate, 'pps'):>9}  {si(bits, 'bit/s'):>11}"
        elapsed = now - self._begun
        if self._live is None:
            say(f"{elapsed:7.1f} s  {numbers}  {packets} packets  {extra}".rstrip())
            return
        share = "" if not self._total else f"{100 * packets / self._total:3.0f} %"
        cells = [
            (3, self._what),
            (2, f"{elapsed:.0f} s"),
            (1, share),
            (0, numbers),
            (4, f"{packets} packets"),
            (5, sparkline(self._rates)),
            (0, extra),
        ]
        with suppress(OSError):  # the terminal may have gone
            from rich.text import Text

            self._live.update(Text(fit(cells, width_of(sys.stderr)), no_wrap=True, overflow="crop"), refresh=True)


def ending_signals() -> tuple[int, ...]:
    """Return the signals that end a verb in order, beside Ctrl-C: SIGTERM, and SIGHUP unless nohup(1) is why not."""
    hang_up = () if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else (signal.SIGHUP,)
    return (signal.SIGTERM, *hang_up)


class Stop:
    """True once a verb has to end: Ctrl-C, SIGTERM, SIGHUP, or the end of its duration.

    Context manager: inside, these signals only set this flag. Loops check it at least ten times a second, so that
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

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Context in which these signals raise KeyboardInterrupt: for a read that may block."""
        self._deaf = False
        try:
            yield
        finally:
            self._deaf = True

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
        for number in (signal.SIGINT, *ending_signals()):
            self._saved[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._saved.items():
            signal.signal(number, handler)
