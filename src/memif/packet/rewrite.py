"""Turns blocks of requests into answers, in place.

A block is a uint8 matrix of which every row is such a request with layer 3 at the same offset, checked by the
caller. ``offset`` is that of layer 3: 0 in IP mode, at least 14 with a link header. Only header bytes are
touched; what depends on the payload, the ICMP checksum, is updated by difference.
"""

import sys
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

import numpy as np
from numpy.typing import NDArray

from .checksum import update
from .headers import ARP, ETHERNET, IPV4, IPV6, Matrix, view


def wire(high: int, low: int) -> int:
    """Two bytes, in the order on the wire, as the machine reads 16 bits."""
    return int.from_bytes((high, low), sys.byteorder)


TTL = 64
ARP_REPLY = 2
ECHO_REQUEST, ECHO_REPLY = wire(8, 0), wire(0, 0)  # type and code
ECHO6_REQUEST, ECHO6_REPLY = wire(128, 0), wire(129, 0)
_FRESH = wire(TTL, 1)  # time to live and protocol of an echo reply
_MAC = np.dtype("V6")


@dataclass(frozen=True, eq=False)
class Addresses:
    """Who answers, in the forms that columns are compared with and set to."""

    mac: NDArray[np.uint8]
    """Six bytes."""
    ipv4: int | None
    """As a number."""
    ipv6: NDArray[np.uint8] | None
    """Sixteen bytes."""

    @classmethod
    def parse(cls, ipv4: str | None, ipv6: str | None, mac: bytes) -> "Addresses":
        """From text, and six bytes of MAC. Raises ValueError for what is no unicast address."""
        raw = bytes(mac)
        if len(raw) != 6 or raw[0] & 1:
            raise ValueError(f"mac must be 6 bytes of a unicast address, not {raw.hex(':')!r}")
        four = None if ipv4 is None else IPv4Address(ipv4)
        six = None if ipv6 is None else IPv6Address(ipv6)
        for address in (four, six):
            if address is not None and (address.is_multicast or address.is_unspecified):
                raise ValueError(f"{address} is not a unicast address")
        return cls(
            np.frombuffer(raw, np.uint8),
            None if four is None else int(four),
            None if six is None else np.frombuffer(six.packed, np.uint8),
        )


def arp_reply(block: Matrix, offset: int, own: Addresses) -> None:
    """ARP requests for our address become replies."""
    turn_link(block, offset, own)
    arp = view(block, ARP, offset)
    arp["operation"] = ARP_REPLY
    arp["target_mac"], arp["target_ip"] = arp["sender_mac"], arp["sender_ip"]
    arp["sender_mac"], arp["sender_ip"] = own.mac, own.ipv4


def echo_reply(block: Matrix, offset: int, own: Addresses) -> None:
    """ICMP echo requests to our address, without IP options, become replies with a fresh time to live."""
    turn_link(block, offset, own)
    ip = view(block, IPV4, offset)
    ip["dst"] = ip["src"]
    ip["src"] = own.ipv4
    hops = word(block, offset + 8)  # time to live and protocol
    if (hops != _FRESH).any():  # most senders start with the same value
        checksum = word(block, offset + 10)
        checksum[:] = update(checksum, hops, _FRESH)
        hops[:] = _FRESH
    _turn_type(block, offset + IPV4.itemsize, ECHO_REQUEST, ECHO_REPLY)


def echo6_reply(block: Matrix, offset: int, own: Addresses) -> None:
    """ICMPv6 echo requests to our address become replies; swapped addresses do not change the checksum."""
    turn_link(block, offset, own)
    ip = view(block, IPV6, offset)
    ip["dst"], ip["src"] = ip["src"], own.ipv6
    ip["hop_limit"] = TTL
    _turn_type(block, offset + IPV6.itemsize, ECHO6_REQUEST, ECHO6_REPLY)


def turn_link(block: Matrix, offset: int, own: Addresses) -> None:
    """Sends the frame back: to its source, from our own address. VLAN tags stay. Nothing in IP mode."""
    if offset >= ETHERNET.itemsize:
        pair = block[:, :12].view(_MAC)
        pair[:, 0] = pair[:, 1]
        pair[:, 1] = own.mac.view(_MAC)


def word(block: Matrix, at: int) -> NDArray[np.uint16]:
    """The 16 bits at one offset of all rows, in machine order, a writable view; 0 beyond the width.

    To be compared with constants made by `wire`, which is faster than to turn whole columns round.
    """
    if at + 2 > block.shape[1]:
        return np.zeros(len(block), np.uint16)
    return block[:, at : at + 2].view(np.uint16)[:, 0]


def _turn_type(block: Matrix, offset: int, old: int, new: int) -> None:
    word(block, offset)[:] = new
    checksum = word(block, offset + 2)
    # As `update` with its constants put together: HC' = ~(~HC + d) is HC - d, less the carry of the sum.
    change = (old ^ 0xFFFF) + new
    step = np.uint16((change & 0xFFFF) + (change >> 16))
    turned = checksum - step
    turned -= checksum < step
    checksum[:] = turned
