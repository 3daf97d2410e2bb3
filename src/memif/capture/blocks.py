"""pcapng blocks as bytes: headers, options, packets, and where blocks end. Always little-endian; no I/O.

A block is: type u32, total length u32, body, total length u32 again; all padded to 4 bytes. Options are
(code u16, length u16, value, padding) and end with code 0.

A whole burst becomes one piece of bytes, which is what makes a capture keep up with a ring: about half a microsecond a
packet for a list, far less for a matrix whose rows all have the same length.
"""

import struct
from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final

from memif.config import whole
from memif.errors import MemifTypeError, MemifValueError

from .packet import Direction

if TYPE_CHECKING:
    import numpy
    from typing_extensions import Buffer  # typing only: nothing to install

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
    """Return one option, padded. Values over 65535 bytes are cut."""
    value = value[:0xFFFF]
    return _OPTION.pack(code, len(value)) + value + PADDING[len(value) & 3]


def text_options(pairs: Iterable[tuple[int, str]]) -> bytes:
    """Return options for `pairs` of (code, text). Empty texts are left out."""
    return b"".join(option(code, _utf8(text)) for code, text in pairs if text)


def _utf8(text: str) -> bytes:
    if not isinstance(text, str):
        raise TypeError(f"names, descriptions and comments must be str, got {text!r}")
    return text.encode("utf-8", "replace")


def block(kind: int, body: bytes, options: bytes = b"") -> bytes:
    """Return a whole block. `body` must be padded; the end of `options` is added here."""
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
    """Return a block with the counters of an interface.

    Args:
        interface: Its number.
        start_ns: Start of the capture, in nanoseconds since 1970.
        end_ns: End of the capture.
        received: All packets seen.
        dropped: Packets that are not in the file.
    """
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
    """Return what follows `data_length` bytes of data in an enhanced packet block, and the block's total length."""
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
    """Return how many bytes of the blocks in `data` are whole blocks within its first `limit` bytes."""
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


#: The largest time and length that a block can hold.
MAX_TIME: Final = (1 << 64) - 1
MAX_LENGTH: Final = (1 << 32) - 1
_TIMES: Final = "one number, 0 to 2**64 - 1, or one for each packet"
#: Nanoseconds since 1970: one for all packets, or one for each.
Times = int | Iterable[int]


def encode_list(
    packets: "Sequence[Buffer]",
    times: Times,
    interface: int,
    direction: Direction,
    snaplen: int,
    originals: Iterable[int] | None = None,
    comment: str = "",
) -> bytes:
    """Return the blocks for a list of packets.

    Args:
        packets: Bytes-like objects. Each is cut to `snaplen` bytes.
        times: Nanoseconds since 1970: one for all packets, or one for each.
        interface: Number of the interface.
        direction: Direction of all packets.
        snaplen: The most bytes kept of a packet.
        originals: Lengths on the wire where they differ from those of the packets.
        comment: A comment on each packet.

    Raises:
        MemifTypeError: when a packet is not bytes-like.
        MemifValueError: when a time is not in 0..2**64-1, or the numbers of times and packets differ.
    """
    originals = None if originals is None else list(originals)
    if not isinstance(times, int):
        times = _listed(times, len(packets))
    try:
        blocks = _join(packets, times, interface, direction, snaplen, originals, comment)
    except (TypeError, BufferError):
        blocks = None
    if blocks is None:  # some object is not a contiguous run of bytes: copy it into one
        plains = [plain(packet, f"packets[{i}]") for i, packet in enumerate(packets)]
        _check_times(times)
        blocks = _join(plains, times, interface, direction, snaplen, originals, comment)
    assert blocks is not None
    return blocks


def _listed(times: Iterable[int], count: int) -> list[int]:
    try:
        listed = list(times)
    except TypeError:
        raise MemifTypeError.argument("timestamps_ns", times, _TIMES) from None
    if len(listed) != count:
        raise MemifValueError.argument("timestamps_ns", listed, f"one number, or {count}: one for each packet")
    return listed


def _check_times(times: "int | list[int]") -> None:
    """Raise `MemifValueError` for the first invalid time."""
    if isinstance(times, int):
        whole("timestamps_ns", times, 0, MAX_TIME)
        return
    for i, ns in enumerate(times):
        whole(f"timestamps_ns[{i}]", ns, 0, MAX_TIME)


def plain(packet: "Buffer", name: str) -> memoryview:
    """Return the bytes of any bytes-like object in logical order. Copies only what is not contiguous."""
    try:
        view = memoryview(packet)
    except TypeError:
        raise MemifTypeError.argument(name, packet, "a bytes-like object") from None
    return view.cast("B") if view.c_contiguous and view.nbytes else memoryview(view.tobytes())


