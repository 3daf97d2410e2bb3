# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: auto_pickle=False, autotestdict=False
"""Loops that change headers in place, with their checksums updated for what was changed (RFC 1624).

New values come as bytes in the order on the wire: one row for all packets, or one for each.
"""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memmove, memset

import numpy

from memif.packet._matrix cimport (ICMPV6, TCP, UDP, Column, LayerColumns, Packet, Rows, column, final_destination,
                                   fold, item16, item64, load, load16, sum_of)

cdef object empty = numpy.empty
cdef object BOOL = numpy.dtype(numpy.bool_)
cdef object UINT32 = numpy.dtype(numpy.uint32)
cdef object INT64 = numpy.dtype(numpy.int64)

cdef enum Kind:
    MACS
    IPV4_ADDRESSES
    IPV6_ADDRESSES
    PORTS
    HOPS


cdef struct Values:
    const uint8_t *base     # NULL: stays as it is
    Py_ssize_t stride


cdef void update(uint8_t *checksum, uint16_t old, uint16_t new, bint udp) noexcept nogil:
    """Update a checksum after words that add up to `old` have become words that add up to `new`."""
    cdef uint16_t before = item16(<const char *>checksum), after
    after = <uint16_t>~fold(<uint64_t>(<uint16_t>~before) + <uint16_t>~old + new)
    if udp and after == 0:
        after = 0xFFFF                                              # 0 says that there is no checksum
    memcpy(checksum, &after, 2)


cdef bint find_checksum(Packet *p, int64_t *at) noexcept nogil:
    """Where the checksum is that covers the addresses; 0 for none. -> False if there is one out of reach."""
    at[0] = 0
    if not p.starts or not (p.protocol == UDP or p.protocol == TCP or p.protocol == ICMPV6 and p.version == 6):
        return True
    if p.transport == 0:
        return False
    at[0] = p.l4 + (6 if p.transport == UDP else 16 if p.transport == TCP else 2)
    if p.transport == UDP and load16(p.row + at[0]) == 0:
        at[0] = 0
    return True


cdef void put(Packet *p, int64_t at, const uint8_t *value, int size, int64_t first, int64_t second) noexcept nogil:
    """Write a field. `first`, `second`: where checksums are that cover it; 0 for none."""
    cdef uint16_t old = fold(sum_of(p.row + at, size)), new
    memcpy(p.row + at, value, size)
    new = fold(sum_of(p.row + at, size))
    if first:
        update(p.row + first, old, new, False)
    if second:
        update(p.row + second, old, new, p.transport == UDP)


cdef bint step(Packet *p, Kind kind, const uint8_t *src, const uint8_t *dst) noexcept nogil:
    cdef int64_t checksum, at, header = 0
    cdef int size
    cdef uint8_t hops[2]
    if kind == HOPS:
        at = p.l3 + (8 if p.version == 4 else 7)
        if p.version == 0 or p.row[at] <= 1:
            return False
        if p.version == 6:
            p.row[at] -= 1
        else:
            hops[0] = p.row[at] - 1
            hops[1] = p.row[at + 1]
            put(p, at, hops, 2, p.l3 + 10, 0)
        return True
    if kind == PORTS:
        if p.transport != UDP and p.transport != TCP:
            return False
        find_checksum(p, &checksum)
        if src != NULL:
            put(p, p.l4, src, 2, 0, checksum)
        if dst != NULL:
            put(p, p.l4 + 2, dst, 2, 0, checksum)
        return True
    if p.version != (4 if kind == IPV4_ADDRESSES else 6) or not find_checksum(p, &checksum):
        return False
    if p.version == 4:
        size = 4
        at = p.l3 + 12
        header = p.l3 + 10
    else:
        size = 16
        at = p.l3 + 8
    if src != NULL:
        put(p, at, src, size, header, checksum)
    if dst != NULL:
        # Layer 4 covers the final destination, which may be another.
        put(p, at + size, dst, size, header, checksum if final_destination(p) == at + size else 0)
    return True


cdef bint step_macs(Packet *p, bint valid, const uint8_t *src, const uint8_t *dst) noexcept nogil:
    if not valid or p.l3 < 14 or p.width < 14:
        return False
    if src != NULL:
        memcpy(p.row + 6, src, 6)
    if dst != NULL:
        memcpy(p.row, dst, 6)
    return True


cdef void each(Rows rows, LayerColumns columns, Kind kind, const Values *src, const Values *dst, const char *mask,
               Py_ssize_t mask_step, char *out) noexcept nogil:
    cdef int64_t i
    cdef Packet p
    cdef const uint8_t *one
    cdef const uint8_t *other
    for i in range(rows.count):
        out[i] = False
        if mask != NULL and not mask[i * mask_step]:
            continue
        load(&columns.fields, i, rows.base + i * rows.stride, rows.width, &p)
        one = src.base + i * src.stride if src.base != NULL else NULL
        other = dst.base + i * dst.stride if dst.base != NULL else NULL
        if kind == MACS:
            out[i] = step_macs(&p, columns.fields.base[9][i * columns.fields.stride[9]] != 0, one, other)
        else:
            out[i] = step(&p, kind, one, other)


