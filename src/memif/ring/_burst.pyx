# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Burst: a borrowed run of packets in shared memory, as columns.

The native loops fill arrays (offset, length, region, flags, one element a descriptor); Python objects for single packets are
made only when somebody asks for one. The arrays live in a Store, which goes back to its queue's pool when the burst is
released and no numpy array looks at it any more; otherwise it stays with those arrays, which so keep their contents.
"""
from cpython.buffer cimport (PyBUF_C_CONTIGUOUS, PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_FillInfo, PyBuffer_Release,
                             PyObject_GetBuffer)
from cpython.bytes cimport PyBytes_AsString, PyBytes_FromStringAndSize
from cpython.ref cimport Py_REFCNT
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from memif.errors import MemifStateError, MemifValueError

from memif.ring._region cimport fork_count
from memif.ring._ring cimport (MAX_PACKET, NEXT, Columns, Ring, RxRing, TxRing, copy, memif_flag_get, memif_flag_set,
                               memif_pause, memif_prefetch_read, memif_prefetch_write, memif_try_lock, memif_unlock,
                               unchain)

cdef object ndarray = None
cdef object empty_array = None
cdef object uint8 = None
cdef object uint16 = None
cdef object uint32 = None


cdef int load_numpy() except -1:
    """numpy is loaded by the first call that needs it, not by the import of memif."""
    global ndarray, empty_array, uint8, uint16, uint32
    if ndarray is None:
        try:
            import numpy
        except ImportError as error:
            raise ImportError("this needs numpy: pip install 'memif[numpy]'") from error
        empty_array = numpy.empty
        uint8 = numpy.dtype("u1")
        uint16 = numpy.dtype("u2")
        uint32 = numpy.dtype("u4")
        ndarray = numpy.ndarray
    return 0


cdef class Store:
    """The arrays behind one burst, in one block. Exports them as bytes; every numpy array over them holds a reference."""

    def __cinit__(self, uint32_t capacity):
        cdef Py_ssize_t words = 5 * capacity + capacity + 1, halves = 3 * capacity
        self.block_size = 4 * words + 2 * halves
        self.block = <char *>calloc(self.block_size, 1)
        if self.block == NULL:
            raise MemoryError()
        cdef uint32_t *word = <uint32_t *>self.block
        cdef uint16_t *half = <uint16_t *>(word + words)
        self.c.capacity = capacity
        self.c.length = word
        self.c.pieces = word + capacity
        self.c.offset = word + 2 * capacity
        self.c.room = word + 3 * capacity
        self.c.first = word + 4 * capacity
        self.c.region = half
        self.c.flags = half + capacity
        self.c.slot = half + 2 * capacity
        unchain(&self.c)

    def __dealloc__(self):
        free(self.block)

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.block, self.block_size, False, flags)



cdef class Fixed:
    """The same arrays for columns that no user may write: numpy asks this again when somebody sets an array writable."""
    cdef Store store

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.store.block, self.store.block_size, True, flags)


cdef Store take_store(list pool, uint32_t capacity):
    """An empty store for at least `capacity` descriptors, used again where possible."""
    cdef Store store
    if pool:
        store = pool.pop()
        if store.c.capacity >= capacity:
            unchain(&store.c)
            return store
    return Store(max(capacity, 64))


cdef bint debug = False


def set_debug(bint on) -> None:
    """For `memif.debug.enable`: bursts made from now on count the views of their packets."""
    global debug
    debug = on


cdef class Lease:
    """How many views of a burst's packets are alive; see `Window`."""


cdef class Window:
    """Debug mode: the exporter of one packet, which knows when its view is gone."""
    cdef Lease lease
    cdef object memory

    def __getbuffer__(self, Py_buffer *view, int flags):
        cdef Py_buffer inner
        PyObject_GetBuffer(self.memory, &inner, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE)
        PyBuffer_FillInfo(view, self, inner.buf, inner.len, False, flags)
        PyBuffer_Release(&inner)                    # the memory stays: self.memory holds it
        self.lease.views += 1

    def __releasebuffer__(self, Py_buffer *view):
        self.lease.views -= 1


cdef Burst received(RxRing ring, Store store, uint32_t run, list pool):
    cdef Burst burst = Burst.__new__(Burst)
    if debug:
        burst.lease = Lease()
    burst.ring = ring
    burst.rx = ring
    burst.store = store
    burst.c = &store.c
    burst.run = run
    burst.pool = pool
    return burst