def _join(
    packets: Sequence[Any],
    times: Times,
    interface: int,
    direction: Direction,
    snaplen: int,
    originals: list[int] | None,
    comment: str,
) -> bytes | None:
    """Return the blocks, or None if the count or size of what was joined differs from what ``len`` returned."""
    pack = EPB_HEADER.pack
    tails: dict[int, tuple[bytes, int]] = {}
    parts: list[Any] = []
    append = parts.append
    size = 0
    each_time = repeat(times) if isinstance(times, int) else times
    try:
        for data, ns, original in zip(packets, each_time, originals or map(len, packets), strict=False):
            length = len(data)
            if length > snaplen:
                data, length = data[:snaplen], snaplen
            if length not in tails:
                tails[length] = packet_tail(length, direction, comment)
            tail, total = tails[length]
            append(pack(EPB, total, interface, ns >> 32, ns & 0xFFFFFFFF, length, original))
            append(data)
            append(tail)
            size += total
    except struct.error:
        _check_times(times if isinstance(times, int) else list(times))
        raise MemifValueError.argument("lengths", originals, f"0 to {MAX_LENGTH} each") from None
    blocks = b"".join(parts)
    return blocks if len(blocks) == size and len(parts) == 3 * len(packets) else None


def encode_matrix(
    matrix: "numpy.ndarray[Any, Any]",
    lengths: "numpy.ndarray[Any, Any]",
    times: Times,
    interface: int,
    direction: Direction,
    snaplen: int,
    comment: str = "",
) -> bytes:
    """Return the blocks for the rows of a matrix.

    Args:
        matrix: uint8, shape (n, width). A row is cut to the smallest of its length, the width and `snaplen`.
        lengths: Lengths on the wire, shape (n,).
        times: Nanoseconds since 1970: one for all packets, or one for each.
        interface: Number of the interface.
        direction: Direction of all packets.
        snaplen: The most bytes kept of a packet.
        comment: A comment on each packet.

    Raises:
        MemifTypeError: when `matrix` or `lengths` is an array of another kind.
        MemifValueError: when shapes do not match, or a length or time is out of range.
    """
    import numpy as np

    from memif.packet.headers import check_lengths, check_matrix

    check_matrix(matrix)
    given, lengths = lengths, np.asarray(lengths)
    if not len(matrix) and not lengths.size:
        return b""
    check_lengths("lengths", lengths if lengths.dtype.kind in "ui" else given, len(matrix))
    if lengths.min() < 0 or lengths.max() > MAX_LENGTH:
        raise MemifValueError.argument("lengths", f"{lengths.min()} to {lengths.max()}", f"0 to {MAX_LENGTH}")
    kept = np.minimum(lengths, min(matrix.shape[1], snaplen)).astype(np.int64)
    if kept.min() == kept.max() and isinstance(times, (int, np.ndarray)):
        return _same_length(matrix[:, : kept[0]], lengths, times, interface, direction, comment)
    whole, width = memoryview(np.ascontiguousarray(matrix).data).cast("B"), matrix.shape[1]
    rows = [whole[start : start + n] for start, n in zip(range(0, len(whole), width), kept.tolist(), strict=True)]
    return encode_list(rows, times, interface, direction, snaplen, lengths.tolist(), comment)


def _same_length(
    matrix: "numpy.ndarray[Any, Any]",
    lengths: "numpy.ndarray[Any, Any]",
    times: "int | numpy.ndarray[Any, Any]",
    interface: int,
    direction: Direction,
    comment: str,
) -> bytes:
    import numpy as np

    count, length = matrix.shape
    try:
        ns = np.broadcast_to(np.asarray(times), (count,))
        if ns.dtype.kind not in "iu" or ns.min() < 0:
            raise ValueError
    except (ValueError, OverflowError):
        raise MemifValueError.argument("timestamps_ns", times, _TIMES) from None
    ns = ns.astype(np.uint64)
    tail, total = packet_tail(length, direction, comment)
    blocks = np.zeros((count, total), np.uint8)
    head = np.empty((count, 7), "<u4")
    head[:, 0], head[:, 1], head[:, 2] = EPB, total, interface
    head[:, 3], head[:, 4] = ns >> np.uint64(32), ns & np.uint64(0xFFFFFFFF)
    head[:, 5], head[:, 6] = length, lengths
    blocks[:, :28] = head.view(np.uint8)
    blocks[:, 28 : 28 + length] = matrix
    blocks[:, 28 + length :] = np.frombuffer(tail, np.uint8)
    return blocks.tobytes()
