"""``memif capture``: received packets into pcapng files, or one line of text each."""

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from memif.errors import MemifError
from memif.interface import Interface
from memif.tools.files import LINKTYPES, file_options, make_filter, summarise_files, take_files
from memif.tools.linking import Waiting
from memif.tools.options import LinkOptions, duration_option, examples, interval_option, json_option, link_options
from memif.tools.terminal import Status, Stop, print_json
from memif.tools.transfer import bursts
from memif.tools.values import Count, seconds, si
from memif.tools.verb import Verb

if TYPE_CHECKING:
    from memif.capture import PcapngWriter
    from memif.packet import Filter
    from memif.ring import Burst


@click.command(
    "capture",
    cls=Verb,
    epilog=examples(
        "capture --role master -w all.pcapng",
        "capture -w ring.pcapng --rotate-size 100M --files 5",
        "capture -c 20 'udp port 53 or arp'",
        "capture -w - | tshark -r -",
    ),
)
@click.argument("filter_words", nargs=-1, metavar="[FILTER]...")
@file_options
@click.option("-c", "--count", type=Count(), default=0, help="End after so many packets (0: never).")
@duration_option
@click.option("-x", "--hex", "show_hex", is_flag=True, help="Print the bytes below each line (without -w).")
@interval_option
@json_option
@link_options()
def command(
    link: LinkOptions,
    as_json: bool,
    interval: float,
    filter_words: tuple[str, ...],
    count: int,
    duration: float | None,
    show_hex: bool,
    **options: Any,
) -> None:
    """Receive packets and write them to a pcapng file, or print a line for each without -w.

    FILTER is an expression as tcpdump takes it (needs libpcap). The interface is one end of the link: to look at the
    traffic between two others see memif sniff. Waits for the link, through reconnects; Ctrl-C ends it.
    """
    files = take_files(options)
    keep = make_filter(filter_words, link.mode)
    stop = Stop(duration)
    with ExitStack() as stack:
        writer = stack.enter_context(files.open("memif capture", stop))
        stack.enter_context(stop)
        interface = stack.enter_context(link.open("capture"))
        capture = Capture(link.mode, writer, keep, files.snaplen, show_hex=show_hex, as_json=as_json)
        status = stack.enter_context(Status("capture", interval if writer is not None and not as_json else 0))
        error = capture.guarded(interface, stop, status, count)
    summarise(capture.result(files.names(writer), stop.elapsed), as_json, to_stderr=files.path in (None, "-"))
    if error is not None:
        raise error


class Capture:
    """Writes received bursts to a file or to the terminal, and counts. One thread."""

    writer: "PcapngWriter | None"
    keep: "Filter | None"
    snaplen: int
    show_hex: bool
    as_json: bool
    passed_over: int
    captured: int

    def __init__(
        self,
        mode: str,
        writer: "PcapngWriter | None",
        keep: "Filter | None",
        snaplen: int,
        *,
        show_hex: bool = False,
        as_json: bool = False,
    ) -> None:
        self.writer, self.keep, self.snaplen, self.show_hex, self.as_json = writer, keep, snaplen, show_hex, as_json
        self.linktype: int = LINKTYPES.get(mode, 147)
        self.captured = self.passed_over = 0
        self.bytes: int = 0

    def guarded(self, interface: Interface, stop: Stop, status: Status, count: int) -> MemifError | None:
        """Run; return an error that ends it, so that the summary can be printed before the error."""
        try:
            if self.writer is not None:
                self.writer.add_interface(
                    interface.name,
                    linktype=self.linktype,
                    description=f"{interface.role} on {interface.socket.address}",
                )
            self._run(interface, stop, status, count)
        except MemifError as error:
            return error
        return None

    def _run(self, interface: Interface, stop: Stop, status: Status, count: int) -> None:
        for item in bursts(interface, stop, waiting=Waiting(interface)):
            if item is not None:
                self._burst(item[1], count - self.captured if count else None)
                if count and self.captured >= count:
                    return
            elif self.writer is not None:
                self.writer.check_reader()
            status.tick(self.captured, self.bytes)

    def _burst(self, burst: "Burst", most: int | None) -> None:
        now = time.time_ns()
        if self.keep is not None:
            chosen = self.keep.match(burst)
            passed = int(chosen.sum())
            self.passed_over += len(burst) - passed
            if passed < len(burst):
                self._some([bytes(packet) for packet in burst.select(chosen)][:most], now)
                return
        if self.writer is None or (most is not None and most < len(burst)):
            self._some(burst.tobytes()[:most], now)
            return
        self.captured += len(burst)
        self.bytes += int(burst.lengths.sum())
        self.writer.write_packets(burst, now, direction="in")

    def _some(self, packets: list[bytes], now: int) -> None:
        self.captured += len(packets)
        self.bytes += sum(map(len, packets))
        if self.writer is not None:
            self.writer.write_packets(packets, now, direction="in")
        else:
            self._print(packets, now)

    def _print(self, packets: list[bytes], now: int) -> None:
        from memif.capture import packet_line, summary

        for packet in packets:
            if self.as_json:
                print_json(
                    {
                        "time_ns": now,
                        "length": len(packet),
                        "summary": summary(packet, self.linktype),
                        "data": packet[: self.snaplen].hex(),
                    }
                )
                continue
            click.echo(packet_line(now, packet, direction="in", linktype=self.linktype))
            if self.show_hex:
                click.echo(hex_lines(packet[: self.snaplen]))

    def result(self, names: list[str], elapsed: float) -> dict[str, Any]:
        """Return the counts and the files."""
        return {
            "captured": self.captured,
            "bytes": self.bytes,
            "filtered_out": self.passed_over,
            "seconds": elapsed,
            "files": names,
        }


def hex_lines(data: bytes) -> str:
    """Format sixteen bytes per line, in hex and as text."""
    lines = []
    for at in range(0, len(data), 16):
        row = data[at : at + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"    {at:04x}  {row.hex(' '):<47}  {text}")
    return "\n".join(lines)


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
