from libc.stdint cimport uint8_t, uint32_t

from memif.ring._columns cimport Columns
from memif.ring._ring cimport Ring
from memif.ring._rxring cimport RxRing
from memif.ring._txring cimport TxRing

cdef int fit(Columns *c, uint32_t i, bint unsized) except -1
cdef int fit_all(Columns *c, uint32_t count, bint unsized) except -1
cdef int grow(RxRing ring, Columns *c, uint32_t count) except -1
cdef bytes join(Ring ring, const Columns *c, uint32_t i)
cdef void copy_out(Ring ring, const Columns *c, Py_buffer *rows, Py_buffer *sizes) noexcept
cdef void gather_all(Ring ring, const Columns *c, Py_buffer *rows) noexcept
cdef void scatter_all(Ring ring, const Columns *c, Py_buffer *rows, uint32_t width, bint note) noexcept
cdef void gather_rows(Ring ring, const Columns *c, uint8_t *rows, Py_ssize_t stride, uint32_t width) noexcept nogil
cdef void scatter_rows(Ring ring, const Columns *c, uint8_t *rows, Py_ssize_t stride, uint32_t width,
                       bint note) noexcept nogil
cdef void wash(Ring ring, Columns *c, uint32_t d, uint32_t n) noexcept nogil
cdef void wash_rooms(Ring ring, Columns *c) noexcept nogil
cdef void wash_packets(Ring ring, Columns *c) noexcept nogil
cdef void send_some(TxRing ring, Columns *c, uint32_t packets) noexcept nogil
