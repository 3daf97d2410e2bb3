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
_ARP_REQUEST = b"\x00\x01\x08\x00\x06\x04\x00\x01"     # Ethernet, IPv4, address sizes, operation
_ARP_FRAME = ETHERNET + 28
_ICMP, _ECHO_REQUEST = 1, 8
_IDENTIFIER = 0x6D69

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
    if arp_only or kind != _IPV4 or not answer_ip(memoryview(frame)[ETHERNET:]):
        return False
    frame[0:6] = frame[6:12]
    frame[6:12] = mac
    return True


def _answer_arp(frame: Buffer, ip: bytes, mac: bytes) -> bool:
    ask = bytes(frame[ETHERNET:_ARP_FRAME])
    if len(ask) < 28 or ask[:8] != _ARP_REQUEST or ask[24:28] != ip or ask[14:18] == ip:
        return False
    asker = ask[8:18]       # hardware and protocol address
    frame[0:12] = asker[:6] + mac
    frame[20:42] = b"\x00\x02" + mac + ip + asker
    return True


def answer_ip(packet: memoryview) -> bool:
    """Turn an IPv4 packet that is an echo request into the reply, in place; False if it is something else."""
    if len(packet) < 28 or packet[0] >> 4 != 4 or packet[9] != _ICMP:
        return False
    at = (packet[0] & 15) * 4
    fragment = (packet[6] << 8 | packet[7]) & 0x3FFF
    if at < 20 or len(packet) < at + 8 or fragment or packet[at] != _ECHO_REQUEST or packet[at + 1]:
        return False
    if not 0 < packet[12] < 224 or packet[16] >= 224:       # a group is nobody to answer, or to answer as
        return False
    packet[12:20] = bytes(packet[16:20]) + bytes(packet[12:16])     # the header's checksum does not mind the order
    packet[at] = 0
    # A word went from 0x0800 to 0, so the sum lost that and the checksum gains it. Of the two zeros of one's complement
    # this gives 0xFFFF, the only one that holds for a message of zeros.
    total = (packet[at + 2] << 8 | packet[at + 3]) + 0x0800
    new = (total & 0xFFFF) + (total >> 16)
    packet[at + 2], packet[at + 3] = new >> 8, new & 0xFF
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
    front = (encapsulate(mac, to_mac) if to_mac is not None else b"") + header + bytes((_ECHO_REQUEST, 0))
    rest = struct.Struct("!HHH")

    def request(sequence: int) -> bytes:
        low = sequence & 0xFFFF
        return front + rest.pack(checksum(struct.pack("!HHH", _ECHO_REQUEST << 8, _IDENTIFIER, low)), _IDENTIFIER, low)

    return request
