# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: auto_pickle=False, autotestdict=False
"""What receiving and sending rings share: their place in memory, the indices, the event fd.

Theory of operation
-------------------
A ring has ``size`` slots (a power of two) and two free-running 16 bit indices. The slave stores ``head``, the
master stores ``tail``, in both directions; slot = index & (size - 1), every difference is taken modulo 65536.

============  =====================================  ============================================
ring          packets become visible by              slots come back by
============  =====================================  ============================================
S2M           the slave's head                       the master's tail
M2S           the master's tail                      the slave's head (fresh buffers)
============  =====================================  ============================================

Seen from one side only two kinds remain. An `RxRing` takes packets that the peer's index made visible and
gives slots back by its own; a `TxRing` fills slots that the peer's index made free and publishes them by its
own. "own" and "peer" point at the right two words, so the loops do not ask which role they play, except where
the slave's private table of buffers replaces what the descriptors say.

What is trusted: nothing that the peer can write. This side's cursors are private copies; the peer's index is
accepted only when it lies within what the ring's state allows (else `trouble` is set and the connection must
go); a descriptor is read once into locals, checked, and only then used. A slave ignores region and offset in
descriptors altogether: it knows which buffer it put into which slot.

One thread at a time may use a ring: callers take `lock` first. The memory orders are those of protocol
section 7: acquire on the peer's index, release on our own, one full fence between publishing and looking at
MASK_INT.
"""
cimport cython
from libc.errno cimport EINTR, ENOSYS, EOPNOTSUPP, errno
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from posix.fcntl cimport F_GETFL, F_SETFL, O_NONBLOCK, fcntl
from posix.types cimport off_t
from posix.unistd cimport close, read, write

from memif.ring._atomics cimport (memif_fence, memif_flag_get, memif_flag_set, memif_load16, memif_load64,
                                  memif_store16, memif_store64)
from memif.ring._columns cimport MAX_PACKET
from memif.ring._region cimport Region, fork_count

from memif.system._steady import Descriptor

cdef extern from "sys/uio.h" nogil:
    cdef struct iovec:
        void *iov_base
        size_t iov_len
    ssize_t preadv2(int fd, const iovec *iov, int count, off_t offset, int flags)
    enum:
        RWF_NOWAIT

cdef extern from "unistd.h" nogil:
    int usleep(unsigned int us)


cdef class Stats:
    """Counters of one queue: what it moved, what it dropped and why. They never go back, not even on a reconnect."""

    def as_dict(self) -> dict:
        """All counters by name."""
        return {
            "packets": self.n.packets,
            "bytes": self.n.bytes,
            "bursts": self.n.bursts,
            "bad_descriptors": self.n.bad_descriptors,
            "dropped_bad": self.n.dropped_bad,
            "dropped_oversize": self.n.dropped_oversize,
            "dropped_left": self.n.dropped_left,
            "ring_full": self.n.ring_full,
            "interrupts_sent": self.n.interrupts_sent,
            "interrupts_received": self.n.interrupts_received,
        }


