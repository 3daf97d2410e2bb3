"""ARP and ICMP echo, one packet at a time: enough of an IPv4 host to be pinged, and to ping.

For programs that handle packets one by one, as `memif ping` and those of the C library do. `memif.packet` does the same
for whole bursts, with numpy, which this module does without. Nothing here keeps state; any thread may call.
"""

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

#: Bytes of an Ethernet header.
ETHERNET: Final = 14
#: The MAC address of all hosts on a link.
BROADCAST: Final = b"\xff" * 6
ECHO_REQUEST: Final = 8
ECHO_REPLY: Final = 0

_ARP, _IPV4 = 0x0806, 0x0800
_ARP_TYPES = b"\x00\x01\x08\x00\x06\x04"  # Ethernet, IPv4, address sizes
_ARP_REQUEST = _ARP_TYPES + b"\x00\x01"
_ARP_FRAME = ETHERNET + 28
_ICMP = 1
_HEADER = 20  # bytes of IPv4 without options
_REQUEST_WORD = ECHO_REQUEST << 8  # type and code in a word
_IDENTIFIER = 0x6D69
_IP = struct.Struct("!B5xHxBxx4s4s")  # version and length, fragment, protocol, addresses
_ADDRESSES = struct.Struct("4s4s")
_WORDS = struct.Struct("!HH")

_UNREACHABLE, _EXCEEDED = 3, 11
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
#: What ping(8) says of a host that does not answer ARP.
HOST_UNREACHABLE: Final = _UNREACHABLE_TEXTS[1]

Frame = bytearray | memoryview


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071); 0 for data that includes its own, correct checksum."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def parse_mac(text: str) -> bytes | None:
    """Read a MAC address.

    Args:
        text: Six bytes in hex, as "02:fe:00:00:00:01", "2-fe-0-0-0-1" or "02fe00000001".

    Returns:
        The six bytes; None for anything else.
    """
    parts = re.split("[:-]", text) if len(text) != 12 else [text[i : i + 2] for i in range(0, 12, 2)]
    if len(parts) != 6 or not all(re.fullmatch("[0-9a-fA-F]{1,2}", part) for part in parts):
        return None
    return bytes(int(part, 16) for part in parts)


# -- answering


def answer(frame: Frame, ip: bytes, mac: bytes, *, arp_only: bool = False) -> bool:
    """Turn an ARP request for `ip`, or an ICMP echo request, into its reply, in place.

    Echo requests are answered whatever unicast address they were sent to, as the C examples do: `ip` matters for ARP
    only.

    Args:
        frame: An Ethernet frame, or the first part of one with at least the headers.
        ip: Own IPv4 address, 4 bytes.
        mac: Own MAC address, 6 bytes.
        arp_only: Do not answer echo requests.

    Returns:
        False when the frame is neither; then it is unchanged.
    """
    if len(frame) < ETHERNET:
        return False
    kind = frame[12] << 8 | frame[13]
    if kind == _ARP:
        return _answer_arp(frame, ip, mac)
    if arp_only or kind != _IPV4 or not answer_ip(frame, ETHERNET):
        return False
    frame[0:12] = bytes(frame[6:12]) + mac
    return True


def _answer_arp(frame: Frame, ip: bytes, mac: bytes) -> bool:
    ask = bytes(frame[ETHERNET:_ARP_FRAME])
    if len(ask) < 28 or ask[:8] != _ARP_REQUEST or ask[24:28] != ip or ask[14:18] == ip:
        return False
    asker = ask[8:18]  # hardware and protocol address
    frame[0:12] = asker[:6] + mac
    frame[20:42] = b"\x00\x02" + mac + ip + asker
    return True


