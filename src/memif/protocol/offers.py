"""Checks of the rings and regions that a slave offers, as far as their numbers tell.

The master runs them on what a client announced, before any of it is mapped. The slave runs them on its own
memory as well, because some masters (VPP's among them) use the numbers unchecked and would crash on wrong
ones.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

from memif.errors import ErrorCode, MemifProtocolError
from memif.protocol.actions import RegionOffer, RingOffer
from memif.protocol.refusals import NO_RINGS, RING_SIZE, broken
from memif.protocol.wire import MAX_LOG2

#: Smallest header of a ring, two cache lines of 64 bytes. Machines with lines of 128 bytes have 256.
MIN_RING_HEADER = 128
#: Bytes of one descriptor.
DESCRIPTOR_SIZE = 16
# Below this the atomic access to the indices could straddle a cache line.
_ALIGNMENT = 16


def ring_bytes(log2_ring_size: int) -> int:
    """Bytes that a ring of ``2 ** log2_ring_size`` descriptors takes at least."""
    return MIN_RING_HEADER + (DESCRIPTOR_SIZE << log2_ring_size)


def check_offer(regions: Sequence[RegionOffer], rings: Sequence[RingOffer]) -> None:
    """Raise `MemifProtocolError` unless every ring lies inside a region and no two overlap."""
    if not rings:
        raise broken(NO_RINGS)
    for ring in rings:
        _check_place(ring, regions)
    _check_apart(rings)


def _check_place(ring: RingOffer, regions: Sequence[RegionOffer]) -> None:
    if ring.log2_ring_size > MAX_LOG2:
        raise broken(RING_SIZE, _name(ring))
    if ring.region >= len(regions):
        raise _misplaced("lies in an unknown region", ring)
    if ring.offset % _ALIGNMENT:
        raise _misplaced("is not aligned", ring)
    if ring.offset + ring_bytes(ring.log2_ring_size) > regions[ring.region].size:
        raise _misplaced("exceeds its region", ring)


def _check_apart(rings: Iterable[RingOffer]) -> None:
    ordered = sorted(rings, key=lambda ring: (ring.region, ring.offset))
    for before, after in pairwise(ordered):
        if before.region == after.region and before.offset + ring_bytes(before.log2_ring_size) > after.offset:
            raise _misplaced("overlaps its neighbour", after)


def _name(ring: RingOffer) -> str:
    return f"({'s2m' if ring.s2m else 'm2s'} ring {ring.index})"


def _misplaced(what: str, ring: RingOffer) -> MemifProtocolError:
    return MemifProtocolError(f"ring {what} {_name(ring)}", code=ErrorCode.MAXRING)
