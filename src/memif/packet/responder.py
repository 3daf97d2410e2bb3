"""A host that answers who-has and ping, on bursts: ARP, ICMP echo, IPv6 neighbour solicitation, ICMPv6 echo.

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

from . import neighbour, rewrite
from .checksum import is_ones, raw_sum
from .classify import Bools, Mode, check, classify
from .fastpath import PlainEcho
from .groups import Burst, Group
from .headers import ARP, IPV4, IPV6, Matrix, view
from .rewrite import Addresses, word

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

    ``ipv4``, ``ipv6``: addresses as text, None to be silent in that family. ``mac``: six bytes, the source
    of all answers; not used in IP mode. ``mode``: "ethernet" or "ip"; IP mode has neither ARP nor neighbour
    discovery. ``verify``: check the ICMP checksum of echo requests which the matrix holds whole; off by
    default, as an answer to a corrupt request is itself corrupt and is dropped by who asked. The IPv4
    header checksum and neighbour solicitations are always checked. Raises ValueError for addresses that are
    no unicast addresses. One thread at a time.
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
        if mode not in ("ethernet", "ip"):
            raise ValueError(f"mode must be 'ethernet' or 'ip', not {mode!r}")
        self._own = Addresses.parse(ipv4, ipv6, mac)
        self._mode: Mode = mode
        self._verify = verify
        four = self._own.ipv4
        self._plain = None if four is None or verify else PlainEcho(four, mode)
        self.counters: dict[str, int] = dict.fromkeys(_COUNTERS, 0)
        """Rows seen since the start.

        Answered: ``arp``, ``echo``, ``nd``, ``echo6``. Addressed to us but left alone: ``fragments``,
        ``options`` (IPv4 options, IPv6 extension headers), ``bad_checksum``. ``not_for_us``: IP, an ARP
        request or a solicitation for another address. ``other``: anything else, such as other protocols,
        invalid or truncated headers, or headers that the matrix is too narrow to hold."""

    def answer(self, matrix: Matrix, lengths: NDArray[Any], *, new_lengths: NDArray[Any] | None = None) -> Bools:
        """Rewrites requests into answers in place; True, in the array of shape (n,), for the rows rewritten.

        ``matrix``: uint8 (n, width), writable, rows contiguous. A width of 64 serves ARP and echo, 128 also
        echo over IPv6 behind VLAN tags, and neighbour solicitations. ``lengths``: (n,) packet lengths in
        bytes, only read. Rows that are not answered stay as they are.

        Answers are as long as their requests, with one exception: a solicitation without options sent to a
        group (duplicate address detection by old hosts) is answered with 8 bytes more. That needs
        ``new_lengths``, (n,), which is set to the lengths of the packets after rewriting, to be sent by
        ``send_array``; without it such requests are left alone. Raises TypeError or ValueError for
        unsuitable arrays.
        """
        check(matrix, lengths)
        if not matrix.flags.writeable or (matrix.size and matrix.strides[1] != 1):
            raise ValueError("matrix must be writable and have contiguous rows")
        if new_lengths is not None:
            new_lengths[:] = lengths
        if self._plain is not None and self._plain.fills(matrix, lengths):
            rewrite.echo_reply(matrix, self._plain.offset, self._own)
            self.counters["echo"] += len(matrix)
            return np.ones(len(matrix), np.bool_)
        layers = classify(matrix, lengths, self._mode)
        burst = Burst(matrix, lengths, layers, new_lengths, np.zeros(len(matrix), np.bool_))
        self._sort(burst)
        return burst.answered

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
        arp = view(group.block, ARP, group.offset)
        asks = arp["operation"] == 1
        mine = group.equal(arp["target_ip"], self._own.ipv4)
        # Who announces our address as its own is not asking. A group address is nobody to answer.
        sane = (arp["sender_ip"] != arp["target_ip"]) & ((arp["sender_mac"][:, 0] & 1) == 0)
        good = asks & mine & sane
        self._leave(good, not_for_us=asks & ~mine)
        self.counters["arp"] += group.apply(good, rewrite.arp_reply, self._own)

    def _ipv4(self, group: Group) -> None:
        block, at = group.block, group.offset
        mine = group.equal(view(block, IPV4, at)["dst"], self._own.ipv4)
        intact = is_ones(raw_sum(block, at, at + IPV4.itemsize))
        fragments, options = group.of("is_fragment"), group.of("has_options")
        source = block[:, at + 12] - np.uint8(1)  # wraps: net 0, like groups, is above all unicast addresses
        echo = group.of("icmp") & (source < 223)
        echo &= word(block, at + IPV4.itemsize) == rewrite.ECHO_REQUEST
        if self._verify:
            intact &= group.verified()
        good = mine & intact & echo & ~(fragments | options)
        self._leave(good, not_for_us=~mine, fragments=fragments, options=options, bad_checksum=~intact)
        self.counters["echo"] += group.apply(good, rewrite.echo_reply, self._own)

    def _ipv6(self, group: Group) -> None:
        block, at = group.block, group.offset
        ip, own = view(block, IPV6, at), self._own.ipv6
        mine = group.equal(ip["dst"], own)
        intact = group.verified() if self._verify else np.ones(len(block), np.bool_)
        fragments, options = group.of("is_fragment"), group.of("has_options")
        plain = group.of("icmp6") & ~(fragments | options)
        kind = word(block, at + IPV6.itemsize)
        echo = plain & mine & intact & (kind == rewrite.ECHO6_REQUEST)
        echo &= (ip["src"][:, 0] != 0xFF) & ip["src"].any(axis=1)
        asks, good = plain & (kind == neighbour.SOLICITATION), echo.copy()
        if own is not None and self._mode == "ethernet" and asks.any():
            asks &= mine | group.equal(ip["dst"], neighbour.solicited_node(own))
            mine[asks], good[asks], intact[asks] = group.examine(asks, own)
        self._leave(good, not_for_us=~mine, fragments=fragments, options=options, bad_checksum=~intact)
        self.counters["echo6"] += group.apply(echo, rewrite.echo6_reply, self._own)
        self.counters["nd"] += group.apply(good & ~echo, neighbour.advertise, self._own)
        group.note_lengths(good & ~echo)

    def _leave(self, good: Bools, **reasons: Bools) -> None:
        """Counts rows that are not ``good`` by the first of the reasons that holds, else as "other"."""
        if good.all():
            return
        rest = ~good
        for name, holds in reasons.items():
            self.counters[name] += int(np.count_nonzero(rest & holds))
            rest &= ~holds
        self.counters["other"] += int(np.count_nonzero(rest))
