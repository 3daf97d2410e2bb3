"""Arguments of interfaces and sockets: what is wrong is refused at once, by an error that says what is allowed."""

import asyncio
from typing import Any

import pytest

import memif
import memif.aio
from memif.config import InterfaceConfig
from memif.protocol import Mode, Role

make = InterfaceConfig.make

WRONG: list[tuple[str, Any, str]] = [
    ("id", -1, "0 to 4294967295"),
    ("id", 2**32, "0 to 4294967295"),
    ("id", 1.5, "whole number"),
    ("id", True, "whole number"),
    ("id", "0", "whole number"),
    ("role", "Slave", "'slave', 'client', 'master', 'server'"),
    ("role", None, "'slave'"),
    ("role", ["slave"], "'slave'"),
    ("mode", "ether", "'ethernet', 'ip', 'punt/inject'"),
    ("mode", 1, "'ethernet'"),
    ("name", "x" * 32, "31 bytes"),
    ("name", "é" * 16, "31 bytes"),
    ("name", "a\0b", "31 bytes"),
    ("name", "two\nlines", "printable"),
    ("name", "\udc80", "31 bytes"),
    ("name", b"bytes", "31 bytes"),
    ("rx_queues", 256, "0 to 255"),
    ("tx_queues", -1, "0 to 255"),
    ("ring_size", 1, "2 to 16384"),
    ("ring_size", 32768, "2 to 16384"),
    ("ring_size", 1000, "power of two"),
    ("ring_size", 1024.0, "whole number"),
    ("buffer_size", 63, "64 to 65535"),
    ("buffer_size", 65536, "64 to 65535"),
    ("headroom", -1, "0 to 2047"),
    ("headroom", 2048, "0 to 2047"),
    ("rx_mode", "poll", "'interrupt', 'polling', 'adaptive'"),
    ("layout", "double", "'single', 'split'"),
    ("cache_line", 32, "64 or 128"),
    ("cache_line", "64", "64 or 128"),
    ("allocator", object(), "allocate"),
    ("seal", "none", "'add', 'require'"),
    ("max_region_bytes", 0, "1 to"),
    ("reconnect", -1, "seconds"),
    ("reconnect", float("nan"), "seconds"),
    ("reconnect", float("inf"), "seconds"),
    ("reconnect", "soon", "seconds"),
    ("on_connect", 1, "something to call"),
    ("on_disconnect", "f", "something to call"),
    ("on_interrupt", (), "something to call"),
    ("authorize", True, "something to call"),
]


@pytest.mark.parametrize(("argument", "value", "allowed"), WRONG)
def test_wrong_argument(argument: str, value: Any, allowed: str) -> None:
    with pytest.raises(memif.MemifValueError) as caught:
        make(**{argument: value})
    text = str(caught.value)
    assert argument in text
    assert allowed in text
    assert str(value) in text or repr(value) in text
    assert isinstance(caught.value, ValueError)
    assert caught.value.code is memif.ErrorCode.INVAL_ARG


@pytest.mark.parametrize("secret", ["x" * 24, "é" * 12, b"x" * 24, b"a\0", "a\0", 5, bytearray(b"x")])
def test_wrong_secret_is_never_shown(secret: Any) -> None:
    with pytest.raises(memif.MemifValueError, match=r"secret.*23 bytes") as caught:
        make(secret=secret)
    assert "xxx" not in str(caught.value)
    assert "é" not in str(caught.value)


def test_secret_is_not_in_the_repr() -> None:
    assert "s3cret" not in repr(make(secret="s3cret"))


@pytest.mark.parametrize(
    ("word", "role"),
    [("slave", Role.SLAVE), ("client", Role.SLAVE), ("master", Role.MASTER), ("server", Role.MASTER)],
)
def test_roles(word: str, role: Role) -> None:
    assert make(role=word).role is role


@pytest.mark.parametrize(("word", "mode"), [("ethernet", Mode.ETHERNET), ("ip", Mode.IP), ("punt/inject", 2)])
def test_modes(word: str, mode: int) -> None:
    assert make(mode=word).mode == mode


