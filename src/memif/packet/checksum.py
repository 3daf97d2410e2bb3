"""Internet checksums (RFC 1071, RFC 1624) over a whole burst.

The checksum is the complement of the one's complement sum of 16-bit words. That sum does not depend on byte order:
words are added in the machine's order, and one swap at the end gives the number on the wire. Rows end at different
offsets, which may be odd. Bytes outside the range of a row are masked to zero, which adds nothing.
"""

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memif.config import whole
from memif.errors import MemifTypeError, MemifValueError

from .classify import Bools, Ints, Layers
from .headers import IPV4, UDP, Described, Matrix, Protocol, check_matrix, gathered

Words = NDArray[np.uint16]
Sums = NDArray[np.uint64]
_CHECKSUM_AT = np.zeros(256, np.int32)  # by protocol, from the start of layer 4
_CHECKSUM_AT[[Protocol.ICMP, Protocol.ICMPV6, Protocol.UDP, Protocol.TCP]] = 2, 2, 6, 16
_SWAP = sys.byteorder == "little"


def internet_checksum(matrix: Matrix, start: Any, stop: Any) -> Words:
    """Return the checksum of bytes ``start`` to ``stop`` of each row.

    An odd count is padded with zero. For a range that includes a right checksum the result is 0.

    Args:
        matrix: uint8, shape (n, width).
        start: Offset in bytes: one for all rows, or an array of shape (n,).
        stop: Likewise, the first byte after the range.

    Returns:
        Numbers, uint16, shape (n,).

    Raises:
        MemifTypeError: when ``matrix`` is an array of another kind.
        MemifValueError: when a range leaves the matrix, or ends before it starts.
    """
    check_matrix(matrix)
    if not (isinstance(start, int) and isinstance(stop, int) and 0 <= start <= stop <= matrix.shape[1]):
        _check_offsets("stop", stop, matrix, _check_offsets("start", start, matrix, 0))
    return ~_swap(fold(raw_sum(matrix, start, stop)))


def _check_offsets(name: str, value: Any, matrix: Matrix, least: Any) -> Any:
    """Return `value`. Raise `MemifValueError` unless it has valid offsets into the rows, not below `least`."""
    width, array = matrix.shape[1], np.asarray(value)
    if array.ndim == 0:
        low = int(np.max(least, initial=0))
        return whole(name, value, low, width) if low <= width else low
    if array.dtype.kind not in "ui" or array.shape != (len(matrix),):
        what = f"a whole number, or an array of them of shape ({len(matrix)},)"
        raise MemifValueError.argument(name, Described(value), what)
    bad = np.nonzero((array < least) | (array > width))[0]
    if len(bad):
        at = int(bad[0])
        low = int(np.broadcast_to(least, array.shape)[at])
        raise MemifValueError.argument(f"{name}[{at}]", int(array[at]), f"{low} to {width}")
    return array


def raw_sum(matrix: Matrix, start: Any, stop: Any) -> Sums:
    """Return the sum under `internet_checksum`: uint64 (n,), in machine order. Add sums, then `fold` them."""
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


def update(old_checksum: Any, old: Any, new: Any) -> Words:
    """Return the checksum after one 16-bit word has changed (RFC 1624, equation 3).

    A checksum that was wrong stays wrong, so that corruption is not hidden. Arguments are numbers, or arrays of them
    that broadcast, all in the same byte order, whichever it is.

    Args:
        old_checksum: The checksum before.
        old: The word before.
        new: The word after.

    Returns:
        Array of uint16 with at least one dimension.

    Raises:
        MemifValueError: when a value is not a word of 16 bits, or shapes do not broadcast.
    """
    arguments = {"old_checksum": old_checksum, "old": old, "new": new}
    for name, value in arguments.items():
        _check_word(name, value)
    try:
        np.broadcast_shapes(*(np.shape(value) for value in arguments.values()))
    except ValueError:
        raise MemifValueError.argument("new", Described(new), "a shape that broadcasts with the others") from None
    return updated(old_checksum, old, new)


