"""What the tests of the asyncio API share: a link inside one loop, numbered packets."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

import memif
import memif.aio


@contextlib.asynccontextmanager
async def linked(
    path: str, *, master: dict[str, Any] | None = None, slave: dict[str, Any] | None = None, **both: Any
) -> AsyncIterator[tuple[memif.aio.Interface, memif.aio.Interface]]:
    """Context: a master and a slave on this loop, linked. `both` are options of the two."""
    async with (
        memif.aio.listen(path, **both, **(master or {})) as server,
        memif.aio.connect(path, **both, **(slave or {})) as client,
    ):
        await server.wait_up(5.0)
        yield server, client


def rows(count: int, first: int = 0, width: int = 60) -> NDArray[np.uint8]:
    """A matrix of packets that begin with their number, big-endian in 4 bytes."""
    matrix = np.zeros((count, width), np.uint8)
    matrix[:, :4] = np.arange(first, first + count, dtype=">u4").view(np.uint8).reshape(-1, 4)
    return matrix


def packets(count: int, first: int = 0, size: int = 60) -> list[bytes]:
    """The same as a list."""
    return [number.to_bytes(4, "big").ljust(size, b".") for number in range(first, first + count)]


def numbers(burst: memif.Burst) -> list[int]:
    """The numbers of the packets of a burst."""
    return [int(number) for number in burst.gather(4).view(">u4")[:, 0]]


async def collect(queue: memif.aio.RxQueue, count: int, *, most: int = 256) -> list[int]:
    """Receive until there are `count` packets; return their numbers."""
    found: list[int] = []
    while len(found) < count:
        with await queue.recv(most, timeout=5.0) as burst:
            assert len(burst), f"{len(found)} of {count} packets came"
            found += numbers(burst)
    return found


async def echo(iface: memif.aio.Interface) -> int:
    """Send everything back until the link goes down; return how many packets."""
    total = 0
    with contextlib.suppress(memif.MemifDisconnectedError, memif.MemifClosedError):
        async for burst in iface.rx[0]:
            total += await iface.tx[0].forward_all(burst)
    return total


async def cancelled(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait for their ends."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
