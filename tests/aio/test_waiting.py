"""memif.aio.wait, drain and close(drain=...), and a link that has just come up."""

import asyncio
import contextlib
import itertools
from typing import Any

import pytest

import memif
import memif.aio
from aio.conftest import Run
from aio.ways import cancelled, linked, numbers, packets

MODES = ["interrupt", "polling", "adaptive"]


@pytest.mark.usefixtures("no_second_look")
@pytest.mark.parametrize("modes", [MODES, ["interrupt"] * 3, ["polling"] * 3, ["adaptive"] * 3])
def test_the_first_of_many(run: Run, socket_path: str, modes: list[str]) -> None:
    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            links = []
            for number, mode in enumerate(modes):
                links.append(await stack.enter_async_context(linked(f"{socket_path}{number}", rx_mode=mode)))
            queues = [server.rx[0] for server, _ in links]
            assert await memif.aio.wait(queues, 0) == await memif.aio.wait(queues, 0.02) == []
            for (server, client), queue in zip(links, queues, strict=True):
                waiting = asyncio.ensure_future(memif.aio.wait(queues))
                await asyncio.sleep(0.02)
                with pytest.raises(memif.MemifStateError, match="another task"):
                    await queue.recv()
                client.tx[0].send(packets(2))
                assert await waiting == [queue]
                assert await memif.aio.wait([each for each, _ in links]) == [server]
                with await queue.recv(timeout=0) as burst:
                    assert numbers(burst) == [0, 1]
            for queue, mode in zip(queues, modes, strict=True):
                assert queue.ring.flags == (mode != "interrupt")

    run(main())


def test_cancelled_waits_leave_the_queues_as_they_were(run: Run, socket_path: str) -> None:
    async def main() -> None:
        async with linked(socket_path, rx_mode="adaptive") as (server, client):
            for _ in range(20):
                waiting = asyncio.ensure_future(memif.aio.wait([server.rx[0], client.rx[0]]))
                await asyncio.sleep(0.001)
                await cancelled([waiting])
            assert server.rx[0].ring.flags == 1
            client.tx[0].send([b"x"])
            with await server.rx[0].recv(timeout=5) as burst:
                assert burst.tobytes() == [b"x"]

    run(main())


def test_links_that_come_and_go(run: Run, socket_path: str) -> None:
    async def main() -> None:
        async with memif.aio.Socket(socket_path) as listening, linked(socket_path + "2") as (server, other):
            late = listening.interface(role="master")
            assert await memif.aio.wait([late.rx[0], server.rx[0]], 0.02) == []
            with pytest.raises(memif.MemifDisconnectedError):
                await memif.aio.wait([late.rx[0], late])
            waiting = asyncio.ensure_future(memif.aio.wait([listening, server.rx[0]]))
            async with memif.aio.connect(socket_path) as client:
                assert await waiting == [listening]
                await late.wait_up(5)
                client.tx[0].send([b"x"])
                assert await memif.aio.wait([server.rx[0], late.rx[0]], 5) == [late.rx[0]]
                (await late.rx[0].recv()).release()
            with pytest.raises(memif.MemifDisconnectedError):
                await memif.aio.wait([late.rx[0]], 5)
            await other.close()
            listening.close()
            for things in ([late.rx[0]], [listening], [listening, server]):
                with pytest.raises(memif.MemifClosedError):
                    await memif.aio.wait(things, 5)

    run(main())


@pytest.mark.parametrize(
    ("objects", "text"), [([], r"objects: got \[\], allowed"), ([3], r"objects\[0\]: got 3, allowed")]
)
def test_what_cannot_be_waited_for(run: Run, objects: Any, text: str) -> None:
    async def main() -> None:
        with pytest.raises(memif.MemifValueError, match=text):
            await memif.aio.wait(objects)

    run(main())


@pytest.mark.parametrize("sender", [0, 1])
def test_drain_and_close(run: Run, socket_path: str, sender: int) -> None:
    async def main() -> None:
        async with linked(socket_path, ring_size=16) as ends:
            here, there = ends[sender], ends[1 - sender]
            assert await here.drain(0)
            assert here.tx[0].send(packets(16)) == 16
            assert not await here.drain(0.01)
            assert not await here.tx[0].drain(0.01)
            (await there.rx[0].recv(timeout=5)).release()
            assert await here.drain(5)
            here.tx[0].send(packets(3))
            closing = asyncio.ensure_future(here.close(drain=10))
            await asyncio.sleep(0.02)
            assert not here.closed
            with await there.rx[0].recv(timeout=5) as burst:
                assert len(burst) == 3
            await closing
            assert here.closed
            await here.close(drain=10)
            with pytest.raises(memif.MemifValueError, match="drain"):
                here.close(drain=-1)

    run(main())


def test_all_slots_lent(run: Run, socket_path: str) -> None:
    async def main() -> None:
        async with linked(socket_path, ring_size=16) as (server, client):
            client.tx[0].send(packets(16))
            with await server.rx[0].recv(), pytest.raises(memif.MemifBufferError, match="all 16 slots are lent to 1"):
                await server.rx[0].recv()

    run(main())


def test_the_first_packets_of_a_link_are_accepted(run: Run, socket_path: str) -> None:
    async def main() -> None:
        for _ in range(5):
            async with memif.aio.listen(socket_path) as server, memif.aio.Socket(socket_path) as socket:
                client = socket.interface()
                await server.wait_up(5)
                assert server.tx[0].send(packets(10)) == 10
                await client.wait_up(5)

    run(main())


@pytest.mark.parametrize("form", ["coroutine", "timeout", "argument"])
def test_time_limits_lose_nothing(run: Run, socket_path: str, form: str) -> None:
    """The three forms that the page on asyncio allows."""

    async def limited(queue: memif.aio.RxQueue, limit: float) -> memif.Burst:
        if form == "coroutine":
            return await asyncio.wait_for(queue.recv(8), limit)
        if form == "timeout":
            async with asyncio.timeout(limit):
                return await queue.recv(8)
        burst = await queue.recv(8, timeout=limit)
        if not burst:
            raise TimeoutError
        return burst

    async def main() -> None:
        async with linked(socket_path) as (server, client):

            async def send() -> None:
                for number in range(1000):
                    await client.tx[0].send_all(packets(1, number))
                    await asyncio.sleep(0.0005 * (number % 3))

            sending, got, idle = asyncio.ensure_future(send()), [], 0
            limits = itertools.cycle((1e-6, 1e-4, 0.01))
            while idle < 20:
                try:
                    with await limited(server.rx[0], next(limits)) as burst:
                        got += numbers(burst)
                except TimeoutError:
                    idle += sending.done()
            assert got == list(range(1000))

    run(main())
