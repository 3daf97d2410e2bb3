"""``memif sniff``: a passive tap between two other programs."""

import time
from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from memif.errors import MemifError
from memif.tools.files import LINKTYPES, file_options, make_filter, summarise_files, take_files
from memif.tools.options import (
    complete_file,
    complete_socket,
    duration_option,
    examples,
    interval_option,
    json_option,
)
from memif.tools.screen import say
from memif.tools.terminal import Status, Stop, fail, print_json
from memif.tools.values import Count, seconds, si
from memif.tools.verb import Verb

if TYPE_CHECKING:
    from memif.capture import Direction, PcapngWriter
    from memif.packet import Filter
    from memif.sniff import Batch, Control, Link, Sniffer

_SECRET = slice(9, 33)  # of the INIT message


@click.command(
    "sniff",
    cls=Verb,
    epilog=examples(
        "sniff /tmp/tap.sock /run/vpp/memif.sock",
        "sniff -w link.pcapng /tmp/tap.sock /run/vpp/memif.sock",
        "sniff -w - /tmp/tap.sock /tmp/m.sock | wireshark -k -i -",
        "sniff --control -c 0 /tmp/tap.sock /tmp/m.sock",
    ),
)
@click.argument("listen", shell_complete=complete_file)
@click.argument("connect", shell_complete=complete_socket)
@click.argument("filter_words", nargs=-1, metavar="[FILTER]...")
@file_options
@click.option("-c", "--count", type=Count(), help="End after so many packets; 0: control messages only.")
@duration_option
@click.option("--control/--no-control", default=None, help="Record the control messages too (default: yes, as text).")
@click.option("--id", "only_id", type=click.IntRange(0, 0xFFFFFFFF), help="Record this interface only.")
@click.option(
    "--load",
    type=click.FloatRange(1, 100),
    default=10,
    show_default=True,
    metavar="PERCENT",
    help="Of one CPU, for copying packets. Less disturbs the peers less, and misses more.",
)
@click.option(
    "--unsure",
    is_flag=True,
    help="Keep packets that may differ from what was sent, each marked by a comment (default: only count them).",
)
@click.option("--show-secret", is_flag=True, help="Record secrets, which are blanked otherwise.")
@interval_option
@json_option
def command(
    listen: str,
    connect: str,
    filter_words: tuple[str, ...],
    count: int | None,
    duration: float | None,
    control: bool | None,
    only_id: int | None,
    load: float,
    unsure: bool,
    show_secret: bool,
    interval: float,
    as_json: bool,
    **options: Any,
) -> None:
    """Listen on LISTEN, where the slave is told to connect, connect to the real master on CONNECT, and record.

    The two talk over their own memory at full speed; it is mapped here read-only, and packets of both directions are
    copied as they pass: ">" slave to master, "<" master to slave. What is too fast to be copied is counted as missed.
    The control connection is kept by a small process of its own, so that the link outlives this program.

    What was copied after its receiver gave it back is unsure: the receiver may have written over it. It is counted and
    left out, unless --unsure asks for it. Between two fast programs that can be most; VPP and DPDK as receivers that
    copy leave packets as they were. A receiver that writes into packets which it still holds cannot be told at all.
    "memif bridge -w FILE" is exact: all packets pass through it.

    A slave need not be told another name: rename the master's socket file, give LISTEN its name and CONNECT the new
    one, and the next connection comes this way.

    FILTER is an expression as tcpdump takes it (needs libpcap).
    """
    from memif.sniff import Sniffer

    files = take_files(options)
    make_filter(filter_words, "ethernet")  # an error now, not at the first packet
    error: MemifError | None = None
    stop = Stop(duration)
    with ExitStack() as stack:
        writer = stack.enter_context(files.open("memif sniff", stop))
        sniffer = stack.enter_context(Sniffer(listen, connect, snaplen=min(files.snaplen, 65536), load=load / 100))
        stack.enter_context(stop)
        status = stack.enter_context(Status("sniff", interval if writer is not None and not as_json else 0))
        recorder = Recorder(
            sniffer,
            writer,
            filter_words,
            count,
            only_id,
            as_json=as_json,
            show_secret=show_secret,
            unsure=unsure,
            control=writer is None if control is None else control,
        )
        say(f"listening on {sniffer.listen} for a slave, whose master is on {sniffer.connect}")
        error = recorder.run(stop, status)
        links = [link for link in sniffer.links.values() if link.up]
    result = recorder.result(stop.elapsed, files.names(writer), sniffer.relay_pid if links else None)
    report(result, as_json, to_stderr=files.path in (None, "-"))
    if error is not None:
        raise error


