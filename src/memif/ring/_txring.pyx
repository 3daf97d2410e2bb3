# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: auto_pickle=False, autotestdict=False
"""TxRing: packets to the peer, copied in, written in place, or moved over from a receiving ring."""
cimport cython
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc

from memif.ring._atomics cimport (memif_flag_get, memif_load32, memif_load64, memif_load_acquire, memif_prefetch_write,
                                  memif_store16, memif_store32, memif_store64, memif_store_pair, memif_store_release)
from memif.ring._columns cimport MAX_PACKET, MOVED, Columns, copy, first_of, make_chained, sent_of
from memif.ring._ring cimport BAD_DESCRIPTOR, BAD_INDEX, NEXT, Slot, Span, peer_moved

cdef enum:                  # measured between cores that share their L3 cache, and between such that do not
    AHEAD = 8               # how many slots ahead to ask for the lines of a buffer
    AHEAD_BYTES = 512       # and for how many bytes of it

# What the loops need of a ring. They have it in a local variable, so that registers hold it: as far as the compiler
# knows, a store to a packet could change the ring itself.
cdef struct Face:
    uint64_t *desc
    const Slot *slots
    const Span *spans
    uint32_t *rooms
    uint32_t span_count
    uint16_t wrap

# All ways to put a packet into the ring take the same three steps: `free_now`, `look_at` a slot, `fill_slot`. The loops
# over whole bursts are compiled once for each role: `slave` is a constant there.


cdef inline Face face_of(TxRing r) noexcept nogil:
    cdef Face f
    f.desc = r.desc
    f.slots = r.slots
    f.spans = r.spans
    f.rooms = r.rooms
    f.span_count = r.span_count
    f.wrap = r.wrap
    return f


cdef inline uint32_t free_now(TxRing r, uint32_t wanted, bint slave) noexcept nogil:
    """Slots that may be filled now. Reads the peer's index only when fewer than `wanted` are known."""
    cdef uint32_t span = r.size if slave else 0
    cdef uint32_t known = <uint16_t>(r.seen + span - r.cursor)
    cdef uint16_t now
    if known >= wanted:
        return known
    # A slave's peer returns slots up to what was published; a master's peer offers at most size ahead of that.
    if slave:
        now = memif_load_acquire(r.peer)
        if <uint16_t>(now - r.seen) > <uint16_t>(r.settled - r.seen):
            r.trouble = BAD_INDEX
            return 0
        r.seen = now
    elif not peer_moved(r, r.size):
        return 0
    return <uint16_t>(r.seen + span - r.cursor)


cdef inline bint look_at(const Face *f, uint16_t index, Slot *slot, bint slave) noexcept nogil:
    """The buffer of a free slot. As master it is what the slave published, read once and checked."""
    cdef uint32_t at = index & f.wrap, room
    cdef uint64_t word
    if slave:
        slot[0] = f.slots[at]
        return True
    word = memif_load64(f.desc + 2 * at)
    room = <uint32_t>(word >> 32)
    slot.region = <uint16_t>(word >> 16)
    slot.room = min(room, MAX_PACKET)
    slot.start = <uint32_t>memif_load64(f.desc + 2 * at + 1)
    slot.headroom = 0
    return room != 0 and slot.region < f.span_count and <uint64_t>slot.start + room <= f.spans[slot.region].size


cdef inline void fill_slot(const Face *f, uint16_t index, const Slot *slot, uint32_t offset, uint32_t length,
                           uint16_t flags, bint slave) noexcept nogil:
    """Write a descriptor, by one store. A master leaves the offset alone: copying slaves never restore it. It notes
    the capacity that its length replaces, in case the packet is taken back before it is published."""
    cdef uint32_t at = index & f.wrap
    cdef uint64_t word = flags | (<uint64_t>slot.region << 16) | (<uint64_t>length << 32)
    if slave:
        memif_store_pair(f.desc + 2 * at, word, offset)
    else:
        if f.rooms[at] != slot.room:                # seldom
            f.rooms[at] = slot.room
        memif_store64(f.desc + 2 * at, word)


