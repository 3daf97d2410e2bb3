"""Random frames built by scapy, each with what `classify` should say about it."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP, IPOption_Router_Alert
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    PadN,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw

TAGS = (0x8100, 0x88A8, 0x9100)
NUMBERS = {"icmp": 1, "icmp6": 58, "udp": 17, "tcp": 6, "gre": 47}
EXTENSIONS = {"hop": 0, "dest": 60, "fragment": 44, "atomic": 44}


@dataclass
class Frame:
    """A frame and the truth about it; lengths and offsets in bytes."""

    raw: bytes
    network: str
    transport: str
    ethertype: int
    l3_offset: int
    l3_header_length: int
    l3_length: int
    fragment: bool = False
    later_fragment: bool = False
    options: bool = False
    valid: bool = True

    def has(self, transport: str) -> bool:
        """Whether the mask of that name should be set."""
        return self.valid and self.transport == transport and not self.later_fragment


def matrix_of(packets: Sequence[bytes], width: int) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    """What ``burst.gather(width)`` and ``burst.lengths`` give for these packets."""
    rows = b"".join(packet[:width].ljust(width, b"\0") for packet in packets)
    matrix = np.frombuffer(bytearray(rows), np.uint8).reshape(len(packets), width)
    return matrix, np.array([len(packet) for packet in packets], np.uint32)


@lru_cache(maxsize=8)
def random_frames(count: int, seed: int, mode: str = "ethernet") -> list[Frame]:
    """Frames of all kinds in random order; a list shared by all tests, to be left as it is."""
    rng = random.Random(seed)
    return [_random_frame(rng, mode) for _ in range(count)]


def _random_frame(rng: random.Random, mode: str) -> Frame:
    link, tags = _link(rng) if mode == "ethernet" else (None, [])
    network = rng.choice(["ipv4"] * 4 + ["ipv6"] * 3 + (["arp", "lldp"] if link else []))
    frame = {"ipv4": _ipv4, "ipv6": _ipv6, "arp": _arp, "lldp": _lldp}[network](rng)
    if link is not None:
        head = bytes(link)[:12]
        for kind in tags:
            head += kind.to_bytes(2, "big") + rng.randbytes(2)
        head += frame.ethertype.to_bytes(2, "big")
        frame.raw, frame.l3_offset = head + frame.raw, len(head)
    return _finish(rng, frame)


def _finish(rng: random.Random, frame: Frame) -> Frame:
    """Some frames lose their end, others get a trailer."""
    fate = rng.random()
    if fate < 0.15:
        end = frame.l3_offset + frame.l3_length - 1
        frame.raw = frame.raw[: rng.randrange(end) if frame.network != "lldp" else rng.randrange(frame.l3_offset)]
        frame.valid = False
    elif fate < 0.4 and frame.network != "lldp":
        frame.raw += rng.randbytes(rng.randrange(1, 40))
    return frame


def _link(rng: random.Random) -> tuple[Packet, list[int]]:
    macs = [":".join(f"{byte:02x}" for byte in b"\x02" + rng.randbytes(5)) for _ in range(2)]
    return Ether(dst=macs[0], src=macs[1]), [rng.choice(TAGS) for _ in range(rng.choice([0, 0, 1, 2]))]


def _transport(rng: random.Random, choices: Sequence[str]) -> tuple[str, Packet]:
    name = rng.choice(choices)
    payload = Raw(rng.randbytes(rng.randrange(0, 200)))
    header = {
        "icmp": lambda: ICMP(type=rng.choice([0, 8]), id=rng.randrange(65536), seq=rng.randrange(65536)),
        "icmp6": lambda: ICMPv6EchoRequest(id=rng.randrange(65536), seq=rng.randrange(65536)),
        "udp": lambda: UDP(sport=rng.randrange(65536), dport=9),
        "tcp": lambda: TCP(sport=rng.randrange(65536), dport=9, seq=rng.randrange(2**32)),
        "gre": lambda: Raw(rng.randbytes(8)),
    }[name]()
    return name, header / payload


def _ipv4(rng: random.Random) -> Frame:
    name, inner = _transport(rng, ["icmp", "udp", "tcp", "gre"])
    ip = IP(src=_v4(rng), dst=_v4(rng), ttl=rng.randrange(256), id=rng.randrange(65536), tos=rng.randrange(256))
    ip.proto = NUMBERS[name]
    options = rng.choice([0, 0, 0, 1, 4, 9])
    if options:
        ip.options = [IPOption_Router_Alert()] + [IPOption_NOP()] * options
    ip.flags = rng.choice([0, 0, 2, 0, 1])
    ip.frag = rng.choice([0, 0, 0, 0, 0, 1, 185, 8191])
    raw = bytes(ip / inner)
    later = ip.frag != 0
    return Frame(
        raw,
        "ipv4",
        name,
        0x0800,
        0,
        (raw[0] & 15) * 4,
        len(raw),
        fragment=later or ip.flags == 1,
        later_fragment=later,
        options=bool(options),
    )


def _ipv6(rng: random.Random) -> Frame:
    name, inner = _transport(rng, ["icmp6", "udp", "tcp", "gre"])
    ip = IPv6(src=_v6(rng), dst=_v6(rng), hlim=rng.randrange(256), tc=rng.randrange(256), nh=NUMBERS[name])
    extensions = rng.choice([[], [], [], ["hop"], ["dest"], ["hop", "fragment"], ["fragment"], ["atomic", "dest"]])
    offset = rng.choice([0, 1, 40, 8191])
    parts: list[Packet] = []
    for extension in extensions:
        parts.append(_extension(rng, extension, offset))
    for part, following in zip(parts, [*extensions, name][1:], strict=True):
        part.nh = EXTENSIONS.get(following) or NUMBERS[following]
    if parts:
        ip.nh = EXTENSIONS[extensions[0]]
    packet: Packet = ip
    for part in parts:
        packet = packet / part
    raw = bytes(packet / inner)
    later = "fragment" in extensions and offset != 0
    header = len(raw) - len(inner)
    return Frame(
        raw,
        "ipv6",
        name,
        0x86DD,
        0,
        header,
        len(raw),
        fragment="fragment" in extensions,
        later_fragment=later,
        options=bool(extensions),
    )


def _extension(rng: random.Random, name: str, offset: int) -> Packet:
    if name == "hop":
        return IPv6ExtHdrHopByHop(options=[PadN(optdata=bytes(rng.choice([4, 12])))])
    if name == "dest":
        return IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(20))])
    if name == "atomic":
        return IPv6ExtHdrFragment(offset=0, m=0, id=rng.randrange(2**32))
    return IPv6ExtHdrFragment(offset=offset, m=1, id=rng.randrange(2**32))


def _arp(rng: random.Random) -> Frame:
    raw = bytes(ARP(op=rng.choice([1, 2]), psrc=_v4(rng), pdst=_v4(rng), hwsrc="02:00:00:00:00:07"))
    return Frame(raw, "arp", "", 0x0806, 0, 28, 28)


def _lldp(rng: random.Random) -> Frame:
    raw = rng.randbytes(rng.randrange(0, 60))
    return Frame(raw, "lldp", "", 0x88CC, 0, 0, len(raw))


def _v4(rng: random.Random) -> str:
    return ".".join(str(byte) for byte in rng.randbytes(4))


def _v6(rng: random.Random) -> str:
    return "2001:db8:" + ":".join(f"{rng.randrange(65536):x}" for _ in range(6))


def parse_vlan_free(raw: bytes) -> Packet:
    """Scapy's view of a frame, whatever its tags are called."""
    while int.from_bytes(raw[12:14], "big") in TAGS:
        raw = raw[:12] + raw[16:]
    return Ether(raw)


__all__ = ["Dot1Q", "Frame", "matrix_of", "parse_vlan_free", "random_frames"]
