"""A host that answers who-has and ping, on bursts: ARP, ICMP echo, IPv6 neighbour solicitation, ICMPv6 echo.

It answers what the kernel of Linux would, frame by frame, but for these: it has one address of each family, with no
prefix and no routes, so an answer goes to the MAC address that asked; VLAN tags are kept, whatever their number;
fragments, IPv4 options and IPv6 extension headers are left alone, as are frames from a group's MAC address and
packets from addresses that no host has (0/8, 127/8, 224/3, ``::``, ``::1``, groups, our own). A neighbour
advertisement without a link-layer address does not ask to override (RFC 4861, 7.2.4).

Requests are turned into their answers where they lie. Echo answers touch only the headers and update the
checksum by difference, so packets of any size are answered from a matrix that holds the first 64 bytes:

    heads = burst.gather(64)
    mine = responder.answer(heads, burst.lengths)
    burst.scatter(heads)             # packets that were not answered are written back as they were
    queue.forward(burst)

Every row of every burst counts once in `Responder.counters`.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from memif.config import one_of
from memif.errors import MemifValueError

from . import neighbour, rewrite
from .addresses import Addresses
from .arguments import check, check_lengths
from .checksum import is_ones, raw_sum
from .classify import Bools, Mode, classify
from .fastpath import PlainEcho
from .groups import Burst, Group
from .headers import ETHERNET, IPV4, IPV6, Matrix

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

    ``ipv4``, ``ipv6``: addresses as text, None to be silent in that family. ``mac``: six bytes, the address
    of all answers; frames to another one that is no group's are not for us; not used in IP mode. ``mode``:
    "ethernet" or "ip"; IP mode has neither ARP nor neighbour discovery. ``verify``: check the ICMP checksum of
    echo requests which the matrix holds whole; off by default, as an answer to a corrupt request is itself
    corrupt and is dropped by who asked. The IPv4 header checksum and neighbour solicitations are always
    checked. ICMPv6 echo is also answered for all nodes (ff02::1) and for the group of our address.

    Raises `MemifValueError` for addresses that no host can have and for an unknown mode.
    One thread at a time.
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
        self._plain = None if ipv4 is None or verify else PlainEcho(self._own, mode)
        self.counters: dict[str, int] = dict.fromkeys(_COUNTERS, 0)
        """Rows seen since the start.

        Answered: ``arp``, ``echo``, ``nd``, ``echo6``. Addressed to us but left alone: ``fragments``,
        ``options`` (IPv4 options, IPv6 extension headers), ``bad_checksum``. ``not_for_us``: to another MAC
        address; IP, an ARP request or a solicitation for another address. ``other``: anything else, such as
        other protocols, senders that cannot be answered, invalid or truncated headers, or headers that the
        matrix is too narrow to hold."""

    def answer(self, matrix: Matrix, lengths: NDArray[Any], *, new_lengths: NDArray[Any] | None = None) -> Bools:
        """Rewrites requests into answers in place; True, in the array of shape (n,), for the rows rewritten.

        ``matrix``: uint8 (n, width), writable, rows contiguous. A width of 64 serves ARP and echo, 128 also
        echo over IPv6 behind VLAN tags, and neighbour solicitations. ``lengths``: (n,) packet lengths in
        bytes, only read. Rows that are not answered stay as they are.

        Answers are as long as their requests (the options of a longer solicitation become a trailer), with
        one exception: a solicitation without options sent to a group (duplicate address detection by old
        hosts) is answered with 8 bytes more. That needs ``new_lengths``, (n,), which is set to the lengths of
        the packets after rewriting, to be sent by ``send_array``; without it such requests are left alone.
        Raises `MemifValueError` for unsuitable arrays.
        """
        check(matrix, lengths)
        if not matrix.flags.writeable or (matrix.size and matrix.strides[1] != 1):
            what = f"writeable {matrix.flags.writeable}, strides {matrix.strides}"
            raise MemifValueError.argument("matrix", what, "a writable array with contiguous rows")
        if new_lengths is not None:
            check_lengths("new_lengths", new_lengths, matrix)
            if not new_lengths.flags.writeable:
                raise MemifValueError.argument("new_lengths", "a read-only array", "a writable one")
            new_lengths[:] = lengths
        if self._plain is not None and self._plain.fills(matrix, lengths):
            rewrite.echo_reply(matrix, self._plain.offset, self._own)
            self.counters["echo"] += len(matrix)
            answered = np.empty(len(matrix), np.bool_)
            answered.fill(True)  # a quarter of the time of `numpy.ones`
            return answered
        layers = classify(matrix, lengths, self._mode)
        burst = Burst(matrix, lengths, layers, new_lengths, np.zeros(len(matrix), np.bool_), self._link(matrix))
        self._sort(burst)
        return burst.answered

    def _link(self, matrix: Matrix) -> tuple[Bools, Bools] | None:
        """What `Burst.link` is."""
        return None if self._mode == "ip" or matrix.shape[1] < ETHERNET.itemsize else self._own.link(matrix)

    def _sort(self, burst: Burst) -> None:
        """Hands each kind of packet, at each offset, to its own method."""
        rest = len(burst.matrix)
        for kind, handle in (("ipv4", self._ipv4), ("arp", self._arp), ("ipv6", self._ipv6)):
            if rest == 0:  # masks cost time, too
                return
            mask: Bools = getattr(burst.layers, kind)
            rest -= int(np.count_nonzero(mask))
            for offset, rows in burst.layers.by_offset(mask):
                handle(Group(burst, offset, rows))
        self.counters["other"] += rest

    def _arp(self, group: Group) -> None:
        block, at = group.block, group.offset
        asks = rewrite.word(block, at + 6) == rewrite.ARP_REQUEST
        mine, fair = self._own.targets4(block, at + 8), self._own.answers_arp(block, at)
        group.link(mine, fair)
        good = asks & mine & fair
        if not _all(good):
            self._leave(good, not_for_us=asks & ~mine)
        self.counters["arp"] += group.apply(good, rewrite.arp_reply, self._own)

    def _ipv4(self, group: Group) -> None:
        block, at = group.block, group.offset
        mine, fair = self._own.targets4(block, at), self._own.answerable4(block, at)
        group.link(mine, fair)
        intact = is_ones(raw_sum(block, at, at + IPV4.itemsize))
        fragments, options = group.of("is_fragment"), group.of("has_options")
        fair &= group.of("icmp")
        fair &= _type(block, at + IPV4.itemsize) == rewrite.ECHO_REQUEST
        if self._verify:
            intact &= group.verified()
        good = mine & intact & fair & ~(fragments | options)
        if not _all(good):
            self._leave(good, not_for_us=~mine, fragments=fragments, options=options, bad_checksum=~intact)
        self.counters["echo"] += group.apply(good, rewrite.echo_reply, self._own)

    def _ipv6(self, group: Group) -> None:
        block, at, own = group.block, group.offset, self._own
        mine = own.reaches6(block, at)
        plain = group.of("icmp6") & ~(group.of("is_fragment") | group.of("has_options"))
        group.link(mine, plain)
        kind = _type(block, at + IPV6.itemsize)
        intact = group.verified() if self._verify else np.ones(len(block), np.bool_)
        echo = plain & mine & intact & own.answerable6(block, at)
        echo &= kind == rewrite.ECHO6_REQUEST
        advised = self._solicited(group, plain & mine & (kind == neighbour.SOLICITATION), mine, intact)
        good = echo if advised is None else echo | advised
        fragments, options = group.of("is_fragment"), group.of("has_options")
        if not _all(good):
            self._leave(good, not_for_us=~mine, fragments=fragments, options=options, bad_checksum=~intact)
        self.counters["echo6"] += group.apply(echo, rewrite.echo6_reply, own)
        if advised is not None:
            self.counters["nd"] += group.apply(advised, neighbour.advertise, own)
            group.note_lengths(advised)

    def _solicited(self, group: Group, asks: Bools, mine: Bools, intact: Bools) -> Bools | None:
        """The neighbour solicitations to answer, None for none; corrects what is known of the others."""
        if self._mode == "ip" or self._own.ipv6 is None or not np.count_nonzero(asks):
            return None
        good = np.zeros(len(asks), np.bool_)
        mine[asks], good[asks], intact[asks] = group.examine(asks, self._own)
        return good

    def _leave(self, good: Bools, **reasons: Bools) -> None:
        """Counts rows that are not ``good`` by the first of the reasons that holds, else as "other"."""
        rest = ~good
        for name, holds in reasons.items():
            self.counters[name] += int(np.count_nonzero(rest & holds))
            rest &= ~holds
        self.counters["other"] += int(np.count_nonzero(rest))


def _type(block: Matrix, at: int) -> NDArray[np.uint8]:
    """The ICMP types, 0 beyond the width."""
    return block[:, at] if at < block.shape[1] else np.zeros(len(block), np.uint8)


def _all(mask: Bools) -> bool:
    """As ``mask.all()``, in a fifth of its time."""
    return int(np.count_nonzero(mask)) == len(mask)
