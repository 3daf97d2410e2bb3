"""A host that answers ARP requests and pings, on bursts: ARP, ICMP echo, IPv6 neighbour solicitation, ICMPv6 echo.

It answers what the Linux kernel would, frame by frame, with these differences. It has one address of each family, no
prefix and no routes, so an answer goes to the MAC address that asked. VLAN tags are kept, whatever their number. It
does not answer fragments, IPv4 options and IPv6 extension headers, frames from a group's MAC address, and packets from
addresses that no host has (0/8, 127/8, 224/3, ``::``, ``::1``, groups, our own). A neighbour advertisement without a
link-layer address does not ask to override (RFC 4861, 7.2.4).

Requests are turned into their answers in place. Echo answers touch only the headers and update the checksum by
difference, so packets of any size are answered from a matrix that holds the first 64 bytes::

    heads = burst.gather(64)
    mine = responder.answer(heads, burst.lengths)
    burst.scatter(heads)  # packets that were not answered are written back as they were
    queue.forward(burst)

Every row of every burst counts once in `Responder.counters`.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memif.config import one_of
from memif.errors import MemifValueError

from . import replies
from ._checksums import sums
from .addresses import NO_HOST, Addresses, number
from .checksum import is_ones, l4_computable, verify_l4
from .classify import Bools, Layers, Mode, classify
from .headers import ETHERNET, ICMP, IPV4, IPV6, Matrix, check_burst, check_lengths
from .replies import examine, stated_length

_Rewrite = Callable[[Matrix, int, Addresses], None]
"""Turns all rows of a block into answers in place: ``rewrite(block, l3_offset, own_addresses)``."""


@dataclass(eq=False)
class _Requests:
    """A burst while it is being answered: what is known of its packets, and which of them are answered by now."""

    matrix: Matrix
    lengths: NDArray[Any]
    layers: Layers
    new_lengths: NDArray[Any] | None
    answered: Bools
    link: tuple[Bools, Bools] | None
    """Frames for us, and frames whose sender is not a group; None when all are both, and in IP mode."""
    wrong: Bools | None = None

    def wrong_icmp(self) -> Bools:
        """Return rows whose ICMP checksum can be computed and is wrong. Call it before any rewriting."""
        if self.wrong is None:
            known = l4_computable(self.matrix, self.layers) & (self.layers.icmp | self.layers.icmp6)
            self.wrong = known & ~verify_l4(self.matrix, self.layers)
        return self.wrong


class _Group:
    """Rows of a burst with layer 3 at ``offset``; ``rows`` None means all. Masks go by row of the group.

    Code for a group uses one offset for all its rows. When the group is the whole burst, which is the usual case, its
    block is the matrix itself and nothing is copied; else the block is a copy, and answers are copied back.
    """

    burst: _Requests
    offset: int

    def __init__(self, burst: _Requests, offset: int, rows: NDArray[np.intp] | None) -> None:
        self.burst, self.offset = burst, offset
        self.rows: Any = slice(None) if rows is None else rows
        self.block: Matrix = burst.matrix[self.rows]

    def of(self, name: str) -> Bools:
        """Return a mask of `Layers` by name."""
        mask: Bools = getattr(self.burst.layers, name)[self.rows]
        return mask

    def verified(self) -> Bools:
        """Return all rows except those with a wrong ICMP checksum."""
        wrong: Bools = self.burst.wrong_icmp()[self.rows]
        return ~wrong

    def link(self, mine: Bools, fair: Bools) -> None:
        """Clear both masks in frames for another MAC address, and ``fair`` in those from a group's."""
        if self.burst.link is not None:
            here, single = self.burst.link
            mine &= here[self.rows]
            fair &= single[self.rows]

    def examine(self, asks: Bools, own: Addresses) -> tuple[Bools, Bools, Bools]:
        """Return `replies.examine` of the rows of a mask."""
        lengths = self.burst.lengths[self.rows][asks]
        return examine(self.block[asks], lengths, self.offset, own, self.burst.new_lengths is not None)

    def apply(self, good: Bools, rewrite: _Rewrite, own: Addresses) -> int:
        """Rewrite the rows of a mask and mark them answered. Returns how many there were."""
        count = int(np.count_nonzero(good))
        if count == len(self.burst.matrix):
            rewrite(self.burst.matrix, self.offset, own)
            self.burst.answered[:] = True
        elif count:
            block, rows = self.block[good], self.numbers(good)
            rewrite(block, self.offset, own)
            self.burst.matrix[rows] = block
            self.burst.answered[rows] = True
        return count

    def note_lengths(self, advertised: Bools) -> None:
        """Record the lengths of neighbour advertisements: trailers stay, options may have been added."""
        if self.burst.new_lengths is not None and advertised.any():
            rows = self.numbers(advertised)
            stated = stated_length(self.burst.matrix[rows], self.offset)
            self.burst.new_lengths[rows] = np.maximum(self.burst.lengths[rows], stated)

    def numbers(self, mask: Bools) -> NDArray[np.intp]:
        """Return the row numbers of a mask in the burst."""
        found = mask.nonzero()[0]
        chosen: NDArray[np.intp] = found if isinstance(self.rows, slice) else self.rows[found]
        return chosen


