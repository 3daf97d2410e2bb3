"""Unix sockets as the kernel knows them: those of this network namespace, with their names and peers.

Asked of the kernel by netlink (sock_diag(7)), which tells peers and queues too; where that is not to be had, read from
/proc/net/unix, which does not.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_SOCK_DIAG: Final = 4
_BY_FAMILY: Final = 20
_REQUEST_DUMP: Final = 0x301
_ERROR, _DONE = 2, 3
_NAME, _VFS, _PEER, _RQLEN, _UID = 0, 1, 2, 4, 7
_SHOW: Final = 0x01 | 0x02 | 0x04 | 0x10 | 0x40  # name, file, peer, queue, owner
_HEADER: Final = struct.Struct("=IHHII")
_QUERY: Final = struct.Struct("=BBHIII8x")
_ANSWER: Final = struct.Struct("=BBBxI8x")
_ATTRIBUTE: Final = struct.Struct("=HH")

#: TCP's words for states, which the kernel uses for all kinds of sockets.
_ESTABLISHED, _LISTEN = 1, 10
_ACCEPTS: Final = 1 << 16  # among the flags of /proc/net/unix


@dataclass(frozen=True, slots=True)
class UnixSocket:
    """One socket.

    Attributes:
        inode: Its number, as in /proc/PID/fd.
        type: ``socket.SOCK_SEQPACKET`` and so on.
        listening: Whether it accepts connections.
        name: What it is bound to, without the NUL behind a path; an abstract name begins with NUL. Empty without one.
        file: Inode of its file, None if it has none or that is not known.
        peer: Inode of the socket it is connected to, None if it is not connected or that is not known.
        waiting: Connections that wait to be accepted; 0 when not known.
        uid: User id of its owner, None if not known.
    """

    inode: int
    type: int
    listening: bool
    name: bytes
    file: int | None = None
    peer: int | None = None
    waiting: int = 0
    uid: int | None = None


def unix_sockets() -> list[UnixSocket]:
    """Return all Unix sockets of this network namespace."""
    try:
        return list(from_netlink())
    except OSError:
        return list(from_proc())


def from_netlink() -> Iterator[UnixSocket]:
    """Ask the kernel by netlink. Raises ``OSError`` where it does not answer."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as netlink:
        query = _QUERY.pack(socket.AF_UNIX, 0, 0, 1 << _ESTABLISHED | 1 << _LISTEN | 1 << 7, 0, _SHOW)
        netlink.sendall(_HEADER.pack(_HEADER.size + len(query), _BY_FAMILY, _REQUEST_DUMP, 1, 0) + query)
        while True:
            rest = netlink.recv(1 << 18)
            while rest:
                length, kind, *_ = _HEADER.unpack_from(rest)
                body, rest = rest[_HEADER.size : length], rest[_aligned(length) :]
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    code = -struct.unpack_from("=i", body)[0]
                    raise OSError(code, os.strerror(code))
                yield _parse(body)


def _aligned(length: int) -> int:
    return (length + 3) & ~3


def _parse(body: bytes) -> UnixSocket:
    _, kind, state, inode = _ANSWER.unpack_from(body)
    found: dict[int, bytes] = {}
    at = _ANSWER.size
    while at + _ATTRIBUTE.size <= len(body):
        length, attribute = _ATTRIBUTE.unpack_from(body, at)
        if length < _ATTRIBUTE.size:
            break
        found[attribute] = body[at + _ATTRIBUTE.size : at + length]
        at += _aligned(length)
    name = found.get(_NAME, b"")
    return UnixSocket(
        inode,
        kind,
        state == _LISTEN,
        name if name[:1] == b"\0" else name.rstrip(b"\0"),
        _first(found.get(_VFS)),
        _first(found.get(_PEER)) or None,
        _first(found.get(_RQLEN)) or 0 if state == _LISTEN else 0,
        _first(found.get(_UID)),
    )


def _first(raw: bytes | None) -> int | None:
    """The first number of an attribute."""
    return None if raw is None or len(raw) < 4 else int(struct.unpack_from("=I", raw)[0])


def from_proc() -> Iterator[UnixSocket]:
    """Read /proc/net/unix. A NUL in an abstract name is "@" there, and cannot be told from that letter."""
    try:
        with open("/proc/net/unix", "rb") as lines:
            next(lines)
            for line in lines:
                _, _, _, flags, kind, _, inode, *name = line.rstrip(b"\n").split(maxsplit=7)
                text = name[0] if name else b""
                if text[:1] == b"@":
                    text = b"\0" + text[1:]
                yield UnixSocket(int(inode), int(kind, 16), bool(int(flags, 16) & _ACCEPTS), text)
    except OSError as error:
        raise OSError(error.errno or errno.EIO, "the sockets of this machine cannot be listed") from error
