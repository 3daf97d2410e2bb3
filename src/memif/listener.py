"""The listening side of a control socket: taking a name over from a dead program, never from a living one.

A socket file outlives its program when that is killed, and then keeps the next one from using the name. DPDK
and libmemif 4.0 stop there; older versions of libmemif and VPP remove whatever they find, even the socket of
a running program. Here a file is removed only when the kernel says that nobody listens on it.
"""

import contextlib
import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator

from memif.access import describe_denial
from memif.address import Address
from memif.errors import (
    ErrorCode,
    MemifError,
    MemifFileNotFoundError,
    MemifOSError,
    MemifPermissionError,
    from_os_error,
)
from memif.transport import new_socket

#: How long, in seconds, to wait for other programs that set up a socket in the same directory just now.
_LOCK_TIMEOUT = 1.0
_BIND_ATTEMPTS = 3


class Listener(socket.socket):
    """A listening, non-blocking socket that removes its file when it is closed.

    The file is left alone if someone replaced it meanwhile, and if a forked child closes its copy.
    """

    _path: str | None = None
    _file: tuple[int, int] | None = None
    _pid = 0

    def own_file(self, path: str) -> None:
        """Take responsibility for the socket file at `path` (absolute), as it is now."""
        self._path, self._file, self._pid = path, _file_id(path), os.getpid()

    def close(self) -> None:
        """Remove the socket file if it is still ours, and close the socket. Closing again does nothing."""
        path, self._path = self._path, None
        if path is not None and self._pid == os.getpid() and _file_id(path) == self._file:
            with contextlib.suppress(OSError):
                os.unlink(path)
        super().close()


def listen_socket(
    address: Address,
    *,
    mode: int | None = 0o600,
    owner: tuple[int, int] | None = None,
    backlog: int = 128,
) -> Listener:
    """Return a non-blocking, close-on-exec listener at `address`; close it to remove its file.

    `mode` (default: only the own user; None: whatever the umask leaves) and `owner` (user and group number,
    -1 to keep one) are those of the socket file, and are in force before the first client can connect. A
    client needs write permission. Abstract names have neither. `backlog` is how many clients may wait to be
    accepted.

    The directory has to exist. A file that a dead program left behind is replaced. Raises `MemifOSError` with
    errno EADDRINUSE when someone listens there ("Active listener on"), with `ErrorCode.FILE_NOT_SOCK` when
    something else than a socket is there, `MemifFileNotFoundError` without the directory,
    `MemifPermissionError` when the file can not be made, or can not be given that owner.
    """
    sock = new_socket(Listener)
    try:
        with _directory_lock(address):
            _bind(sock, address)
            if address.kind == "path":
                _set_access(address, mode, owner)
            # Up to here the kernel has refused every client.
            sock.listen(backlog)
    except BaseException as error:
        sock.close()
        if isinstance(error, OSError) and not isinstance(error, MemifError):
            raise from_os_error(error, f"listen on {address}") from error
        raise
    return sock


def close_listener(sock: socket.socket) -> None:
    """Close a listener and remove its file if that is still ours; see `Listener.close`."""
    sock.close()


@contextlib.contextmanager
def _directory_lock(address: Address) -> Iterator[None]:
    """Keep other programs that use this function out of the same directory.

    A socket between ``bind`` and ``listen`` refuses connections like a dead one: without the lock, of two
    programs that start at the same time one could remove the other's new file. The lock is a courtesy, anyone
    who can read the directory can hold it for ever, so after a while we go on without.
    """
    fd = _open_directory(address)
    if fd is None:
        yield
        return
    try:
        deadline = time.monotonic() + _LOCK_TIMEOUT
        while not _try_lock(fd) and time.monotonic() < deadline:
            time.sleep(0.01)
        yield
    finally:
        os.close(fd)


def _open_directory(address: Address) -> int | None:
    if address.kind == "abstract":
        return None
    try:
        return os.open(os.path.dirname(os.path.abspath(address.sockaddr)), os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        # It does not exist, which bind will report, or it can be written but not read.
        return None


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        # A file system without locks.
        pass
    return True


def _bind(sock: Listener, address: Address) -> None:
    # More than one attempt: others may remove the same dead program's file and take its place.
    for _ in range(_BIND_ATTEMPTS):
        try:
            sock.bind(address.sockaddr)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise _explain(error, address) from error
            if address.kind == "abstract":
                raise _active(address) from error
            _remove_dead(address)
        else:
            if address.kind == "path":
                sock.own_file(os.path.abspath(os.fsdecode(address.sockaddr)))
            return
    raise _active(address)


def _remove_dead(address: Address) -> None:
    """Remove the socket file at `address` if nobody listens on it, raise if it has to stay."""
    try:
        found = os.lstat(address.sockaddr)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise MemifOSError(f"{address} was left alone", code=ErrorCode.FILE_NOT_SOCK, errno=errno.EEXIST)
    if _is_alive(address):
        raise _active(address)
    if _file_id(address.sockaddr) == (found.st_dev, found.st_ino):
        _unlink(address)


def _unlink(address: Address) -> None:
    try:
        os.unlink(address.sockaddr)
    except FileNotFoundError:
        pass
    except PermissionError as error:
        raise MemifPermissionError(
            f"{address} is left over from a program that has ended, and can not be removed by this user",
            errno=error.errno,
        ) from error


def _is_alive(address: Address) -> bool:
    """Say whether any program has the socket file open, whatever its socket type."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(address.sockaddr)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except PermissionError as error:
            raise MemifPermissionError(
                f"{address} exists, and whether a program listens there can not be told: "
                f"{describe_denial(address.display)}",
                errno=error.errno,
            ) from error
        except OSError as error:
            # Its queue is full, or it is another type of socket.
            if error.errno not in (errno.EAGAIN, errno.EPROTOTYPE):
                raise
    return True


def _set_access(address: Address, mode: int | None, owner: tuple[int, int] | None) -> None:
    if owner is not None:
        try:
            os.chown(address.sockaddr, *owner, follow_symlinks=False)
        except PermissionError as error:
            raise MemifPermissionError(
                f"{address} can not be given to user {owner[0]}, group {owner[1]}: only root may give files "
                "away, others only to groups of their own",
                errno=error.errno,
            ) from error
    if mode is not None:
        os.chmod(address.sockaddr, mode)


def _file_id(path: str | bytes) -> tuple[int, int] | None:
    try:
        info = os.lstat(path)
    except OSError:
        return None
    return info.st_dev, info.st_ino


def _active(address: Address) -> MemifOSError:
    return MemifOSError(f"Active listener on {address}", code=ErrorCode.ALREADY, errno=errno.EADDRINUSE)


def _explain(error: OSError, address: Address) -> MemifError:
    folder = os.path.dirname(os.path.abspath(address.display))
    if error.errno == errno.ENOENT:
        return MemifFileNotFoundError(f"directory {folder} does not exist; create it first", errno=error.errno)
    if error.errno in (errno.EACCES, errno.EPERM):
        return MemifPermissionError(describe_denial(address.display, create=True), errno=error.errno)
    return from_os_error(error, f"listen on {address}")