@cython.no_gc_clear         # a burst that dies later gives its slots back through the mapped memory
cdef class Ring:
    """What receiving and sending rings share: the place in memory, the indices, the event fd.

    Args:
        regions: The connection's `Region` objects, by region index.
        region: Index of the region that the ring lies in.
        offset: Where in that region the ring's header begins, in bytes.
        log2_size: Slots as a power of two, 0 to 14.
        slave: Which side this is. The direction follows from the class: a slave receives on M2S, a master on S2M.
        event_fd: The ring's event fd, -1 for none. The ring owns it from now on and closes it.
        buffers: Slave only: region index, bytes of a buffer, and the offset of each slot's buffer.
        cache_line: Bytes between the two indices in the header, 64 or 128.
        stats: Counters to go on with; default new ones.

    Attributes:
        regions: The connection's regions, by region index.
        region_index: Index of the region that the ring lies in.
        offset: Where in that region the header begins, in bytes.
        size: Number of slots.
        slave: Whether this side is the slave.
        event_fd: The ring's event fd, -1 for none.
        stats: The counters.

    Raises:
        ValueError: Anything would lie outside its region, so that no loop has to check it again.
    """

    def __cinit__(self):
        self.event_fd = -1
        self.born = fork_count()

    def __init__(self, regions, uint32_t region, uint64_t offset, uint32_t log2_size, *, bint slave,
                 event_fd=-1, buffers=None, uint32_t cache_line=64, Stats stats=None):
        cdef int number = event_fd
        if self.begun:
            raise RuntimeError("a ring is set up only once")
        self.begun = True           # before code of the arguments can run
        self.regions = tuple(regions)
        self.views = views_of(self.regions)
        self.stats = stats if stats is not None else Stats()
        self.slave = slave
        self.region_index = region
        self.offset = offset
        self.set_spans()
        self.set_header(region, offset, log2_size, cache_line)
        if slave:
            self.set_slots(buffers)
        self.prepare()
        self.event_fd = number
        if isinstance(event_fd, Descriptor):    # in one step with the line before, as seen from Python
            event_fd.owner.release()
        self.complete = True

    def __dealloc__(self):
        free(self.spans)
        free(self.slots)
        if self.event_fd >= 0:
            close(self.event_fd)

    def __reduce__(self):
        raise TypeError("a ring is memory shared with a peer and cannot be pickled or copied")

    cdef prepare(self):
        """For the two kinds: the rest of setting up."""

    cdef set_spans(self):
        cdef Region region
        self.span_count = len(self.regions)
        self.spans = <Span *>calloc(max(self.span_count, 1), sizeof(Span))
        if self.spans == NULL:
            raise MemoryError()
        for i, r in enumerate(self.regions):
            region = r
            if region is None or not region.writable:
                raise ValueError(f"regions[{i}]: got {r!r}, allowed: writable regions")
            self.spans[<uint32_t>i].base = region.base
            self.spans[<uint32_t>i].size = region.size

    cdef set_header(self, uint32_t region, uint64_t offset, uint32_t log2_size, uint32_t cache_line):
        if region >= self.span_count:
            raise ValueError(f"region: got {region}, allowed: less than {self.span_count}")
        if log2_size > 14:
            raise ValueError(f"log2_size: got {log2_size}, allowed: 0 to 14")
        if cache_line != 64 and cache_line != 128:
            raise ValueError(f"cache_line: got {cache_line}, allowed: 64 or 128")
        self.size = 1 << log2_size
        self.wrap = <uint16_t>(self.size - 1)
        cdef uint64_t need = 2 * cache_line + 16 * <uint64_t>self.size
        cdef uint64_t size = self.spans[region].size
        if (need > size or offset > size - need or offset % 16
                or <size_t>self.spans[region].base % 16):
            raise ValueError(f"offset: got {offset} for a ring of {need} bytes, allowed: a multiple of 16 "
                             f"inside the {size} bytes of region {region}")
        self.header = self.spans[region].base + offset
        self.mask = <uint16_t *>(self.header + 4)
        self.desc = <uint64_t *>(self.header + 2 * cache_line)
        self.own = <uint16_t *>(self.header + (6 if self.slave else cache_line))
        self.peer = <uint16_t *>(self.header + (cache_line if self.slave else 6))

    cdef set_slots(self, buffers):
        if buffers is None:
            raise ValueError("buffers: got None, allowed: (region, bytes of a buffer, offsets)")
        cdef uint32_t region = buffers[0]
        cdef uint64_t room = buffers[1]
        offsets = buffers[2]
        if region >= self.span_count:
            raise ValueError(f"buffers: got region {region}, allowed: less than {self.span_count}")
        if not 0 < room <= MAX_PACKET or room > self.spans[region].size:
            raise ValueError(f"buffers: got {room} bytes each, allowed: 1 to {MAX_PACKET}, inside the region")
        if len(offsets) != self.size:
            raise ValueError(f"buffers: got {len(offsets)} offsets, allowed: one a slot ({self.size})")
        self.slots = <Slot *>calloc(self.size, sizeof(Slot))
        if self.slots == NULL:
            raise MemoryError()
        cdef uint64_t start
        cdef uint32_t i
        for i in range(self.size):
            start = offsets[i]
            if start > self.spans[region].size - room or start + room > <uint64_t>1 << 32:
                raise ValueError(f"buffers: got offset {start}, allowed: inside region {region}, "
                                 "ending below 2**32")
            self.slots[i].start = <uint32_t>start
            self.slots[i].room = <uint32_t>room
            self.slots[i].region = <uint16_t>region

    # -- what the shell asks for

    cdef int check_complete(self) except -1:
        if not self.complete:
            raise RuntimeError("this ring was never set up")
        return 0

    @property
    def head(self) -> int:
        """The slave's index as it stands in memory, 0 to 65535."""
        self.check_complete()
        return memif_load16(self.own if self.slave else self.peer)

    @property
    def tail(self) -> int:
        """The master's index as it stands in memory, 0 to 65535."""
        self.check_complete()
        return memif_load16(self.peer if self.slave else self.own)

    @property
    def flags(self) -> int:
        """The ring's flags word as it stands in memory."""
        self.check_complete()
        return memif_load16(self.mask)

    @property
    def cookie(self) -> int:
        """The magic number as it stands in memory; 0x03E31F20 in a valid ring."""
        self.check_complete()
        return (<uint32_t *>self.header)[0]

    @property
    def buffer_size(self) -> int:
        """Bytes of one buffer: as slave its own; as master the capacity that the next descriptor to be used offers."""
        self.check_complete()
        if self.slave:
            return self.slots[0].room
        return <uint32_t>(memif_load64(self.desc + 2 * (self.cursor & self.wrap)) >> 32)

    def initialise(self) -> None:
        """Write the header and all descriptors: slave only, before INIT. Indices are 0, interrupts allowed.

        Raises:
            RuntimeError: On a master, or in a forked child.
        """
        cdef uint32_t i
        self.check_complete()
        if not self.slave:
            raise RuntimeError("only the slave writes a ring's header")
        if self.born != fork_count():
            raise RuntimeError("this ring belongs to the parent process")
        (<uint32_t *>self.header)[0] = COOKIE
        memif_store16(self.mask, 0)
        memif_store16(self.own, 0)
        memif_store16(self.peer, 0)
        for i in range(self.size):
            memif_store64(self.desc + 2 * i, (<uint64_t>self.slots[i].region << 16)
                          | (<uint64_t>self.slots[i].room << 32))
            memif_store64(self.desc + 2 * i + 1, self.slots[i].start)

    def kill(self) -> None:
        """Mark the connection as gone: no operation starts any more.

        Note:
            Threads that wait are woken by the owner, through the control descriptor, as a write to the event fd could
            block. A thread that is blocked in such a write is freed by emptying the event fd. A hostile peer can fill
            it again, but not before the thread has woken up each time; after a second this gives up, and only a signal
            helps.
        """
        cdef int tries = 0
        memif_flag_set(&self.dead, 1)
        if self.born != fork_count():
            return                                  # the event fd is the parent's, too
        memif_fence()                               # with the one in signal: it sees dead, or this sees signalling
        self.drain()
        while memif_flag_get(&self.signalling) and tries < 10_000:
            with nogil:
                self.drain()
                usleep(50)
            tries += 1

    @property
    def alive(self) -> bool:
        """Whether the connection still exists."""
        return self.complete and not memif_flag_get(&self.dead)

    cdef bint wanted(self) noexcept nogil:
        """After publishing: does the consumer want an interrupt?"""
        memif_fence()
        return not memif_load16(self.mask) & MASK_INT and self.event_fd >= 0

    cdef void signal(self) noexcept nogil:
        """Interrupt the consumer. EAGAIN (the counter is full) is as good as a success.

        Never with the interpreter lock held: a hostile peer shares the descriptor's flags, can make it
        blocking and fill it. Then this thread sleeps in here, and a signal or the end of the connection (`kill`)
        frees it. Only then is there EINTR.
        """
        cdef uint64_t one = 1
        memif_flag_set(&self.signalling, 1)
        memif_fence()
        if not memif_flag_get(&self.dead):
            if write(self.event_fd, &one, sizeof(one)) < 0 and errno == EINTR:
                self.trouble = BLOCKED
            self.stats.n.interrupts_sent += 1
        memif_flag_set(&self.signalling, 0)

    cdef void wake_self(self) noexcept nogil:
        """Make the event fd readable, unless it is: packets wait whose interrupts were taken, or never sent. Without
        the interpreter lock, for the reason that `signal` has."""
        cdef uint64_t one = 1
        if self.event_fd < 0 or self.born != fork_count():
            return
        memif_flag_set(&self.signalling, 1)         # see signal
        memif_fence()
        if not memif_flag_get(&self.dead) and not readable(self.event_fd):
            write(self.event_fd, &one, sizeof(one))
        memif_flag_set(&self.signalling, 0)

    cdef void set_mask(self, bint masked) noexcept nogil:
        if self.born != fork_count():
            return                                  # the flags are the parent's
        memif_store16(self.mask, MASK_INT if masked else 0)
        memif_fence()

    cdef void drain(self) noexcept nogil:
        """Take the interrupts that have come, and never block: the peer shares the descriptor's flags and can
        make it blocking, so a plain read could. RWF_NOWAIT is for this read alone, and event fds know it from
        Linux 5.8 on. Older kernels say EOPNOTSUPP; there the flag is put right and the fd looked at before a
        plain read, and a peer that changes both in between makes this thread wait for its next interrupt."""
        cdef uint64_t count = 0
        cdef iovec vector
        cdef ssize_t got
        if self.event_fd < 0 or self.born != fork_count():
            return
        vector.iov_base = &count
        vector.iov_len = sizeof(count)
        got = preadv2(self.event_fd, &vector, 1, -1, RWF_NOWAIT)
        if got < 0 and (errno == EOPNOTSUPP or errno == ENOSYS):
            fcntl(self.event_fd, F_SETFL, fcntl(self.event_fd, F_GETFL) | O_NONBLOCK)
            if readable(self.event_fd):
                got = read(self.event_fd, &count, sizeof(count))
        if got == sizeof(count):
            self.stats.n.interrupts_received += 1


cdef tuple views_of(tuple regions):
    cdef list views = []        # no comprehension: Cython's gives its list back twice when memory is out
    for region in regions:
        views.append(memoryview(region))
    return tuple(views)
