"""Sending to the end: room in a full ring, and nothing left behind in it."""

import logging
import time

from memif.errors import ErrorCode, MemifDisconnectedError, MemifStateError
from memif.interface import Interface
from memif.ring import TxQueue


def come_up(interface: Interface, timeout: float) -> None:
    """Wait until the link is up and can take packets: a slave hands out its buffers only after it is up.

    Raises what `Interface.wait_up` raises, and `MemifStateError` for a link without transmit queues, which both ends
    are free to make.
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


def drain(interface: Interface, patience: float = 0.5) -> None:
    """Wait until the peer has taken everything: closing the link throws away what still lies in the rings.

    Gives up when nothing moves for `patience` seconds; zero-copy peers give back the last few slots only later.
    """
    try:
        for queue in interface.tx:
            most = queue.ring.size if queue.ring is not None else 0
            free, deadline = queue.free(), time.monotonic() + patience
            while free < most and time.monotonic() < deadline:
                time.sleep(0.0005)
                if (now := queue.free()) != free:
                    free, deadline = now, time.monotonic() + patience
    except MemifDisconnectedError:
        return
