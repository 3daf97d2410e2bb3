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
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from memif.errors import ErrorCode, MemifValueError

from memif.ring._atomics cimport memif_flag_get, memif_try_lock
from memif.ring._region cimport fork_count
from memif.ring._ring cimport Ring

cdef extern from "Python.h":
    Py_ssize_t PyNumber_AsSsize_t(object value, void *overflow) except? -1
    Py_ssize_t Py_REFCNT(PyObject *object)

cdef enum:
    ALONE = 2                       # references: the user's list, and the one that looks

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
    """One buffer of a ring. Make as many as you want to handle at once, and use them again and again.

    ``bytes(buffer)`` and ``memoryview(buffer)`` give the `len` bytes. Views keep the memory mapped, whatever happens to
    the connection or to the buffer they came from; once the slot went to the peer they show what the peer does with it.
    One thread at a time.

    Attributes:
        desc_index: The slot's number in its ring, a 16 bit counter that is not masked.
    """

    def __dealloc__(self):
        if self.raw is not None:
            self.raw.let_go(self.seq, self.stamp)

    @property
    def len(self) -> int:
        """Bytes of data.

        Set by `memif_rx_burst` and `memif_buffer_alloc`; set it yourself to what you wrote, up to `room`, before
        `memif_tx_burst`. As in C any 32 bits can be stored; they are checked when the buffer is sent.
        """
        return self.size

    @len.setter
    def len(self, value) -> None:
        self.size = <uint32_t>bits_of("len", value, 0xFFFFFFFF)

    @property
    def flags(self) -> int:
        """MEMIF_BUFFER_FLAG_NEXT (1): the packet goes on in the next buffer; MEMIF_BUFFER_FLAG_RX (2): received."""
        return self.bits

    @flags.setter
    def flags(self, value) -> None:
        self.bits = <uint16_t>bits_of("flags", value, 0xFFFF)

    @property
    def data(self):
        """The data in shared memory, writable: `len` bytes when received, the whole room when to be sent.

        None in a buffer that was never filled.
        """
        if self.raw is None:
            return None
        cdef uint64_t low = self.offset
        cdef uint64_t shown = min(self.size, self.room) if self.received else self.room
        return self.raw.any_ring.views[self.region][low:low + shown]

    @property
    def queue(self):
        """An object that stands for the ring, the same for all its buffers; None in a buffer that was never filled."""
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
        cdef int64_t least = -<int64_t>min(self.size, self.room), most = <int64_t>self.offset - self.low
        if not least <= n <= most:
            raise MemifValueError.argument("count", count, f"{least} to {most}")
        self.offset = <uint32_t>(self.offset - n)
        self.room = <uint32_t>(self.room + n)
        self.size = <uint32_t>(self.size + n)

    def __getbuffer__(self, Py_buffer *view, int flags):
        if self.raw is None:
            raise BufferError("this buffer was never filled")
        self.exported = True
        # The region exports the view: it owns the mapping, and stays when this buffer is filled again.
        PyBuffer_FillInfo(view, self.raw.any_ring.regions[self.region],
                          self.raw.any_ring.spans[self.region].base + self.offset, min(self.size, self.room), False,
                          flags)

    def __releasebuffer__(self, Py_buffer *view):
        # Never called, because the region is the exporter. But numpy.frombuffer keeps the view only of types with this
        # method.
        pass

    def __repr__(self) -> str:
        if self.raw is None:
            return "<memif_buffer_t, empty>"
        return f"<memif_buffer_t {self.desc_index}, {self.size} bytes, flags {self.bits}>"

    def __reduce__(self):
        raise TypeError("a memif_buffer_t is memory shared with a peer and cannot be pickled or copied")


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
        if self.stamps == NULL:
            raise MemoryError()

    def __dealloc__(self):
        free(self.stamps)

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


cdef Fill enough(Raw raw, bufs, Py_ssize_t count, list kept) except INVALID_FILL:
    """Check that `bufs` is a list of at least `count` buffers, and that C's uint16_t can hold the count.

    ELSEWHERE means that some of them belong to slots of other rings. Such a buffer can hold the last reference to a
    whole connection, whose end runs user code. A caller that fills the buffers therefore calls again with a list for
    `kept`, which gets the other rings, and keeps it until it returns. Runs no Python code itself.
    """
    cdef Fill verdict = HERE
    cdef Py_ssize_t i
    cdef memif_buffer_t b
    if not isinstance(bufs, list) or not 0 <= count <= 0xFFFF or len(<list>bufs) < count:
        return UNFIT
    for i in range(count):
        if not isinstance((<list>bufs)[i], memif_buffer_t):
            return UNFIT
        b = <memif_buffer_t>(<list>bufs)[i]
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
