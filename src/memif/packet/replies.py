"""Turns blocks of requests into replies, in place, and finds the neighbour solicitations to answer (RFC 4861).

A block is a uint8 matrix. Every row is such a request, checked by the caller, with layer 3 at the same ``offset``: 0 in
IP mode, at least 14 with a link header. Only header bytes are touched. The ICMP checksum, which depends on the payload,
is updated by difference.
"""

import sys
from ipaddress import IPv6Address
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._checksums import sums
from .addresses import Addresses, double
from .checksum import fill_l4, fold, updated, verify_l4
from .classify import Bools, classify
from .headers import ETHERNET, IPV4, IPV6, LINK_OPTION, NEIGHBOUR, Matrix, view


def wire(high: int, low: int) -> int:
    """Return two bytes, in the order on the wire, as a 16-bit number in machine order."""
    return int.from_bytes((high, low), sys.byteorder)


TTL = 64
ARP_REQUEST, ARP_REPLY = wire(0, 1), wire(0, 2)
ECHO_REQUEST, ECHO_REPLY = 8, 0
ECHO6_REQUEST, ECHO6_REPLY = 128, 129
_FRESH = wire(TTL, 1)  # time to live and protocol of an echo reply
_MAC = np.dtype("V6")


def arp_reply(block: Matrix, offset: int, own: Addresses) -> None:
    """Turn ARP requests for our address into replies, to the MAC address in the request (RFC 826)."""
    block[:, 6:12] = block[:, offset + 8 : offset + 14]
    turn_link(block, offset, own)
    word(block, offset + 6)[:] = ARP_REPLY
    block[:, offset + 18 : offset + 28] = block[:, offset + 8 : offset + 18]  # who asked: MAC and IPv4 address
    block[:, offset + 8 : offset + 18] = own.pair


def echo_reply(block: Matrix, offset: int, own: Addresses) -> None:
    """Turn ICMP echo requests to our address, without IP options, into replies with a fresh time to live."""
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
    """Turn ICMPv6 echo requests to our address or to a group into replies from our address."""
    assert own.ipv6 is not None
    turn_link(block, offset, own)
    target = block[:, offset + 24 : offset + 40]
    if np.count_nonzero(target[:, 0] == 0xFF):  # a swap of addresses keeps the checksum, ours for a group's does not
        checksum = word(block, offset + IPV6.itemsize + 2)
        ours = fold(sums(own.ipv6.reshape(1, -1), 0, 16))
        checksum[:] = updated(checksum, fold(sums(block, offset + 24, offset + 40)), ours)
    target[:] = block[:, offset + 8 : offset + 24]
    block[:, offset + 8 : offset + 24] = own.ipv6
    block[:, offset + 7] = TTL
    _turn_type(block, offset + IPV6.itemsize, ECHO6_REQUEST, ECHO6_REPLY)


def turn_link(block: Matrix, offset: int, own: Addresses) -> None:
    """Address the frame to its source, from our own address. VLAN tags stay. Does nothing in IP mode."""
    if offset >= ETHERNET.itemsize:
        pair = block[:, :12].view(_MAC)
        pair[:, 0] = pair[:, 1]
        pair[:, 1] = own.mac_item


def word(block: Matrix, at: int) -> NDArray[np.uint16]:
    """Return a writable view of the 16 bits at one offset of all rows, in machine order; zeros beyond the width.

    Compare it with constants made by `wire`: that is faster than swapping whole columns.
    """
    if at + 2 > block.shape[1]:
        return np.zeros(len(block), np.uint16)
    return block[:, at : at + 2].view(np.uint16)[:, 0]


def _turn_type(block: Matrix, offset: int, old: int, new: int) -> None:
    """Change the ICMP type. The code stays, as in the replies of other hosts."""
    block[:, offset] = new
    checksum = word(block, offset + 2)
    # As `update` with its constants put together: HC' = ~(~HC + d) is HC - d, less the carry of the sum.
    change = (wire(old, 0) ^ 0xFFFF) + wire(new, 0)
    step = np.uint16((change & 0xFFFF) + (change >> 16))
    turned = checksum - step
    turned -= checksum < step
    checksum[:] = turned


SOLICITATION, _ADVERTISEMENT = 135, 136
_HOPS = 255  # proves that the sender is on the link
_SOLICITED, _OVERRIDE = 0x40000000, 0x20000000
_SOURCE_OPTION, _TARGET_OPTION = 1, 2
_ALL_NODES = np.frombuffer(IPv6Address("ff02::1").packed, np.uint8)
_ALL_NODES_MAC = np.frombuffer(bytes.fromhex("333300000001"), np.uint8)
_MOST_OPTIONS = 32  # bounds the walk over options; all that exist are fewer


