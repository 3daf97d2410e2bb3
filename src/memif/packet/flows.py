"""Hashes of flows, to spread packets over queues, threads or tables."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memif.errors import MemifValueError

from . import _flows
from .classify import Layers, check_layers
from .headers import Matrix

RSS_KEY = bytes.fromhex("6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa")
"""The key of Microsoft's specification of RSS, which many drivers use."""

SYMMETRIC_RSS_KEY = b"\x6d\x5a" * 20
"""A key with which `toeplitz_hash` is the same in both directions of a flow."""

_MOST = 36  # bytes of input: two IPv6 addresses and two ports
_KEY_SIZE = _MOST + 4


def flow_hash(matrix: Matrix, layers: Layers) -> NDArray[np.uint32]:
    """Return a hash of the flow of each packet, the same in both directions.

    It covers the addresses, the protocol, and the ports of TCP and UDP. Fragments are hashed by their addresses alone,
    so that all fragments of a packet have the same hash. VLAN tags do not count. The values are the same in all
    processes and on all machines; another release may have others.

    Args:
        matrix: uint8, shape (n, width), the matrix of ``layers``.
        layers: What `classify` returned.

    Returns:
        uint32, shape (n,). 0 for packets that are not valid IP.

    Raises:
        MemifTypeError: when an argument is of another kind.
        MemifValueError: when ``matrix`` is not that of ``layers``.

    Example:
        >>> queue = flow_hash(matrix, layers) % 4  # doctest: +SKIP
    """
    check_layers(matrix, layers)
    return _flows.hashes(matrix, layers, None)


def toeplitz_hash(matrix: Matrix, layers: Layers, key: bytes = RSS_KEY) -> NDArray[np.uint32]:
    """Return the Toeplitz hash of each packet, as network cards compute it for receive side scaling (RSS).

    The input is source address, destination address and, for TCP and UDP, source port and destination port. Fragments
    and other protocols are hashed by their addresses alone.

    Args:
        matrix: uint8, shape (n, width), the matrix of ``layers``.
        layers: What `classify` returned.
        key: At least 40 bytes, of which the first 40 are used.

    Returns:
        uint32, shape (n,). 0 for packets that are not valid IP.

    Raises:
        MemifTypeError: when ``matrix`` or ``layers`` is of another kind.
        MemifValueError: when ``matrix`` is not that of ``layers``, or ``key`` is not a key.
    """
    check_layers(matrix, layers)
    if not isinstance(key, bytes | bytearray | memoryview) or len(raw := bytes(key)) < _KEY_SIZE:
        raise MemifValueError.argument("key", key, f"at least {_KEY_SIZE} bytes")
    return _flows.hashes(matrix, layers, _table(raw[:_KEY_SIZE]))


@lru_cache(maxsize=16)
def _table(key: bytes) -> NDArray[Any]:
    """Return what each byte at each place of the input adds to the hash: the key, shifted by its bits that are set."""
    bits = np.unpackbits(np.frombuffer(key, np.uint8))
    starts = np.arange(_MOST * 8)
    weights = 1 << np.arange(31, -1, -1, dtype=np.uint64)
    shifted = (bits[starts[:, None] + np.arange(32)] * weights).sum(axis=1).astype(np.uint32).reshape(_MOST, 1, 8)
    chosen = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(np.uint32)
    table: NDArray[Any] = np.bitwise_xor.reduce(shifted * chosen, axis=2).astype(np.uint32).ravel()
    table.flags.writeable = False
    return table
