# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The rings: cursors over descriptors in shared memory, and loops that move whole bursts without the interpreter lock.

Theory of operation
-------------------
A ring has ``size`` slots (a power of two) and two free-running 16 bit indices. The slave stores ``head``, the master stores
``tail``, in both directions; slot = index & (size - 1), every difference is taken modulo 65536.

============  =====================================  ============================================
ring          packets become visible by              slots come back by
============  =====================================  ============================================
S2M           the slave's head                       the master's tail
M2S           the master's tail                      the slave's head (fresh buffers)
============  =====================================  ============================================

Seen from one side only two kinds remain. An `RxRing` takes packets that the peer's index made visible and gives slots back
by its own; a `TxRing` fills slots that the peer's index made free and publishes them by its own. "own" and "peer" point at
the right two words, so the loops do not ask which role they play, except where the slave's private table of buffers
replaces what the descriptors say.

What is trusted: nothing that the peer can write. This side's cursors are private copies; the peer's index is accepted only
when it lies within what the ring's state allows (else `trouble` is set and the connection must go); a descriptor is read
once into locals, checked, and only then used. A slave ignores region and offset in descriptors altogether: it knows which
buffer it put into which slot.

One thread at a time may use a ring: callers take `lock` first. The memory orders are those of protocol section 7: acquire
on the peer's index, release on our own, one full fence between publishing and looking at MASK_INT.
"""
from libc.errno cimport EINTR, errno
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy
from posix.types cimport off_t
from posix.unistd cimport close, write

from memif.ring._region cimport Region, fork_count

cdef extern from "sys/uio.h" nogil:
    cdef struct iovec:
        void *iov_base
        size_t iov_len
    ssize_t preadv2(int fd, const iovec *iov, int count, off_t offset, int flags)
    enum:
        RWF_NOWAIT


cdef void copy(uint8_t *target, const uint8_t *source, uint32_t n) noexcept nogil:
    """memcpy that does the usual small sizes in two overlapping moves of a constant size."""
    if n == 64:
        memcpy(target, source, 64)
    elif n > 128 or n < 16:
        memcpy(target, source, n)
    elif n > 64:
        memcpy(target, source, 64)
        memcpy(target + n - 64, source + n - 64, 64)
    elif n > 32:
        memcpy(target, source, 32)
        memcpy(target + n - 32, source + n - 32, 32)
    else:
        memcpy(target, source, 16)
        memcpy(target + n - 16, source + n - 16, 16)


cdef void unchain(Columns *c) noexcept nogil:
    """Empty the columns."""
    c.packets = 0
    c.descriptors = 0
    c.chained = False
    c.piece = c.length


cdef void make_chained(Columns *c) noexcept nogil:
    """From one descriptor a packet to many: split the shared array of lengths in two and number the descriptors."""
    cdef uint32_t i
    if c.chained:
        return
    memcpy(c.pieces, c.length, c.capacity * sizeof(uint32_t))
    c.piece = c.pieces
    for i in range(c.packets + 1):
        c.first[i] = i
    c.chained = True


cdef class Stats:
    """Counters of one queue: what it moved and what it dropped, and why. They never go back, not even on reconnect."""

    def as_dict(self) -> dict:
        """All counters by name."""
        return {
            "packets": self.n.packets,
            "bytes": self.n.bytes,
            "bursts": self.n.bursts,
            "bad_descriptors": self.n.bad_descriptors,
            "dropped_bad": self.n.dropped_bad,
            "dropped_oversize": self.n.dropped_oversize,
            "ring_full": self.n.ring_full,
            "interrupts_sent": self.n.interrupts_sent,
            "interrupts_received": self.n.interrupts_received,
        }


cdef class Ring:
    """What both kinds share: the place in memory, the event fd, the indices.

    regions         Region objects of the connection, by region index
    region, offset  where the ring's header stands
    log2_size       0 to 14
    slave           which side we are; the direction follows from the class (a slave receives on M2S, a master on S2M)
    event_fd        taken over: closed with the ring (-1: none)
    buffers         slave only: (region, bytes of a buffer, offsets of the buffers, one a slot)
    cache_line      64 or 128

    Raises ValueError when anything would lie outside its region, so that no loop has to ask again.
    """

    def __cinit__(self):
        self.event_fd = -1
        self.born = fork_count()

    def __init__(self, regions, uint32_t region, uint64_t offset, uint32_t log2_size, *, bint slave,
                 int event_fd=-1, buffers=None, uint32_t cache_line=64, Stats stats=None):
        if self.spans != NULL:
            raise RuntimeError("a ring is set up only once")
        self.regions = tuple(regions)
        self.views = tuple([memoryview(r) for r in self.regions])
        self.stats = stats if stats is not None else Stats()
        self.slave = slave
        self.region_index = region
        self.offset = offset
        self.set_spans()
        self.set_header(region, offset, log2_size, cache_line)
        if slave:
            self.set_slots(buffers)
        self.event_fd = event_fd

    def __dealloc__(self):
        free(self.spans)
        free(self.slots)
        if self.event_fd >= 0:
            close(self.event_fd)

    cdef set_spans(self):
        cdef Region region
        self.span_count = len(self.regions)
        self.spans = <Span *>calloc(max(self.span_count, 1), sizeof(Span))
        if self.spans == NULL:
            raise MemoryError()
        for i, r in enumerate(self.regions):
            region = r
            if not region.writable:
                raise ValueError(f"regions[{i}]: got a read-only region, allowed: writable ones")
            self.spans[<uint32_t>i].base = region.base
            self.spans[<uint32_t>i].size = region.size

    cdef set_header(self, uint32_t region, uint64_t offset, uint32_t log2_size, uint32_t cache_line):
        if region >= self.span_count:
            raise ValueError(f"region: got {region}, allowed: less than {self.span_count}")
        if log2_size > 14:
            raise ValueError(f"log2_size: got {log2_size}, allowed: 0 to 14")
        if cache_line != 64 and cache_line != 128:
            raise ValueError(f"cache_line: got {cache_line}, allowed: 64 or 128")
        self.size = 1 << log2_size
        self.wrap = <uint16_t>(self.size - 1)
        cdef uint64_t need = 2 * cache_line + 16 * <uint64_t>self.size
        cdef uint64_t size = self.spans[region].size
        cdef uint8_t *header = self.spans[region].base + offset
        if offset % 16 or need > size or offset > size - need or <size_t>header % 16:
            raise ValueError(f"offset: got {offset} for a ring of {need} bytes, allowed: a multiple of 16 inside "
                             f"the {size} bytes of region {region}")
        self.header = header
        self.mask = <uint16_t *>(header + 4)
        self.desc = <uint64_t *>(header + 2 * cache_line)
        self.own = <uint16_t *>(header + (6 if self.slave else cache_line))
        self.peer = <uint16_t *>(header + (cache_line if self.slave else 6))

    cdef set_slots(self, buffers):
        cdef uint32_t region = buffers[0]
        cdef uint64_t room = buffers[1]
        offsets = buffers[2]
        if region >= self.span_count:
            raise ValueError(f"buffers: got region {region}, allowed: less than {self.span_count}")
        if not 0 < room <= MAX_PACKET or room > self.spans[region].size:
            raise ValueError(f"buffers: got {room} bytes each, allowed: 1 to {MAX_PACKET}, inside the region")
        if len(offsets) != self.size:
            raise ValueError(f"buffers: got {len(offsets)} offsets, allowed: one a slot ({self.size})")
        self.slots = <Slot *>calloc(self.size, sizeof(Slot))
        if self.slots == NULL:
            raise MemoryError()
        cdef uint64_t start
        cdef uint32_t i
        for i in range(self.size):
            start = offsets[i]
            if start > self.spans[region].size - room or start > 0xFFFFFFFF:
                raise ValueError(f"buffers: got offset {start}, allowed: inside region {region} and below 2**32")
            self.slots[i].start = <uint32_t>start
            self.slots[i].room = <uint32_t>room
            self.slots[i].region = <uint16_t>region

    # -- what the shell asks for

    @property
    def head(self) -> int:
        """The slave's index as it stands in memory (raw, 0 to 65535)."""
        return memif_load16(self.own if self.slave else self.peer)

    @property
    def tail(self) -> int:
        """The master's index as it stands in memory (raw, 0 to 65535)."""
        return memif_load16(self.peer if self.slave else self.own)

    @property
    def flags(self) -> int:
        """The ring's flags word as it stands in memory."""
        return memif_load16(self.mask)

    @property
    def cookie(self) -> int:
        """The magic number as it stands in memory; a good ring has 0x03E31F20."""
        return (<uint32_t *>self.header)[0]

    @property
    def buffer_size(self) -> int:
        """Bytes of one buffer: our own as slave; as master the capacity in the descriptor that is next to be used."""
        if self.slave:
            return self.slots[0].room
        return <uint32_t>(memif_load64(self.desc + 2 * (self.cursor & self.wrap)) >> 32)

    def initialise(self):
        """Slave, before INIT: write the header and all descriptors. Indices 0, cookie set, interrupts allowed."""
        cdef uint32_t i
        if not self.slave:
            raise RuntimeError("only the slave writes a ring's header")
        (<uint32_t *>self.header)[0] = COOKIE
        memif_store16(self.mask, 0)
        memif_store16(self.own, 0)
        memif_store16(self.peer, 0)
        for i in range(self.size):
            memif_store64(self.desc + 2 * i, (<uint64_t>self.slots[i].region << 16)
                          | (<uint64_t>self.slots[i].room << 32))
            memif_store64(self.desc + 2 * i + 1, self.slots[i].start)

    def kill(self):
        """The connection is gone: no operation will start any more. Threads that wait are woken by the owner, through the
        control descriptor: a write to the event fd could block. Emptying it cannot, and frees a thread that does."""
        memif_flag_set(&self.dead, 1)
        self.drain()

    @property
    def alive(self) -> bool:
        """False once the connection is gone."""
        return not memif_flag_get(&self.dead)

    cdef bint wanted(self) noexcept nogil:
        """After publishing: does the consumer want an interrupt?"""
        memif_fence()
        return not memif_load16(self.mask) & MASK_INT and self.event_fd >= 0

    cdef void signal(self) noexcept nogil:
        """Interrupt the consumer. EAGAIN (the counter is full) is as good as a success.

        Never with the interpreter lock held: a hostile peer shares the descriptor's flags, can make it blocking and fill
        it. Then this thread sleeps in here, and a signal or the end of the connection frees it. Only then is there EINTR.
        """
        cdef uint64_t one = 1
        if write(self.event_fd, &one, sizeof(one)) < 0 and errno == EINTR:
            self.trouble = BLOCKED
        self.stats.n.interrupts_sent += 1

    cdef void set_mask(self, bint masked) noexcept nogil:
        memif_store16(self.mask, MASK_INT if masked else 0)
        memif_fence()

    cdef void drain(self) noexcept nogil:
        """Take the interrupts that have come. RWF_NOWAIT: the peer shares the descriptor's flags and could make a plain
        read block."""
        cdef uint64_t count = 0
        cdef iovec vector
        vector.iov_base = &count
        vector.iov_len = sizeof(count)
        if self.event_fd >= 0 and preadv2(self.event_fd, &vector, 1, -1, RWF_NOWAIT) == sizeof(count):
            self.stats.n.interrupts_received += 1


