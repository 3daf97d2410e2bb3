from typing import Any, final

import numpy as np
from numpy.typing import NDArray

def write(matrix: NDArray[np.uint8], offset: int, stream: int, number: int, ns: int) -> None:
    """Stamp all rows with the numbers of a stream from `number` on, and with the time `ns`."""

def renew(matrix: NDArray[np.uint8], offset: int, stream: int, number: int, ns: int) -> int:
    """Stamp the rows that have a stamp anew, as `write` does. -> how many these are."""

@final
class Meter:
    """Counts stamped packets, by stream. One thread at a time.

    Attributes:
        unstamped: Packets without a stamp.
        latency_sum: Time that all packets were on their way, in nanoseconds.
        latency_min: The shortest, infinite before the first packet.
        latency_max: The longest.
    """

    unstamped: int
    latency_sum: float
    latency_min: float
    latency_max: float
    def add(self, matrix: NDArray[np.uint8], lengths: NDArray[Any], offset: int, now: int) -> int:
        """Count a burst: the first bytes of each packet, uint8 (n, width), and their lengths, uint32 (n,). -> bytes."""
    def counts(self) -> list[tuple[int, int, int, int, float]]:
        """For each stream: first number, packets received, highest number, packets that came late, jitter in ns."""
    def histogram(self) -> list[int]:
        """How many packets took so long: 64 doublings, from 1 ns on, of 16 parts of equal width each."""
