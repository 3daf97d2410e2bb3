"""Every sequence over a small alphabet of edge values, one suite for each thing that a peer or a caller can choose.

Random tests find what is likely; here nothing of a small world is left out. All suites together take seconds.
"""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from memif.errors import MemifDisconnectedError, MemifValueError
from memif.ring import Region, RxQueue, RxRing, TxQueue, TxRing
from ring.memory import NEXT, Memory, Owner
from ring.reference import Direction, Never
from ring.test_hostile import M2S, S2M, U16, U32, Descriptor, expected

LOG2, ROOM = 1, 8
SIZE = 1 << LOG2


class Bench:
    """Memory that is mapped once, and fresh rings over it for each case."""

    def __init__(self, log2: int = LOG2, room: int = ROOM, headroom: int = 0) -> None:
        self.memory = Memory(log2, room, headroom=headroom)
        self.regions = (Region(self.memory.fd, self.memory.total),)
        self.memory.prepare()
        self.owner = Owner()

    def _options(self, ring: int, slave: bool) -> dict[str, Any]:
        return {"slave": slave} | ({"buffers": self.memory._buffers(ring)} if slave else {})

    def rx(self, ring: int, *, slave: bool) -> RxQueue:
        """A receive queue at the beginning of its life."""
        queue = RxQueue(self.owner, 0, -1)
        headroom = self.memory.headroom if slave else 0
        options = self._options(ring, slave)
        queue.attach(RxRing(self.regions, 0, ring * self.memory.stride, self.memory.log2, headroom=headroom, **options))
        return queue

    def tx(self, ring: int, *, slave: bool) -> TxQueue:
        """A transmit queue at the beginning of its life."""
        queue = TxQueue(self.owner, 0, -1)
        options = self._options(ring, slave)
        queue.attach(TxRing(self.regions, 0, ring * self.memory.stride, self.memory.log2, **options))
        return queue

    def indices(self, ring: int, value: int) -> None:
        """Both, as at the start of a connection."""
        self.memory.head(ring, value)
        self.memory.tail(ring, value)

    def close(self) -> None:
        self.memory.__exit__()


def bench(log2: int = LOG2, room: int = ROOM, headroom: int = 0) -> contextlib.closing[Bench]:
    return contextlib.closing(Bench(log2, room, headroom))


def sequences(alphabet: Sequence[Any], longest: int) -> Iterator[tuple[Any, ...]]:
    """Every sequence of one to `longest` letters."""
    for length in range(1, longest + 1):
        yield from itertools.product(alphabet, repeat=length)


def received(queue: RxQueue, limit: int, calls: int) -> list[bytes]:
    found = []
    for _ in range(calls):
        with queue.recv(limit, timeout=0) as burst:
            found += burst.tobytes()
    return found


def check_received(queue: RxQueue, memory: Memory, ring: int, found: tuple[Descriptor, ...], limit: int) -> None:
    packets, bad, dropped, oversize = expected(memory, ring, list(found))
    assert received(queue, limit, len(found) + 1) == packets, found
    stats = queue.stats
    counted = stats["packets"], stats["bad_descriptors"], stats["dropped_bad"], stats["dropped_oversize"]
    assert counted == (len(packets), bad, dropped, oversize), found


@pytest.mark.parametrize("limit", [1, 4])
def test_descriptors_that_a_master_gets(limit: int) -> None:
    with bench(2, 40_000) as place:
        memory, end = place.memory, place.memory.total
        alphabet: list[Descriptor] = [
            (0, 0, 1, end - 1),
            (0, 0, 2, end - 1),
            (NEXT, 0, 1, end - 1),
            (NEXT, 0, 40_000, memory.buffers),
            (0, 0, 25_536, memory.buffers),
            (0, 0, 65_537, memory.buffers),
            (NEXT, 0, 0, memory.buffers),
            (0, 0, U32, 1),
            (U16, 0, 7, memory.buffers),
            (U16 - NEXT, 0, 7, memory.buffers),
            (NEXT, U16, 1, memory.buffers),
            (0, 1, 1, U32),
        ]
        for found in sequences(alphabet, 4 if limit > 1 else 3):
            place.indices(S2M, 0)
            for at, descriptor in enumerate(found):
                memory.describe(S2M, at, *descriptor)
            queue = place.rx(S2M, slave=False)
            memory.head(S2M, len(found))
            check_received(queue, memory, S2M, found, limit)


@pytest.mark.parametrize("limit", [1, 4])
def test_descriptors_that_a_slave_gets(limit: int) -> None:
    with bench(2, 24, headroom=8) as place:
        memory = place.memory
        lengths = [0, 1, 15, 16, 17, U32]
        alphabet = [(flags, U16, length, U32) for flags in (0, NEXT) for length in lengths] + [(U16, 0, 16, 0)]
        for found in sequences(alphabet, 4 if limit > 1 else 3):
            place.indices(M2S, 0)
            queue = place.rx(M2S, slave=True)
            # The slave offers its buffers first: head goes to the size, and the master's index follows.
            queue.recv(1, timeout=0).release()
            for at, descriptor in enumerate(found):
                memory.describe(M2S, at, *descriptor)
            memory.tail(M2S, len(found))
            check_received(queue, memory, M2S, found, limit)


def published(memory: Memory, ring: int, count: int) -> list[bytes]:
    """The packets in the first `count` slots; slots of length 0 are buffers that a master sent back unused."""
    packets, data = [], b""
    for at in range(count):
        flags, _, length, offset = memory.descriptor(ring, at)
        data += memory.map[offset : offset + length]
        if length and not flags & NEXT:
            packets.append(data)
            data = b""
    assert not data
    return packets


