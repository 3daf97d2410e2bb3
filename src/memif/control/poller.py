"""A timer as a file descriptor, so that one epoll descriptor covers sockets and deadlines alike."""

import os
import sys

from memif.system import Single
from memif.system._steady import Descriptor, timer_set, timerfd


class Timer(Single):
    """A timerfd on the clock of `time.monotonic`. Not thread safe."""

    def __init__(self) -> None:
        """Raises `OSError` without a free descriptor."""
        self.fd: Descriptor = timerfd()
        self.deadline: float | None = None

    def set(self, deadline: float | None) -> None:
        """Become readable at `deadline` (`time.monotonic`), or never. Does nothing if that is set already."""
        if deadline == self.deadline:
            return
        # A value of zero would disarm it.
        timer_set(self.fd, 0 if deadline is None else max(int(deadline * 1e9), 1))
        self.deadline = deadline  # last: after an exception the next call sets it

    def clear(self) -> None:
        """Stop being readable, after the deadline has passed."""
        self.deadline = None  # first: after an exception the next `set` sets it
        try:
            os.read(self.fd, 8)
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Close the descriptor."""
        self.fd.close()


if sys.platform != "linux":  # pragma: no cover
    raise ImportError("memif needs Linux: it lives on memfd, eventfd and timerfd")
