"""Where rings may lie in a slave's regions: the check that both sides make of the announced numbers.

The master checks what a client announced before it maps anything, and again once it knows the client's cache line. The
slave checks its own memory too, because some masters (VPP's among them) use the numbers unchecked and would crash on
wrong ones.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final, Protocol

from memif.errors import ErrorCode, MemifProtocolError
from memif.protocol.refusals import NO_RINGS, RING_SIZE, broken
from memif.protocol.wire import MAX_LOG2

#: Bytes of one descriptor.
DESCRIPTOR_SIZE: Final = 16
# Below this the atomic access to the indices could straddle a cache line.
_ALIGNMENT = 16


class Placed(Protocol):
    """What the check reads of a ring. `RingOffer` and `memif.memory.RingPlace` have it."""

    @property
    def s2m(self) -> bool:
        """True for slave to master (S2M), False for master to slave (M2S)."""

    @property
    def index(self) -> int:
        """Number of the ring within its direction."""

    @property
    def region(self) -> int:
        """Region that holds the ring."""

    @property
    def offset(self) -> int:
        """Bytes from the start of that region to the ring's header."""

    @property
    def log2_ring_size(self) -> int:
        """The ring has 2**log2_ring_size slots."""


def ring_header_size(cache_line: int = 64) -> int:
    """Return the bytes before the first descriptor of a ring: two cache lines, one for each side to write."""
    return 2 * cache_line


def ring_size_bytes(log2_size: int, cache_line: int = 64) -> int:
    """Return the bytes of a whole ring of 2**`log2_size` slots, header included."""
    return ring_header_size(cache_line) + (DESCRIPTOR_SIZE << log2_size)


def check_offer(region_sizes: Sequence[int], rings: Sequence[Placed], cache_line: int = 64) -> None:
    """Check that every ring can be used safely.

    There must be at least one ring. Each must have at most 2**14 slots, lie inside a region, start at a multiple of 16
    so that its indices and descriptors are aligned, and share no byte with another ring.

    Args:
        region_sizes: Bytes of each region, by index.
        rings: The rings.
        cache_line: Bytes of a cache line, 64 or 128.

    Raises:
        MemifProtocolError: when a ring is not safe. Its `detail` has at most 95 bytes of ASCII, to be sent to the peer
            in DISCONNECT.
    """
    if not rings:
        raise broken(NO_RINGS)
    for ring in rings:
        _check_place(ring, region_sizes, cache_line)
    _check_apart(rings, cache_line)


def _check_place(ring: Placed, region_sizes: Sequence[int], cache_line: int) -> None:
    if not 0 <= ring.log2_ring_size <= MAX_LOG2:
        raise broken(RING_SIZE, _name(ring))
    if not 0 <= ring.region < len(region_sizes):
        raise _misplaced("lies in an unknown region", ring)
    if ring.offset % _ALIGNMENT:
        raise _misplaced("is not aligned", ring)
    end = ring.offset + ring_size_bytes(ring.log2_ring_size, cache_line)
    if ring.offset < 0 or end > region_sizes[ring.region]:
        raise _misplaced("exceeds its region", ring)


def _check_apart(rings: Iterable[Placed], cache_line: int) -> None:
    ordered = sorted(rings, key=lambda ring: (ring.region, ring.offset))
    for before, after in pairwise(ordered):
        end = before.offset + ring_size_bytes(before.log2_ring_size, cache_line)
        if before.region == after.region and end > after.offset:
            raise _misplaced("overlaps its neighbour", after)


def _name(ring: Placed) -> str:
    return f"({'s2m' if ring.s2m else 'm2s'} ring {ring.index})"


def _misplaced(what: str, ring: Placed) -> MemifProtocolError:
    return MemifProtocolError(f"ring {what} {_name(ring)}", code=ErrorCode.MAXRING)
