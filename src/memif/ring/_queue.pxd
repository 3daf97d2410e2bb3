from libc.stdint cimport int64_t

from memif.ring._atomics cimport memif_flag_get
from memif.ring._region cimport fork_count
from memif.ring._ring cimport Ring, Stats
from memif.ring._views cimport Pool

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
    cdef int serve_control(self) except -1
    cdef int idle(self) except -1
    cdef int broken(self, Ring ring) except -1
    cdef int in_use(self) except -1


cdef object bursts_of(Queue queue)


# The ring of the present connection, if calls may work on it; else raises as `usable`. A queue with a ring is owned.
cdef inline Ring ring_of(Queue queue):
    cdef Ring ring = queue.any_ring
    if ring is None or memif_flag_get(&ring.dead) or ring.born != fork_count():
        return queue.usable()
    return ring
