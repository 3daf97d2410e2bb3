"""The compiled loops of `memif.packet`, written with numpy on columns: slower, and easier to believe."""

import sys
from collections.abc import Hashable
from functools import lru_cache
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from memif.packet import ARP, IPV4, IPV6, UDP, EtherType, Layers, Protocol, gather

Matrix = NDArray[np.uint8]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int32]
Words = NDArray[np.uint16]
Sums = NDArray[np.uint64]
_OTHER, _TAG, _ARP, _IPV4, _IPV6 = range(5)
_U16 = np.dtype(">u2")
_ETHERNET_SIZE, _TAG_SIZE, _MOST_TAGS = 14, 4, 2
_FARTHEST = _ETHERNET_SIZE + _MOST_TAGS * _TAG_SIZE + IPV6.itemsize  # end of the last header read by offset
_MOST_EXTENSIONS = 8  # bounds the walk over IPv6 extension headers
_ARP_START = np.array([0, 1, 8, 0, 6, 4], np.uint8)  # Ethernet, IPv4 and the sizes of their addresses

# One lookup in a table replaces several comparisons of a 16-bit column.
_KIND = np.zeros(65536, np.uint8)
_KIND[[EtherType.VLAN, EtherType.QINQ, EtherType.QINQ_OLD]] = _TAG
_KIND[EtherType.ARP], _KIND[EtherType.IPV4], _KIND[EtherType.IPV6] = _ARP, _IPV4, _IPV6
_BY_VERSION = np.zeros(16, np.uint16)
_BY_VERSION[4], _BY_VERSION[6] = EtherType.IPV4, EtherType.IPV6
_EXTENSION = np.zeros(256, np.bool_)
_EXTENSION[
    [
        Protocol.HOP_BY_HOP,
        Protocol.ROUTING,
        Protocol.FRAGMENT,
        Protocol.AUTHENTICATION,
        Protocol.DESTINATION,
        Protocol.MOBILITY,
    ]
] = True


def classify(matrix: Matrix, lengths: NDArray[Any], mode: str = "ethernet") -> Layers:
    width = matrix.shape[1]
    head = matrix if width >= _FARTHEST else np.pad(matrix, ((0, 0), (0, _FARTHEST - width)))
    return _Classifier(head, width, lengths.astype(np.int32), mode).run()


@lru_cache(maxsize=256)
def _constant(count: int, value: int, dtype: Hashable) -> NDArray[Any]:
    """Return a read-only column with the same value in all rows, shared by all bursts of this size."""
    column: NDArray[Any] = np.full(count, value, cast(Any, dtype))
    column.flags.writeable = False
    return column


