"""What a link does, in plain Python without memory, indices or descriptors: the reference for the real rings."""

import dataclasses
from collections import deque
from collections.abc import Sequence

MAX_PACKET = 65536


@dataclasses.dataclass
class Packet:
    """A packet in one ring: its bytes, and how they are spread over slots."""

    data: bytes
    pieces: list[int]


@dataclasses.dataclass
class Run:
    """Slots that were handed out together."""

    slots: int
    done: bool = False


class Never(Exception):
    """A packet can never fit."""


class Direction:
    """One ring: `size` slots of which each takes `room` bytes of what is copied in."""

    def __init__(self, size: int, room: int) -> None:
        self.size, self.room = size, room
        self.free = size
        self.waiting: deque[Packet] = deque()
        self.runs: deque[Run] = deque()

    @property
    def most(self) -> int:
        """Slots that one packet may take."""
        return self.size

    def split(self, length: int) -> list[int]:
        """How `length` bytes are spread."""
        if length > self.room * self.most:
            raise Never
        return [self.room] * (length // self.room) + [length % self.room] * (length % self.room != 0)

    def copy_in(self, packets: Sequence[bytes]) -> int:
        """Send by copy; all or nothing when one that is reached while a slot is free can never fit."""
        accepted: list[Packet] = []
        free = self.free
        for data in packets:
            if not 0 < len(data) <= MAX_PACKET:
                raise Never
            if not free:
                break
            pieces = self.split(len(data))
            if len(pieces) > free:
                break
            free -= len(pieces)
            accepted.append(Packet(data, pieces))
        self.waiting += accepted
        self.free = free
        return len(accepted)

    def move_in(self, packets: Sequence[Packet]) -> int:
        """Send what was received without touching it: as many slots as it came in."""
        for count, packet in enumerate(packets):
            if len(packet.pieces) > self.free:
                return count
            self.free -= len(packet.pieces)
            self.waiting.append(packet)
        return len(packets)

    def take(self, count: int) -> tuple[list[Packet], Run]:
        """Receive `count` packets."""
        packets = [self.waiting.popleft() for _ in range(count)]
        run = Run(sum(len(packet.pieces) for packet in packets))
        self.runs.append(run)
        return packets, run

    def release(self, run: Run) -> None:
        """Give slots back, in the order of the ring."""
        run.done = True
        while self.runs and self.runs[0].done:
            self.free += self.runs.popleft().slots
