cimport cython
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from memif.ring._atomics cimport memif_load64
from memif.ring._columns cimport MAX_PACKET, Columns
from memif.ring._ring cimport NEXT, Ring, Slot, Span

# One run of slots handed out by RxRing.take, in the order of the ring.
cdef struct Run:
    uint32_t slots
    int done

# What RxRing.scan found: one packet, or the beginning of one.
cdef struct Scan:
    uint32_t used           # its descriptors; 0 when the end is not visible yet
    uint32_t bad            # how many of them point at nothing that can be read
    uint32_t bytes


# A packet of one descriptor, as read once from shared memory and checked.
cdef struct Plain:
    uint8_t *data
    uint32_t length
    uint32_t offset
    uint16_t region


@cython.final
cdef class RxRing(Ring):
    cdef uint16_t stalled                # descriptors of a packet whose end has not come yet
    cdef Run *runs
    cdef uint32_t run_head               # next run to hand out
    cdef uint32_t run_tail               # oldest run not given back
    cdef bint started                    # slave: all buffers were handed to the master once
    cdef readonly uint32_t headroom
    cdef bint ready(self) noexcept nogil
    cdef uint32_t take(self, Columns *c, uint32_t limit) noexcept nogil
    cdef uint32_t take_slave(self, Columns *c, uint16_t start, uint32_t most, uint64_t *total) noexcept nogil
    cdef uint32_t take_master(self, Columns *c, uint16_t start, uint32_t most, uint64_t *total) noexcept nogil
    cdef Scan scan(self, Columns *c, uint16_t start, uint16_t end) noexcept nogil
    cdef uint32_t chain(self, Columns *c, uint16_t start, uint16_t end, uint64_t *total) noexcept nogil
    cdef bint holds(self) noexcept nogil
    cdef bint all_lent(self) noexcept nogil
    cdef uint32_t open_run(self, uint32_t slots) noexcept nogil
    cdef void settle(self) noexcept nogil
    cdef uint32_t take_run(self, Columns *c, uint32_t limit, bint empty_fd, uint32_t *run) noexcept nogil
    cdef bint arm(self, bint quieten, bint exported) noexcept nogil
    cdef bint spin(self, int64_t end) noexcept nogil
    cdef void give_back(self, uint32_t count, uint32_t headroom) noexcept nogil


cdef int renew_event_fd(RxRing ring) except -1


# Whether descriptor `at` is a whole packet that can be read. The pointers are the ring's, in locals of the caller's
# loop: as far as the compiler knows, a store to a packet could change the ring itself.
cdef inline bint read_plain(const uint64_t *desc, const Slot *slots, const Span *spans, uint32_t span_count,
                            uint32_t at, bint slave, Plain *packet) noexcept nogil:
    cdef uint64_t word = memif_load64(desc + 2 * at)
    cdef uint32_t length = <uint32_t>(word >> 32), offset
    cdef uint16_t region
    cdef const Slot *slot
    if slave:
        slot = slots + at
        region = slot.region
        offset = slot.start + slot.headroom
        if length - 1 >= <uint32_t>(slot.room - slot.headroom):
            return False
    else:
        region = <uint16_t>(word >> 16)
        offset = <uint32_t>memif_load64(desc + 2 * at + 1)
        if (region >= span_count or length - 1 >= MAX_PACKET
                or <uint64_t>offset + length > spans[region].size):
            return False
    packet.data = spans[region].base + offset
    packet.length = length
    packet.offset = offset
    packet.region = region
    return not word & NEXT