cdef inline void prefetch_slot(const Face *f, uint16_t index, uint32_t length, bint slave) noexcept nogil:
    """Ask for the lines of a slot that will be written soon. A hint only: what the peer wrote into the descriptor need
    not be sane here."""
    cdef uint32_t at = index & f.wrap, region
    cdef uint8_t *line
    cdef uint8_t *end
    if slave:
        line = f.spans[f.slots[at].region].base + f.slots[at].start
    else:
        region = <uint16_t>(memif_load64(f.desc + 2 * at) >> 16)
        if region >= f.span_count:
            return
        line = f.spans[region].base + <uint32_t>memif_load64(f.desc + 2 * at + 1)
    end = line + min(length, AHEAD_BYTES)
    while line < end:
        memif_prefetch_write(line)
        line += 64


cdef inline uint32_t put_run(TxRing r, Source *s, uint32_t i, bint burst, bint slave) noexcept nogil:
    """Copy packets, from number `i` on, into a slot each until one needs more than that. -> the number of that one.

    Nearly every line that this writes was last held by the peer's core, and stores leave a core in order: how many
    such lines can be under way together depends on how many stores the packets take. Hence one store a descriptor.
    """
    cdef Face f = face_of(r)
    cdef const Columns *c = s.c
    cdef const Span *spans = s.spans
    cdef const uint8_t *choice = s.choice
    cdef const uint32_t *lengths = s.lengths
    cdef Py_ssize_t stride = s.stride
    cdef const uint8_t *data = s.rows + i * stride
    cdef uint32_t width = s.width, last = s.last, length = width, d
    cdef uint32_t left = free_now(r, last - i, slave)
    cdef uint16_t at = r.cursor, start = at
    cdef uint64_t total = 0
    cdef Slot slot
    while i < last:
        if burst and choice != NULL and not choice[i]:
            i += 1
            continue
        if left == 0:
            break
        if burst:
            d = first_of(c, i)
            if c.slot[d] == MOVED or first_of(c, i + 1) - d != 1:
                break
            length = sent_of(c, d)
            data = spans[c.region[d]].base + c.offset[d]
        elif lengths != NULL:
            length = memif_load32(lengths + i)
            if length - 1 >= width:                 # changed by another thread since the caller's check
                break
        if left > AHEAD:                            # no line of a slot that the peer still reads
            prefetch_slot(&f, at + AHEAD, length, slave)
        if not look_at(&f, at, &slot, slave) or length > slot.room:
            break
        copy(f.spans[slot.region].base + slot.start, data, length)
        fill_slot(&f, at, &slot, slot.start, length, 0, slave)
        if not burst:
            data += stride
        total += length
        at += 1
        i += 1
        left -= 1
    r.cursor = at
    s.sent += <uint16_t>(at - start)
    s.total += total
    return i


cdef inline bint put_next(TxRing r, const uint8_t *data, size_t length, bint slave) noexcept nogil:
    """See `TxRing.put_one`."""
    cdef Face f = face_of(r)
    cdef uint32_t left = free_now(r, 1, slave)
    cdef Slot slot
    if left == 0:
        return False
    if left > AHEAD:
        prefetch_slot(&f, r.cursor + AHEAD, <uint32_t>min(length, AHEAD_BYTES), slave)
    if not look_at(&f, r.cursor, &slot, slave):
        return False
    if length - 1 >= slot.room:
        return False
    copy(f.spans[slot.region].base + slot.start, data, <uint32_t>length)
    fill_slot(&f, r.cursor, &slot, slot.start, <uint32_t>length, 0, slave)
    r.cursor += 1
    return True


cdef inline int reserve_all(TxRing r, Columns *c, uint32_t count, uint32_t size, bint slave) noexcept nogil:
    """See `TxRing.reserve`."""
    cdef Face f = face_of(r)
    cdef Slot slot
    cdef uint32_t need, room, at = 0, piece, widest
    free_now(r, count, slave)
    while c.packets < count:
        need = room = widest = 0
        while need == 0 or room < size:
            at = c.descriptors + need
            if free_now(r, need + 1, slave) <= need:
                return NEVER if r.too_small(need, widest, size) else FULL
            if at >= c.capacity:
                return NARROW
            if not look_at(&f, r.cursor + need, &slot, slave):
                r.spoil(r.cursor + need + 1)
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
            c.slot[at] = <uint16_t>(r.cursor + need) & f.wrap
            if not slave:
                f.rooms[c.slot[at]] = slot.room
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
        r.cursor += <uint16_t>need
    return SENT