_WINDOW = 24  # bytes: EtherType, IPv4 header, ICMP type and code
_SWAP = sys.byteorder == "little"
_LEAST = IPV4.itemsize + ICMP.itemsize
#: By the first two bytes of a source address, as the machine reads them: may not be answered.
_NO_HOST = np.tile(NO_HOST, 256) if _SWAP else np.repeat(NO_HOST, 256)


class _PlainEcho:
    """Recognises the burst that a pinged responder mostly sees: nothing but plain echo requests to its address.

    That is untagged echo requests without options and fragments, to the IPv4 and the MAC address of ``own``. They are
    recognised by one masked comparison of 24 bytes a row, and of the MAC addresses, in place of taking all layers
    apart. The 24 bytes are first transposed, so that each 16-bit word of all rows lies side by side: numpy is several
    times as fast on that as on columns of a matrix. What this accepts, `Responder` answers in the same way without it;
    a test compares the two.
    """

    def __init__(self, own: Addresses, mode: Mode) -> None:
        assert own.ipv4 is not None
        address = own.ipv4.tobytes()
        self._own, self._linked = own, mode == "ethernet"
        self._low = number(address[2:], 2)
        self.offset = 14 if mode == "ethernet" else 0
        self._start = max(self.offset - 2, 0)
        wanted = (
            (self.offset - 2, b"\x08\x00", b"\xff\xff"),  # EtherType
            (self.offset, b"\x45", b"\xff"),  # version, header length
            (self.offset + 6, b"\x00\x00", b"\x3f\xff"),  # no fragment
            (self.offset + 9, b"\x01", b"\xff"),  # ICMP
            (self.offset + 16, address, b"\xff\xff\xff\xff"),
            (self.offset + 20, b"\x08", b"\xff"),  # echo request
        )
        value, mask = bytearray(_WINDOW), bytearray(_WINDOW)
        for at, data, bits in wanted:
            if at >= self._start:
                place = slice(at - self._start, at - self._start + len(data))
                value[place], mask[place] = data, bits
        self._value = np.frombuffer(value, np.uint16).reshape(-1, 1)
        self._mask = np.frombuffer(mask, np.uint16).reshape(-1, 1)

    def fills(self, matrix: Matrix, lengths: NDArray[Any]) -> bool:
        """Return True when each row is such a request, from a host's address, complete and with a right header.

        A source that ends with the last two bytes of our own address is left to the usual way, because it may be ours.
        """
        at, end = self.offset, self._start + _WINDOW
        if max(end, at + IPV4.itemsize + 8) > matrix.shape[1]:  # the ICMP header must be in the matrix to be rewritten
            return False
        words = matrix[:, self._start : end].view(np.uint16).T.copy()
        differ = words ^ self._value
        differ &= self._mask
        if np.count_nonzero(differ):
            return False
        first = (at - self._start) // 2  # word of the window with which the IPv4 header begins
        total = words[first + 1].byteswap() if _SWAP else words[first + 1]
        if np.count_nonzero(total < _LEAST) or np.count_nonzero(np.add(total, at, dtype=np.uint32) > lengths):
            return False
        if np.count_nonzero(_NO_HOST.take(words[first + 6])) or np.count_nonzero(words[first + 7] == self._low):
            return False
        if self._linked and not self._own.direct(matrix):
            return False
        # Like `is_ones`; the sum cannot be 0.
        header = np.add.reduce(words[first : first + IPV4.itemsize // 2], axis=0, dtype=np.uint32)
        return not np.count_nonzero(header % 0xFFFF)


_COUNTERS = (
    "arp",
    "echo",
    "nd",
    "echo6",
    "fragments",
    "options",
    "bad_checksum",
    "not_for_us",
    "other",
)


class Responder:
    """Answers for one IPv4 and one IPv6 address.

    The IPv4 header checksum and neighbour solicitations are always checked. ICMPv6 echo is also answered for all nodes
    (ff02::1) and for the solicited-node group of our address. One thread at a time.

    Args:
        ipv4: Address as text; None to answer nothing in that family.
        ipv6: Likewise.
        mac: Six bytes, the source of all answers. Frames to another MAC address that is not a group's are not for us.
            Not used in IP mode.
        mode: "ethernet" or "ip". IP mode has neither ARP nor neighbour discovery.
        verify: Check the ICMP checksum of echo requests that the matrix holds whole. Off by default, because the answer
            to a corrupt request is corrupt too, and whoever asked drops it.

    Raises:
        MemifValueError: when an address is one that no host can have, or the mode is unknown.
    """

    def __init__(
        self,
        ipv4: str | None = None,
        ipv6: str | None = None,
        mac: bytes = b"\x02\xfe\x00\x00\x00\x01",
        mode: Mode = "ethernet",
        *,
        verify: bool = False,
    ) -> None:
        one_of("mode", mode, ("ethernet", "ip"))
        self._own = Addresses(ipv4, ipv6, mac)
        self._mode: Mode = mode
        self._verify = verify
        self._plain = None if ipv4 is None or verify else _PlainEcho(self._own, mode)
        self.counters: dict[str, int] = dict.fromkeys(_COUNTERS, 0)
        """Rows seen since the start.

        Answered: ``arp``, ``echo``, ``nd``, ``echo6``. Addressed to us but not answered: ``fragments``, ``options``
        (IPv4 options, IPv6 extension headers), ``bad_checksum``. ``not_for_us``: to another MAC address; IP, an ARP
        request or a solicitation for another address. ``other``: anything else, such as other protocols, senders that
        cannot be
        answered, invalid or truncated headers, or headers beyond the width of the matrix."""

    def answer(self, matrix: Matrix, lengths: NDArray[Any], *, new_lengths: NDArray[Any] | None = None) -> Bools:
        """Rewrite requests into answers in place.

        Rows that are not answered stay as they are. Answers are as long as their requests (the options of a longer
        solicitation become a trailer), with one exception: a solicitation without options sent to a group (duplicate
        address detection by old hosts) is answered with 8 bytes more.

        Args:
            matrix: uint8, shape (n, width), writable, rows contiguous. A width of 64 is enough for ARP and echo,
                128 also for echo over IPv6 with VLAN tags, and for neighbour solicitations.
            lengths: Packet lengths in bytes, integers, shape (n,). Only read.
            new_lengths: Set to the packet lengths after rewriting, for ``send_array``; integers, shape (n,), writable.
                None: solicitations whose answer would be longer are not answered.

        Returns:
            Mask of shape (n,), True for the rows that were rewritten.

        Raises:
            MemifTypeError: when an argument is an array of another kind.
            MemifValueError: when shapes do not match, or an array is not writable or not contiguous.
        """
        check_burst(matrix, lengths)
        if not matrix.flags.writeable or (matrix.size and matrix.strides[1] != 1):
            what = f"writeable {matrix.flags.writeable}, strides {matrix.strides}"
            raise MemifValueError.argument("matrix", what, "a writable array with contiguous rows")
        if new_lengths is not None:
            check_lengths("new_lengths", new_lengths, len(matrix))
            if not new_lengths.flags.writeable:
                raise MemifValueError.argument("new_lengths", "a read-only array", "a writable one")
            new_lengths[:] = lengths
        if self._plain is not None and self._plain.fills(matrix, lengths):
            replies.echo_reply(matrix, self._plain.offset, self._own)
            self.counters["echo"] += len(matrix)
            answered = np.empty(len(matrix), np.bool_)
            answered.fill(True)  # a quarter of the time of `numpy.ones`
            return answered
        layers = classify(matrix, lengths, self._mode)
        burst = _Requests(matrix, lengths, layers, new_lengths, np.zeros(len(matrix), np.bool_), self._link(matrix))
        self._sort(burst)
        return burst.answered

    def _link(self, matrix: Matrix) -> tuple[Bools, Bools] | None:
        """Return the value of `_Requests.link`."""
        return None if self._mode == "ip" or matrix.shape[1] < ETHERNET.itemsize else self._own.link(matrix)

    def _sort(self, burst: _Requests) -> None:
        """Pass each kind of packet, at each offset, to its own method."""
        rest = len(burst.matrix)
        for kind, handle in (("ipv4", self._ipv4), ("arp", self._arp), ("ipv6", self._ipv6)):
            if rest == 0:  # masks cost time
                return
            mask: Bools = getattr(burst.layers, kind)
            rest -= int(np.count_nonzero(mask))
            for offset, rows in burst.layers.by_offset(mask):
                handle(_Group(burst, offset, rows))
        self.counters["other"] += rest

    def _arp(self, group: _Group) -> None:
        block, at = group.block, group.offset
        asks = replies.word(block, at + 6) == replies.ARP_REQUEST
        mine, fair = self._own.targets4(block, at + 8), self._own.answers_arp(block, at)
        group.link(mine, fair)
        good = asks & mine & fair
        if not _all(good):
            self._leave(good, not_for_us=asks & ~mine)
        self.counters["arp"] += group.apply(good, replies.arp_reply, self._own)

    def _ipv4(self, group: _Group) -> None:
        block, at = group.block, group.offset
        mine, fair = self._own.targets4(block, at), self._own.answerable4(block, at)
        group.link(mine, fair)
        intact = is_ones(sums(block, at, at + IPV4.itemsize))
        fragments, options = group.of("is_fragment"), group.of("has_options")
        fair &= group.of("icmp")
        fair &= _type(block, at + IPV4.itemsize) == replies.ECHO_REQUEST
        if self._verify:
            intact &= group.verified()
        good = mine & intact & fair & ~(fragments | options)
        if not _all(good):
            self._leave(good, not_for_us=~mine, fragments=fragments, options=options, bad_checksum=~intact)
        self.counters["echo"] += group.apply(good, replies.echo_reply, self._own)

    def _ipv6(self, group: _Group) -> None:
        block, at, own = group.block, group.offset, self._own
        mine = own.reaches6(block, at)
        plain = group.of("icmp6") & ~(group.of("is_fragment") | group.of("has_options"))
        group.link(mine, plain)
        kind = _type(block, at + IPV6.itemsize)
        intact = group.verified() if self._verify else np.ones(len(block), np.bool_)
        echo = plain & mine & intact & own.answerable6(block, at)
        echo &= kind == replies.ECHO6_REQUEST
        advised = self._solicited(group, plain & mine & (kind == replies.SOLICITATION), mine, intact)
        good = echo if advised is None else echo | advised
        fragments, options = group.of("is_fragment"), group.of("has_options")
        if not _all(good):
            self._leave(good, not_for_us=~mine, fragments=fragments, options=options, bad_checksum=~intact)
        self.counters["echo6"] += group.apply(echo, replies.echo6_reply, own)
        if advised is not None:
            self.counters["nd"] += group.apply(advised, replies.advertise, own)
            group.note_lengths(advised)

    def _solicited(self, group: _Group, asks: Bools, mine: Bools, intact: Bools) -> Bools | None:
        """Return the neighbour solicitations to answer, None for none, and correct the masks of the others."""
        if self._mode == "ip" or self._own.ipv6 is None or not np.count_nonzero(asks):
            return None
        good = np.zeros(len(asks), np.bool_)
        mine[asks], good[asks], intact[asks] = group.examine(asks, self._own)
        return good

    def _leave(self, good: Bools, **reasons: Bools) -> None:
        """Count rows that are not ``good`` by the first reason that holds, else as "other"."""
        rest = ~good
        for name, holds in reasons.items():
            self.counters[name] += int(np.count_nonzero(rest & holds))
            rest &= ~holds
        self.counters["other"] += int(np.count_nonzero(rest))


def _type(block: Matrix, at: int) -> NDArray[np.uint8]:
    """Return the ICMP types, 0 beyond the width."""
    return block[:, at] if at < block.shape[1] else np.zeros(len(block), np.uint8)


def _all(mask: Bools) -> bool:
    """Return ``mask.all()``, in a fifth of its time."""
    return int(np.count_nonzero(mask)) == len(mask)
