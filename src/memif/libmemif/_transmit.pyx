# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: auto_pickle=False, autotestdict=False
"""RawTx: `memif_buffer_alloc`, `memif_tx_burst` and related functions on a transmit ring.

See `memif.libmemif._buffers` for what it shares with RawRx.

Allocations are sent in their order, so one that can no longer be sent would block all later ones. When its
`memif_buffer_t` is filled again or deallocated, that allocation and all later ones become free.
"""
cimport cython
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t

from memif.errors import ErrorCode

from memif.ring._atomics cimport memif_flag_get, memif_load32, memif_try_lock, memif_unlock
from memif.ring._columns cimport MAX_PACKET, Columns, unchain
from memif.libmemif._buffers cimport ELSEWHERE, RX, UNFIT, Fill, Raw, enough, items_of, memif_buffer_t, why_shut
from memif.libmemif._receive cimport RawRx
from memif.ring._ring cimport BAD_DESCRIPTOR, NEXT, OK, Ring, Slot
from memif.ring._views cimport Store
from memif.ring._txring cimport NEVER, SENT, TxRing

cdef enum:
    NONE = 0x7FFFFFFFFFFFFFFF       # no allocation is lost

cdef object SUCCESS = ErrorCode.SUCCESS
cdef object INVAL_ARG = ErrorCode.INVAL_ARG
cdef object NOBUF_RING = ErrorCode.NOBUF_RING


