"""The asyncio API against other processes: our own echo, and DPDK's testpmd."""

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import uvloop

import memif
import memif.aio
from aio.conftest import Run
from aio.ways import echo, numbers, rows
from ends import Child
from memif.types import RxMode
from patience import within
from peers.testpmd import Testpmd

COUNT = 100_000


@contextlib.asynccontextmanager
async def opening(path: str, role: str, mode: RxMode) -> AsyncIterator[memif.aio.Interface]:
    """An interface of either role with its link up."""
    if role == "slave":
        async with memif.aio.connect(path, timeout=10.0, rx_mode=mode) as iface:
            yield iface
    else:
        async with memif.aio.listen(path, rx_mode=mode) as iface:
            await iface.wait_up(10.0)
            yield iface


def _echo_process(path: str, role: str, with_uvloop: bool, mode: RxMode) -> int:
    async def main() -> int:
        async with opening(path, role, mode) as iface:
            return await echo(iface)

    factory = uvloop.new_event_loop if with_uvloop else None
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main())


@pytest.mark.usefixtures("no_second_look")
@pytest.mark.parametrize("with_uvloop", [False, True], ids=["to-asyncio", "to-uvloop"])
@pytest.mark.parametrize(("role", "mode"), [("slave", "interrupt"), ("master", "adaptive"), ("slave", "polling")])
def test_echo_between_processes(run: Run, socket_path: str, with_uvloop: bool, role: str, mode: RxMode) -> None:
    """A hundred thousand numbered packets there and back between two event loops: none lost, none out of order."""

    async def main() -> None:
        other = "master" if role == "slave" else "slave"
        async with opening(socket_path, other, mode) as iface:
            sending = asyncio.ensure_future(iface.tx[0].send_all(rows(COUNT)))
            found = 0
            async with asyncio.timeout(20):
                async for burst in iface.rx[0]:
                    assert numbers(burst) == list(range(found, found + len(burst)))
                    found += len(burst)
                    if found == COUNT:
                        break
            assert await sending == COUNT

    with Child(_echo_process, socket_path, role, with_uvloop, mode) as child:
        run(main())
        assert child.joined() == COUNT


def test_the_peer_is_killed_while_we_wait(run: Run, socket_path: str) -> None:
    """SIGKILL of the other process ends recv and send_all with MemifDisconnectedError, soon."""

    async def main(child: Child) -> None:
        async with memif.aio.listen(socket_path) as iface:
            await iface.wait_up(10.0)
            child.signal(signal.SIGSTOP)
            waits = [asyncio.ensure_future(iface.rx[0].recv()), asyncio.ensure_future(iface.tx[0].send_all(rows(5000)))]
            await asyncio.sleep(0.05)
            start = time.monotonic()
            child.kill9()
            results = await asyncio.gather(*waits, return_exceptions=True)
            assert [type(result) for result in results] == [memif.MemifDisconnectedError] * 2
            assert time.monotonic() - start < within(1.0)

    with Child(_echo_process, socket_path, "slave", False, "interrupt") as child:
        run(main(child))


@pytest.mark.dpdk
@pytest.mark.parametrize("role", ["server", "client"])
def test_testpmd_sends_back(run: Run, socket_path: str, testpmd: Callable[..., Testpmd], role: str) -> None:
    """Numbered packets through testpmd and back, as slave and as master."""
    count = 20_000

    async def main() -> None:
        ours = "slave" if role == "server" else "master"
        async with memif.aio.Socket(socket_path) as sock:
            iface = sock.interface(role=ours)
            peer = await asyncio.to_thread(testpmd, role, forward="io retry")
            await iface.wait_up(10.0)
            await asyncio.to_thread(peer.start)
            sending = asyncio.ensure_future(_paced(iface.tx[0], count))
            found = 0
            while found < count:
                with await iface.rx[0].recv(timeout=5.0) as burst:
                    assert numbers(burst) == list(range(found, found + len(burst))), found
                    assert len(burst)
                    found += len(burst)
            assert await sending == count
            await asyncio.to_thread(peer.stop)

    run(main())


async def _paced(queue: memif.aio.TxQueue, count: int) -> int:
    sent = 0
    while sent < count:
        sent += await queue.send_all(rows(min(500, count - sent), sent))
    return sent


def test_the_loop_ends_while_a_link_is_up(socket_path: str, recwarn: Any) -> None:
    """Closing after the loop has gone is allowed, and leaves nothing."""

    async def main() -> list[memif.aio.Interface]:
        server = await memif.aio.listen(socket_path)
        client = await memif.aio.connect(socket_path)
        return [server, client]

    for end in asyncio.run(main()):
        end.close()


def _send_and_leave(path: str, count: int) -> None:
    with memif.connect(path, timeout=10.0) as iface:
        while iface.tx[0].free() < count:
            time.sleep(0.001)
        assert iface.tx[0].send_array(rows(count)) == count


@pytest.mark.parametrize("mode", ["interrupt", "polling", "adaptive"])
@pytest.mark.parametrize("slow", [False, True])
def test_the_last_packets_of_a_peer_that_leaves(run: Run, socket_path: str, mode: str, slow: bool) -> None:
    """A process sends a ring full and exits at once: everything arrives, then the iteration ends."""

    async def main() -> list[int]:
        found: list[int] = []
        async with memif.aio.listen(socket_path, rx_mode=mode) as iface:
            with Child(_send_and_leave, socket_path, 1000) as child:
                await iface.wait_up(10.0)
                async for burst in iface.rx[0]:
                    found += numbers(burst)
                    if slow:
                        await asyncio.sleep(0.005)
                assert not iface.up
                child.joined()
        return found

    assert run(main()) == list(range(1000))


def test_a_peer_that_leaves_does_not_wait_for_ever(run: Run, socket_path: str) -> None:
    """Nobody takes its last packets: the link goes down all the same, soon."""

    async def main() -> None:
        async with memif.aio.listen(socket_path) as iface:
            with Child(_send_and_leave, socket_path, 100) as child:
                await iface.wait_up(10.0)
                with await iface.rx[0].recv(1) as burst:
                    assert len(burst) == 1
                child.joined()
                start = time.monotonic()
                while iface.up:
                    await asyncio.sleep(0.005)
                assert time.monotonic() - start < within(1.0)
                with await iface.rx[0].recv() as burst:
                    assert len(burst) == 99  # still there for who asks later
                with pytest.raises(memif.MemifDisconnectedError):
                    await iface.rx[0].recv()

    run(main())
