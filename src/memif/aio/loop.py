"""Waiting in an event loop: for a descriptor, for a signal, for a time, and yielding to other tasks.

The clock is `time.monotonic`, not ``loop.time()``, because uvloop's clock does not advance while a callback runs.
"""

import asyncio
import time
from collections.abc import Iterable

#: Seconds, the longest sleep. A peer without a fence between publishing and reading MASK_INT can lose a wake-up.
LONGEST_SLEEP = 0.1
#: Seconds that a task may run before it yields to others.
SLICE = 1e-3
#: Seconds of the first and the longest pause while a ring is full.
FIRST_PAUSE, LONGEST_PAUSE = 10e-6, 1e-3


class Turns:
    """Makes a task that always has work yield to others now and then."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last = time.monotonic()

    async def give(self) -> None:
        """Let other tasks run, unless this task has yielded recently."""
        if time.monotonic() - self._last > SLICE:
            await asyncio.sleep(0)
            self._last = time.monotonic()


async def pause(loop: asyncio.AbstractEventLoop, timeout: float) -> None:
    """Sleep for `timeout` seconds. Loops with millisecond timers round it."""
    waiter: asyncio.Future[None] = loop.create_future()
    timer = loop.call_later(timeout, _done, waiter)
    try:
        await waiter
    finally:
        timer.cancel()


class Signal:
    """Wakes all tasks that wait for it.

    Attributes:
        count: How many times it was set.
        waiters: The futures of the waiting tasks.
    """

    __slots__ = ("_loop", "count", "waiters")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.count: int = 0
        self.waiters: set[asyncio.Future[None]] = set()

    def set(self) -> None:
        """Wake all waiting tasks."""
        self.count += 1
        for waiter in self.waiters:
            _done(waiter)

    async def wait(self, timeout: float, fd: int = -1) -> None:
        """Wait for the next `set`, for `fd` to be readable, or for `timeout` seconds. `fd` must stay open meanwhile."""
        await first_of(self._loop, (self,), () if fd < 0 else (fd,), timeout)


async def first_of(
    loop: asyncio.AbstractEventLoop, signals: Iterable[Signal], fds: Iterable[int], timeout: float
) -> None:
    """Wait until one of the signals is set or one of the descriptors readable, for at most `timeout` seconds."""
    waiter: asyncio.Future[None] = loop.create_future()
    timer = loop.call_later(timeout, _done, waiter)
    for signal in signals:
        signal.waiters.add(waiter)
    for fd in fds:
        loop.add_reader(fd, _done, waiter)
    try:
        await waiter
    finally:
        timer.cancel()
        for fd in fds:
            loop.remove_reader(fd)
        for signal in signals:
            signal.waiters.discard(waiter)


def _done(waiter: asyncio.Future[None]) -> None:
    # It may be cancelled already, or woken twice.
    if not waiter.done():
        waiter.set_result(None)
