from libc.stdint cimport uint16_t, uint32_t

from memif.ring._columns cimport Columns

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


cdef object words(Store store, uint32_t *data, uint32_t count, bint writable)
cdef object halves(Store store, uint16_t *data, uint32_t count)
cdef Store take_store(Pool pool, uint32_t capacity)
cdef object matrix(Pool pool, Py_ssize_t rows, Py_ssize_t width)


# Back to the pool, unless an array still looks at it.
cdef inline void put_store(Pool pool, Store store) noexcept:
    if store.exports == 0 and pool.kept < KEPT:
        store.below = pool.top
        pool.top = store
        pool.kept += 1
