"""IPv6 neighbour discovery (RFC 4861) on columns: which solicitations to answer, and the answer.

As in `rewrite`, a block is a uint8 matrix of rows with layer 3 at the same ``offset``, behind Ethernet.
"""

from ipaddress import IPv6Address
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .checksum import fill_l4, verify_l4
from .classify import Bools, classify
from .headers import ETHERNET, IPV6, LINK_OPTION, NEIGHBOUR, Matrix, view
from .rewrite import Addresses, turn_link, wire

SOLICITATION = wire(135, 0)  # type and code
_ADVERTISEMENT = 136
_HOPS = 255  # proves that the sender is on the link
_SOLICITED, _OVERRIDE = 0x40000000, 0x20000000
_SOURCE_OPTION, _TARGET_OPTION = 1, 2
_ALL_NODES = np.frombuffer(IPv6Address("ff02::1").packed, np.uint8)
_ALL_NODES_MAC = np.frombuffer(bytes.fromhex("333300000001"), np.uint8)
_SOLICITED_NODE = np.frombuffer(IPv6Address("ff02::1:ff00:0").packed[:13], np.uint8)


def solicited_node(address: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The group that is asked for ``address`` (16 bytes), RFC 4291."""
    return np.append(_SOLICITED_NODE, address[-3:])


def examine(
    block: Matrix, lengths: NDArray[Any], offset: int, own: NDArray[np.uint8], may_grow: bool
) -> tuple[Bools, Bools, Bools]:
    """Sorts solicitations (type and code are right) that were sent to us or to our group.

    Returns three masks: may be for our address, is to be answered, has no wrong checksum. What the matrix
    does not hold whole cannot be judged and is not answered. ``may_grow``: answers may be longer than
    requests.
    """
    layers = classify(block, lengths)
    options = offset + IPV6.itemsize + NEIGHBOUR.itemsize
    extra = layers.l4_length - NEIGHBOUR.itemsize
    seen = layers.whole & (extra >= 0)
    if not seen.any():
        return ~seen, seen, ~seen
    mine = ~seen | (block[:, options - 16 : options] == own).all(axis=1)
    intact = ~seen | verify_l4(block, layers)
    good = seen & mine & intact & (view(block, IPV6, offset)["hop_limit"] == _HOPS)
    return mine, good & _answerable(block, offset, extra, may_grow), intact


def _answerable(block: Matrix, offset: int, extra: NDArray[Any], may_grow: bool) -> Bools:
    """Rules for addresses and options (RFC 4861, 7.1.1), room for the answer; ``extra``: bytes of options."""
    ip = view(block, IPV6, offset)
    options = offset + IPV6.itemsize + NEIGHBOUR.itemsize
    group, anonymous = ip["dst"][:, 0] == 0xFF, ~ip["src"].any(axis=1)
    room = options + LINK_OPTION.itemsize <= block.shape[1]
    first = view(block, LINK_OPTION, options if room else 0)  # without room no row has options, any will do
    replaceable = (extra >= LINK_OPTION.itemsize) & (first["length"] == 1)
    may_grow = may_grow and room
    bare = (extra == 0) & (may_grow | ~group)
    names_source = (extra > 0) & (first["type"] == _SOURCE_OPTION)
    lawful = np.where(anonymous, group & ~names_source, ip["src"][:, 0] != 0xFF)
    answerable: Bools = lawful & (replaceable | bare)
    return answerable


def advertise(block: Matrix, offset: int, own: Addresses) -> None:
    """Neighbour solicitations for our address become advertisements (RFC 4861, 7.2.4).

    The first option, if there is one, becomes our link-layer address. Without one a solicitation of a group
    grows by that option: the matrix must have room. An unspecified source, a host that checks for duplicates,
    is answered by way of all nodes. Frames begin with Ethernet.
    """
    ip, message = view(block, IPV6, offset), view(block, NEIGHBOUR, offset + IPV6.itemsize)
    anonymous = ~ip["src"].any(axis=1)
    turn_link(block, offset, own)
    ip["payload_length"][_grows(ip)] += LINK_OPTION.itemsize
    ip["dst"], ip["src"] = ip["src"], own.ipv6
    ip["dst"][anonymous] = _ALL_NODES
    view(block, ETHERNET, 0)["dst"][anonymous] = _ALL_NODES_MAC
    message["type"] = _ADVERTISEMENT
    message["flags"] = np.where(anonymous, _OVERRIDE, _OVERRIDE | _SOLICITED)
    start = offset + IPV6.itemsize + NEIGHBOUR.itemsize
    room = ip["payload_length"] > NEIGHBOUR.itemsize
    block[room, start : start + 2] = (_TARGET_OPTION, 1)
    block[room, start + 2 : start + LINK_OPTION.itemsize] = own.mac
    fill_l4(block, classify(block, stated_length(block, offset)))


def stated_length(block: Matrix, offset: int) -> NDArray[np.uint32]:
    """Packet lengths, link header included, that the IPv6 headers state."""
    payload = view(block, IPV6, offset)["payload_length"]
    length: NDArray[np.uint32] = payload.astype(np.uint32) + (offset + IPV6.itemsize)
    return length


def _grows(ip: NDArray[Any]) -> NDArray[np.bool_]:
    """Which solicitations, by their IPv6 headers, an answer must add an option to."""
    grown: NDArray[np.bool_] = (ip["payload_length"] == NEIGHBOUR.itemsize) & (ip["dst"][:, 0] == 0xFF)
    return grown
