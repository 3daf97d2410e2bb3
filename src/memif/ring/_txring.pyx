# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: auto_pickle=False, autotestdict=False
"""TxRing: packets to the peer, copied in, written in place, or moved over from a receiving ring."""
cimport cython
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from memif.ring._atomics cimport (memif_load32, memif_load64, memif_load_acquire, memif_prefetch_write, memif_store16,
                                  memif_store32, memif_store64, memif_store_pair, memif_store_release)
from memif.ring._columns cimport MAX_PACKET, MOVED, Columns, copy, first_of, make_chained, sent_of
from memif.ring._ring cimport BAD_DESCRIPTOR, BAD_INDEX, NEXT, Slot, Span, peer_moved

cdef enum:                  # measured between cores that share their L3 cache, and between such that do not
    AHEAD = 8               # how many slots ahead to ask for the lines of a buffer
    AHEAD_BYTES = 512       # and for how many bytes of it


cdef inline bint look_at(TxRing r, uint16_t index, Slot *slot) noexcept nogil:
    """The buffer of a free slot. As master it is what the slave published, read once and checked."""
    cdef uint64_t word
    cdef uint32_t room
    if r.slave:
        slot[0] = r.slots[index & r.wrap]
        return True
    word = memif_load64(r.desc + 2 * (index & r.wrap))
    room = <uint32_t>(word >> 32)
    slot.region = <uint16_t>(word >> 16)
    slot.room = min(room, MAX_PACKET)
    slot.start = <uint32_t>memif_load64(r.desc + 2 * (index & r.wrap) + 1)
    slot.headroom = 0
    return (room != 0 and slot.region < r.span_count
            and <uint64_t>slot.start + room <= r.spans[slot.region].size)


cdef inline void fill_slot(TxRing r, uint16_t index, const Slot *slot, uint32_t offset, uint32_t length,
                           uint16_t flags) noexcept nogil:
    """Write a descriptor, flags whole. A master leaves region and offset alone: copying slaves never restore
    them. It notes the capacity that its length replaces, in case the packet is taken back before it is
    published."""
    cdef uint64_t *desc = r.desc + 2 * (index & r.wrap)
    if r.slave:
        memif_store64(desc, flags | (<uint64_t>slot.region << 16) | (<uint64_t>length << 32))
        memif_store64(desc + 1, offset)
    else:
        r.rooms[index & r.wrap] = slot.room
        memif_store32(<uint32_t *>desc + 1, length)
        memif_store16(<uint16_t *>desc, flags)


cdef inline uint32_t put_singly(TxRing r, const uint8_t *rows, Py_ssize_t stride, const uint32_t *lengths,
                                uint32_t width, uint32_t count, bint slave) noexcept nogil:
    """Copy rows into a free slot each until one needs more than that. -> rows copied.

    Nearly every line that this writes was last held by the peer's core, and stores leave a core in order: how
    many such lines can be under way together depends on how many stores the packets take. Hence everything in
    locals, so that registers hold it, a role that is known when this is compiled, and one store a descriptor.
    """
    cdef uint16_t at = r.cursor, wrap = r.wrap
    cdef uint64_t *desc = r.desc
    cdef const Slot *slots = r.slots
    cdef const Span *spans = r.spans
    cdef uint32_t *rooms = r.rooms
    cdef uint32_t available = r.free_slots(count), most = min(count, available)
    cdef uint32_t span_count = r.span_count, i, length = width, room, region, slot
    cdef uint64_t word, start
    for i in range(most):
        if lengths != NULL:
            length = memif_load32(lengths + i)
            if length - 1 >= width:                 # changed by another thread since the caller's check
                break
        if i + AHEAD < available:                   # no line of a slot that the peer still reads
            prefetch_slot(r, (at + AHEAD) & wrap, length, slave)
        slot = at & wrap
        if slave:
            region = slots[slot].region
            start = slots[slot].start
            if length > slots[slot].room:
                break
        else:
            word = memif_load64(desc + 2 * slot)
            start = <uint32_t>memif_load64(desc + 2 * slot + 1)
            region = <uint16_t>(word >> 16)
            room = <uint32_t>(word >> 32)
            if length > room or region >= span_count or start + room > spans[region].size:
                break
            if rooms[slot] != room:                 # seldom
                rooms[slot] = min(room, MAX_PACKET)
        copy(spans[region].base + start, rows, length)
        if slave:
            memif_store_pair(desc + 2 * slot, <uint64_t>length << 32 | region << 16, start)
        else:
            memif_store64(desc + 2 * slot, <uint64_t>length << 32 | region << 16)
        rows += stride
        at += 1
    else:
        i = most
    r.cursor = at
    return i


cdef inline void prefetch_slot(TxRing r, uint32_t slot, uint32_t length, bint slave) noexcept nogil:
    """Ask for the lines of a slot that will be written soon. A hint only: what the peer wrote into the
    descriptor need not be sane here."""
    cdef uint32_t region
    cdef uint8_t *line
    cdef uint8_t *end
    if slave:
        line = r.spans[r.slots[slot].region].base + r.slots[slot].start
    else:
        region = <uint16_t>(memif_load64(r.desc + 2 * slot) >> 16)
        if region >= r.span_count:
            return
        line = r.spans[region].base + <uint32_t>memif_load64(r.desc + 2 * slot + 1)
    end = line + min(length, AHEAD_BYTES)
    while line < end:
        memif_prefetch_write(line)
        line += 64


