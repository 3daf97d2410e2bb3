# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: auto_pickle=False, autotestdict=False
"""Loops that copy a header from another place of each row, and back.

The arrays of offsets and row numbers may be changed by another thread meanwhile: each number is read once and checked.
"""
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memcpy

from memif.packet._matrix cimport Column, Rows, column, item64

cdef enum:
    DONE = -1               # every header lies inside its row


cdef struct Cells:
    uint8_t *base           # the rows
    Py_ssize_t stride
    int64_t count
    int64_t most            # the highest offset
    const char *offsets
    Py_ssize_t offsets_step
    const char *numbers     # NULL: all rows
    Py_ssize_t numbers_step
    int64_t size            # bytes of a header


cdef inline uint8_t *cell(const Cells *c, int64_t i) noexcept nogil:
    """Where header i lies; NULL when that is outside."""
    cdef int64_t row = i, offset
    if c.numbers != NULL:
        row = item64(c.numbers + i * c.numbers_step)
        if row < 0:
            row += c.count
    if row < 0 or row >= c.count:
        return NULL
    offset = item64(c.offsets + row * c.offsets_step)
    if offset < 0 or offset > c.most:
        return NULL
    return c.base + row * c.stride + offset


cdef int64_t find(const Cells *c, int64_t wanted) noexcept nogil:
    """The first header that lies outside."""
    cdef int64_t i
    for i in range(wanted):
        if cell(c, i) == NULL:
            return i
    return DONE


cdef int64_t read(const Cells *c, int64_t wanted, uint8_t *records) noexcept nogil:
    cdef int64_t i
    cdef const uint8_t *at
    for i in range(wanted):
        at = cell(c, i)
        if at == NULL:
            return i
        memcpy(records + i * c.size, at, c.size)
    return DONE


cdef int64_t write(const Cells *c, int64_t wanted, const uint8_t *records) noexcept nogil:
    cdef int64_t i = find(c, wanted)
    cdef uint8_t *at
    if i != DONE:
        return i
    for i in range(wanted):
        at = cell(c, i)
        if at != NULL:
            memcpy(at, records + i * c.size, c.size)
    return DONE


def move(matrix, offsets, numbers, records, Py_ssize_t size, bint back):
    """Copy headers out of the rows of a matrix, or back into them.

    Args:
        matrix: uint8, shape (n, width).
        offsets: int64, shape (n,).
        numbers: Of the rows, int64, shape (m,), negative from the end. None: all.
        records: uint8, shape (m * size,), contiguous. Written, or read with `back`.
        size: Bytes of a header, at most the width.
        back: Write the headers into the rows; not one, if one lies outside.

    Returns:
        -1; or the number, of 0 to m - 1, of the first header that lies outside.
    """
    cdef Rows rows = Rows(matrix, back)
    cdef Column starts = column("offsets", offsets, 8, rows.count, False)
    cdef Py_ssize_t wanted = rows.count if numbers is None else len(numbers)
    cdef Column chosen = None if numbers is None else column("rows", numbers, 8, wanted, False)
    cdef Column data = column("records", records, 1, wanted * size, not back)
    cdef Cells c
    cdef int64_t bad
    c.base = rows.base
    c.stride = rows.stride
    c.count = rows.count
    c.most = rows.width - size
    c.offsets = starts.base
    c.offsets_step = starts.stride
    c.numbers = NULL if chosen is None else chosen.base
    c.numbers_step = 0 if chosen is None else chosen.stride
    c.size = size
    if wanted >= 4096:
        with nogil:
            bad = write(&c, wanted, <uint8_t *>data.base) if back else read(&c, wanted, <uint8_t *>data.base)
    else:
        bad = write(&c, wanted, <uint8_t *>data.base) if back else read(&c, wanted, <uint8_t *>data.base)
    if back and bad == DONE:
        rows.write_back()
    return bad
