"""Stamps: the number and time that `send` writes into each packet, and what `sink` learns from them.

A stamp is 18 bytes: the mark 0x694D, a word with the stream in its upper 8 bits and the packet's number in that stream
in the other 56, and the time of sending, CLOCK_MONOTONIC in nanoseconds, which all processes of one machine share. The
mark is little-endian, the rest as the machine has it. A stamp follows the UDP header: a frame of 60 bytes has room.

The loops over bursts are compiled: `memif.tools._stamps`.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from memif.tools import _stamps

SIZE: Final = 18
#: Where the stamp begins, by the interface's mode: behind (Ethernet,) IPv4 and UDP.
OFFSETS: Final = {"ethernet": 42, "ip": 28}
_PARTS: Final = 16  # histogram buckets for each doubling: times are right within 7 %


def stamp(matrix: NDArray[np.uint8], offset: int, stream: int, number: int) -> None:
    """Stamp all rows with the present time and numbers of a stream.

    Args:
        matrix: A packet in each row, uint8 (n, width).
        offset: Where the stamp begins.
        stream: Number of the stream, 0 to 255.
        number: The first number.
    """
    _stamps.write(matrix, offset, stream, number, time.monotonic_ns())


def restamp(matrix: NDArray[np.uint8], offset: int, stream: int, number: int) -> int:
    """Stamp those rows anew that have a stamp; arguments as for `stamp`; return how many these are."""
    return _stamps.renew(matrix, offset, stream, number, time.monotonic_ns())


@dataclass(frozen=True, slots=True)
class Stream:
    """What arrived of one stream of numbers; packets before the first that was seen do not count.

    Attributes:
        first: The number of the first packet.
        received: Packets.
        highest: The highest number.
        late: Packets that came after one with a higher number, or the same.
        jitter: How much the time on the way varies from packet to packet, in nanoseconds, smoothed as in RFC 3550.
    """

    first: int
    received: int
    highest: int
    late: int
    jitter: float

    @property
    def missing(self) -> int:
        """How many numbers did not come; negative if more packets came than there are numbers: some came twice."""
        return self.highest - self.first + 1 - self.received


class Analysis:
    """Loss, order and latency of stamped packets. One thread at a time."""

    def __init__(self, offset: int) -> None:
        """Count from zero; `offset`: where the stamp begins in a packet."""
        self._offset = offset
        self._meter = _stamps.Meter()
        self._meters = [self._meter]

    @property
    def width(self) -> int:
        """Bytes of each packet that `add` needs."""
        return self._offset + SIZE

    def add(self, matrix: NDArray[np.uint8], lengths: NDArray[Any], now_ns: int) -> int:
        """Count a burst.

        Args:
            matrix: The first `width` bytes of each packet, uint8 (n, width).
            lengths: Bytes of each packet, uint32 (n,).
            now_ns: When it was received, by the clock of the stamps.

        Returns:
            All bytes of the burst.
        """
        return self._meter.add(matrix, lengths, self._offset, now_ns)

    def merge(self, others: Iterable["Analysis"]) -> None:
        """Count what came over other links, too; its streams stay apart."""
        self._meters += [meter for other in others for meter in other._meters]

    # -- results

    @property
    def streams(self) -> list[Stream]:
        """All streams of which something came."""
        return [Stream(*counts) for meter in self._meters for counts in meter.counts()]

    @property
    def unstamped(self) -> int:
        """Packets without a stamp."""
        return sum(meter.unstamped for meter in self._meters)

    @property
    def received(self) -> int:
        """Packets with a stamp."""
        return sum(stream.received for stream in self.streams)

    @property
    def lost(self) -> int:
        """Numbers that did not come."""
        return sum(max(stream.missing, 0) for stream in self.streams)

    @property
    def duplicates(self) -> int:
        """Packets in excess of the numbers; duplicates that make up for a lost packet are not found."""
        return sum(max(-stream.missing, 0) for stream in self.streams)

    @property
    def reordered(self) -> int:
        """Packets that came after one with a higher number."""
        return sum(stream.late for stream in self.streams)

    @property
    def jitter(self) -> float:
        """The largest jitter of a stream, in seconds."""
        return max((stream.jitter for stream in self.streams), default=0.0) * 1e-9

    def _buckets(self) -> NDArray[np.int64]:
        buckets: NDArray[np.int64] = np.array([meter.histogram() for meter in self._meters], np.int64).sum(axis=0)
        return buckets

    def latency(self) -> dict[str, float] | None:
        """Return minimum, mean, percentiles and maximum in seconds; None without packets."""
        buckets = self._buckets()
        total = int(buckets.sum())
        if not total:
            return None
        longest = max(meter.latency_max for meter in self._meters)
        counts = np.cumsum(buckets)

        def percentile(percent: float) -> float:
            doubling, part = divmod(int(np.searchsorted(counts, np.ceil(total * percent / 100))), _PARTS)
            return float(min(2.0**doubling * (1 + (part + 1) / _PARTS), longest)) * 1e-9

        return {
            "min": min(meter.latency_min for meter in self._meters) * 1e-9,
            "mean": sum(meter.latency_sum for meter in self._meters) / total * 1e-9,
            **{f"p{p:g}": percentile(p) for p in (50, 90, 99, 99.9)},
            "max": longest * 1e-9,
        }

    def histogram(self) -> list[tuple[float, float, int]]:
        """Return (from, to, packets) for each doubling between the shortest and the longest latency, in seconds."""
        doubled = self._buckets().reshape(-1, _PARTS).sum(axis=1)
        used = doubled.nonzero()[0]
        if not len(used):
            return []
        return [(2.0**i * 1e-9, 2.0 ** (i + 1) * 1e-9, int(doubled[i])) for i in range(used[0], used[-1] + 1)]
