# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: auto_pickle=False, autotestdict=False
"""The rings as libmemif shows them: single buffers, given back and sent by the user's own count.

`RxQueue` and `TxQueue` lend whole bursts and take them back by themselves. The C library hands out buffers one by
one: the user says how many to give back (refill), may hold several allocations at once, sends any part of them in
order, and may put received buffers into the transmit ring. `RawRx` and `RawTx` keep the account of that for one
ring of one connection; moving the data is left to the rings' own loops (`RxRing.take`, `TxRing.reserve`, `commit`,
`swap`).

Safety: a `memif_buffer_t` remembers where its data lie in fields that only this module writes, all checked when the
ring gave the buffer out. Slots are numbered by 64 bit counters that never come round, and each slot carries a stamp
that changes with every new owner, so a buffer that was sent, refilled, exchanged or belongs to another connection
is recognised. What users do write (`len`, `flags`) is checked when it is used.

Everything here keeps the interpreter lock: a burst of 256 takes a few microseconds. One thread at a time may use a
ring; a second one is told AGAIN.
"""
cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from memif.errors import ErrorCode, MemifValueError

from memif.ring._atomics cimport memif_flag_get, memif_load16, memif_try_lock, memif_unlock
from memif.ring._columns cimport MAX_PACKET, Columns, unchain
from memif.ring._queue cimport Queue
from memif.ring._region cimport fork_count
from memif.ring._ring cimport BAD_DESCRIPTOR, MASK_INT, NEXT, OK, Ring, Slot
from memif.ring._rx cimport RxRing
from memif.ring._store cimport Store
from memif.ring._tx cimport NEVER, SENT, TxRing

cdef enum:
    RX = 2                          # MEMIF_BUFFER_FLAG_RX
    ALL = 0xFFFF                    # refill: as many as possible

cdef object SUCCESS = ErrorCode.SUCCESS
cdef object INVAL_ARG = ErrorCode.INVAL_ARG
cdef object NOBUF_RING = ErrorCode.NOBUF_RING
cdef object NOBUF = ErrorCode.NOBUF
#: Why `Raw.shut` let nobody in, by its result.
cdef tuple SHUT = (SUCCESS, ErrorCode.DISCONNECTED, ErrorCode.NOCONN, ErrorCode.AGAIN)


