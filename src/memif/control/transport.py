"""The control socket of one connection: connecting it, and moving messages with their file descriptors.

Nothing here blocks. A memif message is one datagram of a ``SOCK_SEQPACKET`` socket, with at most one
descriptor beside it; what a peer sends in excess of that arrives here too, so that it can be closed.

Descriptors of a peer are closed with care, because closing some kinds hangs (`memif.system._steady`). That is also why
nothing may be left to the kernel to close: neither what does not fit into a buffer, nor what still lies unread in a
socket. Hence room for as many as a message can carry, and `hang_up`.

The functions have no state. One socket must not be read by two threads at once, nor written.
"""

import contextlib
import errno
import grp
import os
import pwd
import socket
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeVar

from memif.address import Address
from memif.errors import (
    ErrorCode,
    MemifConnectionError,
    MemifError,
    MemifFileNotFoundError,
    MemifOSError,
    MemifPermissionError,
    MemifRefusedError,
    MemifValueError,
    from_os_error,
)
from memif.system._steady import Descriptor, accept, close_elsewhere, owned, receive

#: Bytes of each message.
MESSAGE_SIZE: Final = 128

SocketT = TypeVar("SocketT", bound=socket.socket)
_CREDENTIALS = struct.Struct("iII")
_SEND_FLAGS: Final = int(socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)


def new_socket(kind: type[SocketT]) -> SocketT:
    """Return an unconnected, non-blocking, close-on-exec socket of class `kind`; raises a `MemifError`."""
    try:
        return kind(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    except OSError as error:
        raise from_os_error(error, "control socket") from error


def connect_socket(address: Address) -> socket.socket:
    """Connect to the listener at `address`, without waiting.

    Returns:
        A non-blocking, close-on-exec socket.

    Raises:
        MemifFileNotFoundError: There is no such path.
        MemifPermissionError: The text says who owns the socket and who we are.
        MemifRefusedError: Nobody listens there, or not with memif's kind of socket.
        MemifConnectionError: The listener is too busy (`ErrorCode.AGAIN`); another try later may succeed.
        MemifOSError: Anything else, for example a file that is not a socket.
    """
    sock = new_socket(socket.socket)
    try:
        with short_name(address) as name:
            sock.connect(name)
    except OSError as error:
        sock.close()
        raise _explain(error, address) from error
    return sock


@contextlib.contextmanager
def short_name(address: Address) -> Iterator[bytes]:
    """Context: the name of a socket that fits into a socket address. Raises OSError."""
    if not address.is_long:
        yield address.sockaddr
        return
    folder, file = os.path.split(address.sockaddr)
    with contextlib.closing(owned(os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))) as fd:
        yield through(fd, file)


def through(folder: int, file: bytes) -> bytes:
    """Return a name of the file that goes through the open directory, and so is short."""
    return b"/proc/self/fd/%d/%s" % (folder, file)


def recv_message(sock: socket.SocketType) -> tuple[bytes, list[Descriptor], bool]:
    """Receive one datagram.

    Returns:
        Its first 129 bytes, its descriptors, and whether the kernel cut off any of the two. A datagram of another
        length than `MESSAGE_SIZE` is not a memif message; b"" means that the peer is gone. The descriptors are
        close-on-exec, never 0, 1 or 2, and owned: each is closed with the last reference to it, or by its `close`.
        When something was cut off, descriptors may be missing.

    Raises:
        BlockingIOError: Nothing has arrived.
        OSError: The socket cannot be read.
    """
    try:
        data, fds, cut, _ = receive(sock.fileno(), MESSAGE_SIZE + 1)
    except ConnectionResetError:
        # The peer closed without having read all that we sent. This error is reported once and ahead of what
        # the peer sent last, which may be the message that says why it left.
        data, fds, cut, _ = receive(sock.fileno(), MESSAGE_SIZE + 1)
    return data, fds, cut