@cython.final
@cython.no_gc_clear         # a burst that dies later gives its slots back through the mapped memory
cdef class TxRing(Ring):
    """Packets to the peer: S2M on a slave, M2S on a master.

    cursor is the next slot to fill; settled is our own index as the peer sees it; between the two lie packets
    that are written or reserved but not published. Arguments as in `Ring`.
    """

    def __dealloc__(self):
        free(self.rooms)

    cdef prepare(self):
        if not self.slave:
            self.rooms = <uint32_t *>calloc(self.size, sizeof(uint32_t))
            if self.rooms == NULL:
                raise MemoryError()

    cdef uint32_t free_slots(self, uint32_t wanted) noexcept nogil:
        """Slots that may be filled now; looks at the peer's index only when fewer than `wanted` are known
        of."""
        cdef uint32_t span = self.size if self.slave else 0
        cdef uint32_t known = <uint16_t>(self.seen + span - self.cursor)
        cdef uint16_t now
        if known >= wanted:
            return known
        # A slave's peer returns slots up to what was published; a master's peer offers at most size ahead of
        # that.
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
        """The slave offered a buffer that is none, just before `end`: pass over all slots up to there as
        empty ones."""
        cdef Slot slot
        self.stats.n.bad_descriptors += 1
        while self.cursor != end:
            if not look_at(self, self.cursor, &slot):
                slot.room = 0
            fill_slot(self, self.cursor, &slot, 0, 0, 0)
            self.cursor += 1

    cdef void rollback(self, uint16_t to) noexcept nogil:
        """Take back what was written or reserved from `to` on; as master put the slave's capacities back in
        place."""
        cdef uint64_t *desc
        while self.cursor != to:
            self.cursor -= 1
            if not self.slave:
                desc = self.desc + 2 * (self.cursor & self.wrap)
                memif_store32(<uint32_t *>desc + 1, self.rooms[self.cursor & self.wrap])
                memif_store16(<uint16_t *>desc, 0)

    cdef uint32_t put_rows(self, const uint8_t *rows, Py_ssize_t stride, const uint32_t *lengths,
                           uint32_t width, uint32_t count) noexcept nogil:
        """Copy `count` rows into the ring, row i being lengths[i] (or width) bytes. -> rows accepted;
        `verdict` says why not all. After NEVER the caller takes back what was written."""
        cdef uint32_t i = 0, length
        cdef uint64_t total = 0
        self.verdict = FULL
        while i < count:
            if self.slave:
                i += put_singly(self, rows + i * stride, stride, lengths + i if lengths != NULL else NULL, width,
                                count - i, True)
            else:
                i += put_singly(self, rows + i * stride, stride, lengths + i if lengths != NULL else NULL, width,
                                count - i, False)
            if i == count or self.free_slots(1) == 0:
                break
            length = width if lengths == NULL else memif_load32(lengths + i)
            if length - 1 >= width:                 # changed by another thread since the caller's check
                self.verdict = NEVER
                break
            self.verdict = self.put(rows + i * stride, length)
            if self.verdict != SENT:
                break
            self.verdict = FULL
            i += 1
        if self.verdict != NEVER:
            for length in range(i if lengths != NULL else 0):
                total += lengths[length]
            self.count_sent(i, total if lengths != NULL else i * <uint64_t>width)
            self.stats.n.ring_full += count - i
        return i

    cdef int put(self, const uint8_t *data, uint32_t length) noexcept nogil:
        """Copy one packet into the ring. -> Verdict. Counts nothing."""
        cdef uint8_t *pieces = <uint8_t *>data
        cdef Slot slot
        if self.free_slots(1) and look_at(self, self.cursor, &slot) and length <= slot.room:
            copy(self.spans[slot.region].base + slot.start, data, length)
            fill_slot(self, self.cursor, &slot, slot.start, length, 0)
            self.cursor += 1
            return SENT
        return self.put_pieces(&pieces, &length, 1, length)

    cdef int measure(self, uint32_t total, uint32_t *need) noexcept nogil:
        """How many slots a packet of `total` bytes takes, without touching one. -> Verdict."""
        cdef Slot slot
        cdef uint64_t room = 0
        cdef uint32_t widest = 0
        need[0] = 0
        while room < total:
            if self.free_slots(need[0] + 1) <= need[0]:
                return NEVER if self.too_small(need[0], widest, total) else FULL
            if not look_at(self, self.cursor + need[0], &slot):
                self.spoil(self.cursor + need[0] + 1)
                need[0] = room = 0
                continue
            widest = max(widest, slot.room)
            room += slot.room
            need[0] += 1
        return SENT

    cdef bint too_small(self, uint32_t known, uint32_t widest, uint32_t total) noexcept nogil:
        """Whether all slots together cannot hold `total` bytes, as far as one can know: a master sees what `known`
        free slots offer, at most `widest` each, and remembers what the others offered before they were used."""
        cdef Slot slot
        cdef uint32_t i
        cdef uint64_t room = 0
        if known == 0 or known < self.size and widest * <uint64_t>self.size >= total:
            return False                            # most likely not: no need to look at all of them
        for i in range(self.size):
            if self.slave or i < known:
                if not look_at(self, self.cursor + i, &slot):
                    return False
                room += slot.room
            elif self.rooms[(self.cursor + i) & self.wrap] == 0:
                return False                        # never offered yet
            else:
                room += self.rooms[(self.cursor + i) & self.wrap]
        return room < total

    cdef int put_pieces(self, uint8_t **data, const uint32_t *lengths, uint32_t count,
                        uint32_t total) noexcept nogil:
        """Copy a packet that lies in `count` pieces of `total` bytes into as many slots as it needs. ->
        Verdict."""
        cdef Slot slot
        cdef uint32_t need, i = 0, done = 0, step, filled
        cdef uint16_t at
        cdef int verdict = self.measure(total, &need)
        if verdict != SENT:
            return verdict
        while total:
            at = self.cursor
            if need == 0 or not look_at(self, at, &slot):
                self.trouble = BAD_DESCRIPTOR       # the slave changed descriptors between our two looks
                return FULL
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
        return SENT

    cdef int swap(self, RxRing source, Columns *c, uint32_t first, uint32_t count) noexcept nogil:
        """Send a received packet without a copy: its buffers change places with those of our free slots. ->
        Verdict.

        Slave only, and only between rings over the same regions with buffers of the same size.
        """
        cdef uint32_t i
        cdef Slot *mine
        cdef Slot *theirs
        cdef Slot kept
        if count > self.size:
            return NEVER
        if self.free_slots(count) < count:
            return FULL
        for i in range(first, first + count):
            mine = self.slots + (self.cursor & self.wrap)
            theirs = source.slots + c.slot[i]
            kept = mine[0]
            mine[0] = theirs[0]
            theirs[0] = kept
            fill_slot(self, self.cursor, mine, c.offset[i], sent_of(c, i), NEXT if i + 1 < first + count else 0)
            c.slot[i] = MOVED
            self.cursor += 1
        return SENT

    cdef int reserve(self, Columns *c, uint32_t size) noexcept nogil:
        """Reserve the slots of one packet of `size` bytes (0: one whole buffer) and append it to the columns.

        -> Verdict. The descriptors are written by `commit` only.
        """
        cdef Slot slot
        cdef uint32_t need = 0, room = 0, at = 0, piece, widest = 0
        while need == 0 or room < size:
            at = c.descriptors + need
            if self.free_slots(need + 1) <= need:
                return NEVER if self.too_small(need, widest, size) else FULL
            if at >= c.capacity:
                return NARROW
            if not look_at(self, self.cursor + need, &slot):
                self.spoil(self.cursor + need + 1)
                need = room = 0
                continue
            widest = max(widest, slot.room)
            piece = slot.room if size == 0 else min(slot.room, size - room)
            c.piece[at] = piece
            c.room[at] = slot.room
            c.clean[at] = 0
            c.offset[at] = slot.start
            c.region[at] = slot.region
            c.flags[at] = NEXT
            c.slot[at] = <uint16_t>(self.cursor + need) & self.wrap
            if not self.slave:
                self.rooms[c.slot[at]] = slot.room
            room += piece
            need += 1
        c.flags[at] = 0
        if need > 1:
            make_chained(c)
        c.length[c.packets] = room
        c.packets += 1
        c.descriptors += need
        if c.chained:
            c.first[c.packets] = c.descriptors
        self.cursor += <uint16_t>need
        return SENT

    cdef void commit(self, Columns *c, uint32_t first_packet, uint32_t packets) noexcept nogil:
        """Write the descriptors of reserved packets."""
        cdef uint32_t d, length
        cdef uint64_t total = 0
        cdef Slot slot
        for d in range(first_of(c, first_packet), first_of(c, first_packet + packets)):
            length = sent_of(c, d)
            slot.region = c.region[d]
            slot.room = c.room[d]
            fill_slot(self, c.slot[d], &slot, c.offset[d], length, c.flags[d])
            total += length
        self.count_sent(packets, total)

    cdef void count_sent(self, uint32_t packets, uint64_t total) noexcept nogil:
        self.stats.n.packets += packets
        self.stats.n.bytes += total
        self.stats.n.bursts += packets != 0

    cdef bint show(self) noexcept nogil:
        """Show the peer everything up to cursor, by one release store. -> whether it wants an interrupt for
        it."""
        if self.cursor == self.settled or self.trouble:
            return False
        self.settled = self.cursor
        memif_store_release(self.own, self.cursor)
        return self.wanted()

    cdef void publish(self) noexcept nogil:
        """`show`, and `signal` if need be: for callers without the interpreter lock."""
        if self.show():
            self.signal()
