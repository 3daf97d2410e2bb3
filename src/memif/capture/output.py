"""Where a capture writer's blocks go: a file, a pipe, or any object with ``write``.

The one promise: a regular file holds whole blocks only, after a full disk, a file size limit or an interrupt
as well, so what was captured until then stays readable. A pipe can not take bytes back; it is given up
instead.
"""

import errno
import os
import select
import stat
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from io import TextIOBase
from typing import BinaryIO, Final

from memif.config import whole
from memif.errors import MemifClosedError, MemifTypeError
from memif.single import Single

from .blocks import whole_blocks
from .errors import FILES, CapturePipeClosedError, os_error, path_of

_LOOK_EVERY: Final = 0.05  # seconds: how often `stop` is asked while a pipe makes us wait
_GRACE: Final = 1.0  # seconds without progress that a pipe's reader is given once it is true

#: A path, "-" for standard output, an open descriptor (not closed by us), or a binary file object (likewise).
Target = str | os.PathLike[str] | int | BinaryIO


class BlockOutput(Single):
    """Writes blocks to `target` without buffering; one system call a `write` where the kernel takes it whole.

    New files are readable by their owner only, because packets are private. Opening a FIFO waits for its
    reader, and writing to a pipe for room in it; `stop`, where given, ends both waits once it is true, with
    `CapturePipeClosedError`: a signal alone can not, as the system calls are begun anew. Not safe for use by several
    threads at once.
    """

    #: Bytes written so far, whole blocks only.
    size: int
    #: True after the reader of the pipe has gone, or after a pipe got only part of a block.
    broken: bool

    def __init__(self, target: Target, stop: Callable[[], object] | None = None) -> None:
        self._stop = stop
        self.size = 0
        self.broken = False
        self.name: str = target if isinstance(target, str) else str(getattr(target, "name", target))
        self._file: BinaryIO | None = None
        self._owned = False
        self._fd = self._open(target)
        # A pipe that is never written to without looking: it has room for PIPE_BUF bytes, or none.
        self._looks = stop is not None and self._fd >= 0 and stat.S_ISFIFO(os.fstat(self._fd).st_mode)

    def _open(self, target: Target) -> int:
        if isinstance(target, int):
            return whole("target", target, 0, 0x7FFFFFFF)
        if target == "-":
            self.name = "standard output"
            return sys.__stdout__.fileno() if sys.__stdout__ else 1
        if isinstance(target, (str, os.PathLike)):
            self.name = path_of("target", target)
            return self._open_path(self.name)
        if isinstance(target, TextIOBase) or not hasattr(target, "write"):
            raise MemifTypeError.argument("target", target, FILES)
        try:
            target.flush()
            return target.fileno()
        except (OSError, AttributeError):  # io.UnsupportedOperation is an OSError
            self._file = target
            return -1

    def _open_path(self, path: str) -> int:
        try:
            if self._stop is not None and _is_fifo(path):
                fd = self._open_fifo(path, self._stop)
            else:
                fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise os_error(error, f"open {path}") from error
        self._owned = True
        return fd

    def _open_fifo(self, path: str, stop: Callable[[], object]) -> int:
        """Wait for the reader."""
        while True:
            try:
                fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                os.set_blocking(fd, True)
                return fd
            except OSError as error:
                if error.errno == errno.ENOENT:
                    raise BrokenPipeError(errno.EPIPE, "it was removed before anybody read it") from error
                if error.errno != errno.ENXIO:
                    raise
            if stop():
                raise BrokenPipeError(errno.EPIPE, "nobody has opened it for reading")
            time.sleep(_LOOK_EVERY)

    def check_reader(self) -> None:
        """Raise `CapturePipeClosedError` when this is a pipe that nobody reads any more: without anything to write
        nothing else would tell."""
        if self._fd >= 0 and any(events & (select.POLLERR | select.POLLNVAL) for _, events in self._poll(0)):
            self.broken = True
        self._check()

    def _check(self) -> None:
        if self.broken:
            raise CapturePipeClosedError(f"write {self.name}: the reader of the pipe has gone")

    def _poll(self, timeout: float) -> list[tuple[int, int]]:
        poller = select.poll()
        poller.register(self._fd, select.POLLOUT)
        return poller.poll(1000 * timeout)

    def write(self, blocks: bytes) -> None:
        """Write whole `blocks`. On failure as many of them as fit stay, and `CaptureOSError` is raised;
        `CapturePipeClosedError` when the pipe's reader has gone."""
        self._check()
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
        if self._looks:
            self._wait_room()
            return os.write(self._fd, view[: select.PIPE_BUF])
        try:
            return os.write(self._fd, view)
        except BlockingIOError:  # a pipe that somebody made non-blocking
            self._wait_room()
            return 0

    def _wait_room(self) -> None:
        """Until the pipe takes something, or has no reader any more, which the next write tells."""
        patience = _GRACE
        while not self._poll(_LOOK_EVERY):
            if self._stop is not None and self._stop():
                patience -= _LOOK_EVERY
                if patience <= 0:
                    raise BrokenPipeError(errno.EPIPE, "its reader has stopped reading")

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


def _is_fifo(path: str) -> bool:
    with suppress(OSError):
        return stat.S_ISFIFO(os.stat(path).st_mode)
    return False
