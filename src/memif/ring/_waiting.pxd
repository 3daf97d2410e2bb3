# How a receive queue waits.
from libc.stdint cimport int64_t, uint32_t

from memif.ring._rxqueue cimport RxQueue
from memif.ring._rxring cimport RxRing
from memif.ring._views cimport Store

cdef enum:                  # RxQueue.mode
    MODE_INTERRUPT = 0
    MODE_POLLING = 1
    MODE_ADAPTIVE = 2

cdef enum:
    ADAPTIVE_SPIN = 50_000  # ns of spinning before an adaptive queue goes to sleep

cdef Store wait_take(RxQueue queue, RxRing ring, uint32_t limit, uint32_t *run, int64_t deadline)
cdef bint sleep_until(RxQueue queue, RxRing ring, int64_t deadline) except -1
cdef bint sleep(RxQueue queue, RxRing ring, int64_t left) except -1
cdef int look_around(RxQueue queue, RxRing ring) except -1
cdef int check_lent(RxQueue queue, RxRing ring) except -1
