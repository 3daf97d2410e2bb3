"""Compressed captures, read as a stream: gzip, bzip2, xz, and zstd where Python has it (3.14).

What a pipe has brought is decompressed at once, as far as its writer has flushed it.
"""

import importlib
from typing import Any, BinaryIO, Final

from .errors import CaptureFormatError

#: First bytes of a file -> the kind of compression.
_KINDS: Final = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zX": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"\x1f\x9d": "compress",
}
#: Module and class of what reads it.
_READERS: Final = {
    "gzip": ("gzip", "GzipFile"),
    "bzip2": ("bz2", "BZ2File"),
    "xz": ("lzma", "LZMAFile"),
    "zstd": ("compression.zstd", "ZstdFile"),
}


def compression(magic: bytes) -> str | None:
    """The kind of compression of a file that starts with these four bytes, None for none that is known."""
    return next((kind for start, kind in _KINDS.items() if magic.startswith(start)), None)


class Decompressed:
    """The decompressed bytes of `file`, of which `start` was read already: a file object with `read1`.

    `CaptureFormatError` when this Python can not read the kind, and for damaged data; EOFError for data that is cut.
    """

    def __init__(self, kind: str, start: bytes, file: BinaryIO, name: str) -> None:
        module, reader = _READERS.get(kind, ("", ""))
        try:
            opened: Any = getattr(importlib.import_module(module), reader)
        except (ImportError, ValueError):
            since = " (reads it from 3.14 on)" if kind == "zstd" else ""
            raise CaptureFormatError(
                f"{name}: compressed by {kind}, which this Python can not read{since}; decompress it first"
            ) from None
        raw = _Raw(start, file)
        self._file = opened(fileobj=raw, mode="rb") if kind == "gzip" else opened(raw)
        self._kind, self._name, self._raw = kind, name, raw

    def read1(self, count: int) -> bytes:
        """Up to `count` bytes, as many as are there, at least one; b"" at the end."""
        try:
            return bytes(self._file.read1(count))
        except (EOFError, MemoryError):
            raise
        except Exception as error:  # each kind has its own: OSError, zlib.error, LZMAError, ZstdError
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of the file underneath
            raise CaptureFormatError(f"{self._name}: damaged {self._kind} data: {error}") from error


class _Raw:
    """`start`, then what `file` has, without waiting for more than it has."""

    def __init__(self, start: bytes, file: BinaryIO) -> None:
        self._start = start
        self._read: Any = getattr(file, "read1", file.read)

    def read(self, count: int = -1) -> bytes:
        """Up to `count` bytes, at least one; b"" at the end."""
        if self._start:
            size = len(self._start) if count < 0 else count
            data, self._start = self._start[:size], self._start[size:]
            return data
        return bytes(self._read(count if count >= 0 else 65536))
