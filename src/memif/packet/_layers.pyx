# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: auto_pickle=False, autotestdict=False
"""Where the layers of each packet begin, found by one loop over the rows."""
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t

import numpy

from memif.packet._matrix cimport ETHERTYPE_IPV4, ETHERTYPE_IPV6, Column, Rows, column, item32, load16

cdef enum:
    ETHERTYPE_ARP = 0x0806
    ETHERTYPE_VLAN = 0x8100
    ETHERTYPE_QINQ = 0x88A8
    ETHERTYPE_QINQ_OLD = 0x9100
    MOST_EXTENSIONS = 8     # bounds the walk over IPv6 extension headers
    HOP_BY_HOP = 0
    ROUTING = 43
    FRAGMENT = 44
    AUTHENTICATION = 51
    DESTINATION = 60
    MOBILITY = 135

cdef object empty = numpy.empty
cdef object INT32 = numpy.dtype(numpy.int32)
cdef object UINT32 = numpy.dtype(numpy.uint32)
cdef object UINT16 = numpy.dtype(numpy.uint16)
cdef object UINT8 = numpy.dtype(numpy.uint8)
cdef object BOOL = numpy.dtype(numpy.bool_)


cdef struct Found:
    int tags
    int32_t l3
    uint16_t ethertype
    int32_t header
    int32_t length
    uint8_t protocol
    bint fragment
    bint options
    bint starts
    bint valid
    int32_t routing


cdef inline uint16_t word(const uint8_t *row, int64_t at, int64_t width) noexcept nogil:
    """A number of 16 bits. Bytes beyond the row are zero."""
    if at + 2 <= width:
        return load16(row + at)
    return row[at] << 8 if at < width else 0


cdef inline uint8_t byte(const uint8_t *row, int64_t at, int64_t width) noexcept nogil:
    return row[at] if at < width else 0


cdef inline bint is_tag(uint16_t ethertype) noexcept nogil:
    return ethertype == ETHERTYPE_VLAN or ethertype == ETHERTYPE_QINQ or ethertype == ETHERTYPE_QINQ_OLD


cdef inline bint is_extension(uint8_t protocol) noexcept nogil:
    return (protocol == HOP_BY_HOP or protocol == ROUTING or protocol == FRAGMENT or protocol == AUTHENTICATION
            or protocol == DESTINATION or protocol == MOBILITY)


cdef inline void find_row(const uint8_t *row, int64_t width, int64_t length, bint ip, Found *f) noexcept nogil:
    cdef int64_t at
    f.tags = f.header = f.length = f.protocol = f.routing = 0
    f.fragment = f.options = f.starts = f.valid = False
    if ip:
        at = byte(row, 0, width) >> 4
        f.ethertype = ETHERTYPE_IPV4 if at == 4 else ETHERTYPE_IPV6 if at == 6 else 0
        at = 0
    else:
        f.ethertype = word(row, 12, width)
        while f.tags < 2 and is_tag(f.ethertype):
            f.tags += 1
            f.ethertype = word(row, 12 + 4 * f.tags, width)
        at = 14 + 4 * f.tags
    f.l3 = <int32_t>at
    if f.ethertype == ETHERTYPE_IPV4:
        ipv4(row, width, at, length - at, f)
    elif f.ethertype == ETHERTYPE_IPV6:
        ipv6(row, width, at, length - at, f)
    elif f.ethertype == ETHERTYPE_ARP:
        f.header = f.length = 28
        # Ethernet, IPv4 and the sizes of their addresses
        f.valid = (length - at >= 28 and at + 28 <= width and load16(row + at) == 1 and load16(row + at + 2) == 0x0800
                   and load16(row + at + 4) == 0x0604)
    else:
        f.length = <int32_t>(length - at)
        f.valid = length >= at and not ip and at <= width


cdef inline void ipv4(const uint8_t *row, int64_t width, int64_t at, int64_t room, Found *f) noexcept nogil:
    """`room`: bytes of the packet from layer 3 on."""
    cdef uint8_t first = byte(row, at, width)
    cdef uint16_t fragment = word(row, at + 6, width) & 0x3FFF      # "more follow" and the offset
    f.length = word(row, at + 2, width)
    f.header = (first & 15) << 2
    f.protocol = byte(row, at + 9, width)
    f.fragment = fragment != 0
    f.starts = fragment & 0x1FFF == 0
    f.options = f.header > 20
    f.valid = (f.length <= room and first >= 0x45 and first < 0x50 and f.length >= f.header
               and at + f.header <= width)


cdef inline void ipv6(const uint8_t *row, int64_t width, int64_t at, int64_t room, Found *f) noexcept nogil:
    f.length = word(row, at + 4, width) + 40
    f.header = 40
    f.protocol = byte(row, at + 6, width)
    f.starts = True
    f.valid = f.length <= room and byte(row, at, width) >> 4 == 6 and at + 40 <= width
    if f.valid and is_extension(f.protocol):
        f.options = True
        skip_extensions(row, at, min(at + f.length, width), f)


