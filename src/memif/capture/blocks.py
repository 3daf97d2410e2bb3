"""pcapng blocks as bytes: headers, options, and where blocks end. Pure functions, always little-endian.

A block is: type u32, total length u32, body, total length u32 again; all padded to 4 bytes. Options are
(code u16, length u16, value, padding) and end with code 0.
"""

import struct
from collections.abc import Iterable
from typing import Final

from .packet import Direction

SHB: Final = 0x0A0D0D0A
IDB: Final = 1
OBSOLETE_PACKET: Final = 2
SPB: Final = 3
ISB: Final = 5
EPB: Final = 6

BYTE_ORDER_MAGIC: Final = 0x1A2B3C4D

OPT_COMMENT: Final = 1
SHB_HARDWARE: Final = 2
SHB_OS: Final = 3
SHB_USERAPPL: Final = 4
IF_NAME: Final = 2
IF_DESCRIPTION: Final = 3
IF_TSRESOL: Final = 9
IF_TSOFFSET: Final = 14
EPB_FLAGS: Final = 2
ISB_STARTTIME: Final = 2
ISB_ENDTIME: Final = 3
ISB_IFRECV: Final = 4
ISB_IFDROP: Final = 5

_FRAME = struct.Struct("<II")
_OPTION = struct.Struct("<HH")
_U32 = struct.Struct("<I")

#: Type, total length, interface, time (high, low), kept length, original length.
EPB_HEADER = struct.Struct("<7I")

#: Bits 0 and 1 of epb_flags.
DIRECTION_FLAGS: Final[dict[Direction, int]] = {"unknown": 0, "in": 1, "out": 2}

#: Zero bytes that round a length up to 4, by length modulo 4.
PADDING: Final = (b"", b"\0\0\0", b"\0\0", b"\0")


def option(code: int, value: bytes) -> bytes:
    """Return one option, padded; values over 65535 bytes are cut."""
    value = value[:0xFFFF]
    return _OPTION.pack(code, len(value)) + value + PADDING[len(value) & 3]


def text_options(pairs: Iterable[tuple[int, str]]) -> bytes:
    """Return options for the non-empty texts of `pairs` of (code, text)."""
    return b"".join(option(code, _utf8(text)) for code, text in pairs if text)


def _utf8(text: str) -> bytes:
    if not isinstance(text, str):
        raise TypeError(f"names, descriptions and comments are texts, got {text!r}")
    return text.encode("utf-8", "replace")


def block(kind: int, body: bytes, options: bytes = b"") -> bytes:
    """Return a whole block; `body` must be padded, `options` are closed here."""
    if options:
        options += _OPTION.pack(0, 0)
    total = 12 + len(body) + len(options)
    return _FRAME.pack(kind, total) + body + options + _U32.pack(total)


def section_header(hardware: str, os: str, application: str, comment: str) -> bytes:
    """Return a section header of version 1.0 and unknown length."""
    body = struct.pack("<IHHq", BYTE_ORDER_MAGIC, 1, 0, -1)
    pairs = [(SHB_HARDWARE, hardware), (SHB_OS, os), (SHB_USERAPPL, application), (OPT_COMMENT, comment)]
    return block(SHB, body, text_options(pairs))


def interface_description(linktype: int, snaplen: int, name: str, description: str) -> bytes:
    """Return an interface description whose times count nanoseconds."""
    options = text_options([(IF_NAME, name), (IF_DESCRIPTION, description)]) + option(IF_TSRESOL, b"\x09")
    return block(IDB, struct.pack("<HHI", linktype, 0, snaplen), options)


def split_time(ns: int) -> tuple[int, int]:
    """Return `ns` as the two 32-bit halves of a pcapng time, high half first."""
    return ns >> 32, ns & 0xFFFFFFFF


def interface_statistics(interface: int, start_ns: int, end_ns: int, received: int, dropped: int) -> bytes:
    """Return the counters of an interface: `received` are all packets seen, `dropped` those not in the
    file."""
    options = b"".join(
        (
            option(ISB_STARTTIME, struct.pack("<II", *split_time(start_ns))),
            option(ISB_ENDTIME, struct.pack("<II", *split_time(end_ns))),
            option(ISB_IFRECV, struct.pack("<Q", received)),
            option(ISB_IFDROP, struct.pack("<Q", dropped)),
        )
    )
    return block(ISB, struct.pack("<III", interface, *split_time(end_ns)), options)


def packet_tail(data_length: int, direction: Direction, comment: str = "") -> tuple[bytes, int]:
    """Return what follows `data_length` bytes of packet data in an EPB, and the block's total length."""
    flags = DIRECTION_FLAGS[direction]
    options = option(EPB_FLAGS, _U32.pack(flags)) if flags else b""
    if comment:
        options += text_options([(OPT_COMMENT, comment)])
    if options:
        options += _OPTION.pack(0, 0)
    padding = PADDING[data_length & 3]
    total = EPB_HEADER.size + data_length + len(padding) + len(options) + 4
    return padding + options + _U32.pack(total), total


def whole_blocks(data: bytes | memoryview, limit: int) -> int:
    """Return how many bytes of the concatenated blocks `data` are whole blocks within its first `limit`
    bytes."""
    end = 0
    while end + 8 <= len(data):
        total = _U32.unpack_from(data, end + 4)[0]
        if end + total > limit:
            break
        end += total
    return end


def first_block_length(data: bytes | memoryview) -> int:
    """Return the total length of the block that `data` starts with."""
    return int(_U32.unpack_from(data, 4)[0])


#: Bytes of the block that `interface_statistics` returns.
STATISTICS_SIZE: Final = len(interface_statistics(0, 0, 0, 0, 0))
