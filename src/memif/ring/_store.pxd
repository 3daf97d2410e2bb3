from libc.stdint cimport uint16_t, uint32_t

from memif.ring._columns cimport Columns

cdef enum:
    KEPT = 4                # stores in a pool: so many bursts of a queue can be open at once without a calloc

cdef class Store:
    cdef Columns c
    cdef char *block
    cdef Py_ssize_t block_size
    cdef int exports
    cdef object words(self, uint32_t *data, uint32_t count, bint writable)
    cdef object halves(self, uint16_t *data, uint32_t count)


# The same memory for columns that no user may write.
cdef class Fixed:
    cdef Store store


cdef Store take_store(list pool, uint32_t capacity)


# Back to the pool, unless an array still looks at it.
cdef inline int put_store(list pool, Store store) except -1:
    if store.exports == 0 and len(pool) < KEPT:
        pool.append(store)
    return 0