cdef Rows take(value, Rows rows, Values *values):
    """The new values as rows of bytes."""
    cdef Rows taken = None
    values.base = NULL
    values.stride = 0
    if value is not None:
        taken = Rows(value)
        values.base = taken.base
        values.stride = 0 if taken.count == 1 else taken.stride
        if taken.count != 1 and taken.count != rows.count:
            raise ValueError("as many values as rows are needed")
    return taken


cdef object run(matrix, layers, Kind kind, src, dst, mask):
    cdef Rows rows = Rows(matrix, True)
    cdef LayerColumns columns = LayerColumns(layers, rows.count)
    cdef Values one, other
    cdef Rows _held_src = take(src, rows, &one)
    cdef Rows _held_dst = take(dst, rows, &other)
    cdef Column chosen = None if mask is None else column("rows", mask, 1, rows.count, False)
    cdef const char *first = NULL if chosen is None else chosen.base
    cdef Py_ssize_t mask_step = 0 if chosen is None else chosen.stride
    done = empty(rows.count, BOOL)
    cdef Column out = column("", done, 1, rows.count, True)
    if rows.large:
        with nogil:
            each(rows, columns, kind, &one, &other, first, mask_step, out.base)
    else:
        each(rows, columns, kind, &one, &other, first, mask_step, out.base)
    rows.write_back()
    return done


def macs(matrix, layers, src, dst, mask):
    """Write MAC addresses, given as (1 or n, 6), where there is a valid Ethernet frame. -> where it was done."""
    return run(matrix, layers, MACS, src, dst, mask)


def addresses(matrix, layers, src, dst, mask, int version):
    """Write IP addresses of one version, given as (1 or n, 4 or 16). -> where it was done."""
    return run(matrix, layers, IPV4_ADDRESSES if version == 4 else IPV6_ADDRESSES, src, dst, mask)


def ports(matrix, layers, src, dst, mask):
    """Write the ports of TCP and UDP, given as (1 or n, 2). -> where it was done."""
    return run(matrix, layers, PORTS, src, dst, mask)


def hops(matrix, layers, mask):
    """Take one from time to live or hop limit where it is above 1. -> where it was done."""
    return run(matrix, layers, HOPS, None, None, mask)


cdef inline bint is_tag(uint16_t ethertype) noexcept nogil:
    return ethertype == 0x8100 or ethertype == 0x88A8 or ethertype == 0x9100


cdef void push_all(Rows rows, const Values *tags, const char *mask, Py_ssize_t mask_step, const char *lengths,
                   Py_ssize_t length_step, uint32_t *out) noexcept nogil:
    cdef int64_t i, length
    cdef uint8_t *row
    for i in range(rows.count):
        length = item64(lengths + i * length_step)
        out[i] = <uint32_t>length
        if (mask != NULL and not mask[i * mask_step]) or length < 14 or length > rows.width - 4:
            continue
        row = rows.base + i * rows.stride
        memmove(row + 16, row + 12, length - 12)
        memcpy(row + 12, tags.base + i * tags.stride, 4)
        out[i] = <uint32_t>(length + 4)


cdef void pop_all(Rows rows, const char *mask, Py_ssize_t mask_step, const char *lengths, Py_ssize_t length_step,
                  uint32_t *out) noexcept nogil:
    cdef int64_t i, length
    cdef uint8_t *row
    for i in range(rows.count):
        length = item64(lengths + i * length_step)
        out[i] = <uint32_t>length
        if (mask != NULL and not mask[i * mask_step]) or length < 18 or length > rows.width:
            continue
        row = rows.base + i * rows.stride
        if is_tag(load16(row + 12)):
            memmove(row + 12, row + 16, length - 16)
            memset(row + length - 4, 0, 4)
            out[i] = <uint32_t>(length - 4)


def vlan(matrix, lengths, tags, mask):
    """Push tags, given as (1 or n, 4), or, without, pop the outer tag. -> the lengths after that."""
    cdef Rows rows = Rows(matrix, True)
    cdef Column before = column("lengths", lengths.astype(INT64, copy=False), 8, rows.count, False)
    cdef Column chosen = None if mask is None else column("rows", mask, 1, rows.count, False)
    cdef const char *first = NULL if chosen is None else chosen.base
    cdef Py_ssize_t mask_step = 0 if chosen is None else chosen.stride
    cdef Values values
    cdef Rows _held = take(tags, rows, &values)
    after = empty(rows.count, UINT32)
    cdef Column out = column("", after, 4, rows.count, True)
    with nogil:
        if values.base != NULL:
            push_all(rows, &values, first, mask_step, before.base, before.stride, <uint32_t *>out.base)
        else:
            pop_all(rows, first, mask_step, before.base, before.stride, <uint32_t *>out.base)
    rows.write_back()
    return after
