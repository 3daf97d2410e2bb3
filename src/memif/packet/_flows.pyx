# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: auto_pickle=False, autotestdict=False
"""Loops of the flow hashes."""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

import numpy

from memif.packet._matrix cimport TCP, UDP, Column, LayerColumns, Packet, Rows, column, load

cdef object empty = numpy.empty
cdef object UINT32 = numpy.dtype(numpy.uint32)


cdef inline uint64_t mix(uint64_t x) noexcept nogil:
    """Spread the bits (the finalizer of SplitMix64)."""
    x += <uint64_t>0x9E3779B97F4A7C15
    x = (x ^ (x >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    x = (x ^ (x >> 27)) * <uint64_t>0x94D049BB133111EB
    return x ^ (x >> 31)


cdef inline bint has_ports(const Packet *p) noexcept nogil:
    """The fragments of a packet must have one hash, so none of them counts its ports."""
    return (p.transport == TCP or p.transport == UDP) and not p.fragment


cdef inline uint64_t number(const uint8_t *data, int n) noexcept nogil:
    """Up to eight bytes as a number, the same on every machine."""
    cdef uint64_t value = 0
    cdef int k
    for k in range(n):
        value = value << 8 | data[k]
    return value


cdef inline uint64_t end_of(const uint8_t *address, int size, uint64_t port) noexcept nogil:
    """One end of a flow."""
    if size == 4:
        return mix(number(address, 4) << 16 | port)
    return mix(number(address, 8) ^ mix(number(address + 8, 8) ^ mix(port)))


cdef uint32_t symmetric(const Packet *p) noexcept nogil:
    cdef int size = 4 if p.version == 4 else 16
    cdef const uint8_t *address
    cdef uint64_t sport = 0, dport = 0, protocol = 0
    if p.version == 0:
        return 0
    address = p.row + p.l3 + (12 if size == 4 else 8)
    if not p.fragment:
        protocol = p.protocol
    if has_ports(p):
        sport = number(p.row + p.l4, 2)
        dport = number(p.row + p.l4 + 2, 2)
    return <uint32_t>(mix(end_of(address, size, sport) + end_of(address + size, size, dport) + protocol) >> 32)


cdef uint32_t toeplitz(const Packet *p, const uint32_t *table) noexcept nogil:
    cdef int size = 8 if p.version == 4 else 32, k
    cdef const uint8_t *data
    cdef uint32_t value = 0
    if p.version == 0:
        return 0
    data = p.row + p.l3 + (12 if size == 8 else 8)
    for k in range(size):
        value ^= table[256 * k + data[k]]
    if has_ports(p):
        data = p.row + p.l4
        for k in range(4):
            value ^= table[256 * (size + k) + data[k]]
    return value


cdef void each(Rows rows, LayerColumns columns, const uint32_t *table, uint32_t *out) noexcept nogil:
    cdef int64_t i
    cdef Packet p
    for i in range(rows.count):
        load(&columns.fields, i, rows.base + i * rows.stride, rows.width, &p)
        out[i] = symmetric(&p) if table == NULL else toeplitz(&p, table)


def hashes(matrix, layers, table):
    """Return the hash of the flow of each packet.

    Args:
        matrix: uint8, shape (n, width).
        layers: Those of the matrix.
        table: For Toeplitz, the value of each byte at each place of the input, uint32, shape (36 * 256,). None for the
            symmetric hash.

    Returns:
        uint32, shape (n,); 0 for packets that are not valid IP.
    """
    cdef Rows rows = Rows(matrix)
    cdef LayerColumns columns = LayerColumns(layers, rows.count)
    cdef Column values = None if table is None else column("table", table, 4, 36 * 256, False)
    cdef const uint32_t *first = NULL if values is None else <const uint32_t *>values.base
    result = empty(rows.count, UINT32)
    cdef Column out = column("", result, 4, rows.count, True)
    if rows.large:
        with nogil:
            each(rows, columns, first, <uint32_t *>out.base)
    else:
        each(rows, columns, first, <uint32_t *>out.base)
    return result
