# cython: language_level=3, auto_pickle=False, autotestdict=False
"""Waiting as the C library waits: a signal ends it.

`select.epoll.poll` continues after a signal whose handler returned (PEP 475). A C program's loop around
`memif_poll_event` relies on the opposite, and on blocked signals being delivered only while it waits.
"""
from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EINTR, errno
from libc.stdint cimport uint32_t

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

cdef enum:
    MOST = 64


def wait(int epfd, int timeout) -> list[int]:
    """Wait for events on an epoll descriptor, with no signal blocked.

    Args:
        epfd: The epoll descriptor.
        timeout: Milliseconds to wait; -1 waits for ever.

    Returns:
        The descriptors that are ready, 64 at most.

    Raises:
        InterruptedError: A signal's handler has returned. What a handler raises comes out as it is.
        OSError: epoll failed.
    """
    cdef epoll_event events[MOST]
    cdef sigset_t mask
    cdef int n, i, reason
    sigemptyset(&mask)
    PyErr_CheckSignals()
    with nogil:
        n = epoll_pwait(epfd, events, MOST, timeout, &mask)
        reason = errno
    if n < 0 and reason == EINTR:
        PyErr_CheckSignals()
    if n < 0:
        raise OSError(reason, "epoll_pwait: interrupted by a signal" if reason == EINTR else "epoll_pwait")
    ready = []
    for i in range(n):
        ready.append(events[i].data.fd)
    return ready
