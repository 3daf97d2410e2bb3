"""The end of a time that a call may take."""

import time

from memif.config import seconds


class Deadline:
    """The end of a time that is given in seconds; None never ends. By `time.monotonic`."""

    __slots__ = ("_end", "timeout")

    def __init__(self, timeout: float | None) -> None:
        """Raises `MemifValueError` for what is no time."""
        self.timeout: float | None = seconds("timeout", timeout)
        self._end = None if self.timeout is None else time.monotonic() + self.timeout

    def left(self, longest: float) -> float:
        """Seconds to sleep now: until the end, `longest` at most; 0 or less once it has passed."""
        return longest if self._end is None else min(self._end - time.monotonic(), longest)

    def rest(self) -> float | None:
        """Seconds until the end, 0 once it has passed; None if it never ends. A timeout for another call."""
        return None if self._end is None else max(self._end - time.monotonic(), 0.0)
