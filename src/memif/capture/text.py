"""One line of text for a packet, like tcpdump's short form: for live views and logs.

Knows Ethernet with VLAN tags, ARP, IPv4, IPv6, ICMP, ICMPv6, UDP and TCP. Never raises, whatever the bytes are: what
cannot be read is shown as cut ("[|udp]") or by its number.
"""

import operator
import struct
import time
from ipaddress import IPv6Address
from typing import Final, SupportsIndex

from memif.config import one_of
from memif.errors import MemifTypeError

from .blocks import plain
from .packet import Direction, LinkType

_ETHERTYPES: Final = {
    0x0800: "IPv4",
    0x0806: "ARP",
    0x8100: "802.1Q",
    0x86DD: "IPv6",
    0x88A8: "802.1Q-QinQ",
    0x8847: "MPLS",
    0x88CC: "LLDP",
}
_VLAN_TAGS: Final = (0x8100, 0x88A8)
_PROTOCOLS: Final = {
    2: "igmp",
    4: "ipip",
    41: "ipv6",
    47: "gre",
    50: "esp",
    51: "ah",
    89: "ospf",
    132: "sctp",
}
_ICMP: Final = {0: "echo reply", 3: "unreachable", 5: "redirect", 8: "echo request", 11: "time exceeded"}
_ICMP6: Final = {
    1: "unreachable",
    2: "packet too big",
    3: "time exceeded",
    128: "echo request",
    129: "echo reply",
    133: "router solicitation",
    134: "router advertisement",
    135: "neighbor solicitation",
    136: "neighbor advertisement",
}
_IP6_EXTENSIONS: Final = (0, 43, 60)
_TCP_FLAGS: Final = ((0x02, "S"), (0x01, "F"), (0x04, "R"), (0x08, "P"), (0x10, "."), (0x20, "U"))
_IP_FLAGS: Final = ((0x4000, "DF"), (0x2000, "+"))
_ARROWS: Final = {"in": "<", "out": ">", "unknown": "-"}


def packet_line(
    timestamp_ns: int,
    data: "bytes | bytearray | memoryview",
    *,
    direction: Direction = "unknown",
    linktype: int = LinkType.ETHERNET,
    length: int | None = None,
    link_level: bool = False,
    verbose: bool = False,
) -> str:
    """Return local time with microseconds, direction ("<" received, ">" sent), length in bytes, and `summary`.

    Never raises for any bytes or integers.

    Args:
        timestamp_ns: Nanoseconds since 1970.
        data: The packet, bytes-like.
        direction: "in", "out" or "unknown".
        linktype: What the packet begins with.
        length: Bytes on the wire; None for ``len(data)``.
        link_level: As for `summary`.
        verbose: As for `summary`.
    """
    seconds, ns = divmod(_integer("timestamp_ns", timestamp_ns), 1_000_000_000)
    arrow = _ARROWS[one_of("direction", direction, _ARROWS)]
    try:
        clock = time.strftime("%H:%M:%S", time.localtime(seconds))
    except (OverflowError, ValueError, OSError):  # a year that the C library cannot express
        clock = str(seconds)
    text = summary(data, linktype, link_level=link_level, verbose=verbose)
    size = len(data) if length is None else _integer("length", length)
    return f"{clock}.{ns // 1000:06d} {arrow} {size:5d} {text}"


def _integer(name: str, value: object) -> int:
    if not isinstance(value, SupportsIndex):
        raise MemifTypeError.argument(name, value, "a whole number")
    return operator.index(value)


