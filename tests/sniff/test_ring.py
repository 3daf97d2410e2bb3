"""`memif.sniff.RingTap` on rings that are filled here, step by step, in ordinary memory."""

import itertools
import struct
import time
from types import SimpleNamespace

import numpy as np
import pytest

from memif.protocol.wire import AddRing
from memif.sniff import RingCounters, RingTap, ringtap
from tools.frames import ethernet, udp

_LOG2 = 4
_SIZE = 1 << _LOG2
_ROOM = 256
_BUFFERS = 4096


class Ring:
    """A ring of 16 slots with buffers of 256 bytes, and what its two owners do to it."""

    def __init__(self, *, s2m: bool) -> None:
        self.memory = np.zeros(_BUFFERS + 4 * _SIZE * _ROOM, np.uint8)
        self.view = memoryview(self.memory)
        self.s2m = s2m
        self.head = self.tail = 0
        for slot in range(_SIZE):
            self.describe(slot, _ROOM, _BUFFERS + slot * _ROOM)
        frozen = self.memory.view()
        frozen.flags.writeable = False
        self.tap = RingTap((frozen,), AddRing(s2m, 0, 0, 0, _LOG2))
        if not s2m:
            self.set(head=_SIZE)
            self.tap.track()

    def describe(self, slot: int, length: int, offset: int | None = None, flags: int = 0, region: int = 0) -> None:
        """Write a descriptor."""
        at = 128 + 16 * (slot % _SIZE)
        if offset is None:
            offset = struct.unpack_from("<I", self.view, at + 8)[0]
        struct.pack_into("<HHII", self.view, at, flags, region, length, offset)

    def set(self, head: int | None = None, tail: int | None = None) -> None:
        """Store indices."""
        self.head = self.head if head is None else head
        self.tail = self.tail if tail is None else tail
        struct.pack_into("<H", self.view, 6, self.head & 0xFFFF)
        struct.pack_into("<H", self.view, 64, self.tail & 0xFFFF)

    def put(self, packet: bytes, flags: int = 0) -> None:
        """The sender sends a packet, or a piece of one."""
        index = self.head if self.s2m else self.tail
        at = 128 + 16 * (index % _SIZE)
        offset = struct.unpack_from("<I", self.view, at + 8)[0]
        self.view[offset : offset + len(packet)] = packet
        self.describe(index, len(packet), flags=flags)
        self.set(head=index + 1) if self.s2m else self.set(tail=index + 1)

    def consume(self) -> None:
        """The receiver takes everything; a slave resets the slots."""
        if self.s2m:
            self.set(tail=self.head)
            return
        for index in range(self.head, self.tail + _SIZE):
            self.describe(index, _ROOM)
        self.set(head=self.tail + _SIZE)

    def taken(self, **options: int) -> list[bytes]:
        """What the tap copies now."""
        packets: list[bytes] = []
        while (batch := self.tap.take(**options)) is not None:
            assert batch.s2m == self.s2m
            packets += batch.tobytes()
        return packets


@pytest.fixture(params=[True, False], ids=["S2M", "M2S"])
def ring(request: pytest.FixtureRequest) -> Ring:
    """One ring of each direction."""
    return Ring(s2m=request.param)


def packet(number: int, size: int = 80) -> bytes:
    """A frame that says who it is and how long."""
    return ethernet(udp(number.to_bytes(4, "big").ljust(size - 42, b"-")))


def test_packets_are_copied_whatever_the_receiver_does(ring: Ring) -> None:
    expected = []
    for number in range(3 * _SIZE):
        ring.put(packet(number, 60 + number))
        expected.append(packet(number, 60 + number))
        if number % 2:
            ring.consume()
        if number % 3 == 2:
            assert ring.taken() == expected
            expected = []
            ring.consume()
    counters = ring.tap.counters
    assert (counters.passed, counters.seen, counters.missed, counters.malformed) == (48, 48, 0, 0)


