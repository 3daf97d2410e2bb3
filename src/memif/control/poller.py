"""Waiting for all descriptors of a control socket at once, behind one descriptor of our own."""

import contextlib
import os
import select
from collections.abc import Callable
from typing import Protocol

from memif.errors import from_os_error
from memif.system import Single
from memif.system._steady import eventfd, notify, timer_set, timerfd

#: Told of each descriptor: its number and the epoll events it is waited for, 0 before it goes away. For a new one it
#: may raise, and then that is not added; for the others it must not.
Observer = Callable[[int, int], None]


class Watcher(Protocol):
    """What a descriptor belongs to."""

    def ready(self, events: int) -> bool:
        """Handle epoll `events` of the descriptor. Returns whether there was anything to do."""


class Poller(Single):
    """An epoll with a timer and a way to wake who waits. Only `wake`, `wait` and `fileno` are for any thread;
    all else needs the lock of the `memif.control.engine.Engine` around it.

    Each step can be done again: after an exception in the middle of one the next call does the rest.
    """

    def __init__(self, observer: Observer | None = None) -> None:
        """Make its three descriptors.

        Args:
            observer: Told of the timer, and of each descriptor that is added, modified and removed.

        Raises:
            OSError: No descriptor is free.
        """
        self._observer = observer
        self._watchers: dict[int, Watcher] = {}
        self._deadline: float | None = None
        #: Whether the timer has fired since `set_timer`, and is to be set again.
        self.expired: bool = False
        self._epoll = select.epoll()
        self._wake = eventfd()
        self._timer = timerfd()
        self._epoll.register(self._wake, select.EPOLLIN)
        self._epoll.register(self._timer, select.EPOLLIN)
        try:
            self._tell(self._timer, select.EPOLLIN)
        except BaseException:
            self._close_descriptors()
            raise

    def _tell(self, fd: int, events: int) -> None:
        if self._observer is not None:
            self._observer(fd, events)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._epoll.closed

    def fileno(self) -> int:
        """Readable when `dispatch` has something to do."""
        return self._epoll.fileno()

    def add(self, fd: int, watcher: Watcher) -> None:
        """Call ``watcher.ready`` when `fd` is readable. Raises what the observer raises, and `MemifOSError`."""
        self._tell(fd, select.EPOLLIN)
        self._watchers[fd] = watcher
        try:
            self._epoll.register(fd, select.EPOLLIN)
        except OSError as error:
            self.remove(fd, watcher)
            raise from_os_error(error, "control socket") from error

    def modify(self, fd: int, *, writing: bool) -> None:
        """Also wait until `fd`, which was added, can be written, or no longer."""
        events = select.EPOLLIN | (select.EPOLLOUT if writing else 0)
        self._epoll.modify(fd, events)
        self._tell(fd, events)

    def remove(self, fd: int, watcher: Watcher) -> None:
        """Forget `fd`, if it is that watcher's. To be called before the descriptor is closed."""
        if self._watchers.get(fd) is watcher:
            self._tell(fd, 0)
            with contextlib.suppress(OSError, ValueError):  # not registered, or the epoll is closed
                self._epoll.unregister(fd)
            self._watchers.pop(fd, None)  # a signal handler may have done all of this meanwhile

    def set_timer(self, deadline: float | None) -> None:
        """Become readable at `deadline` (`time.monotonic`), or never."""
        if deadline != self._deadline:
            # A value of zero would disarm it.
            timer_set(self._timer, 0 if deadline is None else max(int(deadline * 1e9), 1))
            self._deadline = deadline  # last: after an exception the next call sets it
        self.expired = False

    def _clear_timer(self) -> None:
        # First: after an exception the next `set_timer` sets it.
        self._deadline, self.expired = None, True
        with contextlib.suppress(BlockingIOError):
            os.read(self._timer, 8)

    def wake(self) -> None:
        """Wake who waits for this poller. From any thread and from signal handlers."""
        notify(self._wake)

    def wait(self, timeout: float | None) -> None:
        """Return when something is ready, or after `timeout` seconds (None: never)."""
        self._epoll.poll(timeout, 1)

    def dispatch(self, *, awake: bool) -> bool:
        """Call the watchers of what is ready now.

        Args:
            awake: End the effect of `wake`.

        Returns:
            Whether any of them did anything.
        """
        handled = False
        for fd, events in self._epoll.poll(0):
            watcher = self._watchers.get(fd)
            if watcher is not None:
                handled |= watcher.ready(events)
            elif fd == self._timer:
                self._clear_timer()
            elif fd == self._wake and awake:
                os.eventfd_read(self._wake)
        return handled

    def close(self) -> None:
        """Close its descriptors."""
        self._tell(self._timer, 0)
        self._close_descriptors()

    def _close_descriptors(self) -> None:
        self._epoll.close()
        self._timer.close()
        self._wake.close()