@cython.final
cdef class memif_buffer_t:
    """One buffer of a ring. Make as many as you want to handle at once and use them again and again.

    len         bytes of data. Set by `memif_rx_burst` and `memif_buffer_alloc`; set it yourself to what you wrote
                before `memif_tx_burst`, up to the buffer's room
    flags       bit 0 (MEMIF_BUFFER_FLAG_NEXT): the packet goes on in the next buffer; bit 1 (MEMIF_BUFFER_FLAG_RX):
                received
    data        memoryview of the data in shared memory, writable. Received: `len` bytes. To be sent: the whole room.
                None in a buffer that was never filled
    desc_index  the slot's number in its ring, a 16 bit counter that is not masked
    queue, ring an object that stands for the ring, the same for all its buffers; None in a buffer never filled

    ``bytes(buffer)`` and ``memoryview(buffer)`` give the `len` bytes. Views keep the memory mapped, whatever
    happens to the connection; once the slot went to the peer they show what the peer does with it. One thread at a
    time.
    """

    @property
    def len(self) -> int:
        """Bytes of data. As in C any 32 bits can be stored; they are checked when the buffer is sent."""
        return self.size

    @len.setter
    def len(self, value) -> None:
        self.size = <uint32_t>(<int64_t>value)

    @property
    def flags(self) -> int:
        """Bits: MEMIF_BUFFER_FLAG_NEXT, MEMIF_BUFFER_FLAG_RX."""
        return self.bits

    @flags.setter
    def flags(self, value) -> None:
        self.bits = <uint16_t>(<int64_t>value)

    @property
    def data(self):
        if self.raw is None:
            return None
        cdef uint64_t low = self.offset
        cdef uint64_t shown = min(self.size, self.room) if self.received else self.room
        return self.raw.any_ring.views[self.region][low:low + shown]

    @property
    def queue(self):
        return self.raw

    @property
    def ring(self):
        return self.raw

    @property
    def room(self) -> int:
        """Bytes from the start of the data to the end of the buffer; the most that `len` may be. A master does not know
        the size of the buffers that it receives: there it is the length of the data."""
        return self.room

    @property
    def headroom(self) -> int:
        """Bytes in front of the data that `prepend` can take. A master has none."""
        return self.offset - self.low

    def prepend(self, count: int) -> None:
        """Let the data start `count` bytes earlier (later, if negative), in the headroom, and grow `len` by that.

        What C does with ``data -= count; len += count``. Raises MemifValueError when the headroom, or `len`, is
        smaller.
        """
        cdef int64_t n = count
        if n > <int64_t>self.offset - self.low or -n > <int64_t>min(self.size, self.room):
            raise MemifValueError.argument("count", count, f"{-<int64_t>self.size} to {self.offset - self.low}")
        self.offset = <uint32_t>(self.offset - n)
        self.room = <uint32_t>(self.room + n)
        self.size = <uint32_t>(self.size + n)

    def __getbuffer__(self, Py_buffer *view, int flags):
        if self.raw is None:
            raise BufferError("this buffer was never filled")
        cdef uint8_t *data = self.raw.any_ring.spans[self.region].base + self.offset
        PyBuffer_FillInfo(view, self, data, min(self.size, self.room), False, flags)

    def __repr__(self) -> str:
        if self.raw is None:
            return "<memif_buffer_t, empty>"
        return f"<memif_buffer_t {self.desc_index}, {self.size} bytes, flags {self.bits}>"

    def __reduce__(self):
        raise TypeError("a memif_buffer_t is memory shared with a peer and cannot be pickled or copied")


cdef class Raw:
    """What both directions share."""

    def __dealloc__(self):
        free(self.stamps)

    cdef int shut(self) except -1:
        """Lock the ring: 0 done, else an index into SHUT."""
        cdef Ring ring = self.any_ring
        if memif_flag_get(&ring.dead):
            return 1
        if ring.born != fork_count():
            return 2
        return 0 if memif_try_lock(&ring.lock) else 3

    @property
    def ring(self):
        """The ring below."""
        return self.any_ring

    def hold(self, bint held):
        """For tests: keep the ring to this caller, as a thread in the middle of a call does, or let it go."""
        if held:
            memif_try_lock(&self.any_ring.lock)
        else:
            memif_unlock(&self.any_ring.lock)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.any_ring.size} slots>"

cdef bint enough(bufs, Py_ssize_t count) except -1:
    """Whether `bufs` is a list of at least `count` buffers, and the count one that C's uint16_t can hold."""
    if not isinstance(bufs, list) or not 0 <= count <= 0xFFFF or len(<list>bufs) < count:
        return False
    cdef Py_ssize_t i
    for i in range(count):
        if not isinstance((<list>bufs)[i], memif_buffer_t):
            return False
    return True


# ---------------------------------------------------------------------------------------------------------- receive


@cython.final
cdef class ManualRxQueue(Queue):
    """A receive queue that hands no buffers to the peer by itself and cannot receive: a RawRx does both."""

    def __init__(self, owner, unsigned int index, int control_fd):
        super().__init__(owner, index, control_fd)
        self.direction = "rx"

    def attach(self, Ring ring not None) -> None:
        super().attach(ring)
        ring.set_mask(self.polling)

    @property
    def mode(self) -> str:
        """"interrupt" or "polling": whether the peer is asked to signal."""
        return "polling" if self.polling else "interrupt"

    @mode.setter
    def mode(self, value) -> None:
        self.polling = value == "polling"
        if self.any_ring is not None:
            self.any_ring.set_mask(self.polling)


