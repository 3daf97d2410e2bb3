"""Sending to the end: room in a full ring, and nothing left behind in it."""

import time

from memif.errors import MemifDisconnectedError
from memif.interface import Interface
from memif.ring import TxQueue


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
