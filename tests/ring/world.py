"""One link, its reference, and every operation on both at once; each checks that they agree."""

import contextlib
import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest

from memif.errors import MemifStateError, MemifValueError
from memif.ring import Burst
from ring.memory import End, Memory
from ring.reference import Direction, Never, Packet, Run


@dataclasses.dataclass
class Held:
    """A received burst that is not released yet, and what must be in it."""

    burst: Burst
    packets: list[Packet]
    run: Run
    link: Direction
    slave: bool
    grown: int = 0
    gone: set[int] = dataclasses.field(default_factory=set)


@dataclasses.dataclass
class Open:
    """An allocated burst, and what was written into it."""

    burst: Burst
    packets: list[Packet]


def pattern(number: int, length: int) -> bytes:
    """Bytes that tell which packet they belong to."""
    return bytes((number * 7 + i * 13 + (i >> 8)) & 0xFF for i in range(min(length, 512))) * (length // 512 + 1)


class World:
    """`slave` says everywhere which side acts."""

    def __init__(self, log2: int, room: int, headroom: int = 0, cache_line: int = 64) -> None:
        self.memory = Memory(log2, room, headroom=headroom, cache_line=cache_line)
        self.ends: dict[bool, End] = {True: self.memory.slave()}
        self.ends[False] = self.memory.master()
        self.room, self.headroom, self.size = room, headroom, 1 << log2
        # By sender: a slave fills whole buffers, a master what the slave's headroom leaves.
        self.links = {True: Direction(self.size, room), False: Direction(self.size, room - headroom)}
        self.held: list[Held] = []
        self.open: dict[bool, Open] = {}
        self.number = 0
        self.sent = {True: [0, 0], False: [0, 0]}

    def close(self) -> None:
        self.held.clear()
        self.open.clear()
        self.ends.clear()
        self.memory.__exit__()

    def data(self, lengths: Sequence[int]) -> list[bytes]:
        found = []
        for length in lengths:
            self.number += 1
            found.append(pattern(self.number, length)[:length])
        return found

    def _count(self, slave: bool, packets: Sequence[bytes]) -> None:
        self.sent[slave][0] += len(packets)
        self.sent[slave][1] += sum(map(len, packets))

    def _locked(self, slave: bool) -> bool:
        if slave not in self.open:
            return False
        with pytest.raises(MemifStateError, match="open burst"):
            self.ends[slave].tx.send([b"x"])
        return True

    # -- sending

    def send(self, slave: bool, lengths: Sequence[int], kind: str = "bytes") -> None:
        if self._locked(slave):
            return
        packets = self.data(lengths)
        wrapped = {
            "bytes": lambda: packets,
            "bytearray": lambda: tuple(map(bytearray, packets)),
            "view": lambda: [memoryview(b"##" + p + b"##")[2:-2] for p in packets],
            "iterator": lambda: iter([np.frombuffer(p, np.uint8) for p in packets]),
        }[kind]()
        tx = self.ends[slave].tx
        try:
            expected = self.links[slave].copy_in(packets)
        except Never:
            with pytest.raises(MemifValueError, match=r"packets\[\d+\]"):
                tx.send(wrapped)
            return
        assert tx.send(wrapped) == expected
        self._count(slave, packets[:expected])

    def send_array(self, slave: bool, lengths: Sequence[int], width: int | None, spread: int = 0) -> None:
        """`width` None: all rows as long as the longest of `lengths`, which then are not given."""
        if self._locked(slave) or not lengths or not min(lengths):
            return
        if width is None:
            lengths = [max(lengths)] * len(lengths)
        packets = self.data(lengths)
        big = np.full((len(lengths), max(lengths) + spread), 0xEE, np.uint8)
        for row, data in zip(big, packets, strict=True):
            row[: len(data)] = np.frombuffer(data, np.uint8)
        matrix = big[:, : max(lengths)]
        sizes = None if width is None else np.array(lengths, np.uint32 if width else np.int64)
        try:
            expected = self.links[slave].copy_in(packets)
        except Never:
            with pytest.raises(MemifValueError, match=r"matrix\[\d+\]"):
                self.ends[slave].tx.send_array(matrix, sizes)
            return
        assert self.ends[slave].tx.send_array(matrix, sizes) == expected
        self._count(slave, packets[:expected])

    def alloc(self, slave: bool, count: int, size: int | None) -> None:
        if self._locked(slave):
            return
        link = self.links[slave]
        length = link.room if size is None else size
        try:
            need = len(link.split(length))
        except Never:
            if link.free:
                with pytest.raises(MemifValueError, match="size"):
                    self.ends[slave].tx.alloc(count, size)
            return
        burst = self.ends[slave].tx.alloc(count, size)
        packets = self.data([length] * min(count, link.free // need))
        assert len(burst) == len(packets)
        assert burst.lengths.tolist() == [size or 0] * len(packets)
        for i, data in enumerate(packets):
            at = 0
            for piece in burst.fragments(i):
                piece[:] = data[at : at + len(piece)]
                at += len(piece)
            assert at == length
            if size is None:
                burst.lengths[i] = length
        if packets:
            self.open[slave] = Open(burst, [Packet(p, link.split(length)) for p in packets])

    def shorten_open(self, slave: bool, i: int, by: int) -> None:
        if slave not in self.open:
            return
        burst, packets = self.open[slave].burst, self.open[slave].packets
        packet = packets[i % len(packets)]
        by %= packet.pieces[-1]
        packet.pieces[-1] -= by
        packet.data = packet.data[: len(packet.data) - by]
        burst.lengths[i % len(packets)] = len(packet.data)

    def finish_open(self, slave: bool, count: int | None, cancel: bool) -> None:
        if slave not in self.open:
            return
        opened, link = self.open.pop(slave), self.links[slave]
        if cancel:
            opened.burst.release()
            return
        if count is not None:
            count %= len(opened.packets) + 1
        sent = opened.packets[:count]
        assert opened.burst.send(count) == len(sent)
        link.waiting += sent
        link.free -= sum(len(packet.pieces) for packet in sent)
        self._count(slave, [packet.data for packet in sent])

    # -- receiving

    def recv(self, slave: bool, count: int) -> None:
        link = self.links[not slave]
        burst = self.ends[slave].rx.recv(count, timeout=0)
        most = min(count, len(link.waiting))
        if sum(len(packet.pieces) for packet in list(link.waiting)[:most]) <= count:
            assert len(burst) == most
        else:  # the arrays are made for `count` descriptors
            assert 1 <= len(burst) <= most
        if not most:
            assert not burst
            return
        packets, run = link.take(len(burst))
        self.held.append(Held(burst, packets, run, link, slave))
        self.check(self.held[-1])

    def check(self, held: Held) -> None:
        """What can be seen of a burst is what was sent."""
        burst, packets = held.burst, held.packets
        if held.gone:
            return
        data = [packet.data for packet in packets]
        assert burst.tobytes() == data == [bytes(view) for view in burst]
        assert burst.lengths.tolist() == [len(d) for d in data]
        assert burst.pieces.tolist() == [piece for packet in packets for piece in packet.pieces]
        flags = [int(i + 1 < len(packet.pieces)) for packet in packets for i in range(len(packet.pieces))]
        assert burst.flags.tolist() == flags
        assert burst.chained == any(flags)
        rows = burst.gather(32)
        assert [row.tobytes() for row in rows] == [d[:32].ljust(32, b"\0") for d in data]
        assert b"".join(burst.fragments(-1)) == data[-1]

    def pick(self, which: int) -> Held | None:
        return self.held[which % len(self.held)] if self.held else None

    def release(self, which: int, drop: bool) -> None:
        if held := self.pick(which):
            self.held.remove(held)
            if drop:
                held.burst = None  # type: ignore[assignment]
            else:
                held.burst.release()
                held.burst.release()
            held.link.release(held.run)

    def write(self, which: int, i: int, byte: int) -> None:
        """Change a packet in place."""
        if (held := self.pick(which)) and not held.gone:
            i %= len(held.packets)
            packet = held.packets[i]
            for piece in held.burst.fragments(i):
                piece[-1] = byte
            at = -1
            data = bytearray(packet.data)
            for piece_length in packet.pieces:
                at += piece_length
                data[at] = byte
            packet.data = bytes(data)

    def scatter(self, which: int, width: int) -> None:
        if (held := self.pick(which)) and not held.gone:
            rows = np.random.default_rng(width).integers(0, 256, (len(held.packets), width), np.uint8)
            held.burst.scatter(rows)
            for packet, row in zip(held.packets, rows, strict=True):
                n = min(width, len(packet.data))
                packet.data = row.tobytes()[:n] + packet.data[n:]
            self.check(held)

    def shorten(self, which: int, i: int, by: int) -> None:
        if (held := self.pick(which)) and not held.gone:
            packet = held.packets[i % len(held.packets)]
            by %= packet.pieces[-1]
            packet.pieces[-1] -= by
            packet.data = packet.data[: len(packet.data) - by]
            held.burst.lengths[i % len(held.packets)] = len(packet.data)
            assert bytes(held.burst[i % len(held.packets)]) == packet.data

    def prepend(self, which: int, count: int) -> None:
        held = self.pick(which)
        if held is None or held.gone:
            return
        if not held.slave:
            with pytest.raises(MemifStateError, match="prepend"):
                held.burst.prepend(count)
            return
        if held.grown + count > self.headroom:
            with pytest.raises(MemifValueError, match="headroom"):
                held.burst.prepend(count)
            return
        held.burst.prepend(count)
        held.grown += count
        for i, packet in enumerate(held.packets):
            front = bytes([i & 0xFF]) * count
            held.burst.fragments(i)[0][:count] = front
            packet.data = front + packet.data
            packet.pieces[0] += count
        self.check(held)

    # -- forwarding

    def forward(self, which: int, start: int, stop: int | None, chosen: Sequence[bool] | None, copy: bool) -> None:
        held = self.pick(which)
        if held is None or self._locked(held.slave):
            return
        tx, link, n = self.ends[held.slave].tx, self.links[held.slave], len(held.packets)
        select = None if chosen is None else np.array([chosen[i % len(chosen)] for i in range(n)])
        numbers = [i for i in range(n)[start:stop] if select is None or select[i]]
        move = held.slave and not copy
        whole = [i for k, i in enumerate(numbers) if not held.gone & set(numbers[: k + 1])]
        sent = link.move_in([held.packets[i] for i in whole]) if move else self._copy_in(link, held, whole)
        refused = sent < 0 or (sent == len(whole) < len(numbers))
        sent = max(sent, 0)
        expected = pytest.raises(MemifStateError if sent == len(whole) < len(numbers) else MemifValueError)
        with expected if refused else contextlib.nullcontext():
            assert tx.forward(held.burst, start=start, stop=stop, select=select, copy=copy) == sent
        self._count(held.slave, [held.packets[i].data for i in whole[:sent]])
        if move:
            held.gone |= set(whole[:sent])

    def _copy_in(self, link: Direction, held: Held, numbers: Sequence[int]) -> int:
        """-> packets sent; -1: the first can never fit."""
        for count, i in enumerate(numbers):
            try:
                if not link.copy_in([held.packets[i].data]):
                    return count
            except Never:
                return count or -1
        return len(numbers)

    # -- the end

    def agree(self) -> None:
        """The senders know of as many free slots as the reference."""
        for slave, link in self.links.items():
            if slave not in self.open:
                assert self.ends[slave].tx.free() == link.free

    def finish(self) -> None:
        """Give everything back, receive what waits: both rings are empty and whole again, and counted right."""
        for slave in list(self.open):
            self.finish_open(slave, None, cancel=False)
        while self.held:
            self.release(0, drop=False)
        for slave in (True, False):
            while self.links[not slave].waiting:
                self.recv(slave, 64)
                self.release(-1, drop=False)
            assert not self.ends[slave].rx.recv(1, timeout=0)
        self.agree()
        for slave, (packets, size) in self.sent.items():
            for stats in (self.ends[slave].tx.stats, self.ends[not slave].rx.stats):
                assert (stats["packets"], stats["bytes"], stats["bad_descriptors"]) == (packets, size, 0)
            assert self.links[slave].free == self.size
        assert not self.ends[True].owner.complaints + self.ends[False].owner.complaints
