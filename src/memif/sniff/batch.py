"""Packets that a tap has copied out of a ring."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import compress, pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from memif.packet.headers import Matrix as Bytes  # loads what writing needs, too: not while packets pass
from memif.sniff.chains import Lengths

if TYPE_CHECKING:
    from memif.capture import PcapngWriter

Mask = NDArray[np.bool_]

#: The comment of unsure packets in a capture file.
UNSURE: Final = "unsure: copied after it was received, may differ from what was sent"


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
        unsure: bool, shape (n,): true where a packet may differ from what was sent.
        packets: The packets when some were chained, else None.
    """

    link: int
    s2m: bool
    queue: int
    ns: int
    matrix: Bytes | None
    lengths: Lengths
    unsure: Mask
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
        return self if count >= len(self) else self._part(0, count)

    def select(self, mask: Mask) -> "Batch":
        """Return the packets for which `mask`, bool of shape (n,), is true."""
        if mask.all():
            return self
        packets = None if self.packets is None else list(compress(self.packets, mask.tolist()))
        matrix = None if self.matrix is None else self.matrix[mask]
        return replace(self, matrix=matrix, lengths=self.lengths[mask], unsure=self.unsure[mask], packets=packets)

    def write(self, writer: "PcapngWriter", interface: int) -> None:
        """Write all packets to a capture; unsure ones get a comment. Direction "out" is slave to master."""
        direction: Any = "out" if self.s2m else "in"
        for part in self._alike():
            comment = UNSURE if part.unsure[0] else ""
            if part.matrix is not None:
                writer.write_array(part.matrix, part.lengths, self.ns, interface, direction, comment=comment)
            else:
                writer.write_packets(
                    part.tobytes(),
                    self.ns,
                    interface,
                    direction,
                    original_lengths=part.lengths.tolist(),
                    comment=comment,
                )

    def _alike(self) -> Iterator["Batch"]:
        """Yield parts, in order, in which all packets are unsure, or none is. Mostly the older ones are."""
        ends = [0, *(np.flatnonzero(self.unsure[1:] != self.unsure[:-1]) + 1).tolist(), len(self)]
        for start, end in pairwise(ends):
            if end > start:
                yield self._part(start, end)

    def _part(self, start: int, end: int) -> "Batch":
        packets = None if self.packets is None else self.packets[start:end]
        matrix = None if self.matrix is None else self.matrix[start:end]
        return replace(
            self, matrix=matrix, lengths=self.lengths[start:end], unsure=self.unsure[start:end], packets=packets
        )
