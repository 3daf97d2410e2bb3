"""Reading classic pcap files: microseconds or nanoseconds, both byte orders."""

import struct
from collections.abc import Iterator
from typing import Final

from .errors import CaptureFormatError
from .packet import Interface, Packet
from .stream import MAX_BLOCK, ByteStream

#: First four bytes of the file -> (byte order, nanoseconds in the record's fraction of a second).
MAGICS: Final[dict[bytes, tuple[str, int]]] = {
    b"\xd4\xc3\xb2\xa1": ("<", 1000),
    b"\x4d\x3c\xb2\xa1": ("<", 1),
    b"\xa1\xb2\xc3\xd4": (">", 1000),
    b"\xa1\xb2\x3c\x4d": (">", 1),
}


def read_pcap(stream: ByteStream, magic: bytes, interfaces: list[Interface]) -> Iterator[Packet]:
    """Yield the packets that follow `magic`; the file's one interface is added to `interfaces` first."""
    order, unit = MAGICS[magic]
    major, _minor, _zone, _figures, snaplen, network = struct.unpack(order + "HHiIII", stream.read_rest(20))
    if major != 2:
        raise CaptureFormatError(f"{stream.name}: pcap version {major} is not supported, only 2")
    linktype = network & 0xFFFF  # the upper bits tell the length of a frame check sequence
    interfaces.append(Interface(linktype=linktype, snaplen=snaplen, ns_numerator=unit))
    record = struct.Struct(order + "IIII")
    while True:
        yield from _buffered(stream, record, unit, linktype)
        seconds, fraction, kept, original = record.unpack(stream.read(16))
        if kept > MAX_BLOCK:
            raise CaptureFormatError(
                f"{stream.name}: packet of {kept} bytes at offset {stream.offset - 16}, "
                f"at most {MAX_BLOCK} are accepted"
            )
        data = stream.read_rest(kept) if kept else b""
        yield Packet(seconds * 1_000_000_000 + fraction * unit, data, original, 0, linktype)


def _buffered(stream: ByteStream, record: struct.Struct, unit: int, linktype: int) -> Iterator[Packet]:
    """Yield the packets that lie whole in the stream's buffer: the fast way through a file."""
    buffer, at = stream.buffer, stream.at
    last = len(buffer) - 16
    while at <= last:
        seconds, fraction, kept, original = record.unpack_from(buffer, at)
        start, end = at + 16, at + 16 + kept
        if end > len(buffer):
            break
        stream.at = at = end
        ns = seconds * 1_000_000_000 + fraction * unit
        yield Packet(ns, buffer[start:end], original, 0, linktype)
