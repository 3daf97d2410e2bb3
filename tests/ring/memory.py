"""Both ends of one link over one memfd in one process, and a third mapping of it for tests that play the peer."""

import contextlib
import mmap
import os
import struct
from collections.abc import Iterator
from typing import Any

from memif.errors import MemifDisconnectedError
from memif.ring import Queue, Region, Ring, RxQueue, RxRing, TxQueue, TxRing

NEXT = 1


class Owner:
    """What an Interface is to its queues: serves the control channel, hears of broken rings, knows why it is down."""

    def __init__(self) -> None:
        self.queues: list[Queue] = []
        self.complaints: list[str] = []
        self.serves = 0
        self.on_serve: Any = None

    def serve(self) -> None:
        self.serves += 1
        if self.on_serve is not None:
            self.on_serve()

    def broken(self, ring: Ring, text: str) -> None:
        self.complaints.append(text)
        self.disconnect()

    def down(self) -> Exception:
        return MemifDisconnectedError("down")

    def disconnect(self) -> None:
        for queue in self.queues:
            queue.detach()


class End:
    """One side: its two rings, and the queues that drive them."""

    def __init__(self, tx: TxRing, rx: RxRing, control_fd: int = -1) -> None:
        self.owner = Owner()
        self.tx, self.rx = TxQueue(self.owner, 0, control_fd), RxQueue(self.owner, 0, control_fd)
        self.owner.queues += [self.tx, self.rx]
        self.tx.attach(tx)
        self.rx.attach(rx)
        self.tx_ring, self.rx_ring = tx, rx


class Memory:
    """The memory of a link with one ring each way: rings first (S2M, M2S), then the buffers of each.

    Use as a context manager. The peer's part can be played through `map`, which is a mapping of its own.
    """

    def __init__(
        self, log2: int = 4, room: int = 256, *, headroom: int = 0, cache_line: int = 64, events: bool = False
    ) -> None:
        self.log2, self.size, self.room = log2, 1 << log2, room
        self.headroom, self.cache_line = headroom, cache_line
        self.stride = 2 * cache_line + 16 * self.size
        self.buffers = 2 * self.stride
        self.total = self.buffers + 2 * self.size * room
        self.fd = os.memfd_create("ring")
        os.ftruncate(self.fd, self.total)
        self.map = mmap.mmap(self.fd, self.total)
        self.events = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(2)] if events else []

    def __enter__(self) -> "Memory":
        return self

    def __exit__(self, *_: object) -> None:
        self.map.close()
        for fd in (self.fd, *self.events):
            os.close(fd)

    def _buffers(self, ring: int) -> tuple[int, int, range]:
        start = self.buffers + ring * self.size * self.room
        return 0, self.room, range(start, start + self.size * self.room, self.room)

    def _event(self, ring: int) -> int:
        return os.dup(self.events[ring]) if self.events else -1

    def rings(self, *, slave: bool) -> tuple[TxRing, RxRing]:
        """(transmit, receive) of one side, over a mapping of its own."""
        regions = (Region(self.fd, self.total),)
        sends, receives = (0, 1) if slave else (1, 0)
        common: dict[str, Any] = {"slave": slave, "cache_line": self.cache_line}
        mine: list[dict[str, Any]] = [{"buffers": self._buffers(i)} if slave else {} for i in range(2)]
        tx = TxRing(
            regions,
            0,
            sends * self.stride,
            self.log2,
            event_fd=self._event(sends),
            **common,
            **mine[sends],
        )
        rx = RxRing(
            regions,
            0,
            receives * self.stride,
            self.log2,
            event_fd=self._event(receives),
            headroom=self.headroom if slave else 0,
            **common,
            **mine[receives],
        )
        return tx, rx

    def slave(self, control_fd: int = -1) -> End:
        """The side that owns the memory; writes the headers, so make it first."""
        return End(*self.prepare(), control_fd)

    def prepare(self) -> tuple[TxRing, RxRing]:
        """Write the headers. -> the slave's (transmit, receive); no buffer is with the master yet."""
        tx, rx = self.rings(slave=True)
        tx.initialise()
        rx.initialise()
        return tx, rx

    def master(self, control_fd: int = -1) -> End:
        """The other side."""
        return End(*self.rings(slave=False), control_fd)

    # -- playing the peer; ring 0 is S2M, 1 is M2S

    def head(self, ring: int, value: int | None = None) -> int:
        """Read the slave's index, or write it first."""
        return self._word(ring * self.stride + 6, value)

    def tail(self, ring: int, value: int | None = None) -> int:
        """Read the master's index, or write it first."""
        return self._word(ring * self.stride + self.cache_line, value)

    def flags(self, ring: int, value: int | None = None) -> int:
        """Read the ring's flags, or write them first."""
        return self._word(ring * self.stride + 4, value)

    def _word(self, at: int, value: int | None) -> int:
        if value is not None:
            struct.pack_into("<H", self.map, at, value & 0xFFFF)
        return int(struct.unpack_from("<H", self.map, at)[0])

    def slot_at(self, ring: int, slot: int) -> int:
        """Where the descriptor of a slot (or of a free-running index) stands."""
        return ring * self.stride + 2 * self.cache_line + 16 * (slot % self.size)

    def descriptor(self, ring: int, slot: int) -> tuple[int, int, int, int]:
        """(flags, region, length, offset) of a slot."""
        flags, region, length, offset = struct.unpack_from("<HHII", self.map, self.slot_at(ring, slot))
        return flags, region, length, offset

    def describe(self, ring: int, slot: int, flags: int, region: int, length: int, offset: int) -> None:
        """Write the descriptor of a slot."""
        struct.pack_into("<HHIII", self.map, self.slot_at(ring, slot), flags, region, length, offset, 0)

    def buffer_at(self, ring: int, slot: int) -> int:
        """Where the buffer is that a slot had in the beginning."""
        return self.buffers + (ring * self.size + slot % self.size) * self.room


@contextlib.contextmanager
def pair(log2: int = 4, room: int = 256, **options: Any) -> Iterator[tuple[Memory, End, End]]:
    """(memory, slave, master), both up."""
    with Memory(log2, room, **options) as memory:
        slave = memory.slave()
        master = memory.master()
        yield memory, slave, master


def take(queue: RxQueue, count: int = 1024) -> list[bytes]:
    """What is there now, copied and released."""
    with queue.recv(count, timeout=0) as burst:
        return burst.tobytes()


def drain(queue: RxQueue) -> list[bytes]:
    """All that is there now, copied and released."""
    found: list[bytes] = []
    while packets := take(queue):
        found += packets
    return found
