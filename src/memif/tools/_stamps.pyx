# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: auto_pickle=False, autotestdict=False
"""Loops over the stamps of whole bursts. What a stamp is: `memif.tools.stamp`.

A stamp that is read comes from the peer: every value of it is possible.
"""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from memif.packet._matrix cimport Column, Rows, column, item32

cdef extern from *:
    int leading_zeros "__builtin_clzll"(uint64_t) nogil

cdef enum:
    MARK = 0x694D
    STAMP = 18              # bytes
    STREAMS = 256
    PARTS_LOG2 = 4          # parts of the histogram for each doubling, as a power of two
    PARTS = 1 << PARTS_LOG2
    BUCKETS = 64 * PARTS
    NUMBER_BITS = 56


cdef struct Stream:
    bint begun
    int64_t first
    int64_t received
    int64_t highest
    int64_t late
    double jitter
    double transit


cdef void put(uint8_t *at, uint64_t word, uint64_t ns) noexcept nogil:
    at[0] = MARK & 0xFF
    at[1] = MARK >> 8
    memcpy(at + 2, &word, 8)
    memcpy(at + 10, &ns, 8)


cdef bint marked(const uint8_t *at) noexcept nogil:
    return at[0] == (MARK & 0xFF) and at[1] == MARK >> 8


cdef Rows take(matrix, int64_t offset, bint writable):
    cdef Rows rows = Rows(matrix, writable)
    if offset < 0 or offset + STAMP > rows.width:
        raise ValueError(f"no room for {STAMP} bytes at {offset} in rows of {rows.width}")
    return rows


def write(matrix, int64_t offset, unsigned char stream, uint64_t number, uint64_t ns):
    """Stamp all rows with the numbers of a stream from `number` on, and with the time `ns`."""
    cdef Rows rows = take(matrix, offset, True)
    cdef uint64_t word = (<uint64_t>stream << NUMBER_BITS) + number
    cdef int64_t i
    with nogil:
        for i in range(rows.count):
            put(rows.base + i * rows.stride + offset, word + i, ns)
    rows.write_back()


def renew(matrix, int64_t offset, unsigned char stream, uint64_t number, uint64_t ns):
    """Stamp the rows that have a stamp anew, as `write` does. -> how many these are."""
    cdef Rows rows = take(matrix, offset, True)
    cdef uint64_t word = (<uint64_t>stream << NUMBER_BITS) + number
    cdef int64_t i, count = 0
    cdef uint8_t *at
    with nogil:
        for i in range(rows.count):
            at = rows.base + i * rows.stride + offset
            if marked(at):
                put(at, word + count, ns)
                count += 1
    rows.write_back()
    return count


cdef int bucket_of(uint64_t ns) noexcept nogil:
    """The doubling that a time is in, and the part of that, by its highest bits; `ns` is not 0."""
    cdef int exponent = 63 - leading_zeros(ns)
    cdef int shift = exponent - PARTS_LOG2
    cdef uint64_t part = ns >> shift if shift >= 0 else ns << -shift
    return exponent * PARTS + <int>(part & (PARTS - 1))


cdef class Meter:
    """Counts stamped packets, by stream. One thread at a time.

    Attributes:
        unstamped: Packets without a stamp.
        latency_sum: Time that all packets were on their way, in nanoseconds.
        latency_min: The shortest, infinite before the first packet.
        latency_max: The longest.
    """

    cdef Stream streams[STREAMS]
    cdef int64_t buckets[BUCKETS]
    cdef readonly long long unstamped
    cdef readonly double latency_sum
    cdef readonly double latency_min
    cdef readonly double latency_max

    def __cinit__(self):
        memset(self.streams, 0, sizeof(self.streams))
        memset(self.buckets, 0, sizeof(self.buckets))
        self.unstamped = 0
        self.latency_sum = 0
        self.latency_min = float("inf")
        self.latency_max = 0

    def add(self, matrix, lengths, int64_t offset, uint64_t now):
        """Count a burst: the first bytes of each packet, uint8 (n, width), and their lengths, uint32 (n,). -> bytes."""
        cdef Rows rows = take(matrix, offset, False)
        cdef Column sizes = column("lengths", lengths, 4, rows.count, False)
        cdef int64_t i, length, total = 0
        cdef const uint8_t *at
        with nogil:
            for i in range(rows.count):
                at = rows.base + i * rows.stride + offset
                length = <uint32_t>item32(sizes.base + i * sizes.stride)
                total += length
                if marked(at) and length >= offset + STAMP:
                    self.one(at, now)
                else:
                    self.unstamped += 1
        return total

    cdef void one(self, const uint8_t *at, uint64_t now) noexcept nogil:
        cdef uint64_t word, sent
        memcpy(&word, at + 2, 8)
        memcpy(&sent, at + 10, 8)
        cdef int64_t transit = <int64_t>(now - sent)
        cdef int64_t number = <int64_t>(word & ((<uint64_t>1 << NUMBER_BITS) - 1))
        cdef Stream *stream = &self.streams[word >> NUMBER_BITS]
        cdef uint64_t ns = 1 if transit < 1 else <uint64_t>transit
        cdef double change
        self.buckets[bucket_of(ns)] += 1
        self.latency_sum += ns
        self.latency_min = min(self.latency_min, <double>ns)
        self.latency_max = max(self.latency_max, <double>ns)
        if not stream.begun:
            stream.begun = True
            stream.first = number
            stream.highest = number - 1
            stream.transit = transit
        if number <= stream.highest:
            stream.late += 1
        else:
            stream.highest = number
        stream.received += 1
        change = <double>transit - stream.transit
        stream.transit = transit
        stream.jitter += ((-change if change < 0 else change) - stream.jitter) * 0.0625   # RFC 3550, 6.4.1

    def counts(self):
        """For each stream: first number, packets received, highest number, packets that came late, jitter in ns."""
        return [(s.first, s.received, s.highest, s.late, s.jitter) for s in self.streams[:STREAMS] if s.begun]

    def histogram(self):
        """How many packets took so long: 64 doublings, from 1 ns on, of 16 parts of equal width each."""
        return [self.buckets[i] for i in range(BUCKETS)]
