"""Ring-buffer captures: a new file by size or age, and only the newest files kept, as dumpcap's option -b
does."""

import os
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from memif.config import seconds, whole
from memif.errors import MemifTypeError, MemifValueError

from .blocks import STATISTICS_SIZE, first_block_length, whole_blocks
from .errors import path_of
from .output import BlockOutput, Target
from .packet import MAX_SNAPLEN
from .pcapng import PcapngWriter


class RotatingWriter(PcapngWriter):
    """A `PcapngWriter` that starts a new file when the current one is full or old.

    `path` ``dir/name.pcapng`` gives ``dir/name_00001_20260131120000.pcapng`` and so on (local time).
    `max_bytes`: no file grows beyond this, unless its headers and a single packet do. `max_seconds`: time
    since its first packet after which the next one starts a new file. `files`: how many are kept, 0 for all;
    older ones of this capture are deleted. Each file is complete in itself: it declares all interfaces and
    ends with the counters so far. `paths` are the files kept, oldest first. Other arguments: see
    `PcapngWriter`.
    """

    max_bytes: int
    max_seconds: float
    files: int

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_bytes: int = 0,
        max_seconds: float = 0.0,
        files: int = 0,
        snaplen: int = MAX_SNAPLEN,
        application: str = "memif",
        comment: str = "",
        hardware: str = "",
        os_name: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.max_bytes = whole("max_bytes", max_bytes, 0, 1 << 63)
        self.max_seconds = seconds("max_seconds", max_seconds, none=False) or 0.0
        self.files = whole("files", files, 0, 1 << 31)
        if not max_bytes and not max_seconds:
            raise MemifValueError.argument("max_bytes", max_bytes, "1 or more, for max_seconds is 0 too")
        if not callable(clock):
            raise MemifTypeError.argument("clock", clock, "a function that returns seconds")
        self.paths: deque[Path] = deque()
        self._base, self._count = Path(path_of("path", path)), 0
        self._clock = clock
        super().__init__(
            path,
            snaplen=snaplen,
            application=application,
            comment=comment,
            hardware=hardware,
            os_name=os_name,
        )

    def _open(self, target: Target) -> None:
        self._count += 1
        stamp = time.strftime("%Y%m%d%H%M%S")
        path = self._base.with_name(f"{self._base.stem}_{self._count:05d}_{stamp}{self._base.suffix}")
        output = BlockOutput(path)
        self.paths.append(path)
        self._started = self._clock()
        self._start(output, self._header + b"".join(state.description for state in self._interfaces))
        self._empty_size = self.size
        while self.files and len(self.paths) > self.files:
            with suppress(OSError):  # someone else may have removed it
                self.paths.popleft().unlink()

    def rotate(self) -> None:
        """Finish this file and start the next one now."""
        self._finish()
        self._open(self._base)

    def _emit(self, data: bytes) -> None:
        """Write `data`, whole blocks, spread over as many files as the limits ask for."""
        rest = memoryview(data)
        if self._is_old():
            self.rotate()
        while self.max_bytes and len(rest) > self._room():
            fits = whole_blocks(rest, self._room())
            if not fits and self.size == self._empty_size:  # not even one packet: exceed the limit, do not loop
                fits = whole_blocks(rest, first_block_length(rest))
            if fits:
                super()._emit(bytes(rest[:fits]))
                rest = rest[fits:]
            if not rest:
                return
            self.rotate()
        super()._emit(bytes(rest))

    def _declare(self, block: bytes) -> None:
        super()._declare(block)
        if self.size - len(block) == self._empty_size:  # a file with declarations alone is still an empty one
            self._empty_size = self.size

    def _is_old(self) -> bool:
        now = self._clock()
        if self.size == self._empty_size:
            self._started = now
        return 0 < self.max_seconds <= now - self._started

    def _room(self) -> int:
        """Return the bytes left for packets in this file, its counters at the end set aside."""
        return self.max_bytes - self.size - STATISTICS_SIZE * len(self._interfaces)
