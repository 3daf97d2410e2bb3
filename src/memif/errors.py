"""Every error that this package raises, and the numbers that the C library gives to them.

All errors derive from `MemifError`, so one ``except`` clause catches everything. Each class also derives from the
built-in exception for such a failure, so ``except TimeoutError`` works too.

The numbers are those of libmemif 2.0, because programs ported from C compare against them. The text of an error says
what happened, in the words of this package. The C library's messages are those of `error_text` and
``memif_strerror``, unchanged.
"""

import enum
import errno as _errno
from typing import Any, ClassVar, Self


class ErrorCode(enum.IntEnum):
    """Result codes of libmemif 2.0, named as in C without the ``MEMIF_ERR_`` prefix.

    0 to 38 are the C library's own. `CONNREFUSED` does not exist in 2.0. In 4.0 it is number 2 and shifts all later
    ones; here it takes the first free number, so that the others stay.
    """

    SUCCESS = 0
    SYSCALL = 1
    ACCES = 2
    NO_FILE = 3
    FILE_LIMIT = 4
    PROC_FILE_LIMIT = 5
    ALREADY = 6
    AGAIN = 7
    BAD_FD = 8
    NOMEM = 9
    INVAL_ARG = 10
    NOCONN = 11
    CONN = 12
    CB_FDUPDATE = 13
    FILE_NOT_SOCK = 14
    NO_SHMFD = 15
    COOKIE = 16
    NOBUF_RING = 17
    NOBUF = 18
    NOBUF_DET = 19
    INT_WRITE = 20
    MFMSG = 21
    QID = 22
    PROTO = 23
    ID = 24
    ACCSLAVE = 25
    ALRCONN = 26
    MODE = 27
    SECRET = 28
    NOSECRET = 29
    MAXREG = 30
    MAXRING = 31
    NO_INTFD = 32
    DISCONNECT = 33
    DISCONNECTED = 34
    UNKNOWN_MSG = 35
    POLL_CANCEL = 36
    MAX_RING = 37
    PRIVHDR = 38
    CONNREFUSED = 39


_TEXTS: dict[int, str] = {
    ErrorCode.SUCCESS: "Success.",
    ErrorCode.SYSCALL: "Unspecified syscall error (build with -DMEMIF_DBG or make debug).",
    ErrorCode.ACCES: "Permission to resoure denied.",
    ErrorCode.NO_FILE: "Socket file does not exist",
    ErrorCode.FILE_LIMIT: "System limit on total numer of open files reached.",
    ErrorCode.PROC_FILE_LIMIT: "Per-process limit on total number of open files reached.",
    ErrorCode.ALREADY: "Connection already requested.",
    ErrorCode.AGAIN: "File descriptor refers to file other than socket, or operation would block.",
    ErrorCode.BAD_FD: "Bad file descriptor.",
    ErrorCode.NOMEM: "Out of memory.",
    ErrorCode.INVAL_ARG: "Invalid argument.",
    ErrorCode.NOCONN: "Memif connection handle does not point to existing conenction",
    ErrorCode.CONN: "Memif connection handle points to existing connection",
    ErrorCode.CB_FDUPDATE: "Callback memif_control_fd_update_t returned error",
    ErrorCode.FILE_NOT_SOCK: "File specified by socket filename exists and is not socket.",
    ErrorCode.NO_SHMFD: "Missing shared memory file descriptor. (internal error)",
    ErrorCode.COOKIE: "Invalid cookie on ring. (internal error)",
    ErrorCode.NOBUF_RING: "Ring buffer full.",
    ErrorCode.NOBUF: "Not enough memif buffers. There are unreceived data in shared memory.",
    ErrorCode.NOBUF_DET: "Not enough space for memif details in suplied buffer. String data might be malformed.",
    ErrorCode.INT_WRITE: "Send interrupt error.",
    ErrorCode.MFMSG: "Malformed message received on control channel.",
    ErrorCode.QID: "Invalid queue id",
    ErrorCode.PROTO: "Incompatible memory interface protocol version.",
    ErrorCode.ID: "Unmatched interface id.",
    ErrorCode.ACCSLAVE: "Slave cannot accept connection reqest.",
    ErrorCode.ALRCONN: "Interface is already connected.",
    ErrorCode.MODE: "Mode mismatch.",
    ErrorCode.SECRET: "Secret mismatch.",
    ErrorCode.NOSECRET: "Secret required.",
    ErrorCode.MAXREG: "Limit on total number of regions reached.",
    ErrorCode.MAXRING: "Limit on total number of ring reached.",
    ErrorCode.NO_INTFD: "Missing interrupt file descriptor. (internal error)",
    ErrorCode.DISCONNECT: "Interface received disconnect request.",
    ErrorCode.DISCONNECTED: "Interface is disconnected.",
    ErrorCode.UNKNOWN_MSG: "Unknown message type received on control channel. (internal error)",
    ErrorCode.POLL_CANCEL: "Memif event polling was canceled.",
    ErrorCode.MAX_RING: "Maximum log2 ring size is 15",
    ErrorCode.PRIVHDR: "Private headers not supported.",
    ErrorCode.CONNREFUSED: "Connection refused",
}

