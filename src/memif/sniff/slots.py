"""Descriptors of a ring and the buffers they name, copied in as little time as possible.

While a copy is made, the ring turns. What takes long (looking at lengths, finding out whose they are) is done on copies
afterwards. For that, one needs to know where the buffers are before looking at the descriptors: slaves that copy give
each slot a buffer of its own, side by side, and these are read as one strided block. Where buffers move about
(zero-copy), descriptors have to be followed one by one.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Descriptors = NDArray[np.void]

DESCRIPTOR: Final = np.dtype(
    [("flags", "<u2"), ("region", "<u2"), ("length", "<u4"), ("offset", "<u4"), ("metadata", "<u4")]
)
NEXT: Final = 1


class Slots:
    """The slots of one ring: `table` is its descriptors in shared memory, `memory` the regions by index."""

    def __init__(self, memory: Sequence[Bytes], table: Descriptors) -> None:
        self.memory: tuple[Bytes, ...] = tuple(memory)
        self.table: Descriptors = table
        self.size: int = len(table)
        self._limits = np.array([len(region) for region in self.memory], np.int64)
        #: Each slot as it was when it was last seen with a buffer for the sender to fill.
        self.known: Descriptors = table.copy()
        #: True once buffers were seen to change places.
        self.moving: bool = False
        self._block = self._find_block()

    def _find_block(self) -> Bytes | None:
        """All buffers as the rows of one array, if they lie at equal distances in one region and inside of it."""
        known = self.known
        region, first = int(known["region"][0]), int(known["offset"][0])
        if self.size < 2 or region >= len(self.memory) or (known["region"] != region).any():
            return None
        stride = int(known["offset"][1]) - first
        expected = first + stride * np.arange(self.size, dtype=np.int64)
        if stride < 1 or (known["offset"] != expected).any() or first + stride * self.size > self._limits[region]:
            return None
        return np.ndarray((self.size, stride), np.uint8, self.memory[region].data, first, (stride, 1))

    def cut(self, table: NDArray[Any], first: int, count: int) -> NDArray[Any]:
        """A copy of the rows of `count` slots from index `first` on, around the ring's end."""
        start = first & (self.size - 1)
        if start + count <= self.size:
            return table[start : start + count].copy()
        return np.concatenate((table[start:], table[: start + count - self.size]))

    def grab(self, first: int, count: int, width: int, *, by_known: bool) -> tuple[Descriptors, Bytes]:
        """Copies of the descriptors of `count` slots and of the first bytes of their buffers, at most `width`.

        `by_known`: where the descriptors may name other buffers by now, take those of `known`.
        """
        if self._block is not None:
            rows = self.cut(self._block[:, :width], first, count)
            descriptors = self.cut(self.table, first, count)
            known = self.cut(self.known, first, count)
            same = (descriptors["offset"] == known["offset"]) & (descriptors["region"] == known["region"])
            if not same.all():
                self.moving, self._block = True, None
            if by_known or not self.moving:
                return descriptors, rows
        descriptors = self.cut(self.table, first, count)
        places = self.cut(self.known, first, count) if by_known and self.moving else descriptors
        return descriptors, self._follow(places, width)

    def _follow(self, places: Descriptors, width: int) -> Bytes:
        rows = np.zeros((len(places), width), np.uint8)
        regions, offsets = places["region"].tolist(), places["offset"].tolist()
        for row, region, offset in zip(rows, regions, offsets, strict=True):
            if region < len(self.memory):
                data = self.memory[region][offset : offset + width]
                row[: len(data)] = data
        return rows

    def learn(self, first: int, count: int) -> None:
        """Remember the buffers of empty slots, for when others have taken their places."""
        start = first & (self.size - 1)
        until_end = min(count, self.size - start)
        for low, high in ((start, start + until_end), (0, count - until_end)):
            if high > low:
                fresh, old = self.table[low:high].copy(), self.known[low:high]
                if not self.moving and (fresh["offset"] != old["offset"]).any():
                    self.moving, self._block = True, None
                self.known[low:high] = fresh

    def inside(self, places: Descriptors, lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which descriptors lie inside the memory for so many bytes."""
        exists = places["region"] < len(self._limits)
        limits = self._limits[np.where(exists, places["region"], 0)]
        inside: NDArray[np.bool_] = exists & (places["offset"].astype(np.int64) + lengths <= limits)
        return inside

    def close(self) -> None:
        """Let go of the memory."""
        self.table = self.known = np.zeros(0, DESCRIPTOR)
        self.memory, self._block = (), None