class _Classifier:
    """The link layer, then layer 3 for each group of rows of one kind at one offset.

    Columns start as shared constants. A group of all rows (the usual case) replaces a column; a smaller group
    writes into a copy of it. So a burst of one kind costs no more than the fields it must read.
    """

    def __init__(self, head: Matrix, width: int, lengths: Ints, mode: str) -> None:
        self.head, self.width, self.lengths, self.count = head, width, lengths, len(head)
        self.header = self.stated = self.routing = self.constant(0, np.int32)
        self.protocol = self.constant(0, np.uint8)
        self.fragment = self.options = self.starts = self.valid = self.constant(False, np.bool_)
        self.tags: NDArray[np.uint8] = self.constant(0, np.uint8)
        self.start = 0 if mode == "ip" else _ETHERNET_SIZE

    def run(self) -> Layers:
        self.ethertype = self.by_version() if self.start == 0 else self.behind_tags()
        group = _KIND[self.ethertype] | self.tags << 4
        present = np.bincount(group).nonzero()[0].tolist()
        for key in present:
            kind, offset = key & 15, self.start + (key >> 4) * _TAG_SIZE
            if len(present) == 1:
                self.layer3(kind, offset, slice(None))
            else:
                self.layer3(kind, offset, (group == key).nonzero()[0])
        first, last = (present[0] >> 4, present[-1] >> 4) if present else (0, 0)
        return self.result(self.start + first * _TAG_SIZE if first == last else None)

    def result(self, uniform: int | None) -> Layers:
        varied = self.start + self.tags.astype(np.int32) * _TAG_SIZE if uniform is None else None
        return Layers(
            width=self.width,
            l3_offset=self.constant(uniform or 0, np.int32) if varied is None else varied,
            ethertype=self.ethertype,
            l3_header_length=self.header,
            l3_length=self.stated,
            protocol=self.protocol,
            is_fragment=self.fragment,
            has_options=self.options,
            starts_l4=self.starts,
            valid=self.valid,
            routing_offset=self.routing,
            uniform=uniform,
        )

    def constant(self, value: int, dtype: Hashable) -> NDArray[Any]:
        return _constant(self.count, value, dtype)

    def put(self, name: str, rows: Any, value: Any) -> None:
        """Set some rows of a column to a number or an array."""
        column = getattr(self, name)
        if isinstance(rows, slice):
            same = not isinstance(value, np.ndarray)
            setattr(self, name, self.constant(int(value), column.dtype) if same else value)
            return
        if not column.flags.writeable:
            column = column.copy()
            setattr(self, name, column)
        column[rows] = value

    def by_version(self) -> NDArray[np.uint16]:
        """IP mode: return the EtherType of the IP version. A packet of neither version is not valid."""
        ethertype: NDArray[np.uint16] = _BY_VERSION[self.head[:, 0] >> 4]
        return ethertype

    def behind_tags(self) -> NDArray[np.uint16]:
        """Count the tags, and return the EtherType after them."""
        ethertype = _u16(self.head, 12).astype(np.uint16)
        tagged = _KIND[ethertype] == _TAG
        if tagged.any():
            self.tags = tagged.astype(np.uint8)
            self.behind_more(ethertype, tagged.nonzero()[0])
        return ethertype

    def behind_more(self, ethertype: NDArray[np.uint16], rows: NDArray[np.intp]) -> None:
        for at in (_ETHERNET_SIZE + 2, _ETHERNET_SIZE + _TAG_SIZE + 2):
            ethertype[rows] = _u16(self.head, at)[rows]
            rows = rows[_KIND[ethertype[rows]] == _TAG]
            if at == _ETHERNET_SIZE + 2:
                self.tags[rows] += 1

    def layer3(self, kind: int, offset: int, rows: Any) -> None:
        step = {_ARP: self.arp, _IPV4: self.ipv4, _IPV6: self.ipv6}.get(kind, self.other)
        step(self.head[rows], offset, rows, self.lengths[rows] - offset)

    def ipv4(self, block: Matrix, offset: int, rows: Any, room: Ints) -> None:
        """``room``: bytes of the packets from layer 3 on."""
        first, total = block[:, offset], _u16(block, offset + 2).astype(np.int32)
        good = total <= room
        header: Any = IPV4.itemsize
        if (first == 0x45).all():
            good &= (total >= header) & (offset + header <= self.width)
        else:
            header = (first & 15).astype(np.int32) << 2
            good &= (first >= 0x45) & (first < 0x50)  # version 4 and at least 5 words
            good &= (total >= header) & (offset + header <= self.width)
            self.put("options", rows, header > IPV4.itemsize)
        self.put("valid", rows, good)
        self.put("header", rows, header)
        self.put("stated", rows, total)
        self.put("protocol", rows, block[:, offset + 9].copy())
        fragment = _u16(block, offset + 6) & 0x3FFF  # "more follow" and the offset
        split = fragment.any()
        self.put("fragment", rows, fragment != 0 if split else False)
        self.put("starts", rows, fragment & 0x1FFF == 0 if split else True)

    def ipv6(self, block: Matrix, offset: int, rows: Any, room: Ints) -> None:
        header, following = IPV6.itemsize, block[:, offset + 6].copy()
        total = _u16(block, offset + 4).astype(np.int32) + header
        good = (total <= room) & (block[:, offset] >> 4 == 6) & (offset + header <= self.width)
        self.put("valid", rows, good)
        self.put("header", rows, header)
        self.put("stated", rows, total)
        self.put("protocol", rows, following)
        self.put("starts", rows, True)
        extended = good & _EXTENSION[following]
        if extended.any():
            for name in ("valid", "header", "protocol", "starts", "fragment", "options", "routing"):
                setattr(self, name, getattr(self, name).copy())
            self.skip_extensions(offset, np.arange(self.count)[rows][extended])

    def skip_extensions(self, offset: int, rows: NDArray[np.intp]) -> None:
        """Walk the extension headers of the rows that have some, one header of all rows at a time."""
        self.options[rows] = True
        for _ in range(_MOST_EXTENSIONS):
            start = offset + self.header[rows]
            end = np.minimum(offset + self.stated[rows], self.width)
            seen = start + 8 <= end  # each extension header has at least 8 bytes
            self.valid[rows[~seen]] = False
            self.step_over(rows[seen], start[seen], end[seen])
            rows = rows[_EXTENSION[self.protocol[rows]] & self.starts[rows] & self.valid[rows]]
            if len(rows) == 0:
                return

    def step_over(self, rows: NDArray[np.intp], start: Ints, end: Ints) -> None:
        kind, words = self.protocol[rows], self.head[rows, start + 1].astype(np.int32)
        part = kind == int(Protocol.FRAGMENT)
        size = np.where(kind == int(Protocol.AUTHENTICATION), (words + 2) * 4, (words + 1) * 8)
        size[part] = 8
        low = self.head[rows, start + 3]
        later = part & ((self.head[rows, start + 2] != 0) | (low >= 8))  # a fragment offset other than 0
        # An "atomic" fragment (offset 0, none follow) is a whole packet, RFC 6946.
        self.fragment[rows] |= part & (later | ((low & 1) != 0))
        self.starts[rows] &= ~later
        routed = (kind == int(Protocol.ROUTING)) & (self.head[rows, start + 3] != 0)
        self.routing[rows[routed]] = start[routed]
        self.valid[rows] &= start + size <= end
        self.header[rows] += size
        self.protocol[rows] = self.head[rows, start]

    def arp(self, block: Matrix, offset: int, rows: Any, room: Ints) -> None:
        size = ARP.itemsize
        good = (block[:, offset : offset + 6] == _ARP_START).all(axis=1)
        self.put("valid", rows, good & (room >= size) & (offset + size <= self.width))
        self.put("header", rows, size)
        self.put("stated", rows, size)

    def other(self, block: Matrix, offset: int, rows: Any, room: Ints) -> None:
        self.put("valid", rows, (room >= 0) & (self.start > 0) & (offset <= self.width))
        self.put("stated", rows, room)


