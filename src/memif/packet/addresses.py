"""Addresses as columns: which packets are for us, and which senders can be answered.

A block is a uint8 matrix of rows with layer 3 at the same ``offset``. Addresses are compared in the machine's order, in
words of 4 and 8 bytes, which is several times as fast as by fields.
"""

import sys
from ipaddress import IPv4Address, IPv6Address
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from memif.errors import MemifValueError

from .classify import Bools
from .headers import Matrix

Address = TypeVar("Address", IPv4Address, IPv6Address)

Word = NDArray[Any]
"""A number as an array without dimensions, which numpy compares with a column in half the time of a scalar."""

Pair = tuple[Word, Word]
"""An IPv6 address: two words of 8 bytes."""

_GROUP = 0x01  # bit in the first byte of a MAC address: a group's
_SOURCE4, _TARGET4, _SOURCE6, _TARGET6 = 12, 16, 8, 24  # from the start of the IP header

#: By first byte of an IPv4 address: "this network", loopback, groups, reserved and broadcast addresses, which must not
#: be answered (RFC 1122, 3.2.1.3; RFC 1112, 4).
NO_HOST = np.zeros(256, np.bool_)
NO_HOST[[0, 127, *range(224, 256)]] = True
_HOST = ~NO_HOST
_ASKER = _HOST.copy()
_ASKER[0] = True


def number(raw: bytes, size: int) -> Word:
    """Return up to ``size`` bytes as one number in the machine's order."""
    return np.array(int.from_bytes(raw.ljust(size, b"\0"), sys.byteorder), f"u{size}")


def _pair(address: str | bytes) -> Pair:
    raw = IPv6Address(address).packed
    return number(raw[:8], 8), number(raw[8:], 8)


_SOLICITED_NODE = IPv6Address("ff02::1:ff00:0").packed[:13]  # RFC 4291, 2.7.1
_ALL_NODES, _UNSPECIFIED, _LOOPBACK = _pair("ff02::1"), _pair("::"), _pair("::1")
_TO_GROUP, _FROM_GROUP = number(bytes([_GROUP]), 8), number(bytes([0] * 6 + [_GROUP]), 8)
_GROUPS = np.array(_TO_GROUP | _FROM_GROUP)
_DESTINATION = number(b"\xff" * 6, 8)
_DIRECT = np.array(_DESTINATION | _FROM_GROUP)


