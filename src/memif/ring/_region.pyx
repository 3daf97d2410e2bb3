# cython: language_level=3, auto_pickle=False, autotestdict=False
"""Region: mapped shared memory, which stays mapped while anything refers to it.

Every view of packet memory (memoryview, numpy array) is exported by a Region through the buffer protocol, so
the mapping stays in place until the last view is gone, whatever happens to the connection.

After ``fork`` the child must not touch rings that its parent drives. A handler that runs in the child
replaces each mapping made here by private zero pages: a view kept by the child stays readable and can corrupt
nothing. Memory that an allocator mapped is its owner's business and stays; there no call of this package
touches a ring in the child (`Ring.born`), but a view kept by the child still reaches the memory.
"""
cimport cython
from cpython.buffer cimport (PyBUF_C_CONTIGUOUS, PyBUF_WRITABLE, PyBuffer_FillInfo, PyBuffer_Release,
                             PyObject_GetBuffer)
from libc.errno cimport EINVAL, errno
from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport free, malloc
from posix.mman cimport (MAP_ANONYMOUS, MAP_FAILED, MAP_FIXED, MAP_NORESERVE, MAP_PRIVATE, MAP_SHARED, PROT_NONE,
                         PROT_READ, PROT_WRITE, mmap, munmap)
from posix.stat cimport S_ISREG, fstat, struct_stat
from posix.unistd cimport _SC_PAGESIZE, sysconf

cdef enum:
    HUGE = 1 << 21
    GIGANTIC = 1 << 30

cdef extern from "pthread.h" nogil:
    int pthread_atfork(void (*prepare)() noexcept nogil, void (*parent)() noexcept nogil,
                       void (*child)() noexcept nogil)

cdef extern from "Python.h":
    object PyErr_SetFromErrno(object kind)

cdef Mapping *live = NULL       # every mapping made here; changed under the interpreter lock only
cdef unsigned int forks = 0


cdef uint64_t round_up(uint64_t size, uint64_t unit) noexcept nogil:
    return (size + unit - 1) & ~(unit - 1)


cdef bint replace(void *base, uint64_t size, int protection) noexcept nogil:
    return mmap(base, size, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) != MAP_FAILED


cdef bint blank(void *base, uint64_t size) noexcept nogil:
    """Put private zero pages there instead of whatever it is; they take no memory until they are written to.

    Where the system refuses so many writable pages (strict overcommit), zeros that can only be read; in the
    end nothing at all: a view that the child kept then faults, which is better than a write that arrives.
    """
    if replace(base, size, PROT_READ | PROT_WRITE):
        return True
    if errno == EINVAL:                 # not whole huge pages: the caller tries larger ones
        return False
    return replace(base, size, PROT_READ) or replace(base, size, PROT_NONE)


cdef void in_child() noexcept nogil:
    """Runs in the forked child: cut it off from all shared memory of its parent."""
    global forks
    forks += 1
    cdef Mapping *m = live
    while m != NULL:
        # Huge pages can only be replaced whole. Their mapping ends at a multiple of their size, ours is in there.
        if not blank(m.base, m.size) and errno == EINVAL and not blank(m.base, round_up(m.size, HUGE)):
            blank(m.base, round_up(m.size, GIGANTIC))
        m = m.next


cdef Mapping *remember(void *base, uint64_t size) noexcept:
    global live
    cdef Mapping *m = <Mapping *>malloc(sizeof(Mapping))
    if m != NULL:
        m.base = base
        m.size = size
        m.previous = NULL
        m.next = live
        if live != NULL:
            live.previous = m
        live = m
    return m


cdef void forget(Mapping *m) noexcept:
    global live
    if m.previous != NULL:
        m.previous.next = m.next
    else:
        live = m.next
    if m.next != NULL:
        m.next.previous = m.previous
    free(m)


