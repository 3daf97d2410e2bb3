"""Writing pcapng: `PcapngWriter` for one file or pipe, `RotatingWriter` for a ring buffer of files.

The order in a file: section header, interface descriptions, packets, and at close one block of counters for each
interface. Everything is little-endian and times are in nanoseconds.
"""

import os
import platform
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, cast

from memif.config import check_callback, each, one_of, seconds, text_of, whole
from memif.errors import MemifClosedError, MemifTypeError, MemifValueError
from memif.system import Closing

from . import blocks
from .blocks import (
    MAX_LENGTH,
    MAX_TIME,
    STATISTICS_SIZE,
    Times,
    encode_list,
    encode_matrix,
    first_block_length,
    plain,
    whole_blocks,
)
from .files import BlockOutput, Target, path_of
from .packet import MAX_SNAPLEN, Direction, LinkType

if TYPE_CHECKING:
    from typing_extensions import Buffer  # typing only: nothing to install

    from memif.ring import Burst

#: Bytes kept of a packet up to which rows of a matrix are quicker than pieces.
_LONGEST_ROW: Final = 512


@dataclass(slots=True)
class _Interface:
    """An interface of this writer, and its counters.

    Attributes:
        description: Its interface description block.
        snaplen: Bytes kept of each packet.
        start_ns: When it was added, in nanoseconds since 1970.
        written: Packets given to the writer, whether or not the disk took them.
        received: Packets seen, as the user has set it, or None.
        dropped: Packets not in the file, as the user has set it.
    """

    description: bytes
    snaplen: int
    start_ns: int
    written: int = 0
    received: int | None = None
    dropped: int = 0

    def statistics(self, index: int) -> bytes:
        seen = self.written + self.dropped if self.received is None else self.received
        return blocks.interface_statistics(index, self.start_ns, time.time_ns(), seen, self.dropped)


def _snaplen(snaplen: object) -> int:
    return whole("snaplen", snaplen, 1, MAX_LENGTH)


