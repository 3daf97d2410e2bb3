"""Exact reads from a file or pipe that may end anywhere, and whose announced lengths may be lies."""

import io
import os
import sys
from typing import BinaryIO, Final

from memif.config import whole
from memif.errors import MemifClosedError, MemifTypeError
from memif.single import Single

from .compressed import Decompressed
from .errors import FILES, CaptureFormatError, os_error, path_of

#: A path, "-" for standard input, an open descriptor (not closed by us), or a binary file object (likewise).
Source = str | os.PathLike[str] | int | BinaryIO

#: Longest block or packet record that is read, bytes; no sane file comes near.
MAX_BLOCK: Final = 16 << 20
_AHEAD: Final = 256 << 10


class EndOfData(Exception):
    """The data ended; `partial` tells whether it did so within the bytes asked for. Never leaves this
    package."""

    def __init__(self, partial: bool) -> None:
        self.partial = partial


class ByteStream(Single):
    """Sequential reads from `source` by exact counts, never waiting for more than was asked.

    `buffer` from `at` on is what was read ahead; loops over many small records take from it directly and move
    `at` themselves.
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
        """What was read is the start of a file that is compressed by `kind`: begin again with what is in it."""
        assert self._file is not None
        self._decompressed = Decompressed(kind, self.buffer, self._file, self.name)
        self.buffer, self.at, self._base = b"", 0, 0

    def read(self, count: int) -> bytes:
        """Return exactly `count` bytes, at most `MAX_BLOCK`; `EndOfData` if there are fewer."""
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
        """Return what can be had without waiting for more than `missing` bytes; b"" at the end."""
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
        """Like `read`, for the remainder of a record whose start was read: its end is always a cut."""
        try:
            return self.read(count)
        except EndOfData:
            raise EndOfData(partial=True) from None

    def close(self) -> None:
        """Close a file that was opened here. Can be repeated."""
        file, self._file, self._decompressed = self._file, None, None
        if self._owned and file is not None:
            file.close()
