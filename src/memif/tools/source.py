"""What `memif send` sends, from its options."""

from pathlib import Path
from typing import Any

import click

from memif.tools.icmp_responder import parse_mac
from memif.tools.ping import address
from memif.tools.traffic import Pool, make_pool, parse_increment, parse_sizes, udp_frames

#: Packets that `--pcap` takes at most.
_MOST = 100_000


def pool_from_options(options: dict[str, Any], mode: str) -> Pool:
    """The pool for the options of the command; usage error where they contradict each other."""
    chosen = [name for name in ("size", "template", "pcap") if options[name] is not None]
    if len(chosen) > 1:
        raise click.UsageError("only one of --size, --hex and --pcap can be given")
    increments = [parse_increment(text) for text in options["increments"]]
    template = bool(chosen) and chosen[0] != "size"
    if options["template"] is not None:
        frames = [parse_hex(options["template"])]
    elif options["pcap"] is not None:
        frames = read_frames(options["pcap"], mode)
    else:
        frames = udp_frames(
            parse_sizes(options["size"] or "64"),
            (parse_mac(options["src_mac"], "--src-mac"), parse_mac(options["dst_mac"], "--dst-mac")),
            (options["src_ip"], options["dst_ip"]),
            (options["src_port"], options["dst_port"]),
            checked(mode, options),
        )
    stamped = not template if options["stamp"] is None else options["stamp"]
    pool = make_pool(frames, increments, mode, stamped=stamped, template=template)
    if options["stamp"] and pool.stamp_at is None:
        raise click.BadParameter(
            "not every packet has room for a stamp: 60 bytes with Ethernet, 46 in ip mode", param_hint="--stamp"
        )
    return pool


def checked(mode: str, options: dict[str, Any]) -> str:
    """The mode, once the addresses are known to be good."""
    address(options["src_ip"], "--src-ip")
    address(options["dst_ip"], "--dst-ip")
    return mode


def parse_hex(text: str) -> bytes:
    """The bytes of a packet written in hex, with or without blanks and colons."""
    try:
        packet = bytes.fromhex(text.replace(":", ""))
    except ValueError as error:
        raise click.BadParameter(f"not hex: {error}", param_hint="--hex") from error
    if not 0 < len(packet) <= 65536:
        raise click.BadParameter(f"{len(packet)} bytes, a packet has 1 to 65536", param_hint="--hex")
    return packet


def read_frames(path: Path, mode: str) -> list[bytes]:
    """The packets of a capture that fit the interface's mode."""
    from memif.capture import CaptureFormatError, CaptureReader
    from memif.tools.filters import matches_mode

    frames = []
    with CaptureReader(path, strict=True) as reader:
        for packet in reader:
            if matches_mode(packet.linktype, mode) and packet.data:
                frames.append(packet.data)
            if len(frames) == _MOST:
                break
    if not frames:
        raise CaptureFormatError(f"{path}: no packets for mode {mode} in there")
    return frames
