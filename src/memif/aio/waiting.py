"""`wait` of the asyncio API: wait for the first of many queues, in any mode."""

import asyncio
import time
from collections.abc import Iterable, Sequence
from typing import TypeVar, overload

from memif.aio.interface import Interface
from memif.aio.loop import LONGEST_SLEEP, Signal, first_of
from memif.aio.queues import RxQueue, alone
from memif.aio.socket import Socket
from memif.config import Deadline
from memif.errors import MemifClosedError, MemifDisconnectedError
from memif.waiting import check_things

_ADAPTIVE_SPIN = 50e-6

Waitable = RxQueue | Interface | Socket
_OneKind = TypeVar("_OneKind", bound=Waitable)


@overload
async def wait(objects: Iterable[_OneKind], timeout: float | None = None) -> list[_OneKind]: ...
@overload  # mypy takes a list display of several kinds for a list[object]
async def wait(objects: Iterable[Waitable], timeout: float | None = None) -> list[Waitable]: ...  # type: ignore[overload-cannot-match]
async def wait(objects: Iterable[Waitable], timeout: float | None = None) -> Sequence[Waitable]:
    """Wait until one of many receive queues has a packet, in any mode; see `memif.wait`.

    Args:
        objects: Receive queues, interfaces and sockets of this API. A socket is ready when something has happened to
            one of its interfaces since the call.
        timeout: Seconds to wait; 0 does not wait, None waits for ever.

    Returns:
        The objects that are ready, in the given order; empty after the timeout.

    Raises:
        MemifDisconnectedError: The links of all queues are down, and no socket is among the objects.
        MemifClosedError: One of the objects was closed.
        MemifStateError: Another task waits on one of the queues.
        MemifTypeError: An object cannot be waited for.
        MemifValueError: There are no objects, or the timeout is negative.
    """
    deadline = Deadline(timeout)
    things = check_things(objects, (RxQueue, Interface, Socket), "queues, interfaces, sockets of memif.aio")
    before = {thing: thing.changed.count for thing in things if isinstance(thing, Socket)}
    queues = [queue for thing in things for queue in _queues(thing)]
    spin_end = time.monotonic() + _ADAPTIVE_SPIN
    with alone(queues):
        while True:
            ready = _ready(things, before)
            left = deadline.left(LONGEST_SLEEP)
            if ready or left <= 0:
                return ready
            await _sleep(things, left, spin_end)


def _queues(thing: Waitable) -> Sequence[RxQueue]:
    if isinstance(thing, RxQueue):
        return (thing,)
    return thing.rx if isinstance(thing, Interface) else ()


def _ready(things: Sequence[Waitable], before: dict[Socket, int]) -> list[Waitable]:
    ready: list[Waitable] = []
    states = []
    for thing in things:
        if isinstance(thing, Socket):
            if thing.closed:
                raise MemifClosedError(f"the socket {thing.address} was closed")
            found: bool | None = thing.changed.count != before[thing]
        else:
            found = _has_packets(_queues(thing))
        states.append(found)
        if found:
            ready.append(thing)
    if all(found is None for found in states):
        _queues(things[0])[0].sync.wait(0)  # raises the error of the first
    return ready


def _has_packets(queues: Sequence[RxQueue]) -> bool | None:
    """Return whether one of the queues has packets; None when all their links are down."""
    alive = False
    for queue in queues:
        try:
            if queue.sync.wait(0):
                return True
        except MemifDisconnectedError:
            continue
        alive = True
    return False if alive else None


async def _sleep(things: Sequence[Waitable], left: float, spin_end: float) -> None:
    """Sleep until something may have happened."""
    queues = [queue.sync for thing in things for queue in _queues(thing)]
    modes = {queue.mode for queue in queues if queue.ring is not None}
    if "polling" in modes or ("adaptive" in modes and time.monotonic() < spin_end):
        await asyncio.sleep(0)
        return
    rings = [ring for queue in queues if (ring := queue.ring) is not None]  # held: their descriptors stay open
    try:
        if any(queue.arm() for queue in queues if queue.ring is not None):
            return
        loop = asyncio.get_running_loop()
        await first_of(loop, {_changed(thing) for thing in things}, {ring.event_fd for ring in rings}, left)
    finally:
        for queue in queues:
            queue.disarm()


def _changed(thing: Waitable) -> Signal:
    if isinstance(thing, RxQueue):
        return thing.changed
    return (thing if isinstance(thing, Socket) else thing.socket).changed
