"""Moving packets for as long as a verb runs: receiving on all queues, sending to the end."""

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress

from memif.errors import ErrorCode, MemifDisconnectedError, MemifStateError
from memif.interface import Interface
from memif.ring import Burst, RxQueue, TxQueue
from memif.tools.terminal import Stop
from memif.waiting import wait

_BURST = 512
#: Seconds without progress after which a peer is taken to have stopped receiving.
_PATIENCE = 0.5


def bursts(
    interface: Interface, stop: Stop, *, say: Callable[[str], object] | None = None, count: int = _BURST
) -> Iterator[tuple[RxQueue, Burst] | None]:
    """Receive on all queues, through all connections, until `stop` is set.

    Args:
        interface: The interface.
        stop: When to end.
        say: Called with a line of text when the link comes up and goes down.
        count: The most packets of a burst.

    Yields:
        Each queue with a burst of it, which is released when the next is asked for; None about every 100 ms without
        one, and while the link is down.
    """
    while not stop:
        if not interface.up:
            yield from _rest(interface, count)
            interface.socket.poll(stop.left())
            yield None
            continue
        announce(interface, say)
        try:
            while not stop:
                yield from _once(interface, stop, count)
        except MemifDisconnectedError as error:
            if say is not None:
                say(f"disconnected: {error.detail.partition(': the link is down: ')[2] or error.detail}")


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


def announce(interface: Interface, say: Callable[[str], object] | None) -> None:
    """Say who the peer is."""
    peer = interface.peer
    if say is not None and peer is not None:
        say(f"connected to {peer.name or 'a peer without a name'} ({peer.app_name})")


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


def come_up(interface: Interface, timeout: float) -> None:
    """Wait until the link is up and can take packets: a slave hands out its buffers only after it is up.

    Args:
        interface: The interface.
        timeout: Seconds.

    Raises:
        MemifError: As `Interface.wait_up`.
        MemifStateError: The link has no transmit queues, which both ends are free to choose.
    """
    log = logging.getLogger("memif.interface")
    level = log.level
    log.setLevel(logging.ERROR)  # the last attempt's failure is part of the error
    try:
        interface.wait_up(timeout)
    finally:
        log.setLevel(level)
    if not interface.tx:
        raise MemifStateError("this link has no queue to send on", code=ErrorCode.QID)
    for queue in interface.tx:
        queue.wait_free(1, 1.0)


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
