# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: auto_pickle=False, autotestdict=False
"""The rows of a burst and what `classify` said about them, for the loops of the compiled modules.

The arrays of a `Layers` can be those of another burst, or changed by the user or by another thread. So `load` reads
each value once and checks it against the row: no loop relies on what is in the arrays.
"""
from cpython.buffer cimport PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer

import numpy

from memif.errors import MemifValueError

_NAMES = ("l3_offset", "l3_header_length", "l3_length", "routing_offset", "ethertype", "protocol", "is_fragment",
          "has_options", "starts_l4", "valid")

cdef enum:
    SOURCE_ROUTE = 0        # types of routing headers: RFC 2460, RFC 6275, RFC 8754
    MOBILE = 2
    SEGMENTS = 4
    LOOSE = 131             # types of IPv4 options: RFC 791
    STRICT = 137
    MOST_OPTIONS = 40


cdef class Rows:
    """The rows of a matrix that has been checked to be uint8 with two dimensions."""

    def __cinit__(self, matrix, bint writable=False):       # which runs once, whoever calls what
        self.array = matrix
        strides = matrix.strides
        if strides[1] != 1 and matrix.size:
            self.target = matrix
            self.array = numpy.array(matrix, order="C")
        PyObject_GetBuffer(self.array, &self.view, PyBUF_STRIDES | (PyBUF_WRITABLE if writable else 0))
        self.held = True
        if self.view.ndim != 2:
            raise MemifValueError.argument("matrix", matrix, "two dimensions")
        self.base = <uint8_t *>self.view.buf
        self.stride = self.view.strides[0]
        self.count = self.view.shape[0]
        self.width = self.view.shape[1]
        self.large = self.count * self.width >= MUCH

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.view)

    cdef int write_back(self) except -1:
        """After the rows were changed: bring the changes into a matrix whose rows are not contiguous."""
        if self.target is not None:
            self.target[:] = self.array
        return 0


cdef class Column:
    """A column of numbers, one for each row."""

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.view)


cdef Column column(str name, array, Py_ssize_t size, Py_ssize_t count, bint writable):
    """A column of `count` numbers of `size` bytes. The caller has checked the kind of the numbers."""
    cdef Column made = Column()
    PyObject_GetBuffer(array, &made.view, PyBUF_STRIDES | (PyBUF_WRITABLE if writable else 0))
    made.held = True
    if made.view.ndim != 1 or made.view.itemsize != size or made.view.shape[0] != count:
        raise MemifValueError.argument(name, array, f"{count} numbers of {size} bytes")
    made.base = <char *>made.view.buf
    made.stride = made.view.strides[0]
    return made


cdef class LayerColumns:
    """The arrays of a `Layers` of `count` packets."""

    def __cinit__(self, layers, Py_ssize_t count):
        cdef int k
        cdef Py_ssize_t size
        cdef Py_buffer *view
        for k in range(COLUMNS):
            array = getattr(layers, _NAMES[k])
            view = &self.views[k]
            PyObject_GetBuffer(array, view, PyBUF_STRIDES)
            self.held = k + 1
            size = 4 if k < 4 else 2 if k == 4 else 1
            if view.ndim != 1 or view.itemsize != size or view.shape[0] != count:
                raise MemifValueError.argument("layers", f"{_NAMES[k]} of another kind", "what classify returns")
            self.fields.base[k] = <const char *>view.buf
            self.fields.stride[k] = view.strides[0]
        self.fields.width = layers.width

    def __dealloc__(self):
        cdef int k
        for k in range(self.held):
            PyBuffer_Release(&self.views[k])


cdef inline int64_t wide(const Fields *f, int k, int64_t i) noexcept nogil:
    return item32(f.base[k] + i * f.stride[k])


cdef inline uint8_t narrow(const Fields *f, int k, int64_t i) noexcept nogil:
    return (<const uint8_t *>(f.base[k] + i * f.stride[k]))[0]


