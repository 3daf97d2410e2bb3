"""RawRing: a ring in shared memory, bare, to be read and written as one likes."""

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from memif.protocol.wire import COOKIE as COOKIE

_DESCRIPTOR: Final = struct.Struct("<HHIII")


@dataclass(slots=True)
class Descriptor:
    """One slot: flags (bit 0: the packet goes on in the next slot), region index, bytes, offset in the region."""

    flags: int = 0
    region: int = 0
    length: int = 0
    offset: int = 0
    metadata: int = 0

    def pack(self) -> bytes:
        """The 16 bytes in memory; numbers are cut to the width of their fields."""
        return _DESCRIPTOR.pack(
            self.flags & 0xFFFF,
            self.region & 0xFFFF,
            self.length & 0xFFFFFFFF,
            self.offset & 0xFFFFFFFF,
            self.metadata & 0xFFFFFFFF,
        )


class RawRing:
    """Header and descriptors of one ring, by the raw numbers. Nothing is checked but the bounds of the memory."""

    def __init__(
        self, memory: mmap.mmap | memoryview | bytearray, offset: int, log2_ring_size: int, *, cache_line: int = 64
    ) -> None:
        """`memory` is the ring's region, `offset` the ring's place in it, in bytes."""
        self.size: int = 1 << log2_ring_size
        self.offset = offset
        self._line = cache_line
        self._bytes = memoryview(memory)[offset : offset + 2 * cache_line + 16 * self.size]

    def release(self) -> None:
        """Let go of the memory."""
        self._bytes.release()

    def _get(self, at: int, size: int) -> int:
        return int.from_bytes(self._bytes[at : at + size], "little")

    def _set(self, at: int, size: int, value: int) -> None:
        self._bytes[at : at + size] = (value % (1 << 8 * size)).to_bytes(size, "little")

    @property
    def cookie(self) -> int:
        """The magic number, 0x03E31F20 in a good ring."""
        return self._get(0, 4)

    @cookie.setter
    def cookie(self, value: int) -> None:
        self._set(0, 4, value)

    @property
    def flags(self) -> int:
        """Bit 0: the consumer wants no interrupts."""
        return self._get(4, 2)

    @flags.setter
    def flags(self, value: int) -> None:
        self._set(4, 2, value)

    @property
    def head(self) -> int:
        """The slave's index, a free-running 16 bit counter; numbers beyond are wrapped on setting."""
        return self._get(6, 2)

    @head.setter
    def head(self, value: int) -> None:
        self._set(6, 2, value)

    @property
    def tail(self) -> int:
        """The master's index, like `head`."""
        return self._get(self._line, 2)

    @tail.setter
    def tail(self, value: int) -> None:
        self._set(self._line, 2, value)

    def __getitem__(self, index: int) -> Descriptor:
        """The descriptor at a free-running index."""
        return Descriptor(*_DESCRIPTOR.unpack_from(self._bytes, self.place(index)))

    def __iter__(self) -> Iterator[Descriptor]:
        return map(self.__getitem__, range(self.size))

    def __setitem__(self, index: int, value: Descriptor) -> None:
        at = self.place(index)
        self._bytes[at : at + 16] = value.pack()

    def place(self, index: int) -> int:
        """Where the descriptor of a free-running index stands, in bytes from the ring's start."""
        return 2 * self._line + 16 * (index % self.size)

    def fill(self, value: Descriptor) -> None:
        """Write the same descriptor into every slot."""
        self._bytes[2 * self._line :] = value.pack() * self.size

    def initialise(self) -> None:
        """What a slave does first: cookie, indices and flags."""
        self.cookie, self.flags, self.head, self.tail = COOKIE, 0, 0, 0
