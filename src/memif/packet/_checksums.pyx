# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: auto_pickle=False, autotestdict=False
"""Loops of the checksums: one sum for each row, written to an array or into the row.

Each loop runs without the interpreter lock where there is much to add.
"""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint64_t

import numpy

from memif.packet._matrix cimport (ICMP, TCP, UDP, UNKNOWN, Column, LayerColumns, Packet, Rows, column,
                                   final_destination, fold, item64, load, load16, store16, sum_of, wire16)

cdef object empty = numpy.empty
cdef object UINT64 = numpy.dtype(numpy.uint64)
cdef object UINT16 = numpy.dtype(numpy.uint16)
cdef object INT64 = numpy.dtype(numpy.int64)
cdef object BOOL = numpy.dtype(numpy.bool_)

cdef enum Act:
    COMPUTE
    VERIFY
    FILL
    KNOW


ctypedef bint (*Step)(Packet *p, Act act, uint16_t *value) noexcept nogil


cdef inline uint64_t sum_but(const uint8_t *data, int64_t n, int64_t at) noexcept nogil:
    """The sum of `n` bytes as if those of the checksum at an even offset were zero."""
    return sum_of(data, at) + sum_of(data + at + 2, n - at - 2)


cdef bint header(Packet *p, Act act, uint16_t *value) noexcept nogil:
    """An IPv4 header, options included. -> whether it was done, or is right."""
    if p.version != 4:
        return False
    if act == VERIFY:
        return fold(sum_of(p.row + p.l3, p.l4 - p.l3)) == 0xFFFF
    value[0] = wire16(~fold(sum_but(p.row + p.l3, p.l4 - p.l3, 10)))
    if act == FILL:
        store16(p.row + p.l3 + 10, value[0])
    return True


cdef inline bint computable(Packet *p, int64_t *length, int64_t *destination) noexcept nogil:
    """Whether there is a layer 4 checksum, with how many bytes it covers, and where the final destination is."""
    if p.transport == 0 or not p.whole or p.fragment:
        return False
    length[0] = p.l4_length
    if p.transport == UDP:
        length[0] = load16(p.row + p.l4 + 4)
        if length[0] < 8 or length[0] > p.l4_length:
            return False
    destination[0] = 0
    if p.transport != ICMP:
        destination[0] = final_destination(p)
    return destination[0] != UNKNOWN


cdef bint transport(Packet *p, Act act, uint16_t *value) noexcept nogil:
    """A layer 4 checksum. -> whether it was done, or is right."""
    cdef int64_t length, destination, at
    cdef int size
    cdef uint64_t total
    if not computable(p, &length, &destination):
        return False
    if act == KNOW:
        return True
    at = p.l4 + (6 if p.transport == UDP else 16 if p.transport == TCP else 2)
    if act == VERIFY and p.transport == UDP and load16(p.row + at) == 0:
        return p.version == 4
    total = sum_of(p.row + p.l4, length) if act == VERIFY else sum_but(p.row + p.l4, length, at - p.l4)
    if p.transport != ICMP:                                         # the others have a pseudo header
        size = 4 if p.version == 4 else 16
        total += sum_of(p.row + p.l3 + (12 if p.version == 4 else 8), size) + sum_of(p.row + destination, size)
        total += wire16(fold(<uint64_t>(p.transport + length)))
    if act == VERIFY:
        return fold(total) == 0xFFFF
    value[0] = wire16(~fold(total))
    if value[0] == 0 and p.transport == UDP:
        value[0] = 0xFFFF
    if act == FILL:
        store16(p.row + at, value[0])
    return True


cdef void each(Rows rows, LayerColumns columns, Step step, Act act, char *out) noexcept nogil:
    cdef int64_t i, count = rows.count, width = rows.width
    cdef Py_ssize_t stride = rows.stride
    cdef uint8_t *base = rows.base
    cdef Packet p
    cdef uint16_t value
    cdef bint done
    for i in range(count):
        load(&columns.fields, i, base + i * stride, width, &p)
        value = 0
        done = step(&p, act, &value)
        if act == COMPUTE:
            (<uint16_t *>out)[i] = value
        elif act != FILL:
            out[i] = done


