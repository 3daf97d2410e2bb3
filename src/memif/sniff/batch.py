"""Packets that a tap has copied out of a ring, and how to find lengths that the ring no longer has."""

from dataclasses import dataclass, replace
from itertools import compress
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from memif.packet.headers import Matrix as Bytes  # loads what writing needs, too: not while packets pass

if TYPE_CHECKING:
    from memif.capture import PcapngWriter

Lengths = NDArray[np.uint32]

#: Bytes that are kept of a packet whose length is not known.
UNKNOWN_LENGTH = 60
_NEXT = 1
_HEADERS = 64


@dataclass(frozen=True, slots=True)
class Batch:
    """Copied packets of one ring.

    Attributes:
        link: Number of the link.
        s2m: True when the slave has sent them.
        queue: Index of the ring in its direction.
        ns: When they were copied, in nanoseconds since 1970, the same for the whole batch.
        matrix: The packets, uint8, shape (n, width); None when some were chained.
        lengths: Bytes on the wire, uint32, shape (n,).
        packets: The packets when some were chained, else None.
    """

    link: int
    s2m: bool
    queue: int
    ns: int
    matrix: Bytes | None
    lengths: Lengths
    packets: list[bytes] | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    def tobytes(self) -> list[bytes]:
        """Return all packets, cut to the width that was copied."""
        if self.packets is not None:
            return self.packets
        assert self.matrix is not None
        return [row[:length].tobytes() for row, length in zip(self.matrix, self.lengths.tolist(), strict=True)]

    def first(self, count: int) -> "Batch":
        """Return the first `count` packets, or all if there are fewer."""
        if count >= len(self):
            return self
        packets = None if self.packets is None else self.packets[:count]
        matrix = None if self.matrix is None else self.matrix[:count]
        return replace(self, matrix=matrix, lengths=self.lengths[:count], packets=packets)

    def select(self, mask: NDArray[np.bool_]) -> "Batch":
        """Return the packets for which `mask`, bool of shape (n,), is true."""
        if mask.all():
            return self
        packets = None if self.packets is None else list(compress(self.packets, mask.tolist()))
        matrix = None if self.matrix is None else self.matrix[mask]
        return replace(self, matrix=matrix, lengths=self.lengths[mask], packets=packets)

    def write(self, writer: "PcapngWriter", interface: int) -> None:
        """Write all packets to a capture. Direction "out" is slave to master."""
        direction: Any = "out" if self.s2m else "in"
        if self.packets is not None or self.matrix is None:
            writer.write_packets(self.packets or [], self.ns, interface, direction)
        else:
            writer.write_array(self.matrix, self.lengths, self.ns, interface, direction)


def lengths_by_headers(heads: Bytes, ethernet: bool) -> tuple[Lengths, NDArray[np.bool_]]:
    """Return the lengths of packets as their IPv4, IPv6 or ARP headers state them, without padding.

    Args:
        heads: uint8, shape (n, width). The first 64 bytes are read.
        ethernet: Whether packets begin with an Ethernet header.

    Returns:
        The lengths, and a mask of the rows that have such a header.
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
            lengths[rows] = (start + _word(heads, start + at) + extra)[rows]
            known |= rows
    arp = kind == 0x0806
    lengths[arp] = start[arp] + 28
    return lengths.astype(np.uint32), known | arp


def _word(heads: Bytes, at: NDArray[np.int64]) -> NDArray[np.int64]:
    every = np.arange(len(heads))
    words: NDArray[np.int64] = heads[every, at].astype(np.int64) << 8 | heads[every, at + 1]
    return words


def rechain(flags: NDArray[np.uint16], lengths: NDArray[np.int64], reset: NDArray[np.bool_], capacity: int) -> int:
    """Split packets that are longer than a buffer over the following slots, as their sender did.

    Args:
        flags: Of the descriptors. Changed in place.
        lengths: Of the descriptors. Changed in place.
        reset: The descriptors that may be changed.
        capacity: Bytes of a buffer.

    Returns:
        How many slots hold the later pieces of such packets.
    """
    if not (reset & (lengths > capacity)).any() or capacity < 1:
        return 0
    i = pieces = 0
    while i < len(lengths):
        left = int(lengths[i])
        if reset[i] and left > capacity:
            while left > capacity and i + 1 < len(lengths):
                lengths[i], flags[i] = capacity, _NEXT
                left -= capacity
                i, pieces = i + 1, pieces + 1
            lengths[i] = min(left, capacity)
            flags[i] = _NEXT if left > capacity else 0  # the rest comes with the next batch
        i += 1
    return pieces
