"""Where the layers of each packet begin, and which of them can be trusted.

The link header decides the offset of layer 3 (no, one or two VLAN tags). Layer 3 is then checked once for all later
readers: a mask such as ``layers.udp`` is set only where the header lies within the packet, within the length that the
IP header states, and within the matrix, so a `gather` of those rows cannot fail.
"""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from memif.config import one_of

from .headers import ARP, IPV4, IPV6, EtherType, Matrix, Protocol, check_burst

Mode = Literal["ethernet", "ip"]
"""What a packet begins with, an Ethernet header or, in memif's IP mode, an IPv4 or IPv6 header."""

Bools = NDArray[np.bool_]
Ints = NDArray[np.int32]

_OTHER, _TAG, _ARP, _IPV4, _IPV6 = range(5)
_U16 = np.dtype(">u2")
_ETHERNET_SIZE, _TAG_SIZE, _MOST_TAGS = 14, 4, 2
_FARTHEST = _ETHERNET_SIZE + _MOST_TAGS * _TAG_SIZE + IPV6.itemsize  # end of the last header read by offset
_MOST_EXTENSIONS = 8  # bounds the walk over IPv6 extension headers
_ARP_START = np.array([0, 1, 8, 0, 6, 4], np.uint8)  # Ethernet, IPv4 and the sizes of their addresses
_ICMP_SIZE, _UDP_SIZE, _TCP_SIZE = 8, 8, 20

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


@dataclass(frozen=True, eq=False)
class Layers:
    """The layers of n packets. Each array has shape (n,). Offsets and lengths are in bytes, int32.

    Fields are meaningful where ``valid`` is set. ``valid`` means: the link header is complete. For ARP: it is IPv4 over
    Ethernet and complete. For IPv4 and IPv6: version and header length are right, the length in the header does not
    exceed that of the packet, and all headers are within the matrix.
    """

    width: int
    """Bytes of each packet that the matrix holds."""
    l3_offset: Ints
    """Start of layer 3. 0 in IP mode; 14, 18 or 22 after Ethernet and its VLAN tags."""
    ethertype: NDArray[np.uint16]
    """EtherType after the tags. In IP mode that of the IP version, 0 for neither."""
    l3_header_length: Ints
    """IPv4 header with options, IPv6 header with extension headers, 28 for ARP, else 0."""
    l3_length: Ints
    """Header and payload as the IP header states it, without padding. 28 for ARP, else the rest."""
    protocol: NDArray[np.uint8]
    """IPv4's protocol, or the next header after the last IPv6 extension header; 0 when not IP."""
    is_fragment: Bools
    """Part of a fragmented packet, including the first part."""
    has_options: Bools
    """IPv4 options or IPv6 extension headers are present."""
    starts_l4: Bools
    """IP, and not a fragment after the first, so that the payload begins with the layer 4 header."""
    valid: Bools
    """See above."""
    routing_offset: Ints
    """Start of the last IPv6 routing header with segments left (the destination is not the final one); 0 for none."""
    uniform: int | None
    """The offset of layer 3 when it is known to be the same in all rows, else None."""

    @cached_property
    def l4_offset(self) -> Ints:
        """Start of layer 4, after the IP header, its options and extension headers."""
        return self.l3_offset + self.l3_header_length

    @cached_property
    def l4_length(self) -> Ints:
        """Bytes of layer 4, header included."""
        return self.l3_length - self.l3_header_length

    @cached_property
    def whole(self) -> Bools:
        """The matrix holds all of layer 3, so that checksums over the payload can be computed."""
        return self.valid & (self.l3_offset + self.l3_length <= self.width)

    @cached_property
    def arp(self) -> Bools:
        """Valid ARP."""
        return self._has(EtherType.ARP)

    @cached_property
    def ipv4(self) -> Bools:
        """Valid IPv4."""
        return self._has(EtherType.IPV4)

    @cached_property
    def ipv6(self) -> Bools:
        """Valid IPv6."""
        return self._has(EtherType.IPV6)

    @cached_property
    def icmp(self) -> Bools:
        """IPv4 with at least 8 bytes of ICMP."""
        return self.ipv4 & self._carries(Protocol.ICMP, _ICMP_SIZE)

    @cached_property
    def icmp6(self) -> Bools:
        """IPv6 with at least 8 bytes of ICMPv6."""
        return self.ipv6 & self._carries(Protocol.ICMPV6, _ICMP_SIZE)

    @cached_property
    def udp(self) -> Bools:
        """IPv4 or IPv6 with a UDP header."""
        return (self.ipv4 | self.ipv6) & self._carries(Protocol.UDP, _UDP_SIZE)

    @cached_property
    def tcp(self) -> Bools:
        """IPv4 or IPv6 with a TCP header of at least 20 bytes."""
        return (self.ipv4 | self.ipv6) & self._carries(Protocol.TCP, _TCP_SIZE)

    def _has(self, ethertype: int) -> Bools:
        mask: Bools = self.valid & (self.ethertype == int(ethertype))
        return mask

    def _carries(self, protocol: int, size: int) -> Bools:
        inside: Bools = (self.l4_length >= size) & (self.l4_offset <= self.width - size)
        inside &= self.starts_l4 & (self.protocol == int(protocol))
        return inside

    def by_offset(self, mask: Bools) -> Iterator[tuple[int, NDArray[np.intp] | None]]:
        """Split the rows of ``mask`` into groups with the same layer 3 offset, at most three.

        Yields:
            The offset and the row numbers. None in place of the numbers means all rows, so that the caller can work on
            views of the matrix itself.
        """
        rows = mask.nonzero()[0]
        if self.uniform is not None:
            if len(rows):
                yield self.uniform, None if len(rows) == len(mask) else rows
            return
        offsets = self.l3_offset[rows]
        for offset in np.unique(offsets):
            yield int(offset), rows[offsets == offset]


def classify(matrix: Matrix, lengths: NDArray[Any], mode: Mode = "ethernet") -> Layers:
    """Find the layers of a burst.

    Args:
        matrix: uint8, shape (n, width), the head of each packet. Only read. A width of 64 reaches every header of
            untagged traffic without IP options except TCP over IPv6; 128 suits tags and options.
        lengths: True packet lengths in bytes, integers, shape (n,). Bytes after a packet's end are ignored.
        mode: "ethernet" or "ip".

    Raises:
        MemifTypeError: when an argument is an array of another kind.
        MemifValueError: when shapes do not match, or the mode is unknown.
    """
    check_burst(matrix, lengths)
    one_of("mode", mode, ("ethernet", "ip"))
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
    """The work of `classify`: the link layer, then layer 3 for each group of rows of one kind at one offset.

    Columns start as shared constants. A group of all rows (the usual case) replaces a column; a smaller group
    writes into a copy of it. So a burst of one kind costs no more than the fields it must read.
    """

    def __init__(self, head: Matrix, width: int, lengths: Ints, mode: Mode) -> None:
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
