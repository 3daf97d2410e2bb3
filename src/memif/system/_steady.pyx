# cython: language_level=3, auto_pickle=False, autotestdict=False
"""Steps that no exception can split, and descriptors that have an owner from their first moment.

A signal handler may raise between any two Python instructions, most often just after a system call. What such a call
gave would be lost there, a counter stay one too high, a lock be held for ever. Compiled code has no such points: here
a descriptor is wrapped into its owner, and a lock taken together with the promise to give it back.

Descriptors from a peer may be of any kind, and closing some kinds hangs (`closer.h` has the details). Everything that
a peer sent is closed by `discard`, or by its owner, which does the same.
"""
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport ECONNABORTED, EINTR, errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

import _socket

cdef extern from "Python.h":
    object PyErr_SetFromErrno(object kind)

cdef extern from "closer.h" nogil:
    void memif_discard(int fd)
    void memif_close_elsewhere(int fd)
    void memif_closer_setup()

cdef extern from "naming.h" nogil:
    int memif_bind(int sock, const char *path, size_t length, unsigned int mode)
    int memif_bound_file(int sock)
    int memif_rename_new(int folder, const char *before, const char *after)

cdef extern from "unistd.h" nogil:
    int c_close "close" (int fd)
    ssize_t c_write "write" (int fd, const void *data, size_t size)

cdef extern from "fcntl.h" nogil:
    int c_fcntl "fcntl" (int fd, int command, ...)
    enum:
        F_DUPFD_CLOEXEC

cdef extern from "signal.h" nogil:
    ctypedef struct sigset_t:
        pass
    int sigemptyset(sigset_t *set)

