"""``memif send``: generate traffic."""

import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from memif.errors import MemifDisconnectedError
from memif.interface import Interface
from memif.ring import TxQueue
from memif.tools.options import (
    LinkOptions,
    examples,
    iperf_options,
    json_option,
    link_options,
    timeout_option,
)
from memif.tools.terminal import Status, Stop, print_json
from memif.tools.transfer import announce, come_up, drain, wait_room
from memif.tools.values import Count, Rate, RateType, seconds, si
from memif.tools.verb import Verb

_BURST = 256


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
@click.option("-k", "--count", type=Count(), default=0, help="End after so many packets (0: never).")
@iperf_options
@click.option("--rate", type=RateType(), help="Packets (100k) or bits (10Mbit) a second; default: all that goes.")
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
@click.option("--dst-mac", default="02:fe:00:00:00:02", show_default=True, help="Destination MAC address.")
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
@timeout_option
@json_option
@link_options()
def command(link: LinkOptions, as_json: bool, timeout: float, interval: float, **options: Any) -> None:
    """Send packets: UDP of one size or a mix, or a template, as fast as the peer takes them or at a rate.

    Packets that do not fit the ring wait, unless --drop. Ends after --count, --duration or with Ctrl-C.
    """
    from memif.tools.traffic import pool_from_options

    pool = pool_from_options(options, link.mode)
    with link.open("send") as interface, Stop(options["duration"]) as stop:
        with stop.paused():
            come_up(interface, timeout)
        sender = PacedSender(pool, options["count"], options["rate"], drop=options["drop"])
        total = options["count"] or None
        with Status("send", 0 if as_json else interval, total=total or options["duration"]) as status:
            if not as_json:
                announce(interface, status.say)
            error = sender.run(interface, stop, status, by_time=total is None)
        result = sender.result(interface, stop.elapsed)
        drain(interface)
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
    at: int = 0
    numbers: dict[int, int] = field(default_factory=dict)
    stream: int = field(default_factory=lambda: random.randrange(256))

    def run(self, interface: Interface, stop: Stop, status: Status, *, by_time: bool) -> MemifDisconnectedError | None:
        """Send until the count is reached or `stop` is set; return the error that ended it early, if there was one."""
        per_second = None if self.rate is None else self.rate.packets(self.pool.mean)
        start = time.perf_counter()
        turn = 0
        try:
            while not stop and (not self.count or self.sent + self.dropped < self.count):
                burst = min(_BURST, self.count - self.sent - self.dropped) if self.count else _BURST
                if per_second is not None:
                    burst = self._due(burst, start, per_second, interface, stop)
                if burst:
                    self._burst(interface.tx[turn % len(interface.tx)], burst)
                    turn += 1
                status.tick(
                    self.sent,
                    self.bytes,
                    f"{self.dropped} dropped" if self.dropped else "",
                    stop.elapsed if by_time else None,
                )
        except MemifDisconnectedError as error:
            return error
        return None

    def _due(self, burst: int, start: float, per_second: float, interface: Interface, stop: Stop) -> int:
        """Return how many packets are due; if none is, wait a little."""
        done = self.sent + self.dropped
        elapsed = time.perf_counter() - start
        due = int(elapsed * per_second) + 1 - done
        if due > 0:
            return min(due, burst)
        wait = done / per_second - elapsed
        if wait > 0.003:
            interface.socket.poll(min(wait - 0.002, stop.left()))  # epoll counts in milliseconds
        else:
            time.sleep(max(min(wait, 0.001), 20e-6))
        return 0

    def _burst(self, queue: TxQueue, count: int) -> None:
        pool = self.pool
        low, high = self.at, min(self.at + count, len(pool.lengths))
        number = self.numbers.get(queue.index, 0)
        if pool.stamp_at is not None:
            pool.stamp(low, high, (self.stream + queue.index) & 255, number)
        sent = queue.send_array(pool.matrix[low:high], pool.lengths[low:high])
        self.sent += sent
        self.bytes += int(pool.lengths[low : low + sent].sum())
        done = high - low if self.drop else sent
        self.dropped += done - sent
        self.numbers[queue.index] = number + done
        self.at = (low + done) % len(pool.lengths)
        if sent < high - low and not self.drop:
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