def summary(
    data: "bytes | bytearray | memoryview",
    linktype: int = LinkType.ETHERNET,
    *,
    link_level: bool = False,
    verbose: bool = False,
) -> str:
    """Return what the packet is, on one line without control characters. Never raises for any bytes.

    Args:
        data: The packet, bytes-like.
        linktype: What the packet begins with.
        link_level: Also the MAC addresses and the EtherType, as ``tcpdump -e``.
        verbose: Also the fields of the IP header, and whether its checksum is wrong, as ``tcpdump -v``.
    """
    _integer("linktype", linktype)
    packet = bytes(plain(data, "data"))
    try:
        if linktype == LinkType.ETHERNET:
            return _ethernet(packet, link_level, verbose)
        if linktype in (LinkType.RAW, LinkType.IPV4, LinkType.IPV6):
            return _ip(packet, verbose)
    except (struct.error, IndexError, ValueError):
        return f"[|packet] {packet[:16].hex(' ')}".rstrip()
    return f"linktype {linktype}: {packet[:16].hex(' ')}"


def _mac(raw: bytes) -> str:
    return raw.hex(":")


def _ip4(raw: bytes) -> str:
    return ".".join(map(str, raw))


def link_header_length(data: bytes, linktype: int) -> int:
    """Return the bytes in front of layer 3: of Ethernet and its VLAN tags, 0 for other link types."""
    if linktype != LinkType.ETHERNET:
        return 0
    at = 14
    while at < 24 and int.from_bytes(data[at - 2 : at], "big") in _VLAN_TAGS:
        at += 4
    return min(at, len(data))


def _ethernet(packet: bytes, link_level: bool, verbose: bool) -> str:
    if len(packet) < 14:
        return f"[|ether] {packet.hex(' ')}".rstrip()
    kind, at, tags = int.from_bytes(packet[12:14], "big"), 14, ""
    ends = f"{_mac(packet[6:12])} > {_mac(packet[:6])}, "
    if link_level:
        tags = f"{ends}ethertype {_ETHERTYPES.get(kind, 'unknown')} (0x{kind:04x}): "
        ends = ""
    most = len(tags) + 40
    while kind in _VLAN_TAGS and len(packet) >= at + 4 and len(tags) < most:
        tag, kind = struct.unpack_from(">HH", packet, at)
        tags += f"vlan {tag & 0xFFF}, "
        at += 4
    if kind == 0x0800 or kind == 0x86DD:
        return tags + _ip(packet[at:], verbose)
    if kind == 0x0806:
        return tags + _arp(packet[at:])
    name = _ETHERTYPES.get(kind) or (f"802.3 length {kind}" if kind < 0x600 else f"ethertype 0x{kind:04x}")
    return f"{tags}{ends}{name}"


def _arp(data: bytes) -> str:
    if len(data) < 28:
        return "[|arp]"
    hardware, protocol, hardware_len, protocol_len, operation = struct.unpack_from(">HHBBH", data)
    if (hardware, protocol, hardware_len, protocol_len) != (1, 0x0800, 6, 4):
        return f"ARP, hardware {hardware}, protocol 0x{protocol:04x}, operation {operation}"
    sender, target = _ip4(data[14:18]), _ip4(data[24:28])
    if operation == 1:
        return f"ARP, request who-has {target} tell {sender}"
    if operation == 2:
        return f"ARP, reply {sender} is-at {_mac(data[8:14])}"
    return f"ARP, operation {operation}, {sender} > {target}"


def _ip(data: bytes, verbose: bool) -> str:
    version = data[0] >> 4 if data else 0
    if version == 4:
        return _ipv4(data, verbose)
    if version == 6:
        return _ipv6(data, verbose)
    return f"[|ip] {data[:16].hex(' ')}".rstrip()


def _ipv4(data: bytes, verbose: bool) -> str:
    header = (data[0] & 15) * 4
    if len(data) < 20 or header < 20:
        return "[|ip]"
    total, fragment = int.from_bytes(data[2:4], "big"), int.from_bytes(data[6:8], "big")
    source, target, protocol = _ip4(data[12:16]), _ip4(data[16:20]), data[9]
    ip = "IP " + (_fields4(data[:header], total, fragment) if verbose else "")
    if fragment & 0x1FFF:
        name = _PROTOCOLS.get(protocol, f"proto {protocol}")
        return f"{ip}{source} > {target}: {name}, fragment at {(fragment & 0x1FFF) * 8}"
    # Ethernet pads short frames: only what the header counts belongs to the packet.
    payload = data[header:total] if total >= header else data[header:]
    return ip + _transport(source, target, protocol, payload, max(total - header, len(payload)))


