"""Turns blocks of requests into answers, in place.

A block is a uint8 matrix of which every row is such a request with layer 3 at the same offset, checked by the
caller. ``offset`` is that of layer 3: 0 in IP mode, at least 14 with a link header. Only header bytes are
touched; what depends on the payload, the ICMP checksum, is updated by difference.
"""

import sys

import numpy as np
from numpy.typing import NDArray

from .addresses import Addresses, double
from .checksum import fold, raw_sum, updated
from .headers import ETHERNET, IPV4, IPV6, Matrix


def wire(high: int, low: int) -> int:
    """Two bytes, in the order on the wire, as the machine reads 16 bits."""
    return int.from_bytes((high, low), sys.byteorder)


TTL = 64
ARP_REQUEST, ARP_REPLY = wire(0, 1), wire(0, 2)
ECHO_REQUEST, ECHO_REPLY = 8, 0
ECHO6_REQUEST, ECHO6_REPLY = 128, 129
_FRESH = wire(TTL, 1)  # time to live and protocol of an echo reply
_MAC = np.dtype("V6")


def arp_reply(block: Matrix, offset: int, own: Addresses) -> None:
    """ARP requests for our address become replies, to the MAC address that the request names (RFC 826)."""
    block[:, 6:12] = block[:, offset + 8 : offset + 14]
    turn_link(block, offset, own)
    word(block, offset + 6)[:] = ARP_REPLY
    block[:, offset + 18 : offset + 28] = block[:, offset + 8 : offset + 18]  # who asked: MAC and IPv4 address
    block[:, offset + 8 : offset + 18] = own.pair


def echo_reply(block: Matrix, offset: int, own: Addresses) -> None:
    """ICMP echo requests to our address, without IP options, become replies with a fresh time to live."""
    assert own.ipv4 is not None
    turn_link(block, offset, own)
    source = double(block, offset + 12)
    double(block, offset + 16)[:] = source
    source[:] = own.ipv4
    hops = word(block, offset + 8)  # time to live and protocol
    if np.count_nonzero(hops != _FRESH):  # most senders start with the same value
        checksum = word(block, offset + 10)
        checksum[:] = updated(checksum, hops, _FRESH)
        hops[:] = _FRESH
    _turn_type(block, offset + IPV4.itemsize, ECHO_REQUEST, ECHO_REPLY)


def echo6_reply(block: Matrix, offset: int, own: Addresses) -> None:
    """ICMPv6 echo requests to our address or to a group become replies of our address."""
    assert own.ipv6 is not None
    turn_link(block, offset, own)
    target = block[:, offset + 24 : offset + 40]
    if np.count_nonzero(target[:, 0] == 0xFF):  # to swap addresses changes no checksum, ours for a group's does
        checksum = word(block, offset + IPV6.itemsize + 2)
        ours = fold(raw_sum(own.ipv6.reshape(1, -1), 0, 16))
        checksum[:] = updated(checksum, fold(raw_sum(block, offset + 24, offset + 40)), ours)
    target[:] = block[:, offset + 8 : offset + 24]
    block[:, offset + 8 : offset + 24] = own.ipv6
    block[:, offset + 7] = TTL
    _turn_type(block, offset + IPV6.itemsize, ECHO6_REQUEST, ECHO6_REPLY)


def turn_link(block: Matrix, offset: int, own: Addresses) -> None:
    """Sends the frame back: to its source, from our own address. VLAN tags stay. Nothing in IP mode."""
    if offset >= ETHERNET.itemsize:
        pair = block[:, :12].view(_MAC)
        pair[:, 0] = pair[:, 1]
        pair[:, 1] = own.mac_item


def word(block: Matrix, at: int) -> NDArray[np.uint16]:
    """The 16 bits at one offset of all rows, in machine order, a writable view; 0 beyond the width.

    To be compared with constants made by `wire`, which is faster than to turn whole columns round.
    """
    if at + 2 > block.shape[1]:
        return np.zeros(len(block), np.uint16)
    return block[:, at : at + 2].view(np.uint16)[:, 0]


def _turn_type(block: Matrix, offset: int, old: int, new: int) -> None:
    """The code stays, as it does with other hosts."""
    block[:, offset] = new
    checksum = word(block, offset + 2)
    # As `update` with its constants put together: HC' = ~(~HC + d) is HC - d, less the carry of the sum.
    change = (wire(old, 0) ^ 0xFFFF) + wire(new, 0)
    step = np.uint16((change & 0xFFFF) + (change >> 16))
    turned = checksum - step
    turned -= checksum < step
    checksum[:] = turned