cdef Burst allocated(TxRing ring, Store store, list pool):
    cdef Burst burst = Burst.__new__(Burst)
    if debug:
        burst.lease = Lease()
    burst.ring = ring
    burst.tx = ring
    burst.store = store
    burst.c = &store.c
    burst.pool = pool
    return burst


cdef uint32_t row_copy(Ring ring, Columns *c, uint32_t i, uint8_t *row, uint32_t width, bint back) noexcept nogil:
    """Copy the first `width` bytes of packet i to `row`, or back. -> bytes copied."""
    cdef uint32_t d, last, n, done = 0
    cdef uint8_t *data
    d = c.first[i] if c.chained else i
    last = c.first[i + 1] if c.chained else i + 1
    while d < last and done < width:
        n = min(c.piece[d], width - done)
        data = ring.spans[c.region[d]].base + c.offset[d]
        if back:
            copy(data, row + done, n)
        else:
            copy(row + done, data, n)
        done += n
        d += 1
    return done


cdef void gather_rows(Ring ring, Columns *c, uint8_t *rows, Py_ssize_t stride, uint32_t width) noexcept nogil:
    """The rows of a matrix from the packets; what is behind a short packet's end becomes zeros."""
    cdef uint32_t i, n, line, ahead
    for i in range(c.packets):
        if not c.chained and c.length[i] >= width:
            if width > 64 and i + 2 < c.packets:            # line 0 came while the descriptors were scanned
                ahead = min(width, c.length[i + 2])
                line = 64
                while line < ahead:
                    memif_prefetch_read(ring.spans[c.region[i + 2]].base + c.offset[i + 2] + line)
                    line += 64
            copy(rows + i * stride, ring.spans[c.region[i]].base + c.offset[i], width)
        else:
            n = row_copy(ring, c, i, rows + i * stride, width, False)
            memset(rows + i * stride + n, 0, width - n)


cdef void scatter_rows(Ring ring, Columns *c, uint8_t *rows, Py_ssize_t stride, uint32_t width) noexcept nogil:
    cdef uint32_t i
    for i in range(c.packets):
        if i + 4 < c.packets and not c.chained:
            memif_prefetch_write(ring.spans[c.region[i + 4]].base + c.offset[i + 4])
        row_copy(ring, c, i, rows + i * stride, width, True)


cdef class _Packets:
    """Iterator over the packets of a burst."""
    cdef Burst burst
    cdef uint32_t at

    def __iter__(self):
        return self

    def __next__(self):
        if self.burst.c == NULL or self.at >= self.burst.c.packets:
            self.burst.check()
            raise StopIteration
        self.at += 1
        return self.burst.packet(self.at - 1)