class Addresses:
    """Our own addresses, and comparisons of packets with them.

    Args:
        ipv4: As text, or None.
        ipv6: As text, or None.
        mac: Six bytes.

    Attributes:
        mac: Six bytes.
        mac_item: The same as one item.
        ipv4: A number in the machine's order, or None.
        ipv6: Sixteen bytes, or None.
        pair: MAC and IPv4 address side by side, as in ARP.

    Raises:
        MemifValueError: when one is not a unicast address of a host.
    """

    def __init__(self, ipv4: str | None, ipv6: str | None, mac: bytes) -> None:
        raw = bytes(mac) if isinstance(mac, bytes | bytearray | memoryview) else b""
        if len(raw) != 6 or raw[0] & _GROUP:
            raise MemifValueError.argument("mac", mac, "6 bytes of a unicast address")
        four, six = _parse("ipv4", ipv4, IPv4Address), _parse("ipv6", ipv6, IPv6Address)
        self.mac: NDArray[np.uint8] = np.frombuffer(raw, np.uint8)
        self.mac_item: Any = self.mac.view("V6")[0]
        self.ipv4: NDArray[Any] | None = None if four is None else number(four.packed, 4)
        self.ipv6: NDArray[np.uint8] | None = None if six is None else np.frombuffer(six.packed, np.uint8)
        self.pair: NDArray[np.uint8] = np.frombuffer(raw + (b"" if four is None else four.packed), np.uint8)
        self._mac = number(raw, 8)
        self._six = None if six is None else _pair(six.packed)
        self._solicited_node = None if six is None else _pair(_SOLICITED_NODE + six.packed[-3:])

    def direct(self, matrix: Matrix) -> bool:
        """Return whether all frames are to our own MAC address, from one that is not a group's."""
        return int(np.count_nonzero((_head(matrix) & _DIRECT) == self._mac)) == len(matrix)

    def link(self, matrix: Matrix) -> tuple[Bools, Bools] | None:
        """Return the frames to us or to a group, and the frames whose source is not a group; None when all are both."""
        head = _head(matrix)
        plain = (head & _DIRECT) == self._mac
        plain |= (head & _GROUPS) == _TO_GROUP
        if np.count_nonzero(plain) == len(plain):
            return None
        single = (head & _FROM_GROUP) == 0
        return plain | ((head & _DESTINATION) == self._mac) | ((head & _TO_GROUP) != 0), single

    def targets4(self, block: Matrix, offset: int) -> Bools:
        """Return the IPv4 packets to our address."""
        if self.ipv4 is None:
            return np.zeros(len(block), np.bool_)
        mask: Bools = double(block, offset + _TARGET4) == self.ipv4
        return mask

    def answerable4(self, block: Matrix, offset: int) -> Bools:
        """Return the IPv4 packets from a unicast address that is not our own."""
        mask: Bools = double(block, offset + _SOURCE4) != self.ipv4
        mask &= _HOST.take(block[:, offset + _SOURCE4])
        return mask

    def answers_arp(self, block: Matrix, offset: int) -> Bools:
        """Return the ARP packets that may be answered: from another host, or one without an address yet (0.0.0.0)."""
        mask: Bools = double(block, offset + 14) != self.ipv4  # a sender with our own address announces it
        mask &= _ASKER.take(block[:, offset + 14])
        mask &= (block[:, offset + 8] & _GROUP) == 0
        return mask

    def targets6(self, block: Matrix, offset: int) -> Bools:
        """Return the IPv6 packets to our address."""
        if self._six is None:
            return np.zeros(len(block), np.bool_)
        return _same(_words(block, offset + _TARGET6), self._six)

    def reaches6(self, block: Matrix, offset: int) -> Bools:
        """Return the IPv6 packets to our address, to all nodes, or to the solicited-node group of our address."""
        mask = self.targets6(block, offset)
        if self._solicited_node is None or np.count_nonzero(mask) == len(mask):
            return mask
        words = _words(block, offset + _TARGET6)
        mask |= _same(words, _ALL_NODES)
        mask |= _same(words, self._solicited_node)
        return mask

    def asks6(self, block: Matrix, offset: int) -> tuple[Bools, Bools]:
        """Return the IPv6 packets from the unspecified address, and those to our solicited-node group."""
        assert self._solicited_node is not None
        asked = _same(_words(block, offset + _TARGET6), self._solicited_node)
        return _same(_words(block, offset + _SOURCE6), _UNSPECIFIED), asked

    def answerable6(self, block: Matrix, offset: int) -> Bools:
        """Return the IPv6 packets from a unicast address that is not our own."""
        words = _words(block, offset + _SOURCE6)
        mask: Bools = block[:, offset + _SOURCE6] != 0xFF
        for refused in (_UNSPECIFIED, _LOOPBACK, self._six):
            if refused is not None and np.count_nonzero(same := words[:, 1] == refused[1]):
                mask &= ~(same & (words[:, 0] == refused[0]))
        return mask


def double(block: Matrix, at: int) -> NDArray[np.uint32]:
    """Return a view of the 32 bits at one offset of all rows, in machine order."""
    return block[:, at : at + 4].view(np.uint32)[:, 0]


def _head(matrix: Matrix) -> NDArray[np.uint64]:
    return matrix[:, :8].view(np.uint64)[:, 0]


def _words(block: Matrix, at: int) -> NDArray[np.uint64]:
    return block[:, at : at + 16].view(np.uint64)


def _same(words: NDArray[np.uint64], address: Pair) -> Bools:
    mask: Bools = words[:, 1] == address[1]
    if np.count_nonzero(mask):
        mask &= words[:, 0] == address[0]
    return mask


def _parse(name: str, text: object, kind: type[Address]) -> Address | None:
    """Return the address of a host. Bytes and numbers, which `ipaddress` also takes, are most likely mistakes."""
    if text is None:
        return None
    try:
        address = kind(text) if isinstance(text, str) else text if isinstance(text, kind) else None
    except ValueError:
        address = None
    if address is None or not _is_host(address):
        raise MemifValueError.argument(name, text, f"None or a unicast IPv{kind(0).version} address as text")
    return address


def _is_host(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv4Address):
        return not NO_HOST[address.packed[0]]
    return not (address.is_multicast or address.is_unspecified or address.is_loopback or address.scope_id)
