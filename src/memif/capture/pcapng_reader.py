"""Reading pcapng: any number of sections in either byte order; blocks of unknown type are passed over."""

import struct
from collections.abc import Iterator
from typing import Final

from . import blocks
from .errors import CaptureFormatError
from .packet import Direction, Interface, InterfaceStatistics, Packet
from .stream import MAX_BLOCK, ByteStream

_DIRECTIONS: Final[tuple[Direction, ...]] = ("unknown", "in", "out", "unknown")

#: Interfaces that a file may declare in all its sections: a bound on memory, far above any real file.
MAX_INTERFACES: Final = 65536


class PcapngParser:
    """Turns the blocks of one file into packets. `interfaces` and `statistics` are filled on the way."""

    def __init__(
        self, stream: ByteStream, interfaces: list[Interface], statistics: dict[int, InterfaceStatistics]
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
        """Yield the enhanced packets that lie whole in the stream's buffer, up to the first block of another
        kind or with anything unusual about it: the fast way through a file."""
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
        """Read the rest of a block of `total` bytes, of which `already` were read, and check the length
        behind it."""
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

    def _declared(self, number: int) -> tuple[int, Interface]:
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
        """A packet without time, always of the section's first interface."""
        original = self._u32.unpack_from(body)[0]
        index, interface = self._declared(0)
        kept = min(original, interface.snaplen or original, len(body) - 4)
        return Packet(0, body[4 : 4 + kept], original, index, interface.linktype)

    def _obsolete(self, body: bytes) -> Packet:
        """The packet block of old files: its interface number shares a word with a drop counter."""
        number = struct.unpack_from(self._order + "H", body)[0]
        return self._enhanced(self._u32.pack(number) + body[4:])

    def _options(self, body: bytes, at: int) -> Iterator[tuple[int, bytes]]:
        """Yield (code, value); a cut option ends the list, as nothing here depends on options being
        complete."""
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
            Interface(
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
