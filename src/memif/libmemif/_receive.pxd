cimport cython
from libc.stdint cimport int64_t, uint32_t

from memif.ring._queue cimport Queue
from memif.libmemif._buffers cimport Raw, memif_buffer_t
from memif.ring._rxring cimport RxRing


@cython.final
cdef class ManualRxQueue(Queue):
    cdef bint polling


@cython.final
cdef class RawRx(Raw):
    cdef RxRing rx
    cdef int64_t settled            # slots given back so far, from -size on a slave whose ring was never filled
    cdef int64_t taken              # slots taken from the ring so far
    cdef int64_t base               # taken, before the burst that is in the store
    cdef uint32_t pending           # the first descriptor of the store that was not handed out yet
    cdef unsigned char *gone        # per slot: an invalid descriptor, which was not handed out
    cdef uint32_t dropped           # how many of those were not given back yet
    cdef uint32_t headroom          # of the latest refill
    cdef bint drained               # the current burst has cleared the event fd
    cpdef tuple burst(self, bufs, Py_ssize_t count)
    cpdef refill(self, Py_ssize_t count, Py_ssize_t headroom)
    cdef int fetch(self, uint32_t count) except -1
    cdef bint more(self) noexcept
    cdef void note_dropped(self, int64_t start, uint32_t before) noexcept
    cdef void hand_out(self, memif_buffer_t b, uint32_t d) noexcept
    cdef int64_t shown(self) noexcept
    cdef void give(self, int64_t count, int64_t end) noexcept