def _u16(block: Matrix, at: int) -> NDArray[Any]:
    """Return the big-endian 16-bit numbers at one offset."""
    return block[:, at : at + 2].view(_U16)[:, 0]


_CHECKSUM_AT = np.zeros(256, np.int32)  # by protocol, from the start of layer 4
_CHECKSUM_AT[[Protocol.ICMP, Protocol.ICMPV6, Protocol.UDP, Protocol.TCP]] = 2, 2, 6, 16
_SWAP = sys.byteorder == "little"


def raw_sum(matrix: Matrix, start: Any, stop: Any) -> Sums:
    """Sums of ranges, to be folded."""
    if isinstance(start, int) and isinstance(stop, int) and (stop - start) % 2 == 0:
        return _sum_words(_range(matrix, start, stop))
    starts = np.broadcast_to(np.asarray(start, np.int32), len(matrix))
    stops = np.broadcast_to(np.asarray(stop, np.int32), len(matrix))
    if len(matrix) == 0:
        return np.zeros(0, np.uint64)
    first = int(starts.min()) & ~1
    part = _range(matrix, first, int(stops.max()))
    columns = np.arange(first, first + part.shape[1] + -part.shape[1] % 4, dtype=np.int32)
    keep = (columns >= starts[:, None]) & (columns < stops[:, None])
    masked = np.zeros(keep.shape, np.uint8)
    np.multiply(part, keep[:, : part.shape[1]], out=masked[:, : part.shape[1]])
    total = _sum_words(masked)
    # A row that begins at an odd byte has its words shifted by one byte, which swaps the bytes of the sum.
    return np.where(starts & 1, fold(total).byteswap(), total) if (starts & 1).any() else total


def fold(total: Sums) -> Words:
    """Add the carries of a sum back into 16 bits."""
    folded = total % 0xFFFF  # as 65536 leaves the remainder 1, this adds all carries
    folded[(folded == 0) & (total != 0)] = 0xFFFF
    return folded.astype(np.uint16)


