# cython: language_level=3, cdivision=True, wraparound=False, auto_pickle=False, autotestdict=False
# cython: binding=False, embedsignature=True, embedsignature.format=clinic
"""TxQueue: sending by copy, by reservation, and straight out of a received burst."""
cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_STRIDES, PyBuffer_Release
from cpython.bytes cimport PyBytes_AsString, PyBytes_Check, PyBytes_CheckExact
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from memif.errors import MemifStateError, MemifTypeError, MemifValueError

from memif.ring._arguments cimport check_choice, check_matrix, number, span_of, take_buffer, take_lengths
from memif.ring._atomics cimport memif_flag_get, memif_flag_set, memif_try_lock, memif_unlock
from memif.ring._burst cimport EMPTY, allocated
from memif.ring._columns cimport MAX_PACKET
from memif.ring._clock cimport after_span, now, timespec
from memif.ring._queue cimport ring_of
from memif.ring._region cimport fork_count
from memif.ring._ring cimport OK, SMALL_BYTES, Ring
from memif.ring._rxring cimport RxRing
from memif.ring._views cimport Store, put_store, take_store
from memif.ring._txring cimport FREE, FULL, GONE, LENT, NARROW, NEVER, RETURNED, SENT, Source, no_source

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
    """Sends packets to the peer.

    One thread at a time may use a queue; different queues may be served by different threads.
    """

    def __cinit__(self, *args):
        self.direction = "tx"

    def attach(self, Ring ring not None) -> None:
        """For the interface: the link is up, and calls work on `ring` from now on.

        Args:
            ring: A new ring. It counts in this queue's counters.
        """
        super().attach(<TxRing?>ring)
        self.before = self.counters.n.packets

    cdef TxRing start(self):
        """The ring, locked for this thread."""
        cdef TxRing ring = <TxRing>ring_of(self)
        if self.busy:                               # by `RxQueue.serve`, between two slices
            self.in_use()
        self.claim(ring)
        return ring

    cdef int claim(self, TxRing ring) except -1:
        """Lock the ring. No second lock is needed: nobody waits for this one, and who sends never leaves it open."""
        cdef int lent
        if not memif_try_lock(&ring.lock):
            self.in_use()
        lent = memif_flag_get(&ring.lent)
        if lent == RETURNED:
            ring.rollback(ring.settled)
            ring.lent = FREE
        elif lent == LENT:
            memif_unlock(&ring.lock)
            raise MemifStateError(f"queue {self.index} has an open burst: send or release it, or let go of its views")
        if ring.trouble != OK:
            memif_unlock(&ring.lock)
            self.broken(ring)
        return 0

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
        """Copy packets into the ring and publish them.

        A packet larger than the peer's buffers is sent as a chain of several. When the ring is full fewer packets are
        accepted than given, which is no error. Nothing signals free slots, so call again later, or see `wait_free` and
        `send_all`.

        Args:
            packets: Bytes-like objects of 1 to 65536 bytes each, as a list, a tuple or any other iterable.

        Returns:
            Packets accepted, from the first on.

        Raises:
            MemifValueError: A packet is empty or can never fit into the ring. Nothing was sent.
            MemifTypeError: A packet is not bytes-like. Nothing was sent.
            MemifDisconnectedError: The link is down.
            MemifStateError: Another thread is using this queue, or a burst of `alloc` is open.
        """
        cdef Py_ssize_t count, i = 0, length = 0
        cdef int verdict = SENT
        cdef uint64_t total = 0
        if not isinstance(packets, (list, tuple)):
            packets = as_list(packets)
        count = len(packets)
        cdef TxRing ring = self.start()
        try:
            if type(packets) is list:
                while i < count and put_plain(ring, (<list>packets)[i], &total):
                    i += 1
            while i < len(packets):                 # a packet's own code can change the list
                verdict = self.put(ring, "packets", packets[i], i, &length)
                if verdict != SENT:
                    break
                total += length
                i += 1
            if verdict == NEVER:
                raise MemifValueError.argument(f"packets[{i}]", f"{length} bytes", self.fits(ring))
        except BaseException:
            ring.rollback(ring.settled)
            memif_unlock(&ring.lock)
            raise
        ring.count_sent(<uint32_t>i, total)
        ring.stats.n.ring_full += max(count - i, 0)
        finish(ring)
        if i < count or ring.trouble != OK:
            self.after(ring, count, i)
        return i

    def send_packet(self, data) -> bool:
        """Copy one packet into the ring and publish it.

        Args:
            data: Bytes-like, 1 to 65536 bytes.

        Returns:
            Whether it was accepted; False when the ring is full.

        Raises:
            MemifValueError: The packet is empty or can never fit into the ring.
            MemifTypeError: `data` is not bytes-like.
            MemifDisconnectedError: The link is down.
            MemifStateError: Another thread is using this queue, or a burst of `alloc` is open.
        """
        cdef Py_ssize_t length = 0
        cdef uint64_t total = 0
        cdef int verdict
        cdef TxRing ring = self.start()
        if put_plain(ring, data, &total):
            ring.count_sent(1, total)
            finish(ring)
            return True
        try:
            verdict = self.put(ring, "data", data, -1, &length)
            if verdict == NEVER:
                raise MemifValueError.argument("data", f"{length} bytes", self.fits(ring))
        except BaseException:
            ring.rollback(ring.settled)
            memif_unlock(&ring.lock)
            raise
        if verdict == SENT:
            ring.count_sent(1, length)
        else:
            ring.stats.n.ring_full += 1
        finish(ring)
        if verdict != SENT or ring.trouble != OK:
            self.after(ring, 1, verdict == SENT)
        return verdict == SENT

    cdef int put(self, TxRing ring, str name, packet, Py_ssize_t i, Py_ssize_t *length) except? -1:
        """Copy one bytes-like object in. -> Verdict."""
        cdef Py_buffer view
        cdef int verdict
        if PyBytes_Check(packet):
            length[0] = len(<bytes>packet)
            if not 0 < length[0] <= MAX_PACKET:
                return NEVER
            return ring.put(<const uint8_t *>PyBytes_AsString(packet), <uint32_t>length[0])
        take_buffer(name, packet, &view, PyBUF_SIMPLE, i)
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
        """Copy the rows of a matrix into the ring and publish them: each row is a packet.

        Args:
            matrix: uint8, shape (n, width). The bytes of a row are contiguous, the rows may lie any distance apart. It
                is not copied on the way.
            lengths: Bytes of each packet: uint32, shape (n,), each 1 to width. Other integer dtypes are converted.
                Default: all rows whole.

        Returns:
            Packets accepted, from the first on; fewer than n when the ring is full.

        Raises:
            MemifValueError: A shape or length is wrong, or a packet can never fit into the ring. Nothing was sent.
            MemifTypeError: `matrix` is not a buffer of bytes.
            MemifDisconnectedError: The link is down.
            MemifStateError: Another thread is using this queue, or a burst of `alloc` is open.
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
            take_lengths(lengths, <uint32_t>rows.shape[0], &sizes)
            try:
                return self.send_matrix(&rows, <const uint32_t *>sizes.buf)
            finally:
                PyBuffer_Release(&sizes)
        finally:
            PyBuffer_Release(&rows)

    cdef uint32_t send_matrix(self, Py_buffer *rows, const uint32_t *each) except? 0xFFFFFFFF:
        cdef uint32_t i, count = <uint32_t>rows.shape[0], width = <uint32_t>rows.shape[1]
        cdef int verdict
        cdef TxRing ring
        cdef Source source = no_source()
        if each != NULL:
            for i in range(count):
                if each[i] - 1 >= width:
                    raise MemifValueError.argument(f"lengths[{i}]", each[i], f"1 to {width}")
        source.rows = <const uint8_t *>rows.buf
        source.stride = rows.strides[0]
        source.lengths = each
        source.width = width
        source.last = count
        ring = self.start()
        if count * <uint64_t>width <= SMALL_BYTES:
            verdict = ring.put_matrix(&source)
            finish(ring)
        else:
            with nogil:
                verdict = ring.put_matrix(&source)
                ring.publish()
                memif_unlock(&ring.lock)
        if verdict == NEVER:
            length = width if each == NULL else each[source.first]
            raise MemifValueError.argument(f"matrix[{source.first}]", f"{length} bytes", self.fits(ring))
        if source.sent < count or ring.trouble != OK:
            self.after(ring, count, source.sent)
        return source.sent

    # -- moving on

    def forward(self, Burst burst not None, *, start=0, stop=None, select=None, bint copy=False) -> int:
        """Send packets of a received burst on.

        Where this side is the slave and both queues belong to the same connection, the buffers change places and no
        byte is copied. The packets then belong to the peer: do not write to them any more. Otherwise the packets are
        copied. Release the burst afterwards, as always. Changes to the packets, to `Burst.lengths` and by
        `Burst.prepend` take effect.

        Args:
            burst: A received burst.
            start: First packet to send, as in a slice.
            stop: End of the packets to send, as in a slice; None is the end of the burst.
            select: Booleans, shape (len(burst),): send only the packets whose element is true. Default: all.
            copy: True never exchanges buffers, so that the same packets can be sent again elsewhere.

        Returns:
            Packets sent; fewer than asked for when the ring is full.

        Raises:
            MemifStateError: The burst is not a received one, was released, or one of the packets was given away by an
                earlier call; another thread is using this queue, or a burst of `alloc` is open.
            MemifValueError: A length or `select` is wrong, or the first packet can never fit into the ring.
            MemifTypeError: An argument is of the wrong kind.
            MemifDisconnectedError: The link is down.
        """
        cdef Py_ssize_t first, last, _step
        cdef Py_buffer chosen
        cdef Source order = no_source()
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
        order.spans = burst.rx.spans
        order.first = <uint32_t>first
        order.last = <uint32_t>max(first, last)
        if select is None:
            return self.pass_on(burst, &order, copy)
        take_buffer("select", select, &chosen, PyBUF_STRIDES)
        try:
            burst.check()
            check_choice("select", &chosen, burst.c.packets)
            order.choice = <const uint8_t *>chosen.buf
            return self.pass_on(burst, &order, copy)
        finally:
            PyBuffer_Release(&chosen)

    cdef uint32_t pass_on(self, Burst burst, Source *order, bint copy) except? 0xFFFFFFFF:
        cdef RxRing source = burst.rx
        cdef uint32_t i, wanted = 0
        cdef int verdict
        for i in range(order.first, order.last):
            wanted += order.choice == NULL or order.choice[i] != 0
        cdef TxRing ring = self.start()
        burst.busy += 1
        if not copy and ring.can_swap(source):
            with nogil:
                verdict = ring.swap_all(source, order)
                ring.publish()
        else:
            with nogil:
                verdict = ring.put_all(order)
                ring.count_sent(order.sent, order.total)
                ring.publish()
        burst.busy -= 1
        if verdict == FULL:
            ring.stats.n.ring_full += wanted - min(order.sent, wanted)     # select can have changed meanwhile
        memif_unlock(&ring.lock)
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
        """Reserve packets in the ring, to be written in place.

        Leaving the burst's ``with`` block sends it; an exception, or `Burst.release`, gives it up. While it is open
        nothing else can be sent on this queue. What is not written is sent as zeros, never as bytes of an earlier
        packet. Zeros are cheap for packets of a given size, and free for what `Burst.scatter` fills. Without `size`,
        and by `Burst.memory` or `Burst.offsets`, whole buffers are set to zero first.

        Args:
            count: The most packets to reserve, 1 to 16384.
            size: Bytes of each packet, 1 to 65536. Above the peer's buffer size packets are chained: write those
                through `Burst.fragments` or `Burst.scatter`. None: each packet has a whole buffer to write to and no
                length; set `Burst.lengths` before the burst is sent.

        Returns:
            The burst, with fewer packets when the ring is full; an empty one when it has no room at all. Set
            `Burst.lengths` to send less than `size`, or more where the buffers are larger.

        Raises:
            MemifValueError: An argument is outside its range, or a packet of `size` bytes can never fit into the ring.
            MemifTypeError: An argument is of the wrong kind.
            MemifDisconnectedError: The link is down.
            MemifStateError: Another thread is using this queue, or a burst of an earlier call is open.
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
            memif_unlock(&ring.lock)
        if verdict == NEVER:
            raise MemifValueError.argument("size", size, self.fits(ring))
        ring.stats.n.ring_full += wanted
        self.after(ring, wanted, 0)
        return EMPTY

    cdef Burst reserve(self, TxRing ring, uint32_t wanted, uint32_t size, int *verdict):
        """A burst over as many packets as can be had now, or None; `verdict` says why there are no more."""
        cdef Store store
        cdef uint32_t n, buffer = max(ring.buffer_size, 1)
        cdef uint32_t pieces = 1 if size <= buffer else (size + buffer - 1) // buffer
        cdef uint64_t capacity = min(wanted * <uint64_t>pieces, ring.size)
        while True:
            store = take_store(self.pool, <uint32_t>capacity)
            with nogil:
                verdict[0] = ring.reserve(&store.c, wanted, size)
            n = store.c.packets
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
        """Slots that can be filled now.

        Raises:
            MemifDisconnectedError: The link is down.
            MemifStateError: Another thread is using this queue, or a burst of `alloc` is open.
        """
        cdef TxRing ring = self.start()
        cdef uint32_t n = ring.free_slots(ring.size)
        memif_unlock(&ring.lock)
        self.after(ring, 1, n)
        return n

    def wait_free(self, count=1, timeout=None) -> bool:
        """Wait until slots are free.

        Nothing signals free slots in memif, so this looks again after pauses that grow from 10 µs to 1 ms.

        Args:
            count: Slots wanted, 1 to the ring's size.
            timeout: Seconds to wait; None waits for ever, 0 does not wait.

        Returns:
            Whether so many are free.

        Raises:
            MemifValueError: An argument is outside its range.
            MemifDisconnectedError: The link is or goes down.
            MemifStateError: Another thread is using this queue, or a burst of `alloc` is open.
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
        """Send all packets, waiting while the ring is full. Serves the control channel meanwhile.

        Args:
            packets: Bytes-like objects from any iterable, taken from it as they can be sent, at most 256 ahead; or a
                uint8 matrix as in `send_array`.
            lengths: Bytes of each packet, with a matrix only.
            timeout: Seconds to wait in all; None waits for ever.

        Returns:
            Packets sent: all, or fewer when the time is over.

        Raises:
            MemifValueError: A packet is empty or can never fit into the ring. Packets before it may have been sent:
                `stats` says how many.
            MemifTypeError: A packet is not bytes-like. The same holds.
            MemifDisconnectedError: The link is or goes down.
            MemifStateError: Another thread is using this queue, or a burst of `alloc` is open.
        """
        from memif.ring.feeding import run, sending

        return run(self, sending(self, packets, lengths), timeout)

    def forward_all(self, Burst burst not None, *, start=0, stop=None, timeout=None) -> int:
        """Send all packets of a received burst on, waiting while the ring is full.

        Args:
            burst: A received burst.
            start: First packet to send, as in a slice.
            stop: End of the packets to send, as in a slice; None is the end of the burst.
            timeout: Seconds to wait in all; None waits for ever.

        Returns:
            Packets sent: all, or fewer when the time is over.

        Raises:
            MemifError: As in `forward`.
        """
        from memif.ring.feeding import forwarding, run

        return run(self, forwarding(self, burst, start, stop), timeout)

    def drain(self, timeout=None) -> bool:
        """Wait until the peer has taken all that was sent.

        It has when all slots are free again. A slave as peer may keep some of its buffers back: VPP and DPDK in
        zero-copy mode offer them in batches, so the answer may be False although everything was taken.

        Args:
            timeout: Seconds to wait; None waits for ever, 0 does not wait.

        Returns:
            Whether all slots are free.

        Raises:
            MemifDisconnectedError: The link is or goes down.
            MemifStateError: Another thread is using this queue, or a burst of `alloc` is open.
        """
        return self.untouched() or self.wait_free(self.usable().size, timeout)

    def untouched(self) -> bool:
        """Whether nothing was sent on the present link.

        Raises:
            MemifDisconnectedError: The link is down.
        """
        self.usable()
        return self.counters.n.packets == self.before


cdef inline bint put_plain(TxRing ring, packet, uint64_t *total):
    """Copy one packet in, if it is bytes and the next slot holds it: the usual case, and no code of the user's runs."""
    if (not PyBytes_CheckExact(packet)
            or not ring.put_one(<const uint8_t *>PyBytes_AsString(packet), len(<bytes>packet))):
        return False
    total[0] += len(<bytes>packet)
    return True


cdef inline void finish(TxRing ring) noexcept:
    """Publish what was put into the ring, and unlock it."""
    if ring.show():
        with nogil:
            ring.signal()
    memif_unlock(&ring.lock)


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
