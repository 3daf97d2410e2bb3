# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: auto_pickle=False, autotestdict=False
"""Packets copied straight out of a ring, for calls that give the slots back at once: no columns, no burst.

This is for packets of one descriptor while no burst of the ring is open, so that slots go back in their order. Callers
hold the ring's lock, and take the long way for what is left out here: chains, what is invalid, trouble.
"""
from cpython.bytes cimport PyBytes_AsString, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from memif.ring._atomics cimport memif_flag_get, memif_load64, memif_prefetch_read
from memif.ring._columns cimport copy
from memif.ring._ring cimport Slot, Span, peer_moved
from memif.ring._rxring cimport Plain, read_plain

cdef enum:
    LATER = 2               # how many packets ahead a call for one packet asks for a line
    TOGETHER = 64           # packets whose first lines are asked for before the first of them is copied


cdef uint32_t waiting(RxRing ring, uint32_t limit) noexcept nogil:
    """Descriptors that can be read now, up to `limit`; 0 while a burst is open. Reads the peer's index only when fewer
    than that are known."""
    if ring.run_head != ring.run_tail:
        return 0
    if <uint16_t>(ring.seen - ring.cursor) < limit:
        if memif_flag_get(&ring.dead) or not peer_moved(ring, ring.size):
            return 0
    return min(<uint16_t>(ring.seen - ring.cursor), limit)


cdef void passed(RxRing ring, uint32_t packets, uint64_t total) noexcept nogil:
    """Give the slots of copied packets back."""
    ring.cursor += <uint16_t>packets
    ring.stats.n.packets += packets
    ring.stats.n.bytes += total
    ring.stats.n.bursts += 1
    ring.give_back(packets, ring.headroom)


cdef void ask_for(RxRing ring, uint16_t ahead) noexcept nogil:
    """Ask for the first line of a packet that a later call will read. A hint only: nothing that is read is believed."""
    cdef uint32_t at = (ring.cursor + ahead) & ring.wrap, region
    cdef const Slot *slot
    if <uint16_t>(ring.seen - ring.cursor) <= ahead:
        return
    if ring.slave:
        slot = ring.slots + at
        memif_prefetch_read(ring.spans[slot.region].base + slot.start + slot.headroom)
    else:
        region = <uint16_t>(memif_load64(ring.desc + 2 * at) >> 16)
        if region < ring.span_count:
            memif_prefetch_read(ring.spans[region].base + <uint32_t>memif_load64(ring.desc + 2 * at + 1))


cdef bytes packet_straight(RxRing ring):
    """The next packet; None where there is none for this way. Without memory the packet stays in the ring."""
    cdef Plain packet
    cdef bytes data
    if waiting(ring, 1) == 0 or not read_plain(ring.desc, ring.slots, ring.spans, ring.span_count,
                                               ring.cursor & ring.wrap, ring.slave, &packet):
        return None
    memif_prefetch_read(packet.data)
    ask_for(ring, LATER)
    data = PyBytes_FromStringAndSize(NULL, packet.length)
    copy(<uint8_t *>PyBytes_AsString(data), packet.data, packet.length)
    passed(ring, 1, packet.length)
    return data


cdef inline uint32_t look(RxRing r, uint16_t start, uint32_t most, const uint8_t **data, uint32_t *lengths,
                          bint slave) noexcept nogil:
    """Read descriptors, and ask for the first line of each packet. -> how many are packets of one descriptor."""
    cdef const uint64_t *desc = r.desc
    cdef const Slot *slots = r.slots
    cdef const Span *spans = r.spans
    cdef uint32_t span_count = r.span_count, wrap = r.wrap, at = start & wrap, n = 0
    cdef Plain packet
    while n < most and read_plain(desc, slots, spans, span_count, at, slave, &packet):
        memif_prefetch_read(packet.data)
        data[n] = packet.data
        lengths[n] = packet.length
        at = (at + 1) & wrap
        n += 1
    return n


cdef uint32_t look_as_slave(RxRing r, uint16_t start, uint32_t most, const uint8_t **data,
                            uint32_t *lengths) noexcept nogil:
    return look(r, start, most, data, lengths, True)


cdef uint32_t look_as_master(RxRing r, uint16_t start, uint32_t most, const uint8_t **data,
                             uint32_t *lengths) noexcept nogil:
    return look(r, start, most, data, lengths, False)


cdef void copy_rows(const uint8_t *const *data, const uint32_t *lengths, uint32_t packets, uint8_t *row,
                    Py_ssize_t stride, uint32_t width) noexcept nogil:
    """The first `width` bytes of each packet, with zeros behind the end of a shorter one."""
    cdef uint32_t i, line
    for i in range(packets):
        if width > 64 and i + 2 < packets:
            line = 64                               # line 0 is on its way
            while line < min(width, lengths[i + 2]):
                memif_prefetch_read(data[i + 2] + line)
                line += 64
        if lengths[i] >= width:
            copy(row, data[i], width)
        else:
            copy(row, data[i], lengths[i])
            memset(row + lengths[i], 0, width - lengths[i])
        row += stride


cdef uint32_t copy_straight(RxRing ring, uint8_t *rows, Py_ssize_t stride, uint32_t width, uint32_t *lengths,
                            uint32_t limit) noexcept nogil:
    """The first `width` bytes of up to `limit` packets into rows `stride` bytes apart, with zeros behind the end of a
    shorter one, and their lengths. -> packets copied; 0 where they cannot all be had this way: then none was taken."""
    cdef const uint8_t *data[TOGETHER]
    cdef uint32_t each[TOGETHER]
    cdef uint32_t most = waiting(ring, limit), done = 0, some, n, i
    cdef uint64_t total = 0
    while done < most:
        some = min(most - done, TOGETHER)
        if ring.slave:
            n = look_as_slave(ring, <uint16_t>(ring.cursor + done), some, data, each)
        else:
            n = look_as_master(ring, <uint16_t>(ring.cursor + done), some, data, each)
        if n < some:
            return 0
        copy_rows(data, each, n, rows + done * stride, stride, width)
        memcpy(lengths + done, each, n * sizeof(uint32_t))
        for i in range(n):
            total += each[i]
        done += n
    if done:
        passed(ring, done, total)
    return done
