"""When `memif replay` sends what, from the times in a capture."""

from typing import Final

_SECOND: Final = 1_000_000_000
#: A clock that starts at 0 has reached no more than this when the next packet comes; otherwise 0 means "no time".
_DAY: Final = 86400 * _SECOND


class Pace:
    """Seconds after the first packet at which each is due, in the order of the file.

    speed       so many times as fast as recorded; None: at once
    max_gap     the longest wait for a packet, seconds, after `speed`; None: as recorded

    Packets without a time go with the one before them. Times never go back: a packet that is older than the one before
    goes with it; when the clock was set back by more than a second, the new time counts from then on.
    """

    def __init__(self, speed: float | None, max_gap: float | None = None) -> None:
        self._speed, self._max_gap = speed, max_gap
        self._latest: int | None = None
        self._due = 0.0
        self._began_at_zero = False

    def due(self, timestamp_ns: int) -> float:
        """Of the next packet."""
        if self._speed is not None:
            gap = self._gap(timestamp_ns) * 1e-9 / self._speed
            self._due += gap if self._max_gap is None else min(gap, self._max_gap)
        return self._due

    def _gap(self, now: int) -> int:
        """Nanoseconds since the packet before."""
        if now == 0:
            self._began_at_zero |= self._latest is None
            return 0
        if self._latest is None:
            self._latest = 0 if self._began_at_zero and now < _DAY else now
        gap = now - self._latest
        if gap > 0 or gap < -_SECOND:
            self._latest = now
        return max(gap, 0)
