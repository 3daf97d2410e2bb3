"""Header layouts as numpy structured dtypes, and three ways to access them in a matrix of packets.

All multi-byte fields are big-endian, as on the wire. numpy converts on access, so ``udp["dport"] == 53`` and
``ip["ttl"] -= 1`` work as written. Addresses longer than four bytes are arrays of uint8. An IPv4 address is one 32-bit
number (``int(ipaddress.IPv4Address("192.0.2.1"))``).
"""

from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memif.config import whole
from memif.errors import MemifTypeError, MemifValueError

from ._headers import move

Matrix = NDArray[np.uint8]
"""A burst as rows of bytes, uint8, shape (n, width)."""

ETHERNET = np.dtype([("dst", "u1", 6), ("src", "u1", 6), ("ethertype", ">u2")])
"""Ethernet II, 14 bytes. With VLAN tags ``ethertype`` is the identifier of the outer tag."""

VLAN = np.dtype([("tci", ">u2"), ("ethertype", ">u2")])
"""An 802.1Q or 802.1ad tag after its identifier, 4 bytes. It has priority (3 bits), drop eligible (1), id (12)."""

ARP = np.dtype(
    [
        ("hardware", ">u2"),
        ("protocol", ">u2"),
        ("hardware_size", "u1"),
        ("protocol_size", "u1"),
        ("operation", ">u2"),
        ("sender_mac", "u1", 6),
        ("sender_ip", ">u4"),
        ("target_mac", "u1", 6),
        ("target_ip", ">u4"),
    ]
)
"""ARP for IPv4 over Ethernet (RFC 826), 28 bytes. Operation 1 is a request, 2 a reply."""

IPV4 = np.dtype(
    [
        ("version_ihl", "u1"),
        ("tos", "u1"),
        ("total_length", ">u2"),
        ("identification", ">u2"),
        ("fragment", ">u2"),
        ("ttl", "u1"),
        ("protocol", "u1"),
        ("checksum", ">u2"),
        ("src", ">u4"),
        ("dst", ">u4"),
    ]
)
"""IPv4 without options (RFC 791), 20 bytes. ``fragment`` is 3 bits of flags, then the offset in 8 bytes."""

IPV6 = np.dtype(
    [
        ("version_class_flow", ">u4"),
        ("payload_length", ">u2"),
        ("next_header", "u1"),
        ("hop_limit", "u1"),
        ("src", "u1", 16),
        ("dst", "u1", 16),
    ]
)
"""IPv6 fixed header (RFC 8200), 40 bytes."""

ICMP = np.dtype([("type", "u1"), ("code", "u1"), ("checksum", ">u2"), ("identifier", ">u2"), ("sequence", ">u2")])
"""ICMP and ICMPv6 echo (RFC 792, RFC 4443), 8 bytes. The first three fields are common to all messages."""

NEIGHBOUR = np.dtype([("type", "u1"), ("code", "u1"), ("checksum", ">u2"), ("flags", ">u4"), ("target", "u1", 16)])
"""ICMPv6 neighbour solicitation (135) and advertisement (136), RFC 4861, 24 bytes; options follow."""

LINK_OPTION = np.dtype([("type", "u1"), ("length", "u1"), ("mac", "u1", 6)])
"""Link-layer address option of neighbour discovery, 8 bytes. Type 1 is source, 2 target; length is 1."""

UDP = np.dtype([("sport", ">u2"), ("dport", ">u2"), ("length", ">u2"), ("checksum", ">u2")])
"""UDP (RFC 768), 8 bytes."""

TCP = np.dtype(
    [
        ("sport", ">u2"),
        ("dport", ">u2"),
        ("sequence", ">u4"),
        ("acknowledgement", ">u4"),
        ("data_offset", "u1"),
        ("flags", "u1"),
        ("window", ">u2"),
        ("checksum", ">u2"),
        ("urgent", ">u2"),
    ]
)
"""TCP without options (RFC 9293), 20 bytes. The upper 4 bits of ``data_offset`` count 4-byte words."""


class EtherType(IntEnum):
    """Values of an Ethernet header's type field that this package knows."""

    IPV4 = 0x0800
    ARP = 0x0806
    VLAN = 0x8100
    IPV6 = 0x86DD
    QINQ = 0x88A8
    QINQ_OLD = 0x9100


