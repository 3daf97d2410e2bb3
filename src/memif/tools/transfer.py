"""Moving packets for as long as a verb runs: receiving on all queues, sending to the end."""

import time
from collections.abc import Iterator
from contextlib import nullcontext, suppress

from memif.errors import MemifDisconnectedError
from memif.interface import Interface
from memif.ring import Burst, RxQueue, TxQueue
from memif.tools.linking import Waiting, in_own_words
from memif.tools.terminal import Stop
from memif.waiting import wait

_BURST = 512
#: Seconds without progress after which a peer is taken to have stopped receiving.
_PATIENCE = 0.5


def bursts(
    interface: Interface, stop: Stop, *, waiting: Waiting | None = None, count: int = _BURST
) -> Iterator[tuple[RxQueue, Burst] | None]:
    """Receive on all queues, through all connections, until `stop` is set.

    Args:
        interface: The interface.
        stop: When to end.
        waiting: Says who comes, and for whom it waits; None: nobody does.
        count: The most packets of a burst.

    Yields:
        Each queue with a burst of it, which is released when the next is asked for; None about every 100 ms without
        one, and while the link is down.
    """
    while not stop:
        if waiting is not None:
            waiting.tick()
        if not interface.up:
            yield from _rest(interface, count)
            with in_own_words() if interface.role == "slave" else nullcontext():
                interface.socket.poll(stop.left())
            yield None
            continue
        with suppress(MemifDisconnectedError):
            while not stop:
                yield from _once(interface, stop, count)


def _rest(interface: Interface, count: int) -> Iterator[tuple[RxQueue, Burst]]:
    """Packets that a peer sent before it left."""
    for queue in interface.rx:
        try:
            while True:
                with queue.recv(count, 0) as burst:
                    if not burst:
                        break
                    yield queue, burst
        except MemifDisconnectedError:
            continue


def _once(interface: Interface, stop: Stop, count: int) -> Iterator[tuple[RxQueue, Burst] | None]:
    """Every queue once; then a pause when none had anything."""
    queues = interface.rx
    single = len(queues) == 1
    busy = False
    for queue in queues:
        with queue.recv(count, stop.left() if single else 0.0) as burst:
            if burst:
                busy = True
                yield queue, burst
    if not busy:
        if not single:
            _wait_any(interface, stop.left())
        yield None


def _wait_any(interface: Interface, timeout: float) -> None:
    """Wait until a queue has something, or the time is over; the control channel is served meanwhile."""
    if interface.rx:
        wait(interface.rx, timeout)
    else:
        interface.socket.poll(timeout)


def wait_room(queue: TxQueue) -> None:
    """Wait until a fair part of the ring is free, 100 ms at most."""
    ring = queue.ring
    queue.wait_free(min(64, max(ring.size // 2, 1)) if ring is not None else 1, 0.1)


def drain(interface: Interface) -> None:
    """Wait until the peer has taken everything: closing the link throws away what is still in the rings.

    Gives up when nothing moves for half a second; zero-copy peers give back the last few slots only later.
    """
    with suppress(MemifDisconnectedError):
        for queue in interface.tx:
            free = queue.free()
            while not queue.drain(_PATIENCE) and queue.free() > free:
                free = queue.free()


class Pacer:
    """Says how many packets are due at a rate. What was not sent while there was no link is not made up for."""

    def __init__(self, per_second: float) -> None:
        self._rate = per_second
        self.restart(0)

    def restart(self, done: int) -> None:
        """Begin now, after so many packets."""
        self._start, self._before = time.perf_counter(), done

    def due(self, done: int) -> tuple[int, float]:
        """Return how many packets are due when so many are done, and the seconds until the next one is."""
        done -= self._before
        elapsed = time.perf_counter() - self._start
        due = int(elapsed * self._rate) + 1 - done
        return max(due, 0), 0.0 if due > 0 else done / self._rate - elapsed


def pause(interface: Interface, wait: float, stop: Stop) -> None:
    """Wait so many seconds for the next packet to be due, or a part of it; the control channel is served meanwhile."""
    if wait > 0.003:
        interface.socket.poll(min(wait - 0.002, stop.left()))  # epoll counts in milliseconds
    elif wait > 0:
        time.sleep(max(min(wait, 0.001), 20e-6))
