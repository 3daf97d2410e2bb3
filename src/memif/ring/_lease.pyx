# cython: language_level=3, boundscheck=False, wraparound=False, auto_pickle=False, autotestdict=False
"""Lease: what the views of a burst's packets hold on to.

A view shows its packet until the burst is released. A burst that nobody released must therefore live for as
long as any of its views (memoryviews, numpy arrays over them), but a view cannot hold the burst itself, which
holds views. So both hold the lease: when the burst goes without a release it leaves its slots to the lease,
and they go back with the last view. A lease is made for the first view of a burst; who asks for none pays
nothing.
"""
cimport cython
from cpython.buffer cimport (PyBUF_C_CONTIGUOUS, PyBUF_WRITABLE, PyBuffer_FillInfo, PyBuffer_Release,
                             PyObject_GetBuffer)
from libc.stdint cimport uint32_t

from memif.ring._ring cimport Ring
from memif.ring._txring cimport TxRing


@cython.final
@cython.no_gc               # no part of a cycle
cdef class Lease:
    """Exports one region of the burst's connection, of which each view is a slice. Made by bursts."""

    def __dealloc__(self):
        if self.owner:
            end_loan(self.ring, <TxRing>self.ring if isinstance(self.ring, TxRing) else None, self.run)

    def __getbuffer__(self, Py_buffer *view, int flags):
        if self.ring is None:
            raise BufferError("a lease made by hand has no memory")
        PyBuffer_FillInfo(view, self, self.ring.spans[self.region].base, self.ring.spans[self.region].size, False,
                          flags)

    def __reduce__(self):
        raise TypeError("a lease is memory shared with a peer and cannot be pickled or copied")


cdef Lease new_lease(Ring ring, uint32_t region, Lease first):
    cdef Lease lease = Lease.__new__(Lease)
    lease.ring = ring
    lease.region = region
    lease.first = first
    return lease


@cython.final
@cython.no_gc
cdef class Window:
    """Debug mode: the exporter of one packet, which knows when its view is gone."""

    def __getbuffer__(self, Py_buffer *view, int flags):
        cdef Py_buffer inner
        if self.lease is None:
            raise BufferError("a window made by hand has no memory")
        PyObject_GetBuffer(self.memory, &inner, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE)
        try:
            PyBuffer_FillInfo(view, self, inner.buf, inner.len, False, flags)
            self.lease.views += 1
        finally:
            PyBuffer_Release(&inner)                # the memory stays: self.memory holds it

    def __releasebuffer__(self, Py_buffer *view):
        self.lease.views -= 1

    def __reduce__(self):
        raise TypeError("a window is memory shared with a peer and cannot be pickled or copied")


cdef object window(Lease lease, object memory):
    """`memory`, a view of one packet, as a view that is counted while it lives."""
    cdef Window self = Window.__new__(Window)
    self.lease = lease
    self.memory = memory
    return memoryview(self)
