"""Push and pop VLAN tags, in a matrix that holds whole packets."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from memif.errors import MemifValueError

from . import _rewrite
from .headers import EtherType, Matrix, check_lengths, check_matrix, check_rows
from .rewrite import words

_TAGS = (EtherType.VLAN, EtherType.QINQ, EtherType.QINQ_OLD)


def push_vlan(
    matrix: Matrix,
    lengths: NDArray[Any],
    tci: Any,
    *,
    ethertype: int = EtherType.VLAN,
    rows: NDArray[Any] | None = None,
) -> NDArray[np.uint32]:
    """Put a VLAN tag between the MAC addresses and what follows them.

    Args:
        matrix: uint8, shape (n, width), writable. A row needs four bytes more than its packet has.
        lengths: Packet lengths in bytes, integers, shape (n,). Only read.
        tci: Priority (3 bits), drop eligible (1) and VLAN identifier (12) for all rows, or integers of shape (n,).
        ethertype: What identifies the tag: `EtherType.VLAN`, or `EtherType.QINQ` for an outer tag.
        rows: Only these rows: row numbers, or a mask of shape (n,). None for all.

    Returns:
        The packet lengths after that, for ``send_array``, uint32, shape (n,). A packet has no new tag, and its old
        length, where it is shorter than an Ethernet header or the row is too short.

    Raises:
        MemifTypeError: when ``matrix`` or ``lengths`` is an array of another kind.
        MemifValueError: when shapes do not match, the matrix is read-only, or another argument does not fit.
    """
    check_matrix(matrix, writable=True)
    check_lengths("lengths", lengths, len(matrix))
    if not isinstance(ethertype, int) or ethertype not in _TAGS:
        raise MemifValueError.argument("ethertype", ethertype, "EtherType.VLAN, EtherType.QINQ or EtherType.QINQ_OLD")
    values = words("tci", tci, len(matrix))
    if values is None:
        raise MemifValueError.argument("tci", tci, "0 to 65535")
    tags = np.empty((len(values), 4), np.uint8)
    tags[:, 0], tags[:, 1], tags[:, 2:] = ethertype >> 8, ethertype & 0xFF, values
    return _rewrite.vlan(matrix, lengths, tags, check_rows(rows, len(matrix)))


def pop_vlan(matrix: Matrix, lengths: NDArray[Any], *, rows: NDArray[Any] | None = None) -> NDArray[np.uint32]:
    """Take the outer VLAN tag away.

    Args:
        matrix: uint8, shape (n, width), writable, whole packets.
        lengths: Packet lengths in bytes, integers, shape (n,). Only read.
        rows: Only these rows: row numbers, or a mask of shape (n,). None for all.

    Returns:
        The packet lengths after that, for ``send_array``, uint32, shape (n,). Packets without a tag stay as they are,
        as do those that are longer than the row.

    Raises:
        MemifTypeError: when ``matrix`` or ``lengths`` is an array of another kind.
        MemifValueError: when shapes do not match, the matrix is read-only, or ``rows`` does not fit.
    """
    check_matrix(matrix, writable=True)
    check_lengths("lengths", lengths, len(matrix))
    return _rewrite.vlan(matrix, lengths, None, check_rows(rows, len(matrix)))
