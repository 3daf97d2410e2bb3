"""The packets that `send` sends: a pool of rows, made once, gone through again and again.

The pool holds every combination of size and flow that the pattern needs, in its order, so that a burst is a slice of it
and nothing is computed for single packets while it runs, the stamps apart.
"""

import math
import struct
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

import click
import numpy as np
from numpy.typing import NDArray

from memif.packet import classify, fill_ipv4, fill_l4
from memif.tools.stamp import MARK, OFFSETS, SIZE, stamps

#: Simple IMIX: 7 small, 4 middle, 1 large, lengths without the frame check sequence.
IMIX: Final = "60:7,590:4,1514:1"
_MAX_POOL: Final = 256 << 20
_LEAST_ROWS: Final = 1024
#: Where the fields stand that may be counted up, in an untagged Ethernet frame with IPv4: (offset, bytes).
FIELDS: Final = {
    "dst-mac": (0, 6),
    "src-mac": (6, 6),
    "src-ip": (26, 4),
    "dst-ip": (30, 4),
    "src-port": (34, 2),
    "dst-port": (36, 2),
}


@dataclass(frozen=True, slots=True)
class Increment:
    """Count a field up, packet by packet, through so many values."""

    field: str
    count: int


@dataclass(frozen=True, slots=True)
class Pool:
    """Rows to send in turn; `stamp_at` is where each has room for a stamp, None where not all have it."""

    matrix: NDArray[np.uint8]
    lengths: NDArray[np.uint32]
    stamp_at: int | None

    def stamp(self, low: int, high: int, stream: int, number: int) -> None:
        """Number the rows from `low` to `high`, from `number` on, and write the time into them."""
        assert self.stamp_at is not None
        rows = stamps(self.matrix, self.stamp_at)[low:high]
        rows["mark"] = MARK
        rows["word"] = np.arange(number, number + high - low, dtype=np.uint64) | np.uint64(stream << 56)
        rows["ns"] = time.monotonic_ns()

    @property
    def mean(self) -> float:
        """Bytes of a packet on average."""
        return float(self.lengths.mean())


def parse_sizes(text: str) -> list[int]:
    """The sizes of "64", "64,1500" or "60:7,590:4,1514:1" in the order in which they are sent."""
    pairs: list[tuple[int, int]] = []
    for part in (IMIX if text.lower() == "imix" else text).split(","):
        size, _, weight = part.partition(":")
        try:
            pairs.append((int(size), int(weight or 1)))
        except ValueError:
            raise click.BadParameter(f"{part!r} is not a size or size:weight", param_hint="--size") from None
    if any(weight < 1 or size < 1 for size, weight in pairs) or sum(weight for _, weight in pairs) > 10_000:
        raise click.BadParameter("sizes and weights go from 1, weights to 10000 in all", param_hint="--size")
    return _interleave(pairs)


def _interleave(pairs: Sequence[tuple[int, int]]) -> list[int]:
    """Spread each size evenly over the whole pattern."""
    places = [
        ((turn + 0.5) / weight, order, size) for order, (size, weight) in enumerate(pairs) for turn in range(weight)
    ]
    return [size for _, _, size in sorted(places)]


def parse_increment(text: str) -> Increment:
    """ "dst-ip:100" counts the destination address through 100 values."""
    name, _, count = text.partition(":")
    if name not in FIELDS:
        raise click.BadParameter(f"{name!r} is none of {', '.join(FIELDS)}", param_hint="--increment")
    if not count.isdigit() or not 1 <= int(count) <= 65536:
        raise click.BadParameter(f"{text!r}: write {name}:N with N from 1 to 65536", param_hint="--increment")
    return Increment(name, int(count))


def udp_frames(
    sizes: Iterable[int], macs: tuple[bytes, bytes], addresses: tuple[str, str], ports: tuple[int, int], mode: str
) -> list[bytes]:
    """UDP packets of the given sizes, headers included, with zeros as data and no UDP checksum."""
    ethernet = macs[1] + macs[0] + b"\x08\x00" if mode == "ethernet" else b""
    least, most = len(ethernet) + 28, 65535
    frames = []
    for size in sizes:
        if not least <= size <= most:
            raise click.BadParameter(
                f"{size} is not in {least} to {most} bytes (UDP packet, headers included)", param_hint="--size"
            )
        total = size - len(ethernet)
        source, target = (IPv4Address(address).packed for address in addresses)
        ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, total, 0, 0x4000, 64, 17, 0, source, target)
        udp = struct.pack("!HHHH", *ports, total - 20, 0)
        frames.append((ethernet + ip + udp).ljust(size, b"\0"))
    return frames


def make_pool(
    frames: Sequence[bytes], increments: Sequence[Increment], mode: str, *, stamped: bool, template: bool = False
) -> Pool:
    """All frames in turn, with the fields counted up, repeated to a handy length.

    `template`: the frames are a user's own, whose checksums are only touched where a field is counted up.
    """
    rows = math.lcm(len(frames), *(increment.count for increment in increments))
    rows *= -(-_LEAST_ROWS // rows)
    width = max(map(len, frames))
    if rows * width > _MAX_POOL:
        raise click.UsageError(f"{rows} different packets of up to {width} bytes are too many: use fewer or shorter")
    base = np.zeros((len(frames), width), np.uint8)
    for row, frame in zip(base, frames, strict=True):
        row[: len(frame)] = np.frombuffer(frame, np.uint8)
    matrix = np.tile(base, (rows // len(frames), 1))
    lengths = np.tile(np.array([len(frame) for frame in frames], np.uint32), rows // len(frames))
    at = OFFSETS.get(mode, OFFSETS["ip"])
    room = stamped and int(lengths.min()) >= at + SIZE
    for increment in increments:
        count_up(matrix, lengths, increment, mode)
    if increments or not template:
        finish(matrix, lengths, mode, layer4=template)
    return Pool(matrix, lengths, at if room else None)


def count_up(matrix: NDArray[np.uint8], lengths: NDArray[np.uint32], increment: Increment, mode: str) -> None:
    """Add 0, 1, 2 … to a field of all rows."""
    offset, size = FIELDS[increment.field]
    if mode != "ethernet":
        offset -= 14
    if offset < 0 or offset + size > int(lengths.min()):
        raise click.BadParameter(f"{increment.field} is not in every packet", param_hint="--increment")
    steps = np.arange(len(matrix), dtype=np.int64) % increment.count
    low = matrix[:, offset + max(size - 4, 0) : offset + size]
    value = np.zeros(len(matrix), np.int64)
    for column in low.T:
        value = value << 8 | column
    value += steps
    for column in low.T[::-1]:
        column[:] = value & 0xFF
        value >>= 8


def finish(matrix: NDArray[np.uint8], lengths: NDArray[np.uint32], mode: str, *, layer4: bool) -> None:
    """Right IPv4 checksums; those of layer 4 too where the packet has one."""
    layers = classify(matrix, lengths, "ip" if mode == "ip" else "ethernet")
    fill_ipv4(matrix, layers)
    if layer4:
        fill_l4(matrix, layers)
