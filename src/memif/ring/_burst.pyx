# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: binding=False, embedsignature=True, embedsignature.format=clinic
# cython: auto_pickle=False, autotestdict=False
"""Burst: a borrowed run of packets in shared memory, as columns.

The native loops fill arrays (offset, length, region, flags, one element a descriptor); Python objects for
single packets are made only when somebody asks for one. The array of lengths is the user's to write: what is
in it is checked by each call, and clamped by the loops, which run without the interpreter lock while another
thread may write again.
"""
cimport cython
from cpython.buffer cimport (PyBUF_C_CONTIGUOUS, PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_FillInfo,
                             PyBuffer_Release, PyObject_GetBuffer)
from cpython.bytes cimport PyBytes_AsString, PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from memif.errors import MemifStateError, MemifValueError

from memif.ring._arguments cimport check_matrix, load_numpy, number
from memif.ring._atomics cimport (memif_flag_get, memif_flag_set, memif_pause, memif_prefetch_read,
                                  memif_prefetch_write, memif_try_lock, memif_unlock)
from memif.ring._ring cimport SMALL_BYTES, Span
from memif.ring._columns cimport MAX_PACKET, copy, first_of, piece_of
from memif.ring._region cimport fork_count
from memif.ring._store cimport Pool, matrix, put_store
from memif.ring._tx cimport FREE, RETURNED

cdef extern from "Python.h":
    Py_ssize_t Py_REFCNT(PyObject *object)
    Py_ssize_t PyNumber_AsSsize_t(object value, object overflow) except? -1

cdef bint debug = False


def set_debug(bint on) -> None:
    """For `memif.debug.enable`: bursts made from now on count the views of their packets."""
    global debug
    debug = on


cdef class _Lease:
    """How many views of a burst's packets are alive; see `_Window`."""


cdef class _Window:
    """Debug mode: the exporter of one packet, which knows when its view is gone."""
    cdef _Lease lease
    cdef object memory

    def __getbuffer__(self, Py_buffer *view, int flags):
        cdef Py_buffer inner
        PyObject_GetBuffer(self.memory, &inner, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE)
        PyBuffer_FillInfo(view, self, inner.buf, inner.len, False, flags)
        PyBuffer_Release(&inner)                    # the memory stays: self.memory holds it
        self.lease.views += 1

    def __releasebuffer__(self, Py_buffer *view):
        self.lease.views -= 1


cdef Burst new_burst(Pool pool):
    """An empty burst: one that was released and that nobody has any more, or a new one."""
    cdef Burst burst
    if pool.idle is not None and not debug and Py_REFCNT(<PyObject *>pool.idle) == 1:
        burst = <Burst>pool.idle
        pool.idle = pool.idle_too
        pool.idle_too = None
        return burst
    burst = Burst.__new__(Burst)
    if debug:
        burst.lease = _Lease()
    return burst


cdef void lend(Burst burst, RxRing ring, Store store, uint32_t run, Pool pool) noexcept:
    """Fill a new burst with packets received."""
    burst.ring = ring
    burst.rx = ring
    burst.store = store
    burst.c = &store.c
    burst.run = run
    burst.pool = pool


cdef Burst allocated(TxRing ring, Store store, Pool pool):
    cdef Burst burst = new_burst(pool)
    burst.ring = ring
    burst.tx = ring
    burst.store = store
    burst.c = &store.c
    burst.pool = pool
    return burst


cdef uint32_t row_copy(Ring ring, const Columns *c, uint32_t i, uint8_t *row, uint32_t width,
                       bint back) noexcept nogil:
    """Copy the first `width` bytes of packet i to `row`, or back. -> bytes copied."""
    cdef uint32_t d, last = first_of(c, i + 1), n, done = 0
    cdef uint8_t *data
    for d in range(first_of(c, i), last):
        n = min(piece_of(c, d), width - done)
        data = ring.spans[c.region[d]].base + c.offset[d]
        if back:
            copy(data, row + done, n)
        else:
            copy(row + done, data, n)
        done += n
        if done == width:
            break
    return done


