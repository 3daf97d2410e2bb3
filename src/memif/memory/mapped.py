"""The mapped memory of one connection, with its rings: created by a slave, or adopted from a slave by a master."""

import fcntl
import os
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import cast

from memif.errors import ErrorCode, MemifError, MemifOSError, MemifProtocolError, MemifValueError, from_os_error
from memif.logs import get_logger, of
from memif.memory.allocator import Allocator, allocate, allocator_map, allocator_page_size, allocator_place
from memif.memory.layout import MemoryLayout, infer_cache_line, plan_layout, probe_cache_line
from memif.memory.region import check_own_fd, check_peer_fd, keeps_pages, mapping_size
from memif.protocol import CreateMemory, MapMemory, RegionOffer, RingOffer
from memif.protocol.offers import check_offer
from memif.protocol.wire import COOKIE
from memif.ring import Region, RxRing, TxRing
from memif.system._steady import discard, eventfd
from memif.types import Layout, SealPolicy

_log = get_logger("memif.memory")


@dataclass(slots=True)
class Mapped:
    """Regions and rings of one connection.

    Attributes:
        regions: The mapped regions, by index.
        rx: Rings to receive from, by index.
        tx: Rings to send on, by index.
        fds: Descriptors of the regions.
        external: Whether the allocator mapped the memory.
        allocator: Where a slave's memory comes from; None for a master.
    """

    regions: tuple[Region, ...]
    rx: list[RxRing] = field(default_factory=list)
    tx: list[TxRing] = field(default_factory=list)
    fds: list[int] = field(default_factory=list)
    external: bool = False
    allocator: Allocator | None = None

    def close(self) -> None:
        """Close the descriptors. The memory itself stays mapped until its last view is gone."""
        while self.fds:
            fd = self.fds.pop()
            if self.allocator is None:
                discard(fd)
            elif allocator_map(self.allocator) is None:
                self.allocator.free(fd, None)
            # else: freed with the last view, see _map_own


def create(
    wanted: CreateMemory,
    *,
    buffer_size: int,
    kind: Layout,
    cache_line: int,
    headroom: int,
    allocator: Allocator,
    seal: SealPolicy = "add",
) -> tuple[Mapped, list[RegionOffer], list[RingOffer]]:
    """Slave: create and map the memory for the numbers that were agreed on, and initialise all rings.

    Args:
        wanted: The numbers.
        buffer_size: Usable bytes of each buffer.
        kind: Whether rings and buffers share a region; see `plan_layout`.
        cache_line: Bytes of a cache line, 64 or 128.
        headroom: Bytes left free at the start of each buffer.
        allocator: Where the memory comes from.
        seal: "require" refuses memory whose pages the master could take away.

    Returns:
        The memory, and the offers of regions and rings for the handshake. The descriptors in the offers stay ours:
        those of regions are in `Mapped.fds`, the event fds belong to the rings.

    Raises:
        MemifError: when the memory cannot be created. Nothing is left behind then.
    """
    plan = plan_layout(
        wanted.s2m_rings,
        wanted.m2s_rings,
        wanted.log2_ring_size,
        buffer_size,
        kind=kind,
        cache_line=cache_line,
        page_size=allocator_page_size(allocator),
    )
    mapped = Mapped((), allocator=allocator, external=allocator_map(allocator) is not None)
    _allocate(plan, mapped, allocator)
    try:
        for fd in mapped.fds if seal == "require" else ():
            check_own_fd(fd)
        rings = [_own_ring(mapped, plan, number, headroom) for number in range(len(plan.rings))]
    except BaseException as error:
        mapped.close()
        if isinstance(error, ValueError) and not isinstance(error, MemifError):
            raise MemifValueError(f"the allocator's place(): {error}") from error
        raise
    offers = [RegionOffer(size, fd) for size, fd in zip(plan.region_sizes, mapped.fds, strict=True)]
    return mapped, offers, rings


def _allocate(plan: MemoryLayout, mapped: Mapped, allocator: Allocator) -> None:
    try:
        for size in plan.region_sizes:
            mapped.fds.append(allocate(allocator, size))
            mapped.regions += (_map_own(mapped.fds[-1], size, allocator),)
    except BaseException as error:
        mapped.close()
        if isinstance(error, OSError) and not isinstance(error, MemifError):
            raise from_os_error(error, "mapping shared memory") from error
        raise


def _map_own(fd: int, size: int, allocator: Allocator) -> Region:
    bring = allocator_map(allocator)
    if bring is None:
        return Region(fd, size)
    buffer = None
    view = None
    try:
        buffer = bring(fd, size)
        view = memoryview(cast(bytearray, buffer))
        if view.nbytes < size:
            raise MemifOSError(f"allocator.map gave {view.nbytes} bytes, {size} are needed")
        region = Region.wrap(view)
    except BaseException:
        if view is not None:
            view.release()
        allocator.free(fd, buffer)
        raise
    # The user's memory is freed when the last view of it is gone, which may be long after the disconnect. `view` is
    # released after the region, and only then is the buffer no longer exported, so that it can be closed. When the
    # interpreter ends first, views can be in use until the end, and the memory is never freed.
    weakref.finalize(view, allocator.free, fd, buffer).atexit = False
    return region