_UNDEFINED = "undefined error"
#: Characters of an argument's value in an error.
_LONGEST_SHOWN = 300
#: What an error says that has nothing to add to its number.
_PLAIN: dict[int, str] = {
    ErrorCode.SUCCESS: "no error",
    ErrorCode.SYSCALL: "a system call failed",
    ErrorCode.ACCES: "permission denied",
    ErrorCode.NO_FILE: "there is no such socket",
    ErrorCode.FILE_LIMIT: "the system has no descriptor left",
    ErrorCode.PROC_FILE_LIMIT: "this process has no descriptor left",
    ErrorCode.ALREADY: "a connection was requested already",
    ErrorCode.AGAIN: "the operation would block",
    ErrorCode.BAD_FD: "the descriptor is not open",
    ErrorCode.NOMEM: "there is not enough memory",
    ErrorCode.INVAL_ARG: "an argument is not allowed",
    ErrorCode.NOCONN: "there is no such interface",
    ErrorCode.CONN: "the interface exists already",
    ErrorCode.CB_FDUPDATE: "the callback for descriptors reported an error",
    ErrorCode.FILE_NOT_SOCK: "the file is not a socket",
    ErrorCode.NO_SHMFD: "a region came without its descriptor",
    ErrorCode.COOKIE: "a ring has the wrong cookie",
    ErrorCode.NOBUF_RING: "the ring is full",
    ErrorCode.NOBUF: "more packets wait than there are buffers for",
    ErrorCode.NOBUF_DET: "the buffer is too small for the details",
    ErrorCode.INT_WRITE: "the peer could not be woken",
    ErrorCode.MFMSG: "a control message is malformed",
    ErrorCode.QID: "there is no queue with this number",
    ErrorCode.PROTO: "the peer speaks another version of memif",
    ErrorCode.ID: "there is no interface with this id",
    ErrorCode.ACCSLAVE: "a slave does not accept connections",
    ErrorCode.ALRCONN: "the interface is connected already",
    ErrorCode.MODE: "the two ends have different modes",
    ErrorCode.SECRET: "the secret is wrong",
    ErrorCode.NOSECRET: "a secret is required",
    ErrorCode.MAXREG: "there are too many regions",
    ErrorCode.MAXRING: "there are too many rings",
    ErrorCode.NO_INTFD: "a ring came without its descriptor",
    ErrorCode.DISCONNECT: "the peer disconnected",
    ErrorCode.DISCONNECTED: "the link is down",
    ErrorCode.UNKNOWN_MSG: "a control message is of unknown type",
    ErrorCode.POLL_CANCEL: "another thread ended the wait",
    ErrorCode.MAX_RING: "a ring has at most 16384 slots (log2 14)",
    ErrorCode.PRIVHDR: "private headers are not supported",
    ErrorCode.CONNREFUSED: "the connection was refused",
}


def error_text(code: int) -> str:
    """Return the C library's message for a number.

    Args:
        code: Any number.

    Returns:
        The message, unchanged; "undefined error" if the C library has none.
    """
    return _TEXTS.get(code, _UNDEFINED)


