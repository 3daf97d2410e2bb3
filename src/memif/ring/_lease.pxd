# What views of packets hold on to, and how slots go back.
from libc.stdint cimport uint32_t

from memif.ring._atomics cimport memif_flag_set, memif_pause, memif_try_lock, memif_unlock
from memif.ring._region cimport fork_count
from memif.ring._ring cimport Ring
from memif.ring._rxring cimport RxRing
from memif.ring._txring cimport RETURNED, TxRing


# The exporter of a burst's packets in one region.
cdef class Lease:
    cdef Ring ring
    cdef uint32_t region
    cdef Lease first            # the burst's own lease, in one that was made for a further region
    cdef uint32_t run
    cdef bint owner             # the burst is gone and was not released: the slots go back with the last view
    cdef Py_ssize_t views       # debug mode: how many windows are alive


# Debug mode: the exporter of one packet.
cdef class Window:
    cdef Lease lease
    cdef object memory

cdef Lease new_lease(Ring ring, uint32_t region, Lease first)
cdef object window(Lease lease, object memory)


# Give the slots of a received burst back, or those of an allocated one up. In a forked child it does nothing.
cdef inline void end_loan(Ring ring, TxRing tx, uint32_t run) noexcept:
    cdef int _tries
    cdef RxRing rx
    if ring.born != fork_count():
        return
    if tx is not None:
        memif_flag_set(&tx.lent, RETURNED)
        return
    rx = <RxRing>ring
    memif_flag_set(&rx.runs[run & rx.wrap].done, 1)
    # The lock is held for a few microseconds at most; if it is longer, the next recv settles.
    for _tries in range(1000):
        if memif_try_lock(&rx.lock):
            rx.settle()
            memif_unlock(&rx.lock)
            return
        memif_pause()
