"""Reading captures: `CaptureReader` recognises the format and yields the packets one by one.

pcapng: any number of sections in either byte order. Blocks of unknown type are skipped.

Classic pcap: microseconds or nanoseconds, both byte orders, and what old programs wrote. Before version 2.3 the two
lengths of a record were in reverse order. Files that say 2.3 have either order, so the smaller length is what was kept.
The modified format of some old Linux distributions has 8 more bytes in each record.
"""

import struct
from collections.abc import Iterator
from typing import Final

from memif.errors import MemifClosedError
from memif.system import Closing

from . import blocks
from .files import MAX_BLOCK, ByteStream, EndOfData, Source, compression
from .packet import CaptureFormatError, CaptureInterface, CaptureTruncatedError, Direction, InterfaceStatistics, Packet

_PCAPNG = b"\x0a\x0d\x0d\x0a"


class CaptureReader(Closing, Iterator[Packet]):
    """Iterates over the packets of a pcapng or classic pcap file. Memory use does not grow with the file.

    Files compressed by gzip, bzip2, xz, or zstd (from Python 3.14 on) are decompressed on the way. Also a context
    manager. One thread at a time.

    Args:
        source: A path, "-" for standard input, an open descriptor or a binary file object. Pipes work.
        strict: What the iteration does when the file ends in the middle of a packet. True: it raises
            `CaptureTruncatedError`. False: it ends, and sets `truncated`.

    Attributes:
        format: "pcapng" or "pcap".
        interfaces: Interfaces met so far, over all sections of the file. `Packet.interface` is an index into it.
        statistics: Latest counters by interface index. Complete only after the last packet.
        truncated: True after the iteration found that the file is cut.

    Raises:
        CaptureFormatError: when the source is not a capture. Iterating raises it too, for malformed files.
        CaptureOSError: when the source cannot be read.
    """

    format: str
    interfaces: list[CaptureInterface]
    statistics: dict[int, InterfaceStatistics]
    truncated: bool

    def __init__(self, source: Source, *, strict: bool = False) -> None:
        self.interfaces = []
        self.statistics = {}
        self.truncated = self._closed = False
        self._strict = strict
        self._stream = ByteStream(source)
        try:
            self.format, packets = self._recognise()
        except BaseException:
            self._stream.close()
            raise
        self._packets = self._until_end(packets)

    def _recognise(self, *, inside: bool = False) -> tuple[str, Iterator[Packet]]:
        """Return the format's name and its packets. `inside`: the data comes from a compressed file."""
        name = self._stream.name
        try:
            magic = self._stream.read(4)
        except EndOfData as end:
            what = "too short for a capture file" if end.partial else "empty"
            raise CaptureFormatError(f"{name}: {what}") from None
        if magic == _PCAPNG:
            return "pcapng", PcapngParser(self._stream, self.interfaces, self.statistics).packets(magic)
        if magic in MAGICS:
            return "pcap", read_pcap(self._stream, magic, self.interfaces)
        if not inside and (kind := compression(magic)) is not None:
            self._stream.decompress(kind)
            return self._recognise(inside=True)
        raise CaptureFormatError(f"{name}: neither pcapng nor pcap (starts with {magic.hex(' ')})")

    def _until_end(self, packets: Iterator[Packet]) -> Iterator[Packet]:
        try:
            yield from packets
        except EndOfData as end:
            self.truncated = end.partial
        if self.truncated and self._strict:
            raise CaptureTruncatedError(
                f"{self._stream.name}: ends in the middle of a block, after offset {self._stream.offset}"
            )

    def __iter__(self) -> Iterator[Packet]:
        """Return an iterator over the packets not yet taken. It can be interrupted and resumed."""
        self._check_open()
        return self._packets

    def __next__(self) -> Packet:
        self._check_open()
        return next(self._packets)

    def _check_open(self) -> None:
        if self._closed:
            raise MemifClosedError(f"the capture {self._stream.name} is closed")

    def close(self) -> None:
        """Close the file if it was opened here. Can be repeated. Further use raises `MemifClosedError`."""
        self._closed = True
        self._stream.close()


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


def read_pcap(stream: ByteStream, magic: bytes, interfaces: list[CaptureInterface]) -> Iterator[Packet]:
    """Yield the packets that follow `magic`. The file's only interface is added to `interfaces` first."""
    order, unit, fields = MAGICS[magic]
    major, minor, _zone, _figures, snaplen, network = struct.unpack(order + "HHiIII", stream.read_rest(20))
    if major != 2:
        raise CaptureFormatError(f"{stream.name}: pcap version {major} is not supported, only 2")
    linktype = network & 0xFFFF  # the upper bits are the length of a frame check sequence
    interfaces.append(CaptureInterface(linktype=linktype, snaplen=snaplen, ns_numerator=unit))
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
    """Yield the packets that are whole in the stream's buffer: the fast way through a file."""
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


