# cython: language_level=3, cdivision=True, wraparound=False, auto_pickle=False, autotestdict=False
# cython: binding=False, embedsignature=True, embedsignature.format=clinic
"""TxQueue: sending by copy, by reservation, and straight out of a received burst."""
cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_STRIDES, PyBuffer_Release
from cpython.bytes cimport PyBytes_AsString, PyBytes_Check
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from memif.errors import MemifStateError, MemifTypeError, MemifValueError

from memif.ring._arguments cimport as_uint32, check_matrix, number, span_of, take_buffer
from memif.ring._atomics cimport memif_flag_get, memif_flag_set, memif_unlock
from memif.ring._burst cimport EMPTY, allocated
from memif.ring._columns cimport MAX_PACKET, MOVED, first_of, sent_of
from memif.ring._queue cimport after_span, lock_ring, now, timespec
from memif.ring._region cimport fork_count
from memif.ring._ring cimport OK, SMALL_BYTES, Ring
from memif.ring._store cimport Store, put_store, take_store
from memif.ring._txring cimport FREE, FULL, GONE, LENT, NARROW, NEVER, RETURNED, SENT

cdef extern from "time.h" nogil:
    int nanosleep(const timespec *request, timespec *left)

cdef enum:                          # wait_free, in ns
    FIRST_NAP = 10_000
    LONGEST_NAP = 1_000_000


cdef void nap(int64_t ns) noexcept nogil:
    cdef timespec t
    t.tv_sec = 0
    t.tv_nsec = ns
    nanosleep(&t, NULL)