cdef extern from "sys/epoll.h" nogil:
    ctypedef union epoll_data_t:
        int fd
    cdef struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_pwait(int epfd, epoll_event *events, int most, int timeout, const sigset_t *mask)

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE 1
    #endif
    #include <sys/eventfd.h>
    #include <sys/mman.h>
    #include <sys/socket.h>
    #include <sys/syscall.h>
    #include <sys/timerfd.h>
    #include <sys/uio.h>
    #include <unistd.h>
    static int memif_memfd(const char *name, unsigned flags) { return (int)syscall(SYS_memfd_create, name, flags); }
    static int memif_accept(int fd)
    {
        return (int)syscall(SYS_accept4, fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    }
    static int memif_timer_set(int fd, long long ns)
    {
        struct itimerspec spec = {{0, 0}, {ns / 1000000000, ns % 1000000000}};
        return timerfd_settime(fd, TFD_TIMER_ABSTIME, &spec, NULL);
    }
    """
    int memif_memfd(const char *name, unsigned int flags) nogil
    int memif_accept(int fd) nogil
    int memif_timer_set(int fd, long long ns) nogil
    int c_eventfd "eventfd" (unsigned int value, int flags) nogil
    int c_timerfd "timerfd_create" (int clock, int flags) nogil
    enum:
        EFD_NONBLOCK
        EFD_CLOEXEC
        TFD_NONBLOCK
        TFD_CLOEXEC
        CLOCK_MONOTONIC
        MSG_DONTWAIT
        MSG_CMSG_CLOEXEC
        MSG_TRUNC
        MSG_CTRUNC
        SOL_SOCKET
        SCM_RIGHTS
        AF_UNIX
        SOCK_SEQPACKET
    struct iovec:
        void *iov_base
        size_t iov_len
    struct msghdr:
        void *msg_name
        unsigned int msg_namelen
        iovec *msg_iov
        size_t msg_iovlen
        void *msg_control
        size_t msg_controllen
        int msg_flags
    struct cmsghdr:
        size_t cmsg_len
        int cmsg_level
        int cmsg_type
    cmsghdr *CMSG_FIRSTHDR(msghdr *)
    cmsghdr *CMSG_NXTHDR(msghdr *, cmsghdr *)
    unsigned char *CMSG_DATA(cmsghdr *)
    size_t CMSG_LEN(size_t)
    ssize_t recvmsg(int fd, msghdr *message, int flags) nogil

cdef enum:
    MOST_FDS = 253          # the kernel's SCM_MAX_FD: with room for less, it closes the rest itself, and waits for it
    MOST_BYTES = 4096

cdef object _Plain = _socket.socket     # the class without Python code in its constructor


cdef class Owner:
    """Keeps one descriptor: closes it with `close`, or when nobody knows it any more.

    Attributes:
        fd: Its number, -1 once it is closed or released.
    """
    cdef readonly int fd

    def __cinit__(self):
        self.fd = -1

    def __dealloc__(self):
        if self.fd >= 0:
            memif_discard(self.fd)

    def close(self):
        """Close it now. A second call does nothing."""
        cdef int fd = self.fd
        self.fd = -1
        if fd >= 0:
            memif_discard(fd)

    def release(self):
        """Return its number; somebody else owns it from here on."""
        cdef int fd = self.fd
        self.fd = -1
        return fd

    def __reduce__(self):
        raise TypeError("a descriptor has one owner and cannot be pickled or copied")


class Descriptor(int):
    """The number of a descriptor, which is closed with the last reference to this object, or by `close`."""

    owner: Owner

    def close(self) -> None:
        """Close it now. A second call does nothing."""
        self.owner.close()


cdef object own(int fd):
    """A Descriptor for `fd`, moved out of the way of the standard ones; closed when there is no memory for it."""
    cdef Owner owner
    cdef int moved
    try:
        owner = Owner.__new__(Owner)
    except BaseException:
        memif_discard(fd)
        raise
    if fd <= 2:
        moved = c_fcntl(fd, F_DUPFD_CLOEXEC, 3)
        memif_discard(fd)
        if moved < 0:
            PyErr_SetFromErrno(OSError)
        fd = moved
    owner.fd = fd
    number = Descriptor(fd)
    number.owner = owner
    return number


def owned(int fd):
    """Return a `Descriptor` for `fd`, never 0, 1 or 2: those are moved. Raises OSError when no other is free."""
    return own(fd)


def discard(fd):
    """Close a descriptor of whatever kind, a `Descriptor` or a number, without being held by one that hangs."""
    cdef int number
    if isinstance(fd, Descriptor):
        fd.owner.close()
        return
    number = fd
    if number >= 0:
        with nogil:
            memif_discard(number)


def close_elsewhere(int fd):
    """Have a descriptor closed by a thread of its own."""
    with nogil:
        memif_close_elsewhere(fd)


def eventfd():
    """Return a new event fd, non-blocking and close-on-exec. Raises OSError without a free descriptor."""
    cdef int fd = c_eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
    if fd < 0:
        PyErr_SetFromErrno(OSError)
    return own(fd)


def notify(event):
    """Add one to an event fd (a `Descriptor`), unless it is closed. No other thread and no signal handler, which could
    close it, comes between the look and the write."""
    cdef Owner owner = event.owner
    cdef uint64_t one = 1
    if owner.fd >= 0:
        c_write(owner.fd, &one, sizeof(one))    # when it is full, it is readable as well


def memfd(bytes name, unsigned int flags):
    """Return new memory, as os.memfd_create makes it. Raises OSError without a free descriptor."""
    cdef int fd = memif_memfd(name, flags)
    if fd < 0:
        PyErr_SetFromErrno(OSError)
    return own(fd)


def timerfd():
    """Return a new timer on the clock of `time.monotonic`, non-blocking and close-on-exec. Raises OSError."""
    cdef int fd = c_timerfd(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)
    if fd < 0:
        PyErr_SetFromErrno(OSError)
    return own(fd)


def timer_set(int fd, long long nanoseconds):
    """Make a timer readable at that time; 0: never."""
    if memif_timer_set(fd, nanoseconds):
        PyErr_SetFromErrno(OSError)


def bind(int sock, bytes path, unsigned int mode):
    """Bind a UNIX socket to ``path``; its file has ``mode`` from its first moment, whatever the umask. Raises what
    bind does."""
    cdef const char *name = path
    cdef size_t length = len(path)
    cdef int failed
    with nogil:
        failed = memif_bind(sock, name, length, mode)
    if failed:
        PyErr_SetFromErrno(OSError)


def bound_file(int sock):
    """Open, with O_PATH, the file that a UNIX socket was bound to, whatever its name leads to by now. Raises OSError,
    also without CAP_NET_ADMIN."""
    cdef int fd = memif_bound_file(sock)
    if fd < 0:
        PyErr_SetFromErrno(OSError)
    return own(fd)


def rename_new(int folder, bytes before, bytes after):
    """Rename within a directory; FileExistsError if there is such a file, OSError if the file system cannot do it."""
    if memif_rename_new(folder, before, after):
        PyErr_SetFromErrno(OSError)


def accept(int listener):
    """Return the next client's socket, non-blocking and close-on-exec. Raises what ``accept`` does."""
    cdef int fd = memif_accept(listener)
    while fd < 0 and (errno == EINTR or errno == ECONNABORTED):
        fd = memif_accept(listener)
    if fd < 0:
        PyErr_SetFromErrno(OSError)
    try:
        return _Plain(AF_UNIX, SOCK_SEQPACKET, 0, fd)
    except BaseException:
        c_close(fd)
        raise


def receive(int sock, int size):
    """Receive one datagram, with room for as many descriptors as one message can have.

    Args:
        sock: The socket.
        size: The most bytes to return.

    Returns:
        The bytes; the descriptors, which are close-on-exec, above 2 and owned; whether any of the two was cut off; and
        whether there was a message at all, which is False at the end of the connection (needs SO_PASSCRED).

    Raises:
        BlockingIOError: No message is there.
        OSError: Receiving failed.
    """
    cdef uint8_t data[MOST_BYTES]
    cdef int64_t control[160]
    cdef int fds[MOST_FDS]
    cdef int count = 0, i, fd
    cdef ssize_t got
    cdef iovec vector
    cdef msghdr message
    if not 0 <= size <= MOST_BYTES:
        raise ValueError(f"size: got {size}, allowed: 0 to {MOST_BYTES}")
    memset(&message, 0, sizeof(message))
    vector.iov_base, vector.iov_len = data, size
    message.msg_iov, message.msg_iovlen = &vector, 1
    message.msg_control, message.msg_controllen = control, sizeof(control)
    with nogil:
        got = recvmsg(sock, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC)
    if got < 0:
        PyErr_SetFromErrno(OSError)
    some = message.msg_controllen != 0 or got > 0
    cut = message.msg_flags & (MSG_TRUNC | MSG_CTRUNC) != 0
    count = rights(&message, fds)
    found = None
    try:
        found = []
        for i in range(count):
            fd, fds[i] = fds[i], -1
            try:
                found.append(own(fd))
            except OSError:
                cut = True
        return PyBytes_FromStringAndSize(<char *>data, got), found, cut, some
    finally:
        for i in range(count):
            if fds[i] >= 0:
                memif_discard(fds[i])


cdef int rights(msghdr *message, int *fds) noexcept:
    """Copy the descriptors out of the control buffer. -> how many"""
    cdef int count = 0, n
    cdef cmsghdr *one = CMSG_FIRSTHDR(message)
    while one != NULL:
        if one.cmsg_level == SOL_SOCKET and one.cmsg_type == SCM_RIGHTS:
            n = min(<int>((one.cmsg_len - CMSG_LEN(0)) // sizeof(int)), MOST_FDS - count)
            memcpy(fds + count, CMSG_DATA(one), n * sizeof(int))
            count += n
        one = CMSG_NXTHDR(message, one)
    return count


cdef class Count:
    """How many are inside of ``with count:``.

    Attributes:
        inside: The number.
    """
    cdef readonly int inside

    def __enter__(self):
        self.inside += 1
        return self

    def __exit__(self, *_):
        self.inside -= 1

    def __bool__(self):
        return self.inside > 0


cdef class Guard:
    """A reentrant lock which cannot be taken without being given back.

    Attributes:
        depth: How often the thread that has it has taken it.
    """
    cdef object lock
    cdef readonly int depth     # how often the thread that has it has taken it

    def __init__(self, lock):
        self.lock = lock

    cdef bint give_back(self) except -1:
        self.depth -= 1
        cdef bint last = not self.depth
        self.lock.release()
        return last

    def run(self, work, argument, *, bint blocking):
        """Return ``work(argument)``, done with the lock; None if another thread has it and `blocking` is false."""
        if not self.lock.acquire(blocking):
            return None
        self.depth += 1
        try:
            return work(argument)
        finally:
            self.give_back()

    def hold(self, leave, after):
        """Return a context that has the lock. At its end comes ``leave()``, and ``after()`` once the lock is free."""
        return Hold(self, leave, after)


cdef class Hold:
    """What `Guard.hold` gives."""
    cdef Guard guard
    cdef object leave, after

    def __init__(self, Guard guard not None, leave, after):
        self.guard, self.leave, self.after = guard, leave, after

    def __enter__(self):
        if self.guard is None:
            raise RuntimeError("made by Guard.hold only")
        self.guard.lock.acquire()
        self.guard.depth += 1

    def __exit__(self, *_):
        cdef bint last = False
        try:
            self.leave()
        finally:
            last = self.guard.give_back()
        if last:
            self.after()


cdef enum:
    MOST_EVENTS = 64


def wait_unblocked(int epfd, int timeout) -> list[int]:
    """Wait for events on an epoll descriptor as a C program does: with no signal blocked, and ended by a signal.

    `select.epoll.poll` continues after a signal whose handler returned (PEP 475), and leaves blocked signals blocked.

    Args:
        epfd: The epoll descriptor.
        timeout: Milliseconds to wait; -1 waits for ever.

    Returns:
        The descriptors that are ready, 64 at most.

    Raises:
        InterruptedError: A signal handler has returned. An exception of a handler is raised as it is.
        OSError: epoll failed.
    """
    cdef epoll_event events[MOST_EVENTS]
    cdef sigset_t mask
    cdef int n, i, reason
    sigemptyset(&mask)
    PyErr_CheckSignals()
    with nogil:
        n = epoll_pwait(epfd, events, MOST_EVENTS, timeout, &mask)
        reason = errno
    if n < 0 and reason == EINTR:
        PyErr_CheckSignals()
    if n < 0:
        raise OSError(reason, "epoll_pwait: interrupted by a signal" if reason == EINTR else "epoll_pwait")
    ready = []
    for i in range(n):
        ready.append(events[i].data.fd)
    return ready


memif_closer_setup()
