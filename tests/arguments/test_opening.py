"""Wrong arguments of what opens and closes: sockets, interfaces, both APIs, memory, `wait`, `memif.testing`."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

import memif
import memif.aio
from arguments.refusals import CALLBACK, HUGE, INF, NAN, NUMBER, SECONDS, TEXT, WORD, cells, refused
from memif.testing import pair, pump, unused_name

OPTIONS: dict[str, tuple[Any, ...]] = {
    "id": (*NUMBER, None, True, -1, 2**32),
    "role": WORD,
    "mode": (*WORD, 0),
    "name": (*TEXT, "x" * 32, "a\nb", "ä" * 16),
    "rx_queues": (*NUMBER, -1, 256, True),
    "tx_queues": (*NUMBER, -1, 256, True),
    "ring_size": (*NUMBER, None, 0, 1, 1000, 32768, True),
    "buffer_size": (*NUMBER, None, 63, 65536),
    "headroom": (*NUMBER, None, -1, 2048, True),
    "rx_mode": WORD,
    "layout": WORD,
    "cache_line": (0, 32, "64", 64.0, True),
    "allocator": (5, "hugepages", object()),
    "seal": WORD,
    "max_regions": (*NUMBER, None, 0, -1, 2**16 + 1),
    "max_region_bytes": (*NUMBER, None, 0, -1, 2**60),
    "reconnect": (*SECONDS, INF, True),
    "on_connect": CALLBACK,
    "on_disconnect": CALLBACK,
    "on_interrupt": CALLBACK,
    "authorize": CALLBACK,
}
PATH = (5, 1.5, ["a"], "", b"", "x" * 108, "a\0b", "@", "@a\0", "unix:/a", object(), True)
OWNER = (5, "root", (1,), (1, 2, 3), (-2, 0), (0, HUGE), ("a", "b"), (NAN, 0), (None, None))
FILE_MODE = (*NUMBER, -1, 0o1000, True)
OF_SOCKET: dict[str, tuple[Any, ...]] = {
    "path": PATH,
    "app_name": (*TEXT, None, "x" * 32, "a\0b"),
    "handshake_timeout": (*SECONDS, INF, None),
}
SECRETS = (12345, 1.2345, ["hush"], b"x" * 24, "y" * 24, b"a\0b")


def open_socket(path: Any = "@never", **options: Any) -> None:
    memif.Socket(path, **options).close()


def connect(path: Any = "@never", **options: Any) -> None:
    memif.connect(path, **{"timeout": 0, **options}).close()


def listen(path: Any = None, **options: Any) -> None:
    memif.listen(unused_name() if path is None else path, **options).close()


def interface(**options: Any) -> None:
    with memif.Socket(unused_name()) as socket:
        socket.interface(**options)


def aio_connect(path: Any = "@never", **options: Any) -> None:
    async def run() -> None:
        await memif.aio.connect(path, **{"timeout": 0, **options})

    asyncio.run(run())


def aio_listen(path: Any = None, **options: Any) -> None:
    async def run() -> None:
        (await memif.aio.listen(unused_name() if path is None else path, **options)).close()

    asyncio.run(run())


def aio_socket(path: Any = "@never", **options: Any) -> None:
    async def run() -> None:
        memif.aio.Socket(path, **options).close()

    asyncio.run(run())


def aio_interface(**options: Any) -> None:
    async def run() -> None:
        async with memif.aio.Socket(unused_name()) as socket:
            socket.interface(**options)

    asyncio.run(run())


def two_ends(path: Any = None, **options: Any) -> None:
    with pair(path, **options):
        pass


PROFILE = {"profile": (5, b"lab", "no-such-profile", "")}
FILE = {"socket_mode": FILE_MODE, "socket_owner": OWNER}
OPENED = {
    "Socket": (open_socket, {**OF_SOCKET, "mode": FILE_MODE, "owner": OWNER, "max_pending": (*NUMBER, None, 0, 4097)}),
    "connect": (connect, {**OPTIONS, **OF_SOCKET, **PROFILE, "timeout": (*SECONDS, INF)}),
    "listen": (listen, {**OPTIONS, **OF_SOCKET, **PROFILE, **FILE}),
    "interface": (interface, OPTIONS),
    "aio.Socket": (aio_socket, {**OF_SOCKET, "mode": FILE_MODE, "owner": OWNER, "max_pending": (*NUMBER, None)}),
    "aio.connect": (aio_connect, {**OPTIONS, **OF_SOCKET, **PROFILE, "timeout": (*SECONDS, INF)}),
    "aio.listen": (aio_listen, {**OPTIONS, **OF_SOCKET, **PROFILE, **FILE}),
    "aio.interface": (aio_interface, OPTIONS),
    "pair": (two_ends, {**OPTIONS, "path": PATH, "timeout": (*SECONDS, None), "master": (5, "a"), "slave": (5, "a")}),
    "pump": (lambda timeout: pump(until=lambda: True, timeout=timeout), {"timeout": (*SECONDS, None)}),
    "MemfdAllocator": (memif.MemfdAllocator, {"name": (*TEXT, None)}),
    "HugepageAllocator": (
        memif.HugepageAllocator,
        {"name": (*TEXT, None), "page_size": (*NUMBER, None, 0, 4096, 3 << 20)},
    ),
}
OPENED["pair"][1].pop("role")


@pytest.mark.parametrize(("call", "argument", "values"), cells(OPENED))
def test_opening(call: Any, argument: str, values: Sequence[object]) -> None:
    for value in values:
        with refused(argument, value):
            call(**{argument: value})


@pytest.mark.parametrize("call", [connect, listen, interface, aio_connect, aio_listen, aio_interface, two_ends])
def test_a_secret_is_not_shown(call: Any) -> None:
    for value in SECRETS:
        with refused("secret", value, hidden=True):
            call(secret=value)


@pytest.mark.parametrize("call", [connect, listen, interface, aio_connect, aio_listen, aio_interface, two_ends])
def test_an_unknown_argument_is_named_too(call: Any) -> None:
    with pytest.raises(memif.MemifTypeError, match="unknown argument ringsize=64: did you mean ring_size"):
        call(ringsize=64)


def test_no_queues_at_all() -> None:
    with refused("tx_queues", 0):
        interface(rx_queues=0, tx_queues=0)


# -- what is open


@pytest.fixture
def ends() -> Iterator[tuple[memif.Interface, memif.Interface]]:
    with pair() as both:
        yield both


USED = {
    "wait_up": (lambda i, **a: i.wait_up(**a), {"timeout": (*SECONDS, INF)}),
    "drain": (lambda i, **a: i.drain(**a), {"timeout": (*SECONDS, INF)}),
    "close": (lambda i, **a: i.close(**a), {"drain": (*SECONDS, INF, None, True)}),
    "disconnect": (lambda i, **a: i.disconnect(**a), {"reason": (*TEXT, None)}),
    "poll": (lambda i, **a: i.socket.poll(**a), {"timeout": (*SECONDS, INF, True)}),
    "Socket.interface": (lambda i, **a: i.socket.interface(role="master", **a), {"id": (0,)}),
    "wait": (
        lambda i, **a: memif.wait(**{"objects": [i], "timeout": 0, **a}),
        {"timeout": (*SECONDS, INF), "objects": (None, 5, [], (), [5], [None], "ab")},
    ),
}


@pytest.mark.parametrize(("call", "argument", "values"), cells(USED))
def test_open(ends: Any, call: Any, argument: str, values: Sequence[object]) -> None:
    for value in values:
        with refused(argument, value):
            call(ends[0], **{argument: value})
    assert ends[0].up
    assert ends[1].tx[0].send([b"still works"]) == 1


AIO_USED = {
    "wait_up": (lambda i, **a: i.wait_up(**a), {"timeout": (*SECONDS, INF)}),
    "drain": (lambda i, **a: i.drain(**a), {"timeout": (*SECONDS, INF)}),
    "close": (lambda i, **a: i.close(**a), {"drain": (*SECONDS, INF, None, True)}),
    "disconnect": (lambda i, **a: i.disconnect(**a), {"reason": (*TEXT, None)}),
    "wait": (
        lambda i, **a: memif.aio.wait(**{"objects": [i], "timeout": 0, **a}),
        {"timeout": (*SECONDS, INF), "objects": (None, 5, [], (), [5], [None], "ab")},
    ),
}


@pytest.mark.parametrize(("call", "argument", "values"), cells(AIO_USED))
def test_open_in_asyncio(call: Any, argument: str, values: Sequence[object]) -> None:
    async def run() -> None:
        name = unused_name()
        async with memif.aio.listen(name) as master, memif.aio.connect(name):
            await master.wait_up(5)
            for value in values:
                with refused(argument, value):
                    result = call(master, **{argument: value})
                    if hasattr(result, "__await__"):
                        await result
            assert master.up

    asyncio.run(run())


class Unshowable:
    """Its ``repr`` fails, as that of an integer of ten thousand digits does."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize("value", [Unshowable(), 10**10_000, -(10**10_000)], ids=["object", "large", "small"])
@pytest.mark.parametrize("argument", ["id", "reconnect", "path", "app_name"])
def test_a_value_that_cannot_be_shown(argument: str, value: object) -> None:
    with pytest.raises(memif.MemifValueError, match=rf"argument {argument}: got <\w+>, allowed"):
        listen(**{argument: value})


def test_a_long_value_is_cut() -> None:
    with pytest.raises(memif.MemifValueError) as caught:
        listen(id=b"x" * 1_000_000)
    assert len(str(caught.value)) < 500
