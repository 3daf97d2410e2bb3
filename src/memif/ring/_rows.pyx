# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: auto_pickle=False, autotestdict=False
"""What is done with the packets of a burst: their lengths checked, their bytes copied, their buffers cleared.

The loops that copy run without the interpreter lock where there is much to copy.
"""
from cpython.bytes cimport PyBytes_AsString, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from memif.errors import MemifStateError, MemifValueError

from memif.ring._atomics cimport memif_load32, memif_prefetch_read, memif_prefetch_write
from memif.ring._columns cimport MAX_PACKET, Columns, copy, first_of, piece_of, sent_of
from memif.ring._ring cimport SMALL_BYTES, Ring, Span
from memif.ring._rxring cimport RxRing
from memif.ring._txring cimport TxRing


cdef int fit(Columns *c, uint32_t i, bint unsized) except -1:
    """Check the length that the user may have given to packet i, and pass it on to the packet's last piece. `unsized`:
    of a burst that was allocated without a size."""
    cdef uint32_t d, last = first_of(c, i + 1) - 1, before = 0, length = memif_load32(c.length + i), most
    for d in range(first_of(c, i), last):
        before += c.piece[d]
    most = min(before + c.room[last], MAX_PACKET)
    if length <= before or length > most:
        hint = ""
        if before:
            hint = " (chained packet)"
        elif unsized and length == 0:
            hint = " (alloc() was given no size: set the length of each packet)"
        raise MemifValueError.argument(f"lengths[{i}]", length, f"{before + 1} to {most}{hint}")
    c.piece[last] = length - before
    return 0


cdef int fit_all(Columns *c, uint32_t count, bint unsized) except -1:
    """The same for the first `count` packets."""
    cdef uint32_t i
    cdef bint chained = c.chained
    cdef const uint32_t *lengths = c.length
    cdef const uint32_t *rooms = c.room             # at most MAX_PACKET each
    for i in range(count):
        if chained or lengths[i] - 1 >= rooms[i]:
            fit(c, i, unsized)
    return 0


cdef int grow(RxRing ring, Columns *c, uint32_t count) except -1:
    """Grow the packets of a slave's received burst by `count` bytes at their front; all or none."""
    cdef uint32_t i, d
    for i in range(c.packets):
        d = first_of(c, i)
        if c.slot[d] > ring.wrap:
            raise MemifStateError("a packet of this burst was given away by an earlier forward()")
        if c.offset[d] - ring.slots[c.slot[d]].start < count or c.length[i] + count > MAX_PACKET:
            raise MemifValueError.argument("count", count, f"the headroom, {ring.headroom}, "
                                           f"and packets of at most {MAX_PACKET} bytes")
    for i in range(c.packets):
        d = first_of(c, i)
        c.offset[d] -= count
        c.room[d] = min(c.room[d] + count, MAX_PACKET)
        c.piece[d] += count
        if c.chained:
            c.length[i] += count
    return 0


cdef bytes join(Ring ring, const Columns *c, uint32_t i):
    """A packet, copied. Its length has been checked, but may be another now."""
    cdef uint32_t d, n = 0
    for d in range(first_of(c, i), first_of(c, i + 1)):
        n += piece_of(c, d)
    cdef bytes data = PyBytes_FromStringAndSize(NULL, n)
    cdef uint32_t done = row_copy(ring, c, i, <uint8_t *>PyBytes_AsString(data), n, False, NULL)
    return data if done == n else data[:done]


cdef uint32_t row_copy(Ring ring, const Columns *c, uint32_t i, uint8_t *row, uint32_t width,
                       bint back, uint32_t *clean) noexcept nogil:
    """Copy the first `width` bytes of packet i to `row`, or back. -> bytes copied. `clean`: NULL, or the column
    in which to note what was written."""
    cdef uint32_t d, last = first_of(c, i + 1), n, done = 0
    cdef uint8_t *data
    for d in range(first_of(c, i), last):
        n = min(piece_of(c, d), width - done)
        data = ring.spans[c.region[d]].base + c.offset[d]
        if back:
            copy(data, row + done, n)
            if clean != NULL:
                clean[d] = max(clean[d], n)
        else:
            copy(row + done, data, n)
        done += n
        if done == width:
            break
    return done


