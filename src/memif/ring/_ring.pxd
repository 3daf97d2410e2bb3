from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from memif.ring._atomics cimport memif_load_acquire, memif_pause, memif_try_lock

cdef extern from "poll.h" nogil:
    cdef struct pollfd:
        int fd
        short events
        short revents
    int poll(pollfd *fds, unsigned long count, int timeout)
    enum:
        POLLIN

cdef enum:
    NEXT = 1                # descriptor flag: the packet goes on in the next slot
    MASK_INT = 1            # ring flag: the consumer asks for no interrupts
    COOKIE = 0x03E31F20
    SMALL_BYTES = 4096      # copying so little is not worth giving up the interpreter lock

cdef enum Trouble:          # why a ring can no longer be trusted
    OK = 0
    BAD_INDEX = 1
    BAD_DESCRIPTOR = 2
    BLOCKED = 3             # its event fd made a write block

# A stretch of mapped memory.
cdef struct Span:
    uint8_t *base
    uint64_t size

# The buffer that a slave has put into one slot of its ring. Private: what the descriptor in shared memory
# says about region and offset is never believed by the slave.
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
    uint64_t dropped_left
    uint64_t ring_full
    uint64_t interrupts_sent
    uint64_t interrupts_received

cdef class Stats:
    cdef Counters n

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
    cdef uint16_t settled                # receive: first slot not given back; transmit: own index as shown
    cdef uint16_t seen                   # the peer's index as last read and found sane
    cdef int lock                        # one thread at a time
    cdef int dead                        # the connection is gone
    cdef Trouble trouble
    cdef readonly int event_fd
    cdef unsigned int born               # fork_count() when made
    cdef bint begun                      # __init__ was called
    cdef bint complete                   # set up without an error
    cdef int signalling                  # a thread is about to write to the event fd, which can block
    cdef readonly Stats stats
    cdef prepare(self)
    cdef set_spans(self)
    cdef set_header(self, uint32_t region, uint64_t offset, uint32_t log2_size, uint32_t cache_line)
    cdef set_slots(self, buffers)
    cdef int check_complete(self) except -1
    cdef bint wanted(self) noexcept nogil
    cdef void signal(self) noexcept nogil
    cdef void wake_self(self) noexcept nogil
    cdef void set_mask(self, bint masked) noexcept nogil
    cdef void drain(self) noexcept nogil


cdef inline bint readable(int fd) noexcept nogil:
    cdef pollfd one
    one.fd = fd
    one.events = POLLIN
    one.revents = 0
    return poll(&one, 1, 0) == 1 and one.revents & POLLIN


# Reads the peer's index anew. It may go forward until `bound` slots lie behind settled, nothing else.
cdef inline bint peer_moved(Ring r, uint32_t bound) noexcept nogil:
    cdef uint16_t now = memif_load_acquire(r.peer)
    cdef uint32_t grow = <uint16_t>(now - r.seen)
    if <uint32_t>(<uint16_t>(r.seen - r.settled)) + grow > bound:
        r.trouble = BAD_INDEX
        return False
    r.seen = now
    return True


# The ring's lock is held for microseconds at most by threads that release bursts.
cdef inline bint lock_ring(Ring ring) noexcept nogil:
    cdef int _tries
    for _tries in range(100000):
        if memif_try_lock(&ring.lock):
            return True
        memif_pause()
    return False
