"""recv, wait and async for: modes, timeouts, cancellation, disconnects."""

import asyncio
import contextlib
import gc
import os
import random
import time
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest

import memif
from aio.conftest import Run
from aio.ways import cancelled, collect, linked, numbers, packets, rows
from patience import within

MODES = ["interrupt", "polling", "adaptive"]


def test_timeouts(run: Run, socket_path: str) -> None:
    """An empty burst after the time given; 0 never waits."""

    async def main() -> None:
        async with linked(socket_path) as (server, client):
            for timeout in (0, 0.02, 0.15):
                start = time.monotonic()
                with await server.rx[0].recv(timeout=timeout) as burst:
                    assert len(burst) == 0
                assert timeout <= time.monotonic() - start < within(timeout + 0.5)
            client.tx[0].send([b"there"])
            for timeout in (0, 0.02, None):
                with await server.rx[0].recv(1, timeout=timeout) as burst:
                    assert burst.tobytes() == [b"there"]
                client.tx[0].send([b"there"])
            for bad in (-1, "soon"):
                with pytest.raises(memif.MemifValueError, match="timeout"):
                    await server.rx[0].recv(timeout=bad)  # type: ignore[arg-type]
            with pytest.raises(memif.MemifValueError, match="count"):
                await server.rx[0].recv(0)

    run(main())


@pytest.mark.parametrize("mode", MODES)
def test_receiving_copies_in_one_call(run: Run, socket_path: str, mode: str) -> None:
    """They wait as `recv` does, and take nothing when they are cancelled."""

    async def main() -> None:
        async with linked(socket_path, rx_mode=mode) as (server, client):
            rx, tx = server.rx[0], client.tx[0]
            matrix, lengths = np.zeros((4, 60), np.uint8), np.zeros(4, np.uint32)
            assert await rx.recv_packet(0) is None
            assert await rx.recv_list(4, 0.01) == []
            assert [len(each) for each in await rx.recv_array(60, 4, 0.01)] == [0, 0]
            assert await rx.recv_into(matrix, lengths, 0.01) == 0
            waits: list[tuple[Callable[[], Coroutine[Any, Any, Any]], Callable[[Any], bytes]]] = [
                (lambda: rx.recv_packet(5), bytes),
                (lambda: rx.recv_list(timeout=5), lambda got: got[0]),
                (lambda: rx.recv_array(4, timeout=5), lambda got: got[0].tobytes()),
                (lambda: rx.recv_into(matrix, lengths, 5), lambda got: matrix[:got, :4].tobytes()),
            ]
            for receive, first in waits:
                waiting = asyncio.ensure_future(receive())
                await asyncio.sleep(0.01)
                assert tx.send_packet(b"late")
                assert first(await waiting) == b"late"
                waiting = asyncio.ensure_future(receive())
                await asyncio.sleep(0)
                waiting.cancel()
                assert tx.send_packet(b"kept")
                with contextlib.suppress(asyncio.CancelledError):
                    await waiting
                assert first(await receive()) == b"kept"
            with pytest.raises(memif.MemifValueError, match="width"):
                await rx.recv_array(0)

    run(main())


@pytest.mark.usefixtures("no_second_look")
@pytest.mark.parametrize("mode", MODES)
def test_modes(run: Run, socket_path: str, mode: str) -> None:
    """Packets with pauses between them arrive soon in every mode; the flag tells the peer what we want."""

    async def main() -> None:
        async with linked(socket_path, rx_mode=mode) as (server, client):
            rx = server.rx[0]
            assert rx.mode == mode
            delays = []
            for pause in (0, 0, 0.001, 0.02, 0.02, 0.02):
                receiving = asyncio.ensure_future(rx.recv(timeout=5.0))
                await asyncio.sleep(pause)
                assert rx.mode == mode
                if pause > 0.01:
                    # Asleep an adaptive queue asks for interrupts, awake it does not.
                    assert rx.ring.flags == (mode == "polling")
                start = time.monotonic()
                client.tx[0].send([b"ping"])
                with await receiving as burst:
                    assert burst.tobytes() == [b"ping"]
                delays.append(time.monotonic() - start)
                assert rx.ring.flags == (mode != "interrupt")
            assert sorted(delays)[2] < within(0.1)

    run(main())


