"""Where rings and buffers lie in shared memory: sizes and offsets, nothing else.

Both sides need this arithmetic. A slave owns the memory and decides where everything goes (`plan_layout`). A master
does not trust what a slave announces: it checks whether the rings can be used at all (`memif.protocol.offers`), and
finds out which cache line size the slave was compiled for, which no message says (`infer_cache_line`,
`probe_cache_line`).

A ring starts with a header of two cache lines, so that each side writes a line of its own::

    offset 0    cookie u32, flags u16, head u16 (at 6)    first line
    offset CL   tail u16                                  second line
    offset 2CL  descriptors, 16 bytes each

CL is 64 for nearly everything and 128 for most AArch64 and all ppc64 builds of VPP, DPDK and libmemif.

Everything is computed with Python's integers, which never wrap. The C implementations compute slot numbers in 16 bits,
so buffers alias each other once there are more than 65536 of them. All functions are pure and can be called from any
thread.
"""

import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from memif.errors import MemifValueError
from memif.protocol.offers import DESCRIPTOR_SIZE, Placed, ring_header_size, ring_size_bytes
from memif.protocol.wire import MAX_LOG2, MAX_RING
from memif.types import Layout

#: Cache line sizes that peers are compiled for, in bytes.
CACHE_LINES: Final = (64, 128)
#: Largest buffer in bytes, because VPP and libmemif keep buffer sizes in 16 bits.
MAX_BUFFER_SIZE: Final = 0xFFFF
#: A descriptor's offset is 32 bits wide, so it cannot name a byte beyond this size.
OFFSET_REACH: Final = 1 << 32
#: Every buffer starts at a multiple of this, whatever its size.
BUFFER_ALIGNMENT: Final = 64
#: Where in the header a ring's head is; the tail is at the cache line size. Both are 16 bits wide.
HEAD_OFFSET: Final = 6


