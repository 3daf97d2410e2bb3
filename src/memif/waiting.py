"""`wait`: wait for the first of many queues, in any mode.

Queues that sleep ask the peer for interrupts and are watched by their event fds; queues in mode "polling" are polled.
The control channels are served throughout.
"""

import select
import time
from collections.abc import Iterable, Sequence
from typing import TypeVar, overload

from memif.config import Deadline, each
from memif.errors import MemifDisconnectedError, MemifTypeError, MemifValueError
from memif.interface import Interface
from memif.ring import RxQueue
from memif.socket import Socket

#: Seconds. A peer without a fence between publishing and reading MASK_INT can lose a wake-up.
_LONGEST_SLEEP = 0.1
_ADAPTIVE_SPIN = 50e-6

Waitable = RxQueue | Interface | Socket
_OneKind = TypeVar("_OneKind", bound=Waitable)
T = TypeVar("T")


@overload
def wait(objects: Iterable[_OneKind], timeout: float | None = None) -> list[_OneKind]: ...
@overload  # mypy takes a list display of several kinds for a list[object]
def wait(objects: Iterable[Waitable], timeout: float | None = None) -> list[Waitable]: ...  # type: ignore[overload-cannot-match]
def wait(objects: Iterable[Waitable], timeout: float | None = None) -> Sequence[Waitable]:
    """Wait until one of many receive queues has a packet, in any mode.

    Takes nothing from the queues: receive with ``timeout=0``, because another thread or a callback may have been
    quicker. The control channels of all objects are served meanwhile. A queue whose link is down is skipped until it
    has another one. No thread may wait for a queue while another thread does.

    Args:
        objects: Receive queues; interfaces, which are ready when one of their receive queues is; sockets, which are
            ready when `memif.Socket.poll` handled an event, such as a link that came up or a callback that was called.
        timeout: Seconds to wait; None waits for ever, 0 does not wait.

    Returns:
        The objects that are ready, in their order; empty when the time is over.

    Raises:
        MemifDisconnectedError: The links of all queues are down, and there is no socket among the objects.
        MemifClosedError: An object is closed.
        MemifStateError: Another thread receives on one of the queues.
        MemifTypeError: An object cannot be waited for.
        MemifValueError: There are no objects.
    """
    deadline = Deadline(timeout)
    things = check_things(objects, (RxQueue, Interface, Socket), "receive queues, interfaces and sockets")
    spin_end = time.monotonic() + _ADAPTIVE_SPIN
    while True:
        round = _Round(things)
        try:
            ready = round.ready()
            left = deadline.left(_LONGEST_SLEEP)
            if ready or left <= 0:
                return ready
            round.sleep(left, spin_end)
        finally:
            round.end()


def check_things(objects: Iterable[T], kinds: tuple[type, ...], allowed: str) -> Sequence[T]:
    """Check the objects to wait for: at least one, each of one of the kinds. Errors quote `allowed`."""
    things = tuple(each("objects", objects, allowed))
    for i, thing in enumerate(things):
        if not isinstance(thing, kinds):
            raise MemifTypeError.argument(f"objects[{i}]", thing, allowed)
    if not things:
        raise MemifValueError.argument("objects", objects, "at least one")
    return things


class _Round:
    """One check of all objects, and the sleep that follows."""

    def __init__(self, things: Sequence[Waitable]) -> None:
        self._things = things
        self._armed: list[RxQueue] = []
        self._modes: set[str] = set()
        self._down: MemifDisconnectedError | None = None
        self._alive = False

    def ready(self) -> list[Waitable]:
        """Return what is ready now. Sockets first, because the callbacks they call may change the rest."""
        handled = {id(thing) for thing in self._things if isinstance(thing, Socket) and thing.poll(0)}
        for owner in {queue.owner for thing in self._things for queue in _queues(thing)}:
            owner.serve()
        ready = [thing for thing in self._things if id(thing) in handled or self._has_packets(thing)]
        if not ready and self._down is not None and not self._alive and not self._sockets():
            raise self._down
        return ready

    def _sockets(self) -> list[Socket]:
        return [thing for thing in self._things if isinstance(thing, Socket)]

    def _has_packets(self, thing: Waitable) -> bool:
        return any(self._look(queue) for queue in _queues(thing))

    def _look(self, queue: RxQueue) -> bool:
        mode = queue.mode
        try:
            if mode == "polling":
                found = queue.wait(0)
            else:
                self._armed.append(queue)
                found = queue.arm()
        except MemifDisconnectedError as error:
            self._down = error
            return False
        self._alive = True
        self._modes.add(mode)
        return found

    def sleep(self, left: float, spin_end: float) -> None:
        """Sleep until something may have happened."""
        if "polling" in self._modes or ("adaptive" in self._modes and time.monotonic() < spin_end):
            return
        rings = [ring for queue in self._armed if (ring := queue.ring) is not None]  # held: their descriptors stay open
        poll = select.poll()
        for fd in {ring.event_fd for ring in rings} | {_control_fd(thing) for thing in self._things}:
            poll.register(fd, select.POLLIN)
        poll.poll(left * 1e3)

    def end(self) -> None:
        """Restore the interrupt state of each queue's mode."""
        for queue in self._armed:
            queue.disarm()


def _queues(thing: Waitable) -> Sequence[RxQueue]:
    if isinstance(thing, RxQueue):
        return (thing,)
    return thing.rx if isinstance(thing, Interface) else ()


def _control_fd(thing: Waitable) -> int:
    if isinstance(thing, RxQueue):
        return thing.control_fd
    return (thing if isinstance(thing, Socket) else thing.socket).fileno()