@cython.final
cdef class RawRx(Raw):
    """A receive ring for `memif_rx_burst` and `memif_refill_queue`. The ring must not be used through an RxQueue."""

    def __cinit__(self, RxRing ring not None):
        cdef uint32_t size = ring.size
        self.rx = ring
        self.any_ring = ring
        self.store = Store(size + 1)
        self.stamps = <uint32_t *>calloc(size, sizeof(uint32_t))
        self.gone = <uint8_t *>calloc(size, 1)
        if self.stamps == NULL or self.gone == NULL:
            raise MemoryError()
        self.settled = -<int64_t>size if ring.slave else 0
        self.headroom = ring.headroom

    def __dealloc__(self):
        free(self.gone)

    def burst(self, bufs, Py_ssize_t count):
        """Receive into the first `count` of `bufs`. -> (code, buffers filled); (None, 0): the peer broke the ring."""
        cdef uint32_t n = 0
        cdef Columns *c = &self.store.c
        cdef RxRing ring = self.rx
        if not enough(bufs, count):
            return INVAL_ARG, 0
        cdef int why = self.shut()
        if why:
            return SHUT[why], 0
        try:
            if self.pending == c.descriptors and count and not self.fetch(<uint32_t>count):
                return None, 0
            while n < <uint32_t>count and self.pending < c.descriptors:
                self.hand_out(<memif_buffer_t>(<list>bufs)[n], self.pending)
                self.pending += 1
                n += 1
            return NOBUF if self.pending < c.descriptors or ring.ready() else SUCCESS, n
        finally:
            memif_unlock(&ring.lock)

    cdef int fetch(self, uint32_t count) except -1:
        """Fill the store with up to `count` descriptors, or with one chain that is longer. -> 0: the ring is broken."""
        cdef RxRing ring = self.rx
        cdef Columns *c = &self.store.c
        cdef uint32_t used, before
        cdef bint drained = memif_load16(ring.mask) & MASK_INT     # while polling nobody writes to the event fd
        unchain(c)
        self.pending = 0
        self.base = self.taken
        while True:
            before = c.descriptors
            c.capacity = min(count, ring.size)
            used = ring.take(c, c.capacity)
            if used == 0 and before == 0 and not ring.stalled and ring.seen != ring.cursor and not ring.trouble:
                c.capacity = ring.size          # a chain of more pieces than were asked for
                used = ring.take(c, 1)
            c.capacity = ring.size + 1
            if ring.trouble != OK:
                return 0
            self.taken += used
            if used != c.descriptors - before:
                self.note_dropped(self.taken - used, before)
            if c.descriptors >= count or (drained and (c.descriptors or not used)):
                return 1
            if not drained:
                # The ring is empty: take the interrupts that led here, then look again, because a packet may have
                # come between the two.
                ring.drain()
                drained = True

    cdef void note_dropped(self, int64_t start, uint32_t before) noexcept:
        """Slots of bad descriptors, which take passed over: nobody will be shown them, so nobody will refill them."""
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
        b.raw = self
        b.received = True
        b.seq = self.base + ((slot - <uint32_t>self.base) & ring.wrap)
        b.stamp = self.stamps[slot]
        b.desc_index = <uint16_t>b.seq
        b.region = c.region[d]
        b.offset = c.offset[d]
        b.size = c.piece[d]
        b.bits = RX | (c.flags[d] & NEXT)
        if ring.slave:
            b.low = ring.slots[slot].start
            b.room = b.low + ring.slots[slot].room - b.offset
        else:
            b.low = b.offset
            b.room = b.size

    cdef int64_t shown(self) noexcept:
        """The first slot that the user has not been shown yet."""
        cdef Columns *c = &self.store.c
        if self.pending == c.descriptors:
            return self.taken
        return self.base + ((c.slot[self.pending] - <uint32_t>self.base) & self.rx.wrap)

    def refill(self, Py_ssize_t count, Py_ssize_t headroom):
        """Give the oldest `count` received buffers back (0xFFFF or -1: all). -> code."""
        cdef RxRing ring = self.rx
        if not -1 <= count <= 0xFFFF or not 0 <= headroom <= 0xFFFF:
            return INVAL_ARG
        if ring.slave and headroom >= ring.slots[0].room:
            return INVAL_ARG
        cdef int why = self.shut()
        if why:
            return SHUT[why]
        self.headroom = <uint32_t>headroom
        self.give(0x10000 if count < 0 or count == ALL else count, self.shown())
        memif_unlock(&ring.lock)
        return SUCCESS

    cdef void give(self, int64_t count, int64_t end) noexcept:
        """Give `count` slots back but none from `end` on; slots of dropped packets go with them and do not count."""
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