cdef void gather_rows(Ring ring, const Columns *c, uint8_t *rows, Py_ssize_t stride,
                      uint32_t width) noexcept nogil:
    """The rows of a matrix from the packets; what is behind a short packet's end becomes zeros."""
    cdef uint32_t i, n, line, ahead, packets = c.packets
    cdef const Span *spans = ring.spans
    cdef const uint32_t *pieces = c.piece       # in locals, as a store to a row could change c for the compiler
    cdef const uint32_t *rooms = c.room
    cdef const uint32_t *offsets = c.offset
    cdef const uint16_t *regions = c.region
    cdef bint chained = c.chained
    for i in range(packets):
        if not chained and min(pieces[i], rooms[i]) >= width:
            if width > 64 and i + 2 < packets:              # line 0 came while the descriptors were scanned
                ahead = min(width, piece_of(c, i + 2))
                line = 64
                while line < ahead:
                    memif_prefetch_read(spans[regions[i + 2]].base + offsets[i + 2] + line)
                    line += 64
            copy(rows + i * stride, spans[regions[i]].base + offsets[i], width)
        else:
            n = row_copy(ring, c, i, rows + i * stride, width, False)
            memset(rows + i * stride + n, 0, width - n)


cdef void scatter_rows(Ring ring, const Columns *c, uint8_t *rows, Py_ssize_t stride,
                       uint32_t width) noexcept nogil:
    cdef uint32_t i
    for i in range(c.packets):
        if i + 4 < c.packets and not c.chained:
            memif_prefetch_write(ring.spans[c.region[i + 4]].base + c.offset[i + 4])
        row_copy(ring, c, i, rows + i * stride, width, True)


cdef void send_some(TxRing ring, Columns *c, uint32_t packets) noexcept nogil:
    """Send the first packets of an allocated burst; the slots of the others are free again."""
    if packets < c.packets:
        ring.rollback(<uint16_t>(ring.settled + ((c.slot[first_of(c, packets)] - ring.settled) & ring.wrap)))
    ring.commit(c, 0, packets)
    ring.publish()


cdef class _Packets:
    """Iterator over the packets of a burst."""
    cdef Burst burst
    cdef uint32_t at

    def __iter__(self):
        return self

    def __next__(self):
        self.burst.check()
        if self.burst.c == NULL or self.at >= self.burst.c.packets:
            raise StopIteration
        self.at += 1
        return self.burst.packet(self.at - 1)


