"""Reading classic pcap files: microseconds or nanoseconds, both byte orders, and what old programs wrote.

Before version 2.3 the two lengths of a record stood the other way round; files that say 2.3 have them either way, so
the smaller is what was kept. The modified format of some old Linux distributions has 8 more bytes in each record.
"""

import struct
from collections.abc import Iterator
from typing import Final

from .errors import CaptureFormatError
from .packet import Interface, Packet
from .stream import MAX_BLOCK, ByteStream

_STANDARD: Final = "IIII"
_MODIFIED: Final = "IIII8x"  # interface, protocol and kind of the packet follow

#: First four bytes of the file -> byte order, nanoseconds in the record's fraction of a second, the record's fields.
MAGICS: Final[dict[bytes, tuple[str, int, str]]] = {
    b"\xd4\xc3\xb2\xa1": ("<", 1000, _STANDARD),
    b"\x4d\x3c\xb2\xa1": ("<", 1, _STANDARD),
    b"\x34\xcd\xb2\xa1": ("<", 1000, _MODIFIED),
    b"\xa1\xb2\xc3\xd4": (">", 1000, _STANDARD),
    b"\xa1\xb2\x3c\x4d": (">", 1, _STANDARD),
    b"\xa1\xb2\xcd\x34": (">", 1000, _MODIFIED),
}
_LAST_SWAPPED: Final = (2, 3)


def read_pcap(stream: ByteStream, magic: bytes, interfaces: list[Interface]) -> Iterator[Packet]:
    """Yield the packets that follow `magic`; the file's one interface is added to `interfaces` first."""
    order, unit, fields = MAGICS[magic]
    major, minor, _zone, _figures, snaplen, network = struct.unpack(order + "HHiIII", stream.read_rest(20))
    if major != 2:
        raise CaptureFormatError(f"{stream.name}: pcap version {major} is not supported, only 2")
    linktype = network & 0xFFFF  # the upper bits tell the length of a frame check sequence
    interfaces.append(Interface(linktype=linktype, snaplen=snaplen, ns_numerator=unit))
    record = struct.Struct(order + fields)
    while True:
        if (major, minor) > _LAST_SWAPPED:
            yield from _buffered(stream, record, unit, linktype)
        seconds, fraction, kept, original = record.unpack(stream.read(record.size))
        if (major, minor) < _LAST_SWAPPED or ((major, minor) == _LAST_SWAPPED and kept > original):
            kept, original = original, kept
        if kept > MAX_BLOCK:
            raise CaptureFormatError(
                f"{stream.name}: packet of {kept} bytes at offset {stream.offset - record.size}, "
                f"at most {MAX_BLOCK} are accepted"
            )
        data = stream.read_rest(kept) if kept else b""
        yield Packet(seconds * 1_000_000_000 + fraction * unit, data, original, 0, linktype)


def _buffered(stream: ByteStream, record: struct.Struct, unit: int, linktype: int) -> Iterator[Packet]:
    """Yield the packets that lie whole in the stream's buffer: the fast way through a file."""
    buffer, at, size = stream.buffer, stream.at, record.size
    last = len(buffer) - size
    while at <= last:
        seconds, fraction, kept, original = record.unpack_from(buffer, at)
        start = at + size
        end = start + kept
        if end > len(buffer):
            break
        stream.at = at = end
        ns = seconds * 1_000_000_000 + fraction * unit
        yield Packet(ns, buffer[start:end], original, 0, linktype)
