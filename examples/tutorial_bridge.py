"""Tutorial, part three: a bridge between two memifs, with asyncio.

    python examples/tutorial_bridge.py /tmp/left.sock /tmp/right.sock

Listens on both sockets. What a client sends on one comes out of the other.
Ctrl-C ends it.
"""

# [imports]
import asyncio
import sys

import memif
from memif import aio


# [pump]
async def pump(source: aio.Interface, target: aio.Interface) -> None:
    """Carry packets in one direction, over all links to come."""
    while True:
        await source.wait_up()
        async for burst in source.rx[0]:  # ends when the link goes down
            try:
                # Waits while the ring is full.
                await target.tx[0].forward_all(burst, timeout=0.1)
            except memif.MemifDisconnectedError:
                pass  # no peer to take them: dropped, as on a wire


# [report]
async def report(*sides: aio.Interface) -> None:
    """Print every second how many packets have come in."""
    while True:
        await asyncio.sleep(1.0)
        counts = [
            f"{side.name} {sum(queue.stats['packets'] for queue in side.rx)}"
            for side in sides
        ]
        print("received:", ", ".join(counts), flush=True)


# [main]
async def main(left_path: str, right_path: str) -> None:
    """Three tasks on one loop; the first that fails ends them all."""
    async with (
        aio.listen(left_path, name="left") as left,
        aio.listen(right_path, name="right") as right,
    ):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(pump(left, right))
            tasks.create_task(pump(right, left))
            tasks.create_task(report(left, right))


# [run]
if __name__ == "__main__":
    try:
        asyncio.run(main(*sys.argv[1:3]))
    except KeyboardInterrupt:
        print("done")
