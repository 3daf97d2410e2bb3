"""``memif send``: generate traffic."""

import random
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from memif.errors import MemifDisconnectedError, MemifError
from memif.interface import Interface
from memif.ring import TxQueue
from memif.tools.intervals import Intervals, Totals
from memif.tools.linking import Waiting, come_up
from memif.tools.neighbour import find_mac
from memif.tools.options import (
    LinkOptions,
    examples,
    iperf_options,
    json_option,
    link_options,
    timeout_option,
)
from memif.tools.terminal import Stop, print_json
from memif.tools.transfer import Pacer, drain, pause, wait_room
from memif.tools.values import Count, Rate, RateType, seconds, si
from memif.tools.verb import Verb

if TYPE_CHECKING:
    from memif.tools.received import Received

_BURST = 256
#: Without other wishes: what every peer takes, for as long as iperf3 sends.
_RATE = "10k"
_SECONDS = 10.0
#: Seconds to wait for what comes back after the last packet.
_LAST = 0.5


@click.command(
    "send",
    cls=Verb,
    epilog=examples(
        "send --count 1M --size 64",
        "send --size imix --rate 100Mbit --duration 10",
        "send --size 64:7,590:4,1514:1 --increment dst-ip:250",
        "send --pcap flows.pcapng --rate 10k",
    ),
)
@click.option(
    "-k",
    "--count",
    type=Count(),
    help=f"End after so many packets (0: never).  [default: end after {_SECONDS:g} seconds]",
)
@click.option(
    "--rate",
    type=RateType(),
    default=_RATE,
    show_default=True,
    help="Packets (100k) or bits (10Mbit) a second; max: all that the peer takes.",
)
@click.option(
    "-l",
    "--size",
    metavar="SIZES",
    help="Bytes of a packet (default 64); a mix as 64,1500 or 64:7,1514:1 (size:weight), or imix.",
)
@click.option("--hex", "template", metavar="HEX", help="Send this packet, written in hex.")
@click.option(
    "--pcap",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Send the packets of this capture in turn.",
)
@click.option(
    "--increment",
    "increments",
    multiple=True,
    metavar="FIELD:N",
    help="Count a field through N values: "
    "src-mac, dst-mac, src-ip, dst-ip, src-port, dst-port. Can be given several times.",
)
@click.option("--src-mac", default="02:fe:00:00:00:01", show_default=True, help="Source MAC address.")
@click.option(
    "--dst-mac",
    default="02:fe:00:00:00:02",
    show_default=True,
    help="Destination MAC address; auto: what --dst-ip answers to ARP.",
)
@click.option("--src-ip", default="198.18.0.1", show_default=True, help="Source address.")
@click.option("--dst-ip", default="198.19.0.1", show_default=True, help="Destination address.")
@click.option("--src-port", type=click.IntRange(0, 65535), default=1024, show_default=True, help="Source UDP port.")
@click.option("--dst-port", type=click.IntRange(0, 65535), default=9, show_default=True, help="Destination UDP port.")
@click.option(
    "--stamp/--no-stamp",
    default=None,
    help="Number and time each packet, for memif sink (default: yes, unless --hex or --pcap).",
)
@click.option("--drop", is_flag=True, help="Do not wait when the ring is full: drop, and count.")
@click.option("--bidir", is_flag=True, help="Measure what memif sink --bidir sends back, too.")
@iperf_options
@timeout_option
@json_option
@link_options()
def command(link: LinkOptions, as_json: bool, timeout: float, interval: float, **options: Any) -> None:
    """Send packets: UDP of one size or a mix, or a template, at a rate or as fast as the peer takes them.

    Packets that do not fit the ring wait, unless --drop. Ends after --count, --duration or with Ctrl-C. When the peer
    goes, waits --timeout for it to come back. A line for each interval, in the manner of iperf3.
    """
    from memif.tools.received import Received
    from memif.tools.traffic import asks_for_mac, pool_from_options

    if options["count"] is None and options["duration"] is None:
        options["duration"] = _SECONDS
    ask = asks_for_mac(options, link.mode)
    pool = pool_from_options(options, link.mode)
    rate = None if options["rate"].amount == float("inf") else options["rate"]
    sender = PacedSender(pool, options["count"] or 0, rate, drop=options["drop"])
    if options["bidir"]:
        sender.back = Received(link.mode)
    with link.open("send") as interface, Stop(options["duration"]) as stop:
        with stop.paused():
            come_up(interface, timeout, waiting := Waiting(interface))
            if ask is not None:
                options["dst_mac"] = find_mac(interface, *ask, timeout).hex(":")
                sender.pool = pool_from_options(options, link.mode)
        error = sender.run(interface, stop, Intervals(0 if as_json else interval), waiting, timeout)
        result = sender.result(interface, stop.elapsed)
        drain(interface)
        sender.await_rest(interface)
        result["back"] = None if sender.back is None else sender.back.result()
    print_json(result) if as_json else report(result)
    if error is not None:
        raise error


