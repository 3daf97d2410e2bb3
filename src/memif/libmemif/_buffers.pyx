# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: auto_pickle=False, autotestdict=False
"""The rings of libmemif: the user manages single buffers.

`RxQueue` and `TxQueue` lend whole bursts and take them back by themselves. The C library hands out single buffers: the
user says how many to give back (refill), can hold several allocations at once, sends any part of them in order, and can
put received buffers into the transmit ring. `RawRx` and `RawTx`, in modules of their own, keep track of the buffers of
one ring of one connection. The rings' own loops move the data (`RxRing.take`, `TxRing.reserve`, `commit`, `swap`). This
module holds what both share, and the buffer.

Safety: a `memif_buffer_t` stores the place of its data in fields that only these modules write, checked when the ring
handed the buffer out. Slots are numbered by 64-bit counters that never wrap, and each slot has a stamp that changes
with every new owner. So a buffer is recognised if it was sent, refilled or exchanged, or belongs to another connection.
The fields that users write (`len`, `flags`) are read once, with the interpreter lock held, and checked on use. The
region exports the views, so filling a buffer again does not invalidate them.

Python code (finalizers, garbage collection) can run where a last reference is dropped or an object is created. So the
rings of a buffer's former slots are kept until the call returns, see `enough`.

All of this keeps the interpreter lock: a burst of 256 takes a few microseconds. One thread at a time may use a ring; a
second one gets AGAIN.
"""
cimport cython
from cpython.buffer cimport (PyBUF_SIMPLE, PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_FillInfo, PyBuffer_Release)
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_Clear
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memmove

from memif.errors import ErrorCode, MemifTypeError, MemifValueError

from memif.ring._arguments cimport check_matrix, load_numpy, number, take_buffer
from memif.ring._atomics cimport memif_flag_get, memif_load32, memif_store32, memif_try_lock
from memif.ring._columns cimport MAX_PACKET, Columns
from memif.ring._region cimport fork_count
from memif.ring._ring cimport Ring
from memif.ring._rows cimport gather_rows, scatter_rows
from memif.ring._views cimport Pool, Store, new_matrix, words

cdef extern from "Python.h":
    Py_ssize_t PyNumber_AsSsize_t(object value, void *overflow) except? -1
    Py_ssize_t Py_REFCNT(PyObject *object)
    Py_ssize_t view_length "PyObject_Size"(object view)     # the caller looks at the error

cdef enum:
    ALONE = 2                       # references: the user's list, and the one that looks
    IDLE = 2                        # the ring, and the one that looks

cdef str NEVER_FILLED = "this buffer was never filled"
cdef tuple CODES = (ErrorCode.SUCCESS, ErrorCode.DISCONNECTED, ErrorCode.NOCONN, ErrorCode.AGAIN)


cdef object why_shut(int why):
    """Return the code for a result of `Raw.shut`."""
    return CODES[why]


