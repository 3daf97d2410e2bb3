"""Errors of capture files.

Their text does not begin with a message of the C library, which has none for "the disk is full" or "this is not a
capture file".
"""

import errno as _errno

from memif.errors import MemifOSError, MemifValueError


class CaptureFormatError(MemifValueError):
    """The file is not a capture of a supported format, or it is malformed."""

    def __str__(self) -> str:
        return self.detail


class CaptureTruncatedError(CaptureFormatError, EOFError):
    """The file ends in the middle of a block. The packets before it were delivered. Only strict readers raise it."""


class CaptureOSError(MemifOSError):
    """A system call on a capture file failed. `errno` is the kernel's number."""

    def __str__(self) -> str:
        return self.detail


class CaptureNotFoundError(CaptureOSError, FileNotFoundError):
    """There is no such file."""


class CapturePermissionError(CaptureOSError, PermissionError):
    """The process is not allowed to open or write the file."""


class CapturePipeClosedError(CaptureOSError, BrokenPipeError):
    """The reader of the pipe has gone. For a live capture this is the normal end."""


_KINDS: dict[int, type[CaptureOSError]] = {
    _errno.ENOENT: CaptureNotFoundError,
    _errno.EACCES: CapturePermissionError,
    _errno.EPERM: CapturePermissionError,
    _errno.EPIPE: CapturePipeClosedError,
}


def os_error(error: OSError, what: str) -> CaptureOSError:
    """Return this module's error for `error`. `what` says what was tried."""
    kind = _KINDS.get(error.errno or 0, CaptureOSError)
    return kind(f"{what}: {error.strerror or error}", errno=error.errno)
