# cython: language_level=3, cdivision=True, wraparound=False, auto_pickle=False, autotestdict=False
# cython: binding=False, embedsignature=True, embedsignature.format=clinic
"""RxQueue: receiving. How it waits is in `_waiting`."""
cimport cython
from cpython.buffer cimport PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from memif.errors import MemifValueError

from memif.ring._arguments cimport Numpy, check_matrix, load_numpy, number, span_of, take_buffer, take_words
from memif.ring._atomics cimport memif_try_lock, memif_unlock
from memif.ring._burst cimport EMPTY, lend, new_burst
from memif.ring._clock cimport after_span
from memif.ring._queue cimport SMALL, bursts_of, ring_of
from memif.ring._columns cimport MAX_PACKET
from memif.ring._region cimport fork_count
from memif.ring._ring cimport OK, SMALL_BYTES, Ring, lock_ring
from memif.ring._rows cimport copy_out, join
from memif.ring._rxring cimport renew_event_fd
from memif.ring._straight cimport copy_straight, packet_straight, waiting
from memif.ring._waiting cimport MODE_INTERRUPT, check_lent, sleep_until, wait_take
from memif.ring._views cimport Store, end_loan, new_matrix, new_words, put_store, take_store

cdef enum:
    DETOURS = 64                    # calls that go the long way after one that met a chain, which comes seldom alone

MODES = ("interrupt", "polling", "adaptive")


