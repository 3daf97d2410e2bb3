"""The burst that a pinged responder mostly sees: nothing but plain echo requests to its address.

It is recognised by one masked comparison of 24 bytes a row, in place of taking all layers apart. What
recognition accepts, `Responder` would answer just so by its usual way; that the two agree is tested.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .checksum import raw_sum
from .classify import Mode
from .headers import ICMP, IPV4, Matrix, view

_WINDOW = 24  # bytes: EtherType, IPv4 header, ICMP type and code; a multiple of 8
_LEAST = IPV4.itemsize + ICMP.itemsize


class PlainEcho:
    """Recognises untagged echo requests without options and fragments to ``ipv4``, an address as a number."""

    def __init__(self, ipv4: int, mode: Mode) -> None:
        self.offset = 14 if mode == "ethernet" else 0
        self._start = max(self.offset - 2, 0)
        wanted = (
            (self.offset - 2, b"\x08\x00", b"\xff\xff"),  # EtherType
            (self.offset, b"\x45", b"\xff"),  # version, header length
            (self.offset + 6, b"\x00\x00", b"\x3f\xff"),  # no fragment
            (self.offset + 9, b"\x01", b"\xff"),  # ICMP
            (self.offset + 16, ipv4.to_bytes(4, "big"), b"\xff\xff\xff\xff"),
            (self.offset + 20, b"\x08\x00", b"\xff\xff"),  # echo request, code 0
        )
        value, mask = bytearray(_WINDOW), bytearray(_WINDOW)
        for at, data, bits in wanted:
            if at >= self._start:
                place = slice(at - self._start, at - self._start + len(data))
                value[place], mask[place] = data, bits
        self._value, self._mask = np.frombuffer(value, np.uint64), np.frombuffer(mask, np.uint64)

    def fills(self, matrix: Matrix, lengths: NDArray[Any]) -> bool:
        """True when each row is such a request, from a unicast address, complete and with a right header."""
        at, end = self.offset, self._start + _WINDOW
        if max(end, at + IPV4.itemsize + 8) > matrix.shape[1]:  # the ICMP header must be in view: it is rewritten
            return False
        window = matrix[:, self._start : end].view(np.uint64)
        if ((window ^ self._value) & self._mask).any():
            return False
        total = view(matrix, IPV4, at)["total_length"].astype(np.uint32)
        if (total < _LEAST).any() or (total + np.uint32(at) > lengths).any():
            return False
        source = matrix[:, at + 12] - np.uint8(1)  # wraps: net 0, like groups, is above all unicast addresses
        if not (source < 223).all():
            return False
        # As `is_ones`; the sum cannot be 0.
        return not (raw_sum(matrix, at, at + IPV4.itemsize) % 0xFFFF).any()
