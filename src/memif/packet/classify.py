"""Where the layers of each packet begin, and which of them can be trusted.

The link header decides the offset of layer 3 (no, one or two VLAN tags). Layer 3 is then checked once for all later
readers: a mask such as ``layers.udp`` is set only where the header lies within the packet, within the length that the
IP header states, and within the matrix, so a `gather` of those rows cannot fail.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from memif.config import one_of
from memif.errors import MemifTypeError, MemifValueError

from ._layers import find
from .headers import Described, EtherType, Matrix, Protocol, check_burst, check_matrix

Mode = Literal["ethernet", "ip"]
"""What a packet begins with, an Ethernet header or, in memif's IP mode, an IPv4 or IPv6 header."""

Bools = NDArray[np.bool_]
Ints = NDArray[np.int32]

_ICMP_SIZE, _UDP_SIZE, _TCP_SIZE = 8, 8, 20


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
    return Layers(matrix.shape[1], *find(matrix, lengths, mode == "ip"))


def check_layers(matrix: Matrix, layers: Layers, *, writable: bool = False) -> None:
    """Raise `MemifTypeError` or `MemifValueError` unless the layers can be those of the matrix."""
    if not isinstance(layers, Layers):
        raise MemifTypeError.argument("layers", Described(layers), "what classify returns")
    check_matrix(matrix, writable=writable)
    if len(matrix) != len(layers.valid) or matrix.shape[1] < layers.width:
        shape = f"({len(layers.valid)}, {layers.width})"
        raise MemifValueError.argument("matrix", Described(matrix), f"the matrix of these layers, of shape {shape}")
