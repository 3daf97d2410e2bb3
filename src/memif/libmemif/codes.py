"""Result codes under their C names, and results that remember what the kernel said."""

from memif.errors import ErrorCode, MemifError, error_text

__all__ = [
    "MEMIF_ERR_ACCES",
    "MEMIF_ERR_ACCSLAVE",
    "MEMIF_ERR_AGAIN",
    "MEMIF_ERR_ALRCONN",
    "MEMIF_ERR_ALREADY",
    "MEMIF_ERR_BAD_FD",
    "MEMIF_ERR_CB_FDUPDATE",
    "MEMIF_ERR_CONN",
    "MEMIF_ERR_CONNREFUSED",
    "MEMIF_ERR_COOKIE",
    "MEMIF_ERR_DISCONNECT",
    "MEMIF_ERR_DISCONNECTED",
    "MEMIF_ERR_FILE_LIMIT",
    "MEMIF_ERR_FILE_NOT_SOCK",
    "MEMIF_ERR_ID",
    "MEMIF_ERR_INT_WRITE",
    "MEMIF_ERR_INVAL_ARG",
    "MEMIF_ERR_MAXREG",
    "MEMIF_ERR_MAXRING",
    "MEMIF_ERR_MAX_RING",
    "MEMIF_ERR_MFMSG",
    "MEMIF_ERR_MODE",
    "MEMIF_ERR_NOBUF",
    "MEMIF_ERR_NOBUF_DET",
    "MEMIF_ERR_NOBUF_RING",
    "MEMIF_ERR_NOCONN",
    "MEMIF_ERR_NOMEM",
    "MEMIF_ERR_NOSECRET",
    "MEMIF_ERR_NO_FILE",
    "MEMIF_ERR_NO_INTFD",
    "MEMIF_ERR_NO_SHMFD",
    "MEMIF_ERR_POLL_CANCEL",
    "MEMIF_ERR_PRIVHDR",
    "MEMIF_ERR_PROC_FILE_LIMIT",
    "MEMIF_ERR_PROTO",
    "MEMIF_ERR_QID",
    "MEMIF_ERR_SECRET",
    "MEMIF_ERR_SUCCESS",
    "MEMIF_ERR_SYSCALL",
    "MEMIF_ERR_UNKNOWN_MSG",
    "memif_err_t",
    "memif_get_version",
    "memif_get_version_str",
    "memif_result_t",
    "memif_strerror",
]


#: The enum of result codes. Numbers are those of 2.0; `MEMIF_ERR_CONNREFUSED`, which 4.0 put in as number 2 and so
#: moved all later ones, has a number of its own at the end. Compare with names.
memif_err_t = ErrorCode