def _check_word(name: str, value: Any) -> None:
    array = np.asarray(value)
    if array.dtype.kind not in "ui" or (array.size and not 0 <= array.min() <= array.max() <= 0xFFFF):
        raise MemifValueError.argument(name, Described(value), "whole numbers from 0 to 65535")


def updated(old_checksum: Any, old: Any, new: Any) -> Words:
    """`update` without checks, for words read from packets."""
    change: Any
    total: Words
    if isinstance(old, int) and isinstance(new, int):
        change = (old ^ 0xFFFF) + new
        change = (change & 0xFFFF) + (change >> 16)
    else:
        change = fold(np.atleast_1d(_u64(old ^ 0xFFFF) + _u64(new)))
    total = (np.atleast_1d(old_checksum) ^ 0xFFFF).astype(np.uint16) + change
    carry = total < change
    total += carry  # a sum below its part has wrapped: add the carry
    return ~total


def ipv4_checksum(matrix: Matrix, layers: Layers) -> Words:
    """Return the header checksum that each IPv4 packet should have, options included; 0 for other rows."""
    _check(matrix, layers)
    value = np.zeros(len(matrix), np.uint16)
    rows = layers.ipv4.nonzero()[0]
    blank = _without(matrix, rows, layers.l3_offset[rows] + 10)
    value[rows] = ~_swap(fold(_header_sum(blank, layers, rows)))
    return value


def verify_ipv4(matrix: Matrix, layers: Layers) -> Bools:
    """Return True where a packet is valid IPv4 and its header checksum is right."""
    _check(matrix, layers)
    good = layers.ipv4.copy()
    rows: Any = slice(None) if good.all() else good.nonzero()[0]
    good[rows] = is_ones(_header_sum(matrix[rows], layers, rows))
    return good


def fill_ipv4(matrix: Matrix, layers: Layers) -> None:
    """Write the right header checksum into each valid IPv4 packet."""
    _check(matrix, layers, writable=True)
    rows = layers.ipv4.nonzero()[0]
    _put(matrix, rows, layers.l3_offset[rows] + 10, ipv4_checksum(matrix, layers)[rows])


def l4_checksum(matrix: Matrix, layers: Layers) -> Words:
    """Return the checksum that each ICMP, ICMPv6, UDP or TCP packet should have, pseudo header included.

    A UDP checksum of 0 is returned as 0xFFFF (RFC 768). The pseudo header has the final destination: with segments
    left, the last address of a routing header of type 0, 2 or 4 (segment routing), or of an IPv4 source route. The
    source is that of the IP header, also where a home address option (RFC 6275) names another.

    Args:
        matrix: uint8, shape (n, width), the matrix of ``layers``.
        layers: What `classify` returned.

    Returns:
        Numbers, uint16, shape (n,). 0 where no checksum can be computed, because the matrix does not hold all of the
        packet, or it is a fragment, or its final destination is not known.

    Raises:
        MemifTypeError: when an argument is of another kind.
        MemifValueError: when ``matrix`` is not that of ``layers``.
    """
    _check(matrix, layers)
    value = np.zeros(len(matrix), np.uint16)
    rows = l4_computable(matrix, layers).nonzero()[0]
    blank = _without(matrix, rows, _checksum_offset(layers, rows))
    computed = ~_swap(fold(_l4_sum(blank, layers, rows)))
    computed[(computed == 0) & (layers.protocol[rows] == int(Protocol.UDP))] = 0xFFFF
    value[rows] = computed
    return value


