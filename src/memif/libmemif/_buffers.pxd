cimport cython
from libc.stdint cimport int64_t, uint16_t, uint32_t

from memif.ring._columns cimport Columns
from memif.ring._ring cimport Ring
from memif.ring._views cimport Pool, Store

cdef enum:
    RX = 2                          # MEMIF_BUFFER_FLAG_RX

cdef enum Shut:             # Raw.shut
    OPEN = 0
    DEAD = 1                # the connection is gone
    FORKED = 2              # it belongs to the parent process
    BUSY = 3                # another thread uses it


cdef struct Place:
    uint32_t offset
    uint32_t size
    uint16_t region


cdef class Raw:
    cdef Ring any_ring
    cdef Store store
    cdef uint32_t *stamps           # per slot: changes whenever the slot gets another owner
    cdef list views                 # per slot: what `memif_buffer_t.data` returned last, None at first
    cdef Place *places              # and what that shows
    cdef int shut(self) noexcept
    cdef void let_go(self, int64_t seq, uint32_t stamp) noexcept


@cython.final
cdef class memif_buffer_t:
    cdef Raw raw                    # None: never filled
    cdef int64_t seq                # slot number, never wrapping
    cdef uint32_t stamp             # the slot's when this was filled
    cdef uint32_t offset            # of the data in its region
    cdef uint32_t low               # lowest offset that belongs to the buffer
    cdef uint32_t room              # bytes from offset to the buffer's end
    cdef uint16_t region
    cdef bint received
    cdef bint exported              # the buffer protocol was used since this link
    cdef list former                # regions of earlier links that an array may still refer to, see keep_for
    cdef uint32_t *size             # len, and flags below, which the user may set to anything
    cdef uint32_t own_size          # where `size` points in a buffer that is in no array
    cdef Store home                 # else the array's column is there
    cdef uint16_t bits
    cdef readonly uint16_t desc_index
    cdef uint32_t filled(self) noexcept


@cython.final
cdef class memif_buffers:
    cdef list items
    cdef Store store                # its column of lengths is the buffers' `len`
    cdef uint32_t first             # of this array's entries in the store, which slices share
    cdef Pool pool
    cdef uint32_t some(self, count) except? 0xFFFFFFFF
    cdef int place(self, uint32_t count) except -1
    cdef Columns part(self, uint32_t start, uint32_t end) noexcept
    cdef uint32_t same_ring(self, uint32_t start, uint32_t count) noexcept


cdef enum Fill:             # enough
    INVALID_FILL = -1
    UNFIT = 0
    HERE = 1                # all belong to slots of this ring, or to none
    ELSEWHERE = 2           # some belong to slots of another ring


cdef object why_shut(int why)
cdef list items_of(bufs)
cdef Fill enough(Raw raw, list bufs, Py_ssize_t count, list kept) except INVALID_FILL