cdef void load(const Fields *f, int64_t i, uint8_t *row, int64_t width, Packet *p) noexcept nogil:
    """Packet i, in `row`."""
    cdef int64_t header = wide(f, 1, i), length = wide(f, 2, i), size
    cdef uint16_t ethertype = item16(f.base[4] + i * f.stride[4])
    p.row = row
    p.width = width if width < f.width else f.width
    p.l3 = wide(f, 0, i)
    p.l4 = p.l3 + header
    p.l4_length = length - header
    p.routing = wide(f, 3, i)
    p.protocol = narrow(f, 5, i)
    p.fragment = narrow(f, 6, i)
    p.options = narrow(f, 7, i)
    p.starts = narrow(f, 8, i)
    p.version = 0
    p.transport = 0
    p.whole = False
    if not narrow(f, 9, i) or p.l3 < 0 or p.l4 > p.width or p.l4_length < 0:
        return
    if ethertype == ETHERTYPE_IPV4 and header >= 20:
        p.version = 4
    elif ethertype == ETHERTYPE_IPV6 and header >= 40:
        p.version = 6
    else:
        return
    p.whole = p.l3 + length <= p.width
    size = 20 if p.protocol == TCP else 8
    if p.starts and p.l4_length >= size and p.l4 + size <= p.width:
        if (p.protocol == UDP or p.protocol == TCP or p.protocol == ICMP and p.version == 4
                or p.protocol == ICMPV6 and p.version == 6):
            p.transport = p.protocol


cdef int64_t final_destination(const Packet *p) noexcept nogil:
    """The offset of the final destination of valid IP, which layer 4 checksums cover (RFC 8200, 8.1).

    That is usually the one in the IP header. On the way to it, it is the last address of a routing header or of an IPv4
    source route. UNKNOWN where segments are left in a malformed routing header, or in one of another type than 0, 2
    and 4, and where an IPv4 source route is malformed.
    """
    if p.version == 6:
        return last_segment(p) if p.options and p.routing > 0 else p.l3 + 24
    return last_hop(p) if p.options else p.l3 + 16


cdef int64_t last_segment(const Packet *p) noexcept nogil:
    """The last address of a routing header with segments left."""
    cdef int64_t start = p.routing, pairs, place, odd, kind, left, last_entry
    if start + 8 > p.width:
        return UNKNOWN
    pairs, odd = p.row[start + 1] // 2, p.row[start + 1] & 1        # the length counts half addresses
    kind, left, last_entry = p.row[start + 2], p.row[start + 3], p.row[start + 4]
    if kind == SOURCE_ROUTE and not odd and left <= pairs:
        place = start + 8 + 16 * (pairs - 1)
    elif kind == MOBILE and not odd and pairs == 1 and left == 1:
        place = start + 8
    elif kind == SEGMENTS and last_entry < pairs and left <= last_entry + 1:
        # In reverse order. A reduced list leaves out the first, which is already in the IPv6 header. TLVs may follow.
        place = start + 8
    else:
        return UNKNOWN
    return place if place >= 0 and place + 16 <= p.width else UNKNOWN


cdef int64_t last_hop(const Packet *p) noexcept nogil:
    """The last address of an IPv4 source route that is not used up, else that of the header."""
    cdef int64_t place = p.l3 + 16, at = p.l3 + 20, size, pointer, _k
    cdef uint8_t kind
    for _k in range(MOST_OPTIONS):
        if at + 1 >= p.l4:
            break
        kind = p.row[at]
        if kind == 0:                                               # the end of the list
            break
        size = 1 if kind == 1 else p.row[at + 1]                    # 1: no operation, without a length
        if size < (1 if kind == 1 else 2) or at + size > p.l4:
            break
        if kind == LOOSE or kind == STRICT:
            if size < 3 or size % 4 != 3:
                place = UNKNOWN
            else:
                pointer = p.row[at + 2]
                if pointer <= size:
                    place = at + size - 4 if pointer >= 4 and pointer % 4 == 0 else UNKNOWN
        at += size
    return place