class Protocol(IntEnum):
    """Values of IPv4's protocol and IPv6's next header field that this package knows."""

    HOP_BY_HOP = 0
    ICMP = 1
    TCP = 6
    UDP = 17
    ROUTING = 43
    FRAGMENT = 44
    AUTHENTICATION = 51
    ICMPV6 = 58
    DESTINATION = 60
    MOBILITY = 135


def view(matrix: Matrix, dtype: np.dtype[Any], offset: int) -> NDArray[Any]:
    """Return the header at the same offset of every row, without a copy.

    Assigning to a field writes into ``matrix``.

    Args:
        matrix: uint8, shape (n, width), rows contiguous.
        dtype: Layout of the header, such as `IPV4`.
        offset: Bytes from the start of each row.

    Returns:
        Structured array of shape (n,).

    Raises:
        MemifTypeError: when ``matrix`` is not uint8.
        MemifValueError: when the header does not fit in the width, or rows are not contiguous.
    """
    try:
        end = offset + dtype.itemsize
        if offset >= 0 and end <= matrix.shape[1] and matrix.dtype == np.uint8:
            return matrix[:, offset:end].view(dtype)[:, 0]
    except (AttributeError, IndexError, TypeError, ValueError):
        _check_header(matrix, dtype)
        _check_offset(matrix, dtype, "offset", offset)
        raise MemifValueError.argument("matrix", f"strides {matrix.strides}", "contiguous rows") from None
    _check_header(matrix, dtype)
    _check_offset(matrix, dtype, "offset", offset)
    raise AssertionError("a valid header was refused")