cdef class Burst:
    """Packets in shared memory, borrowed until `release` (received) or `send` (allocated).

    Sequence: ``len(burst)`` packets, a chained packet counts once; ``burst[i]`` and iteration give writable memoryviews of
    the packet in place, or a contiguous read-only copy where the packet is chained. Views keep the memory mapped but show
    other packets once the burst is released. Context manager: leaving the block releases a received burst, and sends an
    allocated one (an exception cancels it instead).

    One thread at a time may use a burst; it need not be the thread that received it. Made by `RxQueue.recv` and
    `TxQueue.alloc` only. Everything raises MemifStateError after the release.
    """

    def __init__(self):
        raise TypeError("a Burst comes from RxQueue.recv() or TxQueue.alloc()")

    def __dealloc__(self):
        if self.c != NULL:
            self.close()

    cdef int check(self) except -1:
        if ndarray is None:
            load_numpy()
        if self.c == NULL:
            if self.store is None and self.ring is None and self is not EMPTY:
                raise MemifStateError("this burst was released: its packets belong to the peer again")
            return 0
        if self.ring is not None and self.ring.born != fork_count():
            raise MemifStateError("this burst belongs to the parent process: a forked child cannot use it")
        return 0

    cdef int check_lengths(self) except -1:
        """Lengths are the user's to change: they must still fit their buffers before any loop follows them."""
        cdef uint32_t i, d, last, before
        cdef Columns *c = self.c
        for i in range(c.packets):
            if not c.chained:
                if c.length[i] - 1 >= c.room[i] or c.length[i] > MAX_PACKET:
                    raise MemifValueError.argument(f"lengths[{i}]", c.length[i], f"1 to {min(c.room[i], MAX_PACKET)}")
                continue
            before = 0
            last = c.first[i + 1] - 1
            for d in range(c.first[i], last):
                before += c.piece[d]
            if c.length[i] <= before or c.length[i] - before > c.room[last] or c.length[i] > MAX_PACKET:
                raise MemifValueError.argument(f"lengths[{i}]", c.length[i],
                                               f"{before + 1} to {before + c.room[last]} (chained packet)")
            c.piece[last] = c.length[i] - before
        return 0

    cdef int check_lent(self) except -1:
        """Debug mode: whoever still looks at the packets would see others after the release."""
        if self.lease is not None and self.lease.views:
            raise MemifStateError(f"{self.lease.views} views of this burst's packets are still in use (memif.debug)")
        return 0

    cdef object view(self, Ring ring, uint32_t region, uint64_t start, uint64_t size):
        cdef Window window
        if self.lease is None:
            return ring.views[region][start:start + size]
        window = Window.__new__(Window)
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
            if self.rx is not None:
                memif_flag_set(&self.rx.runs[self.run & ring.wrap].done, 1)
            while not memif_try_lock(&ring.lock):   # held for a few microseconds at most; if not, its holder settles
                tries += 1
                if tries == 1000:
                    break
                memif_pause()
            else:
                if self.rx is not None:
                    self.rx.settle()
                else:
                    ring.cursor = ring.settled      # what was not published is free again
                    self.tx.lent = False
                memif_unlock(&ring.lock)
        if Py_REFCNT(self.store) == 1 and len(self.pool) < 4:      # no numpy array looks at it
            self.pool.append(self.store)
        self.ring = self.rx = self.tx = None
        self.store = None
        return 0

    # -- life

    def release(self) -> None:
        """Hand the buffers back to the peer; for an allocated burst: cancel it. A second call does nothing.

        Bursts of one queue may be released in any order; the peer gets its slots back in the order of the ring.
        """
        if self.c != NULL:
            self.check_lent()
            self.close()

    def send(self, count=None) -> int:
        """Send the first `count` packets (default all) of an allocated burst and give the rest up. -> packets sent.

        A packet's length is its element of `lengths`. Raises MemifValueError when one does not fit its buffers,
        MemifStateError for a burst that was received or is already sent.
        """
        cdef Py_ssize_t packets = -1 if count is None else count
        self.check()
        if self.tx is None:
            raise MemifStateError("only an allocated burst can be sent: use TxQueue.forward for a received one")
        if count is None:
            packets = self.c.packets
        if packets < 0 or packets > self.c.packets:
            raise MemifValueError.argument("count", count, f"0 to {self.c.packets}")
        self.check_lent()
        self.check_lengths()
        cdef TxRing ring = self.tx
        cdef Columns *c = self.c
        if not memif_try_lock(&ring.lock):
            raise MemifStateError("another thread is using this queue: one thread at a time")
        self.busy += 1
        if not memif_flag_get(&ring.dead):
            with nogil:
                ring.commit(c, 0, <uint32_t>packets)
                if packets < c.packets:
                    ring.cursor = <uint16_t>(ring.cursor - <uint16_t>(c.descriptors - (
                        c.first[packets] if c.chained else <uint32_t>packets)))
                ring.publish()
        else:
            packets = 0
        memif_unlock(&ring.lock)
        self.busy -= 1
        self.close()
        return packets

    def __enter__(self) -> Burst:
        self.check()
        return self

    def __exit__(self, kind, value, trace) -> None:
        if self.c == NULL:
            return
        if self.tx is not None and kind is None:
            self.send()
            return
        if kind is None:
            self.check_lent()
        self.close()

    # -- sequence of packets

    def __len__(self) -> int:
        self.check()
        return self.c.packets if self.c != NULL else 0

    def __bool__(self) -> bool:
        self.check()
        return self.c != NULL and self.c.packets != 0

    cdef Py_ssize_t index(self, Py_ssize_t i) except -1:
        cdef Py_ssize_t n = len(self)
        if i < 0:
            i += n
        if i < 0 or i >= n:
            raise IndexError(f"packet {i} of a burst of {n}")
        return i

    cdef object packet(self, uint32_t i):
        cdef Columns *c = self.c
        if c == NULL:
            self.check()
        if c.chained and c.first[i + 1] - c.first[i] > 1:
            return memoryview(self.join(i))
        cdef uint32_t d = c.first[i] if c.chained else i
        cdef uint64_t low = c.offset[d]
        if c.piece[d] > c.room[d]:
            self.check_lengths()
        return self.view(self.ring, c.region[d], low, c.piece[d])

    cdef bytes join(self, uint32_t i):
        cdef uint32_t d, n = 0, low = self.c.first[i] if self.c.chained else i
        cdef uint32_t high = self.c.first[i + 1] if self.c.chained else i + 1
        for d in range(low, high):
            n += min(self.c.piece[d], self.c.room[d])
        cdef bytes data = PyBytes_FromStringAndSize(NULL, n)
        cdef uint8_t *target = <uint8_t *>PyBytes_AsString(data)
        for d in range(low, high):
            n = min(self.c.piece[d], self.c.room[d])
            copy(target, self.ring.spans[self.c.region[d]].base + self.c.offset[d], n)
            target += n
        return data

    def __getitem__(self, key):
        if isinstance(key, slice):
            return [self.packet(i) for i in range(*key.indices(len(self)))]
        return self.packet(<uint32_t>self.index(key))

    def __iter__(self):
        self.check()
        if self.c == NULL:
            return iter(())
        cdef _Packets packets = _Packets.__new__(_Packets)
        packets.burst = self
        return packets

    def fragments(self, i: int) -> list:
        """The pieces of packet `i` as a list of writable memoryviews in place; one element when it is not chained."""
        cdef uint32_t p = <uint32_t>self.index(i), d
        self.check_lengths()
        cdef uint32_t low = self.c.first[p] if self.c.chained else p
        cdef uint32_t high = self.c.first[p + 1] if self.c.chained else p + 1
        cdef Columns *c = self.c
        cdef Ring ring = self.ring
        cdef Store store = self.store               # stays when a finalizer, run by what follows, releases the burst
        return [self.view(ring, c.region[d], c.offset[d], c.piece[d]) for d in range(low, high)]

    def tobytes(self) -> list:
        """All packets as a list of bytes, copied."""
        self.check()
        cdef list packets = []
        cdef uint32_t i
        if self.c == NULL:
            return packets
        self.check_lengths()
        for i in range(self.c.packets):
            if self.c.chained:
                packets.append(self.join(i))
            else:
                packets.append(PyBytes_FromStringAndSize(
                    <char *>self.ring.spans[self.c.region[i]].base + self.c.offset[i], self.c.length[i]))
        return packets

    # -- columns

    cdef object column(self, void *data, uint32_t count, object dtype, bint writable):
        load_numpy()
        cdef Fixed fixed
        if writable:
            return ndarray((count,), dtype, self.store, <char *>data - self.store.block)
        fixed = Fixed.__new__(Fixed)
        fixed.store = self.store
        return ndarray((count,), dtype, fixed, <char *>data - self.store.block)

    @property
    def lengths(self):
        """Bytes of each packet: numpy uint32, shape (len(burst),), no copy.

        Writable. In an allocated burst this sets what will be sent; in a received burst it may shorten a packet before
        `TxQueue.forward`. The array stays readable after the release.
        """
        self.check()
        if self.c == NULL:
            load_numpy()
            return empty_array(0, uint32)
        return self.column(self.c.length, self.c.packets, uint32, True)

    @property
    def offsets(self):
        """Where each descriptor's data starts in its region: numpy uint32, one a descriptor, read-only, no copy."""
        self.check()
        return self.column(self.c.offset, self.c.descriptors, uint32, False) if self.c != NULL else self.lengths

    @property
    def pieces(self):
        """Bytes of each descriptor: numpy uint32, one a descriptor, read-only, no copy. The same as `lengths` while no
        packet of the burst is chained."""
        self.check()
        return self.column(self.c.piece, self.c.descriptors, uint32, False) if self.c != NULL else self.lengths

    @property
    def regions(self):
        """Region index of each descriptor: numpy uint16, one a descriptor, read-only, no copy."""
        self.check()
        if self.c == NULL:
            load_numpy()
            return empty_array(0, uint16)
        return self.column(self.c.region, self.c.descriptors, uint16, False)

    @property
    def flags(self):
        """Flags of each descriptor (1: the packet goes on in the next one): numpy uint16, one a descriptor, read-only."""
        self.check()
        if self.c == NULL:
            load_numpy()
            return empty_array(0, uint16)
        return self.column(self.c.flags, self.c.descriptors, uint16, False)

    @property
    def chained(self) -> bool:
        """True when a packet of this burst has more than one descriptor."""
        self.check()
        return self.c != NULL and self.c.chained

    @property
    def memory(self) -> tuple:
        """The connection's regions as numpy uint8 arrays, by region index, writable, no copy.

        For compiled handlers: packet i without a chain is ``memory[regions[i]][offsets[i]:offsets[i] + lengths[i]]``.
        Whoever writes elsewhere damages the rings of this connection.
        """
        self.check()
        load_numpy()
        if self.ring is None:
            return ()
        return tuple([ndarray((len(r),), uint8, r) for r in self.ring.regions])

    def gather(self, width: int, out=None):
        """The first `width` bytes of each packet, copied: numpy uint8, shape (len(burst), width), zeros behind the end of
        shorter packets. `out`: an array of that shape (or with more rows), C-contiguous rows, to be filled instead of a
        new one; the filled part is returned. Raises MemifValueError for a width outside 1 to 65536 or a wrong `out`.
        """
        self.check()
        load_numpy()
        cdef Py_ssize_t columns = width
        if columns < 1 or columns > MAX_PACKET:
            raise MemifValueError.argument("width", width, f"1 to {MAX_PACKET}")
        cdef Py_ssize_t n = self.c.packets if self.c != NULL else 0
        if out is None:
            out = empty_array((n, columns), uint8)
        if n == 0:
            return out[:0]
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
            if target.shape[1] != columns:
                raise MemifValueError.argument("out", f"rows of {target.shape[1]} bytes", f"rows of {columns}")
            with nogil:
                gather_rows(ring, c, <uint8_t *>target.buf, target.strides[0], <uint32_t>columns)
        finally:
            self.busy -= 1
            PyBuffer_Release(&target)
        return out if len(out) == n else out[:n]

    def scatter(self, array) -> None:
        """Write the rows of `array` (uint8, shape (len(burst), width)) back into the packets: of each row as many bytes as
        the packet has, up to width. The reverse of `gather`."""
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
            with nogil:
                scatter_rows(ring, c, <uint8_t *>source.buf, source.strides[0],
                             <uint32_t>min(source.shape[1], MAX_PACKET))
        finally:
            self.busy -= 1
            PyBuffer_Release(&source)

    def prepend(self, count: int) -> None:
        """Grow every packet of a received burst by `count` bytes at its front, into the headroom.

        Slave only: a master does not know what lies in front of a packet. Raises MemifValueError when the headroom that
        the interface was made with is too small, and changes nothing then.
        """
        self.check()
        cdef uint32_t i, d, n = count
        if self.c == NULL:
            return
        if self.rx is None or not self.rx.slave:
            raise MemifStateError("prepend needs a received burst of a slave")
        self.check_lengths()
        for i in range(self.c.packets):
            d = self.c.first[i] if self.c.chained else i
            if self.c.slot[d] > self.rx.wrap or self.c.offset[d] - self.rx.slots[self.c.slot[d]].start < n:
                raise MemifValueError.argument("count", count, f"the headroom, {self.rx.headroom}")
        for i in range(self.c.packets):
            d = self.c.first[i] if self.c.chained else i
            self.c.offset[d] -= n
            self.c.room[d] += n
            self.c.piece[d] += n
            if self.c.chained:
                self.c.length[i] += n

    def __repr__(self) -> str:
        if self.c == NULL:
            return "<Burst of 0 packets>" if self is EMPTY else "<Burst, released>"
        return f"<Burst of {self.c.packets} packets, {'received' if self.rx is not None else 'to be sent'}>"

    def __reduce__(self):
        raise TypeError("a Burst is memory shared with a peer and cannot be pickled or copied: use tobytes()")


cdef int check_matrix(str name, Py_buffer *view, Py_ssize_t rows, Py_ssize_t least) except -1:
    """A two-dimensional array of bytes whose rows are contiguous."""
    if view.ndim != 2 or view.itemsize != 1 or view.strides[1] != 1 or view.strides[0] < view.shape[1]:
        raise MemifValueError.argument(name, f"{view.ndim} dimensions, items of {view.itemsize} bytes",
                                       "a uint8 matrix whose rows are contiguous")
    if view.shape[0] < rows or view.shape[1] < least:
        raise MemifValueError.argument(name, f"shape ({view.shape[0]}, {view.shape[1]})", f"at least ({rows}, {least})")
    return 0


cdef Burst EMPTY = Burst.__new__(Burst)
