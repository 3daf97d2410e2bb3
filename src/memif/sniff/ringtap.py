"""Follows one ring from outside, read-only.

While packets are copied, the ring turns. So copying comes first and takes as little time as possible; everything slow
(finding lengths, finding out whose buffers they are) is done on the copies afterwards.

A packet is certain to be what was sent only if its slot had not been given back when the copy was done. Afterwards a
receiver may have written there, and a zero-copy sender may have used the buffer again. Such packets are unsure.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from memif.packet.headers import Matrix as Bytes
from memif.protocol.wire import AddRing
from memif.sniff.batch import Batch, Mask
from memif.sniff.chains import Sizes, lengths_by_headers, rechain, rejoin
from memif.sniff.receiver import Receiver
from memif.sniff.slots import DESCRIPTOR, NEXT, Descriptors, Slots

_HEAD: Final = 64
_FIRST_WIDTH: Final = 2048  # of rows, before it is known how long the packets are
_MAX_LENGTH: Final = 65536
_TURN: Final = 1 << 16
_SAFE: Final = _TURN / 60e6  # seconds in which no index wraps, up to 60 million packets a second
_HORIZON: Final = 0.1  # seconds for which the highest rate is remembered
_WINDOW: Final = 100e-6  # seconds, at least, over which it is measured
_FEW: Final = 256
_BUFFER: Final = 2048  # bytes of a buffer, where the slave does not say
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
        unknown: Of those seen: the length is not known, because the header does not state it either. Of a packet whose
            receiver has reset it, the first 60 bytes are kept.
        unsure: Of those seen: may differ from what was sent. They were copied after the receiver had given them back,
            or it works in place; or their length is not known; or they are `unjoined`.
        unjoined: Of those seen: may be pieces of one packet, which the receiver has marked as read and whose header
            does not say how they belong together.
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
    unjoined: int = 0
    malformed: int = 0
    estimated: int = 0


@dataclass(frozen=True, slots=True)
class _Lengths:
    """Bytes of the pieces in some slots.

    Attributes:
        sizes: The bytes, as far as they are known.
        received: Pieces whose slot shows that they were received.
        inferred: Pieces whose length comes from the packet's header.
        unknown: Pieces whose length is not known.
    """

    sizes: Sizes
    received: Mask
    inferred: Mask
    unknown: Mask


@dataclass(frozen=True, slots=True)
class _Look:
    """One copy of a part of the ring.

    Attributes:
        first: Index of the first slot.
        ns: When it was made, in nanoseconds since 1970.
        taken: Index up to which the receiver had returned buffers.
        descriptors: The descriptors.
        rows: The first bytes of each buffer.
        found: Their lengths.
        unjoined: Pieces that may belong together.
    """

    first: int
    ns: int
    taken: int
    descriptors: Descriptors
    rows: Bytes
    found: _Lengths
    unjoined: Mask


#: A packet, its bytes on the wire, and whether it is unsure and unjoined.
_Chain = tuple[bytes, int, NDArray[np.bool_]]


class RingTap:
    """One ring of a link between two other programs. Only reads. One thread at a time.

    Starts at index 0, as all rings do when a link comes up.

    Args:
        memory: The link's regions as read-only arrays of bytes, by index.
        ring: The announcement of the ring, checked against the regions.
        link: Number of the link.
        cache_line: Bytes of the slave's cache line, 64 or 128.
        ethernet: Whether packets begin with an Ethernet header.
        receiver: What is known of who receives.

    Attributes:
        counters: What happened to the packets.
        size: Slots of the ring.
        rate: Descriptors a second, smoothed.
        peak: The highest rate of the last moments.
    """

    ring: AddRing
    link: int
    ethernet: bool

    receiver: Receiver

    def __init__(
        self,
        memory: Sequence[Bytes],
        ring: AddRing,
        *,
        link: int = 0,
        cache_line: int = 64,
        ethernet: bool = True,
        receiver: Receiver = Receiver.MAY_WRITE,
    ) -> None:
        self.ring, self.link, self.ethernet, self.receiver = ring, link, ethernet, receiver
        self.counters: RingCounters = RingCounters()
        self.size: int = 1 << ring.log2_ring_size
        header = memoryview(memory[ring.region].data)[ring.offset : ring.offset + 2 * cache_line + 16 * self.size]
        self._head = header[6:8].cast("H")
        self._tail = header[cache_line : cache_line + 2].cast("H")
        self._filled = self._head if ring.s2m else self._tail
        self._slots = Slots(memory, np.frombuffer(header[2 * cache_line :], DESCRIPTOR))
        self._capacity = int(self._slots.known["length"].max())
        self._full = self._capacity if 0 < self._capacity <= _MAX_LENGTH else _BUFFER  # of pieces that others follow
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
        self._gap = self._torn = False
        self._others: tuple[Slots, ...] = ()

    def watch(self, others: "Sequence[RingTap]") -> None:
        """Take packets of this ring as received when the slave sends their buffers on in these rings.

        It may do so, with what it has written there, before it gives the slots back.
        """
        self._others = tuple(tap._slots for tap in others)

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
        self._gap = first != self._next
        self._torn = self._gap and self._middle_of_chain(first)
        self._next = first + count
        if not count:
            return None
        look = self._look(first, count, snaplen)
        if not self.ring.s2m:
            self._learn()
        return self._batch(look, *self._judge(look, snaplen), snaplen)

    def _look(self, first: int, count: int, snaplen: int) -> _Look:
        """Copy at the width of the last packets, and once more if these turn out to be longer."""
        index = np.arange(first, first + count)
        for _ in range(2):
            started = time.monotonic()
            width = max(min(self._width, snaplen), _HEAD)
            gone = None if self.ring.s2m else self._handed_back(index, self._given_back_to())
            descriptors, rows = self._slots.grab(first, count, width, gone)
            taken, ns = self._given_back_to(), time.time_ns()
            self.track(learn=False)
            self._cost += 0.3 * (max(self._looked - started - _START_COST, 0.0) / count - self._cost)
            found = self._lengths(first, descriptors, rows)
            longest = int(min(found.sizes.max(), snaplen))
            self._width = max(longest, 7 * self._width // 8, _HEAD)
            if longest <= rows.shape[1]:
                break
        self.counters.inferred += int(found.inferred.sum())
        self.counters.unknown += int(found.unknown.sum())
        return _Look(first, ns, taken, descriptors, rows, found, self._rejoin(first, descriptors, found.sizes, rows))

    def _judge(self, look: _Look, snaplen: int) -> tuple[Mask, Mask, Mask]:
        """Return which descriptors are valid, which packets were still there, and which of them are unsure."""
        found, lengths, width = look.found, look.found.sizes, look.rows.shape[1]
        good = self._slots.inside(look.descriptors, lengths) & (lengths > 0) & (lengths <= _MAX_LENGTH)
        self.counters.malformed += int((~good).sum())
        index = np.arange(look.first, look.first + len(lengths))
        # Neither returned by the receiver, nor so old that the sender may be using its slot again.
        waiting = ~self._handed_back(index, look.taken)
        present = waiting | (self._produced - index <= self._safe)
        present &= np.minimum(lengths, snaplen) <= width
        if self.receiver is Receiver.COPIES and self._slots.fixed:
            unsure = found.unknown | look.unjoined
        elif self.receiver is Receiver.KEEPS:
            unsure = np.ones(len(lengths), np.bool_)
        else:
            unsure = ~waiting | found.received | found.unknown | look.unjoined
            for slots in self._others:
                unsure |= slots.has(look.descriptors, self._capacity)
        return good, present, unsure

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

    def _lengths(self, first: int, descriptors: Descriptors, rows: Bytes) -> _Lengths:
        """Find the length of each piece, and correct the flags in `descriptors`.

        A slave resets length and flags of a slot as soon as it has read it, and may put another buffer there.
        """
        lengths = descriptors["length"].astype(np.int64)
        none = np.zeros(len(lengths), np.bool_)
        if self.ring.s2m:
            return _Lengths(lengths, none, none, none)
        index = np.arange(first, first + len(lengths))
        reset: Mask = ((self._head[0] - index) & 0xFFFF) > self.size
        # Either it is being reset now, or the packet fills its buffer: its header decides.
        doubtful = ~reset & (lengths == self._capacity) & (descriptors["flags"] == 0)
        doubtful[1:] &= descriptors["flags"][:-1] == 0
        found = _Lengths(lengths, none, none, none)
        if reset.any() or doubtful.any():
            found = self._infer(descriptors, lengths, rows, reset, doubtful)
        if self._slots.moving:  # another buffer, and empty: for a later packet
            swapped = (descriptors["length"] == self._capacity) & self._slots.differ(first, descriptors)
            found = replace(found, received=found.received | swapped)
        return found

    def _infer(self, descriptors: Descriptors, lengths: Sizes, rows: Bytes, reset: Mask, doubtful: Mask) -> _Lengths:
        told = lengths_by_headers(rows, self.ethernet)
        use = reset | (doubtful & told.known & (told.sizes < self._capacity))
        descriptors["flags"][reset] = 0
        lengths[use] = told.sizes[use]
        pieces = rechain(descriptors["flags"], lengths, reset, self._capacity)
        return _Lengths(lengths, use, use & told.known, (use | doubtful) & ~told.known & ~pieces)

    def _rejoin(self, first: int, descriptors: Descriptors, lengths: Sizes, rows: Bytes) -> Mask:
        """S2M: join again what a master has marked as read. Those that copy do not mark it."""
        if not self.ring.s2m or self.receiver is Receiver.COPIES:
            return np.zeros(len(lengths), np.bool_)
        cut = first + len(lengths) < self._produced
        told = lengths_by_headers(rows, self.ethernet)
        torn = self._torn or self._after_full(first)
        return rejoin(descriptors["flags"], lengths, told, self._full, cut=cut, torn=torn)

    def _after_full(self, first: int) -> bool:
        """Return whether packets before this one were missed, and the last of them may have gone on here."""
        return self._gap and bool(self._slots.table["length"][(first - 1) & (self.size - 1)] >= self._full)

    def _handed_back(self, index: Sizes, taken: int) -> Mask:
        back: Mask = ((index - taken) & 0xFFFF) >= _TURN // 2
        return back

    # -- results

    def _batch(self, look: _Look, good: Mask, present: Mask, unsure: Mask, snaplen: int) -> Batch | None:
        self.counters.missed += int((good & ~present).sum())
        usable, rows, lengths = good & present, look.rows, look.found.sizes
        marks, packets = np.stack((unsure, look.unjoined), 1), None
        if (look.descriptors["flags"][good] & NEXT).any():
            chains = self._joined(look, good, usable, marks)
            lengths = np.array([total for _, total, _ in chains], np.int64)
            marks = np.array([mark for _, _, mark in chains], np.bool_).reshape(-1, 2)
            packets = [packet[:snaplen] for packet, _, _ in chains]
        elif not usable.all():
            rows, lengths, marks = rows[usable], lengths[usable], marks[usable]
        if not len(lengths):
            return None
        self.counters.seen += len(lengths)
        self.counters.bytes += int(lengths.sum())
        self.counters.unsure += int(marks[:, 0].sum())
        self.counters.unjoined += int(marks[:, 1].sum())
        matrix = None if packets is not None else rows[:, :snaplen]
        sizes = lengths.astype(np.uint32)
        return Batch(self.link, self.ring.s2m, self.ring.index, look.ns, matrix, sizes, marks[:, 0], packets)

    def _joined(self, look: _Look, good: Mask, usable: Mask, marks: NDArray[np.bool_]) -> list[_Chain]:
        """Return packets joined from the pieces of chains, with lengths and marks. Incomplete ones count as missed."""
        packets: list[_Chain] = []
        parts: list[bytes] = []
        total, complete = 0, not self._torn
        mark = np.zeros(2, np.bool_)
        columns = (look.found.sizes[good], look.descriptors["flags"][good], usable[good])
        kept = zip(look.rows[good], marks[good], *(column.tolist() for column in columns), strict=True)
        for row, marked, length, flag, fine in kept:
            parts.append(row[:length].tobytes())
            total += length
            complete &= fine
            mark = mark | marked
            if flag & NEXT:
                continue
            if complete:
                packets.append((b"".join(parts), total, mark))
            else:
                self.counters.missed += len(parts)
            parts, total, complete, mark = [], 0, True, np.zeros(2, np.bool_)
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
