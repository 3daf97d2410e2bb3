"""Where the final destination of each packet stands: the address that layer 4 checksums cover (RFC 8200, 8.1).

Mostly the one in the IP header; on the way to it, the last one of a routing header or of an IPv4 source route.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .classify import Bools, Layers
from .headers import IPV4, Matrix

UNKNOWN = -1
_SOURCE_ROUTE, _MOBILE, _SEGMENTS = 0, 2, 4  # types of routing headers: RFC 2460, RFC 6275, RFC 8754
_LOOSE, _STRICT = 131, 137  # types of IPv4 options: RFC 791
_MOST_OPTIONS = 40
_Places = NDArray[np.intp]


def final_destination(block: Matrix, layers: Layers, rows: NDArray[np.intp]) -> _Places:
    """Offsets of the final destinations of valid IP packets, the rows of ``layers`` that ``block`` is a copy of.

    `UNKNOWN` where segments are left in a routing header of another type than 0, 2 and 4, or in a malformed one, and
    where an IPv4 source route is malformed.
    """
    header, routing = layers.l3_offset[rows], layers.routing_offset[rows]
    place = (header + np.where(layers.ipv6[rows], 24, 16)).astype(np.intp)
    routed = (routing > 0).nonzero()[0]
    place[routed] = _last_segment(block, routed, routing[routed].astype(np.intp))
    optioned = (layers.ipv4[rows] & layers.has_options[rows]).nonzero()[0]
    place[optioned] = _last_hop(block, optioned, header[optioned], layers.l4_offset[rows[optioned]])
    return place


def _last_segment(matrix: Matrix, rows: NDArray[np.intp], start: NDArray[Any]) -> _Places:
    """The last address of routing headers with segments left, each of them whole."""
    pairs, odd = np.divmod(matrix[rows, start + 1].astype(np.intp), 2)  # the length counts half addresses
    kind, left, last_entry = (matrix[rows, start + at].astype(np.intp) for at in (2, 3, 4))
    listed = (kind == _SOURCE_ROUTE) & (odd == 0) & (left <= pairs)
    mobile = (kind == _MOBILE) & (odd == 0) & (pairs == 1) & (left == 1)
    # Listed backwards; a reduced list leaves out the first, which is already in the IPv6 header. TLVs may follow.
    segments = (kind == _SEGMENTS) & (last_entry < pairs) & (left <= last_entry + 1)
    place = start + 8 + np.where(listed, 16 * (pairs - 1), 0)
    return np.where(listed | mobile | segments, place, UNKNOWN)


def _last_hop(matrix: Matrix, rows: NDArray[np.intp], header: NDArray[Any], end: NDArray[Any]) -> _Places:
    """The last address of IPv4 source routes that are not used up, else that of the header."""
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
