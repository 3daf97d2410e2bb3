cimport cython
from libc.stdint cimport int64_t, uint32_t

from memif.ring._burst cimport Burst
from memif.ring._queue cimport Queue
from memif.ring._rx cimport RxRing


@cython.final
cdef class RxQueue(Queue):
    cdef int _mode
    cdef bint exported          # somebody polls the event fd: it must be emptied when the ring is
    cdef Burst spare            # for the next burst
    cdef RxRing left            # of a link that the peer has ended, with packets that nobody has received yet
    cdef RxRing source(self)
    cdef void forget(self) noexcept
    cdef Burst take(self, RxRing ring, uint32_t limit)
    cdef Burst wait_take(self, RxRing ring, uint32_t limit, int64_t deadline)
    cdef bint sleep_until(self, RxRing ring, int64_t deadline) except -1
    cdef bint sleep(self, RxRing ring, int64_t left) except -1
    cdef int look_around(self, RxRing ring) except -1
