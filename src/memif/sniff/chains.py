"""Lengths and chains that a receiver has wiped out of the descriptors: found again in the headers of packets.

A master may clear the flag NEXT of a slot as soon as it has read it, long before it gives the slot back: this package
and libmemif do. A slave resets length and flags of a slot for its next turn.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from memif.packet.headers import Matrix as Bytes
from memif.sniff.slots import NEXT

Lengths = NDArray[np.uint32]
Sizes = NDArray[np.int64]
Mask = NDArray[np.bool_]

#: Bytes that are kept of a packet whose length is not known.
UNKNOWN_LENGTH: Final = 60
_HEADERS: Final = 64


@dataclass(frozen=True, slots=True)
class Told:
    """What the headers of packets say.

    Attributes:
        sizes: Their lengths.
        known: Where there is such a header.
    """

    sizes: Sizes
    known: Mask


def lengths_by_headers(heads: Bytes, ethernet: bool) -> Told:
    """Return the lengths of packets as their IPv4, IPv6 or ARP headers state them, without padding.

    Args:
        heads: uint8, shape (n, width). The first 64 bytes are read.
        ethernet: Whether packets begin with an Ethernet header.

    Returns:
        The lengths, `UNKNOWN_LENGTH` where there is no such header.
    """
    if heads.shape[1] < _HEADERS:
        heads = np.pad(heads, ((0, 0), (0, _HEADERS - heads.shape[1])))
    count = len(heads)
    start = np.zeros(count, np.int64)
    if not ethernet:
        version = heads[:, 0] >> 4
        kind = np.where(version == 4, 0x0800, np.where(version == 6, 0x86DD, 0))
    else:
        start += 14
        kind = heads[:, 12].astype(np.int64) << 8 | heads[:, 13]
        for _ in range(2):
            tagged = (kind == 0x8100) | (kind == 0x88A8)
            if not tagged.any():
                break
            start[tagged] += 4
            kind[tagged] = _word(heads, start - 2)[tagged]
    lengths = np.full(count, UNKNOWN_LENGTH, np.int64)
    known = np.zeros(count, np.bool_)
    for value, at, extra in ((0x0800, 2, 0), (0x86DD, 4, 40)):
        rows = kind == value
        if rows.any():
            rows &= heads[np.arange(count), start] >> 4 == (6 if extra else 4)
            lengths[rows] = (start + _word(heads, start + at) + extra)[rows]
            known |= rows
    arp = kind == 0x0806
    lengths[arp] = start[arp] + 28
    return Told(lengths, known | arp)


def _word(heads: Bytes, at: NDArray[np.int64]) -> NDArray[np.int64]:
    every = np.arange(len(heads))
    words: NDArray[np.int64] = heads[every, at].astype(np.int64) << 8 | heads[every, at + 1]
    return words


def rechain(flags: NDArray[np.uint16], lengths: Sizes, reset: Mask, capacity: int) -> Mask:
    """Split packets that are longer than a buffer over the following slots, as their sender did.

    Args:
        flags: Of the descriptors. Changed in place.
        lengths: Of the descriptors. Changed in place.
        reset: The descriptors that may be changed.
        capacity: Bytes of a buffer.

    Returns:
        The slots that hold the later pieces of such packets.
    """
    pieces = np.zeros(len(lengths), np.bool_)
    if not (reset & (lengths > capacity)).any() or capacity < 1:
        return pieces
    i = 0
    while i < len(lengths):
        left = int(lengths[i])
        if reset[i] and left > capacity:
            while left > capacity and i + 1 < len(lengths):
                lengths[i], flags[i] = capacity, NEXT
                left -= capacity
                i += 1
                pieces[i] = True
            lengths[i] = min(left, capacity)
            flags[i] = NEXT if left > capacity else 0  # the rest comes with the next batch
        i += 1
    return pieces


def rejoin(
    flags: NDArray[np.uint16], lengths: Sizes, told: Told, full: int, *, cut: bool = False, torn: bool = False
) -> Mask:
    """Put back the flags with which a receiver has marked that it has read the pieces of a packet.

    A packet that is longer by its header than its pieces so far goes on in the next slots, if their bytes add up to
    just that length, whatever the sizes of the pieces.

    Args:
        flags: Of the descriptors. Changed in place.
        lengths: Of the descriptors.
        told: By the headers.
        full: Bytes of a buffer: a shorter piece is the last of its packet.
        cut: Whether more descriptors follow: what is not complete then comes with them.
        torn: Whether descriptors before these were missed, so that these may begin in the middle of a packet.

    Returns:
        The descriptors that may be pieces of one packet, and could not be joined.
    """
    doubt = np.zeros(len(lengths), np.bool_)
    sizes, says, known = lengths.tolist(), told.sizes.tolist(), told.known.tolist()
    if not torn and not ((lengths >= full) | told.known & (told.sizes > lengths)).any():
        return doubt
    i = 0
    while torn and i < len(sizes) and not known[i]:
        doubt[i] = True
        torn = sizes[i] >= full
        i += 1
    while i < len(sizes):
        last, total = _linked(i, flags, sizes)
        if flags[last] & NEXT or (total >= says[i] if known[i] else sizes[last] < full):
            i = last + 1  # whole, or its rest comes later
            continue
        end, total = _reach(last, total, sizes, known, full, says[i] if known[i] else None)
        if known[i] and total == says[i]:
            flags[i:end], flags[end] = NEXT, 0
        elif cut and end + 1 == len(sizes):
            flags[i:] = NEXT
        elif sizes[last] >= full:
            doubt[i : end + 1] = True
        else:
            end = last  # it was sent shorter than its header says
        i = end + 1
    return doubt


def _linked(i: int, flags: NDArray[np.uint16], sizes: list[int]) -> tuple[int, int]:
    """Return the last piece of a packet by the flags that are there, and the bytes up to it."""
    total = sizes[i]
    while flags[i] & NEXT and i + 1 < len(sizes):
        i += 1
        total += sizes[i]
    return i, total


def _reach(
    last: int, total: int, sizes: list[int], known: list[bool], full: int, wanted: int | None
) -> tuple[int, int]:
    """Return where a packet that does not end at `last` would, and its bytes; `wanted` are those of its header."""
    while last + 1 < len(sizes):
        whole, begins = sizes[last] >= full, known[last + 1]
        if (total >= wanted or (begins and not whole)) if wanted is not None else (begins or not whole):
            break
        last += 1
        total += sizes[last]
    return last, total