cdef int64_t bits_of(str name, value, int64_t most) except -1:
    """Return an integer for an unsigned field with the maximum `most`. As in C, a negative value stands for its two's
    complement."""
    cdef int64_t n = PyNumber_AsSsize_t(value, NULL)         # clips to a machine word
    if not -(most // 2) - 1 <= n <= most:
        raise MemifValueError.argument(name, value, f"0 to {most}")
    return n & most


@cython.final
@cython.no_gc               # has no reference cycles, and its deallocation reveals a lost allocation
cdef class memif_buffer_t:
    """One buffer of a ring. Create as many as you handle at once, and reuse them.

    ``bytes(buffer)`` and ``memoryview(buffer)`` give the `len` bytes. Views keep the memory mapped, even
    after the connection has ended or the buffer was filled again. Once the peer owns the slot, they show what the peer
    writes there. One thread at a time may use a buffer.

    Attributes:
        desc_index: The slot's number in its ring, a 16-bit counter that is not masked.
    """

    def __cinit__(self):
        self.size = &self.own_size

    def __dealloc__(self):
        if self.raw is not None:
            self.raw.let_go(self.seq, self.stamp)

    @property
    def len(self) -> int:
        """Bytes of data.

        Set by `memif_rx_burst` and `memif_buffer_alloc`; set it yourself to what you wrote, up to `room`, before
        `memif_tx_burst`. As in C any 32 bits can be stored; they are checked when the buffer is sent.
        """
        return memif_load32(self.size)

    @len.setter
    def len(self, value) -> None:
        memif_store32(self.size, <uint32_t>bits_of("len", value, 0xFFFFFFFF))

    @property
    def flags(self) -> int:
        """MEMIF_BUFFER_FLAG_NEXT (1): the packet continues in the next buffer; MEMIF_BUFFER_FLAG_RX (2): received."""
        return self.bits

    @flags.setter
    def flags(self, value) -> None:
        self.bits = <uint16_t>bits_of("flags", value, 0xFFFF)

    @property
    def data(self):
        """The data in shared memory, writable: `len` bytes when received, the whole room when allocated.

        None in a buffer that was never filled.
        """
        if self.raw is None:
            return None
        cdef uint64_t low = self.offset
        cdef uint32_t shown = self.filled() if self.received else self.room
        cdef Raw raw = self.raw
        cdef uint32_t slot = <uint32_t>self.seq & raw.any_ring.wrap
        cdef Place *place = raw.places + slot
        view = raw.views[slot]
        if (view is not None and place.offset == self.offset and place.size == shown and place.region == self.region
                and Py_REFCNT(<PyObject *>view) == IDLE):
            if view_length(view) >= 0:
                return view
            PyErr_Clear()                   # its last user has released it
        view = raw.any_ring.views[self.region][low:low + shown]
        place.offset = self.offset
        place.size = shown
        place.region = self.region
        raw.views[slot] = view
        return view

    cdef uint32_t filled(self) noexcept:
        """Bytes of data. `len` is read once: it can be a column, to which other threads write."""
        return min(memif_load32(self.size), self.room)

    @property
    def queue(self):
        """An object that identifies the ring, the same for all its buffers; None in a buffer that was never filled."""
        return self.raw

    @property
    def ring(self):
        """The same as `queue`."""
        return self.raw

    @property
    def room(self) -> int:
        """The most that `len` may be: bytes from the start of the data to the end of the buffer.

        A master does not know the size of the buffers that it receives: there it is the length of the data.
        """
        return self.room

    @property
    def headroom(self) -> int:
        """Bytes in front of the data that `prepend` can take. A master has none."""
        return self.offset - self.low

    def prepend(self, count) -> None:
        """Let the data start earlier, in the headroom, and grow `len` by as much: ``data -= count; len += count`` in C.

        Args:
            count: Bytes; negative to let the data start later.

        Raises:
            MemifValueError: The headroom, or `len`, is smaller.
        """
        cdef int64_t n = PyNumber_AsSsize_t(count, NULL)
        cdef uint32_t size = memif_load32(self.size)
        cdef int64_t least = -<int64_t>min(size, self.room), most = <int64_t>self.offset - self.low
        if not least <= n <= most:
            raise MemifValueError.argument("count", count, f"{least} to {most}")
        self.offset = <uint32_t>(self.offset - n)
        self.room = <uint32_t>(self.room + n)
        memif_store32(self.size, <uint32_t>(size + n))

    def copy_from(self, data) -> None:
        """Write bytes at the start of the data and set `len` to their number.

        Args:
            data: Any object with the buffer protocol, of up to `room` bytes.

        Raises:
            MemifValueError: There is less room.
            MemifTypeError: `data` is not a buffer of bytes.
            BufferError: This buffer was never filled.
        """
        write(self, data, "data", -1)

    def __getbuffer__(self, Py_buffer *view, int flags):
        if self.raw is None:
            raise BufferError(NEVER_FILLED)
        self.exported = True
        # The region exports the view: it owns the mapping, and stays when this buffer is filled again.
        PyBuffer_FillInfo(view, self.raw.any_ring.regions[self.region],
                          self.raw.any_ring.spans[self.region].base + self.offset, self.filled(), False,
                          flags)

    def __releasebuffer__(self, Py_buffer *view):
        # Never called, because the region is the exporter. But numpy.frombuffer keeps the view only of types with this
        # method.
        pass

    def __repr__(self) -> str:
        if self.raw is None:
            return "<memif_buffer_t, empty>"
        return f"<memif_buffer_t {self.desc_index}, {self.len} bytes, flags {self.bits}>"

    def __reduce__(self):
        raise TypeError("a memif_buffer_t is memory shared with a peer and cannot be pickled or copied")


cdef int write(memif_buffer_t b, data, str name, Py_ssize_t i) except -1:
    """Copy the argument `name`, or its item `i`, into a buffer."""
    cdef Py_buffer source
    take_buffer(name, data, &source, PyBUF_SIMPLE, i)
    try:
        if b.raw is None:
            raise BufferError(NEVER_FILLED)
        if source.len > b.room:
            raise MemifValueError.argument(name if i < 0 else f"{name}[{i}]", f"{source.len} bytes", f"up to {b.room}")
        # Not memcpy: the source can be this very memory.
        memmove(b.raw.any_ring.spans[b.region].base + b.offset, source.buf, source.len)
        memif_store32(b.size, <uint32_t>source.len)
    finally:
        PyBuffer_Release(&source)
    return 0


@cython.final
@cython.no_gc               # refers to buffers
cdef class memif_buffers:
    """An array of buffers: ``memif_buffers(256)`` where C declares ``memif_buffer_t bufs[256]``.

    Accepted wherever a list of `memif_buffer_t` is. ``bufs[i]`` is one of them, always the same; ``bufs[n:]``, where C
    writes ``bufs + n``, is an array of the same buffers (with a step it is a list). Besides, it does for all buffers in
    one call what a loop does one by one. Each buffer counts for itself, also one of a chain. One thread at a time.

    Args:
        count: Number of buffers, 0 to 65535.

    Raises:
        MemifValueError: `count` is outside its range.
        MemifTypeError: `count` is not an integer.
    """

    def __cinit__(self, count):
        cdef uint32_t i, n = <uint32_t>number("count", count, 0, 0xFFFF)
        cdef memif_buffer_t b
        self.pool = Pool.__new__(Pool)
        self.store = Store(max(n, 1))
        self.items = []
        for i in range(n):
            b = memif_buffer_t.__new__(memif_buffer_t)
            b.home = self.store
            b.size = self.store.c.length + i
            self.items.append(b)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, key):
        cdef Py_ssize_t i, n = len(self.items)
        cdef memif_buffers part
        if not isinstance(key, slice):
            i = PyNumber_AsSsize_t(key, <void *>IndexError)
            if i < 0:
                i += n
            if not 0 <= i < n:
                raise IndexError(f"buffer {key} of {n}")
            return self.items[i]
        start, _, step = key.indices(n)
        if step != 1:
            return self.items[key]
        part = memif_buffers.__new__(memif_buffers, 0)
        part.items = self.items[key]
        part.store = self.store
        part.first = self.first + <uint32_t>start
        return part

    def __iter__(self):
        """Iterate over the buffers."""
        return iter(tuple(self.items))

    @property
    def lengths(self):
        """`len` of each buffer: numpy uint32, shape (len(bufs),), no copy.

        Writable: set it to what you wrote, before `memif_tx_burst`.
        """
        if not self.items:
            return load_numpy().empty(0, load_numpy().uint32)
        return words(self.store, self.store.c.length + self.first, <uint32_t>len(self.items), True)

    cdef uint32_t some(self, count) except? 0xFFFFFFFF:
        """The argument `count`: how many of the buffers."""
        return <uint32_t>(len(self.items) if count is None else number("count", count, 0, len(self.items)))

    cdef int place(self, uint32_t count) except -1:
        """Note in the columns where the data of the first buffers lie. No Python code runs from here to their use."""
        cdef Columns *c = &self.store.c
        cdef uint32_t i
        cdef memif_buffer_t b
        for i in range(count):
            b = <memif_buffer_t>self.items[i]
            if b.raw is None:
                raise BufferError(NEVER_FILLED)
            c.offset[self.first + i] = b.offset
            c.room[self.first + i] = b.room
            c.region[self.first + i] = b.region
        return 0

    cdef uint32_t same_ring(self, uint32_t start, uint32_t count) noexcept:
        """The end of the buffers from `start` on that stand for slots of one ring."""
        cdef uint32_t i = start + 1
        cdef Raw raw = (<memif_buffer_t>self.items[start]).raw
        while i < count and (<memif_buffer_t>self.items[i]).raw is raw:
            i += 1
        return i

    cdef Columns part(self, uint32_t start, uint32_t end) noexcept:
        """The columns of the buffers from `start` to `end`."""
        cdef Columns c = self.store.c
        c.packets = c.descriptors = end - start
        c.length += self.first + start
        c.piece = c.length
        c.offset += self.first + start
        c.room += self.first + start
        c.region += self.first + start
        return c

    def gather(self, width, count=None, out=None):
        """Copy the first bytes of the buffers into a matrix.

        Args:
            width: Bytes of each buffer, 1 to 65536.
            count: How many buffers, from the first on. Default: all.
            out: Array to fill: uint8, shape (count, width), or with more rows; the bytes of a row are contiguous.
                Default: a new one, or one that an earlier call returned and that nobody has any more.

        Returns:
            The filled part: numpy uint8, shape (count, width). Behind the end of shorter data there are zeros.

        Raises:
            MemifValueError: An argument is outside its range, or the shape of `out` is wrong.
            MemifTypeError: An argument is of the wrong kind.
            BufferError: One of the buffers was never filled.
        """
        cdef Py_ssize_t columns = number("width", width, 1, MAX_PACKET), rows
        cdef uint32_t n = self.some(count), start = 0, end
        cdef Columns c
        cdef Py_buffer target
        if out is None:
            if n == 0:
                return load_numpy().empty((0, columns), load_numpy().uint8)
            out = new_matrix(self.pool, n, columns, &target)
        else:
            take_buffer("out", out, &target, PyBUF_STRIDES | PyBUF_WRITABLE)
        try:
            check_matrix("out", &target, n, columns)
            rows = target.shape[0]
            if target.shape[1] != columns or n > 1 and target.strides[0] < columns:
                raise MemifValueError.argument("out", f"rows of {target.shape[1]} bytes, {target.strides[0]} apart",
                                               f"rows of {columns}, that far apart or more")
            self.place(n)
            while start < n:
                end = self.same_ring(start, n)
                c = self.part(start, end)
                gather_rows((<memif_buffer_t>self.items[start]).raw.any_ring, &c,
                            <uint8_t *>target.buf + start * target.strides[0], target.strides[0], <uint32_t>columns)
                start = end
        finally:
            PyBuffer_Release(&target)
        return out if rows == n else out[:n]

    def scatter(self, array, count=None) -> None:
        """Write the rows of a matrix into the buffers, the reverse of `gather`.

        Args:
            array: uint8, shape (count, width), or with more rows. Of each row as many bytes are written as the buffer's
                `len` says, up to width and to the buffer's room.
            count: How many buffers, from the first on. Default: all.

        Raises:
            MemifValueError: The shape is wrong, or `count` outside its range.
            MemifTypeError: An argument is of the wrong kind.
            BufferError: One of the buffers was never filled.
        """
        cdef uint32_t n = self.some(count), start = 0, end
        cdef Columns c
        cdef Py_buffer source
        take_buffer("array", array, &source, PyBUF_STRIDES)
        try:
            check_matrix("array", &source, n, 1 if n else 0)
            self.place(n)
            while start < n:
                end = self.same_ring(start, n)
                c = self.part(start, end)
                scatter_rows((<memif_buffer_t>self.items[start]).raw.any_ring, &c,
                             <uint8_t *>source.buf + start * source.strides[0], source.strides[0],
                             <uint32_t>min(source.shape[1], MAX_PACKET), False)
                start = end
        finally:
            PyBuffer_Release(&source)

    def copy_from(self, packets) -> int:
        """Write one packet into each buffer, from the first on, and set its `len`.

        Args:
            packets: List or tuple of objects with the buffer protocol. Those for which there is no buffer are left.

        Returns:
            How many were written.

        Raises:
            MemifValueError: A packet is larger than its buffer's room; those before it are written.
            MemifTypeError: An argument is of the wrong kind.
            BufferError: One of the buffers was never filled.
        """
        cdef Py_ssize_t i = 0
        if not isinstance(packets, (list, tuple)):
            raise MemifTypeError.argument("packets", packets, "a list or tuple of buffers of bytes")
        for packet in packets:
            if i >= len(self.items):
                break
            write(<memif_buffer_t>self.items[i], packet, "packets", i)
            i += 1
        return i

    def tobytes(self, count=None) -> list:
        """The data of the first `count` buffers (default: of all), copied: a list of bytes."""
        cdef uint32_t i
        cdef memif_buffer_t b
        cdef list packets = []
        for i in range(self.some(count)):
            b = <memif_buffer_t>self.items[i]
            if b.raw is None:
                raise BufferError(NEVER_FILLED)
            packets.append(PyBytes_FromStringAndSize(
                <char *>b.raw.any_ring.spans[b.region].base + b.offset, b.filled()))
        return packets

    def __repr__(self) -> str:
        return f"<memif_buffers, {len(self.items)}>"

    def __reduce__(self):
        raise TypeError("a memif_buffers is memory shared with peers and cannot be pickled or copied")


