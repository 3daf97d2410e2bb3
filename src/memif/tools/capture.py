"""``memif capture``: packets of a link, or of a capture file, into pcapng files, or one line of text each."""

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from memif.errors import MemifError
from memif.interface import Interface
from memif.tools.files import LINKTYPES, file_options, make_filter, take_files
from memif.tools.linking import Waiting
from memif.tools.options import (
    LinkOptions,
    complete_file,
    duration_option,
    examples,
    interval_option,
    json_option,
    link_options,
)
from memif.tools.printing import Printing, printing_options, take_printing
from memif.tools.reread import reread, summarise
from memif.tools.terminal import Status, Stop
from memif.tools.transfer import bursts
from memif.tools.values import Count
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
        "capture -r all.pcapng -e -v 'icmp or arp'",
    ),
)
@click.argument("filter_words", nargs=-1, metavar="[FILTER]...")
@click.option(
    "-r",
    "--read",
    "source",
    metavar="FILE",
    shell_complete=complete_file,
    help="Read packets from a capture file instead, - for standard input.",
)
@file_options
@click.option("-c", "--count", type=Count(), default=0, help="End after so many packets (0: never).")
@duration_option
@printing_options
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
    source: str | None,
    **options: Any,
) -> None:
    """Receive packets and write them to a pcapng file, or print a line for each without -w.

    FILTER is an expression as tcpdump takes it (needs libpcap). The interface is one end of the link: to look at the
    traffic between two others see memif sniff. Waits for the link, through reconnects; Ctrl-C ends it.

    Short options are those of tcpdump.
    """
    files, printing = take_files(options), take_printing(options)
    stop = Stop(duration)
    if source is not None:
        given = [name for name in LinkOptions.__dataclass_fields__ if was_given(name)]
        if given:
            raise click.UsageError(f"-r reads a file, not a link: --{given[0].replace('_', '-')} has no use there")
        reread(source, filter_words, files, printing, stop, count, as_json=as_json)
        return
    keep = make_filter(filter_words, link.mode)
    with ExitStack() as stack:
        writer = stack.enter_context(files.open("memif capture", stop))
        stack.enter_context(stop)
        interface = stack.enter_context(link.open("capture"))
        capture = Capture(link.mode, writer, keep, files.snaplen, printing, as_json=as_json)
        status = stack.enter_context(Status("capture", interval if writer is not None and not as_json else 0))
        error = capture.guarded(interface, stop, status, count)
    summarise(capture.result(files.names(writer), stop.elapsed), as_json, to_stderr=files.path in (None, "-"))
    if error is not None:
        raise error


def was_given(name: str) -> bool:
    """Return whether an option is on the command line."""
    return click.get_current_context().get_parameter_source(name) is ParameterSource.COMMANDLINE


class Capture:
    """Writes received bursts to a file or to the terminal, and counts. One thread."""

    writer: "PcapngWriter | None"
    keep: "Filter | None"
    snaplen: int
    printing: Printing
    as_json: bool
    passed_over: int
    captured: int

    def __init__(
        self,
        mode: str,
        writer: "PcapngWriter | None",
        keep: "Filter | None",
        snaplen: int,
        printing: Printing,
        *,
        as_json: bool = False,
    ) -> None:
        self.writer, self.keep, self.snaplen, self.printing, self.as_json = writer, keep, snaplen, printing, as_json
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
        for packet in packets:
            self.printing.print(
                packet,
                now,
                length=len(packet),
                direction="in",
                linktype=self.linktype,
                snaplen=self.snaplen,
                as_json=self.as_json,
            )

    def result(self, names: list[str], elapsed: float) -> dict[str, Any]:
        """Return the counts and the files."""
        return {
            "captured": self.captured,
            "bytes": self.bytes,
            "filtered_out": self.passed_over,
            "seconds": elapsed,
            "files": names,
        }
