# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: auto_pickle=False, autotestdict=False
"""RxRing: packets from the peer, taken in bursts and given back in any order."""
cimport cython
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset
from posix.unistd cimport close

from memif.errors import from_os_error
from memif.system._steady import eventfd, notify

from memif.ring._atomics cimport (memif_flag_get, memif_flag_set, memif_load64, memif_load_acquire, memif_pause,
                                  memif_prefetch_read, memif_store16, memif_store_pair, memif_store_release,
                                  memif_unlock)
from memif.ring._clock cimport now
from memif.ring._columns cimport MAX_PACKET, Columns, make_chained
from memif.ring._region cimport fork_count
from memif.ring._ring cimport NEXT, Slot, Span, lock_ring, peer_moved, readable


cdef inline uint32_t take_plain(RxRing r, Columns *c, uint16_t start, uint32_t most, uint64_t *total,
                                bint slave) noexcept nogil:
    """Append packets of one descriptor each, up to one that is not such. -> how many. Compiled once for each role.

    The loop writes three columns only; the others follow from these and are written whole, many elements at a time.
    """
    cdef const uint64_t *desc = r.desc
    cdef const Span *spans = r.spans
    cdef const Slot *slots = r.slots
    cdef uint32_t span_count = r.span_count, n = 0, d = c.descriptors, k
    cdef uint32_t wrap = r.wrap, at = start & wrap
    cdef uint64_t sum = 0
    cdef Plain packet
    # The columns in locals: as far as the compiler knows, a store to one could change the pointers to the others.
    cdef uint32_t *rooms = c.room + d
    cdef uint32_t *offsets = c.offset + d
    cdef uint32_t *first = c.first + c.packets
    cdef uint16_t *regions = c.region + d
    cdef uint16_t *numbers = c.slot + d
    while n < most and read_plain(desc, slots, spans, span_count, at, slave, &packet):
        memif_prefetch_read(packet.data)
        rooms[n] = packet.length
        offsets[n] = packet.offset
        regions[n] = packet.region
        at = (at + 1) & wrap
        n += 1
    for k in range(n):
        sum += rooms[k]
    memcpy(c.length + c.packets, rooms, n * sizeof(uint32_t))     # never read back: others may write there
    for k in range(n):
        numbers[k] = <uint16_t>(start + k) & wrap
    if c.flagged:
        memset(c.flags + d, 0, n * sizeof(uint16_t))
    if c.chained:
        memcpy(c.piece + d, rooms, n * sizeof(uint32_t))
        for k in range(n):
            first[k + 1] = d + k + 1
    c.packets += n
    c.descriptors += n
    total[0] += sum
    return n