cdef inline bint peer_moved(Ring r, uint32_t bound) noexcept nogil:
    """Read the peer's index anew. It may go forward until `bound` slots lie behind settled, nothing else."""
    cdef uint16_t now = memif_load_acquire(r.peer)
    cdef uint32_t grow = <uint16_t>(now - r.seen)
    if <uint32_t>(<uint16_t>(r.seen - r.settled)) + grow > bound:
        r.trouble = BAD_INDEX
        return False
    r.seen = now
    return True


# ---------------------------------------------------------------------------------------------------------- receive


cdef class RxRing(Ring):
    """Packets from the peer: S2M on a master, M2S on a slave.

    cursor is the next slot to read, settled the oldest slot not yet given back. What a peer may have made visible never
    reaches beyond settled + size, in both roles: that is the bound for its index.
    """

    def __init__(self, *args, uint32_t headroom=0, **kwargs):
        super().__init__(*args, **kwargs)
        self.runs = <Run *>calloc(self.size, sizeof(Run))
        if self.runs == NULL:
            raise MemoryError()
        if self.slave:
            if headroom >= self.slots[0].room:
                raise ValueError(f"headroom: got {headroom}, allowed: less than the buffer size {self.slots[0].room}")
            self.settled = <uint16_t>(0 - self.size)    # no buffer is with the master yet: all slots are to be given
        self.headroom = headroom

    def __dealloc__(self):
        free(self.runs)

    def start(self):
        """Slave, after CONNECTED: hand all buffers to the master. On a master this does nothing."""
        if self.slave and self.settled == <uint16_t>(0 - self.size):
            self.give_back(self.size, self.headroom)

    cdef bint ready(self) noexcept nogil:
        """True when take would find something, be it trouble. Does not change the ring's state otherwise."""
        if not peer_moved(self, self.size):
            return True
        cdef uint32_t waiting = <uint16_t>(self.seen - self.cursor)
        return waiting != self.stalled and waiting != 0

    cdef uint32_t take(self, Columns *c, uint32_t limit) noexcept nogil:
        """Move up to `limit` packets into the columns (emptied by the caller). -> slots passed, bad ones included."""
        cdef uint16_t start = self.cursor, i = start, end
        if <uint16_t>(self.seen - i) < limit and not peer_moved(self, self.size):
            return 0
        end = self.seen
        if i == end:
            return 0
        cdef uint16_t wrap = self.wrap, region
        cdef const uint64_t *desc = self.desc
        cdef const Span *spans = self.spans
        cdef const Slot *slots = self.slots
        cdef uint32_t span_count = self.span_count, length, offset, room, n = c.packets, d = c.descriptors
        cdef uint32_t used, capacity = c.capacity
        cdef uint64_t word, total = 0
        cdef bint slave = self.slave, good
        self.stalled = 0
        while i != end and n < limit and d < capacity:
            word = memif_load64(desc + 2 * (i & wrap))
            length = <uint32_t>(word >> 32)
            if slave:
                region = slots[i & wrap].region
                offset = slots[i & wrap].start + slots[i & wrap].headroom
                good = length - 1 < slots[i & wrap].room - slots[i & wrap].headroom
            else:
                region = <uint16_t>(word >> 16)
                offset = <uint32_t>memif_load64(desc + 2 * (i & wrap) + 1)
                good = (region < span_count and length - 1 < MAX_PACKET
                        and <uint64_t>offset + length <= spans[region].size)
            if not good or word & NEXT:
                c.packets = n
                c.descriptors = d
                used = self.chain(c, i, end)
                if used == 0:
                    break
                total += c.length[n] if c.packets > n else 0
                n = c.packets
                d = c.descriptors
                i += <uint16_t>used
                continue
            memif_prefetch_read(spans[region].base + offset)
            c.length[n] = length
            c.piece[d] = length
            c.room[d] = length
            c.offset[d] = offset
            c.region[d] = region
            c.flags[d] = 0
            c.slot[d] = i & wrap
            n += 1
            d += 1
            if c.chained:
                c.first[n] = d
            total += length
            i += 1
        c.packets = n
        c.descriptors = d
        self.cursor = i
        self.stats.n.packets += n
        self.stats.n.bytes += total
        self.stats.n.bursts += n != 0
        return <uint16_t>(i - start)

    cdef uint32_t chain(self, Columns *c, uint16_t start, uint16_t end) noexcept nogil:
        """One packet of several descriptors, or one with a bad descriptor, which is dropped whole.

        -> descriptors used up; 0 when its end is not visible yet (`stalled` is set) or the columns are full.
        """
        cdef uint16_t i = start, region
        cdef uint32_t n = 0, bad = 0, total = 0, length, offset, room, at
        cdef uint64_t word
        cdef const Slot *slot
        while True:
            if i == end:
                if n < self.size:
                    self.stalled = <uint16_t>n
                    return 0
                bad += 1                            # a whole ring of pieces and no end: it will never come
                break
            word = memif_load64(self.desc + 2 * (i & self.wrap))
            length = <uint32_t>(word >> 32)
            if self.slave:
                slot = self.slots + (i & self.wrap)
                region = slot.region
                offset = slot.start + slot.headroom
                room = slot.room - slot.headroom
            else:
                region = <uint16_t>(word >> 16)
                offset = <uint32_t>memif_load64(self.desc + 2 * (i & self.wrap) + 1)
                room = MAX_PACKET
                if region >= self.span_count or <uint64_t>offset + length > self.spans[region].size:
                    room = 0
            i += 1
            if length - 1 >= room:
                bad += 1
            else:
                total += length
                at = c.descriptors + n
                if at < c.capacity:
                    c.piece[at] = c.room[at] = length
                    c.offset[at] = offset
                    c.region[at] = region
                    c.flags[at] = <uint16_t>word & NEXT
                    c.slot[at] = (i - 1) & self.wrap
            n += 1
            if not word & NEXT:
                break
        if not bad and total <= MAX_PACKET and c.descriptors + n > c.capacity:
            return 0
        if not self.slave and n > 1:                # a producer that only ORs the flag would merge later packets
            for at in range(n):
                memif_store16(<uint16_t *>(self.desc + 2 * ((start + at) & self.wrap)), 0)
        if bad:
            self.stats.n.bad_descriptors += bad
            self.stats.n.dropped_bad += 1
        elif total > MAX_PACKET:
            self.stats.n.dropped_oversize += 1
        else:
            make_chained(c)
            c.length[c.packets] = total
            c.packets += 1
            c.descriptors += n
            c.first[c.packets] = c.descriptors
        return n

    cdef uint32_t open_run(self, uint32_t slots) noexcept nogil:
        """Note that the next `slots` slots are lent out together. -> the run's number, for its `done` mark."""
        cdef uint32_t number = self.run_head
        self.runs[number & self.wrap].slots = slots
        self.runs[number & self.wrap].done = 0
        self.run_head = number + 1
        return number

    cdef void settle(self) noexcept nogil:
        """Give back all runs that are done, in the order of the ring; one still lent holds up those behind it."""
        cdef uint32_t count = 0
        while self.run_tail != self.run_head and memif_flag_get(&self.runs[self.run_tail & self.wrap].done):
            count += self.runs[self.run_tail & self.wrap].slots
            self.run_tail += 1
        if count:
            self.give_back(count, self.headroom)

    cdef void give_back(self, uint32_t count, uint32_t headroom) noexcept nogil:
        """Return the oldest `count` slots: the master stores tail; the slave re-arms the slots and stores head."""
        cdef uint16_t at = self.settled
        cdef uint32_t i
        cdef Slot *slot
        self.settled = <uint16_t>(at + count)
        if self.slave:
            for i in range(count):
                slot = self.slots + (at & self.wrap)
                slot.headroom = <uint16_t>headroom
                memif_store64(self.desc + 2 * (at & self.wrap), (<uint64_t>slot.region << 16)
                              | (<uint64_t>(slot.room - headroom) << 32))
                memif_store64(self.desc + 2 * (at & self.wrap) + 1, slot.start + headroom)
                at += 1
            memif_store_release(self.own, <uint16_t>(at + self.size))
        else:
            memif_store_release(self.own, self.settled)


