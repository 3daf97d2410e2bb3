# What arrays and views of a burst hold on to, and how slots go back.
from libc.stdint cimport uint16_t, uint32_t

from memif.ring._atomics cimport memif_flag_set, memif_pause, memif_try_lock, memif_unlock
from memif.ring._columns cimport Columns
from memif.ring._region cimport fork_count
from memif.ring._ring cimport Ring
from memif.ring._rxring cimport RxRing
from memif.ring._txring cimport RETURNED, TxRing

cdef enum:
    KEPT = 4                # stores in a pool: so many bursts of a queue can be open at once without a calloc


cdef class Store:
    cdef Columns c
    cdef char *block
    cdef Py_ssize_t block_size
    cdef int exports
    cdef Store below                # the next one in the pool


# The exporter of one column, and of nothing else.
cdef class Column:
    cdef Store store
    cdef void *data
    cdef Py_ssize_t size
    cdef bint writable


# What a queue keeps to be used again. The stores are a stack without a Python call.
cdef class Pool:
    cdef Store top
    cdef int kept
    cdef object idle                # two released bursts, to be used again when nobody else has them any more
    cdef object idle_too
    cdef object rows                # the same for the two arrays that gather() made last
    cdef object rows_too
    cdef object words               # and for recv_array's lengths
    cdef object words_too


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


cdef object words(Store store, uint32_t *data, uint32_t count, bint writable)
cdef object halves(Store store, uint16_t *data, uint32_t count)
cdef Store take_store(Pool pool, uint32_t capacity)
cdef object new_words(Pool pool, Py_ssize_t count, Py_buffer *view)
cdef object new_matrix(Pool pool, Py_ssize_t rows, Py_ssize_t width, Py_buffer *view)
cdef Lease new_lease(Ring ring, uint32_t region, Lease first)
cdef object window(Lease lease, object memory)


# Back to the pool, unless an array still looks at it.
cdef inline void put_store(Pool pool, Store store) noexcept:
    if store.exports == 0 and pool.kept < KEPT:
        store.below = pool.top
        pool.top = store
        pool.kept += 1


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