@cython.final
cdef class TxQueue(Queue):
    """Sends packets to the peer. One thread at a time; different queues may be served by different
    threads."""

    def __cinit__(self, *args):
        self.direction = "tx"

    def attach(self, Ring ring not None) -> None:
        """The link is up: from now on calls work on `ring`, a new TxRing, and it counts here."""
        super().attach(<TxRing?>ring)
        self.before = self.counters.n.packets

    cdef TxRing start(self):
        """The ring, locked for this thread."""
        cdef TxRing ring = <TxRing>self.usable()
        cdef int lent
        self.enter()
        if not lock_ring(ring):
            self.leave()
            self.in_use()
        lent = memif_flag_get(&ring.lent)
        if lent == RETURNED:
            ring.rollback(ring.settled)
            ring.lent = FREE
        elif lent == LENT:
            self.finish(ring)
            raise MemifStateError(f"queue {self.index} has an open burst: send or release it, or let go of its views")
        if ring.trouble != OK:
            self.finish(ring)
            self.broken(ring)
        return ring

    cdef void finish(self, TxRing ring) noexcept:
        memif_unlock(&ring.lock)
        self.leave()

    cdef int after(self, TxRing ring, Py_ssize_t wanted, Py_ssize_t sent) except -1:
        if ring.trouble != OK:
            self.broken(ring)
        if sent < wanted:
            self.idle()
        return 0

    cdef str fits(self, TxRing ring):
        room = ring.buffer_size
        most = min(room * ring.size, MAX_PACKET)
        return f"1 to {most} bytes (buffers of {room} in {ring.size} slots)"

    # -- copying in

    def send(self, packets) -> int:
        """Copy packets (a sequence of bytes-like objects, 1 to 65536 bytes each) into the ring and publish
        them.

        -> packets accepted, from the first on; fewer than given when the ring is full, which is no error:
        nothing signals free slots, so call again later or see `wait_free`. A packet larger than the peer's
        buffers is chained.

        Raises MemifValueError (nothing was sent then) for an empty packet or one that can never fit,
        MemifTypeError for what is not bytes-like, MemifDisconnectedError while the link is down, MemifStateError
        when another thread is using this queue or a burst of `alloc` is open.
        """
        cdef Py_ssize_t count, i = 0, length = 0
        cdef int verdict = SENT
        cdef uint64_t total = 0
        if not isinstance(packets, (list, tuple)):
            packets = as_list(packets)
        count = len(packets)
        cdef TxRing ring = self.start()
        try:
            while i < len(packets):                 # a packet's own code can change the list
                verdict = self.put(ring, packets[i], i, &length)
                if verdict != SENT:
                    break
                total += length
                i += 1
            if verdict == NEVER:
                raise MemifValueError.argument(f"packets[{i}]", f"{length} bytes", self.fits(ring))
            ring.count_sent(<uint32_t>i, total)
            ring.stats.n.ring_full += max(count - i, 0)
            if ring.show():
                with nogil:
                    ring.signal()
        except BaseException:
            ring.rollback(ring.settled)
            raise
        finally:
            self.finish(ring)
        if i < count or ring.trouble != OK:
            self.after(ring, count, i)
        return i

    cdef int put(self, TxRing ring, packet, Py_ssize_t i, Py_ssize_t *length) except? -1:
        """Copy one bytes-like object in. -> Verdict."""
        cdef Py_buffer view
        cdef int verdict
        if PyBytes_Check(packet):
            length[0] = len(<bytes>packet)
            if not 0 < length[0] <= MAX_PACKET:
                return NEVER
            return ring.put(<const uint8_t *>PyBytes_AsString(packet), <uint32_t>length[0])
        take_buffer("packets", packet, &view, PyBUF_SIMPLE, i)
        length[0] = view.len
        verdict = NEVER
        if ring.born != fork_count():
            PyBuffer_Release(&view)
            self.check_ours(ring)                   # the packet's own code has forked
        if 0 < view.len <= MAX_PACKET:
            verdict = ring.put(<const uint8_t *>view.buf, <uint32_t>view.len)
        PyBuffer_Release(&view)
        return verdict

    def send_array(self, matrix, lengths=None) -> int:
        """Copy the rows of a matrix into the ring: row i is a packet of ``lengths[i]`` bytes. -> packets
        accepted.

        matrix: uint8, shape (n, width), rows contiguous (any stride between rows), not copied on the way.
        lengths: uint32, shape (n,), each 1 to width; default: all rows whole. Other integer dtypes are
        converted. Results and errors as in `send`.
        """
        cdef Py_buffer rows, sizes
        take_buffer("matrix", matrix, &rows, PyBUF_STRIDES)
        try:
            check_matrix("matrix", &rows, 0, 1)
            if rows.shape[1] > MAX_PACKET or rows.shape[0] > 0x7FFFFFFF:
                raise MemifValueError.argument("matrix", f"shape ({rows.shape[0]}, {rows.shape[1]})",
                                               f"rows of 1 to {MAX_PACKET} bytes")
            if lengths is None:
                return self.send_matrix(&rows, NULL)
            lengths = as_uint32(lengths, <uint32_t>rows.shape[0])
            take_buffer("lengths", lengths, &sizes, PyBUF_SIMPLE)
            try:
                return self.send_matrix(&rows, <const uint32_t *>sizes.buf)
            finally:
                PyBuffer_Release(&sizes)
        finally:
            PyBuffer_Release(&rows)

    cdef uint32_t send_matrix(self, Py_buffer *rows, const uint32_t *each) except? 0xFFFFFFFF:
        cdef uint32_t i, count = <uint32_t>rows.shape[0], width = <uint32_t>rows.shape[1], accepted
        cdef TxRing ring
        if each != NULL:
            for i in range(count):
                if each[i] - 1 >= width:
                    raise MemifValueError.argument(f"lengths[{i}]", each[i], f"1 to {width}")
        ring = self.start()
        if count * <uint64_t>width <= SMALL_BYTES:
            accepted = put_matrix(ring, rows, each)
            if ring.show():
                with nogil:
                    ring.signal()
        else:
            with nogil:
                accepted = put_matrix(ring, rows, each)
                ring.publish()
        self.finish(ring)
        if ring.verdict == NEVER:
            length = width if each == NULL else each[accepted]
            raise MemifValueError.argument(f"matrix[{accepted}]", f"{length} bytes", self.fits(ring))
        if accepted < count or ring.trouble != OK:
            self.after(ring, count, accepted)
        return accepted

    # -- moving on

    def forward(self, Burst burst not None, *, start=0, stop=None, select=None, bint copy=False) -> int:
        """Send packets of a received burst on. -> packets sent, fewer than asked for when this ring is full.

        start, stop     which packets (default all), as in a slice
        select          a boolean array, one element a packet of the burst: only those that are true are sent
        copy            True: never exchange buffers, so that the same packets can be sent again elsewhere

        Where this side is slave and both queues belong to the same connection, the buffers themselves change
        places and no byte is copied: the packets then belong to the peer, so do not write to them any more.
        In all other cases the packets are copied. Release the burst afterwards, as always. Changes made to
        the packets, to `lengths` and by `prepend` take effect. Errors as in `send`; MemifStateError when a
        packet was given away before.
        """
        cdef Py_ssize_t first, last, _step
        cdef Py_buffer chosen
        cdef Order order
        burst.check()
        if burst.c == NULL:
            return 0
        if burst.rx is None:
            raise MemifStateError("forward takes a received burst; an allocated one has its own send()")
        try:
            first, last, _step = slice(start, stop).indices(burst.c.packets)
        except TypeError as error:
            raise MemifTypeError.argument("start, stop", (start, stop), "integers, or None for stop") from error
        burst.check()                               # an index may be an object that released it
        burst.check_lengths()
        order.c = burst.c
        order.choice = NULL
        order.first = <uint32_t>first
        order.last = <uint32_t>max(first, last)
        order.sent = 0
        if select is None:
            return self.pass_on(burst, &order, copy)
        take_buffer("select", select, &chosen, PyBUF_STRIDES)
        try:
            burst.check()
            check_choice(&chosen, burst.c.packets)
            order.choice = <const uint8_t *>chosen.buf
            return self.pass_on(burst, &order, copy)
        finally:
            PyBuffer_Release(&chosen)

    cdef uint32_t pass_on(self, Burst burst, Order *order, bint copy) except? 0xFFFFFFFF:
        cdef RxRing source = burst.rx
        cdef uint32_t i, wanted = 0
        cdef int verdict
        for i in range(order.first, order.last):
            wanted += order.choice == NULL or order.choice[i] != 0
        cdef TxRing ring = self.start()
        burst.busy += 1
        if not copy and may_swap(ring, source):
            with nogil:
                verdict = swap_all(ring, source, order)
        else:
            with nogil:
                verdict = copy_all(ring, source, order)
        burst.busy -= 1
        if verdict == FULL:
            ring.stats.n.ring_full += wanted - min(order.sent, wanted)     # select can have changed meanwhile
        self.finish(ring)
        if verdict == GONE:
            raise MemifStateError("a packet of this burst was given away by an earlier forward(): "
                                  "use copy=True there")
        if verdict == NEVER and order.sent == 0:
            raise MemifValueError.argument("burst", "a packet larger than the ring", self.fits(ring))
        if order.sent < wanted or ring.trouble != OK:
            self.after(ring, wanted, order.sent)
        return order.sent

    # -- writing in place

    def alloc(self, count, size=None) -> Burst:
        """Reserve up to `count` packets of `size` bytes to write in place.

        -> Burst, with fewer packets when the ring is full (empty when it is quite full). Leaving its ``with``
        block sends it, an exception or `Burst.release` gives it up. `Burst.lengths` can be set to send less
        than `size`, or more where the buffers are larger. Without `size` each packet has a whole buffer to
        write to, and no length: set `Burst.lengths` before the burst is sent, MemifValueError otherwise.

        What is not written is sent as zeros, never as bytes of an earlier packet. That is cheap for packets of
        the given size, and free for what `Burst.scatter` fills; without `size`, and by `Burst.memory` or
        `Burst.offsets`, whole buffers are set to zero first.

        A size above the peer's buffers makes chained packets: write those through `Burst.fragments` or
        `Burst.scatter`. While the burst is open nothing else can be sent on this queue. Errors as in `send`.
        """
        cdef uint32_t wanted = <uint32_t>number("count", count, 1, 16384)
        cdef uint32_t each = 0 if size is None else <uint32_t>number("size", size, 1, MAX_PACKET)
        cdef int verdict = SENT
        cdef Burst burst
        cdef TxRing ring = self.start()
        try:
            burst = self.reserve(ring, wanted, each, &verdict)
            if burst is None:
                if ring.show():                     # slots that the peer spoiled go back to it
                    with nogil:
                        ring.signal()
            else:
                ring.stats.n.ring_full += wanted - burst.c.packets
                memif_flag_set(&ring.lent, LENT)
                return burst
        except BaseException:
            ring.rollback(ring.settled)
            raise
        finally:
            self.finish(ring)
        if verdict == NEVER:
            raise MemifValueError.argument("size", size, self.fits(ring))
        ring.stats.n.ring_full += wanted
        self.after(ring, wanted, 0)
        return EMPTY

    cdef Burst reserve(self, TxRing ring, uint32_t wanted, uint32_t size, int *verdict):
        """A burst over as many packets as can be had now, or None; `verdict` says why there are no more."""
        cdef Store store
        cdef uint32_t n = 0, buffer = max(ring.buffer_size, 1)
        cdef uint32_t pieces = 1 if size <= buffer else (size + buffer - 1) // buffer
        cdef uint64_t capacity = min(wanted * <uint64_t>pieces, ring.size)
        while True:
            store = take_store(self.pool, <uint32_t>capacity)
            with nogil:
                ring.free_slots(wanted)
                while n < wanted:
                    verdict[0] = ring.reserve(&store.c, size)
                    if verdict[0] != SENT:
                        break
                    n += 1
            if n:
                if size == 0:
                    memset(store.c.length, 0, n * sizeof(uint32_t))
                return allocated(ring, store, size != 0, self.pool)
            put_store(self.pool, store)
            if verdict[0] != NARROW or capacity >= ring.size:
                return None
            capacity = ring.size            # the peer's buffers are smaller than the first one promised

    # -- room

    def free(self) -> int:
        """Slots that can be filled now. Errors as in `send`."""
        cdef TxRing ring = self.start()
        cdef uint32_t n = ring.free_slots(ring.size)
        self.finish(ring)
        self.after(ring, 1, n)
        return n

    def wait_free(self, count=1, timeout=None) -> bool:
        """Wait until `count` slots are free, for `timeout` seconds at most (None: for ever). -> True when
        they are.

        Nothing signals free slots in memif, so this looks again after pauses that grow from 10 µs to 1 ms.
        Errors as in `send`, and MemifValueError for a count above the ring's size.
        """
        cdef int64_t deadline = after_span(span_of(timeout)), pause = FIRST_NAP
        cdef Py_ssize_t wanted = number("count", count, 1, self.usable().size)
        while self.free() < wanted:
            if now() >= deadline:
                return False
            with nogil:
                nap(min(pause, max(deadline - now(), 0)))
            pause = min(2 * pause, LONGEST_NAP)
            PyErr_CheckSignals()
            self.idle()
        return True

    # -- until all is done

    def send_all(self, packets, lengths=None, *, timeout=None) -> int:
        """Send all packets, waiting while the ring is full. -> packets sent: all, or fewer after `timeout` seconds
        (None: no limit).

        packets: bytes-like objects from any iterable (taken from it as they can be sent, at most 256 ahead), or a
        uint8 matrix as in `send_array`, with `lengths`. Errors as in `send`; packets before a bad one may be on
        their way then, and `stats` tell how many were sent before an error. Serves the control channel meanwhile.
        """
        from memif.feeding import run, sending

        return run(self, sending(self, packets, lengths), timeout)

    def forward_all(self, Burst burst not None, *, start=0, stop=None, timeout=None) -> int:
        """`forward` of all packets, waiting while the ring is full. -> packets sent: all, or fewer after `timeout`
        seconds (None: no limit)."""
        from memif.feeding import forwarding, run

        return run(self, forwarding(self, burst, start, stop), timeout)

    def drain(self, timeout=None) -> bool:
        """Wait until the peer has taken all that was sent, for `timeout` seconds at most (None: for ever). -> True
        when it has.

        It has when all slots are free again. A slave as peer may keep some of its buffers back: VPP and DPDK in
        zero-copy mode offer them in batches, so that the answer may be False although it has taken everything.
        Errors as in `send`.
        """
        return self.untouched() or self.wait_free(self.usable().size, timeout)

    def untouched(self) -> bool:
        """Whether nothing was sent on the present link. Raises as `send` while there is none."""
        self.usable()
        return self.counters.n.packets == self.before


