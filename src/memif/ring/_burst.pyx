# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: binding=False, embedsignature=True, embedsignature.format=clinic
# cython: auto_pickle=False, autotestdict=False
"""Burst: a borrowed run of packets in shared memory, as columns.

The native loops fill arrays (offset, length, region, flags, one element a descriptor); Python objects for
single packets are made only when somebody asks for one. The array of lengths is the user's to write: what is
in it is checked by each call, and clamped by the loops, which run without the interpreter lock while another
thread may write again.

Wherever Python code can run in the middle of a call (an import, an object that the garbage collector knows, the
buffer of an argument), a finalizer or another thread can release the burst. No pointer is kept over such a
point: what is needed is held by a reference of the call's own, and `check` asks again.
"""
cimport cython
from cpython.buffer cimport PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release
from cpython.object cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from memif.errors import MemifStateError, MemifValueError

from memif.ring._arguments cimport Numpy, check_matrix, chosen_of, load_numpy, number, take_buffer
from memif.ring._atomics cimport memif_flag_get, memif_flag_set
from memif.ring._columns cimport MAX_PACKET, first_of, piece_of
from memif.ring._region cimport fork_count
from memif.ring._rows cimport (fit, fit_all, gather_all, grow, join, scatter_all, send_some, wash, wash_packets,
                               wash_rooms)
from memif.ring._txring cimport FREE, RETURNED
from memif.ring._views cimport Pool, end_loan, halves, new_lease, new_matrix, put_store, window, words

cdef extern from "Python.h":
    Py_ssize_t Py_REFCNT(PyObject *object)
    Py_ssize_t PyNumber_AsSsize_t(object value, object overflow) except? -1

cdef enum Which:                # columns, see Burst.column
    LENGTHS
    OFFSETS
    PIECES
    REGIONS
    FLAGS

cdef bint debug = False


def set_debug(bint on) -> None:
    """For `memif.debug.enable`: bursts made from now on count the views of their packets."""
    global debug
    debug = on


cdef Burst new_burst(Pool pool):
    """An empty burst: one that was released and that nobody has any more, or a new one."""
    cdef Burst burst
    if pool.idle is not None and not debug and Py_REFCNT(<PyObject *>pool.idle) == 1:
        burst = <Burst>pool.idle
        pool.idle = pool.idle_too
        pool.idle_too = None
        return burst
    burst = Burst.__new__(Burst)
    burst.counted = debug
    return burst


cdef void lend(Burst burst, RxRing ring, Store store, uint32_t run, Pool pool) noexcept:
    """Fill a new burst with packets received."""
    burst.ring = ring
    burst.rx = ring
    burst.store = store
    burst.c = &store.c
    burst.run = run
    burst.pool = pool


cdef Burst allocated(TxRing ring, Store store, bint sized, Pool pool):
    cdef Burst burst = new_burst(pool)
    burst.ring = ring
    burst.tx = ring
    burst.sized = sized
    burst.store = store
    burst.c = &store.c
    burst.pool = pool
    return burst


@cython.final
cdef class _Packets:
    """Iterator over the packets of a burst. Made by it."""
    cdef Burst burst
    cdef uint32_t at

    def __iter__(self):
        return self

    def __next__(self):
        cdef Burst burst = self.burst
        if burst is None:
            raise StopIteration
        burst.check()
        if burst.c == NULL or self.at >= burst.c.packets:
            raise StopIteration
        self.at += 1
        return burst.packet(self.at - 1)

    def __reduce__(self):
        raise TypeError("an iterator over a Burst cannot be pickled or copied")


