"""The files under captures: `BlockOutput` writes whole blocks, `ByteStream` reads exact counts of bytes.

Writing: a regular file has only whole blocks, also after a full disk, a file size limit or an interrupt, so what was
captured until then stays readable. A pipe cannot take bytes back, so after a partial write nothing more is written.

Reading: the data may end anywhere, and lengths in it may be false. Files compressed by gzip, bzip2, xz, or zstd (from
Python 3.14 on) are decompressed while they are read, as far as their writer has flushed them.
"""

import errno
import importlib
import io
import os
import select
import stat
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from io import TextIOBase
from typing import Any, BinaryIO, Final

from memif.config import whole
from memif.errors import MemifClosedError, MemifTypeError, MemifValueError
from memif.system import Single

from .blocks import whole_blocks
from .packet import CaptureFormatError, CapturePipeClosedError, os_error

#: What may be read or written.
FILES: Final = 'a path as str or PathLike, "-", an open descriptor, or a binary file object'

_LOOK_EVERY: Final = 0.05  # seconds: how often `stop` is called while waiting for a pipe
_GRACE: Final = 1.0  # seconds without progress that a pipe's reader has once `stop` returns true

#: A path, "-" for standard output, an open descriptor (not closed by us), or a binary file object (likewise).
Target = str | os.PathLike[str] | int | BinaryIO


class BlockOutput(Single):
    """Writes blocks without buffering: one system call for each `write` where the kernel takes it whole.

    New files are readable by their owner only, because packets are private. Not thread safe.

    Args:
        target: A path, "-" for standard output, an open descriptor, or a binary file object. Only a path is closed at
            the end.
        stop: Opening a FIFO waits for its reader, and writing to a pipe waits for room. Both waits end with
            `CapturePipeClosedError` once `stop` returns true. A signal alone cannot end them, because Python restarts
            the system calls.

    Attributes:
        size: Bytes written so far, whole blocks only.
        broken: True after the reader of the pipe has gone, or after a pipe got only part of a block.
        name: The target for messages.
    """

    size: int
    broken: bool

    def __init__(self, target: Target, stop: Callable[[], object] | None = None) -> None:
        self._stop = stop
        self.size = 0
        self.broken = False
        self.name: str = target if isinstance(target, str) else str(getattr(target, "name", target))
        self._file: BinaryIO | None = None
        self._owned = False
        self._fd = self._open(target)
        # Poll such a pipe before each write: it then has room for PIPE_BUF bytes, or none.
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
                    raise BrokenPipeError(errno.EPIPE, "it was removed before it was read") from error
                if error.errno != errno.ENXIO:
                    raise
            if stop():
                raise BrokenPipeError(errno.EPIPE, "nobody has opened it for reading")
            time.sleep(_LOOK_EVERY)

    def check_reader(self) -> None:
        """Raise `CapturePipeClosedError` when the reader of the pipe has gone. Otherwise only a write would notice."""
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
        """Write whole `blocks`. On failure, those that fit stay in the file.

        Raises:
            CapturePipeClosedError: when the pipe's reader has gone.
            CaptureOSError: when the system cannot write.
            MemifClosedError: when the output is closed.
        """
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
        except BaseException as error:  # an interrupt must leave whole blocks behind too
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
        """Wait until the pipe has room, or no reader any more, which the next write reports."""
        patience = _GRACE
        while not self._poll(_LOOK_EVERY):
            if self._stop is not None and self._stop():
                patience -= _LOOK_EVERY
                if patience <= 0:
                    raise BrokenPipeError(errno.EPIPE, "its reader has stopped reading")

    def _trim(self, blocks: bytes, done: int) -> int:
        """Cut the file back to its last whole block after `done` bytes of `blocks` were written. Returns bytes kept."""
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
        """Have the kernel store what was written (fsync). Does nothing for pipes and objects without a descriptor."""
        if self._fd >= 0:
            with suppress(OSError):  # EINVAL for pipes
                os.fsync(self._fd)

    def close(self) -> None:
        """Close a file that was opened here. Descriptors and objects of the caller stay open. Can be repeated."""
        fd, self._fd, self._file = self._fd, -1, None
        if self._owned and fd >= 0:
            self._owned = False
            os.close(fd)


