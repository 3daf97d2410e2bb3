"""The eight control messages of memif 2.0 and their 128 bytes on the socket.

Each message is a frozen dataclass. Building one checks only that every field fits its place on the wire. Whether a
value makes sense at this moment (a version, a ring index) is for the handshake to judge, because a message from a peer
must be representable before it can be refused.

Every message travels as one datagram of `MESSAGE_SIZE` bytes: the type as a little-endian 16-bit number, the fields
without padding, zeros up to the end. File descriptors are sent with the bytes and are not part of a message.

Text from a peer is not trusted. It ends at the first NUL or at the end of its field. Each byte or character that cannot
be printed (invalid UTF-8, terminal escapes, line breaks) is replaced by ``?``, so that the text can be logged and shown
as it is.
"""

import enum
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, ClassVar, Final, Self

from memif.errors import ErrorCode, MemifProtocolError, MemifValueError

#: Bytes in every datagram.
MESSAGE_SIZE = 128
#: Protocol version 2.0, as ``major << 8 | minor``.
VERSION = 0x0200
#: First word of each ring in shared memory.
COOKIE = 0x03E31F20
#: Highest region number that we announce; a limit in HELLO is the last allowed index, not a count.
MAX_REGION = 255
#: Highest ring number of one direction that we announce.
MAX_RING = 255
#: Largest log2 of the number of descriptors in a ring.
MAX_LOG2 = 14
#: Bytes of a name, of the secret and of the disconnect text that are left before the closing NUL.
NAME_BYTES, SECRET_BYTES, REASON_BYTES = 31, 23, 95


class MessageType(enum.IntEnum):
    """The number at the start of each message."""

    ACK = 1
    HELLO = 2
    INIT = 3
    ADD_REGION = 4
    ADD_RING = 5
    CONNECT = 6
    CONNECTED = 7
    DISCONNECT = 8


class Mode(enum.IntEnum):
    """What a packet starts with: an Ethernet header, an IP header, or the punt/inject format of VPP."""

    ETHERNET = 0
    IP = 1
    PUNT_INJECT = 2


def version_text(version: int) -> str:
    """Return a version as people write it: "2.0" for 0x0200."""
    return f"{version >> 8}.{version & 0xFF}"


def check_uint(name: str, value: int, maximum: int, minimum: int = 0) -> None:
    """Raise `MemifValueError` unless `value` is an int from `minimum` to `maximum`."""
    if not isinstance(value, int) or not minimum <= value <= maximum:
        raise MemifValueError.argument(name, value, f"an integer from {minimum} to {maximum}")


def check_text(name: str, value: str, maximum: int) -> None:
    """Raise `MemifValueError` unless `value` is printable text of at most `maximum` bytes in UTF-8."""
    if not isinstance(value, str) or not value.isprintable() or len(value.encode()) > maximum:
        raise MemifValueError.argument(name, value, f"printable text of at most {maximum} bytes")


def check_secret(name: str, value: bytes, maximum: int = SECRET_BYTES) -> None:
    """Raise `MemifValueError`, which does not show the value, unless it has at most `maximum` bytes and no NUL."""
    if not isinstance(value, bytes) or b"\0" in value or len(value) > maximum:
        raise MemifValueError(f"argument {name}: allowed: at most {maximum} bytes, none of them zero")


def clean_text(raw: bytes, maximum: int) -> str:
    """Return the bytes of a text field as printable text of at most `maximum` bytes; see this module's text."""
    text = raw.partition(b"\0")[0][:maximum].decode("utf-8", "surrogateescape")
    # One character takes at least one byte, so "?" never makes the text longer.
    return "".join(character if character.isprintable() else "?" for character in text)


def _fit(text: str, maximum: int) -> str:
    """Cut `text` to `maximum` bytes without leaving half a character."""
    raw = text.encode("utf-8", "replace")
    return clean_text(raw[:maximum].decode("utf-8", "ignore").encode(), maximum)


def _read_text(raw: bytes) -> str:
    return clean_text(raw, len(raw) - 1)


