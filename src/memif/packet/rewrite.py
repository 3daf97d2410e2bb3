"""Change addresses, ports and the time to live in place.

Checksums are updated for what was changed (RFC 1624), so a checksum that was wrong stays wrong, and the payload need
not be in the matrix: IPv4's header checksum, and those of TCP, UDP and ICMPv6, in first fragments too. A UDP checksum
of 0 stays 0. Those of other protocols that cover the addresses (UDP-Lite, DCCP) are not updated.
"""

from ipaddress import IPv4Address, IPv6Address
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memif.config import whole
from memif.errors import MemifValueError

from . import _rewrite
from .classify import Bools, Layers, check_layers
from .headers import Described, Matrix, check_rows

_Bytes = NDArray[np.uint8]


def rewrite_macs(
    matrix: Matrix, layers: Layers, *, src: Any = None, dst: Any = None, rows: NDArray[Any] | None = None
) -> Bools:
    """Write MAC addresses into Ethernet frames.

    Args:
        matrix: uint8, shape (n, width), writable, the matrix of ``layers``.
        layers: What `classify` returned.
        src: 6 bytes for all rows, or uint8 of shape (n, 6). None leaves the source as it is.
        dst: Likewise, the destination. Columns of the matrix itself may be given, for instance to exchange both.
        rows: Only these rows: row numbers, or a mask of shape (n,). None for all.

    Returns:
        Mask of shape (n,), True for the rows that were written. Rows that are not valid, or without an Ethernet header,
        stay as they are.

    Raises:
        MemifTypeError: when ``matrix`` or ``layers`` is of another kind.
        MemifValueError: when ``matrix`` is not that of ``layers`` or read-only, or another argument does not fit.
    """
    check_layers(matrix, layers, writable=True)
    mask, count = check_rows(rows, len(matrix)), len(matrix)
    return _rewrite.macs(matrix, layers, _mac("src", src, count), _mac("dst", dst, count), mask)


def rewrite_addresses(
    matrix: Matrix, layers: Layers, *, src: Any = None, dst: Any = None, rows: NDArray[Any] | None = None
) -> Bools:
    """Write IP addresses, all of one version, and update the checksums.

    Args:
        matrix: uint8, shape (n, width), writable, the matrix of ``layers``.
        layers: What `classify` returned.
        src: One address for all rows, as text or an object of `ipaddress`; or one for each row: IPv4 as integers of
            shape (n,), IPv6 as uint8 of shape (n, 16). None leaves the source as it is.
        dst: Likewise, the destination in the IP header.
        rows: Only these rows: row numbers, or a mask of shape (n,). None for all.

    Returns:
        Mask of shape (n,), True for the rows that were written. Rows of the other IP version stay as they are, as do
        rows that are not valid, and those whose layer 4 checksum lies beyond the matrix.

    Raises:
        MemifTypeError: when ``matrix`` or ``layers`` is of another kind.
        MemifValueError: when ``matrix`` is not that of ``layers`` or read-only, or another argument does not fit.
    """
    check_layers(matrix, layers, writable=True)
    mask = check_rows(rows, len(matrix))
    sources, targets = _addresses("src", src, len(matrix)), _addresses("dst", dst, len(matrix))
    sizes = {given.shape[1] for given in (sources, targets) if given is not None}
    if len(sizes) > 1:
        raise MemifValueError.argument("dst", Described(dst), "addresses of the same IP version as src")
    return _rewrite.addresses(matrix, layers, sources, targets, mask, 6 if 16 in sizes else 4)


def rewrite_ports(
    matrix: Matrix, layers: Layers, *, src: Any = None, dst: Any = None, rows: NDArray[Any] | None = None
) -> Bools:
    """Write the ports of UDP and TCP, and update the checksum.

    Args:
        matrix: uint8, shape (n, width), writable, the matrix of ``layers``.
        layers: What `classify` returned.
        src: The port for all rows, or integers of shape (n,). None leaves the source port as it is.
        dst: Likewise, the destination port.
        rows: Only these rows: row numbers, or a mask of shape (n,). None for all.

    Returns:
        Mask of shape (n,), True for the rows that were written: those of ``layers.udp`` and ``layers.tcp``.

    Raises:
        MemifTypeError: when ``matrix`` or ``layers`` is of another kind.
        MemifValueError: when ``matrix`` is not that of ``layers`` or read-only, or another argument does not fit.
    """
    check_layers(matrix, layers, writable=True)
    mask, count = check_rows(rows, len(matrix)), len(matrix)
    return _rewrite.ports(matrix, layers, words("src", src, count), words("dst", dst, count), mask)


def decrement_ttl(matrix: Matrix, layers: Layers, *, rows: NDArray[Any] | None = None) -> Bools:
    """Take one from IPv4's time to live and IPv6's hop limit, as a router does.

    Args:
        matrix: uint8, shape (n, width), writable, the matrix of ``layers``.
        layers: What `classify` returned.
        rows: Only these rows: row numbers, or a mask of shape (n,). None for all.

    Returns:
        Mask of shape (n,), True for the rows that were written. Packets whose time is over (0 or 1) stay as they are:
        a router must not forward them.

    Raises:
        MemifTypeError: when ``matrix`` or ``layers`` is of another kind.
        MemifValueError: when ``matrix`` is not that of ``layers`` or read-only, or ``rows`` does not fit.
    """
    check_layers(matrix, layers, writable=True)
    return _rewrite.hops(matrix, layers, check_rows(rows, len(matrix)))


def words(name: str, value: Any, count: int) -> _Bytes | None:
    """Return numbers of 16 bits as bytes: one row for all packets, or one for each."""
    if value is None:
        return None
    if not isinstance(value, np.ndarray):
        return np.array([[*divmod(whole(name, value, 0, 0xFFFF), 256)]], np.uint8)
    return _numbers(name, value, count, 2)


def _numbers(name: str, value: NDArray[Any], count: int, size: int) -> _Bytes:
    """Return a column of unsigned numbers as rows of bytes."""
    most = 256**size - 1
    if value.dtype.kind not in "ui" or value.shape != (count,):
        raise MemifValueError.argument(name, Described(value), f"integers of shape ({count},)")
    if count and not 0 <= value.min() <= value.max() <= most:
        raise MemifValueError.argument(name, Described(value), f"integers from 0 to {most}")
    return value.astype(f">u{size}").view(np.uint8).reshape(count, size)


def _mac(name: str, value: Any, count: int) -> _Bytes | None:
    if value is None:
        return None
    if isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.shape == (count, 6):
        return value.copy()
    if isinstance(value, bytes | bytearray | memoryview) and len(raw := bytes(value)) == 6:
        return np.frombuffer(raw, np.uint8).reshape(1, 6)
    raise MemifValueError.argument(name, Described(value), f"6 bytes, or uint8 of shape ({count}, 6)")


def _addresses(name: str, value: Any, count: int) -> _Bytes | None:
    """Return addresses as bytes: one row for all packets, or one for each."""
    if value is None:
        return None
    if isinstance(value, np.ndarray):
        if value.dtype == np.uint8 and value.shape == (count, 16):
            return value.copy()
        return _numbers(name, value, count, 4)
    for kind in (IPv4Address, IPv6Address):
        try:
            address = kind(value) if isinstance(value, str) else value
        except ValueError:
            continue
        if isinstance(address, kind):
            return np.frombuffer(address.packed, np.uint8).reshape(1, -1)
    raise MemifValueError.argument(name, value, "an IPv4 or IPv6 address, or an array of them")
