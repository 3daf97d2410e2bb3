"""Errors of capture files. Their text is one line of its own, without the C library's sentence before it:
the C library has no word for "the disk is full" or "this is not a capture file"."""

import errno as _errno

from memif.errors import MemifOSError, MemifValueError


class CaptureFormatError(MemifValueError):
    """The bytes are not a capture file of a kind that is read here, or the file contradicts itself."""

    def __str__(self) -> str:
        return self.detail


class CaptureTruncatedError(CaptureFormatError, EOFError):
    """The file ends in the middle of a block; the packets before it were delivered. Raised by strict readers
    only."""


class CaptureOSError(MemifOSError):
    """A system call on a capture file failed; `errno` is the kernel's number."""

    def __str__(self) -> str:
        return self.detail


class CaptureNotFoundError(CaptureOSError, FileNotFoundError):
    """There is no such file."""


class CapturePermissionError(CaptureOSError, PermissionError):
    """The process may not open or write the file."""


class CapturePipeClosedError(CaptureOSError, BrokenPipeError):
    """Whoever read the other end of the pipe has gone: the clean end of a live capture, not a fault."""


_KINDS: dict[int, type[CaptureOSError]] = {
    _errno.ENOENT: CaptureNotFoundError,
    _errno.EACCES: CapturePermissionError,
    _errno.EPERM: CapturePermissionError,
    _errno.EPIPE: CapturePipeClosedError,
}


def os_error(error: OSError, what: str) -> CaptureOSError:
    """Return this module's error for `error`, for ``raise … from``; `what` says what was tried."""
    kind = _KINDS.get(error.errno or 0, CaptureOSError)
    return kind(f"{what}: {error.strerror or error}", errno=error.errno)