@cython.final
@cython.no_gc_clear         # __dealloc__ needs the ring
cdef class Burst:
    """Packets in shared memory, borrowed until `release` (received) or `send` (allocated).

    Sequence: ``len(burst)`` packets, a chained packet counts once; ``burst[i]`` and iteration give writable
    memoryviews of the packet in place, or a contiguous read-only copy where the packet is chained. Views keep
    the memory mapped but show other packets once the burst is released. Context manager: leaving the block
    releases a received burst, and sends an allocated one (an exception cancels it instead).

    One thread at a time may use a burst; it need not be the thread that received it. Made by `RxQueue.recv`
    and `TxQueue.alloc` only. Everything raises MemifStateError after the release.
    """

    def __init__(self):
        raise TypeError("a Burst comes from RxQueue.recv() or TxQueue.alloc()")

    def __dealloc__(self):
        if self.c != NULL:
            self.close()

    cdef int check(self) except -1:
        if self.c == NULL:
            if self is not EMPTY:
                raise MemifStateError("this burst was released: its packets belong to the peer again")
            return 0
        if self.ring.born != fork_count():
            raise MemifStateError("this burst belongs to the parent process: a forked child cannot use it")
        return 0

    cdef int fit(self, uint32_t i) except -1:
        """Check the length that the user may have given to packet i, and pass it on to the packet's last
        piece."""
        cdef Columns *c = self.c
        cdef uint32_t d, last = first_of(c, i + 1) - 1, before = 0, length = c.length[i], most
        for d in range(first_of(c, i), last):
            before += c.piece[d]
        most = min(before + c.room[last], MAX_PACKET)
        if length <= before or length > most:
            raise MemifValueError.argument(f"lengths[{i}]", length, f"{before + 1} to {most}"
                                           + (" (chained packet)" if before else ""))
        c.piece[last] = length - before
        return 0

    cdef int check_lengths(self, uint32_t count=0xFFFFFFFF) except -1:
        """Check the lengths of the first `count` packets (default all)."""
        cdef uint32_t i
        cdef Columns *c = self.c
        for i in range(min(count, c.packets)):
            if c.chained or c.length[i] - 1 >= c.room[i] or c.length[i] > MAX_PACKET:
                self.fit(i)
        return 0

    cdef int check_lent(self) except -1:
        """Debug mode: whoever still looks at the packets would see others after the release."""
        if self.lease is not None and self.lease.views:
            raise MemifStateError(f"{self.lease.views} views of this burst's packets are still in use "
                                  "(memif.debug)")
        return 0

    cdef object view(self, Ring ring, uint32_t region, uint64_t start, uint64_t size):
        cdef _Window window
        if self.lease is None:
            return ring.views[region][start:start + size]
        window = _Window.__new__(_Window)
        window.lease = self.lease
        window.memory = ring.views[region][start:start + size]
        return memoryview(window)

    cdef int close(self) except -1:
        """Give the slots back (received) or up (allocated), and the store to the pool."""
        cdef int tries = 0
        cdef Ring ring = self.ring
        if self.busy:
            raise MemifStateError("another thread is using this burst: it cannot be released now")
        self.c = NULL
        if ring.born == fork_count():
            if self.tx is not None:
                memif_flag_set(&self.tx.lent, RETURNED)
            else:
                memif_flag_set(&self.rx.runs[self.run & ring.wrap].done, 1)
                # The lock is held for a few microseconds at most; if it is longer, the next recv settles.
                while tries < 1000:
                    if memif_try_lock(&ring.lock):
                        self.rx.settle()
                        memif_unlock(&ring.lock)
                        break
                    tries += 1
                    memif_pause()
        put_store(self.pool, self.store)
        self.ring = self.rx = self.tx = None
        self.store = None
        return 0

    cdef int give_up(self) except -1:
        """`close`, by a caller: the object can serve the next call but one, when the caller's variable no
        longer holds it."""
        cdef Pool pool = self.pool
        self.close()
        self.pool = None
        if self.lease is None:
            if pool.idle is None:
                pool.idle = self
            elif pool.idle_too is None:
                pool.idle_too = self
        return 0

    # -- life

    @cython.always_allow_keywords(False)        # without arguments: the cheapest call there is
    def release(self) -> None:
        """Hand the buffers back to the peer; for an allocated burst: cancel it. A second call does nothing.

        Bursts of one queue may be released in any order; the peer gets its slots back in the order of the
        ring.
        """
        if self.c != NULL:
            self.check_lent()
            self.give_up()

    def send(self, count=None) -> int:
        """Send the first `count` packets (default all) of an allocated burst and give the rest up. -> packets
        sent.

        A packet's length is its element of `lengths`. Raises MemifValueError when one does not fit its
        buffers, MemifStateError for a burst that was received or is already sent. 0 when the link is down.
        """
        cdef Py_ssize_t wanted = 0 if count is None else number("count", count, 0, 0x7FFFFFFF)
        self.check()
        if self.c == NULL:
            return 0
        if self.tx is None:
            raise MemifStateError("only an allocated burst can be sent: TxQueue.forward sends a received one")
        cdef TxRing ring = self.tx
        cdef Columns *c = self.c
        if count is None:
            wanted = c.packets
        elif wanted > c.packets:
            raise MemifValueError.argument("count", count, f"0 to {c.packets}")
        self.check_lent()
        self.check_lengths(<uint32_t>wanted)
        if self.busy:
            self.close()                            # raises
        self.busy += 1
        if memif_flag_get(&ring.dead) or ring.trouble:      # an open loan owns the ring: no lock is needed
            wanted = 0
        else:
            with nogil:
                send_some(ring, c, <uint32_t>wanted)
        self.busy -= 1
        self.give_up()
        memif_flag_set(&ring.lent, FREE if ring.cursor == ring.settled else RETURNED)
        return wanted

    @cython.always_allow_keywords(False)
    def __enter__(self) -> Burst:
        self.check()
        return self

    def __exit__(self, kind, value, trace) -> None:
        if self.c == NULL:
            return
        if self.tx is not None and kind is None:
            try:
                self.send()
            except BaseException:
                self.release()                      # else the queue would stay locked by a burst that nobody has
                raise
            return
        if kind is None:
            self.check_lent()
        self.give_up()

    # -- sequence of packets

    def __len__(self) -> int:
        self.check()
        return self.c.packets if self.c != NULL else 0

    def __bool__(self) -> bool:
        self.check()
        return self.c != NULL and self.c.packets != 0

    cdef uint32_t index(self, i) except? 0xFFFFFFFF:
        cdef Py_ssize_t at = PyNumber_AsSsize_t(i, IndexError), n = len(self)
        if at < 0:
            at += n
        if at < 0 or at >= n:
            raise IndexError(f"packet {i} of a burst of {n}")
        return <uint32_t>at

    cdef object packet(self, uint32_t i):
        cdef Columns *c = self.c
        if c == NULL:
            self.check()
        self.fit(i)
        cdef uint32_t d = first_of(c, i)
        cdef uint64_t low = c.offset[d]
        if first_of(c, i + 1) - d > 1:
            return memoryview(self.join(i))
        return self.view(self.ring, c.region[d], low, c.piece[d])

    cdef bytes join(self, uint32_t i):
        """A packet, copied; its length has been checked."""
        cdef Columns *c = self.c
        cdef uint32_t n = c.length[i]
        cdef bytes data = PyBytes_FromStringAndSize(NULL, n)
        row_copy(self.ring, c, i, <uint8_t *>PyBytes_AsString(data), n, False)
        return data

    def __getitem__(self, key):
        if isinstance(key, slice):
            packets = []                            # no comprehension: it gives back twice when memory is out
            for i in range(*key.indices(len(self))):
                packets.append(self.packet(i))
            return packets
        return self.packet(self.index(key))

    def __iter__(self):
        self.check()
        cdef _Packets packets = _Packets.__new__(_Packets)
        packets.burst = self
        return packets

    def fragments(self, i: int) -> list:
        """The pieces of packet `i` as a list of writable memoryviews in place; one element when it is not
        chained."""
        cdef uint32_t p = self.index(i), d
        cdef Columns *c = self.c
        cdef Ring ring = self.ring
        cdef list views = []
        self.fit(p)
        self.busy += 1          # a finalizer, run by what follows, must not release the burst
        try:
            for d in range(first_of(c, p), first_of(c, p + 1)):
                views.append(self.view(ring, c.region[d], c.offset[d], c.piece[d]))
        finally:
            self.busy -= 1
        return views

    def tobytes(self) -> list:
        """All packets as a list of bytes, copied."""
        self.check()
        cdef list packets = []
        cdef uint32_t i
        if self.c != NULL:
            self.check_lengths()
            for i in range(self.c.packets):
                packets.append(self.join(i))
        return packets

    # -- columns

    @property
    def lengths(self):
        """Bytes of each packet: numpy uint32, shape (len(burst),), no copy.

        Writable. In an allocated burst this sets what will be sent; in a received burst it may shorten a
        packet before `TxQueue.forward`. The array stays readable after the release.
        """
        self.check()
        if self.c == NULL:
            return load_numpy().empty(0, load_numpy().uint32)
        return self.store.words(self.c.length, self.c.packets, True)

    @property
    def offsets(self):
        """Where each descriptor's data starts in its region: numpy uint32, one a descriptor, read-only, no
        copy."""
        self.check()
        return self.store.words(self.c.offset, self.c.descriptors, False) if self.c != NULL else self.lengths

    @property
    def pieces(self):
        """Bytes of each descriptor: numpy uint32, one a descriptor, read-only, no copy. The same as `lengths`
        while no packet of the burst is chained."""
        self.check()
        return self.store.words(self.c.piece, self.c.descriptors, False) if self.c != NULL else self.lengths

    @property
    def regions(self):
        """Region index of each descriptor: numpy uint16, one a descriptor, read-only, no copy."""
        self.check()
        if self.c == NULL:
            return load_numpy().empty(0, load_numpy().uint16)
        return self.store.halves(self.c.region, self.c.descriptors)

    @property
    def flags(self):
        """Flags of each descriptor (1: the packet goes on in the next one): numpy uint16, one a descriptor,
        read-only."""
        self.check()
        if self.c == NULL:
            return load_numpy().empty(0, load_numpy().uint16)
        return self.store.halves(self.c.flags, self.c.descriptors)

    @property
    def chained(self) -> bool:
        """True when a packet of this burst has more than one descriptor."""
        self.check()
        return self.c != NULL and self.c.chained

    @property
    def memory(self) -> tuple:
        """The connection's regions as numpy uint8 arrays, by region index, writable, no copy.

        For compiled handlers: packet i without a chain is ``memory[regions[i]][offsets[i]:offsets[i] +
        lengths[i]]``. Whoever writes elsewhere damages the rings of this connection.
        """
        self.check()
        if self.ring is None:
            return ()
        arrays = []                                 # no comprehension, see __getitem__
        for region in self.ring.regions:
            arrays.append(load_numpy().array((len(region),), load_numpy().uint8, region))
        return tuple(arrays)

    def gather(self, width: int, out=None):
        """The first `width` bytes of each packet, copied: numpy uint8, shape (len(burst), width), zeros
        behind the end of shorter packets. `out`: an array of that shape (or with more rows), C-contiguous
        rows, to be filled instead of a new one; the filled part is returned. Without it the array can be one
        that an earlier call returned and that nobody has any more. Raises MemifValueError for a width outside
        1 to 65536 or a wrong `out`.
        """
        cdef Py_ssize_t columns = number("width", width, 1, MAX_PACKET)
        self.check()
        cdef Py_ssize_t n = self.c.packets if self.c != NULL else 0
        if n == 0:
            return load_numpy().empty((0, columns), load_numpy().uint8) if out is None else out[:0]
        if out is None:
            out = matrix(self.pool, n, columns)
            self.check()                            # a finalizer can have released it
        self.check_lengths()
        cdef Py_buffer target
        cdef Columns *c = self.c
        cdef Ring ring = self.ring
        PyObject_GetBuffer(out, &target, PyBUF_STRIDES | PyBUF_WRITABLE)
        self.busy += 1
        try:
            if self.c != c:
                self.check()                        # released by what exported the buffer
            check_matrix("out", &target, n, columns)
            if target.shape[1] != columns or n > 1 and target.strides[0] < columns:
                raise MemifValueError.argument("out", f"rows of {target.shape[1]} bytes",
                                               f"rows of {columns}")
            if n * columns <= SMALL_BYTES:
                gather_rows(ring, c, <uint8_t *>target.buf, target.strides[0], <uint32_t>columns)
            else:
                with nogil:
                    gather_rows(ring, c, <uint8_t *>target.buf, target.strides[0], <uint32_t>columns)
        finally:
            self.busy -= 1
            PyBuffer_Release(&target)
        return out if len(out) == n else out[:n]

    def scatter(self, array) -> None:
        """Write the rows of `array` (uint8, shape (len(burst), width)) back into the packets: of each row as
        many bytes as the packet has, up to width. The reverse of `gather`."""
        self.check()
        cdef Py_ssize_t n = self.c.packets if self.c != NULL else 0
        if n == 0:
            return
        self.check_lengths()
        cdef Py_buffer source
        cdef Columns *c = self.c
        cdef Ring ring = self.ring
        PyObject_GetBuffer(array, &source, PyBUF_STRIDES)
        self.busy += 1
        try:
            if self.c != c:
                self.check()
            check_matrix("array", &source, n, 1)
            if n * source.shape[1] <= SMALL_BYTES:
                scatter_rows(ring, c, <uint8_t *>source.buf, source.strides[0], <uint32_t>source.shape[1])
            else:
                with nogil:
                    scatter_rows(ring, c, <uint8_t *>source.buf, source.strides[0],
                                 <uint32_t>min(source.shape[1], MAX_PACKET))
        finally:
            self.busy -= 1
            PyBuffer_Release(&source)

    def prepend(self, count: int) -> None:
        """Grow every packet of a received burst by `count` bytes at its front, into the headroom.

        Slave only: a master does not know what lies in front of a packet. Raises MemifValueError when the
        headroom that the interface was made with is too small or a packet would exceed 65536 bytes, and
        changes nothing then.
        """
        cdef uint32_t i, d, n = <uint32_t>number("count", count, 0, MAX_PACKET)
        self.check()
        cdef Columns *c = self.c
        if c == NULL:
            return
        if self.rx is None or not self.rx.slave:
            raise MemifStateError("prepend needs a received burst of a slave")
        self.check_lengths()
        for i in range(c.packets):
            d = first_of(c, i)
            if c.slot[d] > self.rx.wrap:
                raise MemifStateError("a packet of this burst was given away by an earlier forward()")
            if c.offset[d] - self.rx.slots[c.slot[d]].start < n or c.length[i] + n > MAX_PACKET:
                raise MemifValueError.argument("count", count, f"the headroom, {self.rx.headroom}, "
                                               f"and packets of at most {MAX_PACKET} bytes")
        for i in range(c.packets):
            d = first_of(c, i)
            c.offset[d] -= n
            c.room[d] += n
            c.piece[d] += n
            if c.chained:
                c.length[i] += n

    def __repr__(self) -> str:
        if self.c == NULL:
            return "<Burst of 0 packets>" if self is EMPTY else "<Burst, released>"
        return f"<Burst of {self.c.packets} packets, {'received' if self.rx is not None else 'to be sent'}>"

    def __reduce__(self):
        raise TypeError("a Burst is memory shared with a peer and cannot be pickled or copied: use tobytes()")


cdef Burst EMPTY = Burst.__new__(Burst)
