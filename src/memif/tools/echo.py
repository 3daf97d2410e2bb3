"""What ``memif ping`` says and hears: ARP and ICMP in bytes."""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

ECHO_REQUEST, ECHO_REPLY = 8, 0
_UNREACHABLE, _EXCEEDED = 3, 11
_HEADER = 20  # bytes of IPv4 without options
_BROADCAST = b"\xff" * 6
_UNREACHABLE_TEXTS = (
    "Destination Net Unreachable",
    "Destination Host Unreachable",
    "Destination Protocol Unreachable",
    "Destination Port Unreachable",
    "Frag needed and DF set",
    "Source Route Failed",
    "Destination Net Unknown",
    "Destination Host Unknown",
    "Source Host Isolated",
    "Destination Net Prohibited",
    "Destination Host Prohibited",
    "Destination Net Unreachable for Type of Service",
    "Destination Host Unreachable for Type of Service",
    "Packet filtered",
    "Precedence Violation",
    "Precedence Cutoff",
)
_EXCEEDED_TEXTS = ("Time to live exceeded", "Frag reassembly time exceeded")
_OTHER_TEXTS = {4: "Source Quench", 5: "Redirect", 12: "Parameter problem"}
HOST_UNREACHABLE = _UNREACHABLE_TEXTS[1]


def checksum(data: bytes) -> int:
    """Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


@dataclass(frozen=True)
class Message:
    """An ICMP message to us: an echo reply, or what became of a request."""

    source: IPv4Address
    ttl: int
    kind: int
    code: int
    #: Bytes of ICMP, header included.
    size: int
    right: bool
    identifier: int
    sequence: int
    #: Of a reply its data; of an error where the request that it is about went to.
    data: bytes

    @property
    def error(self) -> str:
        """What an error says, in the words of ping(8)."""
        if self.kind == _UNREACHABLE:
            known = self.code < len(_UNREACHABLE_TEXTS)
            return _UNREACHABLE_TEXTS[self.code] if known else f"Dest Unreachable, Bad Code: {self.code}"
        if self.kind == _EXCEEDED:
            known = self.code < len(_EXCEEDED_TEXTS)
            return _EXCEEDED_TEXTS[self.code] if known else f"Time exceeded, Bad Code: {self.code}"
        return _OTHER_TEXTS[self.kind]


def pattern(size: int) -> bytes:
    """The data of a request."""
    return bytes(i & 0xFF for i in range(size))


def request(own: bytes, target: bytes, identifier: int, sequence: int, size: int) -> bytes:
    """An IPv4 packet with an echo request."""
    icmp = struct.pack("!BBHHH", ECHO_REQUEST, 0, 0, identifier, sequence) + pattern(size)
    icmp = icmp[:2] + struct.pack("!H", checksum(icmp)) + icmp[4:]
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, _HEADER + len(icmp), sequence, 0x4000, 64, 1, 0, own, target)
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + icmp


def arp(operation: int, mac: bytes, own: bytes, to_mac: bytes, to: bytes) -> bytes:
    """A frame that asks all who has `to` (1), or answers one (2)."""
    asked = bytes(6) if operation == 1 else to_mac
    body = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, operation, mac, own, asked, to)
    return ((_BROADCAST if operation == 1 else to_mac) + mac + b"\x08\x06" + body).ljust(60, b"\0")


def parse(packet: bytes, own: bytes) -> Message | None:
    """The message in an IPv4 packet to `own`; None for all else, and for what a host's IP layer drops or puts
    together: damaged headers and fragments."""
    start = (packet[0] & 15) * 4 if packet else 0
    if not _HEADER <= start <= len(packet) or packet[0] >> 4 != 4 or packet[9] != 1 or packet[16:20] != own:
        return None
    total = int.from_bytes(packet[2:4], "big")
    if checksum(packet[:start]) or int.from_bytes(packet[6:8], "big") & 0x3FFF or not start + 8 <= total <= len(packet):
        return None
    icmp, source = packet[start:total], IPv4Address(packet[12:16])
    kind, code, right = icmp[0], icmp[1], checksum(icmp) == 0
    if kind == ECHO_REPLY:
        about, data = icmp, icmp[8:]
    elif kind in (_UNREACHABLE, _EXCEEDED, *_OTHER_TEXTS):
        inner = icmp[8:]
        start = (inner[0] & 15) * 4 if inner else 0
        about, data = inner[start:], inner[16:20]
        if start < _HEADER or len(about) < 8 or inner[9] != 1 or inner[12:16] != own or about[0] != ECHO_REQUEST:
            return None
    else:
        return None
    identifier, sequence = struct.unpack("!HH", about[4:8])
    return Message(source, packet[8], kind, code, len(icmp), right, identifier, sequence, data)


def difference(data: bytes, size: int) -> str | None:
    """What is wrong with the data of a reply, in the words of ping(8)."""
    for number, (got, sent) in enumerate(zip(data, pattern(size), strict=False)):
        if got != sent:
            return f"wrong data byte #{number} should be 0x{sent:x} but was 0x{got:x}"
    return None if len(data) == size else f"wrong size: {len(data)} bytes of data should be {size}"
