"""IPv6 neighbour discovery (RFC 4861) on columns: which solicitations to answer, and the answer.

As in `rewrite`, a block is a uint8 matrix of rows with layer 3 at the same ``offset``, behind Ethernet.
"""

from ipaddress import IPv6Address
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .addresses import Addresses
from .checksum import fill_l4, verify_l4
from .classify import Bools, classify
from .headers import ETHERNET, IPV6, LINK_OPTION, NEIGHBOUR, Matrix, view
from .rewrite import turn_link

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
    """Sorts solicitations (the type is right) that were sent to us or to a group of ours.

    Returns three masks: may be for our address, is to be answered, has no wrong checksum. What the matrix
    does not hold whole cannot be judged and is not answered. ``may_grow``: answers may be longer than
    requests.
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
    """Rules for addresses and options (RFC 4861, 7.1.1), room for the answer; ``extra``: bytes of options."""
    start = offset + IPV6.itemsize + NEIGHBOUR.itemsize
    anonymous, asked = own.asks6(block, offset)
    well_formed, names_source = _options(block, start, extra)
    lawful = np.where(anonymous, asked & ~names_source, own.answerable6(block, offset))
    may_grow = may_grow and start + LINK_OPTION.itemsize <= block.shape[1]
    direct = view(block, IPV6, offset)["dst"][:, 0] != 0xFF
    answerable: Bools = lawful & well_formed & ((extra > 0) | may_grow | direct)
    return answerable


def _options(block: Matrix, start: int, extra: NDArray[Any]) -> tuple[Bools, Bools]:
    """Whether the options fill their ``extra`` bytes, each of a right length, and whether one names the source."""
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
    """Neighbour solicitations for our address become advertisements (RFC 4861, 7.2.4).

    Our link-layer address takes the place of all options. Without one a solicitation of a group grows by that
    option: the matrix must have room. An unspecified source, a host that checks for duplicates, is answered by way
    of all nodes. Frames begin with Ethernet.
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
    # Only who names a link-layer address can tell others to take it in place of the one they know.
    message["flags"] = np.where(anonymous, 0, _SOLICITED) | np.where(names_us, _OVERRIDE, 0)
    start = offset + IPV6.itemsize + NEIGHBOUR.itemsize
    block[names_us, start : start + 2] = (_TARGET_OPTION, 1)
    block[names_us, start + 2 : start + LINK_OPTION.itemsize] = own.mac
    fill_l4(block, classify(block, stated_length(block, offset)))


def stated_length(block: Matrix, offset: int) -> NDArray[np.uint32]:
    """Packet lengths, link header included, that the IPv6 headers state."""
    payload = view(block, IPV6, offset)["payload_length"]
    length: NDArray[np.uint32] = payload.astype(np.uint32) + (offset + IPV6.itemsize)
    return length
