"""Opening and closing links on an event loop: connect, listen, Socket, callbacks, errors."""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import memif
import memif.aio
from aio.conftest import Run
from aio.ways import cancelled, linked
from patience import within

#: What users call, by class; poll and fileno are the event loop's part.
NAMES = {
    "Socket": "address interfaces interface stats close",
    "Interface": "socket id name role mode up closed peer disconnect_reason stats details wait_up connect disconnect "
    "drain close rx tx",
    "RxQueue": "index mode recv wait stats ring",
    "TxQueue": "index send send_array forward send_all forward_all drain alloc free wait_free stats ring",
}


@pytest.mark.parametrize("kind", NAMES)
def test_the_names_are_those_of_the_sync_api(run: Run, socket_path: str, kind: str) -> None:
    """What an object of the sync API has, its asyncio counterpart has too."""

    async def main() -> None:
        async with memif.aio.listen(socket_path) as iface:
            mine = {"Socket": iface.socket, "Interface": iface, "RxQueue": iface.rx[0], "TxQueue": iface.tx[0]}[kind]
            for name in NAMES[kind].split():
                assert hasattr(mine, name)
                assert hasattr(mine.sync, name)  # type: ignore[attr-defined]

    run(main())


def test_await_and_async_with(run: Run, socket_path: str) -> None:
    """Both ways to open give an interface that is up; leaving the block, or close(), takes it down."""

    async def main() -> None:
        server = await memif.aio.listen(socket_path, id=3)
        assert (server.up, server.role, server.id) == (False, "master", 3)
        async with memif.aio.connect(socket_path, id=3, name="left", app_name="app") as client:
            await server.wait_up(2.0)
            assert client.up
            assert server.peer is not None
            assert (server.peer.name, server.peer.app_name, server.peer.pid) == ("left", "app", os.getpid())
            assert client.details().link_up
        assert client.closed
        while server.up:
            await asyncio.sleep(0.001)
        assert server.disconnect_reason == "interface deleted"
        await server.close()
        await server.close()
        with pytest.raises(memif.MemifClosedError):
            async with server:
                pass
        with pytest.raises(memif.MemifClosedError):
            await server.wait_up(1.0)

    run(main())


def test_connect_in_vain(run: Run, socket_path: str) -> None:
    """Nobody there: the timeout's error with its cause, within its time; nothing stays open."""

    async def main() -> None:
        start = time.monotonic()
        with pytest.raises(memif.MemifTimeoutError, match=r"^there is no socket .* \(waited 0\.2 s\)$") as caught:
            await memif.aio.connect(socket_path, timeout=0.2)
        assert 0.2 <= time.monotonic() - start < within(1.0)
        assert isinstance(caught.value.__cause__, memif.MemifFileNotFoundError)
        async with memif.aio.listen(socket_path) as server:
            with pytest.raises(TimeoutError):
                await server.wait_up(0.01)

    run(main())


def test_arguments_are_checked_at_once(run: Run, socket_path: str) -> None:
    """A bad option is a MemifValueError that names it, and leaves nothing behind."""

    async def authorize(peer: memif.Peer) -> bool:
        return False

    async def main() -> None:
        with pytest.raises(memif.MemifValueError, match="timeout"):
            memif.aio.connect(socket_path, timeout=-1)
        with pytest.raises(memif.MemifValueError, match="ring_size"):
            await memif.aio.connect(socket_path, ring_size=3)
        with pytest.raises(memif.MemifValueError, match="on_connect"):
            await memif.aio.listen(socket_path, on_connect=7)
        with pytest.raises(TypeError):
            await memif.aio.listen(socket_path, no_such_option=1)
        with pytest.raises(TypeError):
            await memif.aio.connect(socket_path, socket_mode=0o666)
        with pytest.raises(memif.MemifValueError, match="authorize"):
            await memif.aio.listen(socket_path, authorize=authorize)

    run(main())
    assert not Path(socket_path).exists()


def test_options_of_the_socket(run: Run, socket_path: str) -> None:
    """listen takes the options of the socket file as the sync one does."""

    async def main() -> None:
        async with memif.aio.listen(socket_path, socket_mode=0o640, app_name="me") as server:
            assert Path(socket_path).stat().st_mode & 0o777 == 0o640
            assert server.details().app_name == "me"

    run(main())


@pytest.mark.usefixtures("no_second_look")
def test_a_final_refusal_is_raised_at_once(run: Run, socket_path: str) -> None:
    """A wrong secret does not wait for the timeout."""

    async def main() -> None:
        async with memif.aio.listen(socket_path, secret="right"):
            start = time.monotonic()
            with pytest.raises(memif.MemifRefusedError) as caught:
                await memif.aio.connect(socket_path, secret="wrong", timeout=5.0)
            assert caught.value.code == memif.ErrorCode.SECRET
            assert time.monotonic() - start < within(3.0)

    run(main())


def test_cancelled_connect_leaves_nothing(run: Run, socket_path: str) -> None:
    """A connect that is cancelled at any moment has closed its socket (the leak check looks)."""

    async def main() -> None:
        async with memif.aio.listen(socket_path) as server:
            for i in range(40):
                task = asyncio.ensure_future(_opened(socket_path))
                for _ in range(i % 8):
                    await asyncio.sleep(0)
                await cancelled([task])
                if not task.cancelled():
                    task.result().close()
            while server.up:
                await asyncio.sleep(0.001)
            assert (await _opened(socket_path)).close() is not None

    run(main())


async def _opened(path: str) -> memif.aio.Interface:
    return await memif.aio.connect(path)