def verify_l4(matrix: Matrix, layers: Layers) -> Bools:
    """Return True where the ICMP, ICMPv6, UDP or TCP checksum can be computed (see `l4_checksum`) and is right.

    UDP over IPv4 with a checksum of 0 has no checksum, which counts as right. Over IPv6 it is wrong (RFC 8200).
    """
    _check(matrix, layers)
    good = np.zeros(len(matrix), np.bool_)
    rows = l4_computable(matrix, layers).nonzero()[0]
    block, at = matrix[rows], _checksum_offset(layers, rows)
    absent = layers.udp[rows] & (_get(block, at) == 0)
    good[rows] = np.where(absent, layers.ipv4[rows], is_ones(_l4_sum(block, layers, rows)))
    return good


def fill_l4(matrix: Matrix, layers: Layers) -> None:
    """Write the right ICMP, ICMPv6, UDP or TCP checksum into each packet that `l4_checksum` can compute one for."""
    _check(matrix, layers, writable=True)
    rows = l4_computable(matrix, layers).nonzero()[0]
    _put(matrix, rows, _checksum_offset(layers, rows), l4_checksum(matrix, layers)[rows])


def l4_computable(matrix: Matrix, layers: Layers) -> Bools:
    """Return True where a layer 4 checksum can be computed: all of an unfragmented packet is in the matrix.

    A UDP packet must also state a length of at least 8 and at most what IP carries. Where the final destination is
    not known (malformed routing headers, and other types with segments left) there is no checksum either.
    """
    known = (layers.icmp | layers.icmp6 | layers.udp | layers.tcp) & layers.whole & ~layers.is_fragment
    rows = (known & layers.udp).nonzero()[0]
    stated = gathered(matrix, UDP, layers.l4_offset, rows)["length"]
    known[rows] = (stated >= 8) & (stated <= layers.l4_length[rows])
    rows = (known & layers.has_options & ~layers.icmp).nonzero()[0]
    if len(rows):
        known[rows] = final_destination(matrix[rows], layers, rows) != UNKNOWN
    return known


def _check(matrix: Matrix, layers: Layers, *, writable: bool = False) -> None:
    if not isinstance(layers, Layers):
        raise MemifTypeError.argument("layers", Described(layers), "what classify returns")
    check_matrix(matrix, writable=writable)
    if len(matrix) != len(layers.valid) or matrix.shape[1] < layers.width:
        shape = f"({len(layers.valid)}, {layers.width})"
        raise MemifValueError.argument("matrix", Described(matrix), f"the matrix of these layers, of shape {shape}")


def _l4_sum(block: Matrix, layers: Layers, rows: NDArray[np.intp]) -> Sums:
    """Return sums over pseudo header and layer 4 of the rows of ``layers`` that ``block`` is a copy of."""
    start, length = layers.l4_offset[rows], layers.l4_length[rows].copy()
    udp = layers.udp[rows].nonzero()[0]
    length[udp] = gathered(block, UDP, start, udp)["length"]
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
    if layers.uniform is not None and not layers.has_options[rows].any():
        return raw_sum(block, layers.uniform, layers.uniform + 20)
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


def _u64(value: Any) -> Sums:
    return np.asarray(value).astype(np.uint64)


UNKNOWN = -1
_SOURCE_ROUTE, _MOBILE, _SEGMENTS = 0, 2, 4  # types of routing headers: RFC 2460, RFC 6275, RFC 8754
_LOOSE, _STRICT = 131, 137  # types of IPv4 options: RFC 791
_MOST_OPTIONS = 40
_Places = NDArray[np.intp]


def final_destination(block: Matrix, layers: Layers, rows: NDArray[np.intp]) -> _Places:
    """Return the offsets of the final destinations, which layer 4 checksums cover (RFC 8200, 8.1).

    The final destination is usually that of the IP header. On the way to it, it is the last address of a routing header
    or of an IPv4 source route. ``block`` is a copy of ``rows``, valid IP packets. The offset is `UNKNOWN` where
    segments are left in a malformed routing header, or in one of another type than 0, 2 and 4, and where an IPv4 source
    route is malformed.
    """
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