@cython.no_gc               # refers to rings and stores, which refer to no user's object
cdef class Raw:
    """What receiving and transmitting rings share.

    Args:
        ring: The ring of one connection. It must not be used through a queue as well.
    """

    def __cinit__(self, Ring ring not None):
        ring.check_complete()
        self.any_ring = ring
        self.stamps = <uint32_t *>calloc(ring.size, sizeof(uint32_t))
        self.places = <Place *>calloc(ring.size, sizeof(Place))
        if self.stamps == NULL or self.places == NULL:
            raise MemoryError()
        self.views = [None] * ring.size

    def __dealloc__(self):
        free(self.stamps)
        free(self.places)

    cdef int shut(self) noexcept:
        """Lock the ring and return OPEN, or return why it cannot be locked."""
        cdef Ring ring = self.any_ring
        if memif_flag_get(&ring.dead):
            return DEAD
        if ring.born != fork_count():
            return FORKED
        return OPEN if memif_try_lock(&ring.lock) else BUSY

    cdef void let_go(self, int64_t seq, uint32_t stamp) noexcept:
        """Note that the buffer of slot `seq` was filled again or deallocated."""

    @property
    def ring(self):
        """The ring below."""
        return self.any_ring

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.any_ring.size} slots>"

    def __reduce__(self):
        raise TypeError("a ring belongs to a connection of this process and cannot be pickled or copied")