cdef object run(matrix, layers, Step step, Act act):
    cdef Rows rows = Rows(matrix, act == FILL)
    cdef LayerColumns columns = LayerColumns(layers, rows.count)
    cdef char *out = NULL
    cdef Column made = None
    value = None
    if act != FILL:
        value = empty(rows.count, UINT16 if act == COMPUTE else BOOL)
        made = column("", value, 2 if act == COMPUTE else 1, rows.count, True)
        out = made.base
    if rows.large:
        with nogil:
            each(rows, columns, step, act, out)
    else:
        each(rows, columns, step, act, out)
    if act == FILL:
        rows.write_back()
    return value


def compute_ipv4(matrix, layers):
    """Return the header checksum that each IPv4 packet should have, 0 for other rows."""
    return run(matrix, layers, header, COMPUTE)


def verify_ipv4(matrix, layers):
    """Return where the header checksum of valid IPv4 is right."""
    return run(matrix, layers, header, VERIFY)


def fill_ipv4(matrix, layers):
    """Write the header checksums."""
    run(matrix, layers, header, FILL)


def compute_l4(matrix, layers):
    """Return the layer 4 checksum that each packet should have, 0 where it cannot be computed."""
    return run(matrix, layers, transport, COMPUTE)


def verify_l4(matrix, layers):
    """Return where the layer 4 checksum is right."""
    return run(matrix, layers, transport, VERIFY)


def fill_l4(matrix, layers):
    """Write the layer 4 checksums."""
    run(matrix, layers, transport, FILL)


def computable_l4(matrix, layers):
    """Return where a layer 4 checksum can be computed."""
    return run(matrix, layers, transport, KNOW)


cdef void sum_all(Rows rows, const char *starts, Py_ssize_t start_step, const char *stops, Py_ssize_t stop_step,
                  uint64_t *out) noexcept nogil:
    cdef int64_t i, start, stop
    cdef uint64_t total
    for i in range(rows.count):
        start = item64(starts + i * start_step)
        stop = item64(stops + i * stop_step)
        total = 0
        if 0 <= start < stop <= rows.width:
            total = sum_of(rows.base + i * rows.stride + start, stop - start)
        out[i] = total


def sums(matrix, start, stop):
    """Add the 16-bit words of bytes ``start`` to ``stop`` of each row, as the machine reads them.

    Args:
        matrix: uint8, shape (n, width).
        start: Offset in bytes: one for all rows, or an array of shape (n,).
        stop: Likewise, the first byte after the range.

    Returns:
        Sums to fold, uint64, shape (n,). 0 for a range that is empty or leaves its row.
    """
    cdef Rows rows = Rows(matrix)
    cdef int64_t first = 0, last = 0
    cdef char *starts = <char *>&first
    cdef char *stops = <char *>&last
    cdef Column low = None, high = None
    cdef Py_ssize_t low_step = 0, high_step = 0
    if isinstance(start, int):
        first = start
    else:
        low = column("start", start.astype(INT64, copy=False), 8, rows.count, False)
        starts, low_step = low.base, low.stride
    if isinstance(stop, int):
        last = stop
    else:
        high = column("stop", stop.astype(INT64, copy=False), 8, rows.count, False)
        stops, high_step = high.base, high.stride
    total = empty(rows.count, UINT64)
    cdef Column out = column("", total, 8, rows.count, True)
    if rows.large:
        with nogil:
            sum_all(rows, starts, low_step, stops, high_step, <uint64_t *>out.base)
    else:
        sum_all(rows, starts, low_step, stops, high_step, <uint64_t *>out.base)
    return total