@dataclass
class PacedSender:
    """Sends rows of a pool at a rate, on all queues in turn. One thread.

    Attributes:
        pool: The `memif.tools.traffic.PacketPool`.
        count: Packets after which to end; 0: no limit.
        rate: How fast; None: as fast as the peer takes them.
        drop: Drop packets when the ring is full instead of waiting.
        sent: Packets sent.
        bytes: Bytes sent.
        dropped: Packets dropped.
        back: What comes back, if that is to be measured.
        at: The next row of the pool.
        numbers: The next number of each queue's stream.
        stream: Number of the first queue's stream.
    """

    pool: Any
    count: int
    rate: Rate | None
    drop: bool = False
    sent: int = 0
    bytes: int = 0
    dropped: int = 0
    back: "Received | None" = None
    at: int = 0
    numbers: dict[int, int] = field(default_factory=dict)
    stream: int = field(default_factory=lambda: random.randrange(256))

    def __post_init__(self) -> None:
        from memif.tools.stamp import stamp  # which loads numpy

        self._stamp = stamp

    def run(
        self, interface: Interface, stop: Stop, lines: Intervals, waiting: Waiting, timeout: float
    ) -> MemifError | None:
        """Send until the count is reached or `stop` is set, over all links.

        Args:
            interface: The interface, which is up.
            stop: Ends it at any time.
            lines: Shows the progress.
            waiting: Says who comes and goes.
            timeout: Seconds to wait for a peer that has gone.

        Returns:
            The error that ended it early, if there was one.
        """
        pace = None if self.rate is None else Pacer(self.rate.packets(self.pool.mean))
        turn = 0
        while not stop and not self._complete:
            try:
                turn += self._step(interface, stop, pace, turn)
            except MemifDisconnectedError:
                waiting.lost()
                try:
                    come_up(interface, timeout, waiting, stop)
                except MemifError as final:
                    return final
                if pace is not None:
                    pace.restart(self._done)
            if lines.due:
                lines.show(**self._totals())
        lines.finish(**self._totals())
        return None

    @property
    def _done(self) -> int:
        return self.sent + self.dropped

    @property
    def _complete(self) -> bool:
        return 0 < self.count <= self._done

    def _step(self, interface: Interface, stop: Stop, pace: "Pacer | None", turn: int) -> int:
        """Send what is due, or wait a little; return the bursts sent: 0 or 1."""
        burst = min(_BURST, self.count - self._done) if self.count else _BURST
        wait = 0.0
        if pace is not None:
            due, wait = pace.due(self._done)
            burst = min(due, burst)
        if burst:
            self._burst(interface.tx[turn % len(interface.tx)], burst)
        if self.back is not None:
            self._take_back(interface, min(wait, stop.left()))
        elif not burst:
            pause(interface, wait, stop)
        return int(burst > 0)

    def _take_back(self, interface: Interface, timeout: float) -> int:
        """Count what has come back; return how many packets."""
        assert self.back is not None
        before = self.back.packets
        for queue in interface.rx:
            with queue.recv(_BURST, timeout if queue.index == 0 else 0) as burst:
                if burst:
                    self.back.add(burst)
        return self.back.packets - before

    def await_rest(self, interface: Interface) -> None:
        """Wait for what still comes back."""
        if self.back is None:
            return
        with suppress(MemifDisconnectedError):
            while self._take_back(interface, _LAST):
                pass

    def _totals(self) -> dict[str, Totals]:
        sent = {"tx": Totals(self.sent, self.bytes, self.dropped)}
        return sent if self.back is None else sent | {"rx": self.back.totals}

    def _burst(self, queue: TxQueue, count: int) -> None:
        pool = self.pool
        low, high = self.at, min(self.at + count, len(pool.lengths))
        number = self.numbers.get(queue.index, 0)
        rows = pool.matrix[low:high]
        if pool.stamp_at is not None:
            self._stamp(rows, pool.stamp_at, (self.stream + queue.index) & 255, number)
        sent = queue.send_array(rows, pool.lengths[low:high])
        self.sent += sent
        self.bytes += pool.ends[low + sent] - pool.ends[low]
        done = high - low if self.drop else sent
        self.dropped += done - sent
        self.numbers[queue.index] = number + done
        self.at = (low + done) % len(pool.lengths)
        if sent < high - low and not self.drop and self.back is None:
            wait_room(queue)

    def result(self, interface: Interface, elapsed: float) -> dict[str, Any]:
        """Return the counts and rates."""
        return {
            "packets": self.sent,
            "bytes": self.bytes,
            "seconds": elapsed,
            "dropped": self.dropped,
            "pps": self.sent / elapsed if elapsed else 0.0,
            "bps": 8 * self.bytes / elapsed if elapsed else 0.0,
            "stamped": self.pool.stamp_at is not None,
            "interrupts": sum(queue["interrupts_sent"] for queue in interface.stats["tx"]),
        }


def report(result: dict[str, Any]) -> None:
    """Print the result for people."""
    dropped = f", {result['dropped']} dropped (ring full)" if result["dropped"] else ""
    click.echo(f"{result['packets']} packets, {si(result['bytes'], 'B')} sent in {seconds(result['seconds'])}{dropped}")
    click.echo(
        f"  {si(result['pps'], 'pps')}, {si(result['bps'], 'bit/s')}{'' if result['stamped'] else ', without stamps'}"
    )
    if result["back"] is not None:
        from memif.tools import received

        click.echo("and back:")
        received.report(result["back"])
        if not result["back"]["packets"]:
            click.echo("  is the other end memif sink --bidir?")
