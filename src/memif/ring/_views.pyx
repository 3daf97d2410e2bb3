# cython: language_level=3, auto_pickle=False, autotestdict=False
"""What arrays and views of a burst hold on to: Store and Lease.

A store is the memory behind a burst's columns. It goes back to its queue's pool when the burst is released and no numpy
array looks at it any more; otherwise it stays with those arrays, which so keep their contents.

A lease is what the views of a burst's packets hold on to. A view shows its packet until the burst is released. A burst
that nobody released must therefore live for as long as any of its views (memoryviews, numpy arrays over them), but a
view cannot hold the burst itself, which holds views. So both hold the lease: when the burst goes without a release it
leaves its slots to the lease, and they go back with the last view. A lease is made for the first view of a burst only.
"""
cimport cython
from cpython.buffer cimport (PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_FillInfo,
                             PyBuffer_Release, PyObject_GetBuffer)
from cpython.object cimport PyObject
from libc.stdint cimport uint16_t, uint32_t
from libc.stdlib cimport calloc, free

from memif.ring._arguments cimport Numpy, load_numpy
from memif.ring._columns cimport unchain
from memif.ring._ring cimport Ring
from memif.ring._txring cimport TxRing

cdef extern from "Python.h":
    Py_ssize_t Py_REFCNT(PyObject *object)

cdef enum:
    SMALLEST = 64
    KEPT_BYTES = 4 << 20    # largest array of gather() that is kept to be used again


@cython.final
@cython.no_gc               # no part of a cycle
cdef class Store:
    """The arrays behind one burst, in one block, and a count of those who look at one."""

    def __cinit__(self, uint32_t capacity):
        cdef Py_ssize_t words = 6 * <Py_ssize_t>capacity + 1, halves = 3 * <Py_ssize_t>capacity
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
        self.c.clean = word + 4 * capacity
        self.c.first = word + 5 * capacity          # one more than the others
        self.c.region = half
        self.c.flags = half + capacity
        self.c.slot = half + 2 * capacity
        unchain(&self.c)

    def __dealloc__(self):
        free(self.block)


@cython.final
@cython.no_gc
cdef class Column:
    """Exports one column. Whatever an array's `base` leads to shows this column and no other, and a read-only
    one stays so: numpy asks the exporter again when somebody sets an array writable."""

    def __getbuffer__(self, Py_buffer *view, int flags):
        if self.store is None:
            raise BufferError("a column made by hand has no memory")
        PyBuffer_FillInfo(view, self, self.data, self.size, not self.writable, flags)
        self.store.exports += 1

    def __releasebuffer__(self, Py_buffer *view):
        self.store.exports -= 1

    def __reduce__(self):
        raise TypeError("a column is memory of a burst and cannot be pickled or copied")


cdef Column column(Store store, void *data, Py_ssize_t size, bint writable):
    """`data` lies in the block of `store`, which stays where it is while the store lives."""
    cdef Column self = Column.__new__(Column)
    self.store = store
    self.data = data
    self.size = size
    self.writable = writable
    return self


# The caller owns a reference to `store`, and asks its burst again afterwards: while numpy is loaded and arrays
# are made, finalizers and other threads run, and can have released it.


cdef object words(Store store, uint32_t *data, uint32_t count, bint writable):
    """A numpy array over `count` uint32 (at least one) from `data` on. frombuffer keeps the export open for
    as long as any array derived from it lives; the ndarray constructor would not."""
    cdef Numpy numpy = load_numpy()
    return numpy.frombuffer(column(store, data, 4 * <Py_ssize_t>count, writable), numpy.uint32)


cdef object halves(Store store, uint16_t *data, uint32_t count):
    """The same for uint16, read-only."""
    cdef Numpy numpy = load_numpy()
    return numpy.frombuffer(column(store, data, 2 * <Py_ssize_t>count, False), numpy.uint16)


@cython.final
@cython.no_gc
cdef class Pool:
    """What a queue keeps to be used again: stores, bursts and arrays."""


