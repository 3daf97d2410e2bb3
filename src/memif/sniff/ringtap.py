"""Follows one ring from outside, read-only.

While packets are copied, the ring turns. So copying comes first and takes as little time as possible; everything slow
(finding lengths, finding out whose buffers they are) is done on the copies afterwards. For that, the tap must know
where the buffers are before it reads the descriptors. Slaves that copy give each slot its own buffer, side by side, and
these are read as one strided block. Where buffers move about (zero-copy), descriptors are followed one by one.
"""

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

    def cut(self, table: NDArray[Any], first: int, count: int) -> NDArray[Any]:
        """Return a copy of the rows of `count` slots from index `first` on, around the ring's end."""
        start = first & (self.size - 1)
        if start + count <= self.size:
            return table[start : start + count].copy()
        return np.concatenate((table[start:], table[: start + count - self.size]))

    def grab(self, first: int, count: int, width: int, *, by_known: bool) -> tuple[Descriptors, Bytes]:
        """Copy descriptors and the first bytes of their buffers.

        Args:
            first: Index of the first slot.
            count: How many slots.
            width: The most bytes of each buffer.
            by_known: Where the descriptors may name other buffers by now, take the buffers of `known`.
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
        """Remember the buffers of empty slots, for the time when others have taken their places."""
        start = first & (self.size - 1)
        until_end = min(count, self.size - start)
        for low, high in ((start, start + until_end), (0, count - until_end)):
            if high > low:
                fresh, old = self.table[low:high].copy(), self.known[low:high]
                if not self.moving and (fresh["offset"] != old["offset"]).any():
                    self.moving, self._block = True, None
                self.known[low:high] = fresh

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


_HEAD: Final = 64
_FIRST_WIDTH: Final = 2048  # of rows, before it is known how long the packets are
_MAX_LENGTH: Final = 65536
_TURN: Final = 1 << 16
_SAFE: Final = _TURN / 60e6  # seconds in which no index wraps, up to 60 million packets a second
_HORIZON: Final = 0.1  # seconds for which the highest rate is remembered
_WINDOW: Final = 100e-6  # seconds, at least, over which it is measured
_FEW: Final = 256
_START_COST: Final = 20e-6  # seconds of a copy, however few packets it has


@dataclass(slots=True)
class RingCounters:
    """What happened to the packets of a ring. A piece of a chained packet counts as one, except in `seen`.

    Attributes:
        passed: Descriptors that were sent, by the ring's index.
        seen: Packets copied.
        bytes: Bytes on the wire of the packets seen.
        missed: Descriptors that were overwritten, or may have been, before they were copied.
        inferred: Of those seen: the length comes from the packet's own header, because the receiver had reset it.
        unknown: Of those seen: only the first 60 bytes were kept, because the header does not state a length either.
        unsure: Of those seen: buffers of zero-copy peers that may have been used again before they were copied.
        malformed: Descriptors that point outside of the memory.
        estimated: How often the ring was read so late that its 16-bit index may have wrapped. `passed` and `missed`
            are exact only where this is 0 (and at most 60 million packets a second pass).
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
    """One copy of a part of the ring.

    Attributes:
        first: Index of the first slot.
        ns: When it was made, in nanoseconds since 1970.
        taken: Index up to which the receiver had returned buffers.
        descriptors: The descriptors.
        rows: The first bytes of each buffer.
        lengths: Of each piece, as far as they are known.
        inferred: How many lengths come from the packets' headers.
        unknown: How many lengths are not known.
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
    """One ring of a link between two other programs. Only reads. One thread at a time.

    Starts at index 0, as all rings do when a link comes up.

    Args:
        memory: The link's regions as read-only arrays of bytes, by index.
        ring: The announcement of the ring, checked against the regions.
        link: Number of the link.
        cache_line: Bytes of the slave's cache line, 64 or 128.
        ethernet: Whether packets begin with an Ethernet header.

    Attributes:
        counters: What happened to the packets.
        size: Slots of the ring.
        rate: Descriptors a second, smoothed.
        peak: The highest rate of the last moments.
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
        # The slots that a sender may be filling now, ahead of the index, are those of the oldest packets.
        self._safe = self.size - max(self.size // 4, 1)
        self.rate: float = 0.0
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
        """Record how far the ring has come.

        Call it often: the ring's index has 16 bits. Where it may have wrapped meanwhile, the number of wraps is
        estimated from the rate.

        Args:
            learn: Also remember the buffers of empty slots.

        Returns:
            Descriptors that are new since the last `take`.
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
        """Return whether the index may have wrapped since the last, late look.

        It may have if it would wrap at a multiple of the last rate, or if the rate has jumped, so that it is not known.
        A few packets after a pause do not count as a jump. A multiple, because the link is faster while this process
        does not look: looking takes a CPU from the two peers.
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
        """M2S: remember buffer and size of each empty slot, for the time when the slave has changed them."""
        tail, head = self._tail[0], self._head[0]
        if (tail, head) != self._learned:
            self._learned = tail, head
            self._slots.learn(tail, min((head - tail) & 0xFFFF, self.size))
            self._capacity = int(self._slots.known["length"].max())

    # -- copying

    def take(self, limit: int = 1024, snaplen: int = _MAX_LENGTH) -> Batch | None:
        """Copy up to `limit` packets, each up to `snaplen` bytes. Returns None when none can be read any more."""
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
        """Copy at the width of the last packets, and once more if these turn out to be longer."""
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
        """Return which descriptors are valid, and which packets were still there when the copy was done."""
        lengths, width = look.lengths, look.rows.shape[1]
        good = self._slots.inside(look.descriptors, lengths) & (lengths > 0) & (lengths <= _MAX_LENGTH)
        self.counters.malformed += int((~good).sum())
        index = np.arange(look.first, look.first + len(lengths))
        # Neither returned by the receiver, nor so old that the sender may be using its slot again.
        waiting = ~self._handed_back(index, look.taken)
        present = waiting | (self._produced - index <= self._safe)
        present &= np.minimum(lengths, snaplen) <= width
        if self._slots.moving:
            self.counters.unsure += int((good & present & ~waiting).sum())
        return good, present

    def _window(self, limit: int) -> tuple[int, int]:
        """Return which packets to copy: the oldest if they will still be there, otherwise newer ones."""
        per_second = self.rate
        most = (self._safe - per_second * _START_COST) / (1 + per_second * self._cost)
        count = min(limit, max(int(most), 16))
        turned = int(per_second * (_START_COST + self._cost * count))
        first = max(
            self._next, min(self._produced + turned - self._safe, self._produced - count), self._produced - self._safe
        )
        return first, min(self._produced - first, count)

    def _middle_of_chain(self, first: int) -> bool:
        """Return whether the slot after a gap is the rest of a chain."""
        return bool(self._slots.table["flags"][(first - 1) & (self.size - 1)] & NEXT)

    def _given_back_to(self) -> int:
        """Return the index up to which the receiver has returned buffers."""
        return self._tail[0] if self.ring.s2m else (self._head[0] - self.size) & 0xFFFF

    def _lengths(self, first: int, descriptors: Descriptors, rows: Bytes) -> tuple[NDArray[np.int64], int, int]:
        """Find the length of each piece, and correct the flags in `descriptors`.

        A slave resets length and flags of a slot as soon as it has read it, and may put another buffer there. A master
        may clear the flags.

        Returns:
            The lengths; how many of them come from headers; how many are not known.
        """
        lengths = descriptors["length"].astype(np.int64)
        index = np.arange(first, first + len(lengths))
        if self.ring.s2m:
            self._restore_chains(index, descriptors, lengths, rows)
            return lengths, 0, 0
        reset: NDArray[np.bool_] = ((self._head[0] - index) & 0xFFFF) > self.size
        # Either it is being reset now, or the packet fills its buffer: its header decides.
        doubtful = ~reset & (lengths == self._capacity) & (descriptors["flags"] == 0)
        doubtful[1:] &= descriptors["flags"][:-1] == 0
        if reset.any() or doubtful.any():
            return lengths, *self._infer(descriptors, lengths, rows, reset, doubtful)
        return lengths, 0, 0

    def _restore_chains(
        self, index: NDArray[np.int64], descriptors: Descriptors, lengths: NDArray[np.int64], rows: Bytes
    ) -> None:
        """S2M: a packet that fills its buffer, and is longer by its header, continues in the next slot."""
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
        """Return packets joined from the pieces of chains, with their lengths. Incomplete ones count as missed."""
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
            self._next -= len(parts)  # the rest of this packet follows what was taken: next time
        else:
            self.counters.missed += len(parts)
        return packets

    def close(self) -> None:
        """Release the memory. The counters stay."""
        self._head.release()
        self._tail.release()
        self._slots.close()
