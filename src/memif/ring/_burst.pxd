cimport cython
from libc.stdint cimport uint32_t, uint64_t

from memif.ring._columns cimport Columns
from memif.ring._ring cimport Ring
from memif.ring._rxring cimport RxRing
from memif.ring._views cimport Lease, Pool, Store
from memif.ring._txring cimport TxRing


@cython.final
cdef class Burst:
    cdef Ring ring              # None: nothing in it (the empty burst)
    cdef RxRing rx              # set on a received burst
    cdef TxRing tx              # set on an allocated burst
    cdef Store store
    cdef Columns *c             # NULL once released
    cdef uint32_t run
    cdef int busy               # native loops that are at work on it: it cannot be released
    cdef Lease lease            # None until somebody asks for a view
    cdef object shown           # a memoryview of the region that the last view was in
    cdef uint32_t shown_region
    cdef bint sized             # allocated with a size: every packet has a length
    cdef bint counted           # debug mode: views are counted
    cdef Pool pool              # where the store goes back to
    cdef int check(self) except -1
    cdef int check_lengths(self, uint32_t count=*) except -1
    cdef int check_lent(self) except -1
    cdef object whole(self, uint32_t region)
    cdef object view(self, uint32_t region, uint64_t start, uint64_t size)
    cdef int close(self) except -1
    cdef int give_up(self) except -1
    cdef uint32_t index(self, i) except? 0xFFFFFFFF
    cdef object packet(self, uint32_t i)
    cdef object piece(self, uint32_t d)
    cdef object column(self, int which)
    cdef int read_rows(self, Py_buffer *target) except -1
    cdef int write_rows(self, Py_buffer *source, uint32_t width) except -1

cdef Burst new_burst(Pool pool)
cdef void lend(Burst burst, RxRing ring, Store store, uint32_t run, Pool pool) noexcept
cdef Burst allocated(TxRing ring, Store store, bint sized, Pool pool)
cdef Burst EMPTY