@cython.final
cdef class RxQueue(Queue):
    """Receives packets from the peer.

    One thread at a time may use a queue; different queues may be served by different threads.

    Iterating gives bursts of up to 256 packets. Each is released when the next is asked for. It ends when the link goes
    down or the interface is closed.
    """

    def __cinit__(self, *args):
        self.direction = "rx"

    @property
    def mode(self) -> str:
        """How `recv` and `wait` spend their time: "interrupt", "polling" or "adaptive".

        "interrupt", the default, sleeps until the peer signals. "polling" spins, and the peer is told not to signal.
        "adaptive" spins for 50 µs, then sleeps. It can be changed at any time. No mode loses a packet, whatever
        you wait with.

        Raises:
            MemifValueError: Set to anything else.
        """
        return MODES[self._mode]

    @mode.setter
    def mode(self, value) -> None:
        if not isinstance(value, str) or value not in MODES:
            raise MemifValueError.argument("mode", value, "one of " + ", ".join(MODES))
        cdef int mode = MODES.index(value)
        if self.any_ring is not None:
            self.check_ours(self.any_ring)
        self._mode = mode
        self.disarm()

    def attach(self, Ring ring not None) -> None:
        """For the interface: the link is up, and calls work on `ring` from now on. Its buffers go to the peer.

        Args:
            ring: A new ring. It counts in this queue's counters.
        """
        cdef RxRing rx = <RxRing?>ring
        super().attach(rx)
        self.disarm()
        rx.start()
        self.forget()

    def detach(self, bint keep=False, bint telling=False) -> None:
        """For the interface: the link is down. Calls under way end, later ones raise.

        Args:
            keep: The peer has ended the link: what it had sent can still be received before calls raise.
            telling: on_disconnect is yet to be called: `fileno` works until `told`, so that it can be unregistered.
        """
        cdef RxRing ring = <RxRing>self.any_ring
        self.forget()
        if keep and ring is not None and (ring is self.serving or self.has_packets(ring)) and ring.trouble == OK:
            self.left = ring
        super().detach(telling=telling)

    def leftover(self) -> bool:
        """Whether packets wait that the peer sent before it ended the link."""
        return self.left is not None

    cdef RxRing source(self):
        """The ring to receive from: that of the link, or of the last one while it holds packets."""
        cdef RxRing left = self.left
        if left is not None and left.born == fork_count():
            if self.has_packets(left):
                return left
            self.forget()
        return <RxRing>ring_of(self)

    cdef bint has_packets(self, RxRing ring) noexcept:
        """Whether packets are left in a ring. Another thread can be in the middle of `take`: without its lock,
        what `ready` notes of the peer's index could be older than what that thread has gone by, and slots would
        be received a second time."""
        cdef bint found
        if ring.born != fork_count() or not lock_ring(ring):
            return False
        found = ring.ready()
        memif_unlock(&ring.lock)
        return found

    cdef void forget(self) noexcept:
        cdef RxRing left = self.left
        self.left = None
        if left is not None and lock_ring(left):
            self.counters.n.dropped_left += <uint16_t>(left.seen - left.cursor)
            memif_unlock(&left.lock)

    def fileno(self) -> int:
        """A descriptor for select, epoll or an event loop, readable when there may be something to receive.

        This holds in every mode: from the first call on the peer is asked to signal each burst, in polling and adaptive
        mode too. `recv` makes the descriptor unreadable when it has emptied the ring, so receive until less comes than
        you asked for, or you are told again. It is the ring's event fd and belongs to the connection: after a reconnect
        there is another one.

        Returns:
            The descriptor. Do not close it.

        Raises:
            MemifDisconnectedError: The link is down. Not before on_disconnect has returned, so that you can unregister
                the descriptor there, nor while packets wait that the peer sent before it left.
        """
        cdef RxRing ring
        if self.ended is not None:
            return self.ended.event_fd
        ring = self.source()
        self.exported = True
        if ring is self.left:
            renew_event_fd(ring)
        else:
            self.disarm()
            with nogil:
                if ring.holds():
                    ring.wake_self()
        return ring.event_fd

    def arm(self) -> bool:
        """Ask for interrupts until `disarm`, to wait on several queues at once, as `memif.wait` and `memif.aio` do.

        Returns:
            True when a packet is there already. Otherwise the ring's `event_fd` becomes readable when one comes.

        Raises:
            MemifDisconnectedError: The link is down.
            MemifStateError: Another thread is using this queue.
        """
        cdef RxRing ring = self.source()
        cdef bint found
        if ring is self.left:
            return True
        self.enter()
        try:
            found = ring.arm(True, self.exported)
        finally:
            self.leave()
        if ring.trouble != OK:
            self.disarm()
            self.broken(ring)
        return found

    def disarm(self) -> None:
        """Ask for interrupts or for none, as `mode` wants it."""
        cdef Ring ring = self.any_ring
        if ring is not None:
            ring.set_mask(self._mode != MODE_INTERRUPT and not self.exported)

    def recv(self, count=256, timeout=None) -> Burst:
        """Receive up to `count` packets.

        Waits until at least one packet is there, and returns what is there then.

        Args:
            count: The most packets to take, 1 to 16384.
            timeout: Seconds to wait; None waits for ever, 0 does not wait.

        Returns:
            The burst; an empty one when the time is over. Release it, best by a ``with`` block.

        Raises:
            MemifDisconnectedError: The link is or goes down, and all that the peer sent before it left was received.
            MemifStateError: Another thread is receiving on this queue.
            MemifBufferError: Bursts that were not released have held all slots of the ring for a second, so that
                nothing can come.
            MemifValueError: An argument is outside its range; `MemifTypeError` if it is of the wrong kind.
        """
        cdef uint32_t run = 0, limit = <uint32_t>number("count", count, 1, 16384)
        cdef int64_t span = span_of(timeout)
        cdef RxRing ring = self.source()
        cdef Store store = self.fetch(ring, limit, span, &run)
        cdef Burst burst
        if store is None:
            return EMPTY
        burst = self.spare                  # nothing has run since `take` made it
        self.spare = None
        lend(burst, ring, store, run, self.pool)
        return burst

    def recv_packet(self, timeout=None):
        """Receive one packet, copied.

        Args:
            timeout: Seconds to wait; None waits for ever, 0 does not wait.

        Returns:
            The packet; None when the time is over.

        Raises:
            MemifError: As in `recv`, of the same kinds.
        """
        cdef uint32_t run = 0
        cdef int64_t span = span_of(timeout)
        cdef RxRing ring = self.source()
        cdef bytes packet
        cdef Store store
        if self.start_straight(ring):
            try:
                packet = packet_straight(ring)
            finally:
                memif_unlock(&ring.lock)
            if packet is not None:
                return packet
        store = self.fetch(ring, 1, span, &run)
        if store is None:
            return None
        try:
            return join(ring, &store.c, 0)
        finally:
            self.give_back(ring, store, run)

    def recv_list(self, count=256, timeout=None) -> list:
        """Receive up to `count` packets, copied: `recv`, `Burst.tobytes` and `Burst.release` in one call.

        Args:
            count: The most packets to take, 1 to 16384.
            timeout: Seconds to wait; None waits for ever, 0 does not wait.

        Returns:
            The packets; an empty list when the time is over.

        Raises:
            MemifError: As in `recv`, of the same kinds.
        """
        cdef uint32_t i, run = 0, limit = <uint32_t>number("count", count, 1, 16384)
        cdef int64_t span = span_of(timeout)
        cdef RxRing ring = self.source()
        cdef Store store = self.fetch(ring, limit, span, &run)
        if store is None:
            return []
        packets = []
        try:
            for i in range(store.c.packets):
                packets.append(join(ring, &store.c, i))
        finally:
            self.give_back(ring, store, run)
        return packets

    def recv_array(self, width, count=256, timeout=None) -> tuple:
        """Receive up to `count` packets into a matrix: `recv`, `Burst.gather` and `Burst.release` in one call.

        `TxQueue.send_array` takes what this returns, if no packet is longer than `width`.

        Args:
            width: Bytes of each packet to copy, 1 to 65536.
            count: The most packets to take, 1 to 16384.
            timeout: Seconds to wait; None waits for ever, 0 does not wait.

        Returns:
            The matrix, uint8, shape (n, width), with zeros behind the end of a shorter packet; and the packets'
            lengths, uint32, shape (n,), above `width` where a packet was cut. n is 0 when the time is over. Both can be
            arrays that an earlier call returned and that nobody has any more.

        Raises:
            MemifError: As in `recv`, of the same kinds.
        """
        cdef Py_ssize_t columns = number("width", width, 1, MAX_PACKET)
        cdef uint32_t run = 0, limit = <uint32_t>number("count", count, 1, 16384)
        cdef int64_t span = span_of(timeout)
        cdef Numpy numpy = load_numpy()
        cdef RxRing ring = self.source()
        cdef Store store
        if ring is not self.left and ring.run_head == ring.run_tail and ring.ready():
            arrays = self.fill_new(ring, min(<uint16_t>(ring.seen - ring.cursor), limit), columns)
            if arrays is not None:
                return arrays
        store = self.fetch(ring, limit, span, &run)
        if store is None:
            return numpy.empty((0, columns), numpy.uint8), numpy.empty(0, numpy.uint32)
        try:
            return self.copied(ring, store, columns)
        finally:
            self.give_back(ring, store, run)

    cdef tuple fill_new(self, RxRing ring, uint32_t limit, Py_ssize_t width):
        """What `recv_array` returns, if packets can be copied straight."""
        cdef Py_buffer rows, sizes
        cdef uint32_t n
        lengths = new_words(self.pool, limit, &sizes)
        try:
            array = new_matrix(self.pool, limit, width, &rows)
            try:
                n = self.fill(ring, &rows, &sizes, limit)
            finally:
                PyBuffer_Release(&rows)
        finally:
            PyBuffer_Release(&sizes)
        if n == limit:
            return array, lengths
        return (array[:n], lengths[:n]) if n else None

    cdef tuple copied(self, RxRing ring, Store store, Py_ssize_t width):
        """What `recv_array` returns, of packets received."""
        cdef Py_buffer rows, sizes
        lengths = new_words(self.pool, store.c.packets, &sizes)
        try:
            array = new_matrix(self.pool, store.c.packets, width, &rows)
            copy_out(ring, &store.c, &rows, &sizes)
            PyBuffer_Release(&rows)
        finally:
            PyBuffer_Release(&sizes)
        return array, lengths

    def recv_into(self, matrix, lengths, timeout=None) -> int:
        """Receive as many packets as a matrix has rows, into it and without an allocation.

        Args:
            matrix: uint8, shape (n, width), to be filled: a row for each packet, with zeros behind the end of a shorter
                one. The bytes of a row are contiguous. At most 16384 rows are filled.
            lengths: uint32, shape (n,) or more, contiguous, to be filled: the packets' lengths, above width where a
                packet was cut.
            timeout: Seconds to wait; None waits for ever, 0 does not wait.

        Returns:
            Packets received; 0 when the time is over. Rows behind them are left alone.

        Raises:
            MemifError: As in `recv`, of the same kinds.
        """
        cdef uint32_t run = 0
        cdef int64_t span = span_of(timeout)
        cdef uint32_t received
        cdef RxRing ring
        cdef Store store
        cdef Py_buffer rows, sizes
        take_buffer("matrix", matrix, &rows, PyBUF_STRIDES | PyBUF_WRITABLE)
        try:
            check_matrix("matrix", &rows, 1, 1)
            if rows.shape[1] > MAX_PACKET or rows.shape[0] > 1 and rows.strides[0] < rows.shape[1]:
                raise MemifValueError.argument("matrix", f"rows of {rows.shape[1]} bytes, {rows.strides[0]} apart",
                                               f"rows of 1 to {MAX_PACKET}, that far apart or more")
            take_words("lengths", lengths, rows.shape[0], &sizes)
            try:
                ring = self.source()
                received = self.fill(ring, &rows, &sizes, <uint32_t>min(rows.shape[0], 16384))
                if received:
                    return received
                store = self.fetch(ring, <uint32_t>min(rows.shape[0], 16384), span, &run)
                if store is None:
                    return 0
                copy_out(ring, &store.c, &rows, &sizes)
                received = store.c.packets
                self.give_back(ring, store, run)
                return received
            finally:
                PyBuffer_Release(&sizes)
        finally:
            PyBuffer_Release(&rows)

    cdef bint start_straight(self, RxRing ring) except -1:
        """Lock a ring to copy straight out of it; False if that cannot be done now."""
        if self.busy:
            self.in_use()
        return not self.exported and ring is not self.left and memif_try_lock(&ring.lock)

    cdef uint32_t fill(self, RxRing ring, Py_buffer *rows, Py_buffer *sizes, uint32_t limit) except? 0xFFFFFFFF:
        """Copy up to `limit` packets straight into rows. -> how many; 0: go the long way."""
        cdef uint32_t n, there, width = <uint32_t>rows.shape[1]
        if self.detours:
            self.detours -= 1
            return 0
        if not self.start_straight(ring):
            return 0
        there = waiting(ring, limit)
        if there * <uint64_t>width <= SMALL_BYTES:
            n = copy_straight(ring, <uint8_t *>rows.buf, rows.strides[0], width, <uint32_t *>sizes.buf, limit)
            memif_unlock(&ring.lock)
        else:
            self.enter()
            with nogil:
                n = copy_straight(ring, <uint8_t *>rows.buf, rows.strides[0], width, <uint32_t *>sizes.buf, limit)
                memif_unlock(&ring.lock)
            self.leave()
        if there and n == 0:
            self.detours = DETOURS
        return n

    cdef Store fetch(self, RxRing ring, uint32_t limit, int64_t span, uint32_t *run):
        """Packets as columns, and the number of their run of slots; None when the time is over."""
        cdef Store store
        if limit <= SMALL:                          # `take` keeps the interpreter lock: no other thread comes between
            if self.busy:
                self.in_use()
            store = self.take(ring, limit, run)
            if store is not None:
                return store
            if not span:
                self.nothing(ring)
                return None
        self.enter()
        try:
            store = self.take(ring, limit, run)
            if store is None and span and ring.trouble == OK and ring is not self.left:
                store = wait_take(self, ring, limit, run, after_span(span))
        finally:
            self.leave()
        if store is None:
            self.nothing(ring)
        return store

    cdef void give_back(self, RxRing ring, Store store, uint32_t run) noexcept:
        """The packets of `fetch` were copied."""
        end_loan(ring, None, run)
        put_store(self.pool, store)

    cdef int nothing(self, RxRing ring) except -1:
        """Nothing was received: raise if it is for another reason than that nothing came."""
        if ring is self.left:                       # only invalid packets were left in it
            self.forget()
            raise self.owner.down()
        if ring.trouble != OK:
            self.broken(ring)
        check_lent(self, ring)
        return self.idle()

    def wait(self, timeout=None) -> bool:
        """Wait until a packet is there.

        Args:
            timeout: Seconds to wait; None waits for ever, 0 does not wait.

        Returns:
            Whether one is there.

        Raises:
            MemifDisconnectedError: The link is or goes down.
            MemifStateError: Another thread is using this queue.
            MemifBufferError: As in `recv`.
            MemifValueError: The time-out is negative.
        """
        cdef int64_t span = span_of(timeout)
        cdef RxRing ring = self.source()
        self.enter()
        try:
            found = sleep_until(self, ring, after_span(span))
        finally:
            self.leave()
        if ring.trouble != OK:
            self.broken(ring)
        return found

    def serve(self, handler, tx=None, *, data=None, count=None, timeout=None, until=None) -> int:
        """Receive, handle and send on in one compiled loop, which does not need the interpreter.

        The handler is a function of C, or one that ``numba.cfunc(memif.HANDLER_SIGNATURE)`` has compiled::

            int32_t handler(uint8_t **packets, uint32_t *lengths, uint32_t count, void *data)

        It gets up to 256 packets at a time, in the order of their arrival. ``packets[i]`` points to the ``lengths[i]``
        bytes of a packet, in shared memory, which it may change, and which a hostile peer may change meanwhile. In
        ``lengths[i]`` it leaves how many of these bytes are to be sent; 0 drops the packet. A chained packet comes
        alone, as a contiguous copy. The handler returns 0 to go on, any other number to end the loop after the packets
        received so far. It runs without the interpreter lock, and nothing else runs in this thread until it returns.

        What is sent does not leave the memory where `TxQueue.forward` would not copy it either. While the transmit ring
        is full nothing more is received, so that the peer finds its own ring full in turn.

        Args:
            handler: A function pointer of ctypes, or what ``numba.cfunc`` made. Types that it knows of its arguments
                must be those above.
            tx: The `TxQueue` that sends, of this interface or another. Default: nothing is sent; a handler that only
                looks at packets need not set lengths.
            data: Passed to the handler: the address of this writable, contiguous buffer, such as a numpy array. The
                handler has to know its size. Default: a null pointer.
            count: End after this many packets.
            timeout: End after this many seconds; None never, 0 after the packets that are there, at most 256.
            until: A function without arguments, such as ``threading.Event().is_set``. The loop asks it at least every
                100 ms, and ends when it returns true. It must not use the two queues.

        Returns:
            Packets handled. If the loop ended while the transmit ring was full, those that waited are dropped and count
            as ``ring_full`` there.

        Raises:
            MemifDisconnectedError: The link of one of the queues is or goes down. What the peer sent before it left was
                handled, if it could still be sent.
            MemifStateError: Another thread is using one of the queues, or a burst of `TxQueue.alloc` is open.
            MemifBufferError: As in `recv`.
            MemifValueError: An argument is outside its range, or the handler left a length that was larger than before.
                Of the packets behind that one, those received so far are dropped.
            MemifTypeError: An argument is of the wrong kind.
        """
        from memif.ring._serving import serve

        return serve(self, handler, tx, data, count, timeout, until)

    def __iter__(self):
        return bursts_of(self)

    cdef Store take(self, RxRing ring, uint32_t limit, uint32_t *run):
        """What is there now, or None. Makes the next burst too, before any slot is taken: that may fail."""
        cdef uint32_t slots, capacity = limit
        cdef Store store
        cdef bint empty_fd = self.exported
        if not empty_fd and ring.run_head == ring.run_tail and not ring.ready():
            return None
        if self.spare is None:
            self.spare = new_burst(self.pool)
        while True:
            store = take_store(self.pool, capacity)
            if not lock_ring(ring):
                self.in_use()
            if limit <= SMALL:
                slots = ring.take_run(&store.c, limit, empty_fd, run)
            else:
                with nogil:
                    slots = ring.take_run(&store.c, limit, empty_fd, run)
            if store.c.packets:
                return store
            put_store(self.pool, store)
            if slots or ring.trouble or capacity >= ring.size or ring.stalled or ring.seen == ring.cursor:
                return None                 # nothing, or only invalid packets: a hostile peer can send those for ever
            capacity = ring.size            # a chain longer than the columns
