from libc.stdint cimport int64_t

from memif.ring._atomics cimport memif_pause, memif_try_lock
from memif.ring._ring cimport Ring, Stats
from memif.ring._views cimport Pool

cdef extern from "stdint.h":
    const int64_t INT64_MAX     # as a time span: for ever

# Not Cython's posix.time: it leaves <time.h> to Python.h, which has not included it since 3.13.
cdef extern from "time.h" nogil:
    cdef struct timespec:
        long tv_sec
        long tv_nsec
    enum:
        CLOCK_MONOTONIC
    int clock_gettime(int clock, timespec *now)

cdef enum:
    SMALL = 32              # bursts up to this size are not worth giving up the interpreter lock
    SERVE_EVERY = 10_000_000                # ns between looks at the control channel by calls that never wait

cdef class Queue:
    cdef readonly object owner          # the Interface, or anything with serve(), broken(ring, text), down()
    cdef readonly unsigned int index    # queue id
    cdef readonly Stats counters
    cdef str direction                  # "rx" or "tx"
    cdef readonly int control_fd
    cdef Ring any_ring
    cdef Ring ended                     # of a link whose end the user is being told of
    cdef Pool pool
    cdef int busy
    cdef unsigned long holder           # the thread that holds busy
    cdef int64_t served
    cdef Ring usable(self)
    cdef int check_owned(self) except -1
    cdef int check_ours(self, Ring ring) except -1
    cdef int enter(self) except -1
    cdef void leave(self) noexcept
    cdef int serve(self) except -1
    cdef int idle(self) except -1
    cdef int broken(self, Ring ring) except -1
    cdef int in_use(self) except -1


cdef inline int64_t now() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return <int64_t>t.tv_sec * 1_000_000_000 + t.tv_nsec


# The time `span` ns from now; for ever stays for ever.
cdef inline int64_t after_span(int64_t span) noexcept nogil:
    return INT64_MAX if span == INT64_MAX else now() + span


# The ring's lock is held for microseconds at most by threads that release bursts.
cdef inline bint lock_ring(Ring ring) noexcept nogil:
    cdef int _tries
    for _tries in range(100000):
        if memif_try_lock(&ring.lock):
            return True
        memif_pause()
    return False
