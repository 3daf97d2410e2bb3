"""Stamps: the number and time that `send` writes into each packet, and what `sink` learns from them.

A stamp is 18 bytes, little-endian: the mark 0x694D, a word with the stream in its upper 8 bits and the packet's number
in that stream in the other 56, and the time of sending, CLOCK_MONOTONIC in nanoseconds, which all processes of one
machine share. It follows the UDP header, so that a frame of 60 bytes has room for it.
"""

import time
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

MARK: Final = 0x694D
SIZE: Final = 18
#: Where the stamp begins, by the interface's mode: behind (Ethernet,) IPv4 and UDP.
OFFSETS: Final = {"ethernet": 42, "ip": 28}
_LAYOUT: Final = np.dtype([("mark", "<u2"), ("word", "<u8"), ("ns", "<u8")])
_NUMBER: Final = (1 << 56) - 1
#: Weights of the jitter (RFC 3550, 6.4.1: each packet moves it by a sixteenth) of the last packets, the newest last.
_FADING: Final = (15 / 16) ** np.arange(511, -1, -1) / 16
_PARTS: Final = 8  # histogram buckets for each doubling: times are right within 9 %


def stamps(matrix: NDArray[np.uint8], offset: int) -> NDArray[Any]:
    """Return the stamps of all rows, as a structured array with the fields mark, word and ns: a view, not a copy."""
    if offset + SIZE > matrix.shape[1]:
        raise ValueError(f"no room for {SIZE} bytes at {offset} in rows of {matrix.shape[1]}")
    return np.ndarray((len(matrix),), _LAYOUT, matrix.data, offset, (matrix.strides[0],))


@dataclass
class Stream:
    """What arrived of one stream of numbers; packets before the first that was seen do not count.

    Attributes:
        first: The number of the first packet.
        received: Packets.
        highest: The highest number.
        late: Packets that came after one with a higher number.
        jitter: How much the time on the way varies from packet to packet, in nanoseconds, smoothed as in RFC 3550.
        transit: Nanoseconds that the last packet was on its way; None: there was none.
    """

    first: int
    received: int = 0
    highest: int = -1
    late: int = 0
    jitter: float = 0.0
    transit: int | None = None

    def add(self, numbers: NDArray[np.uint64], transit: NDArray[np.int64]) -> None:
        """Count packets in the order of their arrival; `transit`: how long each was on its way, in nanoseconds."""
        top = np.maximum.accumulate(np.concatenate(([np.int64(self.highest)], numbers.astype(np.int64))))
        self.late += int((numbers.astype(np.int64) <= top[:-1]).sum())
        self.highest = int(top[-1])
        self.received += len(numbers)
        changes = np.abs(np.diff(transit, prepend=transit[0] if self.transit is None else self.transit))[-512:]
        self.transit = int(transit[-1])
        self.jitter = self.jitter * (15 / 16) ** len(numbers) + float(changes @ _FADING[-len(changes) :])

    @property
    def missing(self) -> int:
        """How many numbers did not come; negative if more packets came than there are numbers: some came twice."""
        return self.highest - self.first + 1 - self.received


