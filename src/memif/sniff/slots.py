"""The slots of a ring, read from outside.

Slaves that copy give each slot its own buffer, side by side, and these are read as one strided block. Where buffers
move about (zero-copy), descriptors are followed one by one.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from memif.packet.headers import Matrix as Bytes

Descriptors = NDArray[np.void]

DESCRIPTOR: Final = np.dtype(
    [("flags", "<u2"), ("region", "<u2"), ("length", "<u4"), ("offset", "<u4"), ("metadata", "<u4")]
)
NEXT: Final = 1
_HEADROOM: Final = 256


class Slots:
    """The slots of one ring, and copies of them.

    Args:
        memory: The regions as read-only arrays of bytes, by index.
        table: The ring's descriptors in shared memory.

    Attributes:
        size: Number of slots.
        known: Each slot as it was when it was last seen with a buffer for the sender to fill.
        moving: True once buffers have changed places.
    """

    def __init__(self, memory: Sequence[Bytes], table: Descriptors) -> None:
        self.memory: tuple[Bytes, ...] = tuple(memory)
        self.table: Descriptors = table
        self.size: int = len(table)
        self._limits = np.array([len(region) for region in self.memory], np.int64)
        self.known: Descriptors = table.copy()
        self.moving: bool = False
        self._block = self._find_block()

    def _find_block(self) -> Bytes | None:
        """Return all buffers as the rows of one array, if they lie at equal distances within one region."""
        known = self.known
        region, first = int(known["region"][0]), int(known["offset"][0])
        if self.size < 2 or region >= len(self.memory) or (known["region"] != region).any():
            return None
        stride = int(known["offset"][1]) - first
        expected = first + stride * np.arange(self.size, dtype=np.int64)
        if stride < 1 or (known["offset"] != expected).any() or first + stride * self.size > self._limits[region]:
            return None
        return np.ndarray((self.size, stride), np.uint8, self.memory[region].data, first, (stride, 1))

    @property
    def fixed(self) -> bool:
        """True while each slot has a buffer of its own, where nothing else is put before the slot's next turn."""
        return self._block is not None

    def cut(self, table: NDArray[Any], first: int, count: int) -> NDArray[Any]:
        """Return a copy of the rows of `count` slots from index `first` on, around the ring's end."""
        start = first & (self.size - 1)
        if start + count <= self.size:
            return table[start : start + count].copy()
        return np.concatenate((table[start:], table[: start + count - self.size]))

    def grab(
        self, first: int, count: int, width: int, gone: NDArray[np.bool_] | None = None
    ) -> tuple[Descriptors, Bytes]:
        """Copy descriptors and the first bytes of their buffers.

        Args:
            first: Index of the first slot.
            count: How many slots.
            width: The most bytes of each buffer.
            gone: The slots whose descriptors may name other buffers by now: those of `known` are taken. None: no slot.
        """
        if self._block is not None:
            rows = self.cut(self._block[:, :width], first, count)
            descriptors = self.cut(self.table, first, count)
            if not self.differ(first, descriptors).any():
                return descriptors, rows
            self.moving, self._block = True, None
        descriptors = self.cut(self.table, first, count)
        places = descriptors
        if gone is not None and gone.any():
            places = np.where(gone, self.cut(self.known, first, count), descriptors)
        return descriptors, self._follow(places, width)

    def differ(self, first: int, descriptors: Descriptors) -> NDArray[np.bool_]:
        """Return which of these descriptors, from index `first` on, name other buffers than `known`."""
        known = self.cut(self.known, first, len(descriptors))
        other: NDArray[np.bool_] = descriptors["offset"] != known["offset"]
        other |= descriptors["region"] != known["region"]
        return other

    def _follow(self, places: Descriptors, width: int) -> Bytes:
        rows = np.zeros((len(places), width), np.uint8)
        regions, offsets = places["region"].tolist(), places["offset"].tolist()
        for row, region, offset in zip(rows, regions, offsets, strict=True):
            if region < len(self.memory):
                data = self.memory[region][offset : offset + width]
                row[: len(data)] = data
        return rows

    def learn(self, first: int, count: int) -> None:
        """Remember the buffers of empty slots, for the time when others have taken their places."""
        start = first & (self.size - 1)
        until_end = min(count, self.size - start)
        for low, high in ((start, start + until_end), (0, count - until_end)):
            if high > low:
                fresh, old = self.table[low:high].copy(), self.known[low:high]
                if not self.moving and (fresh["offset"] != old["offset"]).any():
                    self.moving, self._block = True, None
                self.known[low:high] = fresh

    def has(self, places: Descriptors, capacity: int) -> NDArray[np.bool_]:
        """Return which buffers of another ring, each of `capacity` bytes, are in slots of this one by now.

        A packet may have grown at its front since, into the headroom.
        """
        table = self.table.copy()
        if self.fixed and not self.differ(0, table).any():
            return np.zeros(len(places), np.bool_)
        taken = np.sort(_address(table))
        wanted = _address(places)
        first = np.searchsorted(taken, wanted - min(capacity // 2, _HEADROOM))
        found: NDArray[np.bool_] = first < np.searchsorted(taken, wanted + capacity)
        return found

    def inside(self, places: Descriptors, lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which descriptors lie inside the memory for these lengths."""
        exists = places["region"] < len(self._limits)
        limits = self._limits[np.where(exists, places["region"], 0)]
        inside: NDArray[np.bool_] = exists & (places["offset"].astype(np.int64) + lengths <= limits)
        return inside

    def close(self) -> None:
        """Release the memory."""
        self.table = self.known = np.zeros(0, DESCRIPTOR)
        self.memory, self._block = (), None


def _address(places: Descriptors) -> NDArray[np.int64]:
    """Return one number for each place in memory; regions are further apart than any offset."""
    address: NDArray[np.int64] = places["region"].astype(np.int64) * (1 << 34) + places["offset"]
    return address