@cython.final
@cython.no_gc_clear         # a burst that dies later gives its slots back through the mapped memory
cdef class RxRing(Ring):
    """Packets from the peer: S2M on a master, M2S on a slave.

    Takes the arguments of `Ring` and one more.

    Args:
        headroom: Slave only: bytes left free in front of each packet, for `Burst.prepend`; less than the buffer size.

    Attributes:
        headroom: Bytes left free in front of each packet.
    """

    # cursor is the next slot to read, settled the oldest slot not yet given back. What a peer may have made visible
    # never reaches beyond settled + size, in both roles: that is the bound for its index.

    def __init__(self, *args, uint32_t headroom=0, **kwargs):
        if not self.begun:
            self.headroom = headroom
        super().__init__(*args, **kwargs)

    def __dealloc__(self):
        free(self.runs)

    cdef prepare(self):
        if self.slave:
            if self.headroom >= self.slots[0].room:
                raise ValueError(f"headroom: got {self.headroom}, allowed: less than the buffer size "
                                 f"{self.slots[0].room}")
            self.settled = <uint16_t>(0 - self.size)    # no buffer is with the master yet
        self.runs = <Run *>calloc(self.size, sizeof(Run))
        if self.runs == NULL:
            raise MemoryError()

    def start(self) -> None:
        """Slave, after CONNECTED: hand all buffers to the master. Does nothing on a master, or a second time."""
        self.check_complete()
        if self.slave and not self.started and self.born == fork_count():
            self.started = True
            self.give_back(self.size, self.headroom)

    cdef bint ready(self) noexcept nogil:
        """True when take would find something, be it trouble. Does not change the ring's state otherwise."""
        if not memif_flag_get(&self.dead) and not peer_moved(self, self.size):
            return True
        cdef uint32_t waiting = <uint16_t>(self.seen - self.cursor)
        return waiting != self.stalled and waiting != 0

    cdef bint holds(self) noexcept nogil:
        """Whether anything was sent and not taken. For any thread: changes nothing."""
        return memif_load_acquire(self.peer) != self.cursor

    cdef bint all_lent(self) noexcept nogil:
        """Whether bursts hold every slot, so that the peer can send nothing."""
        return <uint16_t>(self.cursor - self.settled) == self.size

    cdef uint32_t take(self, Columns *c, uint32_t limit) noexcept nogil:
        """Append packets to the columns until they hold `limit`. -> slots passed, bad ones included."""
        cdef uint16_t start = self.cursor, i = start, end
        if (<uint16_t>(self.seen - i) < limit or self.stalled) and not memif_flag_get(&self.dead):
            if not peer_moved(self, self.size):
                return 0
        end = self.seen
        self.stalled = 0
        if i == end:
            return 0
        cdef uint32_t used, most, before = c.packets
        cdef uint64_t total = 0
        while i != end and c.packets < limit and c.descriptors < c.capacity:
            most = min(min(<uint16_t>(end - i), limit - c.packets), c.capacity - c.descriptors)
            used = self.take_slave(c, i, most, &total) if self.slave else self.take_master(c, i, most, &total)
            i += <uint16_t>used
            if used < most:
                used = self.chain(c, i, end, &total)
                if used == 0:
                    break
                i += <uint16_t>used
        self.cursor = i
        self.stats.n.packets += c.packets - before
        self.stats.n.bytes += total
        self.stats.n.bursts += c.packets != before
        return <uint16_t>(i - start)

    cdef uint32_t take_slave(self, Columns *c, uint16_t start, uint32_t most, uint64_t *total) noexcept nogil:
        return take_plain(self, c, start, most, total, True)

    cdef uint32_t take_master(self, Columns *c, uint16_t start, uint32_t most, uint64_t *total) noexcept nogil:
        return take_plain(self, c, start, most, total, False)

    cdef Scan scan(self, Columns *c, uint16_t start, uint16_t end) noexcept nogil:
        """Read the descriptors of one packet, each once, into the columns as far as they reach, not counted
        there yet."""
        cdef uint16_t i = start, region
        cdef uint32_t length, offset, room, at
        cdef uint64_t word = NEXT
        cdef const Slot *slot
        cdef Scan s
        s.used = s.bad = s.bytes = 0
        while word & NEXT:
            if i == end:
                if s.used < self.size:
                    self.stalled = <uint16_t>s.used
                    s.used = 0
                s.bad += 1                          # a whole ring of pieces and no end: it will never come
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
            at = c.descriptors + s.used
            if length - 1 >= room:
                s.bad += 1
            elif at < c.capacity:
                c.piece[at] = c.room[at] = length
                c.offset[at] = offset
                c.region[at] = region
                c.flags[at] = <uint16_t>word & NEXT
                c.flagged = True
                c.slot[at] = i & self.wrap
            s.bytes += length if length <= MAX_PACKET else 0
            s.used += 1
            i += 1
        return s

    cdef uint32_t chain(self, Columns *c, uint16_t start, uint16_t end, uint64_t *total) noexcept nogil:
        """One packet of several descriptors, or one with a bad descriptor, which is dropped whole.

        -> descriptors used up; 0 when its end is not visible yet (`stalled` is set) or the columns are full. The bytes
        received are added to `total`.
        """
        cdef Scan s = self.scan(c, start, end)
        cdef bint good = not s.bad and s.bytes <= MAX_PACKET
        cdef uint32_t i
        if s.used == 0 or good and c.descriptors + s.used > c.capacity:
            return 0
        if not self.slave and s.used > 1:           # a producer that ORs the flag would merge later packets
            for i in range(s.used):
                memif_store16(<uint16_t *>(self.desc + 2 * ((start + i) & self.wrap)), 0)
        if good:
            make_chained(c)
            c.length[c.packets] = s.bytes
            c.packets += 1
            c.descriptors += s.used
            c.first[c.packets] = c.descriptors
            total[0] += s.bytes
        elif s.bad:
            self.stats.n.bad_descriptors += s.bad
            self.stats.n.dropped_bad += 1
        else:
            self.stats.n.dropped_oversize += 1
        return s.used

    cdef uint32_t open_run(self, uint32_t slots) noexcept nogil:
        """Note that the next `slots` slots are lent out together. -> the run's number, for its `done`
        mark."""
        cdef uint32_t number = self.run_head
        self.runs[number & self.wrap].slots = slots
        self.runs[number & self.wrap].done = 0
        self.run_head = number + 1
        return number

    cdef void settle(self) noexcept nogil:
        """Give back all runs that are done, in the order of the ring; one still lent holds up those behind
        it."""
        cdef uint32_t count = 0
        while self.run_tail != self.run_head and memif_flag_get(&self.runs[self.run_tail & self.wrap].done):
            count += self.runs[self.run_tail & self.wrap].slots
            self.run_tail += 1
        if count:
            self.give_back(count, self.headroom)

    cdef void give_back(self, uint32_t count, uint32_t headroom) noexcept nogil:
        """Return the oldest `count` slots: the master stores tail; the slave re-arms the slots and stores
        head."""
        cdef uint16_t at = self.settled
        cdef uint32_t _i
        cdef Slot *slot
        self.settled = <uint16_t>(at + count)
        if self.slave:
            for _i in range(count):
                slot = self.slots + (at & self.wrap)
                if slot.headroom != headroom:
                    slot.headroom = <uint16_t>headroom
                memif_store_pair(self.desc + 2 * (at & self.wrap), (<uint64_t>slot.region << 16)
                                 | (<uint64_t>(slot.room - headroom) << 32), slot.start + headroom)
                at += 1
            memif_store_release(self.own, <uint16_t>(at + self.size))
        else:
            memif_store_release(self.own, self.settled)

    # -- whole steps, with the lock

    cdef uint32_t take_run(self, Columns *c, uint32_t limit, bint empty_fd, uint32_t *run) noexcept nogil:
        """Take a burst, note the run of slots, and drop the lock. -> slots passed."""
        cdef uint32_t slots
        self.settle()
        slots = self.take(c, limit)
        if empty_fd and c.packets < limit and not self.ready():
            # Somebody sleeps on the event fd, and the ring is empty now: empty the fd too, then look again, because a
            # packet may have come between the two.
            self.drain()
            slots += self.take(c, limit)
            if self.ready():
                self.wake_self()
        if slots:
            run[0] = self.open_run(slots)
            if c.packets == 0:
                memif_flag_set(&self.runs[run[0] & self.wrap].done, 1)
                self.settle()
        memif_unlock(&self.lock)
        return slots

    cdef bint arm(self, bint quieten, bint exported) noexcept nogil:
        """Ask for interrupts; True when a packet came before the request could be seen, so that sleeping would be
        wrong. quieten: empty the event fd of interrupts for packets that were taken already."""
        cdef bint found
        if not lock_ring(self):
            return True
        self.settle()
        self.set_mask(False)
        found = self.ready()
        if quieten and not found:
            self.drain()
            found = self.ready()
            if found and exported:
                self.wake_self()
        memif_unlock(&self.lock)
        return found

    cdef bint spin(self, int64_t end) noexcept nogil:
        """Look at the ring until something is there or the time is over."""
        cdef int _i
        while True:
            for _i in range(64):
                if self.ready() or memif_flag_get(&self.dead):
                    return True
                memif_pause()
            if now() >= end:
                return False


cdef int renew_event_fd(RxRing ring) except -1:
    """The link has ended, and what its peer sent before is still to be received: a descriptor that says so, which
    is no longer shared with the peer."""
    if not readable(ring.event_fd):
        try:
            fresh = eventfd()
        except OSError as error:
            raise from_os_error(error, "eventfd") from error
        notify(fresh)
        close(ring.event_fd)
        ring.event_fd = fresh.owner.release()
