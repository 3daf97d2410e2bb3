"""Two ends on one event loop: one sends ten thousand packets, the other sends
them back.

    python examples/aio_echo.py

The two could as well be in two processes: each end uses nothing of the other but the
name of the socket.
"""

import asyncio

import numpy as np

import memif
from memif import aio

COUNT = 10_000


# [echo]
async def echo(iface: aio.Interface) -> None:
    """Send everything back until the link goes down."""
    async for burst in iface.rx[0]:  # released before the next one is taken
        await iface.tx[0].forward_all(burst)  # waits while the ring is full


# [send]
async def send(iface: aio.Interface) -> None:
    """Send numbered packets of 60 bytes, ten times what the ring holds."""
    matrix = np.zeros((COUNT, 60), np.uint8)
    matrix.view(">u4")[:, 0] = np.arange(COUNT)
    await iface.tx[0].send_all(matrix)


# [receive]
async def receive(iface: aio.Interface) -> None:
    """Count the packets that come back."""
    count = 0
    while count < COUNT:
        with await iface.rx[0].recv(256, timeout=5.0) as burst:
            if not burst:
                raise TimeoutError(f"only {count} packets came back")
            numbers = burst.gather(4).view(">u4")[:, 0]
            assert (numbers == np.arange(count, count + len(burst))).all()
            count += len(burst)
    print(count, "packets came back in order")


# [main]
async def main() -> None:
    """Open both ends.

    The tasks of the client end by themselves, the task of the server ends with the
    link.
    """
    async with aio.listen("@aio-echo") as server:
        async with aio.connect("@aio-echo") as client, asyncio.timeout(20):
            await server.wait_up()
            echoing = asyncio.create_task(echo(server))
            await asyncio.gather(send(client), receive(client))
        await echoing
        # [down] without a link the operations of a queue raise
        try:
            await server.rx[0].recv()
        except memif.MemifDisconnectedError as error:
            print(error)


# [run]
if __name__ == "__main__":
    asyncio.run(main())
