cimport cython
from libc.stdint cimport int64_t, uint32_t

from memif.libmemif._buffers cimport Raw, memif_buffer_t
from memif.ring._txring cimport TxRing


@cython.final
cdef class RawTx(Raw):
    cdef TxRing tx
    cdef int64_t published          # slots sent so far
    cdef int64_t allocated          # slots handed out so far
    cdef int64_t lost               # the first allocation whose buffer was filled again or deallocated
    cpdef tuple alloc(self, bufs, Py_ssize_t count, Py_ssize_t size)
    cpdef tuple burst(self, bufs, Py_ssize_t count)
    cpdef tuple enqueue(self, bufs, Py_ssize_t count)
    cpdef rewind(self, buf)
    cdef void hand_out(self, memif_buffer_t b, uint32_t d) noexcept
    cdef void give_next(self, memif_buffer_t b) noexcept
    cdef bint holds(self, memif_buffer_t b) noexcept
    cdef int64_t first_held(self, list bufs, uint32_t count) noexcept
    cdef void take_back(self, int64_t to) noexcept
    cdef void reclaim(self) noexcept
    cdef uint32_t accept(self, list bufs, uint32_t count)
    cdef bint received_here(self, memif_buffer_t b) noexcept
    cdef bint in_hand(self, memif_buffer_t b) noexcept
    cdef bint move(self, memif_buffer_t b)
