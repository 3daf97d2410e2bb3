# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: auto_pickle=False, autotestdict=False
"""The rings as libmemif shows them: single buffers, given back and sent by the user's own count.

`RxQueue` and `TxQueue` lend whole bursts and take them back by themselves. The C library hands out buffers one by
one: the user says how many to give back (refill), may hold several allocations at once, sends any part of them in
order, and may put received buffers into the transmit ring. `RawRx` and `RawTx` (in modules of their own) keep the
account of that for one ring of one connection; moving the data is left to the rings' own loops (`RxRing.take`,
`TxRing.reserve`, `commit`, `swap`). Here is what they share, and the buffer.

Safety: a `memif_buffer_t` remembers where its data lie in fields that only these modules write, all checked when the
ring gave the buffer out. Slots are numbered by 64 bit counters that never come round, and each slot carries a stamp
that changes with every new owner, so a buffer that was sent, refilled, exchanged or belongs to another connection
is recognised. What users do write (`len`, `flags`) is read once, with the interpreter lock held, and checked when it
is used. Views are exported by the region, so a buffer that is filled anew takes no memory from under them.

Python code (finalizers, a collection) could run where the last reference to something is dropped or an object is made.
So the rings that buffers stood for before are kept until a call is over, see `enough`.

Everything here keeps the interpreter lock: a burst of 256 takes a few microseconds. One thread at a time may use a
ring; a second one is told AGAIN.
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
    """The code for what `Raw.shut` said."""
    return CODES[why]


cdef int64_t bits_of(str name, value, int64_t most) except -1:
    """An integer for an unsigned field of the struct that holds up to `most`. A negative one is, as in C, the same bits
    as a signed one."""
    cdef int64_t n = PyNumber_AsSsize_t(value, NULL)         # clips what no machine word can hold
    if not -(most // 2) - 1 <= n <= most:
        raise MemifValueError.argument(name, value, f"0 to {most}")
    return n & most


@cython.final
@cython.no_gc               # refers to nothing that could refer back; and a lost allocation is seen by its end
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
        # The region exports it: it owns the mapping, and outlives whatever this buffer is filled with next.
        PyBuffer_FillInfo(view, self.raw.any_ring.regions[self.region],
                          self.raw.any_ring.spans[self.region].base + self.offset, min(self.size, self.room), False,
                          flags)

    def __releasebuffer__(self, Py_buffer *view):
        # Never called, as the region is the exporter. But numpy.frombuffer holds on to the view only of a type that has
        # this.
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
        """Lock the ring: OPEN when that is done, else why not."""
        cdef Ring ring = self.any_ring
        if memif_flag_get(&ring.dead):
            return DEAD
        if ring.born != fork_count():
            return FORKED
        return OPEN if memif_try_lock(&ring.lock) else BUSY

    cdef void let_go(self, int64_t seq, uint32_t stamp) noexcept:
        """A buffer that stood for slot `seq` stands for something else now, or is no more."""

    @property
    def ring(self):
        """The ring below."""
        return self.any_ring

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.any_ring.size} slots>"

    def __reduce__(self):
        raise TypeError("a ring belongs to a connection of this process and cannot be pickled or copied")


cdef Fill enough(Raw raw, bufs, Py_ssize_t count, list kept) except INVALID_FILL:
    """Whether `bufs` is a list of at least `count` buffers, and the count one that C's uint16_t can hold.

    ELSEWHERE: it is, but some of them stand for slots of other rings. An entry can be the last reference to a whole
    connection, whose end runs the user's code. So who fills them asks again with a list for `kept`, which gets the
    other rings, and keeps that until the call is over. Runs no Python code itself.
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
    """Before `b` is filled from another link: keep the memory that an array may still look at.

    numpy.ndarray(buffer=b) lets go of the view and holds on to `b` itself. Where nobody has `b` but the list it is in
    and our caller, there is no such array.
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