def examine(
    block: Matrix, lengths: NDArray[Any], offset: int, own: Addresses, may_grow: bool
) -> tuple[Bools, Bools, Bools]:
    """Judge solicitations (the type is right) that were sent to us or to a group of ours.

    What the matrix does not hold whole cannot be judged and is not answered.

    Args:
        block: The solicitations.
        lengths: Their packet lengths.
        offset: That of layer 3.
        own: Our addresses.
        may_grow: Whether answers may be longer than requests.

    Returns:
        Three masks: may be for our address, is to be answered, has no wrong checksum.
    """
    layers = classify(block, lengths)
    extra = layers.l4_length - NEIGHBOUR.itemsize
    seen = layers.whole & (extra >= 0)
    if not seen.any():
        return ~seen, seen, ~seen
    message = view(block, NEIGHBOUR, offset + IPV6.itemsize)
    mine = ~seen | (message["target"] == own.ipv6).all(axis=1)
    intact = ~seen | verify_l4(block, layers)
    good = seen & mine & intact & (message["code"] == 0) & (view(block, IPV6, offset)["hop_limit"] == _HOPS)
    good[good] = _answerable(block[good], offset, extra[good], own, may_grow)
    return mine, good, intact


def _answerable(block: Matrix, offset: int, extra: NDArray[Any], own: Addresses, may_grow: bool) -> Bools:
    """Check addresses and options (RFC 4861, 7.1.1), and the room for the answer. ``extra``: bytes of options."""
    start = offset + IPV6.itemsize + NEIGHBOUR.itemsize
    anonymous, asked = own.asks6(block, offset)
    well_formed, names_source = _options(block, start, extra)
    lawful = np.where(anonymous, asked & ~names_source, own.answerable6(block, offset))
    may_grow = may_grow and start + LINK_OPTION.itemsize <= block.shape[1]
    direct = view(block, IPV6, offset)["dst"][:, 0] != 0xFF
    answerable: Bools = lawful & well_formed & ((extra > 0) | may_grow | direct)
    return answerable


def _options(block: Matrix, start: int, extra: NDArray[Any]) -> tuple[Bools, Bools]:
    """Return whether options of valid lengths fill their ``extra`` bytes, and whether one names the source."""
    rows, place = np.arange(len(block)), np.full(len(block), start)
    end = start + extra
    names_source = np.zeros(len(block), np.bool_)
    for _ in range(_MOST_OPTIONS):
        open_ = place[rows] + 2 <= end[rows]
        rows = rows[open_]
        if len(rows) == 0:
            break
        at = place[rows]
        source, words = block[rows, at] == _SOURCE_OPTION, block[rows, at + 1].astype(np.intp)
        names_source[rows] |= source
        size = np.where(source & (words != 1), 0, words) * LINK_OPTION.itemsize
        place[rows] += size
        rows = rows[size > 0]
    filled: Bools = place == end
    return filled, names_source


def advertise(block: Matrix, offset: int, own: Addresses) -> None:
    """Turn neighbour solicitations for our address into advertisements (RFC 4861, 7.2.4).

    Our link-layer address replaces all options. A solicitation to a group without options grows by that option, so the
    matrix must have room. An unspecified source, a host that checks for duplicates, is answered through the all-nodes
    group. Frames begin with Ethernet.
    """
    ip, message = view(block, IPV6, offset), view(block, NEIGHBOUR, offset + IPV6.itemsize)
    anonymous, _ = own.asks6(block, offset)
    turn_link(block, offset, own)
    names_us = (ip["payload_length"] > NEIGHBOUR.itemsize) | (ip["dst"][:, 0] == 0xFF)
    ip["payload_length"] = NEIGHBOUR.itemsize + np.where(names_us, LINK_OPTION.itemsize, 0)
    ip["dst"], ip["src"] = ip["src"], own.ipv6
    ip["dst"][anonymous] = _ALL_NODES
    view(block, ETHERNET, 0)["dst"][anonymous] = _ALL_NODES_MAC
    message["type"] = _ADVERTISEMENT
    # Only an answer with a link-layer address can ask others to replace the one they know.
    message["flags"] = np.where(anonymous, 0, _SOLICITED) | np.where(names_us, _OVERRIDE, 0)
    start = offset + IPV6.itemsize + NEIGHBOUR.itemsize
    block[names_us, start : start + 2] = (_TARGET_OPTION, 1)
    block[names_us, start + 2 : start + LINK_OPTION.itemsize] = own.mac
    fill_l4(block, classify(block, stated_length(block, offset)))


def stated_length(block: Matrix, offset: int) -> NDArray[np.uint32]:
    """Return packet lengths, link header included, as the IPv6 headers state them."""
    payload = view(block, IPV6, offset)["payload_length"]
    length: NDArray[np.uint32] = payload.astype(np.uint32) + (offset + IPV6.itemsize)
    return length