def answer_ip(packet: Frame, at: int = 0) -> bool:
    """Turn an IPv4 packet with an ICMP echo request into the reply, in place.

    Args:
        packet: Holds the packet.
        at: Offset of the IPv4 header.

    Returns:
        False when the packet is anything else; then it is unchanged.
    """
    if len(packet) < at + 28:
        return False
    first, fragment, protocol, source, target = _IP.unpack_from(packet, at)
    icmp = at + (first & 15) * 4
    if first >> 4 != 4 or protocol != _ICMP or fragment & 0x3FFF or icmp < at + _HEADER or len(packet) < icmp + 8:
        return False
    kind, total = _WORDS.unpack_from(packet, icmp)
    # Groups are not answered, and no answer has a group as its source.
    if kind != _REQUEST_WORD or not 0 < source[0] < 224 or target[0] >= 224:
        return False
    _ADDRESSES.pack_into(packet, at + 12, target, source)  # the header's checksum does not depend on the order
    # A word went from 0x0800 to 0, so the sum lost that and the checksum gains it. Of the two zeros of one's complement
    # this gives 0xFFFF, the only one that holds for a message of zeros.
    total += _REQUEST_WORD
    _WORDS.pack_into(packet, icmp, 0, (total & 0xFFFF) + (total >> 16))
    return True


# -- asking


def encapsulate(mac: bytes, to: bytes = BROADCAST) -> bytes:
    """Return the Ethernet header of an IPv4 packet from `mac` to `to`."""
    return to + mac + _IPV4.to_bytes(2, "big")


def arp(operation: int, mac: bytes, own: bytes, to_mac: bytes, to: bytes) -> bytes:
    """Make an ARP frame, padded to 60 bytes.

    Args:
        operation: 1 asks everyone who has the address `to`; 2 answers.
        mac: Own MAC address.
        own: Own IPv4 address, 4 bytes.
        to_mac: MAC address of the host that is answered; not used by a request.
        to: The IPv4 address that is asked for, or of the host that is answered.
    """
    asked = bytes(6) if operation == 1 else to_mac
    body = _ARP_TYPES + struct.pack("!H6s4s6s4s", operation, mac, own, asked, to)
    return ((BROADCAST if operation == 1 else to_mac) + mac + _ARP.to_bytes(2, "big") + body).ljust(60, b"\0")


def parse_arp(body: bytes) -> tuple[int, bytes, bytes, bytes] | None:
    """Read ARP for IPv4 over Ethernet.

    Args:
        body: What follows the Ethernet header.

    Returns:
        Operation, MAC and IPv4 address of the sender, and the IPv4 address that is asked for; None for anything else.
    """
    if len(body) < 28 or body[:6] != _ARP_TYPES:
        return None
    operation, mac, sender = struct.unpack("!H6s4s", body[6:18])
    return operation, mac, sender, body[24:28]


def arp_answer(body: bytes, asked: bytes) -> bytes | None:
    """Return the MAC address that an ARP reply gives for the IPv4 address `asked`; None for anything else.

    Args:
        body: What follows the Ethernet header.
        asked: 4 bytes.
    """
    read = parse_arp(body)
    if read is None or read[0] != 2 or read[2] != asked or read[1][0] & 1:
        return None
    return read[1]


def payload(size: int) -> bytes:
    """Return the data of a request: 0, 1, 2 … 255, 0 …, as ping(8) sends it."""
    return bytes(i & 0xFF for i in range(size))


def echo_request(own: bytes, target: bytes, identifier: int, sequence: int, size: int, ttl: int = 64) -> bytes:
    """Make an IPv4 packet with an ICMP echo request.

    Args:
        own: Source address, 4 bytes.
        target: Destination address, 4 bytes.
        identifier: ICMP identifier, 16 bits.
        sequence: ICMP sequence number, 16 bits.
        size: Bytes of data, see `payload`.
        ttl: Time to live.
    """
    message = struct.pack("!BBHHH", ECHO_REQUEST, 0, 0, identifier, sequence) + payload(size)
    message = message[:2] + checksum(message).to_bytes(2, "big") + message[4:]
    return _ipv4(own, target, len(message), sequence, ttl) + message


def echo_requests(ip: bytes, mac: bytes, to_ip: bytes, to_mac: bytes | None) -> Callable[[int], bytes]:
    """Prepare many echo requests without data.

    Args:
        ip: Source address, 4 bytes.
        mac: Source MAC address.
        to_ip: Destination address.
        to_mac: Destination MAC address; None: no Ethernet header.

    Returns:
        A function that makes the request of a sequence number, of which the low 16 bits are used: 42 bytes, or 28
        without an Ethernet header.
    """
    header = _ipv4(ip, to_ip, 8, 0)
    front = (encapsulate(mac, to_mac) if to_mac is not None else b"") + header + _REQUEST_WORD.to_bytes(2, "big")
    rest = struct.Struct("!HHH")

    def request(sequence: int) -> bytes:
        low = sequence & 0xFFFF
        return front + rest.pack(checksum(struct.pack("!HHH", _REQUEST_WORD, _IDENTIFIER, low)), _IDENTIFIER, low)

    return request


