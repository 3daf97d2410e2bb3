"""Exact reads from a file or pipe that may end anywhere, and whose announced lengths may be lies."""

import os
import sys
from typing import BinaryIO

from memif.errors import MemifClosedError

from .errors import CaptureFormatError, os_error

#: A path, "-" for standard input, an open descriptor (not closed by us), or a binary file object (likewise).
Source = str | os.PathLike[str] | int | BinaryIO

#: Longest block or packet record that is read, bytes; no sane file comes near.
MAX_BLOCK = 16 << 20


class EndOfData(Exception):
    """The data ended; `partial` tells whether it did so within the bytes asked for. Never leaves this
    package."""

    def __init__(self, partial: bool) -> None:
        self.partial = partial


class ByteStream:
    """Sequential reads from `source` by exact counts."""

    #: Bytes read so far.
    offset: int

    def __init__(self, source: Source) -> None:
        self.offset = 0
        self._owned = isinstance(source, (str, os.PathLike)) and source != "-"
        self.name = source if isinstance(source, str) else str(getattr(source, "name", source))
        self._file: BinaryIO | None = self._open(source)

    def _open(self, source: Source) -> BinaryIO:
        try:
            if source == "-":
                return sys.stdin.buffer
            if isinstance(source, int):
                return open(source, "rb", closefd=False)
            if isinstance(source, (str, os.PathLike)):
                self.name = os.fspath(source)
                return open(source, "rb")
        except OSError as error:
            raise os_error(error, f"open {self.name}") from error
        return source

    def read(self, count: int) -> bytes:
        """Return exactly `count` bytes, at most `MAX_BLOCK`; `EndOfData` if there are fewer."""
        if self._file is None:
            raise MemifClosedError(f"the capture {self.name} is closed")
        parts: list[bytes] = []
        missing = count
        while missing:
            try:
                part = self._file.read(missing)
            except OSError as error:
                raise os_error(error, f"read {self.name}") from error
            if not part:
                raise EndOfData(partial=missing < count)
            if not isinstance(part, bytes):
                raise CaptureFormatError(f"{self.name} was opened as text; open it in binary mode")
            parts.append(part)
            missing -= len(part)
        self.offset += count
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read_rest(self, count: int) -> bytes:
        """Like `read`, for the remainder of a record whose start was read: its end is always a cut."""
        try:
            return self.read(count)
        except EndOfData:
            raise EndOfData(partial=True) from None

    def close(self) -> None:
        """Close a file that was opened here. Can be repeated."""
        file, self._file = self._file, None
        if self._owned and file is not None:
            file.close()