@pytest.mark.usefixtures("no_second_look")
def test_the_peer_is_seen_without_polling(run: Run, socket_path: str) -> None:
    """wait_up returns with the handshake, not with the 100 ms re-check."""

    async def main() -> None:
        async with memif.aio.listen(socket_path) as server:
            waiting = asyncio.ensure_future(server.wait_up())
            await asyncio.sleep(0)
            async with memif.aio.connect(socket_path):
                await waiting

    run(main())


@pytest.mark.usefixtures("no_second_look")
def test_many_interfaces_on_one_loop(run: Run, socket_path: str) -> None:
    """Sixteen links over two sockets: each pair talks at the same time, and to nobody else."""

    async def main() -> None:
        async with memif.aio.Socket(socket_path) as servers, memif.aio.Socket(socket_path) as clients:
            masters = [servers.interface(id=i, role="master") for i in range(16)]
            slaves = [clients.interface(id=i) for i in range(16)]
            await asyncio.gather(*(end.wait_up(5.0) for end in masters + slaves))
            assert servers.interfaces == tuple(masters)

            async def talk(i: int) -> None:
                for n in range(50):
                    slaves[i].tx[0].send([b"%d %d" % (i, n)])
                    with await masters[i].rx[0].recv(timeout=5.0) as burst:
                        assert burst.tobytes() == [b"%d %d" % (i, n)]

            await asyncio.gather(*(talk(i) for i in range(16)))
            slaves[5].close()
            assert len(clients.interfaces) == 15
        assert all(end.closed for end in masters + slaves)

    run(main())


def test_callbacks_run_on_the_loop(run: Run, socket_path: str) -> None:
    """Functions and coroutine functions, with the asyncio interface as argument."""

    async def main() -> list[Any]:
        events: list[Any] = []

        async def connected(iface: memif.aio.Interface) -> None:
            await asyncio.sleep(0.001)
            events.append(("up", iface.name))

        def disconnected(iface: memif.aio.Interface) -> None:
            events.append(("down", iface.name))

        def interrupted(iface: memif.aio.Interface, qid: int) -> None:
            with iface.rx[qid].recv_nowait() as burst:
                events.extend(burst.tobytes())

        options = {"on_connect": connected, "on_disconnect": disconnected, "on_interrupt": interrupted, "name": "m"}
        async with linked(socket_path, master=options) as (server, client):
            client.tx[0].send([b"one", b"two"])
            async with asyncio.timeout(5):
                while len(events) < 3:
                    await asyncio.sleep(0.001)
            client.disconnect("enough")
            async with asyncio.timeout(5):
                while server.up:
                    await asyncio.sleep(0.001)
        return events

    events = run(main())
    assert sorted(map(str, events[:3])) == sorted(map(str, [("up", "m"), b"one", b"two"]))
    assert events[3] == ("down", "m")


@pytest.mark.parametrize("kind", ["function", "coroutine"])
def test_errors_of_callbacks_go_to_the_loop(run: Run, socket_path: str, kind: str) -> None:
    """A callback that raises does not take the link, or anybody else's call, with it."""
    seen: list[dict[str, Any]] = []

    def function(iface: memif.aio.Interface) -> None:
        raise KeyError("mine")

    async def coroutine(iface: memif.aio.Interface) -> None:
        raise KeyError("mine")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: seen.append(context))
        on_connect: Callable[..., Any] = function if kind == "function" else coroutine
        async with linked(socket_path, slave={"on_connect": on_connect}) as (server, client):
            client.tx[0].send([b"x"])
            (await server.rx[0].recv(timeout=1.0)).release()
            await asyncio.sleep(0.01)

    run(main())
    assert [repr(context["exception"]) for context in seen] == ["KeyError('mine')"]


@pytest.mark.usefixtures("no_second_look")
def test_reconnect_uses_the_same_queues(run: Run, socket_path: str) -> None:
    """After a disconnect the slave comes back by itself and its queue objects go on."""

    async def main() -> None:
        async with linked(socket_path) as (server, client):
            rx, tx = server.rx[0], client.tx[0]
            for _ in range(3):
                server.disconnect("again")
                assert not server.up
                await asyncio.gather(server.wait_up(3.0), _wait_reconnect(client))
                assert tx.send([b"back"]) == 1
                with await rx.recv(timeout=1.0) as burst:
                    assert burst.tobytes() == [b"back"]
            assert client.stats["connects"] == 4

    run(main())


async def _wait_reconnect(client: memif.aio.Interface) -> None:
    before = client.stats["connects"]
    while client.stats["connects"] == before:
        await asyncio.sleep(0.001)


def test_connect_by_hand(run: Run, socket_path: str) -> None:
    """With reconnect=None the slave waits for connect()."""

    async def main() -> None:
        async with memif.aio.listen(socket_path) as server, memif.aio.Socket(socket_path) as sock:
            client = sock.interface(reconnect=None)
            await asyncio.sleep(0.01)
            assert not server.up
            client.connect()
            await client.wait_up(1.0)
            with pytest.raises(memif.MemifStateError):
                client.connect()

    run(main())


def test_connect_makes_a_single_attempt(run: Run, socket_path: str) -> None:
    """With reconnect=None `connect` tries once, and tells at once when that fails."""

    async def main() -> None:
        with pytest.raises(memif.MemifFileNotFoundError):
            await memif.aio.connect(socket_path, reconnect=None)
        async with (
            memif.aio.listen(socket_path),
            memif.aio.connect(socket_path, reconnect=None) as client,
        ):
            assert client.up

    run(main())


def test_needs_a_running_loop(socket_path: str) -> None:
    """Outside of a loop there is nothing to hang the socket on: an error, and nothing left open."""
    with pytest.raises(RuntimeError, match="no running event loop"):
        memif.aio.Socket(socket_path)
