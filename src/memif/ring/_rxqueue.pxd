cimport cython
from libc.stdint cimport int64_t, uint32_t

from memif.ring._burst cimport Burst
from memif.ring._queue cimport Queue
from memif.ring._rxring cimport RxRing
from memif.ring._views cimport Store


@cython.final
cdef class RxQueue(Queue):
    cdef int _mode
    cdef bint exported          # somebody watches the event fd: readable while, and only while, packets wait
    cdef Burst spare            # for the next burst
    cdef int64_t lent_since     # since when bursts hold all slots, the oldest being lent_run; 0: they do not
    cdef uint32_t lent_run
    cdef RxRing left            # of a link that the peer has ended, with packets that nobody has received yet
    cdef RxRing serving         # `serve` has this ring's lock, and is under way without the interpreter
    cdef int detours            # so many calls do not try to copy straight out of the ring
    cdef RxRing source(self)
    cdef bint has_packets(self, RxRing ring) noexcept
    cdef void forget(self) noexcept
    cdef bint start_straight(self, RxRing ring) except -1
    cdef uint32_t fill(self, RxRing ring, Py_buffer *rows, Py_buffer *sizes, uint32_t limit) except? 0xFFFFFFFF
    cdef tuple fill_new(self, RxRing ring, uint32_t limit, Py_ssize_t width)
    cdef tuple copied(self, RxRing ring, Store store, Py_ssize_t width)
    cdef Store fetch(self, RxRing ring, uint32_t limit, int64_t span, uint32_t *run)
    cdef void give_back(self, RxRing ring, Store store, uint32_t run) noexcept
    cdef int nothing(self, RxRing ring) except -1
    cdef Store take(self, RxRing ring, uint32_t limit, uint32_t *run)
