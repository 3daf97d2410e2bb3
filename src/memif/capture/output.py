"""Where a capture writer's blocks go: a file, a pipe, or any object with ``write``.

The one promise: a regular file holds whole blocks only, after a full disk, a file size limit or an interrupt
as well, so what was captured until then stays readable. A pipe can not take bytes back; it is given up
instead.
"""

import os
import select
import stat
import sys
from contextlib import suppress
from typing import BinaryIO

from memif.errors import MemifClosedError

from .blocks import whole_blocks
from .errors import CapturePipeClosedError, os_error

#: A path, "-" for standard output, an open descriptor (not closed by us), or a binary file object (likewise).
Target = str | os.PathLike[str] | int | BinaryIO


class BlockOutput:
    """Writes blocks to `target` without buffering; one system call a `write` where the kernel takes it whole.

    New files are readable by their owner only, because packets are private. Opening a FIFO waits for its
    reader. Not safe for use by several threads at once.
    """

    #: Bytes written so far, whole blocks only.
    size: int
    #: True after the reader of the pipe has gone, or after a pipe got only part of a block.
    broken: bool

    def __init__(self, target: Target) -> None:
        self.size = 0
        self.broken = False
        self.name = target if isinstance(target, str) else str(getattr(target, "name", target))
        self._file: BinaryIO | None = None
        self._owned = False
        self._fd = self._open(target)

    def _open(self, target: Target) -> int:
        if isinstance(target, int):
            return target
        if target == "-":
            self.name = "standard output"
            return sys.__stdout__.fileno() if sys.__stdout__ else 1
        if isinstance(target, (str, os.PathLike)):
            self.name = os.fspath(target)
            return self._open_path(self.name)
        try:
            target.flush()
            return target.fileno()
        except (OSError, AttributeError):  # io.UnsupportedOperation is an OSError
            self._file = target
            return -1

    def _open_path(self, path: str) -> int:
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise os_error(error, f"open {path}") from error
        self._owned = True
        return fd

    def write(self, blocks: bytes) -> None:
        """Write whole `blocks`. On failure as many of them as fit stay, and `CaptureOSError` is raised;
        `CapturePipeClosedError` when the pipe's reader has gone."""
        if self.broken:
            raise CapturePipeClosedError(f"write {self.name}: the reader of the pipe has gone")
        if self._file is not None:
            self._file.write(blocks)
            self.size += len(blocks)
            return
        if self._fd < 0:
            raise MemifClosedError(f"the capture {self.name} is closed")
        view, done = memoryview(blocks), 0
        try:
            while done < len(blocks):
                done += self._write_some(view[done:])
        except BaseException as error:  # an interrupt, too, must leave whole blocks behind
            self.size += self._trim(blocks, done)
            if not isinstance(error, OSError):
                raise
            kept = "" if self.broken else f" ({self.size} bytes kept, whole packets)"
            raise os_error(error, f"write {self.name}{kept}") from error
        self.size += len(blocks)

    def _write_some(self, view: memoryview) -> int:
        try:
            return os.write(self._fd, view)
        except BlockingIOError:  # a pipe that somebody made non-blocking
            waiter = select.poll()
            waiter.register(self._fd, select.POLLOUT)
            waiter.poll(1000)
            return 0

    def _trim(self, blocks: bytes, done: int) -> int:
        """Cut the file back to its last whole block after `done` bytes of `blocks` were written; -> bytes
        kept."""
        kept = whole_blocks(blocks, done)
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):
            self.broken = True
            return kept
        end = os.lseek(self._fd, 0, os.SEEK_CUR) - (done - kept)
        with suppress(OSError):
            os.ftruncate(self._fd, end)
            os.lseek(self._fd, end, os.SEEK_SET)
        return kept

    def sync(self) -> None:
        """Have the kernel store what was written; pipes and objects without a descriptor have nothing to
        store."""
        if self._fd >= 0:
            with suppress(OSError):  # EINVAL for pipes
                os.fsync(self._fd)

    def close(self) -> None:
        """Close a file that was opened here; descriptors and objects of the caller stay open. Can be
        repeated."""
        fd, self._fd, self._file = self._fd, -1, None
        if self._owned and fd >= 0:
            self._owned = False
            os.close(fd)