def _own_ring(mapped: Mapped, plan: MemoryLayout, number: int, headroom: int) -> RingOffer:
    place = plan.rings[number]
    first = plan.slot_offset(number, 0)
    buffers: Sequence[int] = range(first, first + plan.ring_size * plan.buffer_stride, plan.buffer_stride)
    if (place_buffers := allocator_place(mapped.allocator)) is not None:
        buffers = place_buffers(plan.ring_size)
    event_fd = eventfd()
    try:
        where = (mapped.regions, place.region, place.offset, place.log2_ring_size)
        description = (plan.buffer_region, plan.buffer_size, buffers)
        line = plan.cache_line
        if place.s2m:
            tx = TxRing(*where, slave=True, buffers=description, cache_line=line, event_fd=event_fd)
            mapped.tx.append(tx)
            tx.initialise()
        else:
            rx = RxRing(*where, slave=True, buffers=description, cache_line=line, event_fd=event_fd, headroom=headroom)
            mapped.rx.append(rx)
            rx.initialise()
    except BaseException:
        event_fd.close()  # does nothing when a ring has it
        raise
    return RingOffer(place.s2m, place.index, place.region, place.offset, place.log2_ring_size, event_fd)


def adopt(
    wanted: MapMemory,
    *,
    seal: SealPolicy,
    limit: int,
    cache_line: int | None,
    name: str,
    bring: Callable[[int, int, int], Region | None] | None = None,
) -> Mapped:
    """Master: check and map what a slave offers.

    Args:
        wanted: The offer. All its descriptors are taken, also when this raises.
        seal: Whether memory that can shrink is refused; see `check_peer_fd`.
        limit: The most bytes of a region.
        cache_line: Bytes of the slave's cache line; None to find it out.
        name: The interface's name, for the log.
        bring: ``bring(index, fd, size)`` may map a region after the checks. Where it returns None, or is None, the
            region is mapped here.

    Raises:
        MemifProtocolError: when the memory cannot be trusted, or the descriptor is not memory. Its `detail` is to be
            sent in DISCONNECT.
        MemifError: when this system cannot map the memory.
    """
    left = [ring.fd for ring in wanted.rings]
    mapped = Mapped((), fds=[region.fd for region in wanted.regions])
    try:
        mapped.regions = tuple(
            _map_peers(region, seal, limit, name, None if bring is None else partial(bring, index))
            for index, region in enumerate(wanted.regions)
        )
        line = _find_cache_line(wanted, mapped.regions, cache_line)
        check_offer([region.size for region in wanted.regions], wanted.rings, line)
        for ring in wanted.rings:
            _check_event_fd(ring.fd)
            kind = RxRing if ring.s2m else TxRing
            made = kind(
                mapped.regions,
                ring.region,
                ring.offset,
                ring.log2_ring_size,
                slave=False,
                cache_line=line,
                event_fd=ring.fd,
            )
            left.remove(ring.fd)
            (mapped.rx if ring.s2m else mapped.tx).append(made)  # type: ignore[arg-type]
            if made.cookie != COOKIE:
                # VPP's text, where "tx" is what the slave sends on.
                text = f"wrong cookie on {'tx' if ring.s2m else 'rx'} ring {ring.index}"
                raise MemifProtocolError(text, code=ErrorCode.COOKIE)
    except BaseException as error:
        mapped.close()
        for fd in left:
            discard(fd)
        if isinstance(error, OSError) and not isinstance(error, MemifError):
            raise from_os_error(error, "mapping the peer's memory") from error
        raise
    return mapped


def _map_peers(
    region: RegionOffer, seal: SealPolicy, limit: int, name: str, bring: Callable[[int, int], Region | None] | None
) -> Region:
    if not check_peer_fd(region.fd, region.size, seal=seal, limit=limit):
        _log.warning(
            "%s: the peer's memory is not sealed; if it shrinks it, this process dies of SIGBUS "
            '(seal="require" refuses such peers)',
            name,
            extra=of(name),
        )
    elif not keeps_pages(region.fd):
        _log.warning(
            "%s: the peer's memory is of huge pages or a file; if it punches holes into it, this process may die of "
            'SIGBUS (seal="require" refuses such peers)',
            name,
            extra=of(name),
        )
    brought = None if bring is None else bring(region.fd, region.size)
    return brought or Region(region.fd, mapping_size(region.fd, region.size))


def _find_cache_line(wanted: MapMemory, regions: Sequence[Region], told: int | None) -> int:
    if told is not None:
        return told
    found = infer_cache_line(wanted.rings, [region.size for region in wanted.regions])
    if found is None:
        ring = wanted.rings[0]
        with memoryview(regions[ring.region]) as memory:
            found = probe_cache_line(memory, ring)
    return found or 64


def _check_event_fd(fd: int) -> None:
    """Check that an interrupt fd is an eventfd: a write to anything else could block or do worse."""
    try:
        if os.readlink(f"/proc/self/fd/{fd}") != "anon_inode:[eventfd]":
            raise MemifProtocolError("ring interrupt fd is not an eventfd", code=ErrorCode.NO_INTFD)
        # The peer shares this flag and could clear it again. The security page says what follows.
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_NONBLOCK)
    except MemifError:
        raise
    except OSError as error:
        raise MemifProtocolError("ring interrupt fd cannot be used", code=ErrorCode.BAD_FD) from error
