# Monotonic time, in ns.
from libc.stdint cimport int64_t

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


cdef inline int64_t now() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return <int64_t>t.tv_sec * 1_000_000_000 + t.tv_nsec


# The time `span` ns from now; for ever stays for ever.
cdef inline int64_t after_span(int64_t span) noexcept nogil:
    return INT64_MAX if span == INT64_MAX else now() + span
