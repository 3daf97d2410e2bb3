cimport cython
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from memif.ring._columns cimport Columns
from memif.ring._ring cimport Ring, Span
from memif.ring._rxring cimport RxRing

cdef enum Verdict:          # what became of a packet that was to be sent
    GONE = -2               # its buffers were given away before
    NEVER = -1              # it can never fit into this ring
    FULL = 0                # there is no room now
    SENT = 1
    NARROW = 2              # the columns are too small for it

cdef enum Loan:             # TxRing.lent
    FREE = 0
    LENT = 1                # an allocated burst is open and owns the ring
    RETURNED = 2            # it was cancelled: the next call takes back what it had reserved

# Packets to be sent: the rows of a matrix, or those of a received burst.
cdef struct Source:
    uint32_t first              # the next one to send
    uint32_t last               # the end
    uint32_t sent
    uint64_t total              # their bytes
    const uint8_t *rows
    Py_ssize_t stride           # bytes from row to row
    const uint32_t *lengths     # the user may write here at any time; NULL: whole rows
    uint32_t width              # of a row
    Columns *c                  # NULL: rows
    const Span *spans           # of the ring that the burst is from
    const uint8_t *choice       # a byte for each packet, zero: not to be sent; NULL: all


@cython.final
cdef class TxRing(Ring):
    cdef int lent
    cdef uint32_t *rooms                 # master: capacities that stood in the slots from settled to cursor
    cdef uint32_t free_slots(self, uint32_t wanted) noexcept nogil
    cdef void spoil(self, uint16_t end) noexcept nogil
    cdef void rollback(self, uint16_t to) noexcept nogil
    cdef bint put_one(self, const uint8_t *data, size_t length) noexcept nogil
    cdef int put(self, const uint8_t *data, uint32_t length) noexcept nogil
    cdef int put_matrix(self, Source *rows) noexcept nogil
    cdef int put_all(self, Source *s) noexcept nogil
    cdef int put_chain(self, Source *s) noexcept nogil
    cdef int put_pieces(self, uint8_t **data, const uint32_t *lengths, uint32_t count,
                        uint32_t total) noexcept nogil
    cdef int measure(self, uint32_t total, uint32_t *need) noexcept nogil
    cdef bint too_small(self, uint32_t known, uint32_t widest, uint32_t total) noexcept nogil
    cdef int swap(self, RxRing source, Columns *c, uint32_t first, uint32_t count, uint64_t *total) noexcept nogil
    cdef bint can_swap(self, RxRing source) noexcept
    cdef int swap_all(self, RxRing source, Source *s) noexcept nogil
    cdef int reserve(self, Columns *c, uint32_t count, uint32_t size) noexcept nogil
    cdef void commit(self, Columns *c, uint32_t first_packet, uint32_t packets) noexcept nogil
    cdef void count_sent(self, uint32_t packets, uint64_t total) noexcept nogil
    cdef bint show(self) noexcept nogil
    cdef void publish(self) noexcept nogil


# A source of nothing yet.
cdef inline Source no_source() noexcept nogil:
    cdef Source s
    memset(&s, 0, sizeof(Source))
    return s
