"""A burst while it is being answered: groups of rows whose layer 3 begins at the same offset.

Code for a group uses one offset for all its rows. When the group is the whole burst, which is the usual case,
its block is the matrix itself and nothing is copied; else the block is a copy, and answers are copied back.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .addresses import Addresses
from .checksum import l4_computable, verify_l4
from .classify import Bools, Layers
from .headers import Matrix
from .neighbour import examine, stated_length

Rewrite = Callable[[Matrix, int, Addresses], None]
"""Turns all rows of a block into answers in place: ``rewrite(block, l3_offset, own_addresses)``."""


@dataclass(eq=False)
class Burst:
    """What is known of the packets at hand, and which of them are answered by now."""

    matrix: Matrix
    lengths: NDArray[Any]
    layers: Layers
    new_lengths: NDArray[Any] | None
    answered: Bools
    link: tuple[Bools, Bools] | None
    """Frames for us, frames whose sender has an address of its own; None when all are and in IP mode."""
    wrong: Bools | None = None

    def wrong_icmp(self) -> Bools:
        """Rows whose ICMP checksum could be computed and is wrong. To be asked before any rewriting."""
        if self.wrong is None:
            known = l4_computable(self.matrix, self.layers) & (self.layers.icmp | self.layers.icmp6)
            self.wrong = known & ~verify_l4(self.matrix, self.layers)
        return self.wrong


class Group:
    """Rows of a burst with layer 3 at ``offset``; ``rows`` None means all. Masks go by row of the group."""

    burst: Burst
    offset: int

    def __init__(self, burst: Burst, offset: int, rows: NDArray[np.intp] | None) -> None:
        self.burst, self.offset = burst, offset
        self.rows: Any = slice(None) if rows is None else rows
        self.block: Matrix = burst.matrix[self.rows]

    def of(self, name: str) -> Bools:
        """A mask of `Layers` by name."""
        mask: Bools = getattr(self.burst.layers, name)[self.rows]
        return mask

    def verified(self) -> Bools:
        """All but rows with a wrong ICMP checksum."""
        wrong: Bools = self.burst.wrong_icmp()[self.rows]
        return ~wrong

    def link(self, mine: Bools, fair: Bools) -> None:
        """Clears both masks in frames for another MAC address, and ``fair`` in those from a group's."""
        if self.burst.link is not None:
            here, single = self.burst.link
            mine &= here[self.rows]
            fair &= single[self.rows]

    def examine(self, asks: Bools, own: Addresses) -> tuple[Bools, Bools, Bools]:
        """`neighbour.examine` on the rows of a mask."""
        lengths = self.burst.lengths[self.rows][asks]
        return examine(self.block[asks], lengths, self.offset, own, self.burst.new_lengths is not None)

    def apply(self, good: Bools, rewrite: Rewrite, own: Addresses) -> int:
        """Rewrites the rows of a mask and marks them answered. Returns how many there were."""
        count = int(np.count_nonzero(good))
        if count == len(self.burst.matrix):
            rewrite(self.burst.matrix, self.offset, own)
            self.burst.answered[:] = True
        elif count:
            block, rows = self.block[good], self.numbers(good)
            rewrite(block, self.offset, own)
            self.burst.matrix[rows] = block
            self.burst.answered[rows] = True
        return count

    def note_lengths(self, advertised: Bools) -> None:
        """Writes down the lengths of neighbour advertisements: trailers stay, options may have been added."""
        if self.burst.new_lengths is not None and advertised.any():
            rows = self.numbers(advertised)
            stated = stated_length(self.burst.matrix[rows], self.offset)
            self.burst.new_lengths[rows] = np.maximum(self.burst.lengths[rows], stated)

    def numbers(self, mask: Bools) -> NDArray[np.intp]:
        """Row numbers, in the burst, of a mask."""
        found = mask.nonzero()[0]
        chosen: NDArray[np.intp] = found if isinstance(self.rows, slice) else self.rows[found]
        return chosen