def is_ones(total: Sums) -> Bools:
    """Return whether sums that include the checksum fold to all ones: then the checksum is right."""
    right: Bools = (total % 0xFFFF == 0) & (total != 0)
    return right


def ipv4_checksum(matrix: Matrix, layers: Layers) -> Words:
    """Return the header checksum that each IPv4 packet should have, options included; 0 for other rows."""
    value = np.zeros(len(matrix), np.uint16)
    rows = layers.ipv4.nonzero()[0]
    blank = _without(matrix, rows, layers.l3_offset[rows] + 10)
    value[rows] = ~_swap(fold(_header_sum(blank, layers, rows)))
    return value


def verify_ipv4(matrix: Matrix, layers: Layers) -> Bools:
    """Return True where a packet is valid IPv4 and its header checksum is right."""
    good = layers.ipv4.copy()
    rows: Any = slice(None) if good.all() else good.nonzero()[0]
    good[rows] = is_ones(_header_sum(matrix[rows], layers, rows))
    return good


def fill_ipv4(matrix: Matrix, layers: Layers) -> None:
    """Write the right header checksum into each valid IPv4 packet."""
    rows = layers.ipv4.nonzero()[0]
    _put(matrix, rows, layers.l3_offset[rows] + 10, ipv4_checksum(matrix, layers)[rows])


def l4_checksum(matrix: Matrix, layers: Layers) -> Words:
    """Return the checksum that each ICMP, ICMPv6, UDP or TCP packet should have, pseudo header included."""
    value = np.zeros(len(matrix), np.uint16)
    rows = l4_computable(matrix, layers).nonzero()[0]
    blank = _without(matrix, rows, _checksum_offset(layers, rows))
    computed = ~_swap(fold(_l4_sum(blank, layers, rows)))
    computed[(computed == 0) & (layers.protocol[rows] == int(Protocol.UDP))] = 0xFFFF
    value[rows] = computed
    return value


def verify_l4(matrix: Matrix, layers: Layers) -> Bools:
    """Return True where the ICMP, ICMPv6, UDP or TCP checksum can be computed (see `l4_checksum`) and is right."""
    good = np.zeros(len(matrix), np.bool_)
    rows = l4_computable(matrix, layers).nonzero()[0]
    block, at = matrix[rows], _checksum_offset(layers, rows)
    absent = layers.udp[rows] & (_get(block, at) == 0)
    good[rows] = np.where(absent, layers.ipv4[rows], is_ones(_l4_sum(block, layers, rows)))
    return good


def fill_l4(matrix: Matrix, layers: Layers) -> None:
    """Write the right ICMP, ICMPv6, UDP or TCP checksum into each packet that `l4_checksum` can compute one for."""
    rows = l4_computable(matrix, layers).nonzero()[0]
    _put(matrix, rows, _checksum_offset(layers, rows), l4_checksum(matrix, layers)[rows])


def l4_computable(matrix: Matrix, layers: Layers) -> Bools:
    """Return True where a layer 4 checksum can be computed: all of an unfragmented packet is in the matrix."""
    known = (layers.icmp | layers.icmp6 | layers.udp | layers.tcp) & layers.whole & ~layers.is_fragment
    rows = (known & layers.udp).nonzero()[0]
    stated = gather(matrix, UDP, layers.l4_offset, rows)["length"]
    known[rows] = (stated >= 8) & (stated <= layers.l4_length[rows])
    rows = (known & layers.has_options & ~layers.icmp).nonzero()[0]
    if len(rows):
        known[rows] = final_destination(matrix[rows], layers, rows) != UNKNOWN
    return known


def _l4_sum(block: Matrix, layers: Layers, rows: NDArray[np.intp]) -> Sums:
    """Return sums over pseudo header and layer 4 of the rows of ``layers`` that ``block`` is a copy of."""
    start, length = layers.l4_offset[rows], layers.l4_length[rows].copy()
    udp = layers.udp[rows].nonzero()[0]
    length[udp] = gather(block, UDP, start, udp)["length"]
    return raw_sum(block, start, start + length) + _pseudo_sum(block, layers, rows, length)


