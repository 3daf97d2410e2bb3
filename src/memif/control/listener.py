"""The listening side of a control socket: taking a name over from a dead program, never from a living one.

A socket file outlives its program when that is killed, and then keeps the next one from using the name. DPDK
and libmemif 4.0 stop there; older versions of libmemif and VPP remove whatever they find, even the socket of
a running program. Here a file is removed only when the kernel says that no socket is bound to it.
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

from memif.address import Address
from memif.control.transport import describe_denial, new_socket, through, turn_away
from memif.errors import (
    ErrorCode,
    MemifError,
    MemifFileNotFoundError,
    MemifOSError,
    MemifPermissionError,
    from_os_error,
)
from memif.system import _steady
from memif.system._steady import Descriptor, owned

#: How long, in seconds, to wait for other programs that set up a socket in the same directory just now.
_LOCK_TIMEOUT = 1.0
_NAME_ATTEMPTS = 3


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

    def own_file(self, folder: Descriptor, name: bytes) -> None:
        """Take responsibility for the file `name` in the directory `folder`, which this socket will be bound to."""
        self._folder, self._name = folder, name

    def open_file(self) -> Descriptor:
        """The file that this socket was bound to, opened with O_PATH. OSError if that is gone, or if it is not certain
        that what has its name is it."""
        assert self._folder is not None
        with contextlib.suppress(OSError):  # PermissionError, mostly
            file = _steady.bound_file(self.fileno())
            self._file = _id_of(os.fstat(file))
            return file
        file = _open_as_path(self._folder, self._name)
        found = os.fstat(file)
        own = stat.S_ISSOCK(found.st_mode) and found.st_uid == os.geteuid() and found.st_nlink == 1
        if not (own and _will_listen(file)):
            file.close()
            raise PermissionError(errno.EPERM, "the file of this socket was replaced")
        self._file = _id_of(found)
        return file

    def close(self) -> None:
        """Remove the socket file if it is still ours, hang up on who waits to be accepted, and close the socket.
        Closing again does nothing."""
        folder = self._folder
        if folder is not None:
            if self._pid == os.getpid():
                self._remove_file(folder)
            folder.close()
            self._folder = None
        if self._pid == os.getpid():  # a child's copy is of the same socket
            turn_away(self)
        super().close()

    def _remove_file(self, folder: int) -> None:
        """Who may write in the directory can lose his own file here."""
        with contextlib.suppress(OSError):
            if self._file is None and self.getsockname():  # broken off right after it was bound
                self.open_file().close()
            if self._file is not None and _file_id(self._name, folder) == self._file:
                os.unlink(self._name, dir_fd=folder)


def listen_socket(
    address: Address,
    *,
    mode: int | None = 0o600,
    owner: tuple[int, int] | None = None,
    backlog: int = 128,
) -> Listener:
    """Listen at `address`. A file that a dead program left behind is replaced.

    `mode` and `owner` hold before the first client can connect, the mode from the file's first moment. Abstract names
    have neither.

    Args:
        address: A path, whose directory has to exist (others may write there, too), or an abstract name.
        mode: Of the socket file; clients need write permission. The default admits only the own user; None leaves it to
            the umask.
        owner: User id and group id of the file; -1 keeps one.
        backlog: How many clients may wait to be accepted.

    Returns:
        A non-blocking, close-on-exec socket. Close it to remove its file.

    Raises:
        MemifOSError: Someone listens there (errno EADDRINUSE), or something else than a socket is there
            (`ErrorCode.FILE_NOT_SOCK`).
        MemifFileNotFoundError: There is no such directory.
        MemifPermissionError: The file cannot be made, or cannot be given that owner.
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
    """Bind, look at what that made, give it its owner, and only then let clients in.

    Whoever may write in the directory can put anything in place of our file at any time, so nothing is done to it by
    its name, and what cannot be proven to be ours is not touched.
    """
    folder, name = _open_folder(address)
    sock.own_file(folder, name)
    with _directory_lock(folder):
        _bind(sock, folder, name, address, mode)
        with contextlib.closing(_own_file(sock, folder, name, address)) as file:
            _check_mode(file, address, mode)
            if owner is not None:
                _give(file, address, owner)
        sock.listen(backlog)


