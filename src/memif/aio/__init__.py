"""The asyncio API: the names of `memif` itself, to be awaited.

    async with memif.aio.connect("/run/vpp/memif.sock", id=0) as iface:
        async for burst in iface.rx[0]:
            iface.tx[0].forward(burst)

A thin shell around the same objects that the sync API uses: nothing below waits, so everything here runs in the
task that calls it and in callbacks of its event loop. There is no thread. Objects belong to the loop they were
made in; asyncio's own loop and uvloop both do.
"""

from memif.aio.interface import Interface
from memif.aio.many import wait
from memif.aio.queues import RxQueue, TxQueue
from memif.aio.socket import Opening, Socket, connect, listen

__all__ = ["Interface", "Opening", "RxQueue", "Socket", "TxQueue", "connect", "listen", "wait"]