@pytest.mark.parametrize("mode", MODES)
def test_the_mode_can_change_while_a_task_waits(run: Run, socket_path: str, mode: str) -> None:
    """What was set last holds after the wait."""

    async def main() -> None:
        async with linked(socket_path, rx_mode="adaptive") as (server, client):
            receiving = asyncio.ensure_future(server.rx[0].recv(timeout=5.0))
            await asyncio.sleep(0.01)
            server.rx[0].mode = mode
            client.tx[0].send([b"ping"])
            with await receiving as burst:
                assert len(burst) == 1
            assert server.rx[0].mode == mode
            with pytest.raises(memif.MemifValueError, match="mode"):
                server.rx[0].mode = "lazy"

    run(main())


def test_a_lost_wake_up_costs_100_ms_at_most(run: Run, socket_path: str) -> None:
    """The interrupt is stolen, as if the peer had not sent it: the packet is found all the same."""

    async def main() -> None:
        async with linked(socket_path) as (server, client):
            receiving = asyncio.ensure_future(server.rx[0].recv())
            await asyncio.sleep(0.01)
            start = time.monotonic()
            client.tx[0].send([b"quiet"])
            os.eventfd_read(client.sync.tx[0].fileno())
            with await receiving as burst:
                assert burst.tobytes() == [b"quiet"]
            assert 0.02 < time.monotonic() - start < within(1.0)

    run(main())


def test_waiting_costs_no_processor_time(run: Run, socket_path: str) -> None:
    """Interrupts of packets already taken do not keep the loop spinning."""

    async def main() -> None:
        async with linked(socket_path) as (server, client):
            for first in range(0, 1000, 100):
                client.tx[0].send(packets(100, first))
                await collect(server.rx[0], 100, most=100)
            used = time.process_time()
            with await server.rx[0].recv(timeout=0.3) as burst:
                assert not burst
            assert time.process_time() - used < within(0.1)

    run(main())


def test_async_for_releases_each_burst(run: Run, socket_path: str) -> None:
    """Far more packets than slots pass through, and after break the last burst goes with the loop."""

    async def main() -> None:
        async with linked(socket_path, slave={"ring_size": 64}) as (server, client):
            sending = asyncio.ensure_future(client.tx[0].send_all(rows(5000)))
            found: list[int] = []
            async for burst in server.rx[0]:
                assert len(burst)
                found += numbers(burst)
                if len(found) >= 5000:
                    break
            assert found == list(range(5000))
            assert await sending == 5000
            del burst
            gc.collect()
            assert await client.tx[0].wait_free(64, timeout=1.0)

    run(main())


@pytest.mark.usefixtures("no_second_look")
def test_async_for_ends_with_the_link(run: Run, socket_path: str) -> None:
    """A disconnect by the peer, and our own close, end the iteration without an error."""

    async def main() -> None:
        async def count(iface: memif.aio.Interface) -> int:
            return sum([len(burst) async for burst in iface.rx[0]])

        async with linked(socket_path) as (server, client):
            counting = asyncio.ensure_future(count(server))
            client.tx[0].send(packets(10))
            await asyncio.sleep(0.02)
            client.close()
            assert await counting == 10
            assert await count(server) == 0
        async with linked(socket_path) as (server, client):
            counting = asyncio.ensure_future(count(server))
            await asyncio.sleep(0.01)
            await server.close()
            assert await counting == 0

    run(main())


@pytest.mark.usefixtures("no_second_look")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("who", ["peer", "self", "close"])
def test_disconnect_while_waiting(run: Run, socket_path: str, mode: str, who: str) -> None:
    """recv and wait end at once, with the error that says why."""

    async def main() -> None:
        async with linked(socket_path, rx_mode=mode) as (server, client):
            waits = [asyncio.ensure_future(server.rx[0].recv()), asyncio.ensure_future(client.rx[0].wait())]
            await asyncio.sleep(0.02)
            start = time.monotonic()
            {"peer": client, "self": server, "close": server}[who].disconnect("no reason")
            if who == "close":
                server.close()
            results = await asyncio.gather(*waits, return_exceptions=True)
            assert time.monotonic() - start < within(3.0)
            assert all(isinstance(error, memif.MemifDisconnectedError | memif.MemifClosedError) for error in results)
            assert who == "close" or "no reason" in str(results[0])

    run(main())


def test_down_before_the_call(run: Run, socket_path: str) -> None:
    """All operations raise at once while the link is down."""

    async def main() -> None:
        async with memif.aio.listen(socket_path) as server:
            rx, tx = server.rx[0], server.tx[0]
            for operation in (rx.recv(), rx.wait(), tx.send_all([b"x"]), tx.send_all(rows(2)), tx.wait_free()):
                with pytest.raises(memif.MemifDisconnectedError):
                    await operation
            with pytest.raises(memif.MemifDisconnectedError):
                tx.send([b"x"])

    run(main())