cdef int check_choice(Py_buffer *choice, uint32_t packets) except -1:
    """One byte for each packet, one behind the other."""
    if (choice.ndim != 1 or choice.itemsize != 1 or choice.shape[0] != packets
            or choice.strides[0] != 1 and packets > 1):
        shape = ()
        for k in range(choice.ndim):
            shape += (choice.shape[k],)
        apart = f", {choice.strides[0]} apart" if choice.ndim == 1 else ""
        raise MemifValueError.argument("select", f"shape {shape}, items of {choice.itemsize} bytes{apart}",
                                       f"shape ({packets},), contiguous booleans of one byte")
    return 0


cdef list as_list(packets):
    """The packets of a call to `send`, when they come in neither list nor tuple."""
    if isinstance(packets, (bytes, bytearray, memoryview, str)):
        raise MemifTypeError.argument("packets", packets, "a sequence of bytes-like objects; "
                                                          "for one packet write send([packet])")
    try:
        each = iter(packets)
    except TypeError as error:
        raise MemifTypeError.argument("packets", packets, "a sequence of bytes-like objects") from error
    return list(each)


cdef uint32_t put_matrix(TxRing ring, Py_buffer *rows, const uint32_t *each) noexcept nogil:
    """-> rows accepted; after NEVER none of them is sent, and it is the number of the one to blame."""
    cdef uint32_t count = <uint32_t>rows.shape[0], width = <uint32_t>rows.shape[1]
    cdef uint32_t accepted = ring.put_rows(<const uint8_t *>rows.buf, rows.strides[0], each, width, count)
    if ring.verdict == NEVER:
        ring.rollback(ring.settled)
    return accepted