def test_buffers_that_a_master_is_offered() -> None:
    """What it sends stands in buffers that were offered and lie in the region, whole; no other byte changes."""
    with bench(2) as place:
        memory = place.memory
        start, end = memory.buffers, memory.total
        rows = [
            [
                (0, 0, 8, start + 8 * at),
                (0, 0, 1, start + 8 * at),
                (NEXT, 0, 5, start + 8 * at),
                (0, 0, 0, start),
                (0, 1, 8, start),
                (0, 0, 8, end - 7),
                (U16, 0, U32, end - 1),
                (0, 0, 8, U32 - 3),
            ]
            for at in range(4)
        ]
        for sizes in ((1, 8), (8, 9), (16,), (3, 1, 5)):
            packets = [bytes([65 + n]) * size for n, size in enumerate(sizes)]
            for offers in itertools.product(*rows):
                memory.map[start:end] = bytes(end - start)
                place.indices(M2S, 0)
                for at, offer in enumerate(offers):
                    memory.describe(M2S, at, *offer)
                queue = place.tx(M2S, slave=False)
                memory.head(M2S, 4)
                try:
                    sent = queue.send(packets)
                except MemifValueError:  # larger than all that is offered
                    sent = 0
                tail = memory.tail(M2S)
                assert tail <= 4
                assert published(memory, M2S, tail) == packets[:sent], offers
                allowed = bytearray(end - start)
                for at, (_, region, length, offset) in enumerate(offers):
                    assert memory.descriptor(M2S, at)[1::2] == (region, offset)  # the slave's to choose
                    if region == 0 and offset + length <= end:
                        allowed[offset - start : offset - start + length] = b"\1" * length
                touched = memory.map[start:end]
                assert all(may or not byte for may, byte in zip(allowed, touched, strict=True)), offers


@pytest.mark.parametrize("slave", [True, False])
@pytest.mark.parametrize("log2", [0, 1, 2])
def test_lengths_that_are_sent(slave: bool, log2: int) -> None:
    """What a caller may send, against the reference; what was accepted comes out at the other end."""
    lengths = [0, 1, ROOM, ROOM + 1, ROOM * max((1 << log2) - 1, 1), ROOM * (1 << log2), 65_536, 65_537]
    ring = S2M if slave else M2S
    with bench(log2) as place:
        memory = place.memory
        for chosen in sequences(lengths, 4):
            place.indices(ring, 0)
            tx, rx = place.tx(ring, slave=slave), place.rx(ring, slave=not slave)
            if not slave:
                rx.recv(1, timeout=0).release()
                for at in range(memory.size):
                    memory.describe(ring, at, 0, 0, ROOM, memory.buffer_at(ring, at))
                memory.head(ring, memory.size)
            link = Direction(memory.size, ROOM)
            packets = [bytes([n + 1]) * length for n, length in enumerate(chosen)]
            try:
                accepted = link.copy_in(packets)
            except Never:
                with pytest.raises(MemifValueError):
                    tx.send(packets)
                accepted = 0
            else:
                assert tx.send(packets) == accepted, chosen
            assert received(rx, 8, 2) == packets[:accepted], chosen


class Moves:
    """A queue, and how far the peer may move its index on, in plain numbers."""

    def __init__(self, place: Bench, direction: str, slave: bool) -> None:
        self.memory, self.size = place.memory, place.memory.size
        self.ring = S2M if slave == (direction == "tx") else M2S
        self.store = self.memory.tail if slave else self.memory.head
        place.indices(self.ring, 0)
        self.index = 0
        self.rows = np.ones((self.size, 1), np.uint8)
        self.sends = direction == "tx"
        if self.sends:
            self.tx = place.tx(self.ring, slave=slave)
            self.room, self.free = self.size, 0
            assert self.tx.send_array(self.rows) == (self.size if slave else 0)  # a master has no buffers yet
        else:
            self.rx = place.rx(self.ring, slave=slave)
            self.rx.recv(1, timeout=0).release()
            self.room = self.size

    def move(self, step: int) -> bool:
        """Move the peer's index, use the queue. -> whether the link lives on; and that has to be right."""
        self.index += step
        self.store(self.ring, self.index)
        allowed = 0 <= step <= self.room
        if not allowed:
            with pytest.raises(MemifDisconnectedError):
                self.tx.free() if self.sends else self.rx.recv(self.size, timeout=0)
        elif self.sends:
            self.free += step
            assert self.tx.free() == self.free
            assert self.tx.send_array(self.rows) == self.free
            self.room, self.free = self.room - step + self.free, 0
        else:
            with self.rx.recv(self.size, timeout=0) as burst:
                assert len(burst) == step
        return allowed


@pytest.mark.parametrize("which", ["rx master", "rx slave", "tx master", "tx slave"])
@pytest.mark.parametrize(
    ("log2", "moves", "longest"),
    [
        (0, [0, 1, 2, -1, 0x7FFF, 0x8000, 0xFFFF], 4),
        (2, [0, 1, 2, 3, 4, 5, -1, -4, 0x8000, 0xFFFC], 4),
        (14, [16383, 16384, 16385], 5),  # which goes round through 65536
    ],
)
def test_moves_of_an_index(which: str, log2: int, moves: list[int], longest: int) -> None:
    """Each move goes forward within what the ring allows, or ends the link."""
    direction, role = which.split()
    with bench(log2, 4) as place:
        for ring in (S2M, M2S):
            for at in range(place.memory.size):
                place.memory.describe(ring, at, 0, 0, 1, place.memory.buffer_at(ring, at))
        for steps in itertools.product(moves, repeat=longest):
            state = Moves(place, direction, role == "slave")
            _ = all(map(state.move, steps))  # up to the first that is not allowed
