"""Internet checksums (RFC 1071, RFC 1624) over a whole burst.

The checksum is the complement of the one's complement sum of 16-bit words. That sum does not depend on byte order:
words are added in the machine's order, and one swap at the end gives the number on the wire.
"""

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memif.config import whole
from memif.errors import MemifValueError

from . import _checksums
from .classify import Bools, Layers, check_layers
from .headers import Described, Matrix, check_matrix

Words = NDArray[np.uint16]
Sums = NDArray[np.uint64]
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
    ends = (at if isinstance(at, int) else np.broadcast_to(np.asarray(at), len(matrix)) for at in (start, stop))
    return ~_swap(fold(_checksums.sums(matrix, *ends)))


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
    check_layers(matrix, layers)
    return _checksums.compute_ipv4(matrix, layers)


def verify_ipv4(matrix: Matrix, layers: Layers) -> Bools:
    """Return True where a packet is valid IPv4 and its header checksum is right."""
    check_layers(matrix, layers)
    return _checksums.verify_ipv4(matrix, layers)


def fill_ipv4(matrix: Matrix, layers: Layers) -> None:
    """Write the right header checksum into each valid IPv4 packet."""
    check_layers(matrix, layers, writable=True)
    _checksums.fill_ipv4(matrix, layers)


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
    check_layers(matrix, layers)
    return _checksums.compute_l4(matrix, layers)


def verify_l4(matrix: Matrix, layers: Layers) -> Bools:
    """Return True where the ICMP, ICMPv6, UDP or TCP checksum can be computed (see `l4_checksum`) and is right.

    UDP over IPv4 with a checksum of 0 has no checksum, which counts as right. Over IPv6 it is wrong (RFC 8200).
    """
    check_layers(matrix, layers)
    return _checksums.verify_l4(matrix, layers)


def fill_l4(matrix: Matrix, layers: Layers) -> None:
    """Write the right ICMP, ICMPv6, UDP or TCP checksum into each packet that `l4_checksum` can compute one for."""
    check_layers(matrix, layers, writable=True)
    _checksums.fill_l4(matrix, layers)


def l4_computable(matrix: Matrix, layers: Layers) -> Bools:
    """Return True where a layer 4 checksum can be computed: all of an unfragmented packet is in the matrix.

    A UDP packet must also state a length of at least 8 and at most what IP carries. Where the final destination is
    not known (malformed routing headers, and other types with segments left) there is no checksum either.
    """
    return _checksums.computable_l4(matrix, layers)


def _swap(words: Words) -> Words:
    """Convert between machine order and the order on the wire."""
    return words.byteswap() if _SWAP else words


def _u64(value: Any) -> Sums:
    return np.asarray(value).astype(np.uint64)