cdef bint may_swap(TxRing ring, RxRing source) noexcept:
    """Buffers can change places: both rings are the slave's, of one connection that lives, with buffers of
    one size."""
    return (ring.slave and source.slave and source.regions is ring.regions
            and not memif_flag_get(&source.dead) and ring.slots[0].room == source.slots[0].room)


cdef int swap_all(TxRing ring, RxRing source, Order *order) noexcept nogil:
    """Exchange the buffers of the chosen packets and publish. -> Verdict."""
    cdef uint32_t p, d, i
    cdef int verdict = SENT
    cdef uint64_t total = 0
    cdef Columns *c = order.c
    ring.free_slots(c.descriptors)
    for p in range(order.first, order.last):
        if order.choice != NULL and not order.choice[p]:
            continue
        d = first_of(c, p)
        verdict = GONE if c.slot[d] == MOVED else ring.swap(source, c, d, first_of(c, p + 1) - d)
        if verdict != SENT:
            break
        for i in range(d, first_of(c, p + 1)):
            total += sent_of(c, i)
        order.sent += 1
    ring.count_sent(order.sent, total)
    ring.publish()
    return verdict


cdef int copy_all(TxRing ring, RxRing source, Order *order) noexcept nogil:
    """Copy the chosen packets and publish. -> Verdict."""
    cdef Columns *c = order.c
    cdef uint32_t longest = c.descriptors - c.packets + 1, p, d, pieces, i, size
    cdef uint64_t total = 0
    cdef int verdict = SENT
    cdef uint8_t **data = <uint8_t **>malloc(longest * (sizeof(uint8_t *) + sizeof(uint32_t)))
    cdef uint32_t *lengths = <uint32_t *>(data + longest)
    if data == NULL:
        return FULL
    ring.free_slots(c.descriptors)
    for p in range(order.first, order.last):
        if order.choice != NULL and not order.choice[p]:
            continue
        d = first_of(c, p)
        pieces = first_of(c, p + 1) - d
        size = 0
        for i in range(pieces):                     # the user can change c.length while this runs
            data[i] = source.spans[c.region[d + i]].base + c.offset[d + i]
            lengths[i] = sent_of(c, d + i)
            size += lengths[i]
        if c.slot[d] == MOVED:
            verdict = GONE
        elif pieces == 1:
            verdict = ring.put(data[0], size)
        else:
            verdict = ring.put_pieces(data, lengths, pieces, size)
        if verdict != SENT:
            break
        total += size
        order.sent += 1
    free(data)
    ring.count_sent(order.sent, total)
    ring.publish()
    return verdict
