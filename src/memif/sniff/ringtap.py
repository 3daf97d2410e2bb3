"""Following one ring from outside, read-only."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from memif.protocol.wire import AddRing
from memif.sniff.batch import Batch, lengths_by_headers, rechain

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


_HEAD: Final = 64
_FIRST_WIDTH: Final = 2048  # of rows, before it is known how long the packets are
_MAX_LENGTH: Final = 65536
_TURN: Final = 1 << 16
_SAFE: Final = _TURN / 60e6  # seconds in which nobody turns an index round, up to 60 million packets a second
_HORIZON: Final = 0.1  # seconds for which the highest rate is remembered
_WINDOW: Final = 100e-6  # seconds, at least, over which it is measured
_FEW: Final = 256
_START_COST: Final = 20e-6  # seconds of a copy, however few packets it has


@dataclass(slots=True)
class RingCounters:
    """What happened to the packets of a ring. A piece of a chained packet counts as one, but in `seen`.

    passed      descriptors that the ring's index says were sent
    seen        packets copied
    bytes       of the packets seen, on the wire
    missed      descriptors that were overwritten, or may have been, before they were copied
    inferred    of those seen: the length is from the packet's own header, as the receiver had reset it
    unknown     of those seen: only the first 60 bytes were kept, as even the header does not tell the length
    unsure      of those seen: buffers of zero-copy peers that may have been used again before they were copied
    malformed   descriptors that point outside of the memory
    estimated   how often the ring was looked at so late that its 16 bit index may have turned round: `passed` and
                `missed` are exact only where this is 0 (and no more than 60 million packets a second pass)
    """

    passed: int = 0
    seen: int = 0
    bytes: int = 0
    missed: int = 0
    inferred: int = 0
    unknown: int = 0
    unsure: int = 0
    malformed: int = 0
    estimated: int = 0


@dataclass(frozen=True, slots=True)
class _Look:
    """One copy of a part of the ring: descriptors and the first bytes of each buffer, as they were at `ns`.

    `taken`: up to where the receiver had given buffers back. `lengths`: of each piece, as far as they can be told.
    """

    first: int
    ns: int
    taken: int
    descriptors: Descriptors
    rows: Bytes
    lengths: NDArray[np.int64]
    inferred: int
    unknown: int


class RingTap:
    """One ring of a link between two others. Reads only; one thread at a time.

    `memory`: the link's regions as read-only arrays of bytes, by index. `ring`: the announcement of the ring, checked
    against them. Starts at index 0, where all rings start when a link comes up.
    """

    ring: AddRing
    link: int
    ethernet: bool

    def __init__(
        self, memory: Sequence[Bytes], ring: AddRing, *, link: int = 0, cache_line: int = 64, ethernet: bool = True
    ) -> None:
        self.ring, self.link, self.ethernet = ring, link, ethernet
        self.counters: RingCounters = RingCounters()
        self.size: int = 1 << ring.log2_ring_size
        header = memoryview(memory[ring.region].data)[ring.offset : ring.offset + 2 * cache_line + 16 * self.size]
        self._head = header[6:8].cast("H")
        self._tail = header[cache_line : cache_line + 2].cast("H")
        self._filled = self._head if ring.s2m else self._tail
        self._slots = Slots(memory, np.frombuffer(header[2 * cache_line :], DESCRIPTOR))
        self._capacity = int(self._slots.known["length"].max())
        # Slots that a sender may be filling just now, ahead of the index, are those of the oldest packets.
        self._safe = self.size - max(self.size // 4, 1)
        #: Descriptors a second, smoothed.
        self.rate: float = 0.0
        #: The highest rate of the last moments.
        self.peak: float = 0.0
        self._peaked = 0.0
        self._window_start = (time.monotonic(), 0)
        self._cost = 1e-6  # seconds a packet
        self._width = _FIRST_WIDTH
        self._looked = time.monotonic()
        self._low = self._produced = self._next = 0  # the first has 16 bits, the others do not wrap
        self._learned: tuple[int, int] | None = None
        self._torn = False

    # -- counting, which is cheap

    def track(self, *, learn: bool = True) -> int:
        """Note how far the ring has come. -> descriptors that are new since the last `take`.

        To be called often enough: the ring's index has 16 bits. Where it may have turned round meanwhile, the rate so
        far tells how often, which is an estimate.
        """
        value = self._filled[0]
        step = (value - self._low) & 0xFFFF
        now = time.monotonic()
        span = now - self._looked
        if span > 0:
            if span > _SAFE and self._may_have_turned(step, span):
                step += _TURN * max(round((self.rate * span - step) / _TURN), 0)
                self.counters.estimated += 1
            weight = min(span / 2e-3, 1.0)  # over about 2 ms, however often one looks
            self.rate += weight * (step / span - self.rate)
        self._looked, self._low = now, value
        self._produced += step
        self.counters.passed += step
        self._note_peak(now)
        if learn and not (self.ring.s2m or step):
            self._learn()
        return self._produced - self._next

    def _may_have_turned(self, step: int, span: float) -> bool:
        """Whether a late look can have missed a whole turn: it would have at many times the rate of the last moments,
        or the rate has jumped, so that nothing is known of it. A few packets after a pause are just that.

        Many times, because the link is faster while nobody looks: looking takes a CPU from its two sides.
        """
        most = 16 * self.peak * span
        return step > most + _FEW or most > _TURN - step

    def _note_peak(self, now: float) -> None:
        start, produced = self._window_start
        if now - start >= _WINDOW:
            rate = (self._produced - produced) / (now - start)
            if rate > self.peak or now > self._peaked + _HORIZON:
                self.peak, self._peaked = rate, now
            self._window_start = now, self._produced

    def _learn(self) -> None:
        """M2S: remember which buffer each empty slot has, and how large it is, for when the slave has changed it."""
        tail, head = self._tail[0], self._head[0]
        if (tail, head) != self._learned:
            self._learned = tail, head
            self._slots.learn(tail, min((head - tail) & 0xFFFF, self.size))
            self._capacity = int(self._slots.known["length"].max())

    # -- copying

    def take(self, limit: int = 1024, snaplen: int = _MAX_LENGTH) -> Batch | None:
        """Copy up to `limit` packets, each up to `snaplen` bytes; None when there is none that can still be read."""
        self.track()
        first, count = self._window(min(limit, self.size))
        self.counters.missed += first - self._next
        self._torn = first != self._next and self._middle_of_chain(first)
        self._next = first + count
        if not count:
            return None
        look = self._look(first, count, snaplen)
        if not self.ring.s2m:
            self._learn()
        self.counters.inferred += look.inferred
        self.counters.unknown += look.unknown
        return self._batch(look, *self._judge(look, snaplen), snaplen)

    def _look(self, first: int, count: int, snaplen: int) -> _Look:
        """Copy. Most packets are like those before; where they turn out to be longer, once more."""
        for _ in range(2):
            started = time.monotonic()
            width = max(min(self._width, snaplen), _HEAD)
            descriptors, rows = self._slots.grab(first, count, width, by_known=not self.ring.s2m)
            taken, ns = self._given_back_to(), time.time_ns()
            self.track(learn=False)
            self._cost += 0.3 * (max(self._looked - started - _START_COST, 0.0) / count - self._cost)
            lengths, inferred, unknown = self._lengths(first, descriptors, rows)
            longest = int(min(lengths.max(), snaplen))
            self._width = max(longest, 7 * self._width // 8, _HEAD)
            if longest <= rows.shape[1]:
                break
        return _Look(first, ns, taken, descriptors, rows, lengths, inferred, unknown)

    def _judge(self, look: _Look, snaplen: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which descriptors are sound, and which packets were still there when the copy was done."""
        lengths, width = look.lengths, look.rows.shape[1]
        good = self._slots.inside(look.descriptors, lengths) & (lengths > 0) & (lengths <= _MAX_LENGTH)
        self.counters.malformed += int((~good).sum())
        index = np.arange(look.first, look.first + len(lengths))
        # Neither given back by the receiver, nor so old that the sender may be at its slot again.
        waiting = ~self._handed_back(index, look.taken)
        present = waiting | (self._produced - index <= self._safe)
        present &= np.minimum(lengths, snaplen) <= width
        if self._slots.moving:
            self.counters.unsure += int((good & present & ~waiting).sum())
        return good, present

    def _window(self, limit: int) -> tuple[int, int]:
        """Which packets to copy: the oldest, if they will last until that is done, otherwise newer ones."""
        per_second = self.rate
        most = (self._safe - per_second * _START_COST) / (1 + per_second * self._cost)
        count = min(limit, max(int(most), 16))
        turned = int(per_second * (_START_COST + self._cost * count))
        first = max(
            self._next, min(self._produced + turned - self._safe, self._produced - count), self._produced - self._safe
        )
        return first, min(self._produced - first, count)

    def _middle_of_chain(self, first: int) -> bool:
        """Whether what follows a gap is the rest of a chain."""
        return bool(self._slots.table["flags"][(first - 1) & (self.size - 1)] & NEXT)

    def _given_back_to(self) -> int:
        """Up to which index the receiver has handed the buffers back."""
        return self._tail[0] if self.ring.s2m else (self._head[0] - self.size) & 0xFFFF

    def _lengths(self, first: int, descriptors: Descriptors, rows: Bytes) -> tuple[NDArray[np.int64], int, int]:
        """Bytes of each piece, and of how many the ring has forgotten them: those known by their headers, and those
        not at all. Corrects flags in `descriptors`.

        A slave resets length and flags of a slot as soon as it has read it, and may put in another buffer. A master may
        clear the flags.
        """
        lengths = descriptors["length"].astype(np.int64)
        index = np.arange(first, first + len(lengths))
        if self.ring.s2m:
            self._restore_chains(index, descriptors, lengths, rows)
            return lengths, 0, 0
        reset: NDArray[np.bool_] = ((self._head[0] - index) & 0xFFFF) > self.size
        # One that is just being reset, or a packet that fills its buffer: see what its header says.
        doubtful = ~reset & (lengths == self._capacity) & (descriptors["flags"] == 0)
        doubtful[1:] &= descriptors["flags"][:-1] == 0
        if reset.any() or doubtful.any():
            return lengths, *self._infer(descriptors, lengths, rows, reset, doubtful)
        return lengths, 0, 0

    def _restore_chains(
        self, index: NDArray[np.int64], descriptors: Descriptors, lengths: NDArray[np.int64], rows: Bytes
    ) -> None:
        """S2M: a packet that fills its buffer, and by its header is longer, goes on in the next slot."""
        self._capacity = max(self._capacity, int(lengths.max()))
        full = (lengths == self._capacity) & (descriptors["flags"] == 0)
        if full.any() and (full := full & self._handed_back(index, self._given_back_to())).any():
            told, known = lengths_by_headers(rows, self.ethernet)
            longer = full & known & (told > self._capacity)
            lengths[longer] = told[longer]
            rechain(descriptors["flags"], lengths, longer, self._capacity)

    def _handed_back(self, index: NDArray[np.int64], taken: int) -> NDArray[np.bool_]:
        back: NDArray[np.bool_] = ((index - taken) & 0xFFFF) >= _TURN // 2
        return back

    def _infer(
        self,
        descriptors: Descriptors,
        lengths: NDArray[np.int64],
        rows: Bytes,
        reset: NDArray[np.bool_],
        doubtful: NDArray[np.bool_],
    ) -> tuple[int, int]:
        told, known = lengths_by_headers(rows, self.ethernet)
        use = reset | (doubtful & known & (told < self._capacity))
        descriptors["flags"][reset] = 0
        lengths[use] = told[use]
        pieces = rechain(descriptors["flags"], lengths, reset, self._capacity)
        later = int((use & ~known).sum())  # later pieces of chains have no headers
        return int((use & known).sum()), max(later - pieces, 0)

    # -- results

    def _batch(self, look: _Look, good: NDArray[np.bool_], present: NDArray[np.bool_], snaplen: int) -> Batch | None:
        self.counters.missed += int((good & ~present).sum())
        usable, rows, lengths = good & present, look.rows, look.lengths
        packets = None
        if (look.descriptors["flags"][good] & NEXT).any():
            chains = self._joined(look, good, usable)
            lengths = np.array([total for _, total in chains], np.int64)
            packets = [packet[:snaplen] for packet, _ in chains]
        elif not usable.all():
            rows, lengths = rows[usable], lengths[usable]
        if not len(lengths):
            return None
        self.counters.seen += len(lengths)
        self.counters.bytes += int(lengths.sum())
        matrix = None if packets is not None else rows[:, :snaplen]
        return Batch(self.link, self.ring.s2m, self.ring.index, look.ns, matrix, lengths.astype(np.uint32), packets)

    def _joined(self, look: _Look, good: NDArray[np.bool_], usable: NDArray[np.bool_]) -> list[tuple[bytes, int]]:
        """Packets from the pieces of chains, with their lengths; of those not complete all pieces are missed."""
        packets: list[tuple[bytes, int]] = []
        parts: list[tuple[bytes, int]] = []
        complete = not self._torn
        columns = (look.lengths[good], look.descriptors["flags"][good], usable[good])
        kept = zip(look.rows[good], *(column.tolist() for column in columns), strict=True)
        for row, length, flag, fine in kept:
            parts.append((row[:length].tobytes(), length))
            complete &= fine
            if flag & NEXT:
                continue
            if complete:
                packets.append((b"".join(part for part, _ in parts), sum(size for _, size in parts)))
            else:
                self.counters.missed += len(parts)
            parts, complete = [], True
        if len(parts) < len(look.rows):
            self._next -= len(parts)  # the rest of this one lies behind what was taken: next time
        else:
            self.counters.missed += len(parts)
        return packets

    def close(self) -> None:
        """Let go of the memory; the counters stay."""
        self._head.release()
        self._tail.release()
        self._slots.close()