def _ipv4(own: bytes, target: bytes, size: int, identification: int, ttl: int = 64) -> bytes:
    """The header of a packet with `size` bytes of ICMP that must not be fragmented."""
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, _HEADER + size, identification, 0x4000, ttl, _ICMP, 0, own, target)
    return header[:10] + checksum(header).to_bytes(2, "big") + header[12:]


# -- reading answers


@dataclass(frozen=True, slots=True)
class Message:
    """An ICMP message to us: an echo reply, or an error about a request.

    Attributes:
        source: Who sent it.
        ttl: Of its IPv4 header.
        kind: ICMP type.
        code: ICMP code.
        size: Bytes of ICMP, header included.
        valid: Whether its checksum is right.
        identifier: Of the reply, or of the request that the error is about.
        sequence: The same for the sequence number.
        data: The data of a reply; of an error the address, 4 bytes, that the request went to.
    """

    source: IPv4Address
    ttl: int
    kind: int
    code: int
    size: int
    valid: bool
    identifier: int
    sequence: int
    data: bytes

    @property
    def error(self) -> str:
        """The text of an error, in the words of ping(8)."""
        if self.kind == _UNREACHABLE:
            known = self.code < len(_UNREACHABLE_TEXTS)
            return _UNREACHABLE_TEXTS[self.code] if known else f"Dest Unreachable, Bad Code: {self.code}"
        if self.kind == _EXCEEDED:
            known = self.code < len(_EXCEEDED_TEXTS)
            return _EXCEEDED_TEXTS[self.code] if known else f"Time exceeded, Bad Code: {self.code}"
        return _OTHER_TEXTS[self.kind]


def parse(packet: bytes, own: bytes) -> Message | None:
    """Read an IPv4 packet.

    Args:
        packet: Begins with the IPv4 header; may be padded.
        own: Own IPv4 address, 4 bytes.

    Returns:
        The reply or error in it. None for anything else, for other destinations, and for what the IP layer of a host
        drops or reassembles: damaged headers and fragments.
    """
    start = (packet[0] & 15) * 4 if packet else 0
    if not _HEADER <= start <= len(packet) or packet[0] >> 4 != 4 or packet[9] != _ICMP or packet[16:20] != own:
        return None
    total = int.from_bytes(packet[2:4], "big")
    if checksum(packet[:start]) or int.from_bytes(packet[6:8], "big") & 0x3FFF or not start + 8 <= total <= len(packet):
        return None
    message, source = packet[start:total], IPv4Address(packet[12:16])
    kind, code, valid = message[0], message[1], checksum(message) == 0
    if kind == ECHO_REPLY:
        about, data = message, message[8:]
    elif kind in (_UNREACHABLE, _EXCEEDED, *_OTHER_TEXTS):
        inner = message[8:]
        start = (inner[0] & 15) * 4 if inner else 0
        about, data = inner[start:], inner[16:20]
        if start < _HEADER or len(about) < 8 or inner[9] != _ICMP or inner[12:16] != own or about[0] != ECHO_REQUEST:
            return None
    else:
        return None
    identifier, sequence = struct.unpack("!HH", about[4:8])
    return Message(source, packet[8], kind, code, len(message), valid, identifier, sequence, data)


def difference(data: bytes, size: int) -> str | None:
    """Compare the data of a reply with that of the request.

    Args:
        data: What came back.
        size: Bytes of data in the request.

    Returns:
        What is wrong with it, in the words of ping(8); None when it is the same.
    """
    for number, (got, sent) in enumerate(zip(data, payload(size), strict=False)):
        if got != sent:
            return f"wrong data byte #{number} should be 0x{sent:x} but was 0x{got:x}"
    return None if len(data) == size else f"wrong size: {len(data)} bytes of data should be {size}"
