# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: auto_pickle=False, autotestdict=False
"""RawRx: what `memif_rx_burst` and `memif_refill_queue` do with a receive ring. See `memif.libmemif._buffers`."""
cimport cython
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t
from libc.stdlib cimport calloc, free

from memif.errors import ErrorCode

from memif.ring._atomics cimport memif_load16, memif_unlock
from memif.ring._columns cimport Columns, unchain
from memif.ring._queue cimport Queue
from memif.libmemif._buffers cimport ELSEWHERE, RX, UNFIT, Fill, Raw, enough, items_of, memif_buffer_t, why_shut
from memif.ring._ring cimport MASK_INT, NEXT, OK, Ring
from memif.ring._rxring cimport RxRing
from memif.ring._views cimport Store

cdef enum:
    ALL = 0xFFFF                    # refill: as many as possible

cdef object SUCCESS = ErrorCode.SUCCESS
cdef object INVAL_ARG = ErrorCode.INVAL_ARG
cdef object NOBUF = ErrorCode.NOBUF


@cython.final
cdef class ManualRxQueue(Queue):
    """A receive queue that does not receive or give buffers back by itself: a `RawRx` does both."""

    def __cinit__(self, *args):
        self.direction = "rx"

    def attach(self, Ring ring not None) -> None:
        """For the interface: the link is up."""
        super().attach(<RxRing?>ring)
        ring.set_mask(self.polling)

    def detach(self, bint keep=False, bint telling=False) -> None:
        """For the interface: the link is down, on_disconnect was called. What nobody received is lost, and counted."""
        cdef Ring ring = self.any_ring
        if ring is not None and (<RxRing>ring).ready() and ring.trouble == OK:
            self.counters.n.dropped_left += <uint16_t>(ring.seen - ring.cursor)
        super().detach()

    @property
    def mode(self) -> str:
        """Whether the peer is asked to signal: "interrupt" or "polling".

        Back at "interrupt", the event fd is readable if packets wait already.
        """
        return "polling" if self.polling else "interrupt"

    @mode.setter
    def mode(self, value) -> None:
        cdef Ring ring = self.any_ring
        self.polling = value == "polling"
        if ring is not None:
            ring.set_mask(self.polling)
            if not self.polling and (<RxRing>ring).ready():
                with nogil:
                    ring.wake_self()


