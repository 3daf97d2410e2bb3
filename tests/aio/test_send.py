"""send_all, forward_all, wait_free: back-pressure, timeouts, cancellation."""

import asyncio
import random
import time
from collections.abc import Iterator

import numpy as np
import pytest

import memif
from aio.conftest import Run
from aio.ways import cancelled, collect, linked, numbers, packets, rows
from patience import within

SMALL = {"ring_size": 32}


@pytest.mark.usefixtures("no_second_look")
def test_more_than_the_ring_holds(run: Run, socket_path: str) -> None:
    """Lists, generators, matrices with and without lengths: all of it arrives, in order, in both directions."""
    count = 3000

    def generator() -> Iterator[bytes]:
        yield from packets(count)

    async def main() -> None:
        async with linked(socket_path, slave=SMALL) as (server, client):
            for tx, rx in ((client.tx[0], server.rx[0]), (server.tx[0], client.rx[0])):
                for what in (packets(count), generator(), rows(count), tuple(packets(count))):
                    sending = asyncio.ensure_future(tx.send_all(what))
                    assert await collect(rx, count) == list(range(count))
                    assert await sending == count
            lengths = np.full(count, 4) + np.arange(count) % 50
            sending = asyncio.ensure_future(client.tx[0].send_all(rows(count), lengths))
            sizes: list[int] = []
            while len(sizes) < count:
                with await server.rx[0].recv(timeout=5.0) as burst:
                    sizes += burst.lengths.tolist()
            assert sizes == lengths.tolist()
            assert await sending == count
            assert await client.tx[0].send_all([]) == 0

    run(main())


def test_timeout_tells_how_many_went(run: Run, socket_path: str) -> None:
    """A ring that nobody empties: what fits is sent and counted, the rest is not."""

    async def main() -> None:
        async with linked(socket_path, slave=SMALL) as (server, client):
            start = time.monotonic()
            sent = await client.tx[0].send_all(packets(100), timeout=0.05)
            assert 0.05 <= time.monotonic() - start < within(1.0)
            assert sent == 32
            assert await client.tx[0].send_all(rows(5), timeout=0) == 0
            assert not await client.tx[0].wait_free(1, timeout=0.01)
            assert await collect(server.rx[0], 32) == list(range(32))
            assert await client.tx[0].wait_free(32, timeout=1.0)
            # The pauses do not count as drops.
            assert client.stats["tx"][0]["ring_full"] == 0

    run(main())


def test_bad_arguments(run: Run, socket_path: str) -> None:
    """Errors of the sync calls come through, and the queue can be used afterwards."""

    async def main() -> None:
        async with linked(socket_path, slave=SMALL) as (server, client):
            tx = client.tx[0]
            with pytest.raises(memif.MemifValueError, match="lengths"):
                await tx.send_all([b"x"], [1])
            with pytest.raises(TypeError):
                await tx.send_all([b"fine", 17])
            with pytest.raises(memif.MemifValueError):
                await tx.send_all([b""])
            with pytest.raises(memif.MemifValueError, match=r"lengths\[1\]"):
                await tx.send_all(rows(2), np.array([4, 1000]))
            with pytest.raises(memif.MemifValueError, match="count"):
                await tx.wait_free(33)
            assert await tx.send_all(packets(3)) == 3
            assert await collect(server.rx[0], 3) == [0, 1, 2]

    run(main())


def test_chained_packets_wait_for_all_their_slots(run: Run, socket_path: str) -> None:
    """Packets of several slots in a ring where only some are free: the loop is not kept busy, and all arrive."""

    async def main() -> None:
        async with linked(socket_path, slave={"ring_size": 8, "buffer_size": 256}) as (server, client):
            big = [bytes([i]) * 1500 for i in range(40)]  # six slots each
            sending = asyncio.ensure_future(client.tx[0].send_all(big))
            await asyncio.sleep(0.02)
            used = time.process_time()
            await asyncio.sleep(0.1)
            assert time.process_time() - used < within(0.06)
            found: list[bytes] = []
            while len(found) < len(big):
                with await server.rx[0].recv(timeout=5.0) as burst:
                    found += burst.tobytes()
            assert found == big
            assert await sending == 40

    run(main())


def test_forward_all(run: Run, socket_path: str) -> None:
    """A burst larger than what is free goes on in parts, with no packet lost or twice."""

    async def main() -> None:
        async with (
            linked(socket_path, id=0) as (left, source),
            linked(socket_path + "2", id=1, slave=SMALL) as (right, target),
        ):
            source.tx[0].send_array(rows(500))
            with await left.rx[0].recv(500, timeout=1.0) as burst:
                assert len(burst) == 500
                going = asyncio.ensure_future(target.tx[0].forward_all(burst, start=10))
                assert await collect(right.rx[0], 490) == list(range(10, 500))
                assert await going == 490
                assert await target.tx[0].forward_all(burst, start=400, timeout=0.02) == 32

    run(main())


def test_one_task_a_queue(run: Run, socket_path: str) -> None:
    """A second sender on a queue in use is told so, and leaves no coroutine behind."""

    async def main() -> None:
        async with linked(socket_path, slave=SMALL) as (server, client):
            first = asyncio.ensure_future(client.tx[0].send_all(packets(100)))
            await asyncio.sleep(0.01)
            for second in (client.tx[0].send_all(packets(1)), client.tx[0].wait_free()):
                with pytest.raises(memif.MemifStateError, match="another task"):
                    await second
            await collect(server.rx[0], 100)
            assert await first == 100

    run(main())


@pytest.mark.parametrize("who", ["peer", "close"])
def test_disconnect_while_the_ring_is_full(run: Run, socket_path: str, who: str) -> None:
    """The sender gets the error instead of waiting for ever."""

    async def main() -> None:
        async with linked(socket_path, slave=SMALL) as (server, client):
            sending = asyncio.ensure_future(client.tx[0].send_all(packets(100)))
            await asyncio.sleep(0.01)
            (server if who == "peer" else client).close()
            with pytest.raises((memif.MemifDisconnectedError, memif.MemifClosedError)):
                await sending

    run(main())


def test_cancelled_senders_leave_whole_packets(run: Run, socket_path: str) -> None:
    """Senders are cancelled at random: what arrives is from each a beginning, without gaps, as counted."""
    chance = random.Random(11)

    async def main() -> None:
        async with linked(socket_path, slave=SMALL) as (server, client):
            tx, rx = client.tx[0], server.rx[0]
            found: list[int] = []

            async def receive() -> None:
                async for burst in rx:
                    found.extend(numbers(burst))
                    await asyncio.sleep(chance.choice((0, 0.001)))

            receiving = asyncio.ensure_future(receive())
            expected: list[int] = []
            for trial in range(100):
                before = tx.stats["packets"]
                first = trial * 1000
                sending = asyncio.ensure_future(tx.send_all(rows(300, first)))
                for _ in range(chance.randrange(6)):
                    await asyncio.sleep(chance.choice((0, 0.001, 0.002)))
                await cancelled([sending])
                expected += range(first, first + tx.stats["packets"] - before)
            assert await tx.wait_free(32, timeout=5.0)
            await cancelled([receiving])
            assert found == expected
            assert len(found) > 500

    run(main())
