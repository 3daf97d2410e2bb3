from libc.stdint cimport uint8_t, uint32_t

from memif.ring._rxring cimport RxRing

cdef uint32_t waiting(RxRing ring, uint32_t limit) noexcept nogil
cdef uint32_t copy_straight(RxRing ring, uint8_t *rows, Py_ssize_t stride, uint32_t width, uint32_t *lengths,
                            uint32_t limit) noexcept nogil
cdef bytes packet_straight(RxRing ring)