@dataclass
class Analysis:
    """Loss, order and latency of stamped packets. One thread at a time.

    Attributes:
        offset: Where the stamp begins in a packet.
        streams: By the number of the stream.
        unstamped: Packets without a stamp.
        buckets: Histogram of the latency, with a fixed number of buckets for each doubling.
        latency_sum: Nanoseconds.
        latency_min: Nanoseconds.
        latency_max: Nanoseconds.
    """

    offset: int
    streams: dict[int, Stream] = field(default_factory=dict)
    unstamped: int = 0
    buckets: NDArray[np.int64] = field(default_factory=lambda: np.zeros(64 * _PARTS, np.int64))
    latency_sum: float = 0.0
    latency_min: float = float("inf")
    latency_max: float = 0.0

    @property
    def width(self) -> int:
        """Bytes of each packet that `add` needs."""
        return self.offset + SIZE

    def add(self, matrix: NDArray[np.uint8], lengths: NDArray[np.uint32], now_ns: int) -> None:
        """Count a burst.

        Args:
            matrix: The first `width` bytes of each packet, uint8 (n, width).
            lengths: Bytes of each packet, uint32 (n,).
            now_ns: When it was received, by the clock of the stamps.
        """
        found = stamps(matrix, self.offset)
        good = (found["mark"] == MARK) & (lengths >= self.width)
        if not good.all():
            self.unstamped += int((~good).sum())
            found = found[good]
            if not len(found):
                return
        word = found["word"]
        transit = now_ns - found["ns"].astype(np.int64)
        self._times(transit)
        kind = word >> np.uint64(56)
        numbers = word & np.uint64(_NUMBER)
        if kind[0] == kind[-1] and (kind == kind[0]).all():
            self._stream(int(kind[0]), numbers, transit)
            return
        for stream in np.unique(kind):
            mine = kind == stream
            self._stream(int(stream), numbers[mine], transit[mine])

    def _stream(self, number: int, numbers: NDArray[np.uint64], transit: NDArray[np.int64]) -> None:
        if number not in self.streams:
            self.streams[number] = Stream(int(numbers[0]))
        self.streams[number].add(numbers, transit)

    def _times(self, ns: NDArray[np.int64]) -> None:
        ns = np.maximum(ns, 1)
        self.latency_sum += float(ns.sum())
        self.latency_min = min(self.latency_min, float(ns.min()))
        self.latency_max = max(self.latency_max, float(ns.max()))
        index = (np.log2(ns) * _PARTS).astype(np.int64)
        self.buckets += np.bincount(index, minlength=len(self.buckets))

    def merge(self, other: "Analysis") -> None:
        """Add what came over another link; its streams stay apart."""
        self.streams |= {len(self.streams) + i: stream for i, stream in enumerate(other.streams.values())}
        self.unstamped += other.unstamped
        self.buckets = self.buckets + other.buckets
        self.latency_sum += other.latency_sum
        self.latency_min = min(self.latency_min, other.latency_min)
        self.latency_max = max(self.latency_max, other.latency_max)

    # -- results

    @property
    def jitter(self) -> float:
        """The largest jitter of a stream, in seconds."""
        return max((stream.jitter for stream in self.streams.values()), default=0.0) * 1e-9

    @property
    def received(self) -> int:
        """Packets with a stamp."""
        return sum(stream.received for stream in self.streams.values())

    @property
    def lost(self) -> int:
        """Numbers that did not come."""
        return sum(max(stream.missing, 0) for stream in self.streams.values())

    @property
    def duplicates(self) -> int:
        """Packets in excess of the numbers; duplicates that make up for a lost packet are not found."""
        return sum(max(-stream.missing, 0) for stream in self.streams.values())

    @property
    def reordered(self) -> int:
        """Packets that came after one with a higher number."""
        return sum(stream.late for stream in self.streams.values())

    def percentile(self, percent: float) -> float:
        """Return the latency in seconds that `percent` of the packets do not exceed."""
        total = self.buckets.sum()
        if not total:
            return 0.0
        bucket = int(np.searchsorted(np.cumsum(self.buckets), np.ceil(total * percent / 100)))
        return float(min(2 ** ((bucket + 1) / _PARTS), self.latency_max)) * 1e-9

    def latency(self) -> dict[str, float] | None:
        """Return minimum, mean, percentiles and maximum in seconds; None without packets."""
        total = int(self.buckets.sum())
        if not total:
            return None
        return {
            "min": self.latency_min * 1e-9,
            "mean": self.latency_sum / total * 1e-9,
            **{f"p{p:g}": self.percentile(p) for p in (50, 90, 99, 99.9)},
            "max": self.latency_max * 1e-9,
        }

    def histogram(self) -> list[tuple[float, float, int]]:
        """Return (from, to, packets) for each doubling between the shortest and the longest latency, in seconds."""
        doubled = self.buckets.reshape(-1, _PARTS).sum(axis=1)
        used = doubled.nonzero()[0]
        if not len(used):
            return []
        return [(2.0**i * 1e-9, 2.0 ** (i + 1) * 1e-9, int(doubled[i])) for i in range(used[0], used[-1] + 1)]


def restamp(matrix: NDArray[np.uint8], offset: int, stream: int, number: int) -> int:
    """Give stamped rows new numbers and the present time, in place.

    Args:
        matrix: A packet in each row.
        offset: Where the stamp begins; rows without one are left alone.
        stream: Number of the stream.
        number: The first number.

    Returns:
        How many numbers were given.
    """
    rows = stamps(matrix, offset)
    stamped = (rows["mark"] == MARK).nonzero()[0]
    rows["word"][stamped] = np.arange(number, number + len(stamped), dtype=np.uint64) | np.uint64(stream << 56)
    rows["ns"][stamped] = time.monotonic_ns()
    return len(stamped)
