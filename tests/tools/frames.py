"""Ethernet frames for the tools, made by hand: nothing here is shared with what is tested."""

import struct
from collections.abc import Sequence

MAC_A, MAC_B = b"\x02\xfe\x00\x00\x00\x01", b"\x02\xfe\x00\x00\x00\x02"


def checksum(data: bytes) -> int:
    """RFC 1071."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def ipv4(
    payload: bytes,
    *,
    protocol: int = 17,
    source: str = "10.0.0.1",
    target: str = "10.0.0.2",
    fragment: int = 0,
    options: bytes = b"",
) -> bytes:
    """An IPv4 packet; `fragment`: the flags and offset word."""
    addresses = [bytes(map(int, address.split("."))) for address in (source, target)]
    length = 20 + len(options)
    header = (
        struct.pack(
            "!BBHHHBBH4s4s", 0x40 | length // 4, 0, length + len(payload), 1, fragment, 64, protocol, 0, *addresses
        )
        + options
    )
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + payload


def udp(data: bytes, source_port: int = 1000, target_port: int = 2000, **ip: str) -> bytes:
    """An IPv4 packet with UDP, without a UDP checksum."""
    return ipv4(struct.pack("!HHHH", source_port, target_port, 8 + len(data), 0) + data, **ip)  # type: ignore[arg-type]


def echo(number: int = 1, size: int = 56, **ip: object) -> bytes:
    """An IPv4 packet with an ICMP echo request."""
    body = struct.pack("!BBHHH", 8, 0, 0, 7, number) + bytes(i & 255 for i in range(size))
    body = body[:2] + struct.pack("!H", checksum(body)) + body[4:]
    return ipv4(body, protocol=1, **ip)  # type: ignore[arg-type]


def ethernet(packet: bytes, kind: int = 0x0800) -> bytes:
    """A frame from MAC_A to MAC_B."""
    return MAC_B + MAC_A + struct.pack("!H", kind) + packet


def numbered(count: int, size: int = 100) -> list[bytes]:
    """UDP frames with their number as data."""
    return [ethernet(udp(i.to_bytes(4, "big").ljust(size - 42, b"."))) for i in range(count)]


def pcap(frames: Sequence[bytes], *, step: float = 0.001, linktype: int = 1) -> bytes:
    """A classic pcap file with the frames so many seconds apart, microseconds."""
    parts = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, linktype)]
    for i, frame in enumerate(frames):
        seconds, rest = divmod(round(1e6 * (1_700_000_000 + i * step)), 1_000_000)
        parts += struct.pack("<IIII", seconds, rest, len(frame), len(frame)), frame
    return b"".join(parts)
