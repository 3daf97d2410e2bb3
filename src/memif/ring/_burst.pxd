from libc.stdint cimport uint32_t, uint64_t

from memif.ring._ring cimport Columns, Ring, RxRing, TxRing

cdef class Store:
    cdef Columns c
    cdef char *block
    cdef Py_ssize_t block_size

# Debug mode: counts the views of a burst's packets that are alive.
cdef class Lease:
    cdef Py_ssize_t views

cdef class Burst:
    cdef Lease lease            # debug mode only
    cdef Ring ring              # None: nothing in it (the empty burst)
    cdef RxRing rx              # set on a received burst
    cdef TxRing tx              # set on an allocated burst
    cdef Store store
    cdef Columns *c             # NULL once released
    cdef uint32_t run
    cdef int busy               # a native loop is at work on it: it cannot be released
    cdef list pool              # where the store goes back to
    cdef int check(self) except -1
    cdef int check_lengths(self) except -1
    cdef int check_lent(self) except -1
    cdef object view(self, Ring ring, uint32_t region, uint64_t start, uint64_t size)
    cdef int close(self) except -1
    cdef Py_ssize_t index(self, Py_ssize_t i) except -1
    cdef object packet(self, uint32_t i)
    cdef bytes join(self, uint32_t i)
    cdef object column(self, void *data, uint32_t count, object dtype, bint writable)

cdef Store take_store(list pool, uint32_t capacity)
cdef Burst received(RxRing ring, Store store, uint32_t run, list pool)
cdef Burst allocated(TxRing ring, Store store, list pool)
cdef uint32_t row_copy(Ring ring, Columns *c, uint32_t i, unsigned char *row, uint32_t width, bint back) noexcept nogil
cdef Burst EMPTY