@cython.final
@cython.no_gc
cdef class RawTx(Raw):
    """A transmit ring for `memif_buffer_alloc`, `memif_buffer_enq_tx` and `memif_tx_burst`."""

    def __cinit__(self, Ring ring not None):
        self.tx = <TxRing?>ring
        self.store = Store(ring.size + 2)
        self.published = ring.settled
        self.allocated = self.published + <uint16_t>(ring.cursor - ring.settled)
        self.lost = NONE

    cpdef tuple alloc(self, bufs, Py_ssize_t count, Py_ssize_t size):
        """Reserve packets.

        Args:
            bufs: The list or array whose buffers are filled. Chains may use more than `count` of them.
            count: Packets to reserve.
            size: Bytes of each; 0: one whole buffer.

        Returns:
            The error code and the number of buffers filled. The code is None when the peer broke the ring.
        """
        cdef TxRing ring = self.tx
        cdef Columns *c = &self.store.c
        cdef int verdict
        cdef int64_t held
        cdef uint32_t d
        cdef uint64_t bad
        cdef list kept
        cdef list items = items_of(bufs)
        if items is None or not 0 <= size <= MAX_PACKET or len(items) < count:
            return INVAL_ARG, 0
        # Chains may use more than `count` of them.
        cdef Py_ssize_t given = count if size == 0 else min(len(items), 0xFFFF)
        cdef Fill fill = enough(self, items, given, None)
        if fill == ELSEWHERE:
            kept = []
            fill = enough(self, items, given, kept)
        if fill == UNFIT or not 0 <= count <= given:
            return INVAL_ARG, 0
        cdef int why = self.shut()
        if why:
            return why_shut(why), 0
        try:
            self.reclaim()
            bad = ring.stats.n.bad_descriptors
            while True:
                unchain(c)
                c.capacity = <uint32_t>min(given, <Py_ssize_t>ring.size)
                verdict = ring.reserve(c, <uint32_t>count, <uint32_t>size)
                if ring.trouble != OK or ring.stats.n.bad_descriptors != bad:
                    ring.trouble = BAD_DESCRIPTOR
                    return None, 0
                held = self.first_held(items, max(c.descriptors, <uint32_t>count))
                if held == NONE:
                    break
                self.take_back(held)            # earlier allocations of these buffers, which cannot be sent now
            for d in range(c.descriptors):
                self.hand_out(<memif_buffer_t>items[d], d)
            ring.stats.n.ring_full += count - c.packets
            if verdict == NEVER:
                return INVAL_ARG, c.descriptors
            return SUCCESS if verdict == SENT else NOBUF_RING, c.descriptors
        finally:
            memif_unlock(&ring.lock)

    cdef int64_t first_held(self, list bufs, uint32_t count) noexcept:
        """Return the oldest allocation that one of the first `count` buffers still holds; NONE if there is none."""
        cdef int64_t first = NONE
        cdef uint32_t i
        cdef memif_buffer_t b
        for i in range(count):
            b = <memif_buffer_t>bufs[i]
            if b.seq >= self.published and self.holds(b):
                first = min(first, b.seq)
        return first

    cdef void take_back(self, int64_t to) noexcept:
        """Free the allocations from `to` on, and the reservations behind them."""
        cdef int64_t i
        for i in range(to, self.allocated):
            self.stamps[i & self.tx.wrap] += 1
        self.allocated = to
        self.tx.rollback(<uint16_t>to)

    cdef void let_go(self, int64_t seq, uint32_t stamp) noexcept:
        if self.published <= seq < min(self.allocated, self.lost) and stamp == self.stamps[seq & self.tx.wrap]:
            self.lost = seq

    cdef void reclaim(self) noexcept:
        """Free the allocations that can no longer be sent."""
        cdef int64_t lost = self.lost
        if lost != NONE:
            self.lost = NONE
            if self.published <= lost < self.allocated:
                self.take_back(lost)

    cdef void hand_out(self, memif_buffer_t b, uint32_t d) noexcept:
        cdef Columns *c = &self.store.c
        if b.raw is not self and b.raw is not None:
            b.raw.let_go(b.seq, b.stamp)
        self.give_next(b)
        b.region = c.region[d]
        b.offset = b.low = c.offset[d]
        b.room = c.room[d]
        b.size[0] = c.piece[d]
        b.bits = c.flags[d] & NEXT if c.chained else 0

    cdef void give_next(self, memif_buffer_t b) noexcept:
        """Assign the next slot to `b`."""
        cdef uint32_t slot = <uint32_t>self.allocated & self.tx.wrap
        self.stamps[slot] += 1
        if b.raw is not self:
            b.raw = self
        b.received = False
        b.seq = self.allocated
        b.stamp = self.stamps[slot]
        b.desc_index = <uint16_t>b.seq
        self.allocated += 1

    cdef bint holds(self, memif_buffer_t b) noexcept:
        """Whether `b` is allocated here and not sent yet."""
        return (b.raw is self and self.published <= b.seq < self.allocated
                and b.stamp == self.stamps[b.seq & self.tx.wrap])

    cpdef tuple burst(self, bufs, Py_ssize_t count):
        """Send buffers that were allocated: the oldest, in order.

        Args:
            bufs: The list or array of buffers.
            count: How many of them to send, from the first on.

        Returns:
            The error code and the number of buffers sent. The code is None when the peer broke the ring.
        """
        cdef TxRing ring = self.tx
        cdef uint32_t n, i, packets = 0
        cdef bint wanted
        cdef list items = items_of(bufs)
        if enough(self, items, count, None) == UNFIT:
            return INVAL_ARG, 0
        cdef int why = self.shut()
        if why:
            return why_shut(why), 0
        try:
            self.reclaim()
            n = self.accept(items, <uint32_t>count)
            if n:
                unchain(&self.store.c)
                ring.commit(&self.store.c, 0, n)
                for i in range(n):
                    self.stamps[self.store.c.slot[i]] += 1
                    packets += not self.store.c.flags[i]
                ring.stats.n.packets -= n - packets         # commit took every piece for a packet
                self.published += n
                ring.cursor = <uint16_t>self.published
                wanted = ring.show()
                ring.cursor = <uint16_t>self.allocated
                if wanted:
                    with nogil:                 # see Ring.signal
                        ring.signal()
                if ring.trouble != OK:
                    return None, n
            return SUCCESS if n == <uint32_t>count else INVAL_ARG, n
        finally:
            memif_unlock(&ring.lock)

    cdef uint32_t accept(self, list bufs, uint32_t count):
        """Put buffers into the columns while their order and lengths are valid; return how many make whole packets."""
        cdef Columns *c = &self.store.c
        cdef uint32_t i, size, whole = 0, total = 0
        cdef memif_buffer_t b
        c.piece = c.length
        for i in range(min(count, self.tx.size)):
            b = <memif_buffer_t>bufs[i]
            size = memif_load32(b.size)     # once: another thread can write to the column
            if not self.holds(b) or b.seq != self.published + i or size - 1 >= b.room:
                break
            total += size
            if total > MAX_PACKET:
                break
            c.slot[i] = <uint16_t>(b.seq & self.tx.wrap)
            c.region[i] = b.region
            c.offset[i] = b.offset
            c.piece[i] = size
            c.room[i] = b.room
            c.flags[i] = b.bits & NEXT
            if not b.bits & NEXT:
                whole = i + 1
                total = 0
        return whole

    cpdef tuple enqueue(self, bufs, Py_ssize_t count):
        """Slave: exchange received buffers with free ones of this ring.

        Args:
            bufs: The list or array of buffers.
            count: How many of them to move, from the first on.

        Returns:
            The error code and the number of buffers moved. The code is None when the peer broke the ring.
        """
        cdef uint32_t n = 0
        cdef memif_buffer_t b
        cdef list items = items_of(bufs)
        if enough(self, items, count, None) == UNFIT or not self.tx.slave:
            return INVAL_ARG, 0
        cdef int why = self.shut()
        if why:
            return why_shut(why), 0
        try:
            self.reclaim()
            while n < <uint32_t>count:
                b = <memif_buffer_t>items[n]
                if not self.received_here(b):
                    return INVAL_ARG, n
                if not self.move(b):
                    return (NOBUF_RING if self.tx.trouble == OK else None), n
                n += 1
            return SUCCESS, n
        finally:
            memif_unlock(&self.tx.lock)

    cdef bint received_here(self, memif_buffer_t b) noexcept:
        """Whether `b` was received on this connection and neither refilled nor given away."""
        if not isinstance(b.raw, RawRx):
            return False
        cdef RawRx source = <RawRx>b.raw
        return (source.rx.regions is self.tx.regions and not memif_flag_get(&source.rx.dead)
                and source.settled <= b.seq < source.shown() and b.stamp == source.stamps[b.seq & source.rx.wrap])

    cdef bint move(self, memif_buffer_t b):
        """Put a received buffer into the next free slot, and that slot's buffer into its old slot."""
        cdef Columns *c = &self.store.c
        cdef RawRx source = <RawRx>b.raw
        cdef uint32_t slot = <uint32_t>b.seq & source.rx.wrap
        if not memif_try_lock(&source.rx.lock):
            return False
        unchain(c)
        c.slot[0] = <uint16_t>slot
        c.offset[0] = b.offset
        c.piece[0] = memif_load32(b.size)
        c.room[0] = b.room
        cdef uint64_t size = 0
        cdef bint moved = self.tx.swap(source.rx, c, 0, 1, &size) == SENT
        if moved:
            source.stamps[slot] += 1
            self.give_next(b)
            b.bits &= NEXT
        memif_unlock(&source.rx.lock)
        return moved

    cpdef rewind(self, buf):
        """Make a buffer, and all that were allocated after it, free again.

        Args:
            buf: An allocated buffer.

        Returns:
            The error code.
        """
        cdef memif_buffer_t b
        if not isinstance(buf, memif_buffer_t) or not self.holds(<memif_buffer_t>buf):
            return INVAL_ARG
        b = <memif_buffer_t>buf
        cdef int why = self.shut()
        if why:
            return why_shut(why)
        self.take_back(b.seq)
        memif_unlock(&self.tx.lock)
        return SUCCESS

    def exchange(self, first, second):
        """Slave: let two buffers, received or allocated on this connection, change places in their rings.

        Args:
            first: One of them.
            second: The other.

        Returns:
            The error code.
        """
        cdef memif_buffer_t a, b
        cdef Raw from_a, from_b
        cdef int why
        if not isinstance(first, memif_buffer_t) or not isinstance(second, memif_buffer_t) or not self.tx.slave:
            return INVAL_ARG
        a = <memif_buffer_t>first
        b = <memif_buffer_t>second
        if not self.in_hand(a) or not self.in_hand(b):
            return INVAL_ARG
        from_a = a.raw
        from_b = b.raw
        why = from_a.shut()
        if why:
            return why_shut(why)
        if from_b is not from_a:
            why = from_b.shut()
            if why:
                memif_unlock(&from_a.any_ring.lock)
                return why_shut(why)
        trade(a, b)
        memif_unlock(&from_a.any_ring.lock)
        if from_b is not from_a:
            memif_unlock(&from_b.any_ring.lock)
        return SUCCESS

    cdef bint in_hand(self, memif_buffer_t b) noexcept:
        """Whether the user holds `b`: received and not refilled, or allocated and not sent, on this connection."""
        if isinstance(b.raw, RawTx):
            return b.raw.any_ring.regions is self.tx.regions and (<RawTx>b.raw).holds(b)
        return self.received_here(b)


cdef void trade(memif_buffer_t a, memif_buffer_t b) noexcept:
    """Exchange the slots of two buffers. A stamp belongs to its slot."""
    cdef Slot *mine = a.raw.any_ring.slots + (a.seq & a.raw.any_ring.wrap)
    cdef Slot *theirs = b.raw.any_ring.slots + (b.seq & b.raw.any_ring.wrap)
    cdef Slot kept = mine[0]
    mine[0] = theirs[0]
    theirs[0] = kept
    a.raw, b.raw = b.raw, a.raw
    a.seq, b.seq = b.seq, a.seq
    a.stamp, b.stamp = b.stamp, a.stamp
    a.received, b.received = b.received, a.received
    a.bits = (a.bits & NEXT) | (RX if a.received else 0)
    b.bits = (b.bits & NEXT) | (RX if b.received else 0)
    a.desc_index = <uint16_t>a.seq
    b.desc_index = <uint16_t>b.seq
