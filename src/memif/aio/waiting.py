"""Waiting inside an event loop: for a descriptor, for a time, and giving other tasks a turn.

Clocks: `time.monotonic`, not ``loop.time()``, because uvloop's clock stands still while a callback runs.
"""

import asyncio
import time
from collections.abc import Iterable

#: Seconds: peers without a fence between publishing and looking at MASK_INT can lose a wake-up, so no sleep is
#: longer.
LONGEST_SLEEP = 0.1
#: Seconds that a task may go on without giving the others a turn.
SLICE = 1e-3
#: Seconds of the first and the longest pause while a ring is full.
FIRST_PAUSE, LONGEST_PAUSE = 10e-6, 1e-3


class Turns:
    """Lets a task that always finds something to do give way to others now and then."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last = time.monotonic()

    async def give(self) -> None:
        """Let others run, if this task has not done so for a while."""
        if time.monotonic() - self._last > SLICE:
            await asyncio.sleep(0)
            self._last = time.monotonic()


async def pause(loop: asyncio.AbstractEventLoop, timeout: float) -> None:
    """Return after `timeout` seconds; loops whose timers count milliseconds round that."""
    waiter: asyncio.Future[None] = loop.create_future()
    timer = loop.call_later(timeout, _done, waiter)
    try:
        await waiter
    finally:
        timer.cancel()


class Signal:
    """Wakes all tasks that wait for it."""

    __slots__ = ("_loop", "count", "waiters")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        #: How often it was set.
        self.count: int = 0
        self.waiters: set[asyncio.Future[None]] = set()

    def set(self) -> None:
        """Wake them."""
        self.count += 1
        for waiter in self.waiters:
            _done(waiter)

    async def wait(self, timeout: float, fd: int = -1) -> None:
        """Return at the next `set`, when `fd` is readable (it must stay open meanwhile), or after `timeout`
        seconds."""
        await first_of(self._loop, (self,), () if fd < 0 else (fd,), timeout)


async def first_of(
    loop: asyncio.AbstractEventLoop, signals: Iterable[Signal], fds: Iterable[int], timeout: float
) -> None:
    """Return when one of the signals is set or one of the descriptors readable, or after `timeout` seconds."""
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
    # It may be cancelled, or be woken twice.
    if not waiter.done():
        waiter.set_result(None)
