"""The 128-byte messages: golden bytes counted by hand, round trips, hostile input."""

import dataclasses
from collections.abc import Callable

import pytest
from hypothesis import given, strategies as st

from memif.errors import ErrorCode, MemifProtocolError, MemifValueError
from memif.protocol import wire
from memif.protocol.wire import (
    Ack,
    AddRegion,
    AddRing,
    Connect,
    Connected,
    Disconnect,
    Hello,
    Init,
    Message,
    decode,
    encode,
)
from protocol.strategies import MESSAGES


def padded(*parts: bytes) -> bytes:
    return b"".join(parts).ljust(128, b"\0")


GOLDEN: list[tuple[Message, bytes]] = [
    (Ack(), padded(b"\x01\x00")),
    (
        Hello("vpp", 0x0200, 0x0200, 0x0102, 0x0304, 0x0506, 14),
        padded(
            b"\x02\x00",
            b"vpp".ljust(32, b"\0"),
            b"\x00\x02",
            b"\x00\x02",
            b"\x02\x01",
            b"\x04\x03",
            b"\x06\x05",
            b"\x0e",
        ),
    ),
    (
        Init(0x01020304, 1, b"pass", "app"),
        padded(b"\x03\x00", b"\x00\x02", b"\x04\x03\x02\x01", b"\x01", b"pass".ljust(24, b"\0"), b"app"),
    ),
    (
        AddRegion(0x0102, 0x0102030405060708),
        padded(b"\x04\x00", b"\x02\x01", b"\x08\x07\x06\x05\x04\x03\x02\x01"),
    ),
    (
        AddRing(True, 2, 3, 0x0A0B0C0D, 10, 0x0102),
        padded(b"\x05\x00", b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x0d\x0c\x0b\x0a", b"\x0a", b"\x02\x01"),
    ),
    (AddRing(False, 0, 0, 0, 1), padded(b"\x05\x00", b"\0" * 10, b"\x01")),
    (Connect("memif0/0"), padded(b"\x06\x00memif0/0")),
    (Connected("memif1/7"), padded(b"\x07\x00memif1/7")),
    (Disconnect(5, "bye"), padded(b"\x08\x00", b"\x05\x00\x00\x00", b"bye")),
]


@pytest.mark.parametrize(("message", "data"), GOLDEN, ids=lambda value: type(value).__name__)
def test_golden_bytes(message: Message, data: bytes) -> None:
    assert encode(message) == data
    assert decode(data) == message


@pytest.mark.parametrize(
    ("kind", "offsets"),
    [
        (Hello, [2, 34, 36, 38, 40, 42, 44, 45]),
        (Init, [2, 4, 8, 9, 33, 65]),
        (AddRegion, [2, 4, 12]),
        (AddRing, [2, 4, 6, 8, 12, 13, 15]),
        (Connect, [2, 34]),
        (Connected, [2, 34]),
        (Disconnect, [2, 6, 102]),
    ],
)
def test_offsets(kind: type[Message], offsets: list[int]) -> None:
    assert [*kind.LAYOUT.offsets.values(), kind.LAYOUT.struct.size] == offsets


@given(MESSAGES)
def test_round_trip(message: Message) -> None:
    data = encode(message)
    assert len(data) == 128
    assert decode(data) == message


@given(st.integers(1, 8), st.binary(min_size=126, max_size=126))
def test_any_bytes_of_a_known_type_are_a_message(number: int, body: bytes) -> None:
    message = decode(number.to_bytes(2, "little") + body)
    # What was cleaned up on the way in is stable from there on.
    assert decode(encode(message)) == message


@given(st.binary(max_size=300).filter(lambda data: len(data) != 128))
def test_wrong_length(data: bytes) -> None:
    with pytest.raises(MemifProtocolError, match="malformed message received") as caught:
        decode(data)
    assert caught.value.code is ErrorCode.MFMSG


@pytest.mark.parametrize("number", [0, 9, 0x0102, 0xFFFF])
def test_unknown_type(number: int) -> None:
    with pytest.raises(MemifProtocolError, match=rf"unknown message type \(0x{number:x}\)") as caught:
        decode(padded(number.to_bytes(2, "little")))
    assert caught.value.code is ErrorCode.UNKNOWN_MSG


def test_text_without_end_or_meaning() -> None:
    full = decode(padded(b"\x06\x00", b"x" * 32))
    assert full == Connect("x" * 31)
    odd = decode(padded(b"\x06\x00", b"a\xff\x1b[2J\nb"))
    assert odd == Connect("a??[2J?b")
    after = decode(padded(b"\x06\x00", b"name\0garbage"))
    assert after == Connect("name")


def test_a_secret_may_fill_its_field() -> None:
    init = decode(padded(b"\x03\x00", b"\x00\x02", b"\0" * 4, b"\0", b"s" * 24, b"n"))
    assert init == Init(0, 0, b"s" * 24, "n")


def test_unassigned_flags_of_a_ring_are_ignored() -> None:
    assert decode(padded(b"\x05\x00", b"\xfe\xff")) == AddRing(False, 0, 0, 0, 0)


@pytest.mark.parametrize(
    "build",
    [
        lambda: Hello("x" * 32),
        lambda: Hello("line\nbreak"),
        lambda: Hello("nul\0"),
        lambda: Hello("\udc80"),
        lambda: Hello(max_region=1 << 16),
        lambda: Hello(max_log2_ring_size=256),
        lambda: Init(-1),
        lambda: Init(1 << 32),
        lambda: Init(0, secret=b"a\0b"),
        lambda: Init(0, secret=b"x" * 25),
        lambda: Init(0, secret="text"),  # type: ignore[arg-type]
        lambda: AddRegion(0, 1 << 64),
        lambda: AddRegion("0", 1),  # type: ignore[arg-type]
        lambda: AddRing(True, 0, 0, 1 << 32, 1),
        lambda: AddRing(2, 0, 0, 0, 1),  # type: ignore[arg-type]
        lambda: Connect(b"bytes"),  # type: ignore[arg-type]
        lambda: Disconnect(0, "ö" * 48),
    ],
)
def test_a_message_can_not_be_built_wrong(build: Callable[[], Message]) -> None:
    with pytest.raises(MemifValueError):
        build()


def test_messages_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Connect("a").if_name = "b"  # type: ignore[misc]


def test_the_secret_is_never_shown() -> None:
    assert "hunter2" not in repr(Init(0, secret=b"hunter2"))
    with pytest.raises(MemifValueError) as caught:
        Init(0, secret=b"hunter2" * 5)
    assert "hunter2" not in str(caught.value)


@given(st.text(max_size=200))
def test_any_text_makes_a_disconnect(reason: str) -> None:
    message = Disconnect.because(reason)
    assert decode(encode(message)) == message
    if reason.isprintable() and len(reason.encode()) <= 95:
        assert message.reason == reason


def test_a_cut_leaves_no_half_character() -> None:
    assert Disconnect.because("ö" * 60).reason == "ö" * 47


def test_constants() -> None:
    assert (wire.VERSION, wire.COOKIE, wire.MESSAGE_SIZE) == (512, 0x3E31F20, 128)
    assert Hello() == Hello("", 512, 512, 255, 255, 255, 14)
