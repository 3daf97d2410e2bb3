"""The burst that a pinged responder mostly sees: nothing but plain echo requests to its address.

It is recognised by one masked comparison of 24 bytes a row, and of the MAC addresses, in place of taking all layers
apart. The 24 bytes are first turned round, so that each 16-bit word of all rows lies side by side: numpy works several
times as fast on that as on columns of a matrix. What recognition accepts, `Responder` would answer just so by its
usual way; that the two agree is tested.
"""

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .addresses import NO_HOST, Addresses, number
from .classify import Mode
from .headers import ICMP, IPV4, Matrix

_WINDOW = 24  # bytes: EtherType, IPv4 header, ICMP type and code
_SWAP = sys.byteorder == "little"
_LEAST = IPV4.itemsize + ICMP.itemsize
#: By the first two bytes of a source address, as the machine reads them: may not be answered.
_NO_HOST = np.tile(NO_HOST, 256) if _SWAP else np.repeat(NO_HOST, 256)


class PlainEcho:
    """Recognises untagged echo requests without options and fragments to the IPv4 and the MAC address of ``own``."""

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
        """True when each row is such a request, from a host's address, complete and with a right header.

        A source whose last two bytes are our own's is left to the usual way, as it may be our address.
        """
        at, end = self.offset, self._start + _WINDOW
        if max(end, at + IPV4.itemsize + 8) > matrix.shape[1]:  # the ICMP header must be in view: it is rewritten
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
        # As `is_ones`; the sum cannot be 0.
        header = np.add.reduce(words[first : first + IPV4.itemsize // 2], axis=0, dtype=np.uint32)
        return not np.count_nonzero(header % 0xFFFF)