cdef list items_of(bufs):
    """The buffers of a list or of an array. None for anything else."""
    if isinstance(bufs, memif_buffers):
        return (<memif_buffers>bufs).items
    return <list>bufs if isinstance(bufs, list) else None


cdef Fill enough(Raw raw, list bufs, Py_ssize_t count, list kept) except INVALID_FILL:
    """Check that `bufs` has at least `count` buffers, and that C's uint16_t can hold the count.

    ELSEWHERE means that some of them belong to slots of other rings. Such a buffer can hold the last reference to a
    whole connection, whose end runs user code. A caller that fills the buffers therefore calls again with a list for
    `kept`, which gets the other rings, and keeps it until it returns. Runs no Python code itself.
    """
    cdef Fill verdict = HERE
    cdef Py_ssize_t i
    cdef memif_buffer_t b
    if bufs is None or not 0 <= count <= 0xFFFF or len(bufs) < count:
        return UNFIT
    for i in range(count):
        if not isinstance(bufs[i], memif_buffer_t):
            return UNFIT
        b = <memif_buffer_t>bufs[i]
        if b.raw is not raw and b.raw is not None:
            verdict = ELSEWHERE
            if kept is not None:
                kept.append(b.raw)
                keep_for(b, kept)
    return verdict


cdef int keep_for(memif_buffer_t b, list kept) except -1:
    """Before `b` is filled from another link, keep the memory that an array may still refer to.

    numpy.ndarray(buffer=b) releases the view and keeps `b` instead. If only the list and our caller refer to `b`, there
    is no such array.
    """
    if Py_REFCNT(<PyObject *>b) <= ALONE:
        if b.former is not None:
            kept.append(b.former)
            b.former = None
    elif b.exported:
        if b.former is None:
            b.former = []
        b.former.append(b.raw.any_ring.regions)
    b.exported = False
    return 0