# --------------------------------------------------------------------------------------------------------- transmit


cdef inline bint look_at(TxRing r, uint16_t index, Slot *slot) noexcept nogil:
    """The buffer of a free slot. As master it is what the slave published, read once and checked."""
    cdef uint64_t word
    if r.slave:
        slot[0] = r.slots[index & r.wrap]
        return True
    word = memif_load64(r.desc + 2 * (index & r.wrap))
    slot.region = <uint16_t>(word >> 16)
    slot.room = <uint32_t>(word >> 32)
    slot.start = <uint32_t>memif_load64(r.desc + 2 * (index & r.wrap) + 1)
    slot.headroom = 0
    return (slot.room != 0 and slot.region < r.span_count
            and <uint64_t>slot.start + slot.room <= r.spans[slot.region].size)


cdef inline void fill_slot(TxRing r, uint16_t index, const Slot *slot, uint32_t offset, uint32_t length,
                           uint16_t flags) noexcept nogil:
    """Write a descriptor, flags whole. A master leaves region and offset alone: copying slaves never restore them."""
    cdef uint64_t *desc = r.desc + 2 * (index & r.wrap)
    if r.slave:
        memif_store64(desc, flags | (<uint64_t>slot.region << 16) | (<uint64_t>length << 32))
        memif_store64(desc + 1, offset)
    else:
        memif_store32(<uint32_t *>desc + 1, length)
        memif_store16(<uint16_t *>desc, flags)