def _read_secret(raw: bytes) -> bytes:
    # A peer may fill the field to the last byte. Names lose that byte; a secret must not.
    return raw.partition(b"\0")[0]


def _read_direction(flags: int) -> bool:
    return bool(flags & 1)  # the other bits of this flags word are not assigned


_READERS: Final[dict[str, Callable[[Any], Any]]] = {"s2m": _read_direction, "secret": _read_secret}
_TOPS: Final[dict[str, int]] = {"s2m": 1}


class Layout:
    """The fields of one message on the wire. Made once for each message type.

    Args:
        **codes: The ``struct`` code of each field, in the order of the wire.

    Attributes:
        struct: The type and all fields.
        offsets: Byte at which each field starts, by its name.
        readers: What turns each field into a value of the message; None where it is one already.
        numbers: Name and highest value of each number.
        texts: Name of each text, its check, and the most bytes it may have.
    """

    __slots__ = ("numbers", "offsets", "readers", "struct", "texts")

    def __init__(self, **codes: str) -> None:
        sizes = {name: struct.calcsize(code) for name, code in codes.items()}
        raw = [name for name, code in codes.items() if code.endswith("s")]
        self.struct: struct.Struct = struct.Struct("<H" + "".join(codes.values()))
        self.offsets: dict[str, int] = dict(zip(codes, accumulate(sizes.values(), initial=2), strict=False))
        self.readers: tuple[Callable[[Any], Any] | None, ...] = tuple(
            _READERS.get(name, _read_text if name in raw else None) for name in codes
        )
        self.numbers: tuple[tuple[str, int], ...] = tuple(
            (name, _TOPS.get(name, (1 << 8 * sizes[name]) - 1)) for name in codes if name not in raw
        )
        self.texts: tuple[tuple[str, Callable[[str, Any, int], None], int], ...] = tuple(
            (name, check_secret, sizes[name]) if name == "secret" else (name, check_text, sizes[name] - 1)
            for name in raw
        )


class _Wire:
    """What all messages share: checking, encoding and decoding the fields by `LAYOUT`."""

    __slots__ = ()

    #: Number of the message.
    TYPE: ClassVar[MessageType]
    #: Its fields in the order of the wire.
    LAYOUT: ClassVar[Layout]

    def __post_init__(self) -> None:
        for name, top in self.LAYOUT.numbers:
            value = getattr(self, name)
            if not isinstance(value, int) or not 0 <= value <= top:
                check_uint(name, value, top)
        for name, check, size in self.LAYOUT.texts:
            check(name, getattr(self, name), size)

    def _pack(self) -> bytes:
        values = [getattr(self, name) for name in self.LAYOUT.offsets]
        raw = [value.encode() if isinstance(value, str) else value for value in values]
        return self.LAYOUT.struct.pack(self.TYPE, *raw).ljust(MESSAGE_SIZE, b"\0")

    @classmethod
    def _unpack(cls, data: bytes) -> Self:
        layout = cls.LAYOUT
        _, *values = layout.struct.unpack_from(data)
        fields = zip(layout.offsets, layout.readers, values, strict=True)
        return cls(**{name: raw if read is None else read(raw) for name, read, raw in fields})


@dataclass(frozen=True, slots=True)
class Ack(_Wire):
    """The master accepts one INIT, ADD_REGION or ADD_RING."""

    TYPE: ClassVar[MessageType] = MessageType.ACK
    LAYOUT: ClassVar[Layout] = Layout()


@dataclass(frozen=True, slots=True)
class Hello(_Wire):
    """The master's first message: program name, versions it speaks, and limits, each the highest allowed index."""

    TYPE: ClassVar[MessageType] = MessageType.HELLO
    LAYOUT: ClassVar[Layout] = Layout(
        name="32s",
        min_version="H",
        max_version="H",
        max_region="H",
        max_m2s_ring="H",
        max_s2m_ring="H",
        max_log2_ring_size="B",
    )
    name: str = ""
    min_version: int = VERSION
    max_version: int = VERSION
    max_region: int = MAX_REGION
    max_m2s_ring: int = MAX_RING
    max_s2m_ring: int = MAX_RING
    max_log2_ring_size: int = MAX_LOG2


