# A burst as arrays, and the few inline functions that every loop over packets uses.
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy, memset

from memif.ring._atomics cimport memif_load32

cdef extern from "copy.h" nogil:
    void copy "memif_copy"(uint8_t *target, const uint8_t *source, uint32_t n)

cdef enum:
    MAX_PACKET = 65536      # bytes of one packet over all its descriptors
    MOVED = 0xFFFF          # Columns.slot of a buffer that forward() gave away

# Per packet: length, and first (its first descriptor; only when chained). Per descriptor: all else.
# Not chained: descriptor i is packet i, and piece is the same array as length.
cdef struct Columns:
    uint32_t capacity       # descriptors (and packets) that fit
    uint32_t packets
    uint32_t descriptors
    bint chained
    bint flagged            # received: not all of `flags` is zero
    bint shown              # an array of the lengths was given away: from then on they can be anything
    uint32_t *length        # the user may write here at any time: loops clamp what they read by room
    uint32_t *first
    uint32_t *piece
    uint32_t *pieces        # storage behind piece when chained
    uint32_t *offset
    uint32_t *room
    uint32_t *clean         # allocated bursts: how many bytes from offset on hold nothing of an earlier packet
    uint16_t *region
    uint16_t *flags
    uint16_t *slot


# Empties the columns.
cdef inline void unchain(Columns *c) noexcept nogil:
    c.packets = 0
    c.descriptors = 0
    c.chained = False
    c.shown = False
    c.piece = c.length
    if c.flagged:
        memset(c.flags, 0, c.capacity * sizeof(uint16_t))
        c.flagged = False


# From one descriptor a packet to many: splits the shared array of lengths in two and numbers the descriptors.
cdef inline void make_chained(Columns *c) noexcept nogil:
    cdef uint32_t i
    if c.chained:
        return
    memcpy(c.pieces, c.length, c.capacity * sizeof(uint32_t))
    c.piece = c.pieces
    for i in range(c.packets + 1):
        c.first[i] = i
    c.chained = True


# The first descriptor of packet i; of i + 1: the end of packet i.
cdef inline uint32_t first_of(const Columns *c, uint32_t i) noexcept nogil:
    return c.first[i] if c.chained else i


# Bytes of a descriptor's data, whatever the user has written into `lengths` meanwhile: read once, then clamped.
cdef inline uint32_t piece_of(const Columns *c, uint32_t d) noexcept nogil:
    return min(memif_load32(c.piece + d), c.room[d])


# The same for a descriptor that is published: a peer does not accept an empty one.
cdef inline uint32_t sent_of(const Columns *c, uint32_t d) noexcept nogil:
    return max(piece_of(c, d), 1)
