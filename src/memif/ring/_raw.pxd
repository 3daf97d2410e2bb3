cimport cython
from libc.stdint cimport int64_t, uint16_t, uint32_t

from memif.ring._queue cimport Queue
from memif.ring._ring cimport Ring
from memif.ring._rx cimport RxRing
from memif.ring._store cimport Store
from memif.ring._tx cimport TxRing


cdef class Raw:
    cdef Ring any_ring
    cdef Store store
    cdef uint32_t *stamps           # per slot: changes whenever the slot gets another owner
    cdef int shut(self) except -1


@cython.final
cdef class ManualRxQueue(Queue):
    cdef bint polling


@cython.final
cdef class RawRx(Raw):
    cdef RxRing rx
    cdef int64_t settled            # slots given back so far, from -size on a slave whose ring was never filled
    cdef int64_t taken              # slots taken from the ring so far
    cdef int64_t base               # taken, before the burst that is in the store
    cdef uint32_t pending           # descriptors of the store that were not handed out yet: from here on
    cdef unsigned char *gone        # per slot: a bad descriptor that nobody was shown
    cdef uint32_t dropped           # how many of these are not given back yet
    cdef uint32_t headroom          # of the latest refill
    cdef int fetch(self, uint32_t count) except -1
    cdef void note_dropped(self, int64_t start, uint32_t before) noexcept
    cdef void hand_out(self, memif_buffer_t b, uint32_t d) noexcept
    cdef int64_t shown(self) noexcept
    cdef void give(self, int64_t count, int64_t end) noexcept


@cython.final
cdef class RawTx(Raw):
    cdef TxRing tx
    cdef int64_t published          # slots sent so far
    cdef int64_t allocated          # slots handed out so far
    cdef void hand_out(self, memif_buffer_t b, uint32_t d) noexcept
    cdef bint holds(self, memif_buffer_t b) noexcept
    cdef uint32_t accept(self, list bufs, uint32_t count)
    cdef bint received_here(self, memif_buffer_t b) noexcept
    cdef bint in_hand(self, memif_buffer_t b) noexcept
    cdef bint move(self, memif_buffer_t b)


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
    cdef uint32_t size               # len and flags, which the user may set to anything
    cdef uint16_t bits
    cdef readonly uint16_t desc_index