class PcapngWriter(Closing):
    """Writes a pcapng file, which Wireshark can read at any moment of the capture.

    Every call writes at once, without a buffer, so write whole bursts. When the disk is full, `CaptureOSError` is
    raised and the file keeps the whole packets that were written. When the reader of a pipe goes away,
    `CapturePipeClosedError` is raised and `broken` becomes True. Also a context manager. One thread at a time.

    Args:
        target: A path, "-" for standard output, an open descriptor or a binary file object. Only a path is closed at
            the end.
        snaplen: Bytes kept of each packet, unless an interface has its own value.
        application: Program name in the file's header.
        comment: Comment in the file's header.
        hardware: Description of the hardware in the file's header.
        os_name: Operating system in the file's header; None for this system.
        stop: Opening a FIFO waits for a reader, and writing to a full pipe waits for room. Both waits end with
            `CapturePipeClosedError` once this function returns true: for programs whose signal handlers only set a
            flag. A reader that still takes data is waited for.

    Raises:
        CaptureOSError: when the file cannot be opened.
    """

    def __init__(
        self,
        target: Target,
        *,
        snaplen: int = MAX_SNAPLEN,
        application: str = "memif",
        comment: str = "",
        hardware: str = "",
        os_name: str | None = None,
        stop: Callable[[], object] | None = None,
    ) -> None:
        self._stop = check_callback("stop", stop)
        self.snaplen: int = _snaplen(snaplen)
        self._interfaces: list[_Interface] = []
        self._failed = self._closed = False
        os_name = f"{platform.system()} {platform.release()}" if os_name is None else os_name
        texts = {"hardware": hardware, "os_name": os_name, "application": application, "comment": comment}
        for name, text in texts.items():
            text_of(name, text)
        self._header = blocks.section_header(hardware, os_name, application, comment)
        self._open(target)

    def _open(self, target: Target) -> None:
        self._start(BlockOutput(target, self._stop), self._header)

    def _start(self, output: BlockOutput, header: bytes) -> None:
        """Write to `output` from now on, beginning with `header`."""
        self._output = output
        try:
            self._put(header)
        except BaseException:
            output.close()
            raise

    @property
    def broken(self) -> bool:
        """True after the reader of the pipe has gone. Nothing more can be written."""
        return self._output.broken

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return self._output.size

    def add_interface(
        self,
        name: str = "",
        *,
        linktype: int = LinkType.ETHERNET,
        description: str = "",
        snaplen: int | None = None,
    ) -> int:
        """Declare an interface, at any time, and return its number, 0 for the first.

        Args:
            name: Its name.
            linktype: What its packets begin with.
            description: Text for people.
            snaplen: Bytes kept of each packet; None for that of the writer.
        """
        snaplen = self.snaplen if snaplen is None else _snaplen(snaplen)
        kind = whole("linktype", linktype, 0, 0xFFFF)
        block = blocks.interface_description(kind, snaplen, text_of("name", name), text_of("description", description))
        self._declare(block)
        self._interfaces.append(_Interface(block, snaplen, time.time_ns()))
        return len(self._interfaces) - 1

    def _declare(self, block: bytes) -> None:
        self._emit(block)

    def _interface(self, index: int) -> _Interface:
        if not self._interfaces and index == 0 and isinstance(index, int):
            self.add_interface()
        if not isinstance(index, int) or not 0 <= index < len(self._interfaces):
            raise MemifValueError.argument("interface", index, "a number that add_interface() returned")
        return self._interfaces[index]

    def write_packet(
        self,
        data: "Buffer",
        timestamp_ns: int | None = None,
        *,
        interface: int = 0,
        direction: Direction = "unknown",
        original_length: int | None = None,
        comment: str = "",
    ) -> None:
        """Write one packet.

        Args:
            data: The packet, bytes-like.
            timestamp_ns: Nanoseconds since 1970; None for now.
            interface: A number that `add_interface` returned.
            direction: "in", "out" or "unknown".
            original_length: Bytes on the wire; None for the length of `data`.
            comment: A comment on this packet.

        Raises:
            CaptureOSError: when the system cannot write.
        """
        state = self._interface(interface)
        view = plain(data, "data")
        kept = view[: state.snaplen]
        ns = time.time_ns() if timestamp_ns is None else whole("timestamp_ns", timestamp_ns, 0, MAX_TIME)
        original = len(view) if original_length is None else whole("original_length", original_length, 0, MAX_LENGTH)
        one_of("direction", direction, blocks.DIRECTION_FLAGS)
        tail, total = blocks.packet_tail(len(kept), direction, text_of("comment", comment))
        high, low = blocks.split_time(ns)
        head = blocks.EPB_HEADER.pack(blocks.EPB, total, interface, high, low, len(kept), original)
        state.written += 1
        self._emit(b"".join((head, kept, tail)))

    def write_packets(
        self,
        packets: "Iterable[Buffer] | Burst | tuple[Any, Any]",
        timestamps_ns: Times | None = None,
        interface: int = 0,
        direction: Direction = "unknown",
        *,
        original_lengths: Iterable[int] | None = None,
        comment: str = "",
    ) -> int:
        """Write a burst with one system call and return the number of packets.

        Args:
            packets: A received burst, which is written in the fastest way for its sizes; or bytes-like objects; or a
                pair (matrix, lengths) as `write_array` takes them.
            timestamps_ns: Nanoseconds since 1970: one for all packets, one for each, or None for now.
            interface: A number that `add_interface` returned.
            direction: "in", "out" or "unknown".
            original_lengths: Bytes on the wire of each packet, where bytes-like objects are only their beginnings.
            comment: A comment on each packet.

        Raises:
            CaptureOSError: when the system cannot write.
            MemifValueError: There are more or less `original_lengths` than packets, or not only packets.
        """
        text_of("comment", comment)
        if original_lengths is not None and (hasattr(packets, "gather") or isinstance(packets, tuple)):
            raise MemifValueError.argument("original_lengths", original_lengths, "None: these packets have their own")
        if hasattr(packets, "gather"):
            packets = self._best_form(cast("Burst", packets), interface)
        if isinstance(packets, tuple) and len(packets) == 2 and getattr(packets[0], "ndim", 0) == 2:
            return self.write_array(packets[0], packets[1], timestamps_ns, interface, direction, comment=comment)
        state = self._interface(interface)
        burst = packets if isinstance(packets, (list, tuple)) else list(each("packets", packets))
        times = self._times(timestamps_ns, direction)
        originals = None if original_lengths is None else list(each("original_lengths", original_lengths, "lengths"))
        if originals is not None and len(originals) != len(burst):
            raise MemifValueError.argument("original_lengths", originals, f"{len(burst)}, one for each packet")
        data = encode_list(burst, times, interface, direction, state.snaplen, originals, comment)
        state.written += len(burst)
        self._emit(data)
        return len(burst)

    def _best_form(self, burst: "Burst", interface: int) -> "list[bytes] | tuple[Any, Any]":
        """Return rows for short packets that are kept at one length, which takes a third of the time.

        Otherwise return single packets, because rows would be mostly padding, or exceed the processor's cache.
        """
        try:
            lengths = burst.lengths
        except ImportError:  # no numpy
            return burst.tobytes()
        if not len(lengths):
            return []
        longest = min(int(lengths.max()), self._interface(interface).snaplen)
        if longest > _LONGEST_ROW or int(lengths.min()) < longest:
            return burst.tobytes()
        return burst.gather(longest), lengths

    def write_array(
        self,
        matrix: Any,
        lengths: Any,
        timestamps_ns: Times | None = None,
        interface: int = 0,
        direction: Direction = "unknown",
        *,
        comment: str = "",
    ) -> int:
        """Write the rows of a matrix as packets and return their number.

        Args:
            matrix: numpy array, uint8, shape (n, width), as from `Burst.gather`.
            lengths: Lengths on the wire, integers, shape (n,). Where one exceeds the width, the packet is cut.
            timestamps_ns: Nanoseconds since 1970: one for all packets, one for each, or None for now.
            interface: A number that `add_interface` returned.
            direction: "in", "out" or "unknown".
            comment: A comment on each packet.

        Raises:
            CaptureOSError: when the system cannot write.
        """
        state = self._interface(interface)
        times = self._times(timestamps_ns, direction)
        text = text_of("comment", comment)
        data = encode_matrix(matrix, lengths, times, interface, direction, state.snaplen, text)
        state.written += len(matrix)
        self._emit(data)
        return len(matrix)

    def _times(self, timestamps_ns: Times | None, direction: Direction) -> Times:
        one_of("direction", direction, blocks.DIRECTION_FLAGS)
        if getattr(timestamps_ns, "ndim", None) == 0:  # a numpy scalar
            return whole("timestamps_ns", timestamps_ns, 0, MAX_TIME)
        return time.time_ns() if timestamps_ns is None else timestamps_ns

    def set_statistics(self, interface: int = 0, *, received: int | None = None, dropped: int = 0) -> None:
        """Set the counters that are written at close.

        Args:
            interface: A number that `add_interface` returned.
            received: Packets seen; None for written plus dropped.
            dropped: Packets that should be in the file and are not.
        """
        state = self._interface(interface)
        received = None if received is None else whole("received", received, 0, MAX_TIME)
        state.received, state.dropped = received, whole("dropped", dropped, 0, MAX_TIME)

    def _emit(self, data: bytes) -> None:
        """Write whole blocks. A subclass may choose another file first."""
        if self._closed:
            raise MemifClosedError("the capture is closed")
        self._put(data)

    def _put(self, data: bytes) -> None:
        try:
            self._output.write(data)
        except OSError:
            self._failed = True
            raise

    def _finish(self) -> None:
        """Write the counters, and close the output in any case."""
        try:
            if not self.broken:
                self._put(b"".join(state.statistics(i) for i, state in enumerate(self._interfaces)))
        finally:
            self._output.close()

    def check_reader(self) -> None:
        """Raise `CapturePipeClosedError` when the reader of the pipe has gone, as the next write would.

        For times without packets. Costs a system call. Does nothing for files.
        """
        self._output.check_reader()

    def flush(self) -> None:
        """Have the file stored on disk, not only in the system's memory (fsync). Does nothing for pipes."""
        self._output.sync()

    def close(self) -> None:
        """Write the counters and close. Can be called again.

        Raises:
            CaptureOSError: when that fails and no error was raised before.
        """
        if self._closed:
            return
        failed = self._failed
        try:
            self._finish()
        except OSError:
            if not failed:
                raise
        finally:
            self._closed = True

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._failed = self._failed or kind is not None
        self.close()


