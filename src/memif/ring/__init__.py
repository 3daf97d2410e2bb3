"""Rings, queues and bursts: the compiled part of memif, everything that moves packets.

`Region` owns mapped memory, `RxRing` and `TxRing` are one ring of it each, `RxQueue` and `TxQueue` are what the user
holds (they outlive the rings of one connection), and a `Burst` is a run of packets borrowed from a ring. numpy is loaded
by the first call that needs it.
"""

from memif.ring._burst import Burst
from memif.ring._queue import RxQueue, TxQueue
from memif.ring._region import Region
from memif.ring._ring import RxRing, Stats, TxRing

__all__ = ["Burst", "Region", "RxQueue", "RxRing", "Stats", "TxQueue", "TxRing"]