@cython.final
@cython.no_gc_clear         # __dealloc__ needs the ring
cdef class Burst:
    """Packets in shared memory, borrowed until `release` (received) or `send` (allocated).

    A sequence: ``len(burst)`` packets, of which a chained one counts once; ``burst[i]`` and iteration give writable
    memoryviews of the packet in place, or a contiguous read-only copy where the packet is chained. A context manager:
    leaving the block releases a received burst and sends an allocated one; an exception cancels it instead.

    A view, or a numpy array over one, shows its packet until the burst is released by `release`, `send` or the end of a
    ``with`` block; after that it shows what the peer puts there. A burst that is only forgotten lives as long as any
    view of it, and keeps its slots of the ring that long.

    One thread at a time may use a burst; it need not be the thread that received it. Made by `RxQueue.recv` and
    `TxQueue.alloc` only.

    Raises:
        MemifStateError: Anything is done with a burst that was released.
    """

    def __init__(self):
        raise TypeError("a Burst comes from RxQueue.recv() or TxQueue.alloc()")

    def __dealloc__(self):
        if self.c == NULL:
            return
        self.c = NULL
        if self.lease is None:
            end_loan(self.ring, self.tx, self.run)
        else:
            self.lease.run = self.run
            self.lease.owner = True
        put_store(self.pool, self.store)

    cdef int check(self) except -1:
        if self.c == NULL:
            if self is not EMPTY:
                raise MemifStateError("this burst was released: its packets belong to the peer again")
            return 0
        if self.ring.born != fork_count():
            raise MemifStateError("this burst belongs to the parent process: a forked child cannot use it")
        return 0

    cdef int check_lengths(self, uint32_t count=0xFFFFFFFF) except -1:
        """Check the lengths of the first `count` packets (default all)."""
        if not self.c.shown and (self.tx is None or self.sized):
            return 0                                # nobody can have changed one
        return fit_all(self.c, min(count, self.c.packets), self.tx is not None and not self.sized)

    cdef int check_lent(self) except -1:
        """Debug mode: a view that is still in use would show other packets after the release."""
        if self.lease is not None and self.lease.views:
            raise MemifStateError(f"{self.lease.views} views of this burst's packets are still in use "
                                  "(memif.debug)")
        return 0

    cdef object whole(self, uint32_t region):
        """A memoryview of a region that holds the burst's lease."""
        cdef Lease lease
        if self.shown is not None and self.shown_region == region:
            return self.shown
        if self.lease is None:
            self.lease = new_lease(self.ring, region, None)
        lease = self.lease
        if lease.region != region:
            lease = new_lease(self.ring, region, lease)
        view = memoryview(lease)
        self.check()                                # a finalizer can have released it
        self.shown = view
        self.shown_region = region
        return view

    cdef object view(self, uint32_t region, uint64_t start, uint64_t size):
        view = self.whole(region)[start:start + size]
        if self.counted:
            self.check()
            view = window(self.lease, view)
        return view

    cdef int close(self) except -1:
        """Give the slots back (received) or up (allocated), and the store to the pool."""
        if self.busy:
            raise MemifStateError("another thread is using this burst: it cannot be released now")
        self.c = NULL
        end_loan(self.ring, self.tx, self.run)
        put_store(self.pool, self.store)
        self.ring = self.rx = self.tx = None
        self.store = None
        self.lease = None
        self.shown = None
        return 0

    cdef int give_up(self) except -1:
        """`close`, for the user's calls. The queue keeps the object, to use it again once nobody else refers to it."""
        cdef Pool pool = self.pool
        self.close()
        self.pool = None
        if not self.counted:
            if pool.idle is None:
                pool.idle = self
            elif pool.idle_too is None:
                pool.idle_too = self
        return 0

    # -- life

    @cython.always_allow_keywords(False)        # without arguments: the cheapest call there is
    def release(self) -> None:
        """Hand the buffers back to the peer; cancel an allocated burst. A second call does nothing.

        Bursts of one queue may be released in any order; the peer gets its slots back in the order of the ring.
        """
        if self.c != NULL:
            self.check_lent()
            self.give_up()

    def send(self, count=None) -> int:
        """Send the first packets of an allocated burst and give the rest up. A packet's length is its element of
        `lengths`.

        Args:
            count: Packets to send; default all.

        Returns:
            Packets sent; 0 when the link is down.

        Raises:
            MemifValueError: A length does not fit the packet's buffers, or `count` is more than there are.
            MemifStateError: The burst was received, not allocated, or is sent already.
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
        cdef uint32_t d
        if c == NULL or i >= c.packets:             # what numbered the packets can have released it
            self.check()
            raise IndexError(f"packet {i}")
        d = first_of(c, i)
        if first_of(c, i + 1) - d > 1:
            fit(c, i, self.tx is not None and not self.sized)
            return memoryview(join(self.ring, c, i))
        if self.tx is None or self.sized or c.length[i]:
            fit(c, i, self.tx is not None and not self.sized)
        return self.piece(d)

    cdef object piece(self, uint32_t d):
        """A view of a descriptor's data; of all its room while an allocated packet has no length yet."""
        cdef Columns *c = self.c
        cdef uint32_t n = piece_of(c, d)
        if self.tx is not None:
            if n == 0 and not self.sized:
                n = c.room[d]
            wash(self.ring, c, d, n)
        return self.view(c.region[d], c.offset[d], n)

    def __getitem__(self, key):
        cdef list views
        if not isinstance(key, slice):
            return self.packet(self.index(key))
        views = []          # loops, not comprehensions: those of Cython drop a reference twice when memory runs out
        for i in range(*key.indices(len(self))):
            views.append(self.packet(i))
        return views

    def __iter__(self):
        self.check()
        cdef _Packets packets = _Packets.__new__(_Packets)
        packets.burst = self
        return packets

    def fragments(self, i) -> list:
        """The pieces of one packet, in place.

        Args:
            i: Number of the packet; negative from the end.

        Returns:
            Writable memoryviews, one a descriptor: a single one when the packet is not chained.

        Raises:
            IndexError: There is no such packet.
            MemifStateError: The burst was released.
        """
        cdef uint32_t p = self.index(i), d, end
        cdef list views = []
        self.check()
        if first_of(self.c, p + 1) - first_of(self.c, p) > 1:
            fit(self.c, p, self.tx is not None and not self.sized)
        else:
            views.append(self.packet(p))
            return views
        d, end = first_of(self.c, p), first_of(self.c, p + 1)
        while d < end:
            views.append(self.piece(d))
            self.check()
            d += 1
        return views

    def tobytes(self) -> list:
        """All packets as a list of bytes, copied."""
        cdef list packets = []
        cdef uint32_t i = 0
        self.check()
        if self.c == NULL:
            return packets
        self.check_lengths()
        if self.tx is not None:
            wash_packets(self.tx, self.c)
        while self.c != NULL and i < self.c.packets:
            packets.append(join(self.ring, self.c, i))
            i += 1
        return packets

    def select(self, chosen) -> list:
        """The chosen packets, each as `burst[i]` gives it.

        Args:
            chosen: A `memif.packet.Filter`, or booleans, shape (len(burst),).

        Raises:
            MemifValueError: The shape is wrong.
            MemifTypeError: `chosen` is of another kind.
            MemifStateError: The burst was released.
        """
        cdef list views = []
        for i in chosen_of(chosen, self, <uint32_t>len(self)):
            views.append(self.packet(self.index(i)))
        return views

    # -- columns

    @property
    def lengths(self):
        """Bytes of each packet: numpy uint32, shape (len(burst),), no copy.

        Writable. In an allocated burst this sets what will be sent: it starts with the size given to `TxQueue.alloc`,
        and without one with zeros, which cannot be sent. In a received burst it may shorten a packet before
        `TxQueue.forward`. The array stays readable after the release.
        """
        return self.column(LENGTHS)

    @property
    def offsets(self):
        """Where each descriptor's data starts in its region: numpy uint32, one a descriptor, read-only, no copy."""
        return self.column(OFFSETS)

    @property
    def pieces(self):
        """Bytes of each descriptor: numpy uint32, one a descriptor, read-only, no copy.

        The same as `lengths` while no packet of the burst is chained.
        """
        return self.column(PIECES)

    @property
    def regions(self):
        """Region index of each descriptor: numpy uint16, one a descriptor, read-only, no copy."""
        return self.column(REGIONS)

    @property
    def flags(self):
        """Flags of each descriptor: numpy uint16, one a descriptor, read-only, no copy.

        1 means that the packet goes on in the next descriptor.
        """
        return self.column(FLAGS)

    cdef object column(self, int which):
        cdef Store store = self.store
        cdef Columns *c = self.c
        self.check()
        if c == NULL:
            return load_numpy().empty(0, load_numpy().uint32 if which < REGIONS else load_numpy().uint16)
        if which == LENGTHS:
            c.shown = True
            array = words(store, c.length, c.packets, True)
        elif which == OFFSETS:
            if self.tx is not None:
                wash_rooms(self.tx, c)              # who knows where the buffers are can write anywhere in them
            array = words(store, c.offset, c.descriptors, False)
        elif which == PIECES:
            array = words(store, c.piece, c.descriptors, False)
        else:
            array = halves(store, c.region if which == REGIONS else c.flags, c.descriptors)
        self.check()                                # a finalizer can have released it meanwhile
        return array

    @property
    def chained(self) -> bool:
        """Whether a packet of this burst has more than one descriptor."""
        self.check()
        return self.c != NULL and self.c.chained

    @property
    def memory(self) -> tuple:
        """The connection's regions as numpy uint8 arrays, by region index, writable, no copy.

        For compiled handlers: packet i without a chain is ``memory[regions[i]][offsets[i]:offsets[i] + lengths[i]]``.
        Writing anywhere else damages the rings of this connection.
        """
        cdef Ring ring = self.ring
        cdef Numpy numpy
        cdef list arrays
        cdef uint32_t i
        self.check()
        if ring is None:
            return ()
        numpy, arrays = load_numpy(), []
        self.check()
        if self.tx is not None:
            wash_rooms(ring, self.c)
        for i in range(ring.span_count):
            arrays.append(numpy.array((ring.spans[i].size,), numpy.uint8, self.whole(i)))
            self.check()
        return tuple(arrays)

    def gather(self, width, out=None):
        """Copy the first bytes of each packet into a matrix.

        Args:
            width: Bytes of each packet, 1 to 65536.
            out: Array to fill: uint8, shape (len(burst), width), or with more rows; the bytes of a row are contiguous.
                Default: a new one, or one that an earlier call returned and that nobody has any more.

        Returns:
            The filled part: numpy uint8, shape (len(burst), width). Behind the end of a shorter packet there are zeros.

        Raises:
            MemifValueError: `width` is outside its range, or the shape of `out` is wrong.
            MemifTypeError: An argument is of the wrong kind.
            MemifStateError: The burst was released.
        """
        cdef Py_ssize_t columns = number("width", width, 1, MAX_PACKET)
        self.check()
        cdef Py_ssize_t rows, n = self.c.packets if self.c != NULL else 0
        cdef Py_buffer target
        if out is None:
            if n == 0:
                return load_numpy().empty((0, columns), load_numpy().uint8)
            out = new_matrix(self.pool, n, columns, &target)
        else:
            take_buffer("out", out, &target, PyBUF_STRIDES | PyBUF_WRITABLE)
        self.busy += 1
        try:
            self.check()                            # what ran meanwhile can have released it
            check_matrix("out", &target, n, columns)
            rows = target.shape[0]
            if target.shape[1] != columns or n > 1 and target.strides[0] < columns:
                raise MemifValueError.argument("out", f"rows of {target.shape[1]} bytes, {target.strides[0]} apart",
                                               f"rows of {columns}, that far apart or more")
            if n:
                self.read_rows(&target)
        finally:
            self.busy -= 1
            PyBuffer_Release(&target)
        return out if rows == n else out[:n]

    cdef int read_rows(self, Py_buffer *target) except -1:
        self.check_lengths()
        if self.tx is not None:
            wash_packets(self.ring, self.c)
        gather_all(self.ring, self.c, target)
        return 0

    def scatter(self, array) -> None:
        """Write the rows of a matrix into the packets, the reverse of `gather`.

        Args:
            array: uint8, shape (len(burst), width). Of each row as many bytes are written as the packet has, up to
                width.

        Raises:
            MemifValueError: The shape is wrong.
            MemifTypeError: `array` is not a buffer of bytes.
            MemifStateError: The burst was released.
        """
        self.check()
        cdef Py_ssize_t n = self.c.packets if self.c != NULL else 0
        cdef Py_buffer source
        take_buffer("array", array, &source, PyBUF_STRIDES)
        self.busy += 1
        try:
            self.check()
            check_matrix("array", &source, n, 1 if n else 0)
            if n:
                self.write_rows(&source, <uint32_t>min(source.shape[1], MAX_PACKET))
        finally:
            self.busy -= 1
            PyBuffer_Release(&source)

    cdef int write_rows(self, Py_buffer *source, uint32_t width) except -1:
        self.check_lengths()
        scatter_all(self.ring, self.c, source, width, self.tx is not None)
        return 0

    def prepend(self, count) -> None:
        """Grow every packet of a received burst at its front, into the headroom.

        Slave only: a master does not know what lies in front of a packet. An error changes nothing.

        Args:
            count: Bytes to grow by, 0 to the headroom that the interface was made with.

        Raises:
            MemifValueError: The headroom is too small, or a packet would exceed 65536 bytes.
            MemifStateError: The burst was not received by a slave, was released, or a packet was given away.
        """
        cdef uint32_t n = <uint32_t>number("count", count, 0, MAX_PACKET)
        self.check()
        cdef Columns *c = self.c
        if c == NULL:
            return
        if self.rx is None or not self.rx.slave:
            raise MemifStateError("prepend needs a received burst of a slave")
        self.check_lengths()
        grow(self.rx, c, n)

    def __repr__(self) -> str:
        if self.c == NULL:
            return "<Burst of 0 packets>" if self is EMPTY else "<Burst, released>"
        return f"<Burst of {self.c.packets} packets, {'received' if self.rx is not None else 'to be sent'}>"

    def __reduce__(self):
        raise TypeError("a Burst is memory shared with a peer and cannot be pickled or copied: use tobytes()")


cdef Burst EMPTY = Burst.__new__(Burst)
