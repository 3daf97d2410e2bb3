from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "atomics.h" nogil:
    uint16_t memif_load_acquire(const uint16_t *p)
    uint16_t memif_load16(const uint16_t *p)
    uint64_t memif_load64(const uint64_t *p)
    void memif_store_release(uint16_t *p, uint16_t v)
    void memif_store16(uint16_t *p, uint16_t v)
    void memif_store32(uint32_t *p, uint32_t v)
    void memif_store64(uint64_t *p, uint64_t v)
    void memif_fence()
    bint memif_try_lock(int *p)
    void memif_unlock(int *p)
    int memif_flag_get(const int *p)
    void memif_flag_set(int *p, int v)
    void memif_prefetch_read(const void *p)
    void memif_prefetch_write(const void *p)
    void memif_pause()

cdef enum:
    NEXT = 1                # descriptor flag: the packet goes on in the next slot
    MASK_INT = 1            # ring flag: the consumer asks for no interrupts
    COOKIE = 0x03E31F20
    MAX_PACKET = 65536      # bytes of one packet over all its descriptors
    MOVED = 0xFFFF          # Columns.slot of a buffer that forward() gave away

cdef enum Trouble:          # why a ring can no longer be trusted
    OK = 0
    BAD_INDEX = 1
    BAD_DESCRIPTOR = 2
    BLOCKED = 3             # its event fd made a write block

# A stretch of mapped memory.
cdef struct Span:
    uint8_t *base
    uint64_t size

# The buffer that a slave has put into one slot of its ring. Private: what the descriptor in shared memory says about
# region and offset is never believed by the slave.
cdef struct Slot:
    uint32_t start          # first byte of the buffer in its region
    uint32_t room           # bytes of the whole buffer
    uint16_t region
    uint16_t headroom       # bytes left free in front when it was last given to the master

# What happened on one queue since it exists; survives reconnects.
cdef struct Counters:
    uint64_t packets
    uint64_t bytes
    uint64_t bursts
    uint64_t bad_descriptors
    uint64_t dropped_bad
    uint64_t dropped_oversize
    uint64_t ring_full
    uint64_t interrupts_sent
    uint64_t interrupts_received

# A burst as arrays. Per packet: length, and first (its first descriptor; only when chained). Per descriptor: all else.
# Not chained: descriptor i is packet i, and piece is the same array as length.
cdef struct Columns:
    uint32_t capacity       # descriptors (and packets) that fit
    uint32_t packets
    uint32_t descriptors
    bint chained
    uint32_t *length
    uint32_t *first
    uint32_t *piece
    uint32_t *pieces        # storage behind piece when chained
    uint32_t *offset
    uint32_t *room
    uint16_t *region
    uint16_t *flags
    uint16_t *slot

cdef class Stats:
    cdef Counters n

# One run of slots handed out by RxRing.take, in the order of the ring.
cdef struct Run:
    uint32_t slots
    int done

cdef class Ring:
    cdef readonly tuple regions          # keeps the memory mapped
    cdef tuple views                     # one memoryview a region
    cdef Span *spans
    cdef uint32_t span_count
    cdef uint8_t *header
    cdef uint16_t *own                   # the index that this side stores
    cdef uint16_t *peer                  # the index that the other side stores
    cdef uint16_t *mask                  # the header's flags word
    cdef uint64_t *desc
    cdef readonly uint32_t size
    cdef uint16_t wrap                   # size - 1
    cdef Slot *slots                     # slave only
    cdef readonly bint slave
    cdef readonly uint32_t region_index
    cdef readonly uint64_t offset
    cdef uint16_t cursor                 # receive: next slot to read; transmit: next slot to fill
    cdef uint16_t settled                # receive: first slot not given back; transmit: own index as published
    cdef uint16_t seen                   # the peer's index as last read and found sane
    cdef int lock                        # one thread at a time
    cdef int dead                        # the connection is gone
    cdef Trouble trouble
    cdef readonly int event_fd
    cdef unsigned int born               # fork_count() when made
    cdef readonly Stats stats
    cdef set_spans(self)
    cdef set_header(self, uint32_t region, uint64_t offset, uint32_t log2_size, uint32_t cache_line)
    cdef set_slots(self, buffers)
    cdef bint wanted(self) noexcept nogil
    cdef void signal(self) noexcept nogil
    cdef void set_mask(self, bint masked) noexcept nogil
    cdef void drain(self) noexcept nogil

cdef class RxRing(Ring):
    cdef uint16_t stalled                # descriptors of a packet whose end has not come yet
    cdef Run *runs
    cdef uint32_t run_head               # next run to hand out
    cdef uint32_t run_tail               # oldest run not given back
    cdef readonly uint32_t headroom
    cdef bint ready(self) noexcept nogil
    cdef uint32_t take(self, Columns *c, uint32_t limit) noexcept nogil
    cdef uint32_t chain(self, Columns *c, uint16_t start, uint16_t end) noexcept nogil
    cdef uint32_t open_run(self, uint32_t slots) noexcept nogil
    cdef void settle(self) noexcept nogil
    cdef void give_back(self, uint32_t count, uint32_t headroom) noexcept nogil

cdef class TxRing(Ring):
    cdef bint lent                       # an allocated burst is open
    cdef int verdict                     # why put_rows stopped: 0 full, -1 a packet that can never fit
    cdef uint32_t free_slots(self, uint32_t wanted) noexcept nogil
    cdef void spoil(self, uint16_t end) noexcept nogil
    cdef uint32_t put_rows(self, const uint8_t *rows, Py_ssize_t stride, const uint32_t *lengths, uint32_t width,
                           uint32_t count) noexcept nogil
    cdef int put(self, const uint8_t *data, uint32_t length) noexcept nogil
    cdef int put_pieces(self, uint8_t **data, const uint32_t *lengths, uint32_t count,
                        uint32_t total) noexcept nogil
    cdef int swap(self, RxRing source, Columns *c, uint32_t first, uint32_t count) noexcept nogil
    cdef int reserve(self, Columns *c, uint32_t size) noexcept nogil
    cdef void commit(self, Columns *c, uint32_t first_packet, uint32_t packets) noexcept nogil
    cdef bint show(self) noexcept nogil
    cdef void publish(self) noexcept nogil

cdef void copy(uint8_t *target, const uint8_t *source, uint32_t n) noexcept nogil
cdef void unchain(Columns *c) noexcept nogil
cdef void make_chained(Columns *c) noexcept nogil
