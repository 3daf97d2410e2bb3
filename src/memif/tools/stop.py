"""When a verb ends: Ctrl-C, SIGTERM, or the time that it was given is over."""

import signal
import time
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from memif.interface import Interface


class Stop:
    """True once the verb shall end. Context manager: inside, SIGINT and SIGTERM only set this flag.

    Loops look at it at least ten times a second, so that nothing is cut off in the middle of a burst or of a block of a
    file. A second Ctrl-C raises KeyboardInterrupt, for a loop that does not look. Main thread only.
    """

    def __init__(self, duration: float | None = None) -> None:
        """duration: seconds from now on, None for no end."""
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

    def wait_up(self, interface: "Interface", timeout: float) -> None:
        """`memif.tools.transmit.come_up`, ended by signals as ever; the duration counts from its end on."""
        from memif.tools.transmit import come_up

        self._deaf = False
        come_up(interface, timeout)
        self._deaf = True
        now = time.monotonic()
        if self._deadline is not None:
            self._deadline += now - self.started
        self.started = now

    def left(self, longest: float = 0.1) -> float:
        """Seconds that a wait may take now, at most `longest`."""
        if self._asked:
            return 0.0
        if self._deadline is None:
            return longest
        return max(min(longest, self._deadline - time.monotonic()), 0.0)

    def ask(self) -> None:
        """End it."""
        self._asked = True

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