def _fields4(header: bytes, total: int, fragment: int) -> str:
    """The fields of an IPv4 header, in tcpdump's words."""
    flags = ", ".join(name for bit, name in _IP_FLAGS if fragment & bit) or "none"
    words = struct.unpack(f">{len(header) // 2}H", header)
    folded = sum(words) % 0xFFFF
    wrong = f", bad cksum 0x{words[5]:04x}" if folded or not any(words) else ""
    return (
        f"(tos 0x{header[1]:x}, ttl {header[8]}, id {words[2]}, offset {(fragment & 0x1FFF) * 8}, flags [{flags}], "
        f"proto {_name(header[9])} ({header[9]}), length {total}{wrong}) "
    )


def _name(protocol: int) -> str:
    return {1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMPv6"}.get(protocol) or _PROTOCOLS.get(protocol, "unknown")


def _ipv6(data: bytes, verbose: bool) -> str:
    if len(data) < 40:
        return "[|ip6]"
    length, protocol = int.from_bytes(data[4:6], "big"), data[6]
    source, target = str(IPv6Address(data[8:24])), str(IPv6Address(data[24:40]))
    payload = data[40 : 40 + length]
    ip = "IP6 "
    if verbose:
        first = int.from_bytes(data[:4], "big")
        ip += f"(class 0x{first >> 20 & 0xFF:02x}, flowlabel 0x{first & 0xFFFFF:05x}, hlim {data[7]}, "
        ip += f"next-header {_name(protocol)} ({protocol}), payload length {length}) "
    while protocol in _IP6_EXTENSIONS and len(payload) >= 8:
        skip = (payload[1] + 1) * 8
        protocol, payload, length = payload[0], payload[skip:], length - skip
    if protocol == 44:
        return f"{ip}{source} > {target}: fragment, length {length}"
    return ip + _transport(source, target, protocol, payload, length)


def _transport(source: str, target: str, protocol: int, data: bytes, length: int) -> str:
    if protocol in (6, 17):
        name, least = ("tcp", 20) if protocol == 6 else ("udp", 8)
        if len(data) < least:
            return f"{source} > {target}: [|{name}]"
        ports = struct.unpack_from(">HH", data)
        detail = _tcp(data, length) if protocol == 6 else f"UDP, length {length - 8}"
        return f"{source}.{ports[0]} > {target}.{ports[1]}: {detail}"
    if protocol in (1, 58):
        return f"{source} > {target}: {_icmp(data, protocol == 58, length)}"
    return f"{source} > {target}: {_PROTOCOLS.get(protocol, f'proto {protocol}')}, length {length}"


def _tcp(data: bytes, length: int) -> str:
    sequence, ack, offset, bits = struct.unpack_from(">IIBB", data, 4)
    flags = "".join(letter for bit, letter in _TCP_FLAGS if bits & bit) or "none"
    acked = f", ack {ack}" if bits & 0x10 else ""
    return f"Flags [{flags}], seq {sequence}{acked}, length {length - (offset >> 4) * 4}"


def _icmp(data: bytes, six: bool, length: int) -> str:
    name = "ICMP6" if six else "ICMP"
    if len(data) < 8:
        return f"[|{name.lower()}]"
    kind, code, _sum, ident, sequence = struct.unpack_from(">BBHHH", data)
    text = (_ICMP6 if six else _ICMP).get(kind, f"type {kind}")
    if text.startswith("echo"):
        return f"{name} {text}, id {ident}, seq {sequence}, length {length}"
    return f"{name} {text}{f', code {code}' if code else ''}, length {length}"