class MemifError(Exception):
    """Base of all errors of this package.

    ``str()`` is the detail; without one, what the code means. Errors can be pickled.

    Args:
        detail: What happened; may be empty.
        code: Replaces the usual code of the class.
    """

    default_code: ClassVar[ErrorCode] = ErrorCode.SYSCALL

    #: Number of the error in libmemif.
    code: ErrorCode
    #: What happened; may be empty.
    detail: str

    def __init__(self, detail: str = "", *, code: ErrorCode | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = self.default_code if code is None else code

    def __str__(self) -> str:
        return self.detail or _PLAIN.get(self.code, _UNDEFINED)

    def __reduce__(self) -> tuple[Any, ...]:
        # OSError keeps errno and strerror outside of __dict__ and would drop them.
        state = dict(self.__dict__)
        if isinstance(self, OSError):
            state["errno"], state["strerror"] = self.errno, self.strerror
        return type(self), (self.detail,), state


def _shown(value: object) -> str:
    """`value` as an error shows it: a few lines at most, even if its ``repr`` is long or raises."""
    try:
        text = repr(value)
    except Exception:  # of a user's class; of int for thousands of digits
        text = f"<{type(value).__name__}>"
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "..."


class MemifValueError(MemifError, ValueError):
    """An argument has a value that is not allowed; nothing was changed."""

    default_code = ErrorCode.INVAL_ARG

    @classmethod
    def argument(cls, name: str, value: object, allowed: str, *, code: ErrorCode | None = None) -> Self:
        """Make the error for an argument.

        Args:
            name: The argument.
            value: What was passed.
            allowed: What would be accepted, in words.
            code: Replaces the usual code.

        Returns:
            The error, to be raised.
        """
        return cls(f"argument {name}: got {_shown(value)}, allowed: {allowed}", code=code)


class MemifTypeError(MemifValueError, TypeError):
    """An argument has a type that is not allowed; nothing was changed."""


class MemifQueueError(MemifError, IndexError):
    """There is no queue with this number."""

    default_code = ErrorCode.QID


class MemifStateError(MemifError, RuntimeError):
    """The object cannot do this now, such as a burst after its release, or a queue in a second thread."""

    default_code = ErrorCode.INVAL_ARG


class MemifClosedError(MemifStateError):
    """The object was closed and stays closed."""

    default_code = ErrorCode.NOCONN


class MemifBufferError(MemifError, BufferError):
    """The ring is full (`ErrorCode.NOBUF_RING`), or more packets wait than fit (`ErrorCode.NOBUF`)."""

    default_code = ErrorCode.NOBUF_RING


class MemifCancelledError(MemifError):
    """Another thread ended the wait."""

    default_code = ErrorCode.POLL_CANCEL


class MemifMemoryError(MemifError, MemoryError):
    """Memory for rings or buffers could not be allocated."""

    default_code = ErrorCode.NOMEM


class MemifOSError(MemifError, OSError):
    """A system call failed.

    Args:
        detail: What happened.
        code: Replaces the usual code of the class.
        errno: The kernel's number, None if there is none.
    """

    def __init__(self, detail: str = "", *, code: ErrorCode | None = None, errno: int | None = None) -> None:
        super().__init__(detail, code=code)
        self.errno = errno


class MemifPermissionError(MemifOSError, PermissionError):
    """The process may not open the socket or the memory."""

    default_code = ErrorCode.ACCES


class MemifFileNotFoundError(MemifOSError, FileNotFoundError):
    """There is no socket with this name."""

    default_code = ErrorCode.NO_FILE


class MemifTimeoutError(MemifError, TimeoutError):
    """An operation timed out; most often the link did not come up."""

    # The C library's nearest number is AGAIN, but its message is about files and sockets.
    default_code = ErrorCode.DISCONNECTED


class MemifConnectionError(MemifError, ConnectionError):
    """The link to the peer could not be established or is lost."""

    default_code = ErrorCode.DISCONNECTED


class MemifDisconnectedError(MemifConnectionError):
    """The interface is down; its queues can be used again after the next connect."""


class MemifRefusedError(MemifConnectionError, ConnectionRefusedError):
    """Nobody listens, or the peer refused the connection.

    Args:
        detail: What happened; `reason` if empty.
        code: Replaces the usual code of the class.
        reason: The peer's text, "" if it sent none.
    """

    default_code = ErrorCode.CONNREFUSED

    #: Text of the peer's DISCONNECT message.
    reason: str

    def __init__(self, detail: str = "", *, code: ErrorCode | None = None, reason: str = "") -> None:
        super().__init__(detail or reason, code=code)
        self.reason = reason


class MemifPeerError(MemifConnectionError):
    """The peer violated the protocol, in its messages or in the shared memory; the link is closed."""

    default_code = ErrorCode.MFMSG


class MemifProtocolError(MemifPeerError):
    """A control message is malformed, of unknown type, or arrived at the wrong time."""


_BY_ERRNO: dict[int, tuple[type[MemifOSError], ErrorCode]] = {
    _errno.EACCES: (MemifPermissionError, ErrorCode.ACCES),
    _errno.EPERM: (MemifPermissionError, ErrorCode.ACCES),
    _errno.ENOENT: (MemifFileNotFoundError, ErrorCode.NO_FILE),
    _errno.ENFILE: (MemifOSError, ErrorCode.FILE_LIMIT),
    _errno.EMFILE: (MemifOSError, ErrorCode.PROC_FILE_LIMIT),
    _errno.EALREADY: (MemifOSError, ErrorCode.ALREADY),
    _errno.EAGAIN: (MemifOSError, ErrorCode.AGAIN),
    _errno.EBADF: (MemifOSError, ErrorCode.BAD_FD),
    _errno.ENOTSOCK: (MemifOSError, ErrorCode.FILE_NOT_SOCK),
}


def from_os_error(error: OSError, what: str = "") -> MemifError:
    """Translate the error of a system call.

    Args:
        error: The error; a `MemifError` is returned unchanged.
        what: What was attempted, such as "connect to /run/vpp/memif.sock".

    Returns:
        The error of this package with the same meaning. A `MemifOSError` keeps the kernel's number.
    """
    if isinstance(error, MemifError):
        return error
    detail = ": ".join(part for part in (what, error.strerror or str(error)) if part)
    if error.errno == _errno.ECONNREFUSED:
        return MemifRefusedError(detail)
    if error.errno == _errno.ENOMEM:
        return MemifMemoryError(detail)
    kind, code = _BY_ERRNO.get(error.errno or 0, (MemifOSError, ErrorCode.SYSCALL))
    return kind(detail, code=code, errno=error.errno)