def _pseudo_sum(block: Matrix, layers: Layers, rows: NDArray[np.intp], length: Ints) -> Sums:
    """Return sums of addresses, protocol and length; 0 for ICMP over IPv4, which has no pseudo header."""
    v6 = layers.ipv6[rows]
    # Both addresses lie side by side: 8 bytes at 12 in IPv4, 32 bytes at 8 in IPv6.
    first, size = layers.l3_offset[rows] + np.where(v6, 8, 12), np.where(v6, 32, 8)
    total = raw_sum(block, first, first + size)
    elsewhere = layers.has_options[rows].nonzero()[0]
    if len(elsewhere):
        part, start, half = block[elsewhere], first[elsewhere], size[elsewhere] // 2
        place = final_destination(part, layers, rows[elsewhere])
        place = np.where(place == UNKNOWN, start + half, place)  # ICMP does not need it
        total[elsewhere] = raw_sum(part, start, start + half) + raw_sum(part, place, place + half)
    number = layers.protocol[rows].astype(np.uint64) + length.astype(np.uint64)
    return np.where(layers.icmp[rows], np.uint64(0), total + _swap(fold(number)))


def _checksum_offset(layers: Layers, rows: NDArray[np.intp]) -> Ints:
    return layers.l4_offset[rows] + _CHECKSUM_AT[layers.protocol[rows]]


def _header_sum(block: Matrix, layers: Layers, rows: Any) -> Sums:
    """Return sums over the IPv4 headers of the rows of ``layers`` that ``block`` holds."""
    start = layers.l3_offset[rows]
    return raw_sum(block, start, start + layers.l3_header_length[rows])


def _without(matrix: Matrix, rows: NDArray[np.intp], at: Ints) -> Matrix:
    """Return a copy of some rows in which the checksum field at ``at`` is 0."""
    block = matrix[rows]
    every = np.arange(len(rows))
    block[every, at] = block[every, at + 1] = 0
    return block


def _range(matrix: Matrix, start: int, stop: int) -> Matrix:
    if start < 0 or stop > matrix.shape[1]:
        raise ValueError(f"bytes {start}..{stop} are outside rows of {matrix.shape[1]} bytes")
    return matrix[:, start:stop]


def _sum_words(block: Matrix) -> Sums:
    # Words of 32 bits add up to the same: each is two of 16 with a carry to come.
    words: NDArray[Any] = block.view(np.uint16 if block.shape[1] % 4 else np.uint32)
    total: Sums
    if words.shape[1] <= 64:  # adding whole columns is faster than short rows
        total = np.add.reduce(words.T.astype(np.uint64, order="C"), axis=0)
    else:
        total = np.add.reduce(words, axis=1, dtype=np.uint64)
    return total


def _get(block: Matrix, at: Ints) -> Words:
    every = np.arange(len(block))
    value: Words = (block[every, at].astype(np.uint16) << np.uint16(8)) | block[every, at + 1]
    return value


def _put(matrix: Matrix, rows: NDArray[np.intp], at: Ints, value: Words) -> None:
    matrix[rows, at], matrix[rows, at + 1] = value >> 8, value & 0xFF


def _swap(words: Words) -> Words:
    """Convert between machine order and the order on the wire."""
    return words.byteswap() if _SWAP else words


UNKNOWN = -1
_SOURCE_ROUTE, _MOBILE, _SEGMENTS = 0, 2, 4  # types of routing headers: RFC 2460, RFC 6275, RFC 8754
_LOOSE, _STRICT = 131, 137  # types of IPv4 options: RFC 791
_MOST_OPTIONS = 40
_Places = NDArray[np.intp]


def final_destination(block: Matrix, layers: Layers, rows: NDArray[np.intp]) -> _Places:
    """Return the offsets of the final destinations, which layer 4 checksums cover (RFC 8200, 8.1)."""
    header, routing = layers.l3_offset[rows], layers.routing_offset[rows]
    place = (header + np.where(layers.ipv6[rows], 24, 16)).astype(np.intp)
    routed = (routing > 0).nonzero()[0]
    place[routed] = _last_segment(block, routed, routing[routed].astype(np.intp))
    optioned = (layers.ipv4[rows] & layers.has_options[rows]).nonzero()[0]
    place[optioned] = _last_hop(block, optioned, header[optioned], layers.l4_offset[rows[optioned]])
    return place