def _open_folder(address: Address) -> tuple[Descriptor, bytes]:
    """The directory of a socket file, for use by `dir_fd`, and the name in there."""
    path, name = os.path.split(address.sockaddr)
    if name in (b"", b".", b".."):
        raise MemifOSError(f"{address} is a directory", code=ErrorCode.FILE_NOT_SOCK, errno=errno.EISDIR)
    try:
        return owned(os.open(path or b".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)), name
    except OSError as error:
        raise _explain(error, address) from error


def _bind(sock: Listener, folder: int, name: bytes, address: Address, mode: int | None) -> None:
    path = through(folder, name) if address.is_long else address.sockaddr
    # More than one attempt: others may remove the same dead program's file and take its place.
    for _ in range(_NAME_ATTEMPTS):
        try:
            if mode is None:
                sock.bind(path)
            else:
                _steady.bind(sock.fileno(), path, mode)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise _explain(error, address) from error
            _remove_dead(folder, name, address)
        else:
            return
    raise _active(address)


def _own_file(sock: Listener, folder: int, name: bytes, address: Address) -> Descriptor:
    try:
        file = sock.open_file()
    except OSError as error:
        raise _replaced(address) from error
    if _file_id(name, folder) != _id_of(os.fstat(file)):
        file.close()
        raise _replaced(address)
    return file


def _check_mode(file: int, address: Address, mode: int | None) -> None:
    got = stat.S_IMODE(os.fstat(file).st_mode)
    if mode is not None and got != mode:
        raise MemifPermissionError(
            f"{address} got mode {got:04o} instead of {mode:04o}, which its directory (default ACL) or its file system "
            "does not allow",
            errno=errno.EPERM,
        )


def _give(file: int, address: Address, owner: tuple[int, int]) -> None:
    try:
        os.chown(b"/proc/self/fd/%d" % file, *owner)
    except PermissionError as error:
        raise MemifPermissionError(
            f"{address} cannot be given to user {owner[0]}, group {owner[1]}: only root may give files "
            "away, others only to groups of their own",
            errno=error.errno,
        ) from error


@contextlib.contextmanager
def _directory_lock(folder: int) -> Iterator[None]:
    """Keep other programs that use this function out of the same directory.

    Without it, of two programs that find a dead program's file at the same time, both could give up because of the
    other. The lock is a courtesy, anyone who can read the directory can hold it for ever, so after a while we go on
    without.
    """
    try:
        fd = owned(os.open(b"/proc/self/fd/%d/." % folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
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


def _remove_dead(folder: int, name: bytes, address: Address) -> None:
    """Remove the socket file at `address` if no socket is bound to it any more, raise if it has to stay."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise MemifOSError(
            f"{address} is not a socket, and was left alone", code=ErrorCode.FILE_NOT_SOCK, errno=errno.EEXIST
        )
    if _is_alive(folder, name, address):
        raise _active(address)
    try:
        _remove_that(folder, name, _id_of(found))
    except FileNotFoundError:
        return
    except PermissionError as error:
        raise MemifPermissionError(
            f"{address} is left over from a program that has ended, and cannot be removed by this user",
            errno=error.errno,
        ) from error


def _remove_that(folder: int, name: bytes, file: tuple[int, int]) -> None:
    """Unlink `name` if it is `file`. It gets a name that nobody uses first: by its own it could be replaced between a
    look and the removal."""
    aside = f".memif-{secrets.token_hex(8)}".encode()
    try:
        os.rename(name, aside, src_dir_fd=folder, dst_dir_fd=folder)
    finally:  # also when a signal handler raises
        found = _file_id(aside, folder)
        if found == file:
            os.unlink(aside, dir_fd=folder)
        elif found is not None:
            _put_back(folder, aside, name)


def _put_back(folder: int, aside: bytes, name: bytes) -> None:
    try:
        _steady.rename_new(folder, aside, name)
    except FileExistsError:  # somebody was quicker
        os.unlink(aside, dir_fd=folder)
    except OSError:  # the file system knows only the plain way
        os.rename(aside, name, src_dir_fd=folder, dst_dir_fd=folder)


def _is_alive(folder: int, name: bytes, address: Address) -> bool:
    """Say whether any program has the socket file open, whatever its socket type, and whether or not it listens yet.

    A datagram socket gets another answer from a socket of another type than from none, and does not join its queue.
    """
    try:
        with contextlib.closing(_open_as_path(folder, name)) as file:
            answer = _answer(file, socket.SOCK_DGRAM)
    except FileNotFoundError:
        return False
    if answer in (errno.EACCES, errno.EPERM):
        raise MemifPermissionError(
            f"{address} exists, and whether a program listens there cannot be told: {describe_denial(address.display)}",
            errno=answer,
        )
    if answer not in (0, errno.EPROTOTYPE, errno.ECONNREFUSED):
        raise OSError(answer, os.strerror(answer))
    return answer != errno.ECONNREFUSED


def _will_listen(file: int) -> bool:
    """Whether the socket of that file is such as ours just now: of the right type, bound, and not listening yet.

    Where its mode keeps even its owner from connecting, that cannot be found out.
    """
    return _answer(file, socket.SOCK_DGRAM) in (errno.EPROTOTYPE, errno.EACCES) and (
        _answer(file, socket.SOCK_SEQPACKET) in (errno.ECONNREFUSED, errno.EACCES)
    )


def _answer(file: int, kind: int) -> int:
    """What a socket of type `kind` gets when it connects: 0 or an errno."""
    with socket.socket(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK) as probe:
        return probe.connect_ex(b"/proc/self/fd/%d" % file)


def _open_as_path(folder: int, name: bytes) -> Descriptor:
    return owned(os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder))


def _file_id(name: bytes, folder: int) -> tuple[int, int] | None:
    try:
        return _id_of(os.stat(name, dir_fd=folder, follow_symlinks=False))
    except OSError:
        return None


def _id_of(info: os.stat_result) -> tuple[int, int]:
    return info.st_dev, info.st_ino


def _replaced(address: Address) -> MemifPermissionError:
    return MemifPermissionError(f"another program replaced {address} while it was made", errno=errno.EPERM)


def _active(address: Address) -> MemifOSError:
    text = f"{_listener(address)} has {address} already"
    return MemifOSError(text, code=ErrorCode.ALREADY, errno=errno.EADDRINUSE)


def _listener(address: Address) -> str:
    """Who listens there, as far as this user may know."""
    from memif.discovery import find_sockets  # looks at all processes, for this error only

    with contextlib.suppress(OSError, MemifError):
        for process in (each for found in find_sockets([address], ask="none") for each in found.listeners):
            if process.pid == os.getpid():
                return "this process"
            return f"another program ({process.program}, pid {process.pid})"
    return "another program"


def _explain(error: OSError, address: Address) -> MemifError:
    folder = os.path.dirname(os.path.abspath(address.display))
    if error.errno == errno.ENOENT:
        return MemifFileNotFoundError(f"directory {folder} does not exist; create it first", errno=error.errno)
    if error.errno in (errno.EACCES, errno.EPERM):
        return MemifPermissionError(describe_denial(address.display, create=True), errno=error.errno)
    return from_os_error(error, f"listen on {address}")
