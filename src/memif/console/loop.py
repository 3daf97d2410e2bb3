"""The event loop of the console: lines and the library's descriptors in one epoll, as the C program has it."""

import os
import queue
import select
import threading

from memif.console.commands import LONGEST_LINE, Console
from memif.console.connection import info
from memif.libmemif import (
    MEMIF_ERR_BAD_FD,
    MEMIF_ERR_SUCCESS,
    MEMIF_FD_EVENT_DEL,
    MEMIF_FD_EVENT_ERROR,
    MEMIF_FD_EVENT_MOD,
    MEMIF_FD_EVENT_READ,
    MEMIF_FD_EVENT_WRITE,
    memif_control_fd_handler,
    memif_strerror,
)


class Lines:
    """Lines from a descriptor, as they come. At the end of input the last line need not be complete."""

    def __init__(self, fd: int) -> None:
        """fd stays the caller's."""
        self.fd = fd
        self._rest = b""

    def read(self) -> list[str] | None:
        """Read once. -> the lines that are complete now; None: this is the end."""
        try:
            data = os.read(self.fd, 4096)
        except BlockingIOError:
            return []
        except OSError:
            data = b""  # a terminal that was hung up says EIO
        if not data:
            rest, self._rest = self._rest, b""
            return [rest.decode(errors="replace")] if rest else None
        *lines, self._rest = (self._rest + data).split(b"\n")
        # Who never ends a line shall not fill our memory: enough is kept to see that it is too long.
        self._rest = self._rest[: 4 * LONGEST_LINE + 4]
        return [line.decode(errors="replace") for line in lines]


class Loop:
    """Runs a console: from a descriptor (`run`), or from lines of another thread (`submit`)."""

    def __init__(self, console: Console) -> None:
        """Sets the library up; check `ok`. `close` when done."""
        self.console = console
        self.epoll: select.epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._submitted: queue.SimpleQueue[tuple[str | None, threading.Event]] = queue.SimpleQueue()
        self._running = True
        self.epoll.register(self._wake, select.EPOLLIN)
        self.ok: bool = console.open(self.control_fd_update) == MEMIF_ERR_SUCCESS

    def close(self) -> None:
        """Delete all interfaces and close the descriptors."""
        self.console.close()
        self.epoll.close()
        os.close(self._wake)

    def control_fd_update(self, fd: int, events: int) -> int:
        """The library tells of a descriptor: watch it, otherwise, or no longer."""
        try:
            if events & MEMIF_FD_EVENT_DEL:
                self.epoll.unregister(fd)
                return 0
            wanted = select.EPOLLIN if events & MEMIF_FD_EVENT_READ else 0
            wanted |= select.EPOLLOUT if events & MEMIF_FD_EVENT_WRITE else 0
            if events & MEMIF_FD_EVENT_MOD:
                self.epoll.modify(fd, wanted)
            else:
                self.epoll.register(fd, wanted)
        except OSError:
            return -1
        return 0

    def run(self, fd: int) -> None:
        """Take commands from descriptor `fd` until ``exit`` or the end of input."""
        lines = Lines(fd)
        try:
            self.epoll.register(fd, select.EPOLLIN)
            always = False
        except OSError:
            always = True  # a file: epoll does not take those, and they never block
        while self._running:
            events = self._wait(always)
            if always or any(ready == fd for ready, _ in events):
                self._take(lines)
            self._handle([event for event in events if event[0] != fd])

    def _take(self, lines: Lines) -> None:
        fresh = lines.read()
        if fresh is None:
            self._running = False
            return
        for line in fresh:
            if self._running:
                self._running = self.console.run_line(line)

    def run_submitted(self) -> None:
        """Take commands from `submit` until ``exit`` or its None."""
        try:
            while self._running:
                self._handle(self._wait(False))
        finally:
            self._running = False

    def submit(self, line: str | None) -> bool:
        """From another thread: run a command (None: the end) and wait for it. -> False when the loop has ended."""
        done = threading.Event()
        self._submitted.put((line, done))
        os.eventfd_write(self._wake, 1)
        while not done.wait(0.1):
            if not self._running:
                return False
        return self._running

    def _wait(self, always: bool) -> list[tuple[int, int]]:
        busy = self.console.poll()
        return self.epoll.poll(0 if always or busy else None)

    def _handle(self, events: list[tuple[int, int]]) -> None:
        for fd, what in events:
            if fd == self._wake:
                os.eventfd_read(fd)
                self._run_submitted()
                continue
            flags = MEMIF_FD_EVENT_READ if what & select.EPOLLIN else 0
            flags |= MEMIF_FD_EVENT_WRITE if what & select.EPOLLOUT else 0
            flags |= MEMIF_FD_EVENT_ERROR if what & (select.EPOLLERR | select.EPOLLHUP) else 0
            self._control(fd, flags)

    def _control(self, fd: int, flags: int) -> None:
        # A descriptor may have gone by what an earlier one of the same batch brought: that is no error.
        err = memif_control_fd_handler(fd, flags)
        if err not in (MEMIF_ERR_SUCCESS, MEMIF_ERR_BAD_FD):
            info(f"memif_control_fd_handler: {memif_strerror(err)}")

    def _run_submitted(self) -> None:
        while not self._submitted.empty():
            line, done = self._submitted.get()
            try:
                self._running = self._running and line is not None and self.console.run_line(line)
            finally:
                done.set()
