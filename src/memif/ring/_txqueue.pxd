cimport cython
from libc.stdint cimport uint32_t, uint64_t

from memif.ring._burst cimport Burst
from memif.ring._queue cimport Queue
from memif.ring._txring cimport Source, TxRing


@cython.final
cdef class TxQueue(Queue):
    cdef uint64_t before        # packets sent on all links before the present one
    cdef TxRing start(self)
    cdef int claim(self, TxRing ring) except -1
    cdef int after(self, TxRing ring, Py_ssize_t wanted, Py_ssize_t sent) except -1
    cdef int put(self, TxRing ring, str name, packet, Py_ssize_t i, Py_ssize_t *length) except? -1
    cdef str fits(self, TxRing ring)
    cdef uint32_t pass_on(self, Burst burst, Source *order, bint copy) except? 0xFFFFFFFF
    cdef uint32_t send_matrix(self, Py_buffer *rows, const uint32_t *each) except? 0xFFFFFFFF
    cdef Burst reserve(self, TxRing ring, uint32_t wanted, uint32_t size, int *verdict)
