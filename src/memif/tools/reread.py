"""``memif capture -r``: the packets of a capture file, filtered, printed or written again; and the end report."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from memif.errors import MemifError
from memif.tools.files import Files, make_filter, matches_mode, summarise_files
from memif.tools.printing import Printing
from memif.tools.terminal import Stop, fail, print_json
from memif.tools.values import seconds, si

if TYPE_CHECKING:
    from memif.capture import CaptureReader, Packet, PcapngWriter
    from memif.packet import Filter


def reread(
    source: str,
    words: tuple[str, ...],
    files: Files,
    printing: Printing,
    stop: Stop,
    count: int,
    *,
    as_json: bool,
) -> None:
    """Do with the packets of a file what is done with those of a link.

    Args:
        source: The file, "-" for standard input.
        words: Of the filter.
        files: Where to write.
        printing: How to print.
        stop: When to end before the end of the file.
        count: The most packets; 0 for all.
        as_json: Print JSON.

    Raises:
        click.UsageError: The filter is wrong, or the file is also the one to be written.
        MemifError: The file cannot be read, or the other not be written; after the report.
    """
    from memif.capture import CaptureReader

    if files.path == source != "-":
        raise click.UsageError("-w would overwrite the file that -r reads")
    make_filter(words, "ethernet")  # an error now, not at the first packet
    error: MemifError | None = None
    with (
        CaptureReader(source) as reader,
        files.open("memif capture", stop) as out,
    ):
        again = _Again(reader, words, out, printing, files.snaplen, as_json=as_json)
        with stop:
            try:
                for packet in _until(reader, stop):
                    again.take(packet)
                    if count and again.captured >= count:
                        break
            except MemifError as problem:
                error = problem
        names = files.names(out)
        if reader.truncated:
            fail(f"{source}: ends in the middle of a packet")
    result = {
        "captured": again.captured,
        "bytes": again.bytes,
        "filtered_out": again.passed_over,
        "seconds": stop.elapsed,
        "files": names,
    }
    summarise(result, as_json, to_stderr=files.path in (None, "-"))
    if error is not None:
        raise error


def _until(reader: "CaptureReader", stop: Stop) -> Iterator["Packet"]:
    """Yield packets until Ctrl-C, also while a pipe has none."""
    while not stop:
        try:
            with stop.interruptible():
                packet = next(reader)
        except (StopIteration, KeyboardInterrupt):
            return
        yield packet


class _Again:
    """Filters, and writes or prints, packets of a file. One thread."""

    captured: int
    passed_over: int

    def __init__(
        self,
        reader: "CaptureReader",
        words: tuple[str, ...],
        writer: "PcapngWriter | None",
        printing: Printing,
        snaplen: int,
        *,
        as_json: bool,
    ) -> None:
        self._reader, self._words, self._writer = reader, words, writer
        self._printing, self._snaplen, self._as_json = printing, snaplen, as_json
        self._filters: dict[int, Filter | None] = {}
        self._interfaces: dict[int, int] = {}
        self.captured = self.passed_over = 0
        self.bytes: int = 0

    def take(self, packet: "Packet") -> None:
        """Count a packet, and write or print it if it passes."""
        if not self._passes(packet):
            self.passed_over += 1
            return
        self.captured += 1
        self.bytes += packet.original_length
        if self._writer is not None:
            self._writer.write_packet(
                packet.data,
                packet.timestamp_ns,
                interface=self._interface(packet),
                direction=packet.direction,
                original_length=packet.original_length,
            )
            return
        self._printing.print(
            packet.data,
            packet.timestamp_ns,
            length=packet.original_length,
            direction=packet.direction,
            linktype=packet.linktype,
            snaplen=self._snaplen,
            as_json=self._as_json,
        )

    def _passes(self, packet: "Packet") -> bool:
        """Return whether the filter lets it pass; with one, packets of other link types do not."""
        if not self._words:
            return True
        import numpy as np

        if packet.linktype not in self._filters:
            modes = [mode for mode in ("ethernet", "ip") if matches_mode(packet.linktype, mode)]
            self._filters[packet.linktype] = make_filter(self._words, modes[0]) if modes else None
        keep = self._filters[packet.linktype]
        length = np.array([packet.original_length], np.uint32)
        return keep is not None and bool(keep.match([packet.data], length)[0])

    def _interface(self, packet: "Packet") -> int:
        assert self._writer is not None
        if packet.interface not in self._interfaces:
            old = self._reader.interfaces[packet.interface]
            self._interfaces[packet.interface] = self._writer.add_interface(
                old.name, linktype=packet.linktype, description=old.description
            )
        return self._interfaces[packet.interface]


def summarise(result: dict[str, Any], as_json: bool, *, to_stderr: bool) -> None:
    """Print the result; to standard error if the packets go to standard output."""
    if as_json:
        print_json(result, err=to_stderr)
        return
    rest = f", {result['filtered_out']} did not pass the filter" if result["filtered_out"] else ""
    click.echo(
        f"{result['captured']} packets, {si(result['bytes'], 'B')} captured in {seconds(result['seconds'])}{rest}",
        err=to_stderr,
    )
    summarise_files(result["files"], to_stderr=to_stderr)
