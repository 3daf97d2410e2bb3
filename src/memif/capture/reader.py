"""Reading captures: `CaptureReader` finds out the kind of file and yields its packets one by one."""

from collections.abc import Iterator
from types import TracebackType
from typing import Self

from memif.errors import MemifClosedError

from .compressed import compression
from .errors import CaptureFormatError, CaptureTruncatedError
from .packet import Interface, InterfaceStatistics, Packet
from .pcap_reader import MAGICS, read_pcap
from .pcapng_reader import PcapngParser
from .stream import ByteStream, EndOfData, Source

_PCAPNG = b"\x0a\x0d\x0d\x0a"


class CaptureReader(Iterator[Packet]):
    """Iterates over the packets of a pcapng or classic pcap file; memory use does not grow with the file.

    `source` is a path, "-" for standard input, an open descriptor or a binary file object; pipes work. Files compressed
    by gzip, bzip2 or xz are read as they are, by zstd from Python 3.14 on. A file that is cut in the middle of a packet
    ends the iteration with `truncated` set, or with `CaptureTruncatedError` if `strict`. `CaptureFormatError` for
    anything which is not a capture, `CaptureOSError` if it can not be read. Also a context manager. One thread at a
    time.
    """

    format: str

    #: Interfaces met so far; `Packet.interface` is an index into this list, over all sections of the file.
    interfaces: list[Interface]
    #: Latest counters by interface index; complete after the last packet only.
    statistics: dict[int, InterfaceStatistics]
    #: True after the iteration met a cut.
    truncated: bool

    def __init__(self, source: Source, *, strict: bool = False) -> None:
        self.interfaces = []
        self.statistics = {}
        self.truncated = self._closed = False
        self._strict = strict
        self._stream = ByteStream(source)
        try:
            self.format, packets = self._recognise()
        except BaseException:
            self._stream.close()
            raise
        self._packets = self._until_end(packets)

    def _recognise(self, *, inside: bool = False) -> tuple[str, Iterator[Packet]]:
        """Return the format's name and its packets; `inside` a compressed file."""
        name = self._stream.name
        try:
            magic = self._stream.read(4)
        except EndOfData as end:
            what = "too short for a capture file" if end.partial else "empty"
            raise CaptureFormatError(f"{name}: {what}") from None
        if magic == _PCAPNG:
            return "pcapng", PcapngParser(self._stream, self.interfaces, self.statistics).packets(magic)
        if magic in MAGICS:
            return "pcap", read_pcap(self._stream, magic, self.interfaces)
        if not inside and (kind := compression(magic)) is not None:
            self._stream.decompress(kind)
            return self._recognise(inside=True)
        raise CaptureFormatError(f"{name}: neither pcapng nor pcap (starts with {magic.hex(' ')})")

    def _until_end(self, packets: Iterator[Packet]) -> Iterator[Packet]:
        try:
            yield from packets
        except EndOfData as end:
            self.truncated = end.partial
        if self.truncated and self._strict:
            raise CaptureTruncatedError(
                f"{self._stream.name}: ends in the middle of a block, after offset {self._stream.offset}"
            )

    def __iter__(self) -> Iterator[Packet]:
        """Return an iterator over the packets not yet taken; it may be left and taken up again."""
        self._check_open()
        return self._packets

    def __next__(self) -> Packet:
        self._check_open()
        return next(self._packets)

    def _check_open(self) -> None:
        if self._closed:
            raise MemifClosedError(f"the capture {self._stream.name} is closed")

    def close(self) -> None:
        """Close the file if it was opened here. Can be repeated; further use raises `MemifClosedError`."""
        self._closed = True
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
