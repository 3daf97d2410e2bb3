from libc.stdint cimport uint8_t, uint64_t

cdef struct Mapping:
    void *base
    uint64_t size
    Mapping *next
    Mapping *previous

cdef class Region:
    cdef uint8_t *base
    cdef readonly uint64_t size
    cdef readonly bint writable
    cdef Mapping *mapping      # set where this object made the mapping
    cdef object __weakref__
    cdef Py_buffer buffer      # held where the memory is somebody else's
    cdef bint held

cdef unsigned int forks             # how many forks lie between the first process and this one


cdef inline unsigned int fork_count() noexcept nogil:
    return forks
