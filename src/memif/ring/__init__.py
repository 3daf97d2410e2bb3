"""Rings, queues and bursts: the compiled part of memif, everything that moves packets.

`Region` owns mapped memory, `RxRing` and `TxRing` are one ring of it each, `RxQueue` and `TxQueue` are what
the user holds (they outlive the rings of one connection), and a `Burst` is a run of packets borrowed from a
ring. numpy is loaded by the first call that needs it.
"""

from memif.ring._burst import Burst
from memif.ring._queue import Queue
from memif.ring._region import Region
from memif.ring._ring import Ring, Stats
from memif.ring._rxqueue import RxQueue
from memif.ring._rxring import RxRing
from memif.ring._txqueue import TxQueue
from memif.ring._txring import TxRing
from memif.ring.handlers import HANDLER_SIGNATURE

__all__ = ["HANDLER_SIGNATURE", "Burst", "Queue", "Region", "Ring", "RxQueue", "RxRing", "Stats", "TxQueue", "TxRing"]