# --------------------------------------------------------------------------------------------------------- transmit


@cython.final
cdef class RawTx(Raw):
    """A transmit ring for `memif_buffer_alloc`, `memif_buffer_enq_tx` and `memif_tx_burst`. The ring must not be
    used through
    a TxQueue."""

    def __cinit__(self, TxRing ring not None):
        self.tx = ring
        self.any_ring = ring
        self.store = Store(ring.size + 2)
        self.stamps = <uint32_t *>calloc(ring.size, sizeof(uint32_t))
        if self.stamps == NULL:
            raise MemoryError()

    def alloc(self, bufs, Py_ssize_t count, Py_ssize_t size):
        """Reserve `count` packets of `size` bytes (0: one whole buffer each). -> (code, buffers filled).

        (None, 0): the peer broke the ring."""
        cdef TxRing ring = self.tx
        cdef Columns *c = &self.store.c
        cdef int verdict = SENT
        cdef uint32_t d
        cdef uint64_t bad
        if not enough(bufs, count) or not 0 <= size <= MAX_PACKET:
            return INVAL_ARG, 0
        if size and not enough(bufs, min(len(<list>bufs), 0xFFFF)):     # chains may use more than `count` of them
            return INVAL_ARG, 0
        cdef int why = self.shut()
        if why:
            return SHUT[why], 0
        try:
            unchain(c)
            bad = ring.stats.n.bad_descriptors
            c.capacity = <uint32_t>min(len(<list>bufs), <Py_ssize_t>ring.size)
            ring.free_slots(<uint32_t>count)
            while c.packets < <uint32_t>count and verdict == SENT:
                verdict = ring.reserve(c, <uint32_t>size)
            if ring.trouble != OK or ring.stats.n.bad_descriptors != bad:
                ring.trouble = BAD_DESCRIPTOR
                return None, 0
            for d in range(c.descriptors):
                self.hand_out(<memif_buffer_t>(<list>bufs)[d], d)
            ring.stats.n.ring_full += count - c.packets
            if verdict == NEVER:
                return INVAL_ARG, c.descriptors
            return SUCCESS if verdict == SENT else NOBUF_RING, c.descriptors
        finally:
            memif_unlock(&ring.lock)

    cdef void hand_out(self, memif_buffer_t b, uint32_t d) noexcept:
        cdef Columns *c = &self.store.c
        cdef uint32_t slot = c.slot[d]
        self.stamps[slot] += 1
        b.raw = self
        b.received = False
        b.seq = self.allocated
        b.stamp = self.stamps[slot]
        b.desc_index = <uint16_t>b.seq
        b.region = c.region[d]
        b.offset = b.low = c.offset[d]
        b.room = c.room[d]
        b.size = c.piece[d]
        b.bits = c.flags[d] & NEXT if c.chained else 0
        self.allocated += 1

    cdef bint holds(self, memif_buffer_t b) noexcept:
        """Whether `b` is allocated here and not sent yet."""
        return (b.raw is self and self.published <= b.seq < self.allocated
                and b.stamp == self.stamps[b.seq & self.tx.wrap])

    def burst(self, bufs, Py_ssize_t count):
        """Send the first `count` of `bufs`, which must be the oldest that were allocated, in order. -> (code, sent)."""
        cdef TxRing ring = self.tx
        cdef uint32_t n, i, packets = 0
        cdef bint wanted
        if not enough(bufs, count):
            return INVAL_ARG, 0
        cdef int why = self.shut()
        if why:
            return SHUT[why], 0
        try:
            n = self.accept(<list>bufs, <uint32_t>count)
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
        """Put buffers into the columns while they are in order and their lengths fit. -> how many, whole packets."""
        cdef Columns *c = &self.store.c
        cdef uint32_t i, whole = 0, total = 0
        cdef memif_buffer_t b
        c.piece = c.length
        for i in range(min(count, self.tx.size)):
            b = <memif_buffer_t>bufs[i]
            if not self.holds(b) or b.seq != self.published + i or b.size - 1 >= b.room:
                break
            total += b.size
            if total > MAX_PACKET:
                break
            c.slot[i] = <uint16_t>(b.seq & self.tx.wrap)
            c.region[i] = b.region
            c.offset[i] = b.offset
            c.piece[i] = b.size
            c.room[i] = b.room
            c.flags[i] = b.bits & NEXT
            if not b.bits & NEXT:
                whole = i + 1
                total = 0
        return whole

    def enqueue(self, bufs, Py_ssize_t count):
        """Slave: exchange received buffers with free ones of this ring. -> (code, buffers moved)."""
        cdef uint32_t n = 0
        cdef memif_buffer_t b
        if not enough(bufs, count) or not self.tx.slave:
            return INVAL_ARG, 0
        cdef int why = self.shut()
        if why:
            return SHUT[why], 0
        try:
            while n < <uint32_t>count:
                b = <memif_buffer_t>(<list>bufs)[n]
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
        """Put a received buffer into the next free slot; its old slot gets the buffer that was there."""
        cdef Columns *c = &self.store.c
        cdef RawRx source = <RawRx>b.raw
        cdef uint32_t slot = <uint32_t>b.seq & source.rx.wrap
        if not memif_try_lock(&source.rx.lock):
            return False
        unchain(c)
        c.slot[0] = <uint16_t>slot
        c.offset[0] = b.offset
        c.piece[0] = b.size
        cdef bint moved = self.tx.swap(source.rx, c, 0, 1) == SENT
        if moved:
            source.stamps[slot] += 1
            slot = <uint32_t>self.allocated & self.tx.wrap
            self.stamps[slot] += 1
            b.raw = self
            b.received = False
            b.seq = self.allocated
            b.stamp = self.stamps[slot]
            b.desc_index = <uint16_t>b.seq
            b.bits &= NEXT
            self.allocated += 1
        memif_unlock(&source.rx.lock)
        return moved

    def rewind(self, buf):
        """Make `buf` and all that were allocated after it free again. -> code."""
        cdef memif_buffer_t b
        cdef int64_t i
        if not isinstance(buf, memif_buffer_t) or not self.holds(<memif_buffer_t>buf):
            return INVAL_ARG
        b = <memif_buffer_t>buf
        cdef int why = self.shut()
        if why:
            return SHUT[why]
        for i in range(b.seq, self.allocated):
            self.stamps[i & self.tx.wrap] += 1
        self.allocated = b.seq
        self.tx.rollback(<uint16_t>b.seq)
        memif_unlock(&self.tx.lock)
        return SUCCESS

    def exchange(self, first, second):
        """Slave: let two buffers, received or allocated on this connection, change places in their rings. -> code."""
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
            return SHUT[why]
        if from_b is not from_a:
            why = from_b.shut()
            if why:
                memif_unlock(&from_a.any_ring.lock)
                return SHUT[why]
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
    """Let two buffers change their slots. Stamps belong to slots, so the new holder gets that of the slot."""
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