MEMIF_ERR_SUCCESS = ErrorCode.SUCCESS
MEMIF_ERR_SYSCALL = ErrorCode.SYSCALL
MEMIF_ERR_ACCES = ErrorCode.ACCES
MEMIF_ERR_NO_FILE = ErrorCode.NO_FILE
MEMIF_ERR_FILE_LIMIT = ErrorCode.FILE_LIMIT
MEMIF_ERR_PROC_FILE_LIMIT = ErrorCode.PROC_FILE_LIMIT
MEMIF_ERR_ALREADY = ErrorCode.ALREADY
MEMIF_ERR_AGAIN = ErrorCode.AGAIN
MEMIF_ERR_BAD_FD = ErrorCode.BAD_FD
MEMIF_ERR_NOMEM = ErrorCode.NOMEM
MEMIF_ERR_INVAL_ARG = ErrorCode.INVAL_ARG
MEMIF_ERR_NOCONN = ErrorCode.NOCONN
MEMIF_ERR_CONN = ErrorCode.CONN
MEMIF_ERR_CB_FDUPDATE = ErrorCode.CB_FDUPDATE
MEMIF_ERR_FILE_NOT_SOCK = ErrorCode.FILE_NOT_SOCK
MEMIF_ERR_NO_SHMFD = ErrorCode.NO_SHMFD
MEMIF_ERR_COOKIE = ErrorCode.COOKIE
MEMIF_ERR_NOBUF_RING = ErrorCode.NOBUF_RING
MEMIF_ERR_NOBUF = ErrorCode.NOBUF
MEMIF_ERR_NOBUF_DET = ErrorCode.NOBUF_DET
MEMIF_ERR_INT_WRITE = ErrorCode.INT_WRITE
MEMIF_ERR_MFMSG = ErrorCode.MFMSG
MEMIF_ERR_QID = ErrorCode.QID
MEMIF_ERR_PROTO = ErrorCode.PROTO
MEMIF_ERR_ID = ErrorCode.ID
MEMIF_ERR_ACCSLAVE = ErrorCode.ACCSLAVE
MEMIF_ERR_ALRCONN = ErrorCode.ALRCONN
MEMIF_ERR_MODE = ErrorCode.MODE
MEMIF_ERR_SECRET = ErrorCode.SECRET
MEMIF_ERR_NOSECRET = ErrorCode.NOSECRET
MEMIF_ERR_MAXREG = ErrorCode.MAXREG
MEMIF_ERR_MAXRING = ErrorCode.MAXRING
MEMIF_ERR_NO_INTFD = ErrorCode.NO_INTFD
MEMIF_ERR_DISCONNECT = ErrorCode.DISCONNECT
MEMIF_ERR_DISCONNECTED = ErrorCode.DISCONNECTED
MEMIF_ERR_UNKNOWN_MSG = ErrorCode.UNKNOWN_MSG
MEMIF_ERR_POLL_CANCEL = ErrorCode.POLL_CANCEL
MEMIF_ERR_MAX_RING = ErrorCode.MAX_RING
MEMIF_ERR_PRIVHDR = ErrorCode.PRIVHDR
MEMIF_ERR_CONNREFUSED = ErrorCode.CONNREFUSED

VERSION = 0x0200


class memif_result_t(int):
    """A result code that says more: equal to the plain code, with the kernel's number and a text beside it.

    Functions return it for failures that had a cause of their own. The C library loses errno where it translates system
    call errors; here it stays.
    """

    #: errno of the system call that failed, 0 if none did.
    errno: int
    #: What happened this time, "" if the code says it all.
    detail: str

    def __new__(cls, code: int, errno: int = 0, detail: str = "") -> "memif_result_t":
        """Make the result `code`."""
        self = super().__new__(cls, code)
        self.errno = errno
        self.detail = detail
        return self

    @classmethod
    def of(cls, error: MemifError) -> "memif_result_t":
        """The result that stands for an exception of this package."""
        return cls(error.code, getattr(error, "errno", None) or 0, error.detail)

    def __repr__(self) -> str:
        return f"<MEMIF_ERR_{ErrorCode(self).name}: {self.detail}>" if self.detail else repr(ErrorCode(self))

    def __str__(self) -> str:
        return int.__repr__(self)


def memif_strerror(err_code: int) -> str:
    """Return the C library's message for a result code, "undefined error" for a number that has none.

    Any thread may call it, and the text stays as it is (in C it lives in one static buffer). For
    `MEMIF_ERR_SYSCALL` from a function of this module, whose message in C says no more than that something failed,
    what failed is added.
    """
    try:
        code = int(err_code)
    except Exception:  # infinity, an object with a mind of its own
        return error_text(-1)
    detail = getattr(err_code, "detail", "")
    return f"{error_text(code)} {detail}" if detail and code == MEMIF_ERR_SYSCALL else error_text(code)


def memif_get_version() -> int:
    """Return the version of the protocol, major << 8 | minor: 512."""
    return VERSION


def memif_get_version_str() -> str:
    """Return the version of the protocol as text: "2.0"."""
    return f"{VERSION >> 8}.{VERSION & 0xFF}"