class Recorder:
    """Writes a sniffer's events to a file or to the terminal. One thread."""

    sniffer: "Sniffer"
    writer: "PcapngWriter | None"
    words: tuple[str, ...]
    count: int | None
    only_id: int | None
    control: bool
    as_json: bool
    show_secret: bool
    unsure: bool
    left_out: int
    messages: int
    packets: int
    passed_over: int

    def __init__(
        self,
        sniffer: "Sniffer",
        writer: "PcapngWriter | None",
        words: tuple[str, ...],
        count: int | None,
        only_id: int | None,
        *,
        control: bool,
        as_json: bool,
        show_secret: bool,
        unsure: bool,
    ) -> None:
        self.sniffer, self.writer, self.words, self.count, self.only_id = sniffer, writer, words, count, only_id
        self.control, self.as_json, self.show_secret, self.unsure = control, as_json, show_secret, unsure
        self.packets = self.messages = self.passed_over = self.left_out = 0
        self.bytes: int = 0
        self.links: list[Link] = []
        self._filters: dict[bool, Filter | None] = {}
        self._interfaces: dict[int, int] = {}
        self._control_interface: int | None = None

    def run(self, stop: Stop, status: Status) -> MemifError | None:
        """Record until `stop` or the count; return the error that ended it earlier, if there was one."""
        try:
            while not stop and not (self.count and self.packets >= self.count):
                events = self.sniffer.poll(stop.left())
                if events is None:
                    return MemifError("the relay process of the tap has ended, and with it the links")
                for event in events:
                    self._event(event, status)
                if not events and self.writer is not None:
                    self.writer.check_reader()
                unsure = f", {self.left_out} unsure" if self.left_out else ""
                status.tick(self.packets, self.bytes, f"{self.missed} missed{unsure}")
        except MemifError as error:
            return error
        finally:
            self._statistics()
        return None

    @property
    def missed(self) -> int:
        """Packets that passed and could not be copied."""
        return sum(tap.counters.missed for link in self.links for tap in link.taps)

    def _event(self, event: Any, status: Status) -> None:
        from memif.sniff import Batch, Control, Ended, Note, Started

        match event:
            case Batch():
                if self._wanted(event.link):
                    self._batch(event)
            case Control():
                self.messages += 1
                if self.control:
                    self._message(event)
            case Started(link):
                if self._wanted(link.number):
                    self.links.append(link)
                    self._say(status, f"link up, {link.name}")
            case Ended(link, side):
                self._say(status, f"link down, {link.name}: closed by the {side.name.lower()}")
            case Note(text):
                fail(text)

    def _say(self, status: Status, text: str) -> None:
        if self.writer is not None and not self.as_json:
            say(text)
        elif not self.as_json:
            click.echo(text)

    def _wanted(self, number: int) -> bool:
        return self.only_id is None or self.sniffer.links[number].id == self.only_id

    def _batch(self, batch: "Batch") -> None:
        if self.count == 0:
            return
        if not self.unsure:
            self.left_out += int(batch.unsure.sum())
            batch = batch.select(~batch.unsure)
        if self.words:
            batch = self._filtered(batch)
        if self.count:
            batch = batch.first(self.count - self.packets)
        if not len(batch):
            return
        self.packets += len(batch)
        self.bytes += int(batch.lengths.sum())
        link = self.sniffer.links[batch.link]
        if self.writer is not None:
            batch.write(self.writer, self._interface(link))
        else:
            self._print(batch, link)

    def _filtered(self, batch: "Batch") -> "Batch":
        ethernet = self.sniffer.links[batch.link].ethernet
        if ethernet not in self._filters:
            self._filters[ethernet] = make_filter(self.words, "ethernet" if ethernet else "ip")
        keep = self._filters[ethernet]
        assert keep is not None
        kept = batch.select(keep.match(batch.tobytes() if batch.matrix is None else batch.matrix, batch.lengths))
        self.passed_over += len(batch) - len(kept)
        return kept

    def _interface(self, link: "Link") -> int:
        assert self.writer is not None
        if link.number not in self._interfaces:
            self._interfaces[link.number] = self.writer.add_interface(
                link.name,
                linktype=LINKTYPES["ethernet" if link.ethernet else "ip"],
                description=f"{link.slave_app} to {link.master_app}; out: slave to master",
            )
        return self._interfaces[link.number]

    def _print(self, batch: "Batch", link: "Link") -> None:
        from memif.capture import packet_line, summary

        linktype = LINKTYPES["ethernet" if link.ethernet else "ip"]
        for packet, length, unsure in zip(batch.tobytes(), batch.lengths.tolist(), batch.unsure.tolist(), strict=True):
            if self.as_json:
                print_json(
                    {
                        "time_ns": batch.ns,
                        "link": link.number,
                        "id": link.id,
                        "queue": batch.queue,
                        "from": "slave" if batch.s2m else "master",
                        "length": length,
                        "unsure": unsure,
                        "summary": summary(packet, linktype),
                        "data": packet.hex(),
                    }
                )
            else:
                arrow: Direction = "out" if batch.s2m else "in"
                line = packet_line(batch.ns, packet, direction=arrow, linktype=linktype, length=length)
                click.echo(f"{line} (unsure)" if unsure else line)

    def _message(self, event: "Control") -> None:
        if self.writer is not None:
            if self._control_interface is None:
                self._control_interface = self.writer.add_interface(
                    "control", linktype=147, description="memif control messages; out: from the slave"
                )
            self.writer.write_packet(
                event.raw if self.show_secret else blanked(event.raw),
                event.ns,
                interface=self._control_interface,
                direction="in" if event.side else "out",
            )
        elif self.as_json:
            from memif.tools.decode import as_dict

            print_json(
                {"time_ns": event.ns, "link": event.link, "from": event.side.name.lower()}
                | as_dict("in" if event.side else "out", event.message, (), self.show_secret)
            )
        else:
            from memif.capture import describe

            arrow, ns = "<" if event.side else ">", event.ns % 1_000_000_000
            clock = time.strftime("%H:%M:%S", time.localtime(event.ns // 1_000_000_000))
            beside = f", {event.descriptors} descriptor beside it" if event.descriptors else ""
            click.echo(
                f"{clock}.{ns // 1000:06d} {arrow} control "
                f"{describe(event.message, show_secret=self.show_secret)}{beside}"
            )

    def _statistics(self) -> None:
        """Write into the file how many packets of each link passed, and how many of them are not in it."""
        if self.writer is None or self.writer.broken:
            return
        for link in self.links:
            counters = [tap.counters for tap in link.taps]
            if link.number in self._interfaces:
                self.writer.set_statistics(
                    self._interfaces[link.number],
                    received=sum(c.passed for c in counters),
                    dropped=sum(c.missed + c.malformed + (0 if self.unsure else c.unsure) for c in counters),
                )

    def result(self, elapsed: float, names: list[str], relay: int | None) -> dict[str, Any]:
        """Return the counts, by link and ring."""
        links = [
            {
                "id": link.id,
                "slave": link.slave_name,
                "master": link.master_name,
                "rings": [
                    {"ring": f"{'S2M' if tap.ring.s2m else 'M2S'} {tap.ring.index}", **asdict(tap.counters)}
                    for tap in link.taps
                ],
            }
            for link in self.links
        ]
        return {
            "captured": self.packets,
            "bytes": self.bytes,
            "messages": self.messages,
            "missed": self.missed,
            "left_out": self.left_out,
            "filtered_out": self.passed_over,
            "seconds": elapsed,
            "files": names,
            "relay": relay,
            "links": links,
        }


def blanked(raw: bytes) -> bytes:
    """Return a control message without its secret."""
    if raw[:2] != b"\x03\x00" or len(raw) < _SECRET.stop:
        return raw
    return raw[: _SECRET.start] + bytes(_SECRET.stop - _SECRET.start) + raw[_SECRET.stop :]


def report(result: dict[str, Any], as_json: bool, *, to_stderr: bool) -> None:
    """Print the result; to standard error if the packets go to standard output."""
    if as_json:
        print_json(result, err=to_stderr)
        return
    rest = f", {result['left_out']} unsure left out" if result["left_out"] else ""
    rest += f", {result['filtered_out']} did not pass the filter" if result["filtered_out"] else ""
    click.echo(
        f"{result['captured']} packets, {si(result['bytes'], 'B')} and {result['messages']} control messages in "
        f"{seconds(result['seconds'])}{rest}",
        err=to_stderr,
    )
    for link in result["links"]:
        click.echo(f"id {link['id']}: {link['slave']} - {link['master']}", err=to_stderr)
        for ring in link["rings"]:
            notes = "".join(
                f", {ring[name]} {text}"
                for name, text in (
                    ("missed", "missed"),
                    ("inferred", "lengths by header"),
                    ("unknown", "lengths unknown"),
                    ("unsure", "unsure"),
                    ("unjoined", "not joined"),
                    ("malformed", "malformed"),
                )
                if ring[name]
            )
            notes += " (estimated)" if ring["estimated"] else ""
            click.echo(f"  {ring['ring']}: {ring['passed']} passed, {ring['seen']} seen{notes}", err=to_stderr)
    if any(ring["unsure"] for link in result["links"] for ring in link["rings"]):
        what = "were left out; --unsure keeps them, marked" if result["left_out"] else "are marked by a comment"
        click.echo(
            f"Unsure packets may differ from what was sent, because their receiver was done with them before they were "
            f"copied. They {what}. To record exactly, put memif bridge -w FILE between the two.",
            err=to_stderr,
        )
    summarise_files(result["files"], to_stderr=to_stderr)
    if result["relay"] is not None:
        click.echo(
            f"The link stays up: process {result['relay']} passes its control messages on until it ends.", err=to_stderr
        )