cdef inline void prefetch_slot(TxRing r, uint16_t index) noexcept nogil:
    cdef uint64_t word
    cdef const Slot *slot
    if r.slave:
        slot = r.slots + (index & r.wrap)
        memif_prefetch_write(r.spans[slot.region].base + slot.start)
    else:
        word = memif_load64(r.desc + 2 * (index & r.wrap))
        if <uint16_t>(word >> 16) < r.span_count:
            memif_prefetch_write(r.spans[<uint16_t>(word >> 16)].base
                                 + <uint32_t>memif_load64(r.desc + 2 * (index & r.wrap) + 1))


cdef class TxRing(Ring):
    """Packets to the peer: S2M on a slave, M2S on a master.

    cursor is the next slot to fill; settled is our own index as the peer sees it; between the two lie packets that are
    written or reserved but not published.
    """

    cdef uint32_t free_slots(self, uint32_t wanted) noexcept nogil:
        """Slots that may be filled now; looks at the peer's index only when fewer than `wanted` are known of."""
        cdef uint32_t span = self.size if self.slave else 0
        cdef uint32_t known = <uint16_t>(self.seen + span - self.cursor)
        if known >= wanted:
            return known
        # A slave's peer returns slots up to what was published; a master's peer offers at most size ahead of that.
        cdef uint16_t now
        if self.slave:
            now = memif_load_acquire(self.peer)
            if <uint16_t>(now - self.seen) > <uint16_t>(self.settled - self.seen):
                self.trouble = BAD_INDEX
                return 0
            self.seen = now
        elif not peer_moved(self, self.size):
            return 0
        return <uint16_t>(self.seen + span - self.cursor)

    cdef void spoil(self, uint16_t end) noexcept nogil:
        """The slave offered a buffer that is none, just before `end`: pass over all slots up to there as empty ones."""
        self.stats.n.bad_descriptors += 1
        while self.cursor != end:
            fill_slot(self, self.cursor, NULL, 0, 0, 0)
            self.cursor += 1

    cdef uint32_t put_rows(self, const uint8_t *rows, Py_ssize_t stride, const uint32_t *lengths, uint32_t width,
                           uint32_t count) noexcept nogil:
        """Copy `count` rows into the ring, row i being lengths[i] (or width) bytes. -> rows accepted."""
        cdef uint32_t available = self.free_slots(count), i = 0, length
        cdef uint16_t at
        cdef Slot slot
        cdef uint64_t total = 0
        self.verdict = 0
        while i < count and available:
            at = self.cursor
            length = width if lengths == NULL else lengths[i]
            if available > 4:
                prefetch_slot(self, at + 4)
            if look_at(self, at, &slot) and length <= slot.room:
                copy(self.spans[slot.region].base + slot.start, rows + i * stride, length)
                fill_slot(self, at, &slot, slot.start, length, 0)
                self.cursor = at + 1
            else:
                self.verdict = self.put(rows + i * stride, length)
                if self.verdict != 1:
                    break
            total += length
            available -= <uint16_t>(self.cursor - at)
            i += 1
        self.stats.n.packets += i
        self.stats.n.bytes += total
        self.stats.n.bursts += i != 0
        self.stats.n.ring_full += count - i
        return i

    cdef int put(self, const uint8_t *data, uint32_t length) noexcept nogil:
        """Copy one packet into the ring. -> 1 done, 0 the ring is full now, -1 it can never fit. Counts nothing."""
        cdef uint8_t *pieces = <uint8_t *>data
        return self.put_pieces(&pieces, &length, 1, length)

    cdef int put_pieces(self, uint8_t **data, const uint32_t *lengths, uint32_t count,
                        uint32_t total) noexcept nogil:
        """The same for a packet in `count` pieces of `total` bytes: gathers it into as many slots as it needs."""
        cdef Slot slot
        cdef uint32_t need = 0, room = 0, available, i = 0, done = 0, step, filled
        cdef uint16_t at
        while room < total:                         # how many slots, without touching one
            available = self.free_slots(need + 1)
            if available <= need:
                return 0
            if not look_at(self, self.cursor + need, &slot):
                self.spoil(self.cursor + need + 1)
                need = room = 0
                continue
            if need == 0 and <uint64_t>slot.room * max(self.size - 1, 1) < total:
                return -1
            room += slot.room
            need += 1
            if need > max(self.size - 1, 1):
                return -1
        while total:
            at = self.cursor
            if need == 0 or not look_at(self, at, &slot):
                self.trouble = BAD_DESCRIPTOR       # the slave changed descriptors between our two looks
                return 0
            need -= 1
            filled = 0
            while filled < slot.room and total:
                step = min(lengths[i] - done, slot.room - filled)
                copy(self.spans[slot.region].base + slot.start + filled, data[i] + done, step)
                filled += step
                done += step
                total -= step
                if done == lengths[i]:
                    i += 1
                    done = 0
            fill_slot(self, at, &slot, slot.start, filled, NEXT if total else 0)
            self.cursor = at + 1
        return 1

    cdef int swap(self, RxRing source, Columns *c, uint32_t first, uint32_t count) noexcept nogil:
        """Send a received packet without a copy: its buffers change places with those of our free slots.

        Slave only, and only between rings over the same regions. -> 1 done, 0 the ring is full.
        """
        cdef uint32_t i
        cdef Slot *mine
        cdef Slot *theirs
        cdef Slot kept
        if self.free_slots(count) < count:
            return 0
        for i in range(first, first + count):
            mine = self.slots + (self.cursor & self.wrap)
            theirs = source.slots + c.slot[i]
            kept = mine[0]
            mine[0] = theirs[0]
            theirs[0] = kept
            fill_slot(self, self.cursor, mine, c.offset[i], c.piece[i], NEXT if i + 1 < first + count else 0)
            c.slot[i] = MOVED
            self.cursor += 1
        return 1

    cdef int reserve(self, Columns *c, uint32_t size) noexcept nogil:
        """Reserve the slots of one packet of `size` bytes (0: one whole buffer) and append it to the columns.

        -> 1 done, 0 the ring (or the columns) are full, -1 it can never fit.
        """
        cdef Slot slot
        cdef uint32_t need = 0, room = 0, at, piece
        while True:
            if self.free_slots(need + 1) <= need or c.descriptors + need >= c.capacity:
                return 0
            if not look_at(self, self.cursor + need, &slot):
                self.spoil(self.cursor + need + 1)
                need = room = 0
                continue
            if need == 0 and <uint64_t>slot.room * max(self.size - 1, 1) < size or need >= max(self.size - 1, 1):
                return -1
            at = c.descriptors + need
            piece = slot.room if size == 0 else min(slot.room, size - room)
            c.piece[at] = piece
            c.room[at] = slot.room
            c.offset[at] = slot.start
            c.region[at] = slot.region
            c.slot[at] = <uint16_t>(self.cursor + need) & self.wrap
            room += piece
            need += 1
            if room >= size:
                break
            c.flags[at] = NEXT
        c.flags[at] = 0
        if need > 1:
            make_chained(c)
        c.length[c.packets] = room
        c.packets += 1
        c.descriptors += need
        if c.chained:
            c.first[c.packets] = c.descriptors
        self.cursor += <uint16_t>need
        return 1

    cdef void commit(self, Columns *c, uint32_t first_packet, uint32_t packets) noexcept nogil:
        """Write the descriptors of reserved packets; the caller has checked the lengths against the rooms."""
        cdef uint32_t p, d, low, high
        cdef uint64_t total = 0
        cdef Slot slot
        for p in range(first_packet, first_packet + packets):
            low = c.first[p] if c.chained else p
            high = c.first[p + 1] if c.chained else p + 1
            for d in range(low, high):
                slot.region = c.region[d]
                slot.start = c.offset[d]
                fill_slot(self, c.slot[d], &slot, c.offset[d], c.piece[d], c.flags[d])
                total += c.piece[d]
        self.stats.n.packets += packets
        self.stats.n.bytes += total
        self.stats.n.bursts += packets != 0

    cdef bint show(self) noexcept nogil:
        """Show the peer everything up to cursor, by one release store. -> whether it wants an interrupt for it."""
        if self.cursor == self.settled or self.trouble:
            return False
        self.settled = self.cursor
        memif_store_release(self.own, self.cursor)
        return self.wanted()

    cdef void publish(self) noexcept nogil:
        """`show`, and `signal` if need be: for callers without the interpreter lock."""
        if self.show():
            self.signal()