@cython.final
@cython.no_gc
cdef class RawRx(Raw):
    """A receive ring for `memif_rx_burst` and `memif_refill_queue`."""

    def __cinit__(self, Ring ring not None):
        cdef uint32_t size = ring.size
        self.rx = <RxRing?>ring
        self.store = Store(size + 1)
        self.gone = <uint8_t *>calloc(size, 1)
        if self.gone == NULL:
            raise MemoryError()
        self.taken = ring.cursor
        self.settled = self.taken - <uint16_t>(ring.cursor - ring.settled)
        self.headroom = self.rx.headroom

    def __dealloc__(self):
        free(self.gone)

    @property
    def waiting(self) -> int:
        """Descriptors that the peer has sent and that were not received yet."""
        cdef uint32_t left = self.store.c.descriptors - self.pending
        if self.rx.ready() and self.rx.trouble == OK:
            left += <uint16_t>(self.rx.seen - self.rx.cursor)
        return left

    cpdef tuple burst(self, bufs, Py_ssize_t count):
        """Receive buffers.

        Args:
            bufs: The list or array whose buffers are filled.
            count: How many of them, from the first on.

        Returns:
            The error code and the number of buffers filled. The code is None when the peer broke the ring.
        """
        cdef uint32_t n = 0
        cdef Columns *c = &self.store.c
        cdef RxRing ring = self.rx
        cdef list kept
        cdef list items = items_of(bufs)
        cdef Fill verdict = enough(self, items, count, None)
        if verdict == ELSEWHERE:
            kept = []
            verdict = enough(self, items, count, kept)
        if verdict == UNFIT:
            return INVAL_ARG, 0
        cdef int why = self.shut()
        if why:
            return why_shut(why), 0
        try:
            # While polling, the peer does not write to the event fd.
            self.drained = memif_load16(ring.mask) & MASK_INT
            if self.pending == c.descriptors and count and not self.fetch(<uint32_t>count):
                return None, 0
            while n < <uint32_t>count and self.pending < c.descriptors:
                self.hand_out(<memif_buffer_t>items[n], self.pending)
                self.pending += 1
                n += 1
            return NOBUF if self.more() else SUCCESS, n
        finally:
            memif_unlock(&ring.lock)

    cdef bint more(self) noexcept:
        """Whether something is left to receive. Keeps the event fd readable exactly then."""
        cdef bint left = self.pending < self.store.c.descriptors or self.rx.ready()
        if memif_load16(self.rx.mask) & MASK_INT:
            return left
        if not left and not self.drained:
            self.rx.drain()
            self.drained = True
            left = self.rx.ready()          # a packet may have come in between
        if left and self.drained:
            with nogil:
                self.rx.wake_self()
        return left

    cdef int fetch(self, uint32_t count) except -1:
        """Fill the store with up to `count` descriptors, or one longer chain. Return 0 if the peer broke the ring."""
        cdef RxRing ring = self.rx
        cdef Columns *c = &self.store.c
        cdef uint32_t used, before
        unchain(c)
        self.pending = 0
        self.base = self.taken
        while True:
            before = c.descriptors
            c.capacity = min(count, ring.size)
            used = ring.take(c, c.capacity)
            if used == 0 and before == 0 and not ring.stalled and ring.seen != ring.cursor and not ring.trouble:
                c.capacity = ring.size          # a chain longer than `count`
                used = ring.take(c, 1)
            c.capacity = ring.size + 1
            if ring.trouble != OK:
                return 0
            self.taken += used
            if used != c.descriptors - before:
                self.note_dropped(self.taken - used, before)
            if c.descriptors >= count or (self.drained and (c.descriptors or not used)):
                return 1
            if not self.drained:
                # The ring is empty: clear the interrupts, then check again, because a packet may have come in between.
                ring.drain()
                self.drained = True

    cdef void note_dropped(self, int64_t start, uint32_t before) noexcept:
        """Note the slots of invalid descriptors, which `take` skipped. The user does not get and refill them."""
        cdef int64_t i
        cdef uint32_t d
        cdef Columns *c = &self.store.c
        for i in range(start, self.taken):
            self.gone[i & self.rx.wrap] = 1
        for d in range(before, c.descriptors):
            self.gone[c.slot[d]] = 0
        self.dropped += <uint32_t>(self.taken - start) - (c.descriptors - before)
        self.give(0, self.shown())

    cdef void hand_out(self, memif_buffer_t b, uint32_t d) noexcept:
        cdef Columns *c = &self.store.c
        cdef RxRing ring = self.rx
        cdef uint32_t slot = c.slot[d]
        if b.raw is not self:
            if b.raw is not None:
                b.raw.let_go(b.seq, b.stamp)
            b.raw = self
        b.seq = self.base + ((slot - <uint32_t>self.base) & ring.wrap)
        b.stamp = self.stamps[slot]
        b.received = True
        b.desc_index = <uint16_t>b.seq
        b.region = c.region[d]
        b.offset = c.offset[d]
        b.size[0] = c.piece[d]
        b.bits = RX | (c.flags[d] & NEXT)
        if ring.slave:
            b.low = ring.slots[slot].start
            b.room = b.low + ring.slots[slot].room - b.offset
        else:
            b.low = b.offset
            b.room = c.piece[d]

    cdef int64_t shown(self) noexcept:
        """Return the first slot that was not handed out yet."""
        cdef Columns *c = &self.store.c
        if self.pending == c.descriptors:
            return self.taken
        return self.base + ((c.slot[self.pending] - <uint32_t>self.base) & self.rx.wrap)

    cpdef refill(self, Py_ssize_t count, Py_ssize_t headroom):
        """Give the oldest received buffers back.

        Args:
            count: How many; 0xFFFF or -1 for all.
            headroom: Bytes to leave free in front of each packet.

        Returns:
            The error code.
        """
        cdef RxRing ring = self.rx
        if not -1 <= count <= 0xFFFF or not 0 <= headroom <= 0xFFFF:
            return INVAL_ARG
        if ring.slave and headroom >= ring.slots[0].room:
            return INVAL_ARG
        cdef int why = self.shut()
        if why:
            return why_shut(why)
        self.headroom = <uint32_t>headroom
        self.give(0x10000 if count < 0 or count == ALL else count, self.shown())
        memif_unlock(&ring.lock)
        return SUCCESS

    cdef void give(self, int64_t count, int64_t end) noexcept:
        """Give `count` slots before `end` back. Slots of dropped packets are given back too and do not count."""
        cdef int64_t n = 0, most = end - self.settled
        if self.dropped == 0:
            n = min(count, most)
        else:
            while n < most:
                if self.gone[(self.settled + n) & self.rx.wrap]:
                    self.gone[(self.settled + n) & self.rx.wrap] = 0
                    self.dropped -= 1
                elif count > 0:
                    count -= 1
                else:
                    break
                n += 1
        if n > 0:
            self.settled += n
            self.rx.give_back(<uint32_t>n, self.headroom)