def test_one_task_a_queue(run: Run, socket_path: str) -> None:
    """A second task on a queue in use is told so; the first goes on."""

    async def main() -> None:
        async with linked(socket_path) as (server, client):
            first = asyncio.ensure_future(server.rx[0].recv())
            await asyncio.sleep(0)
            for operation in (server.rx[0].recv(), server.rx[0].wait()):
                with pytest.raises(memif.MemifStateError, match="another task"):
                    await operation
            client.tx[0].send([b"x"])
            with await first as burst:
                assert len(burst) == 1

    run(main())


def test_wait_takes_nothing(run: Run, socket_path: str) -> None:
    """True when a packet is there, and it still is afterwards; False after the timeout."""

    async def main() -> None:
        async with linked(socket_path) as (server, client):
            assert not await server.rx[0].wait(0)
            assert not await server.rx[0].wait(0.02)
            waiting = asyncio.ensure_future(server.rx[0].wait())
            await asyncio.sleep(0.01)
            client.tx[0].send([b"x"])
            assert await waiting
            assert await server.rx[0].wait(0)
            with await server.rx[0].recv(timeout=0) as burst:
                assert burst.tobytes() == [b"x"]

    run(main())


@pytest.mark.usefixtures("no_second_look")
@pytest.mark.parametrize("mode", MODES)
def test_a_storm_of_cancellations_loses_nothing(run: Run, socket_path: str, mode: str) -> None:
    """Receivers are cancelled and time out at random moments while packets stream in: all arrive, in order."""
    count, chance = 20_000, random.Random(7)

    async def main() -> None:
        async with linked(socket_path, rx_mode=mode, slave={"ring_size": 128}) as (server, client):
            sending = asyncio.ensure_future(_dribble(client.tx[0], count, chance))
            found: list[int] = []
            ended = {"cancelled": 0, "late": 0}
            while len(found) < count:
                receiving = server.rx[0].recv(chance.choice((1, 8, 256)))
                if chance.random() < 0.3:
                    try:
                        burst = await _within(receiving, chance.choice((1e-6, 1e-4, 0.01)), chance.randrange(3))
                    except TimeoutError:
                        ended["late"] += 1
                        continue
                else:
                    task = asyncio.ensure_future(receiving)
                    for _ in range(1 + chance.randrange(4)):
                        await asyncio.sleep(0)
                    await cancelled([task])
                    if task.cancelled():
                        ended["cancelled"] += 1
                        continue
                    burst = task.result()
                with burst:
                    found += numbers(burst)
            assert found == list(range(count))
            assert await sending == count
            assert sum(ended.values()) > 5, ended

    run(main())


async def _within(receiving: Coroutine[Any, Any, Any], seconds: float, way: int) -> Any:
    """The result, or TimeoutError, by each of the ways that lose no result.

    ``wait_for`` of a task of one's own is none: from 3.12 on it drops what the task found in the last moment.
    """
    if way == 0:
        return await asyncio.wait_for(receiving, seconds)
    if way == 1:
        async with asyncio.timeout(seconds):
            return await receiving
    task = asyncio.ensure_future(receiving)
    await asyncio.wait({task}, timeout=seconds)
    await cancelled([task])
    if task.cancelled():
        raise TimeoutError
    return task.result()


async def _dribble(queue: memif.aio.TxQueue, count: int, chance: random.Random) -> int:
    done = 0
    while done < count:
        n = min(chance.choice((1, 10, 200)), count - done)
        done += await queue.send_all(rows(n, done))
        await asyncio.sleep(chance.choice((0, 0.001, 0.003)))
    return done


def test_a_busy_queue_lets_others_run(run: Run, socket_path: str) -> None:
    """A receiver and a sender that always find something to do still give the rest of the program its turns."""

    async def main() -> None:
        async with linked(socket_path) as (server, client):
            end = time.monotonic() + 0.3

            async def flood() -> None:
                while time.monotonic() < end:
                    client.tx[0].send_array(rows(8))
                    with await server.rx[0].recv(timeout=0):
                        pass

            flooding = asyncio.ensure_future(flood())
            turns = 0
            while not flooding.done():
                await asyncio.sleep(0)
                turns += 1
            await flooding
            assert turns > 50

    run(main())