@dataclass(frozen=True, slots=True)
class Init(_Wire):
    """The slave asks for interface `id`. `name` is its program's name. ``repr()`` does not show the secret."""

    TYPE: ClassVar[MessageType] = MessageType.INIT
    LAYOUT: ClassVar[Layout] = Layout(version="H", id="I", mode="B", secret="24s", name="32s")
    id: int
    mode: int = Mode.ETHERNET
    secret: bytes = field(default=b"", repr=False)
    name: str = ""
    version: int = VERSION


@dataclass(frozen=True, slots=True)
class AddRegion(_Wire):
    """The slave offers memory region number `index` of `size` bytes. The memory's descriptor is sent with it."""

    TYPE: ClassVar[MessageType] = MessageType.ADD_REGION
    LAYOUT: ClassVar[Layout] = Layout(index="H", size="Q")
    index: int
    size: int


@dataclass(frozen=True, slots=True)
class AddRing(_Wire):
    """The slave offers a ring: direction, number in that direction, place in a region. Its eventfd is sent with it."""

    TYPE: ClassVar[MessageType] = MessageType.ADD_RING
    LAYOUT: ClassVar[Layout] = Layout(
        s2m="H", index="H", region="H", offset="I", log2_ring_size="B", private_hdr_size="H"
    )
    s2m: bool
    index: int
    region: int
    offset: int
    log2_ring_size: int
    private_hdr_size: int = 0


@dataclass(frozen=True, slots=True)
class Connect(_Wire):
    """The slave has offered everything. `if_name` is its interface's name."""

    TYPE: ClassVar[MessageType] = MessageType.CONNECT
    LAYOUT: ClassVar[Layout] = Layout(if_name="32s")
    if_name: str = ""


@dataclass(frozen=True, slots=True)
class Connected(_Wire):
    """The master has mapped everything and the link is up. `if_name` is its interface's name."""

    TYPE: ClassVar[MessageType] = MessageType.CONNECTED
    LAYOUT: ClassVar[Layout] = Layout(if_name="32s")
    if_name: str = ""


@dataclass(frozen=True, slots=True)
class Disconnect(_Wire):
    """Either side ends the connection. Only `reason` is useful: each implementation fills `code` in its own way."""

    TYPE: ClassVar[MessageType] = MessageType.DISCONNECT
    LAYOUT: ClassVar[Layout] = Layout(code="I", reason="96s")
    code: int = 0
    reason: str = ""

    @classmethod
    def because(cls, reason: str, code: int = 0) -> Self:
        """Build the message from any text. Characters that cannot be printed are replaced; too long a text is cut."""
        return cls(code=code, reason=_fit(reason, REASON_BYTES))


Message = Ack | Hello | Init | AddRegion | AddRing | Connect | Connected | Disconnect

_CLASSES: dict[int, type[Message]] = {
    kind.TYPE: kind for kind in (Ack, Hello, Init, AddRegion, AddRing, Connect, Connected, Disconnect)
}


def encode(message: Message) -> bytes:
    """Return the `MESSAGE_SIZE` bytes of `message`. Never fails, because messages are checked when they are built."""
    return message._pack()


def decode(data: bytes) -> Message:
    """Decode one datagram.

    Raises:
        MemifProtocolError: when the length is wrong (code `ErrorCode.MFMSG`) or the type is unknown
            (`ErrorCode.UNKNOWN_MSG`). Everything else decodes to a message.
    """
    if len(data) != MESSAGE_SIZE:
        raise MemifProtocolError(f"malformed message received ({len(data)} bytes)", code=ErrorCode.MFMSG)
    number = int.from_bytes(data[:2], "little")
    kind = _CLASSES.get(number)
    if kind is None:
        raise MemifProtocolError(f"unknown message type (0x{number:x})", code=ErrorCode.UNKNOWN_MSG)
    return kind._unpack(data)