@cython.final
@cython.no_gc_clear         # a burst that dies later gives its slots back through the mapped memory
cdef class TxRing(Ring):
    """Packets to the peer: S2M on a slave, M2S on a master.

    Takes the arguments of `Ring`.
    """

    # cursor is the next slot to fill; settled is our own index as the peer sees it; between the two lie packets that
    # are written or reserved but not published.

    def __dealloc__(self):
        free(self.rooms)

    cdef prepare(self):
        if not self.slave:
            self.rooms = <uint32_t *>calloc(self.size, sizeof(uint32_t))
            if self.rooms == NULL:
                raise MemoryError()

    cdef uint32_t free_slots(self, uint32_t wanted) noexcept nogil:
        """Slots that may be filled now: all, or at least `wanted` of them."""
        return free_now(self, wanted, self.slave)

    cdef void spoil(self, uint16_t end) noexcept nogil:
        """The slave offered an invalid buffer, just before `end`: skip all slots up to there, as empty ones."""
        cdef Face f = face_of(self)
        cdef Slot slot
        self.stats.n.bad_descriptors += 1
        while self.cursor != end:
            if not look_at(&f, self.cursor, &slot, self.slave):
                slot.room = 0
            fill_slot(&f, self.cursor, &slot, 0, 0, 0, self.slave)
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

    cdef bint put_one(self, const uint8_t *data, size_t length) noexcept nogil:
        """Copy one packet into the next slot, if that is free and holds it. Counts nothing."""
        return put_next(self, data, length, True) if self.slave else put_next(self, data, length, False)

    cdef int put(self, const uint8_t *data, uint32_t length) noexcept nogil:
        """Copy one packet in. -> Verdict. Counts nothing."""
        cdef Source source = no_source()
        source.rows = data
        source.width = length
        source.last = 1
        return self.put_all(&source)

    cdef int put_matrix(self, Source *rows) noexcept nogil:
        """Copy rows in, and count them. -> Verdict; after NEVER none of them is sent."""
        cdef int verdict = self.put_all(rows)
        if verdict == NEVER:
            self.rollback(self.settled)
        else:
            self.count_sent(rows.sent, rows.total)
            self.stats.n.ring_full += rows.last - rows.sent
        return verdict

    cdef int put_all(self, Source *s) noexcept nogil:
        """Copy packets into the ring, as many as there is room for. -> Verdict; of the packet at `s.first` if it is
        not SENT. Counts nothing."""
        cdef int verdict
        while True:
            if s.c != NULL:
                if self.slave:
                    s.first = put_run(self, s, s.first, True, True)
                else:
                    s.first = put_run(self, s, s.first, True, False)
            elif self.slave:
                s.first = put_run(self, s, s.first, False, True)
            else:
                s.first = put_run(self, s, s.first, False, False)
            if s.first == s.last:
                return SENT
            if self.free_slots(1) == 0:
                return FULL
            verdict = self.put_chain(s)
            if verdict != SENT:
                return verdict
            s.sent += 1
            s.first += 1

    cdef int put_chain(self, Source *s) noexcept nogil:
        """Copy the packet at `s.first`, which one slot cannot hold, or which lies in several pieces. -> Verdict."""
        cdef uint8_t *row
        cdef uint8_t **data
        cdef uint32_t *lengths
        cdef uint32_t d, i, pieces, total = 0
        cdef int verdict
        if s.c == NULL:
            row = <uint8_t *>s.rows + s.first * s.stride
            total = s.width if s.lengths == NULL else memif_load32(s.lengths + s.first)
            verdict = NEVER if total - 1 >= s.width else self.put_pieces(&row, &total, 1, total)
            s.total += total if verdict == SENT else 0
            return verdict
        d = first_of(s.c, s.first)
        pieces = first_of(s.c, s.first + 1) - d
        if s.c.slot[d] == MOVED:
            return GONE
        data = <uint8_t **>malloc(pieces * (sizeof(uint8_t *) + sizeof(uint32_t)))
        if data == NULL:
            return FULL
        lengths = <uint32_t *>(data + pieces)
        for i in range(pieces):                     # each length is read once: the user can change it meanwhile
            data[i] = s.spans[s.c.region[d + i]].base + s.c.offset[d + i]
            lengths[i] = sent_of(s.c, d + i)
            total += lengths[i]
        verdict = self.put_pieces(data, lengths, pieces, total)
        free(data)
        s.total += total if verdict == SENT else 0
        return verdict

    cdef int measure(self, uint32_t total, uint32_t *need) noexcept nogil:
        """How many slots a packet of `total` bytes takes, without touching one. -> Verdict."""
        cdef Face f = face_of(self)
        cdef Slot slot
        cdef uint64_t room = 0
        cdef uint32_t widest = 0
        need[0] = 0
        while room < total:
            if self.free_slots(need[0] + 1) <= need[0]:
                return NEVER if self.too_small(need[0], widest, total) else FULL
            if not look_at(&f, self.cursor + need[0], &slot, self.slave):
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
        cdef Face f = face_of(self)
        cdef Slot slot
        cdef uint32_t i
        cdef uint64_t room = 0
        if known == 0 or known < self.size and widest * <uint64_t>self.size >= total:
            return False                            # most likely not: no need to look at all of them
        for i in range(self.size):
            if self.slave or i < known:
                if not look_at(&f, self.cursor + i, &slot, self.slave):
                    return False
                room += slot.room
            elif self.rooms[(self.cursor + i) & self.wrap] == 0:
                return False                        # never offered yet
            else:
                room += self.rooms[(self.cursor + i) & self.wrap]
        return room < total

    cdef int put_pieces(self, uint8_t **data, const uint32_t *lengths, uint32_t count,
                        uint32_t total) noexcept nogil:
        """Copy a packet that lies in `count` pieces of `total` bytes into as many slots as it needs. -> Verdict."""
        cdef Face f = face_of(self)
        cdef Slot slot
        cdef uint32_t need, i = 0, done = 0, step, filled
        cdef uint16_t at
        cdef int verdict = self.measure(total, &need)
        if verdict != SENT:
            return verdict
        while total:
            at = self.cursor
            if need == 0 or not look_at(&f, at, &slot, self.slave):
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
            fill_slot(&f, at, &slot, slot.start, filled, NEXT if total else 0, self.slave)
            self.cursor = at + 1
        return SENT

    cdef int swap(self, RxRing source, Columns *c, uint32_t first, uint32_t count, uint64_t *total) noexcept nogil:
        """Send a received packet without a copy: its buffers change places with those of our free slots. -> Verdict;
        its bytes are added to `total`.

        Slave only, and only between rings over the same regions with buffers of the same size.
        """
        cdef Face f = face_of(self)
        cdef uint32_t i, length
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
            length = sent_of(c, i)
            fill_slot(&f, self.cursor, mine, c.offset[i], length, NEXT if i + 1 < first + count else 0, True)
            c.slot[i] = MOVED
            self.cursor += 1
            total[0] += length
        return SENT

    cdef bint can_swap(self, RxRing source) noexcept:
        """Whether buffers can change places: both rings are the slave's, of one connection that lives, with buffers of
        one size."""
        return (self.slave and source.slave and source.regions is self.regions
                and not memif_flag_get(&source.dead) and self.slots[0].room == source.slots[0].room)

    cdef int swap_all(self, RxRing source, Source *s) noexcept nogil:
        """Exchange the buffers of the chosen packets, and count them. -> Verdict."""
        cdef uint32_t d, count
        cdef int verdict = SENT
        self.free_slots(s.c.descriptors)
        while s.first < s.last and verdict == SENT:
            if s.choice == NULL or s.choice[s.first]:
                d = first_of(s.c, s.first)
                count = first_of(s.c, s.first + 1) - d
                verdict = GONE if s.c.slot[d] == MOVED else self.swap(source, s.c, d, count, &s.total)
                s.sent += verdict == SENT
            s.first += 1
        self.count_sent(s.sent, s.total)
        return verdict

    cdef int reserve(self, Columns *c, uint32_t count, uint32_t size) noexcept nogil:
        """Reserve slots until the columns hold `count` packets of `size` bytes (0: one whole buffer) each. -> Verdict
        of the last one. The descriptors are written by `commit` only."""
        return reserve_all(self, c, count, size, True) if self.slave else reserve_all(self, c, count, size, False)

    cdef void commit(self, Columns *c, uint32_t first_packet, uint32_t packets) noexcept nogil:
        """Write the descriptors of reserved packets."""
        cdef Face f = face_of(self)
        cdef uint32_t d, length
        cdef uint64_t total = 0
        cdef Slot slot
        for d in range(first_of(c, first_packet), first_of(c, first_packet + packets)):
            length = sent_of(c, d)
            slot.region = c.region[d]
            slot.room = c.room[d]
            fill_slot(&f, c.slot[d], &slot, c.offset[d], length, c.flags[d], self.slave)
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
