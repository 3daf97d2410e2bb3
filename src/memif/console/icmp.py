"""ARP and ICMP echo, one frame at a time: enough of an IPv4 host to be pinged, and to ping.

For programs that handle buffers one by one, as those of the C library do; `memif.packet` has the same for whole bursts.
Frames are changed in place. Nothing here keeps state; any thread may call.
"""

import struct
from collections.abc import Callable

#: Bytes of an Ethernet header.
ETHERNET = 14
#: Bytes of an echo request without payload: Ethernet, IPv4 and ICMP header.
ECHO_FRAME = 42
#: Who asked for no other, and does not know whom it talks to, sends to all.
BROADCAST = b"\xff" * 6

_ARP, _IPV4 = 0x0806, 0x0800
_ARP_REQUEST = b"\x00\x01\x08\x00\x06\x04\x00\x01"  # Ethernet, IPv4, address sizes, operation
_ARP_FRAME = ETHERNET + 28
_ICMP = 1
_ECHO_REQUEST = 0x0800  # type and code in a word
_IDENTIFIER = 0x6D69
_IP = struct.Struct("!B5xHxBxx4s4s")  # version and length, fragment, protocol, addresses
_ADDRESSES = struct.Struct("4s4s")
_WORDS = struct.Struct("!HH")

Buffer = bytearray | memoryview


def answer(frame: Buffer, ip: bytes, mac: bytes, *, arp_only: bool = False) -> bool:
    """Turn an Ethernet frame that asks for `ip`, or an echo request, into its answer, in place; False if it is neither.

    Echo requests are answered whatever (unicast) address they were sent to, as the C examples do: their address decides
    only what ARP says. frame may be the first part of a longer packet, at least the headers. ip has 4, mac 6 bytes.
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


def _answer_arp(frame: Buffer, ip: bytes, mac: bytes) -> bool:
    ask = bytes(frame[ETHERNET:_ARP_FRAME])
    if len(ask) < 28 or ask[:8] != _ARP_REQUEST or ask[24:28] != ip or ask[14:18] == ip:
        return False
    asker = ask[8:18]  # hardware and protocol address
    frame[0:12] = asker[:6] + mac
    frame[20:42] = b"\x00\x02" + mac + ip + asker
    return True


def answer_ip(packet: Buffer, at: int = 0) -> bool:
    """Turn the IPv4 packet that begins at byte `at`, an echo request, into the reply, in place; False if it is none."""
    if len(packet) < at + 28:
        return False
    first, fragment, protocol, source, target = _IP.unpack_from(packet, at)
    icmp = at + (first & 15) * 4
    if first >> 4 != 4 or protocol != _ICMP or fragment & 0x3FFF or icmp < at + 20 or len(packet) < icmp + 8:
        return False
    kind, total = _WORDS.unpack_from(packet, icmp)
    # A group is nobody to answer, or to answer as.
    if kind != _ECHO_REQUEST or not 0 < source[0] < 224 or target[0] >= 224:
        return False
    _ADDRESSES.pack_into(packet, at + 12, target, source)  # the header's checksum does not mind the order
    # A word went from 0x0800 to 0, so the sum lost that and the checksum gains it. Of the two zeros of one's complement
    # this gives 0xFFFF, the only one that holds for a message of zeros.
    total += _ECHO_REQUEST
    _WORDS.pack_into(packet, icmp, 0, (total & 0xFFFF) + (total >> 16))
    return True


def encapsulate(mac: bytes, to: bytes = BROADCAST) -> bytes:
    """The Ethernet header of an IPv4 packet."""
    return to + mac + _IPV4.to_bytes(2, "big")


def checksum(data: bytes) -> int:
    """Internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def echo_requests(ip: bytes, mac: bytes, to_ip: bytes, to_mac: bytes | None) -> Callable[[int], bytes]:
    """Return a function that makes the echo request of a sequence number (its low 16 bits are used).

    42 bytes, no payload. to_mac None: without an Ethernet header, 28 bytes.
    """
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28, 0, 0x4000, 64, _ICMP, 0, ip, to_ip)
    header = header[:10] + checksum(header).to_bytes(2, "big") + header[12:]
    front = (encapsulate(mac, to_mac) if to_mac is not None else b"") + header + _ECHO_REQUEST.to_bytes(2, "big")
    rest = struct.Struct("!HHH")

    def request(sequence: int) -> bytes:
        low = sequence & 0xFFFF
        return front + rest.pack(checksum(struct.pack("!HHH", _ECHO_REQUEST, _IDENTIFIER, low)), _IDENTIFIER, low)

    return request