def _last_segment(matrix: Matrix, rows: NDArray[np.intp], start: NDArray[Any]) -> _Places:
    """Return the offset of the last address of routing headers with segments left, each of them whole."""
    pairs, odd = np.divmod(matrix[rows, start + 1].astype(np.intp), 2)  # the length counts half addresses
    kind, left, last_entry = (matrix[rows, start + at].astype(np.intp) for at in (2, 3, 4))
    listed = (kind == _SOURCE_ROUTE) & (odd == 0) & (left <= pairs)
    mobile = (kind == _MOBILE) & (odd == 0) & (pairs == 1) & (left == 1)
    # In reverse order. A reduced list leaves out the first, which is already in the IPv6 header. TLVs may follow.
    segments = (kind == _SEGMENTS) & (last_entry < pairs) & (left <= last_entry + 1)
    place = start + 8 + np.where(listed, 16 * (pairs - 1), 0)
    return np.where(listed | mobile | segments, place, UNKNOWN)


def _last_hop(matrix: Matrix, rows: NDArray[np.intp], header: NDArray[Any], end: NDArray[Any]) -> _Places:
    """Return the offset of the last address of IPv4 source routes that are not used up, else that of the header."""
    place, at = (header + 16).astype(np.intp), (header + IPV4.itemsize).astype(np.intp)
    every = np.arange(len(rows))
    for _ in range(_MOST_OPTIONS):
        every = every[at[every] + 1 < end[every]]
        every = every[matrix[rows[every], at[every]] != 0]  # the end of the list
        if len(every) == 0:
            break
        kind, size = (matrix[rows[every], at[every] + k].astype(np.intp) for k in (0, 1))
        size[kind == 1] = 1  # no operation, without a length
        sane = (size > (kind != 1)) & (at[every] + size <= end[every])
        route = sane & ((kind == _LOOSE) | (kind == _STRICT))
        which = every[route]
        place[which] = _route_end(matrix, rows[which], at[which], size[route], place[which])
        every, size = every[sane], size[sane]
        at[every] += size
    return place


def _route_end(matrix: Matrix, rows: NDArray[np.intp], at: _Places, size: _Places, place: _Places) -> _Places:
    whole: Bools = (size >= 3) & (size % 4 == 3)
    pointer = np.zeros(len(rows), np.intp)
    pointer[whole] = matrix[rows[whole], at[whole] + 2]
    done = whole & (pointer > size)
    fair = whole & (pointer >= 4) & (pointer % 4 == 0)
    return np.where(done, place, np.where(fair, at + size - 4, UNKNOWN))


def toeplitz(data: bytes, key: bytes) -> int:
    """The sum, without carries, of the 32 bits of the key from each bit of the data that is set."""
    window, value = int.from_bytes(key, "big"), 0
    for at in range(8 * len(data)):
        if data[at // 8] >> (7 - at % 8) & 1:
            value ^= window >> (8 * len(key) - 32 - at) & 0xFFFFFFFF
    return value


def flow_of(matrix: Matrix, layers: Layers, row: int) -> bytes:
    """What a network card hashes."""
    at, end = int(layers.l3_offset[row]), int(layers.l4_offset[row])
    if not (layers.ipv4[row] or layers.ipv6[row]):
        return b""
    addresses = matrix[row, at + 12 : at + 20] if layers.ipv4[row] else matrix[row, at + 8 : at + 40]
    ported = (layers.udp[row] or layers.tcp[row]) and not layers.is_fragment[row]
    return addresses.tobytes() + (matrix[row, end : end + 4].tobytes() if ported else b"")


def push_vlan(packet: bytes, tag: bytes, width: int) -> bytes:
    return packet[:12] + tag + packet[12:] if 14 <= len(packet) <= width - 4 else packet


def pop_vlan(packet: bytes, width: int) -> bytes:
    tagged = packet[12:14] in (b"\x81\0", b"\x88\xa8", b"\x91\0")
    return packet[:12] + packet[16:] if tagged and 18 <= len(packet) <= width else packet