cdef void skip_extensions(const uint8_t *row, int64_t offset, int64_t end, Found *f) noexcept nogil:
    """Walk the extension headers, as long as each lies before `end`."""
    cdef int64_t at, size
    cdef int _k
    for _k in range(MOST_EXTENSIONS):
        at = offset + f.header
        if at + 8 > end:                                            # each has at least 8 bytes
            f.valid = False
            return
        size = (row[at + 1] + 1) * 8
        if f.protocol == FRAGMENT:
            size = 8
            # An "atomic" fragment (offset 0, none follow) is a whole packet, RFC 6946.
            if row[at + 2] != 0 or row[at + 3] >= 8:
                f.fragment = True
                f.starts = False
            elif row[at + 3] & 1:
                f.fragment = True
        elif f.protocol == AUTHENTICATION:
            size = (row[at + 1] + 2) * 4
        elif f.protocol == ROUTING and row[at + 3] != 0:
            f.routing = <int32_t>at
        f.valid = at + size <= end
        f.header += <int32_t>size
        f.protocol = row[at]
        if not (f.valid and f.starts and is_extension(f.protocol)):
            return


cdef struct Out:
    int32_t *l3
    uint16_t *ethertype
    int32_t *header
    int32_t *length
    uint8_t *protocol
    uint8_t *fragment
    uint8_t *options
    uint8_t *starts
    uint8_t *valid
    int32_t *routing
    int least               # tags
    int most


cdef void find_all(const uint8_t *base, Py_ssize_t stride, int64_t count, int64_t width, const char *lengths,
                   Py_ssize_t step, bint ip, Out *out) noexcept nogil:
    cdef int64_t i
    cdef Found f
    out.least = 2
    out.most = 0
    for i in range(count):
        find_row(base + i * stride, width, item32(lengths + i * step), ip, &f)
        out.least = min(out.least, f.tags)
        out.most = max(out.most, f.tags)
        out.l3[i] = f.l3
        out.ethertype[i] = f.ethertype
        out.header[i] = f.header
        out.length[i] = f.length
        out.protocol[i] = f.protocol
        out.fragment[i] = f.fragment
        out.options[i] = f.options
        out.starts[i] = f.starts
        out.valid[i] = f.valid
        out.routing[i] = f.routing


def find(matrix, lengths, bint ip):
    """Find the layers of a burst that has been checked.

    Args:
        matrix: uint8, shape (n, width).
        lengths: Integers, shape (n,), taken as int32.
        ip: Whether packets begin with an IP header.

    Returns:
        The fields of `Layers` in their order, all but the width.
    """
    cdef Rows rows = Rows(matrix)
    cdef Py_ssize_t count = rows.count
    kind = lengths.dtype
    if kind is not UINT32 and kind is not INT32:
        lengths = lengths.astype(INT32, copy=False)
    cdef Column sizes = column("lengths", lengths, 4, count, False)
    result = (empty(count, INT32), empty(count, UINT16), empty(count, INT32), empty(count, INT32), empty(count, UINT8),
              empty(count, BOOL), empty(count, BOOL), empty(count, BOOL), empty(count, BOOL), empty(count, INT32))
    cdef Column l3 = column("", result[0], 4, count, True)
    cdef Column ethertype = column("", result[1], 2, count, True)
    cdef Column header = column("", result[2], 4, count, True)
    cdef Column length = column("", result[3], 4, count, True)
    cdef Column protocol = column("", result[4], 1, count, True)
    cdef Column fragment = column("", result[5], 1, count, True)
    cdef Column options = column("", result[6], 1, count, True)
    cdef Column starts = column("", result[7], 1, count, True)
    cdef Column valid = column("", result[8], 1, count, True)
    cdef Column routing = column("", result[9], 4, count, True)
    cdef Out out
    out.l3 = <int32_t *>l3.base
    out.ethertype = <uint16_t *>ethertype.base
    out.header = <int32_t *>header.base
    out.length = <int32_t *>length.base
    out.protocol = <uint8_t *>protocol.base
    out.fragment = <uint8_t *>fragment.base
    out.options = <uint8_t *>options.base
    out.starts = <uint8_t *>starts.base
    out.valid = <uint8_t *>valid.base
    out.routing = <int32_t *>routing.base
    if rows.large:
        with nogil:
            find_all(rows.base, rows.stride, count, rows.width, sizes.base, sizes.stride, ip, &out)
    else:
        find_all(rows.base, rows.stride, count, rows.width, sizes.base, sizes.stride, ip, &out)
    start = 0 if ip else 14
    if count == 0:
        return *result, start
    return *result, start + 4 * out.least if out.least == out.most else None
