"""The listening side of a control socket: taking a name over from a dead program, never from a living one.

A socket file outlives its program when that is killed, and then keeps the next one from using the name. DPDK
and libmemif 4.0 stop there; older versions of libmemif and VPP remove whatever they find, even the socket of
a running program. Here a file is removed only when the kernel says that nobody listens on it.
"""

import contextlib
import errno
import fcntl
import os
import secrets
import socket
import stat
import time
from collections.abc import Iterator
from typing import Any

from memif._steady import Descriptor, owned
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
from memif.transport import new_socket, turn_away

#: How long, in seconds, to wait for other programs that set up a socket in the same directory just now.
_LOCK_TIMEOUT = 1.0
_NAME_ATTEMPTS = 3
# Names in the private directory: the new socket, and a dead program's.
_SOCKET, _OLD = b"s", b"old"


class Listener(socket.socket):
    """A listening, non-blocking socket that removes its file when it is closed.

    The file is left alone if someone replaced it meanwhile, and if a forked child closes its copy.
    """

    _folder: Descriptor | None = None
    _name = b""
    _file: tuple[int, int] | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        """As `socket.socket`."""
        super().__init__(*args, **options)
        self._pid = os.getpid()

    def own_file(self, folder: Descriptor, name: bytes, file: tuple[int, int]) -> None:
        """Take responsibility for the socket file `name` in the directory `folder`, if it is `file` (device, inode)."""
        self._name, self._file, self._folder = name, file, folder

    def close(self) -> None:
        """Remove the socket file if it is still ours, hang up on who waits to be accepted, and close the socket.
        Closing again does nothing."""
        folder = self._folder
        if folder is not None:
            if self._pid == os.getpid():
                _remove(folder, self._name, self._file)
            folder.close()
            self._folder = None
        if self._pid == os.getpid():  # a child's copy is of the same socket
            turn_away(self)
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
    -1 to keep one) are those of the socket file from the moment when it has its name. A client needs write
    permission. Abstract names have neither. `backlog` is how many clients may wait to be accepted.

    The directory has to exist; others may write there, too. A file that a dead program left behind is replaced.
    Raises `MemifOSError` with errno EADDRINUSE when someone listens there ("Active listener on"), with
    `ErrorCode.FILE_NOT_SOCK` when something else than a socket is there, `MemifFileNotFoundError` without the
    directory, `MemifPermissionError` when the file can not be made, or can not be given that owner.
    """
    sock = new_socket(Listener)
    try:
        if address.kind == "abstract":
            _bind_abstract(sock, address)
            sock.listen(backlog)
        else:
            _listen_at_path(sock, address, mode, owner, backlog)
    except BaseException as error:
        sock.close()
        if isinstance(error, OSError) and not isinstance(error, MemifError):
            raise from_os_error(error, f"listen on {address}") from error
        raise
    return sock


def close_listener(sock: socket.socket) -> None:
    """Close a listener and remove its file if that is still ours; see `Listener.close`."""
    sock.close()


def _bind_abstract(sock: Listener, address: Address) -> None:
    try:
        sock.bind(address.sockaddr)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise _active(address) from error
        raise _explain(error, address) from error


def _listen_at_path(
    sock: Listener, address: Address, mode: int | None, owner: tuple[int, int] | None, backlog: int
) -> None:
    """Make the socket in a private directory, where it gets its mode and owner, then give it its name.

    Whoever may write in the directory can put anything in place of our file at any time, and so turn what is done to it
    by name to a file of his choice. In a directory that only this user can enter nobody can. All is done relative to
    descriptors of the two, so that neither can be replaced on the way.
    """
    folder, name = _open_folder(address)
    with _directory_lock(folder), _private_directory(folder, address) as private:
        sock.bind(_through(private, _SOCKET))
        _set_access(private, address, mode, owner)
        sock.listen(backlog)  # before it has its name: nobody can take it for dead
        file = _file_id(_SOCKET, private)
        assert file is not None
        sock.own_file(folder, name, file)
        _give_name(private, folder, name, address)


def _open_folder(address: Address) -> tuple[Descriptor, bytes]:
    """The directory of a socket file, for use by `dir_fd`, and the name in there."""
    path, name = os.path.split(address.sockaddr)
    if name in (b"", b".", b".."):
        raise MemifOSError(f"{address} is a directory", code=ErrorCode.FILE_NOT_SOCK, errno=errno.EISDIR)
    try:
        return owned(os.open(path or b".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)), name
    except OSError as error:
        raise _explain(error, address) from error


@contextlib.contextmanager
def _private_directory(folder: int, address: Address) -> Iterator[Descriptor]:
    """A new directory in `folder` that only this user can enter; it is removed with all that is left in it."""
    name = f".memif-{secrets.token_hex(8)}".encode()
    try:
        os.mkdir(name, 0o700, dir_fd=folder)
    except OSError as error:
        raise _explain(error, address) from error
    try:
        with contextlib.closing(_open_private(folder, name)) as private:
            try:
                yield private
            finally:
                for left in (_SOCKET, _OLD):
                    with contextlib.suppress(OSError):
                        os.unlink(left, dir_fd=private)
    finally:
        with contextlib.suppress(OSError):
            os.rmdir(name, dir_fd=folder)


def _open_private(folder: int, name: bytes) -> Descriptor:
    private = owned(os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder))
    found = os.fstat(private)
    if found.st_uid != os.geteuid() or found.st_mode & 0o077:
        private.close()
        raise MemifPermissionError("another user replaced a directory of this program", errno=errno.EPERM)
    return private


def _through(folder: int, name: bytes) -> bytes:
    """A path to `name` by the descriptor of its directory, for calls that take no descriptor."""
    return b"/proc/self/fd/%d/%b" % (folder, name)


def _give_name(private: int, folder: int, name: bytes, address: Address) -> None:
    # More than one attempt: others may remove the same dead program's file and take its place.
    for _ in range(_NAME_ATTEMPTS):
        try:
            os.link(_SOCKET, name, src_dir_fd=private, dst_dir_fd=folder)
        except FileExistsError:
            _remove_dead(private, folder, name, address)
        except OSError as error:
            raise _explain(error, address) from error
        else:
            return
    raise _active(address)


@contextlib.contextmanager
def _directory_lock(folder: int) -> Iterator[None]:
    """Keep other programs that use this function out of the same directory.

    Without it, of two programs that find a dead program's file at the same time, both could give up because of the
    other. The lock is a courtesy, anyone who can read the directory can hold it for ever, so after a while we go on
    without.
    """
    try:
        fd = owned(os.open(_through(folder, b"."), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    except OSError:
        yield  # it can be written but not read
        return
    with contextlib.closing(fd):
        deadline = time.monotonic() + _LOCK_TIMEOUT
        while not _try_lock(fd) and time.monotonic() < deadline:
            time.sleep(0.01)
        yield


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        # A file system without locks.
        pass
    return True


def _remove_dead(private: int, folder: int, name: bytes, address: Address) -> None:
    """Remove the socket file at `address` if nobody listens on it, raise if it has to stay."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise MemifOSError(f"{address} was left alone", code=ErrorCode.FILE_NOT_SOCK, errno=errno.EEXIST)
    if _is_alive(folder, name, address):
        raise _active(address)
    try:
        # Out of everybody's reach first: by its name it could be replaced between a look and the removal.
        os.rename(name, _OLD, src_dir_fd=folder, dst_dir_fd=private)
    except FileNotFoundError:
        return
    except PermissionError as error:
        raise MemifPermissionError(
            f"{address} is left over from a program that has ended, and can not be removed by this user",
            errno=error.errno,
        ) from error
    if _file_id(_OLD, private) != (found.st_dev, found.st_ino):
        with contextlib.suppress(FileExistsError):
            os.link(_OLD, name, src_dir_fd=private, dst_dir_fd=folder, follow_symlinks=False)
    os.unlink(_OLD, dir_fd=private)


def _is_alive(folder: int, name: bytes, address: Address) -> bool:
    """Say whether any program has the socket file open, whatever its socket type."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK) as probe:
        try:
            file = owned(os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder))
            with contextlib.closing(file):
                probe.connect(b"/proc/self/fd/%d" % file)
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


def _set_access(private: int, address: Address, mode: int | None, owner: tuple[int, int] | None) -> None:
    if owner is not None:
        try:
            os.chown(_SOCKET, *owner, dir_fd=private, follow_symlinks=False)
        except PermissionError as error:
            raise MemifPermissionError(
                f"{address} can not be given to user {owner[0]}, group {owner[1]}: only root may give files "
                "away, others only to groups of their own",
                errno=error.errno,
            ) from error
    if mode is not None:
        os.chmod(_SOCKET, mode, dir_fd=private)


def _remove(folder: int, name: bytes, file: tuple[int, int] | None) -> None:
    """Unlink a socket file if it is still that one. Who may write in the directory can lose his own file there."""
    if _file_id(name, folder) == file:
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=folder)


def _file_id(name: bytes, folder: int) -> tuple[int, int] | None:
    try:
        info = os.stat(name, dir_fd=folder, follow_symlinks=False)
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
