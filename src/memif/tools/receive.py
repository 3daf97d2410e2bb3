"""Receiving for as long as a verb runs: all queues, through all connections."""

import select
import time
from collections.abc import Callable, Iterator

from memif.errors import MemifDisconnectedError
from memif.interface import Interface
from memif.ring import Burst, RxQueue
from memif.tools.stop import Stop

_BURST = 512


def bursts(
    interface: Interface, stop: Stop, *, say: Callable[[str], object] | None = None, count: int = _BURST
) -> Iterator[tuple[RxQueue, Burst] | None]:
    """Yield each queue with a burst of it, released when the next is asked for; None about every 100 ms without one.

    Waits for the link when it is down and ends when `stop` is set. `say` is told when the link comes and goes.
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
    """What a peer sent before it left."""
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
    """Say who is at the other end."""
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
            wait_any(interface, stop.left())
        yield None


def wait_any(interface: Interface, timeout: float) -> None:
    """Wait until a queue or the control channel has something, or the time is over."""
    queues = interface.rx
    if not queues:
        interface.socket.poll(timeout)
    elif any(queue.mode != "interrupt" for queue in queues):
        time.sleep(min(timeout, 20e-6))
        interface.socket.poll(0)
    else:
        poller = select.poll()
        for fd in (interface.socket.fileno(), *(queue.fileno() for queue in queues)):
            poller.register(fd, select.POLLIN)
        poller.poll(1000 * timeout)
        interface.socket.poll(0)
