# cython: language_level=3, cdivision=True, wraparound=False, auto_pickle=False, autotestdict=False
"""How a receive queue waits for something to receive.

A consumer that goes to sleep clears MASK_INT, passes a full fence, looks at the ring once more and only then polls the
event fd. Peers without a fence between publishing and reading MASK_INT can lose a wake-up, so no sleep is longer than
100 ms. The control channel is watched in the same poll: a blocking call also keeps the link alive.

Somebody may watch the event fd from outside (`fileno`, on_interrupt). From then on, in every mode:

- MASK_INT stays clear. So such peers cannot lose a wake-up either: an old value of the flag is as good as a new one.
- After emptying the fd, each call looks at the ring again and, if anything is left, makes the fd readable again. So
  the fd is readable when a packet waits; and a `recv` that finds nothing has emptied it.
"""
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t, uint32_t

from memif.errors import MemifBufferError

from memif.ring._atomics cimport memif_flag_get, memif_try_lock, memif_unlock
from memif.ring._clock cimport now
from memif.ring._queue cimport SERVE_EVERY
from memif.ring._ring cimport OK, POLLIN, poll, pollfd
from memif.ring._rxqueue cimport RxQueue
from memif.ring._rxring cimport RxRing
from memif.ring._views cimport Store

cdef enum:                          # all in ns
    SPIN_SLICE = 100_000            # spinning between looks at signals and the control channel
    LENT_TOO_LONG = 1_000_000_000   # without a slot: nobody gives one back any more
    LONGEST_SLEEP = 100_000_000


cdef int sleep_ms(int64_t left) noexcept nogil:
    """Milliseconds for poll, rounded up, never above the longest sleep."""
    return <int>((max(min(left, LONGEST_SLEEP), 0) + 999_999) // 1_000_000)


cdef Store wait_take(RxQueue queue, RxRing ring, uint32_t limit, uint32_t *run, int64_t deadline):
    """What comes until the deadline, or None."""
    cdef Store store
    while sleep_until(queue, ring, deadline):
        store = queue.take(ring, limit, run)
        if store is not None or ring.trouble != OK:
            return store
        # A peer that sends invalid packets all the time must not keep us from the clock, signals and control.
        PyErr_CheckSignals()
        if now() - queue.served > SERVE_EVERY:
            look_around(queue, ring)
        if now() >= deadline:
            return None
    return None


cdef bint sleep_until(RxQueue queue, RxRing ring, int64_t deadline) except -1:
    """True when a packet (or trouble) is there, False when the deadline has passed."""
    cdef int64_t t = now(), spin_end
    cdef bint found
    while True:
        if queue._mode != MODE_INTERRUPT:
            if ring.run_tail != ring.run_head and memif_try_lock(&ring.lock):
                ring.settle()               # what was released while the lock was taken
                memif_unlock(&ring.lock)
            spin_end = t + min(deadline - t, SPIN_SLICE if queue._mode == MODE_POLLING else ADAPTIVE_SPIN)
            with nogil:
                found = ring.spin(spin_end)
            if found and not memif_flag_get(&ring.dead):
                return True
            t = now()
        if queue._mode == MODE_POLLING:
            PyErr_CheckSignals()
            if t - queue.served > SERVE_EVERY:
                look_around(queue, ring)
        elif sleep(queue, ring, deadline - t):
            return True
        if ring.ready():
            return True             # also what a peer sent just before it left
        if memif_flag_get(&ring.dead):
            raise queue.owner.down()
        check_lent(queue, ring)
        t = now()
        if t >= deadline:
            return False


cdef bint sleep(RxQueue queue, RxRing ring, int64_t left) except -1:
    """Sleep until the peer or the control channel wants something, or some time has passed. -> True when
    a packet came before."""
    cdef pollfd fds[2]
    cdef bint found
    found = ring.arm(False, False)
    if not found:
        fds[0].fd = ring.event_fd
        fds[1].fd = queue.control_fd
        fds[0].events = fds[1].events = POLLIN
        fds[0].revents = fds[1].revents = 0
        with nogil:
            poll(fds, 2, sleep_ms(left))
            if fds[0].revents and not (queue.exported and ring.ready()):    # else `take` knows when to
                ring.drain()
                if queue.exported and ring.ready():
                    ring.wake_self()
    if queue._mode != MODE_INTERRUPT and not queue.exported:
        ring.set_mask(True)
    if not found:
        PyErr_CheckSignals()
        if fds[1].revents or not fds[0].revents:
            look_around(queue, ring)
    return found


cdef int look_around(RxQueue queue, RxRing ring) except -1:
    """Serve the control channel in the middle of a call. The functions of the user that this may call can
    use the queue themselves."""
    queue.leave()
    try:
        queue.serve_control()
    finally:
        queue.enter()            # raises when another thread has taken the queue meanwhile; it keeps it
    if memif_flag_get(&ring.dead) and not ring.ready():
        raise queue.owner.down()
    return 0


cdef int check_lent(RxQueue queue, RxRing ring) except -1:
    """Raise when bursts have held all slots for a second. Before that, another thread may give some back."""
    cdef uint32_t held = 0, i
    if not ring.all_lent():
        queue.lent_since = 0
        return 0
    if queue.lent_since == 0 or queue.lent_run != ring.run_tail:
        queue.lent_since = now()
        queue.lent_run = ring.run_tail
    if now() - queue.lent_since < LENT_TOO_LONG:
        return 0
    queue.lent_since = 0
    for i in range(ring.run_head - ring.run_tail):
        held += not memif_flag_get(&ring.runs[(ring.run_tail + i) & ring.wrap].done)
    raise MemifBufferError(
        f"rx queue {queue.index}: all {ring.size} slots are lent to {held} burst{'s' * (held != 1)} not released "
        f"(the oldest has {ring.runs[ring.run_tail & ring.wrap].slots}; it holds up those behind it), so nothing "
        "more can come: release each burst, best by a with block, and copy what you keep")