def align_up(value: int, alignment: int) -> int:
    """Return the smallest multiple of `alignment` (any positive number) that is not below `value`."""
    return -(-value // alignment) * alignment


@dataclass(frozen=True, slots=True)
class RingPlace:
    """One ring and where it lies.

    Attributes:
        s2m: True for slave to master (S2M), False for master to slave (M2S).
        index: Number of the ring within its direction.
        region: Index of the region that holds the ring.
        offset: Bytes from the start of that region to the ring's header.
        log2_ring_size: The ring has 2**log2_ring_size slots.
    """

    s2m: bool
    index: int
    region: int
    offset: int
    log2_ring_size: int


@dataclass(frozen=True, slots=True)
class MemoryLayout:
    """A slave's shared memory as `plan_layout` arranged it. All sizes and offsets are in bytes.

    Attributes:
        region_sizes: Size of each region, by index. Multiples of the page size.
        rings: All rings, S2M before M2S, ascending. The position is the global ring number of `slot_offset`.
        s2m_rings: Number of rings from slave to master.
        m2s_rings: Number of rings from master to slave.
        log2_ring_size: Every ring has 2**log2_ring_size slots and as many buffers.
        buffer_size: Usable bytes of each buffer: the capacity that goes into descriptors.
        cache_line: Bytes of a cache line.
        buffer_region: Index of the region that holds the buffers.
        buffer_base: Where the first buffer starts in that region.
        buffer_stride: Distance between two buffers: `buffer_size`, rounded up to an odd number of `BUFFER_ALIGNMENT`;
            to an even one where that would be too much memory.
    """

    region_sizes: tuple[int, ...]
    rings: tuple[RingPlace, ...]
    s2m_rings: int
    m2s_rings: int
    log2_ring_size: int
    buffer_size: int
    cache_line: int
    buffer_region: int
    buffer_base: int
    buffer_stride: int

    @property
    def ring_size(self) -> int:
        """Slots of each ring."""
        return 1 << self.log2_ring_size

    def slot_offset(self, ring_number: int, slot: int) -> int:
        """Return the offset in `buffer_region` of the buffer for a slot.

        Args:
            ring_number: Global number of the ring.
            slot: 0 to `ring_size` - 1. It is not masked.

        Raises:
            MemifValueError: when there is no such ring or slot.
        """
        if not 0 <= ring_number < len(self.rings):
            raise MemifValueError.argument("ring_number", ring_number, f"0 to {len(self.rings) - 1}")
        if not 0 <= slot < self.ring_size:
            raise MemifValueError.argument("slot", slot, f"0 to {self.ring_size - 1}")
        return self.buffer_base + ((ring_number << self.log2_ring_size) + slot) * self.buffer_stride


def plan_layout(
    s2m_rings: int = 1,
    m2s_rings: int = 1,
    log2_ring_size: int = 10,
    buffer_size: int = 2048,
    *,
    cache_line: int = 64,
    kind: Layout = "single",
    page_size: int = mmap.PAGESIZE,
) -> MemoryLayout:
    """Arrange a slave's rings and buffers: one buffer for every slot of every ring.

    Rings follow each other without a gap, so that a master can infer `cache_line`.

    Args:
        s2m_rings: Number of rings from slave to master, 0 to 256.
        m2s_rings: Number of rings from master to slave, 0 to 256, not both 0.
        log2_ring_size: Every ring has 2**log2_ring_size slots, 0 to 14.
        buffer_size: Usable bytes of each buffer, 1 to 65535.
        cache_line: 64 or 128 bytes.
        kind: "single" makes one region: rings first, then buffers. Every known master can use it. "split" puts the
            buffers into region 1, from offset 0, as newer versions of libmemif do. libmemif 2.0 as master maps only
            region 0 and cannot work with it.
        page_size: Page size of the memory that the regions will be made of (an allocator's ``page_size``). Region sizes
            are multiples of it.

    Raises:
        MemifValueError: when an argument is out of range, or the memory would exceed the 4 GiB that the 32-bit offset
            of a descriptor can reach.
    """
    _check_arguments(s2m_rings, m2s_rings, log2_ring_size, buffer_size, cache_line, kind, page_size)
    ring_bytes = ring_size_bytes(log2_ring_size, cache_line)
    rings = _place_rings(s2m_rings, m2s_rings, log2_ring_size, ring_bytes)
    rings_end = len(rings) * ring_bytes
    base = align_up(rings_end, max(BUFFER_ALIGNMENT, cache_line)) if kind == "single" else 0
    stride = align_up(buffer_size, BUFFER_ALIGNMENT)
    # An odd number of cache lines: else the first lines of all buffers fall into a few sets of the caches, and push out
    # each other.
    if base + (len(rings) << log2_ring_size) * (stride | BUFFER_ALIGNMENT) <= OFFSET_REACH:
        stride |= BUFFER_ALIGNMENT
    buffers_end = base + (len(rings) << log2_ring_size) * stride
    if max(rings_end, buffers_end) > OFFSET_REACH:
        raise MemifValueError(_too_large(s2m_rings, m2s_rings, log2_ring_size, buffer_size, buffers_end))
    ends = (buffers_end,) if kind == "single" else (rings_end, buffers_end)
    return MemoryLayout(
        region_sizes=tuple(align_up(end, page_size) for end in ends),
        rings=rings,
        s2m_rings=s2m_rings,
        m2s_rings=m2s_rings,
        log2_ring_size=log2_ring_size,
        buffer_size=buffer_size,
        cache_line=cache_line,
        buffer_region=len(ends) - 1,
        buffer_base=base,
        buffer_stride=stride,
    )


def _place_rings(s2m_rings: int, m2s_rings: int, log2_size: int, ring_bytes: int) -> tuple[RingPlace, ...]:
    names = [(True, i) for i in range(s2m_rings)] + [(False, i) for i in range(m2s_rings)]
    return tuple(RingPlace(s2m, index, 0, number * ring_bytes, log2_size) for number, (s2m, index) in enumerate(names))


def _check_arguments(
    s2m: int, m2s: int, log2: int, buffer_size: int, cache_line: int, kind: str, page_size: int
) -> None:
    for name, value, low, high in (
        ("s2m_rings", s2m, 0, MAX_RING + 1),
        ("m2s_rings", m2s, 0, MAX_RING + 1),
        ("log2_ring_size", log2, 0, MAX_LOG2),
        ("buffer_size", buffer_size, 1, MAX_BUFFER_SIZE),
    ):
        if not low <= value <= high:
            raise MemifValueError.argument(name, value, f"{low} to {high}")
    if s2m + m2s == 0:
        raise MemifValueError("arguments s2m_rings and m2s_rings: both 0, at least one ring is needed")
    if cache_line not in CACHE_LINES:
        raise MemifValueError.argument("cache_line", cache_line, "64 or 128")
    if kind not in ("single", "split"):
        raise MemifValueError.argument("kind", kind, "'single' or 'split'")
    if page_size < mmap.PAGESIZE or page_size & (page_size - 1):
        raise MemifValueError.argument("page_size", page_size, f"a power of two, at least {mmap.PAGESIZE}")


def _too_large(s2m: int, m2s: int, log2: int, buffer_size: int, needed: int) -> str:
    return (
        f"s2m_rings={s2m} and m2s_rings={m2s} with log2_ring_size={log2} and buffer_size={buffer_size} "
        f"need {needed / 2**30:.2f} GiB in one region, allowed: 4 GiB; lower one of these arguments"
    )


def infer_cache_line(rings: Sequence[Placed], region_sizes: Sequence[int] = ()) -> int | None:
    """Return the cache line size that a peer's rings were laid out for.

    All known slaves put their rings side by side, so the bytes from the end of one ring's descriptors to the next ring
    are the header: 128 or 256. Too little room for the larger header, also at the end of a region, proves 64. Exactly
    the larger header points to 128. A wider distance, or a single ring with room after it, says nothing: see
    `probe_cache_line`, and take 64 if that does not help either.

    Safe for unchecked values of a peer. Run `memif.protocol.offers.check_offer` with the result.

    Args:
        rings: The rings that the peer announced.
        region_sizes: Bytes of each region, by index.

    Returns:
        64, 128, or None when it is not clear.
    """
    gaps = _gaps_between(rings)
    large = ring_header_size(128)
    if any(gap < large for gap in (*gaps, *_gaps_at_end(rings, region_sizes))):
        return 64
    return 128 if large in gaps else None


def _gaps_between(rings: Sequence[Placed]) -> list[int]:
    ordered = sorted(rings, key=lambda ring: (ring.region, ring.offset))
    return [
        after.offset - before.offset - (DESCRIPTOR_SIZE << before.log2_ring_size)
        for before, after in pairwise(ordered)
        if before.region == after.region and 0 <= before.log2_ring_size <= MAX_LOG2
    ]


def _gaps_at_end(rings: Sequence[Placed], region_sizes: Sequence[int]) -> list[int]:
    return [
        region_sizes[ring.region] - ring.offset - (DESCRIPTOR_SIZE << ring.log2_ring_size)
        for ring in rings
        if 0 <= ring.region < len(region_sizes) and 0 <= ring.log2_ring_size <= MAX_LOG2
    ]


def probe_cache_line(region: memoryview, ring: Placed) -> int | None:
    """Return the cache line size that the content of a ring shows.

    For a peer with a single ring, where `infer_cache_line` has nothing to compare. Slaves fill all descriptors before
    they connect, except VPP in zero-copy mode. With a line of 128 the bytes after the tail word, up to offset 256, are
    padding and zero; with 64 the first descriptors are there.

    Args:
        region: The mapped region of the ring as bytes (format "B"). Nothing outside of it is read.
        ring: The ring that the peer announced.

    Returns:
        64, 128, or None when the whole ring is zero.
    """
    padding = region[ring.offset + 128 + 2 : ring.offset + 256]
    if any(padding):
        return 64
    slots = 1 << min(max(ring.log2_ring_size, 0), MAX_LOG2)
    start = ring.offset + ring_header_size(128)
    return 128 if any(region[start : start + slots * DESCRIPTOR_SIZE]) else None
