"""The packets that `send` sends: a pool of rows, made once from the options, and sent again and again.

The pool holds every combination of size and flow that the pattern needs, in its order. So a burst is a slice of it, and
nothing but the stamps is computed for single packets while it runs.
"""

import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
from numpy.typing import NDArray

from memif.packet import classify, fill_ipv4, fill_l4
from memif.tools.files import matches_mode
from memif.tools.stamp import OFFSETS, SIZE
from memif.tools.values import parse_hex, parse_host, parse_mac

#: Simple IMIX: 7 small, 4 middle, 1 large, lengths without the frame check sequence.
IMIX: Final = "60:7,590:4,1514:1"
_MAX_FRAMES: Final = 100_000  # of a capture
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
    """Count a field up, packet by packet.

    Attributes:
        field: A name of `FIELDS`.
        count: How many values there are.
    """

    field: str
    count: int


@dataclass(frozen=True)
class PacketPool:
    """Packets to send in turn.

    Attributes:
        matrix: A packet in each row, uint8 (n, width), padded with zeros.
        lengths: Bytes of each packet, uint32 (n,).
        stamp_at: Offset of the stamp in each packet; None: no stamps.
    """

    matrix: NDArray[np.uint8]
    lengths: NDArray[np.uint32]
    stamp_at: int | None

    @cached_property
    def ends(self) -> list[int]:
        """Bytes of all packets before each row; one more at the end."""
        return [0, *np.cumsum(self.lengths, dtype=np.int64).tolist()]

    @property
    def mean(self) -> float:
        """Average bytes of a packet."""
        return float(self.lengths.mean())


def pool_from_options(options: dict[str, Any], mode: str) -> PacketPool:
    """Make the pool that the options of ``memif send`` ask for; usage error where they contradict each other."""
    chosen = [name for name in ("size", "template", "pcap") if options[name] is not None]
    if len(chosen) > 1:
        raise click.UsageError("only one of --size, --hex and --pcap can be given")
    increments = [parse_increment(text) for text in options["increments"]]
    template = bool(chosen) and chosen[0] != "size"
    if options["template"] is not None:
        frames = [parse_hex(options["template"], "--hex")]
    elif options["pcap"] is not None:
        frames = _read_frames(options["pcap"], mode)
    else:
        frames = udp_frames(
            parse_sizes(options["size"] or "64"),
            (parse_mac(options["src_mac"], "--src-mac"), parse_mac(options["dst_mac"], "--dst-mac")),
            (parse_host(options["src_ip"], "--src-ip"), parse_host(options["dst_ip"], "--dst-ip")),
            (options["src_port"], options["dst_port"]),
            mode,
        )
    stamped = not template if options["stamp"] is None else options["stamp"]
    pool = make_pool(frames, increments, mode, stamped=stamped, template=template)
    if options["stamp"] and pool.stamp_at is None:
        raise click.BadParameter(
            "not every packet has room for a stamp: 60 bytes with Ethernet, 46 in ip mode", param_hint="--stamp"
        )
    return pool


def asks_for_mac(options: dict[str, Any], mode: str) -> tuple[bytes, bytes, bytes] | None:
    """Find out whether ``memif send`` is to ask for the destination's MAC address: ``--dst-mac auto``.

    Returns:
        Who asks, MAC and IPv4 address, and the IPv4 address that is asked for; None if there is nothing to ask. Until
        there is an answer, the option stands for six zero bytes.
    """
    if options["dst_mac"] != "auto":
        return None
    if mode != "ethernet" or options["template"] is not None or options["pcap"] is not None:
        why = "packets of --hex and --pcap are sent as they are" if mode == "ethernet" else f"mode {mode} has no MACs"
        raise click.BadParameter(f"nothing to ask for: {why}", param_hint="--dst-mac auto")
    options["dst_mac"] = bytes(6).hex(":")
    ends = [parse_host(options[name], f"--{name.replace('_', '-')}") for name in ("src_ip", "dst_ip")]
    return parse_mac(options["src_mac"], "--src-mac"), ends[0], ends[1]


def _read_frames(path: Path, mode: str) -> list[bytes]:
    """Return the packets of a capture that fit the interface's mode, at most 100,000."""
    from memif.capture import CaptureFormatError, CaptureReader

    frames = []
    with CaptureReader(path, strict=True) as reader:
        for packet in reader:
            if matches_mode(packet.linktype, mode) and packet.data:
                frames.append(packet.data)
            if len(frames) == _MAX_FRAMES:
                break
    if not frames:
        raise CaptureFormatError(f"{path}: no packets for mode {mode} in there")
    return frames


def parse_sizes(text: str) -> list[int]:
    """Return the sizes of "64", "64,1500", "60:7,590:4,1514:1" or "imix", in the order in which they are sent."""
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
    """Read "dst-ip:100", which counts the destination address through 100 values."""
    name, _, count = text.partition(":")
    if name not in FIELDS:
        raise click.BadParameter(f"{name!r} is none of {', '.join(FIELDS)}", param_hint="--increment")
    if not count.isdigit() or not 1 <= int(count) <= 65536:
        raise click.BadParameter(f"{text!r}: write {name}:N with N from 1 to 65536", param_hint="--increment")
    return Increment(name, int(count))


def udp_frames(
    sizes: Iterable[int], macs: tuple[bytes, bytes], addresses: tuple[bytes, bytes], ports: tuple[int, int], mode: str
) -> list[bytes]:
    """Make UDP packets with zeros as data and no UDP checksum.

    Args:
        sizes: Bytes of each packet, headers included.
        macs: Source and destination MAC address.
        addresses: Source and destination IPv4 address, 4 bytes each.
        ports: Source and destination port.
        mode: Of the interface: whether there is an Ethernet header.
    """
    ethernet = macs[1] + macs[0] + b"\x08\x00" if mode == "ethernet" else b""
    least, most = len(ethernet) + 28, 65535
    frames = []
    for size in sizes:
        if not least <= size <= most:
            raise click.BadParameter(
                f"{size} is not in {least} to {most} bytes (UDP packet, headers included)", param_hint="--size"
            )
        total = size - len(ethernet)
        ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, total, 0, 0x4000, 64, 17, 0, *addresses)
        udp = struct.pack("!HHHH", *ports, total - 20, 0)
        frames.append((ethernet + ip + udp).ljust(size, b"\0"))
    return frames


def make_pool(
    frames: Sequence[bytes], increments: Sequence[Increment], mode: str, *, stamped: bool, template: bool = False
) -> PacketPool:
    """Make a pool of all frames in turn, repeated until there are enough rows.

    Args:
        frames: The packets.
        increments: Fields to count up.
        mode: Of the interface.
        stamped: Whether to stamp the packets, if all have room for that.
        template: The frames are a user's own; their checksums change only where a field is counted up.
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
        _count_up(matrix, lengths, increment, mode)
    if increments or not template:
        _finish(matrix, lengths, mode, layer4=template)
    return PacketPool(matrix, lengths, at if room else None)


def _count_up(matrix: NDArray[np.uint8], lengths: NDArray[np.uint32], increment: Increment, mode: str) -> None:
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


def _finish(matrix: NDArray[np.uint8], lengths: NDArray[np.uint32], mode: str, *, layer4: bool) -> None:
    """Fill in the IPv4 checksums, with `layer4` also those of UDP, TCP and ICMP."""
    layers = classify(matrix, lengths, "ip" if mode == "ip" else "ethernet")
    fill_ipv4(matrix, layers)
    if layer4:
        fill_l4(matrix, layers)