def _is_fifo(path: str) -> bool:
    with suppress(OSError):
        return stat.S_ISFIFO(os.stat(path).st_mode)
    return False


#: A path, "-" for standard input, an open descriptor (not closed by us), or a binary file object (likewise).
Source = str | os.PathLike[str] | int | BinaryIO

#: Longest block or packet record that is read, in bytes. Real files stay far below.
MAX_BLOCK: Final = 16 << 20
_AHEAD: Final = 256 << 10


class EndOfData(Exception):
    """The data ended. Never leaves this package.

    Attributes:
        partial: Whether it ended within the bytes asked for.
    """

    def __init__(self, partial: bool) -> None:
        self.partial = partial


class ByteStream(Single):
    """Sequential reads of exact counts of bytes. Never waits for more than was asked for.

    Args:
        source: A path, "-" for standard input, an open descriptor, or a binary file object. Only a path is closed at
            the end.

    Attributes:
        buffer: Bytes read ahead, valid from `at` on. Loops over many small records take from it directly and move `at`
            themselves.
        at: Position in `buffer`.
        name: The source for messages.
    """

    buffer: bytes
    at: int

    def __init__(self, source: Source) -> None:
        self.buffer, self.at, self._base = b"", 0, 0
        self._owned = isinstance(source, (str, os.PathLike)) and source != "-"
        self.name: str = source if isinstance(source, str) else str(getattr(source, "name", source))
        self._file: BinaryIO | None = self._open(source)
        self._decompressed: Decompressed | None = None

    @property
    def offset(self) -> int:
        """Bytes taken so far."""
        return self._base + self.at

    def _open(self, source: Source) -> BinaryIO:
        try:
            if source == "-":
                return sys.stdin.buffer
            if isinstance(source, int):
                return open(whole("source", source, 0, 0x7FFFFFFF), "rb", closefd=False)
            if isinstance(source, (str, os.PathLike)):
                self.name = path_of("source", source)
                return open(source, "rb")
        except OSError as error:
            raise os_error(error, f"open {self.name}") from error
        if isinstance(source, io.TextIOBase) or not hasattr(source, "read"):
            raise MemifTypeError.argument("source", source, FILES)
        return source

    def decompress(self, kind: str) -> None:
        """Start again with the content of the file, which is compressed by `kind`."""
        assert self._file is not None
        self._decompressed = Decompressed(kind, self.buffer, self._file, self.name)
        self.buffer, self.at, self._base = b"", 0, 0

    def read(self, count: int) -> bytes:
        """Return exactly `count` bytes, at most `MAX_BLOCK`. Raises `EndOfData` when there are fewer."""
        if len(self.buffer) - self.at < count:
            self._fill(count)
        start, self.at = self.at, self.at + count
        return self.buffer[start : self.at]

    def _fill(self, count: int) -> None:
        """Have at least `count` bytes in the buffer."""
        parts = [self.buffer[self.at :]]
        have = len(parts[0])
        while have < count:
            part = self._some(count - have)
            if not part:
                raise EndOfData(partial=have > 0)
            parts.append(part)
            have += len(part)
        self._base += self.at
        self.buffer, self.at = b"".join(parts), 0

    def _some(self, missing: int) -> bytes:
        """Return what is there, without waiting for more than `missing` bytes; b"" at the end."""
        file = self._file
        if file is None:
            raise MemifClosedError(f"the capture {self.name} is closed")
        try:
            if self._decompressed is not None:
                part = self._decompressed.read1(max(missing, _AHEAD))
            elif isinstance(file, io.RawIOBase):
                part = file.read(max(missing, _AHEAD))
            elif hasattr(file, "read1"):
                part = file.read1(max(missing, _AHEAD))
            else:
                part = file.read(missing)
        except OSError as error:
            raise os_error(error, f"read {self.name}") from error
        except EOFError:
            raise EndOfData(partial=True) from None
        if not isinstance(part, bytes):
            raise CaptureFormatError(f"{self.name} was opened as text; open it in binary mode")
        return part

    def read_rest(self, count: int) -> bytes:
        """Like `read`, for the rest of a record whose start was read: if the data ends here, it is always cut."""
        try:
            return self.read(count)
        except EndOfData:
            raise EndOfData(partial=True) from None

    def close(self) -> None:
        """Close a file that was opened here. Can be repeated."""
        file, self._file, self._decompressed = self._file, None, None
        if self._owned and file is not None:
            file.close()