def test_indices_wrap(ring: Ring, monkeypatch: pytest.MonkeyPatch) -> None:
    # The tap leaves more to a sender that is fast: here a pause in the middle must not make one look so.
    ticks = itertools.count()
    clock = SimpleNamespace(monotonic=lambda: next(ticks) * 1e-3, time_ns=time.time_ns)
    monkeypatch.setattr(ringtap, "time", clock)
    for number in range(70_000 // 8):
        for i in range(8):
            ring.put(packet(8 * number + i))
        if number % 1024 == 0:
            assert ring.taken() == [packet(8 * number + i) for i in range(8)]
        else:
            ring.tap.take()
        ring.consume()
    assert ring.tap.counters.seen == ring.tap.counters.passed == 70_000 // 8 * 8


def test_what_was_overwritten_is_missed_and_never_shown(ring: Ring) -> None:
    for number in range(40):
        ring.put(packet(number))
        ring.consume()
    shown = ring.taken()
    counters = ring.tap.counters
    # Of the last 16 slots a quarter is left to what the sender may be writing just now.
    assert shown == [packet(number) for number in range(28, 40)]
    assert (counters.passed, counters.seen, counters.missed) == (40, 12, 28)


def test_lengths_that_a_slave_has_reset_are_read_from_the_headers() -> None:
    ring = Ring(s2m=False)
    arp = ethernet(bytes(28), 0x0806)
    unknown = ethernet(b"?" * 100, 0x88B5)
    for data in (packet(1, 77), arp, unknown):
        ring.put(data)
    ring.consume()
    assert ring.taken() == [packet(1, 77), arp, unknown[:60]]
    assert (ring.tap.counters.inferred, ring.tap.counters.unknown) == (2, 1)


def test_a_packet_that_fills_its_buffer_is_whole() -> None:
    ring = Ring(s2m=False)
    ring.put(packet(1, _ROOM))
    ring.put(packet(2, 100).ljust(_ROOM, b"\0"))  # padded: the header says less than there is
    shown = ring.taken()
    assert shown[0] == packet(1, _ROOM)
    assert shown[1][:100] == packet(2, 100)


def test_chains_are_joined(ring: Ring) -> None:
    long = packet(7, 600)
    for turn in range(4):
        ring.put(packet(turn))
        ring.put(long[:_ROOM], flags=1)
        ring.put(long[_ROOM : 2 * _ROOM], flags=1)
        ring.put(long[2 * _ROOM :])
        if turn % 2:
            ring.consume()
        assert ring.taken() == [packet(turn), long]
        ring.consume()
    assert ring.tap.counters.missed == 0


def test_a_chain_that_a_limit_cuts_comes_whole_the_next_time(ring: Ring) -> None:
    long = packet(7, 600)
    ring.put(packet(1))
    for at in (0, 256, 512):
        ring.put(long[at : at + 256], flags=int(at < 512))
    first = ring.tap.take(limit=2)
    assert first is not None
    assert first.tobytes() == [packet(1)]
    assert ring.taken() == [long]


def test_a_chain_longer_than_any_limit_does_not_stop_the_tap(ring: Ring) -> None:
    for _ in range(5):
        ring.put(b"x" * 100, flags=1)
    assert ring.tap.take(limit=3) is None
    ring.put(packet(1))
    for _ in range(4):
        ring.tap.take(limit=3)
    assert ring.tap.counters.missed >= 3


@pytest.mark.parametrize(
    ("length", "offset", "region"),
    [
        (100, 1 << 31, 0),
        (100, 0, 1),
        (0, _BUFFERS, 0),
        (1 << 31, _BUFFERS, 0),
        (0xFFFFFFFF, 0xFFFFFFFF, 0xFFFF),
        (_ROOM, _BUFFERS + 4 * _SIZE * _ROOM - 10, 0),
    ],
)
def test_descriptors_out_of_bounds_are_counted_and_nothing_is_read(length: int, offset: int, region: int) -> None:
    ring = Ring(s2m=True)
    ring.put(packet(1))
    ring.describe(1, length, offset, region=region)
    ring.set(head=2)
    ring.put(packet(3))
    assert ring.taken() == [packet(1), packet(3)]
    assert (ring.tap.counters.malformed, ring.tap.counters.seen) == (1, 2)


def test_buffers_that_move_are_followed_and_marked_unsure() -> None:
    ring = Ring(s2m=True)
    for number in range(32):
        ring.describe(number, 0, _BUFFERS + (number * 37 % 64) * _ROOM)
        ring.put(packet(number))
        if number >= 20:
            ring.consume()
        assert ring.taken() == [packet(number)]
        ring.consume()
    assert ring.tap.counters.unsure == 12


def test_new_buffers_in_used_slots_do_not_hide_what_was_received() -> None:
    """A zero-copy slave hangs another buffer into the slot as soon as it has the packet."""
    ring = Ring(s2m=False)
    ring.put(packet(1))
    ring.set(tail=1)
    ring.describe(0, _ROOM, _BUFFERS + 50 * _ROOM)
    ring.set(head=_SIZE + 1)
    assert ring.taken() == [packet(1)]
    assert ring.tap.counters.unsure == 1


def test_snaplen_keeps_the_true_length(ring: Ring) -> None:
    ring.put(packet(1, 200))
    batch = ring.tap.take(snaplen=50)
    assert batch is not None
    assert batch.tobytes() == [packet(1, 200)[:50]]
    assert batch.lengths.tolist() == [200]


@pytest.mark.parametrize("snaplen", [1, 14, 63, 64, 300])
def test_any_snaplen_of_anything(ring: Ring, snaplen: int) -> None:
    long = packet(7, 600)
    ring.put(packet(1))
    ring.put(long[:_ROOM], flags=1)
    ring.put(long[_ROOM : 2 * _ROOM], flags=1)
    ring.put(long[2 * _ROOM :])
    ring.put(packet(2))
    if not ring.s2m:
        ring.consume()
    batch = ring.tap.take(snaplen=snaplen)
    assert batch is not None
    assert batch.lengths.tolist() == [80, 600, 80]
    assert batch.tobytes() == [p[:snaplen] for p in (packet(1), long, packet(2))]


def test_nothing_is_ever_written(ring: Ring) -> None:
    for number in range(10):
        ring.put(packet(number))
    before = ring.memory.tobytes()
    ring.taken()
    assert ring.memory.tobytes() == before


class Clock:
    """Stands for the module `time` in the tap: it moves only when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def time_ns(self) -> int:
        return int(self.now * 1e9)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock for all taps made in the test."""
    made = Clock()
    monkeypatch.setattr(ringtap, "time", made)
    return made


def looks(ring: Ring, clock: Clock, *steps: tuple[float, int]) -> RingCounters:
    """Let seconds pass and so many packets, then look; again and again."""
    for seconds, packets in steps:
        clock.now += seconds
        ring.set(head=ring.head + packets, tail=ring.head + packets)
        ring.tap.track()
    return ring.tap.counters


def test_a_count_is_exact_while_no_index_can_have_turned_round(clock: Clock) -> None:
    counters = looks(Ring(s2m=True), clock, (10.0, 0), (1e-3, 50_000), (1e-3, 60_000), (1e-3, 60_000))
    assert (counters.passed, counters.estimated) == (170_000, 0)
    # A slow link, however late it is looked at.
    counters = looks(Ring(s2m=True), clock, (10.0, 1), (5.0, 2), *[(1e-3, 100)] * 50, (5e-3, 500), (30e-3, 3000))
    assert (counters.passed, counters.estimated) == (8503, 0)


@pytest.mark.parametrize(
    "steps",
    [
        [(1.0, 0), (5e-3, 65_536 + 5000)],
        [*[(1e-3, 5000)] * 50, (5e-3, 65_536 + 10_000)],
        [*[(1e-3, 30_000)] * 50, (3e-3, 3 * 30_000)],
        [*[(20e-6, 600)] * 500, (10e-3, 4 * 65_536 + 9)],
    ],
    ids=["start", "jump", "steady", "fast"],
)
def test_a_count_that_can_have_missed_a_turn_is_called_an_estimate(
    clock: Clock, steps: list[tuple[float, int]]
) -> None:
    counters = looks(Ring(s2m=True), clock, *steps)
    assert counters.estimated == 1
    assert (sum(packets for _, packets in steps) - counters.passed) % 65_536 == 0


def test_turns_are_counted_by_the_rate_so_far(clock: Clock) -> None:
    steps = [*[(1e-3, 20_000)] * 50, (10e-3, 200_000), (20e-3, 400_000)]
    counters = looks(Ring(s2m=True), clock, *steps)
    assert (counters.passed, counters.estimated) == (1_600_000, 2)