_DIRECTIONS: Final[tuple[Direction, ...]] = ("unknown", "in", "out", "unknown")

#: The most interfaces of a file, in all its sections: bounds memory, far above any real file.
MAX_INTERFACES: Final = 65536


class PcapngParser:
    """Turns the blocks of one file into packets. `interfaces` and `statistics` are filled on the way."""

    def __init__(
        self, stream: ByteStream, interfaces: list[CaptureInterface], statistics: dict[int, InterfaceStatistics]
    ) -> None:
        self._stream = stream
        self._interfaces = interfaces
        self._statistics = statistics
        self._first = 0  # of this section, in the file's list
        self._use_order("<")

    def _use_order(self, order: str) -> None:
        self._order = order
        self._frame = struct.Struct(order + "II")
        self._u32 = struct.Struct(order + "I")
        self._epb = struct.Struct(order + "IIIII")
        self._header = struct.Struct(order + "7I")
        pack_flags = struct.Struct(order + "HHIHH").pack
        # What most packets have behind their data: nothing, or the direction alone.
        self._tails: dict[bytes, Direction] = {b"": "unknown"}
        for flags, direction in enumerate(_DIRECTIONS):
            self._tails[pack_flags(blocks.EPB_FLAGS, 4, flags, 0, 0)] = direction
        self._option = struct.Struct(order + "HH")

    def packets(self, magic: bytes) -> Iterator[Packet]:
        """Yield the packets of the file whose first four bytes, `magic`, were read already."""
        self._section(magic + self._stream.read_rest(4))
        while True:
            yield from self._buffered()
            head = self._stream.read(8)
            kind, total = self._frame.unpack(head)
            if kind == blocks.SHB:
                self._section(head)
                continue
            packet = self._block(kind, self._body(total))
            if packet is not None:
                yield packet

    def _buffered(self) -> Iterator[Packet]:
        """Yield the enhanced packets that are whole in the stream's buffer: the fast way through a file.

        Stops at the first block that is of another kind or unusual in any way.
        """
        stream, buffer, at = self._stream, self._stream.buffer, self._stream.at
        size, first, interfaces, index = len(buffer), self._first, self._interfaces, -1
        header, trailer, tails = self._header.unpack_from, self._u32.unpack_from, self._tails
        while at + 32 <= size:
            kind, total, number, high, low, kept, original = header(buffer, at)
            start, end = at + 28, at + total
            data_end = start + kept
            if kind != blocks.EPB or total & 3 or end > size or data_end + 4 > end:
                return
            direction = tails.get(buffer[data_end + (-kept & 3) : end - 4])
            if direction is None or trailer(buffer, end - 4)[0] != total:
                return
            if first + number != index:
                index = first + number
                if index >= len(interfaces):
                    return
                interface = interfaces[index]
                in_ns, linktype = interface.in_nanoseconds, interface.linktype
            ticks = high << 32 | low
            ns = ticks if in_ns else interface.nanoseconds(ticks)
            stream.at = at = end
            yield Packet(ns, buffer[start:data_end], original, index, linktype, direction)

    def _fail(self, what: str) -> CaptureFormatError:
        return CaptureFormatError(f"{self._stream.name}: {what} (block ending at offset {self._stream.offset})")

    def _body(self, total: int, already: int = 8) -> bytes:
        """Read the rest of a block of `total` bytes, of which `already` were read, and check the length at its end."""
        if total < already + 4 or total % 4 or total > MAX_BLOCK:
            raise self._fail(f"not a block: length {total}")
        body = self._stream.read_rest(total - already)
        if self._u32.unpack_from(body, len(body) - 4)[0] != total:
            raise self._fail(f"the two lengths of a block differ ({total} at its start)")
        return body[:-4]

    def _section(self, head: bytes) -> None:
        magic = self._stream.read_rest(4)
        for order in "<>":
            if struct.unpack(order + "I", magic)[0] == blocks.BYTE_ORDER_MAGIC:
                self._use_order(order)
                break
        else:
            raise self._fail("section header without byte-order magic")
        total = self._frame.unpack(head)[1]
        if total < 28:
            raise self._fail(f"section header of {total} bytes")
        major = struct.unpack_from(self._order + "H", self._body(total, 12))[0]
        if major != 1:
            raise self._fail(f"pcapng version {major} is not supported, only 1")
        self._first = len(self._interfaces)

    def _block(self, kind: int, body: bytes) -> Packet | None:
        try:
            if kind == blocks.EPB:
                return self._enhanced(body)
            if kind == blocks.IDB:
                self._interface(body)
            elif kind == blocks.SPB:
                return self._simple(body)
            elif kind == blocks.ISB:
                self._counters(body)
            elif kind == blocks.OBSOLETE_PACKET:
                return self._obsolete(body)
        except struct.error:
            raise self._fail(f"block of type {kind} is too short") from None
        return None

    def _declared(self, number: int) -> tuple[int, CaptureInterface]:
        index = self._first + number
        if index >= len(self._interfaces):
            raise self._fail(f"interface {number} was not declared")
        return index, self._interfaces[index]

    def _enhanced(self, body: bytes) -> Packet:
        number, high, low, kept, original = self._epb.unpack_from(body)
        index, interface = self._declared(number)
        end = 20 + kept
        if end > len(body):
            raise self._fail(f"packet of {kept} bytes in a block of {len(body)}")
        ticks = high << 32 | low
        direction: Direction = "unknown"
        if len(body) - end >= 8:
            direction = self._direction(body, end)
        ns = interface.nanoseconds(ticks)
        return Packet(ns, body[20:end], original, index, interface.linktype, direction)

    def _direction(self, body: bytes, end: int) -> Direction:
        for code, value in self._options(body, end + (-end & 3)):
            if code == blocks.EPB_FLAGS and len(value) == 4:
                flags: int = self._u32.unpack(value)[0]
                return _DIRECTIONS[flags & 3]
        return "unknown"

    def _simple(self, body: bytes) -> Packet:
        """Decode a packet without time, always of the section's first interface."""
        original = self._u32.unpack_from(body)[0]
        index, interface = self._declared(0)
        kept = min(original, interface.snaplen or original, len(body) - 4)
        return Packet(0, body[4 : 4 + kept], original, index, interface.linktype)

    def _obsolete(self, body: bytes) -> Packet:
        """Decode the packet block of old files, whose interface number shares a word with a drop counter."""
        number = struct.unpack_from(self._order + "H", body)[0]
        return self._enhanced(self._u32.pack(number) + body[4:])

    def _options(self, body: bytes, at: int) -> Iterator[tuple[int, bytes]]:
        """Yield (code, value). A cut option ends the list, because nothing here needs all options."""
        while at + 4 <= len(body):
            code, length = self._option.unpack_from(body, at)
            at += 4
            if code == 0 or at + length > len(body):
                return
            yield code, body[at : at + length]
            at += length + (-length & 3)

    def _interface(self, body: bytes) -> None:
        if len(self._interfaces) >= MAX_INTERFACES:
            raise self._fail(f"more than {MAX_INTERFACES} interfaces")
        linktype, _reserved, snaplen = struct.unpack_from(self._order + "HHI", body)
        options = dict(self._options(body, 8))
        resolution = options.get(blocks.IF_TSRESOL, b"") or b"\x06"
        base, power = (2, resolution[0] & 0x7F) if resolution[0] & 0x80 else (10, resolution[0])
        offset = options.get(blocks.IF_TSOFFSET, b"")
        numerator, denominator = 1_000_000_000, base**power
        if denominator <= numerator and base == 10:
            numerator, denominator = numerator // denominator, 1
        self._interfaces.append(
            CaptureInterface(
                name=_text(options.get(blocks.IF_NAME, b"")),
                linktype=linktype,
                snaplen=snaplen,
                description=_text(options.get(blocks.IF_DESCRIPTION, b"")),
                ns_numerator=numerator,
                ns_denominator=denominator,
                offset_s=struct.unpack(self._order + "q", offset)[0] if len(offset) == 8 else 0,
            )
        )

    def _counters(self, body: bytes) -> None:
        number, high, low = struct.unpack_from(self._order + "III", body)
        index, interface = self._declared(number)
        options = dict(self._options(body, 12))
        values = [
            struct.unpack(self._order + "Q", value)[0] if len(value) == 8 else None
            for value in (options.get(blocks.ISB_IFRECV, b""), options.get(blocks.ISB_IFDROP, b""))
        ]
        time_ns = interface.nanoseconds(high << 32 | low)
        self._statistics[index] = InterfaceStatistics(index, time_ns, values[0], values[1])


def _text(value: bytes) -> str:
    return value.split(b"\0", 1)[0].decode("utf-8", "replace")