class RotatingWriter(PcapngWriter):
    """A `PcapngWriter` that starts a new file when the current one is full or old, as ``dumpcap -b`` does.

    Each file is complete in itself: it declares all interfaces and ends with the counters so far.

    Args:
        path: ``dir/name.pcapng`` gives ``dir/name_00001_20260131120000.pcapng`` and so on (local time).
        max_bytes: No file grows beyond this, unless its headers and a single packet do. 0 for no limit.
        max_seconds: The first packet that comes this many seconds after a file's first packet starts a new file. 0 for
            no limit. Either this or `max_bytes` must be set.
        files: How many files are kept, 0 for all. Older files of this capture are deleted.
        snaplen: As for `PcapngWriter`, like all that follow.
        application: Program name in the headers.
        comment: Comment in the headers.
        hardware: Description of the hardware in the headers.
        os_name: Operating system in the headers; None for this system.
        clock: Function that returns the time in seconds, for `max_seconds`.

    Attributes:
        paths: The files that are kept, oldest first.

    Raises:
        MemifValueError: when `max_bytes` and `max_seconds` are both 0.
        CaptureOSError: when a file cannot be opened.
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
            with suppress(OSError):  # somebody else may have removed it
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
            if not fits and self.size == self._empty_size:  # not even one packet fits: exceed the limit, do not loop
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
        if self.size - len(block) == self._empty_size:  # a file with only declarations is still empty
            self._empty_size = self.size

    def _is_old(self) -> bool:
        now = self._clock()
        if self.size == self._empty_size:
            self._started = now
        return 0 < self.max_seconds <= now - self._started

    def _room(self) -> int:
        """Return the bytes left for packets in this file, less the counters at its end."""
        return self.max_bytes - self.size - STATISTICS_SIZE * len(self._interfaces)