#: First bytes of a file -> the kind of compression.
_KINDS: Final = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zX": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"\x1f\x9d": "compress",
}
#: Module and class that reads each kind.
_READERS: Final = {
    "gzip": ("gzip", "GzipFile"),
    "bzip2": ("bz2", "BZ2File"),
    "xz": ("lzma", "LZMAFile"),
    "zstd": ("compression.zstd", "ZstdFile"),
}


def compression(magic: bytes) -> str | None:
    """Return the kind of compression of a file that starts with these four bytes, None for no known kind."""
    return next((kind for start, kind in _KINDS.items() if magic.startswith(start)), None)


class Decompressed:
    """The decompressed bytes of `file`, of which `start` was read already: a file object with ``read1``.

    Raises:
        CaptureFormatError: when this Python cannot read the kind.
    """

    def __init__(self, kind: str, start: bytes, file: BinaryIO, name: str) -> None:
        module, reader = _READERS.get(kind, ("", ""))
        try:
            opened: Any = getattr(importlib.import_module(module), reader)
        except (ImportError, ValueError):
            since = " (reads it from 3.14 on)" if kind == "zstd" else ""
            raise CaptureFormatError(
                f"{name}: compressed by {kind}, which this Python cannot read{since}; decompress it first"
            ) from None
        raw = _Raw(start, file)
        self._file = opened(fileobj=raw, mode="rb") if kind == "gzip" else opened(raw)
        self._kind, self._name, self._raw = kind, name, raw

    def read1(self, count: int) -> bytes:
        """Return up to `count` bytes, as many as are there, at least one; b"" at the end.

        Raises:
            CaptureFormatError: when the data is damaged.
            EOFError: when the data is cut.
        """
        try:
            return bytes(self._file.read1(count))
        except (EOFError, MemoryError):
            raise
        except Exception as error:  # each kind raises its own: OSError, zlib.error, LZMAError, ZstdError
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of the file underneath
            raise CaptureFormatError(f"{self._name}: damaged {self._kind} data: {error}") from error


class _Raw:
    """`start`, then what `file` has, without waiting for more than it has."""

    def __init__(self, start: bytes, file: BinaryIO) -> None:
        self._start = start
        self._read: Any = getattr(file, "read1", file.read)

    def read(self, count: int = -1) -> bytes:
        """Return up to `count` bytes, at least one; b"" at the end."""
        if self._start:
            size = len(self._start) if count < 0 else count
            data, self._start = self._start[:size], self._start[size:]
            return data
        return bytes(self._read(count if count >= 0 else 65536))


def path_of(name: str, value: object) -> str:
    """Return a path as text. Raises the error of the argument `name` for anything else."""
    path = os.fspath(value) if isinstance(value, (str, os.PathLike)) else None
    if not isinstance(path, str):
        raise MemifTypeError.argument(name, value, "a path as str or PathLike")
    if not path or "\0" in path:
        raise MemifValueError.argument(name, value, "a path, not empty and without NUL")
    return path