cdef int check_file(int fd, uint64_t size) except -1:
    """A page beyond the end of its file can be mapped, but touching it is SIGBUS. Only regular files have an end."""
    cdef struct_stat info
    if fstat(fd, &info):
        PyErr_SetFromErrno(OSError)
    cdef uint64_t most = round_up(info.st_size, sysconf(_SC_PAGESIZE))     # a file on huge pages has whole ones
    if S_ISREG(info.st_mode) and size > most:
        raise OSError(EINVAL, f"size: got {size}, allowed: at most {most}, as the file has {info.st_size} bytes")
    return 0


@cython.final
@cython.no_gc               # no part of a cycle: what it wraps must not be thought garbage before it lets go
cdef class Region:
    """One region of memif memory, mapped shared.

    Exports its bytes through the buffer protocol: ``memoryview(region)``. The mapping stays in place until the last
    view of it is gone, whatever happens to the connection.

    Args:
        fd: Descriptor of the memory. It is not kept: close it when you like.
        size: Bytes to map, from offset 0 on; 1 to 2**46.
        writable: False maps the memory read-only.

    Attributes:
        size: Bytes of the region.
        writable: Whether it can be written to.

    Raises:
        OSError: The mapping failed, or a regular file is shorter than `size`, its last page taken as a whole.
        ValueError: `size` is outside its range.
    """

    def __cinit__(self):
        self.base = NULL
        self.mapping = NULL
        self.held = False

    def __init__(self, int fd, uint64_t size, bint writable=True):
        if self.base != NULL:
            raise RuntimeError("a Region is set up only once")
        if size == 0 or size > (<uint64_t>1 << 46):
            raise ValueError(f"size: got {size}, allowed: 1 to 2**46")
        check_file(fd, size)
        cdef int protection = PROT_READ | PROT_WRITE if writable else PROT_READ
        cdef void *base = mmap(NULL, size, protection, MAP_SHARED, fd, 0)
        if base == MAP_FAILED:
            PyErr_SetFromErrno(OSError)
        self.mapping = remember(base, size)
        if self.mapping == NULL:
            munmap(base, size)
            raise MemoryError()
        self.base = <uint8_t *>base
        self.size = size
        self.writable = writable

    @staticmethod
    def wrap(buffer) -> Region:
        """Make a region of memory that somebody else has mapped.

        Args:
            buffer: A writable, contiguous object with the buffer protocol, of at least one byte. The region keeps it
                alive.

        Returns:
            The region, over all bytes of `buffer`.

        Raises:
            BufferError: `buffer` is read-only or not contiguous.
            ValueError: `buffer` is empty.
        """
        cdef Region self = Region.__new__(Region)
        PyObject_GetBuffer(buffer, &self.buffer, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE)
        self.held = True
        if self.buffer.len == 0:
            raise ValueError("buffer: got no bytes, allowed: writable memory of at least one byte")
        self.base = <uint8_t *>self.buffer.buf
        self.size = self.buffer.len
        self.writable = True
        return self

    def __dealloc__(self):
        cdef void *base
        cdef uint64_t size
        if self.mapping != NULL:
            base, size = self.mapping.base, self.mapping.size
            forget(self.mapping)        # first: once unmapped, the addresses can be somebody else's
            if munmap(base, size) and errno == EINVAL and munmap(base, round_up(size, HUGE)):
                munmap(base, round_up(size, GIGANTIC))
        if self.held:
            PyBuffer_Release(&self.buffer)

    def __getbuffer__(self, Py_buffer *view, int flags):
        if self.base == NULL:
            raise BufferError("this Region was never set up")
        PyBuffer_FillInfo(view, self, self.base, self.size, not self.writable, flags)

    def __len__(self):
        return self.size

    def __repr__(self):
        return f"<Region {self.size} bytes>"

    def __reduce__(self):
        raise TypeError("a Region is memory shared with a peer and cannot be pickled or copied")


pthread_atfork(NULL, NULL, in_child)