cdef void gather_rows(Ring ring, const Columns *c, uint8_t *rows, Py_ssize_t stride,
                      uint32_t width) noexcept nogil:
    """The rows of a matrix from the packets; what is behind a short packet's end becomes zeros."""
    cdef uint32_t i, n, line, ahead, packets = c.packets
    cdef const Span *spans = ring.spans
    cdef const uint32_t *pieces = c.piece       # in locals, as a store to a row could change c for the compiler
    cdef const uint32_t *rooms = c.room
    cdef const uint32_t *offsets = c.offset
    cdef const uint16_t *regions = c.region
    cdef bint chained = c.chained
    for i in range(packets):
        if not chained and memif_load32(pieces + i) >= width and rooms[i] >= width:
            if width > 64 and i + 2 < packets:              # line 0 came while the descriptors were scanned
                ahead = min(width, piece_of(c, i + 2))
                line = 64
                while line < ahead:
                    memif_prefetch_read(spans[regions[i + 2]].base + offsets[i + 2] + line)
                    line += 64
            copy(rows, spans[regions[i]].base + offsets[i], width)
        else:
            n = row_copy(ring, c, i, rows, width, False, NULL)
            memset(rows + n, 0, width - n)
        rows += stride


cdef void gather_all(Ring ring, const Columns *c, Py_buffer *rows) noexcept:
    """The same into the first rows of a matrix that has been checked."""
    if c.packets * <uint64_t>rows.shape[1] <= SMALL_BYTES:
        gather_rows(ring, c, <uint8_t *>rows.buf, rows.strides[0], <uint32_t>rows.shape[1])
    else:
        with nogil:
            gather_rows(ring, c, <uint8_t *>rows.buf, rows.strides[0], <uint32_t>rows.shape[1])


cdef void copy_out(Ring ring, const Columns *c, Py_buffer *rows, Py_buffer *sizes) noexcept:
    """Packets that were just received: their first bytes into a matrix, their lengths into an array."""
    memcpy(sizes.buf, c.length, c.packets * sizeof(uint32_t))
    gather_all(ring, c, rows)


cdef void scatter_rows(Ring ring, const Columns *c, uint8_t *rows, Py_ssize_t stride, uint32_t width,
                       bint note) noexcept nogil:
    """The rows into the packets; `note`: of an allocated burst."""
    cdef uint32_t i
    for i in range(c.packets):
        if i + 4 < c.packets and not c.chained:
            memif_prefetch_write(ring.spans[c.region[i + 4]].base + c.offset[i + 4])
        row_copy(ring, c, i, rows + i * stride, width, True, c.clean if note else NULL)


cdef void scatter_all(Ring ring, const Columns *c, Py_buffer *rows, uint32_t width, bint note) noexcept:
    """The same from a matrix that has been checked."""
    if c.packets * <uint64_t>width <= SMALL_BYTES:
        scatter_rows(ring, c, <uint8_t *>rows.buf, rows.strides[0], width, note)
    else:
        with nogil:
            scatter_rows(ring, c, <uint8_t *>rows.buf, rows.strides[0], width, note)


# What an allocated burst's buffers held before is never sent and never shown: `clean` counts how many bytes of
# each buffer were set to zero or written by scatter. They are set as late as can be, so that who writes whole
# rows pays nothing.


cdef void wash(Ring ring, Columns *c, uint32_t d, uint32_t n) noexcept nogil:
    """Before the first `n` bytes of a buffer are sent or shown."""
    cdef uint32_t done = memif_load32(c.clean + d)      # once: another thread could be here as well
    if done < n:
        memset(ring.spans[c.region[d]].base + c.offset[d] + done, 0, n - done)
        c.clean[d] = n


cdef void wash_rooms(Ring ring, Columns *c) noexcept nogil:
    """Before the user is told where the buffers are and can write anywhere."""
    cdef uint32_t d
    for d in range(c.descriptors):
        wash(ring, c, d, c.room[d])


cdef void wash_packets(Ring ring, Columns *c) noexcept nogil:
    """Before the packets are read."""
    cdef uint32_t d
    for d in range(c.descriptors):
        wash(ring, c, d, piece_of(c, d))


cdef void send_some(TxRing ring, Columns *c, uint32_t packets) noexcept nogil:
    """Send the first packets of an allocated burst; the slots of the others are free again. Lengths are read
    once, into an array that the user cannot write to."""
    cdef uint32_t d, n
    if packets < c.packets:
        ring.rollback(<uint16_t>(ring.settled + ((c.slot[first_of(c, packets)] - ring.settled) & ring.wrap)))
    for d in range(first_of(c, packets)):
        n = sent_of(c, d)
        wash(ring, c, d, n)
        c.pieces[d] = n
    c.piece = c.pieces
    ring.commit(c, 0, packets)
    ring.publish()
