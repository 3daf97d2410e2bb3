"""The asyncio API: the names of `memif`, with coroutines where the sync API waits.

It is a thin shell around the objects of the sync API. Everything runs in the calling task and in callbacks of its event
loop; there is no thread. An object belongs to the loop that it was created in. asyncio's own loop and uvloop work.

Example:
    Echo all packets::

        async with memif.aio.connect("/run/vpp/memif.sock", id=0) as iface:
            async for burst in iface.rx[0]:
                iface.tx[0].forward(burst)
"""

from memif.aio.interface import Interface
from memif.aio.queues import RxQueue, TxQueue
from memif.aio.socket import Opening, Socket, connect, listen
from memif.aio.waiting import wait

__all__ = ["Interface", "Opening", "RxQueue", "Socket", "TxQueue", "connect", "listen", "wait"]
