"""Waiting inside an event loop: for a descriptor, for a time, and giving other tasks a turn.

Clocks: `time.monotonic`, not ``loop.time()``, because uvloop's clock stands still while a callback runs.
"""

import asyncio
import time

from memif.config import seconds

#: Seconds: peers without a fence between publishing and looking at MASK_INT can lose a wake-up, so no sleep is
#: longer.
LONGEST_SLEEP = 0.1
#: Seconds that a task may go on without giving the others a turn.
SLICE = 1e-3
#: Seconds of the first and the longest pause while a ring is full.
FIRST_PAUSE, LONGEST_PAUSE = 10e-6, 1e-3


class Deadline:
    """The end of a time that is given in seconds; None never ends."""

    __slots__ = ("_end", "timeout")

    def __init__(self, timeout: float | None) -> None:
        """Raises `MemifValueError` for what is no time."""
        self.timeout = seconds("timeout", timeout)
        self._end = None if self.timeout is None else time.monotonic() + self.timeout

    def left(self, longest: float | None = None) -> float:
        """Seconds to sleep now: until the end, `longest` (LONGEST_SLEEP) at most; 0 or less once it has
        passed."""
        longest = LONGEST_SLEEP if longest is None else longest
        return longest if self._end is None else min(self._end - time.monotonic(), longest)


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

    __slots__ = ("_loop", "_waiters")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiters: set[asyncio.Future[None]] = set()

    def set(self) -> None:
        """Wake them."""
        for waiter in self._waiters:
            _done(waiter)

    async def wait(self, timeout: float, fd: int = -1) -> None:
        """Return at the next `set`, when `fd` is readable (it must stay open meanwhile), or after `timeout`
        seconds."""
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiters.add(waiter)
        if fd >= 0:
            self._loop.add_reader(fd, _done, waiter)
        timer = self._loop.call_later(timeout, _done, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            if fd >= 0:
                self._loop.remove_reader(fd)
            self._waiters.discard(waiter)


def _done(waiter: asyncio.Future[None]) -> None:
    # It may be cancelled, or be woken twice.
    if not waiter.done():
        waiter.set_result(None)