cdef Store take_store(Pool pool, uint32_t capacity):
    """An empty store for at least `capacity` descriptors, used again where possible."""
    cdef Store store = pool.top
    if store is not None:
        pool.top = store.below
        pool.kept -= 1
        store.below = None
        if store.c.capacity >= capacity:
            unchain(&store.c)
            return store
    return Store(max(capacity, SMALLEST))


cdef object new_matrix(Pool pool, Py_ssize_t rows, Py_ssize_t width, Py_buffer *view):
    """A uint8 array to be filled, and its buffer: one that an earlier call returned and that nobody has any more, or a
    new one."""
    cdef object array = pool.rows
    if array is None or Py_REFCNT(<PyObject *>array) != 2 or not still_fits(array, 2, view, rows, width, b"B"):
        array = load_numpy().empty((rows, width), load_numpy().uint8)
        PyObject_GetBuffer(array, view, PyBUF_STRIDES | PyBUF_WRITABLE)
    if rows * width <= KEPT_BYTES:
        pool.rows = pool.rows_too           # so that the caller's variable can hold one while the next is filled
        pool.rows_too = array
    return array


cdef object new_words(Pool pool, Py_ssize_t count, Py_buffer *view):
    """The same for an array of `count` uint32."""
    cdef object array = pool.words
    if array is None or Py_REFCNT(<PyObject *>array) != 2 or not still_fits(array, 1, view, count, 0, b"I"):
        array = load_numpy().empty(count, load_numpy().uint32)
        PyObject_GetBuffer(array, view, PyBUF_STRIDES | PyBUF_WRITABLE)
    pool.words = pool.words_too
    pool.words_too = array
    return array


cdef bint still_fits(array, int dimensions, Py_buffer *view, Py_ssize_t rows, Py_ssize_t width, char kind) except -1:
    """Whether an array can be used again: its last user could have changed its shape, type and flags."""
    try:
        PyObject_GetBuffer(array, view, PyBUF_STRIDES | PyBUF_FORMAT | PyBUF_WRITABLE)
    except (BufferError, ValueError):
        return False
    if (view.ndim == dimensions and view.shape[0] == rows and view.format[0] == kind and view.format[1] == 0
            and view.strides[dimensions - 1] == view.itemsize
            and (dimensions == 1 or view.shape[1] == width and view.strides[0] == width)):
        return True
    PyBuffer_Release(view)
    return False


@cython.final
@cython.no_gc               # no part of a cycle
cdef class Lease:
    """Exports one region of the burst's connection, of which each view is a slice. Made by bursts."""

    def __dealloc__(self):
        if self.owner:
            end_loan(self.ring, <TxRing>self.ring if isinstance(self.ring, TxRing) else None, self.run)

    def __getbuffer__(self, Py_buffer *view, int flags):
        if self.ring is None:
            raise BufferError("a lease made by hand has no memory")
        PyBuffer_FillInfo(view, self, self.ring.spans[self.region].base, self.ring.spans[self.region].size, False,
                          flags)

    def __reduce__(self):
        raise TypeError("a lease is memory shared with a peer and cannot be pickled or copied")


cdef Lease new_lease(Ring ring, uint32_t region, Lease first):
    cdef Lease lease = Lease.__new__(Lease)
    lease.ring = ring
    lease.region = region
    lease.first = first
    return lease


@cython.final
@cython.no_gc
cdef class Window:
    """Debug mode: the exporter of one packet, which knows when its view is gone."""

    def __getbuffer__(self, Py_buffer *view, int flags):
        cdef Py_buffer inner
        if self.lease is None:
            raise BufferError("a window made by hand has no memory")
        PyObject_GetBuffer(self.memory, &inner, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE)
        try:
            PyBuffer_FillInfo(view, self, inner.buf, inner.len, False, flags)
            self.lease.views += 1
        finally:
            PyBuffer_Release(&inner)                # the memory stays: self.memory holds it

    def __releasebuffer__(self, Py_buffer *view):
        self.lease.views -= 1

    def __reduce__(self):
        raise TypeError("a window is memory shared with a peer and cannot be pickled or copied")


cdef object window(Lease lease, object memory):
    """`memory`, a view of one packet, as a view that is counted while it lives."""
    cdef Window self = Window.__new__(Window)
    self.lease = lease
    self.memory = memory
    return memoryview(self)