def gather(
    matrix: Matrix, dtype: np.dtype[Any], offsets: NDArray[Any], rows: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Copy the header at a different offset of each row.

    `scatter` writes the result back.

    Args:
        matrix: uint8, shape (n, width).
        dtype: Layout of the header, such as `IPV4`.
        offsets: Bytes from the start of each row, integers, shape (n,).
        rows: Only these rows: m row numbers, or a mask of shape (n,). None for all.

    Returns:
        Structured array of shape (m,).

    Raises:
        MemifTypeError: when an argument is an array of another kind.
        MemifValueError: when a header lies outside its row, or shapes do not match.
    """
    _check_header(matrix, dtype)
    check_lengths("offsets", offsets, len(matrix))
    numbers = _numbers(rows, len(matrix))
    count = len(matrix) if numbers is None else len(numbers)
    records: NDArray[Any] = np.empty(count, dtype)
    _move(matrix, dtype, offsets, numbers, records.view(np.uint8), back=False)
    return records


def scatter(matrix: Matrix, records: NDArray[Any], offsets: NDArray[Any], rows: NDArray[Any] | None = None) -> None:
    """Write headers back that `gather` returned for the same offsets and rows.

    Args:
        matrix: uint8, shape (n, width), writable.
        records: Structured array of shape (m,).
        offsets: Bytes from the start of each row, integers, shape (n,).
        rows: As for `gather`.

    Raises:
        MemifTypeError: when an argument is an array of another kind.
        MemifValueError: when a header lies outside its row, or the numbers of records and rows differ.
    """
    check_matrix(matrix, writable=True)
    if not isinstance(records, np.ndarray):
        raise MemifTypeError.argument("records", records, "an array of headers, as gather returns")
    _check_header(matrix, records.dtype, "records")
    check_lengths("offsets", offsets, len(matrix))
    numbers = _numbers(rows, len(matrix))
    count = len(matrix) if numbers is None else len(numbers)
    if records.shape != (count,):
        if numbers is not None and any(not -len(matrix) <= row < len(matrix) for row in numbers.tolist()):
            raise _wrong_rows(rows, len(matrix))
        raise MemifValueError.argument("records", Described(records), f"shape ({count},), one for each row")
    raw = np.ascontiguousarray(records).view(np.uint8)
    _move(matrix, records.dtype, offsets, numbers, raw, back=True, name="records")


def _move(
    matrix: Matrix,
    dtype: np.dtype[Any],
    offsets: NDArray[Any],
    numbers: NDArray[np.int64] | None,
    raw: NDArray[np.uint8],
    *,
    back: bool,
    name: str = "dtype",
) -> None:
    """Copy headers, and raise the error for one that lies outside."""
    if dtype.itemsize > matrix.shape[1]:
        if len(raw):
            _check_offset(matrix, dtype, "offsets", 0, name)
        return
    bad = move(matrix, offsets.astype(np.int64, copy=False), numbers, raw, dtype.itemsize, back)
    if bad >= 0:
        row = bad if numbers is None else int(numbers[bad])
        if not -len(matrix) <= row < len(matrix):
            raise _wrong_rows(numbers, len(matrix))
        _check_offset(matrix, dtype, "offsets", int(offsets[row]), name)
        raise AssertionError("a valid header was refused")


def _numbers(rows: Any, count: int) -> NDArray[np.int64] | None:
    """Return row numbers or a mask as row numbers, and None for all rows."""
    if rows is None:
        return None
    if isinstance(rows, np.ndarray) and rows.ndim == 1:
        if rows.dtype == np.bool_ and len(rows) == count:
            return rows.nonzero()[0].astype(np.int64, copy=False)
        if rows.dtype.kind in "iu":
            return rows.astype(np.int64, copy=False)
    raise _wrong_rows(rows, count)


def _wrong_rows(rows: Any, count: int) -> MemifValueError:
    allowed = f"row numbers below {count}, or a mask of shape ({count},)"
    return MemifValueError.argument("rows", Described(rows), allowed)


def _check_header(matrix: Any, dtype: Any, name: str = "dtype") -> None:
    check_matrix(matrix)
    if not isinstance(dtype, np.dtype) or not dtype.itemsize or dtype.hasobject:
        raise MemifTypeError.argument(name, dtype, "a numpy dtype of plain bytes, such as memif.packet.IPV4")


def _check_offset(matrix: Any, dtype: Any, name: str, offset: Any, of: str = "dtype") -> None:
    """Raise `MemifValueError` when a header lies outside the row."""
    if dtype.itemsize > matrix.shape[1]:
        raise MemifValueError.argument(of, dtype, f"at most {matrix.shape[1]} bytes, as the rows have")
    whole(name, offset, 0, matrix.shape[1] - dtype.itemsize)


def check_burst(matrix: Any, lengths: Any) -> None:
    """Raise `MemifTypeError` or `MemifValueError` unless the two arrays describe one burst."""
    check_matrix(matrix)
    check_lengths("lengths", lengths, len(matrix))


def check_matrix(matrix: Any, *, name: str = "matrix", writable: bool = False) -> None:
    """Raise `MemifTypeError` or `MemifValueError` unless `matrix` is a matrix of bytes."""
    if not isinstance(matrix, np.ndarray) or matrix.dtype != np.uint8:
        raise MemifTypeError.argument(name, Described(matrix), "a uint8 array of shape (n, width)")
    if matrix.ndim != 2:
        raise MemifValueError.argument(name, Described(matrix), "a uint8 array of shape (n, width)")
    if writable and not matrix.flags.writeable:
        raise MemifValueError.argument(name, "a read-only array", "a writable one")


def check_lengths(name: str, lengths: Any, count: int) -> None:
    """Raise `MemifTypeError` or `MemifValueError` unless there is an integer for each of `count` packets."""
    if not isinstance(lengths, np.ndarray) or lengths.dtype.kind not in "ui":
        raise MemifTypeError.argument(name, Described(lengths), "an array of integers, one for each packet")
    if lengths.shape != (count,):
        raise MemifValueError.argument(name, Described(lengths), f"shape ({count},), one for each packet")


def check_rows(rows: Any, count: int) -> NDArray[np.bool_] | None:
    """Return row numbers or a mask as a mask of shape (count,), and None for all rows."""
    if rows is None:
        return None
    if isinstance(rows, np.ndarray) and rows.ndim == 1 and rows.dtype.kind in "iub":
        if rows.dtype == np.bool_ and len(rows) == count:
            return rows
        mask = np.zeros(count, np.bool_)
        try:
            mask[rows] = True
        except IndexError:
            pass
        else:
            return mask
    raise _wrong_rows(rows, count)


class Described:
    """Shows an argument that should be an array in the text of an error."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __repr__(self) -> str:
        value = self._value
        return f"{value.dtype} of shape {value.shape}" if isinstance(value, np.ndarray) else repr(value)