def test_limits_are_allowed() -> None:
    config = make(
        id=2**32 - 1, name="x" * 31, secret="x" * 23, rx_queues=255, tx_queues=0, ring_size=16384, buffer_size=65535,
        headroom=65534, cache_line=128, reconnect=0,
    )  # fmt: skip
    assert (config.log2_ring_size, config.secret, config.reconnect) == (14, b"x" * 23, 0.0)
    assert make(ring_size=2).log2_ring_size == 1
    assert make(reconnect=None).reconnect is None


def test_name_follows_the_id() -> None:
    assert make(id=7).name == "memif7"
    assert make(id=7, name="").name == ""


def test_index_objects_are_numbers() -> None:
    numpy = pytest.importorskip("numpy", reason="numpy is missing: pip install numpy")
    assert make(id=numpy.uint32(7), ring_size=numpy.int64(256)).log2_ring_size == 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"app_name": "x" * 32}, "app_name.*31 bytes"),
        ({"mode": 0o1777}, "mode.*0 to 511"),
        ({"mode": "rw"}, "mode.*whole number"),
        ({"handshake_timeout": None}, "handshake_timeout.*seconds"),
        ({"handshake_timeout": -1}, "handshake_timeout.*seconds"),
        ({"max_pending": 0}, "max_pending.*1 to 4096"),
        ({"owner": 5}, "owner"),
        ({"owner": ("root", "root")}, "owner"),
        ({"owner": (1, 2, 3)}, "owner"),
    ],
)
def test_wrong_argument_of_a_socket(socket_path: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(memif.MemifValueError, match=message):
        memif.Socket(socket_path, **options)


@pytest.mark.parametrize("path", ["", "@", "x" * 108, "a\0b", 5])
def test_wrong_socket_name(path: Any) -> None:
    with pytest.raises(memif.MemifValueError, match="argument path"):
        memif.Socket(path)


@pytest.mark.parametrize("role", ["slave", "master"])
def test_no_queues_at_all(role: str) -> None:
    with pytest.raises(memif.MemifValueError, match=r"tx_queues.*rx_queues is 0 too"):
        make(role=role, rx_queues=0, tx_queues=0)
    assert make(role=role, rx_queues=0, tx_queues=1).rx_queues == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rings": 3}, r"unknown argument rings=3: .*ring_size"),
        ({"idd": 3}, r"unknown argument idd=3: did you mean id\?"),
        ({"ring_sise": 64}, r"ring_sise=64: did you mean ring_size\?"),
        ({"timeut": 1}, r"timeut=1: did you mean timeout\?"),
        ({"secrets": "s3cret"}, r"secrets=\(hidden\): did you mean secret\?"),
        ({"xyzzy": None}, r"xyzzy=None: there are id, role, mode, .*, ring_size"),
    ],
)
def test_unknown_option(socket_path: str, options: dict[str, Any], message: str) -> None:
    with memif.Socket(socket_path) as socket:
        for call in (memif.connect, memif.listen, lambda path, **more: socket.interface(**more)):
            with pytest.raises(TypeError, match=message) as caught:
                call(socket_path, **options)
            assert "InterfaceConfig" not in str(caught.value)
            assert "s3cret" not in str(caught.value)


def test_unknown_option_of_asyncio(socket_path: str) -> None:
    async def run() -> None:
        for call in (memif.aio.connect, memif.aio.listen):
            with pytest.raises(TypeError, match=r"unknown argument idd=3: did you mean id\?"):
                await call(socket_path, idd=3)

    asyncio.run(run())


@pytest.mark.parametrize("timeout", [-1, float("nan"), "soon", 2e9])
def test_wrong_timeouts(socket_path: str, timeout: Any) -> None:
    with pytest.raises(memif.MemifValueError, match="timeout"):
        memif.connect(socket_path, timeout=timeout)
    with memif.listen(socket_path) as iface:
        with pytest.raises(memif.MemifValueError, match="timeout"):
            iface.wait_up(timeout)
        with pytest.raises(memif.MemifValueError, match="timeout"):
            iface.socket.poll(timeout)


def test_nothing_is_left_of_a_refused_argument(socket_path: str) -> None:
    """The leak check after the test tells."""
    for call in (memif.connect, memif.listen):
        with pytest.raises(memif.MemifValueError):
            call(socket_path, ring_size=3)
