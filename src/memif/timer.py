"""A timer as a file descriptor, so that one epoll descriptor covers sockets and deadlines alike."""

import ctypes
import os
import sys
from typing import Any

from memif.errors import from_os_error
from memif.single import Single


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


_CLOCK_MONOTONIC = 1
_TFD_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC
_TFD_TIMER_ABSTIME = 1

_libc: Any = None


def _load() -> Any:
    global _libc
    if _libc is None:
        _libc = ctypes.CDLL(None, use_errno=True)
    return _libc


class Timer(Single):
    """A timerfd on the clock of `time.monotonic`. Not thread safe."""

    def __init__(self) -> None:
        self.fd = int(_load().timerfd_create(_CLOCK_MONOTONIC, _TFD_FLAGS))
        if self.fd < 0:
            raise from_os_error(OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno())), "timerfd_create")
        self.deadline: float | None = None

    def set(self, deadline: float | None) -> None:
        """Become readable at `deadline` (`time.monotonic`), or never. Does nothing if that is set already."""
        if deadline == self.deadline:
            return
        self.deadline = deadline
        spec = _Itimerspec()
        if deadline is not None:
            # A value of zero would disarm it.
            nanoseconds = max(int(deadline * 1e9), 1)
            spec.value = _Timespec(*divmod(nanoseconds, 1_000_000_000))
        _load().timerfd_settime(self.fd, _TFD_TIMER_ABSTIME, ctypes.byref(spec), None)

    def clear(self) -> None:
        """Stop being readable, after the deadline has passed."""
        try:
            os.read(self.fd, 8)
        except BlockingIOError:
            return
        self.deadline = None

    def close(self) -> None:
        """Close the descriptor."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


if sys.platform != "linux":  # pragma: no cover
    raise ImportError("memif needs Linux: it lives on memfd, eventfd and timerfd")