def hang_up(sock: socket.SocketType) -> None:
    """Close a connection. What the peer has sent and nobody read is taken out first, with its descriptors."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RD)  # from here on nothing more comes in
        # With credentials every message has something to it, so that an empty one does not look like the end.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        while _discard_one(sock):
            pass
    sock.close()


def _discard_one(sock: socket.SocketType) -> bool:
    try:
        _, fds, _, some = receive(sock.fileno(), 0)
    except ConnectionResetError:
        return True  # reported once, ahead of what is there
    for fd in fds:
        fd.close()
    return some


def turn_away(sock: socket.SocketType) -> None:
    """Before a listener is closed: hang up on those who wait to be accepted, and let nobody else come."""
    try:
        sock.shutdown(socket.SHUT_RDWR)
        while True:
            hang_up(accept(sock.fileno()))
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            # They cannot be accepted. Closing the listener closes what they have sent, too.
            close_elsewhere(sock.detach())


def send_message(sock: socket.SocketType, data: bytes, fd: int | None = None) -> None:
    """Send one datagram.

    Args:
        sock: A connected control socket.
        data: The message.
        fd: A descriptor to send with it, above 0: DPDK and libmemif take 0 for "no descriptor". It stays open and the
            caller's.

    Raises:
        BlockingIOError: The peer's queue is full.
        BrokenPipeError: The peer is gone; also `ConnectionResetError`.
        OSError: It failed otherwise.
        MemifValueError: `fd` is not above 0.
    """
    ancillary = []
    if fd is not None:
        if fd <= 0:
            raise MemifValueError.argument("fd", fd, "above 0")
        ancillary.append((socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", fd)))
    sock.sendmsg([data], ancillary, _SEND_FLAGS)


@dataclass(frozen=True, slots=True)
class PeerCredentials:
    """Who is at the other end, as the kernel saw it when the connection was made.

    Attributes:
        pid: Process that called ``connect`` or ``listen``; 0 if our PID namespace does not show it.
        uid: Its effective user.
        gid: Its effective group.
    """

    pid: int
    uid: int
    gid: int


def peer_credentials(sock: socket.SocketType) -> PeerCredentials:
    """Return who is at the other end of a connected socket; raises `MemifOSError` for any other socket."""
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    except OSError as error:
        raise from_os_error(error, "credentials of the peer") from error
    return PeerCredentials(*_CREDENTIALS.unpack(raw))


def _explain(error: OSError, address: Address) -> MemifError:
    """Turn what ``connect`` said into an error that tells the user what to do."""
    number = error.errno
    if number == errno.EAGAIN:
        return MemifConnectionError(f"{address}: too many clients wait to be accepted", code=ErrorCode.AGAIN)
    if number == errno.EPROTOTYPE:
        return MemifRefusedError(f"{address} is no memif socket, it is not of type SOCK_SEQPACKET")
    if number == errno.ECONNREFUSED:
        return _explain_refused(address)
    if number == errno.ENOENT:
        return MemifFileNotFoundError(_missing(address), errno=number)
    if number in (errno.EACCES, errno.EPERM):
        return MemifPermissionError(f"{address}: {describe_denial(address.display)}", errno=number)
    return from_os_error(error, f"connect to {address}")


def _explain_refused(address: Address) -> MemifError:
    if address.kind == "abstract":
        return MemifRefusedError(f"nobody listens on {address} in this network namespace")
    try:
        is_socket = stat.S_ISSOCK(os.stat(address.sockaddr).st_mode)
    except OSError:
        is_socket = True
    if not is_socket:
        return MemifOSError(f"{address} is not a socket", code=ErrorCode.FILE_NOT_SOCK, errno=errno.ENOTSOCK)
    return MemifRefusedError(f"nobody listens on {address}, it is left over from a program that has ended")


def _missing(address: Address) -> str:
    folder = os.path.dirname(os.path.abspath(address.display))
    if not os.path.isdir(folder):
        return f"there is no socket {address}, for there is no directory {folder}"
    return (
        f"there is no socket {address}: start the listening side (master) first; for a DPDK server without "
        f"socket-abstract=no the name is @{address.display}"
    )


def describe_denial(path: str, *, create: bool = False) -> str:
    """Say why this process may not connect to the socket at `path`, or create it, and what would help.

    "Permission denied" on a control socket is the first thing that most users of VPP meet, as its sockets are open to
    root and to one group only, and the kernel does not say which of the directories or modes was in the way. Only for
    error messages: what is seen here may have changed since the failed call.
    """
    folder = os.path.dirname(os.path.abspath(path))
    for parent in _from_root(folder):
        if not os.access(parent, os.X_OK, effective_ids=True):
            return f"directory {_owner(parent)} cannot be entered by {_self()}"
    if create:
        return f"directory {_owner(folder)} cannot be written by {_self()}"
    return f"socket {_owner(path)} cannot be written by {_self()}; {_remedy(path)}"


def _from_root(folder: str) -> list[str]:
    parts = [folder]
    while parts[-1] != os.path.dirname(parts[-1]):
        parts.append(os.path.dirname(parts[-1]))
    return parts[::-1]


def _owner(path: str) -> str:
    try:
        info = os.stat(path)
    except OSError:
        return path
    owner = f"{user_name(info.st_uid)}:{group_name(info.st_gid)}"
    return f"{path} (owner {owner}, mode {info.st_mode & 0o7777:04o})"


def _self() -> str:
    groups = sorted({os.getegid(), *os.getgroups()})
    return f"user {user_name(os.geteuid())} (groups {', '.join(group_name(gid) for gid in groups)})"


def _remedy(path: str) -> str:
    try:
        info = os.stat(path)
    except OSError:
        return "run as root"
    if info.st_mode & stat.S_IWGRP:
        group, user = group_name(info.st_gid), user_name(os.geteuid())
        return f"join its group (usermod -aG {group} {user}, then log in again) or run as root"
    return "run as its owner or as root, or let the listener set another mode or group"


def user_name(uid: int) -> str:
    """Return the name of user `uid`, or its number if it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_name(gid: int) -> str:
    """Return the name of group `gid`, or its number if it has none."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
