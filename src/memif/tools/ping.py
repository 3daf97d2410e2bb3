"""``memif ping``: ICMP echo requests over memif, in the manner of ping(8)."""

import math
import os
import statistics
import sys
import time
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any

import click

from memif import icmp
from memif.errors import MemifDisconnectedError
from memif.interface import Interface
from memif.tools.options import LinkOptions, examples, link_options, timeout_option
from memif.tools.terminal import fail, print_json
from memif.tools.transfer import come_up
from memif.tools.values import parse_host, parse_mac
from memif.tools.verb import Verb

_ASK_AGAIN = 0.25  # seconds between two ARP requests
_ASK_AT_MOST = 3.0  # seconds until a host that does not answer them is unreachable, as with the kernel
_LONGEST = 65536 - 42
_OWN = ("192.168.1.1", "192.168.1.2")  # the second one if the first is the target


@click.command(
    "ping",
    cls=Verb,
    epilog=examples(
        "ping --ip 192.168.1.1 -c 4 192.168.1.2", "ping --role master --mode ip --json -c 100 -i 0.01 192.168.1.2"
    ),
)
@click.argument("target")
@click.option("--ip", metavar="ADDR", help=f"Own IPv4 address.  [default: {_OWN[0]}, for that as target {_OWN[1]}]")
@click.option("--mac", default="02:fe:00:00:00:01", show_default=True, help="Own MAC address.")
@click.option("-c", "--count", type=click.IntRange(0), default=0, help="End after so many requests (0: never).")
@click.option("-i", "--interval", type=click.FloatRange(0), default=1.0, show_default=True, help="Seconds between two.")
@click.option("-s", "--size", type=click.IntRange(0, 65507), default=56, show_default=True, help="Payload bytes.")
@click.option(
    "-W",
    "--wait",
    type=click.FloatRange(0),
    default=1.0,
    show_default=True,
    help="Seconds to wait for the last replies, or twice the longest round trip if that is more (0: without end).",
)
@timeout_option
@click.option("-q", "--quiet", is_flag=True, help="Print the summary only.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@link_options()
def command(link: LinkOptions, target: str, as_json: bool, quiet: bool, timeout: float, **options: Any) -> None:
    """Ping TARGET, an IPv4 address behind the memif interface.

    Lines and counts are those of ping(8). A late reply counts as received, a second one as a duplicate. Replies with a
    wrong ICMP checksum are corrupted, those of another address than TARGET are counted on their own; neither is
    received. Errors are what routers say, and requests whose TARGET does not answer ARP.

    Exit code 0: at least one reply; 1: none, or no link; 2: wrong usage.
    """
    if link.mode != "ip" and options["size"] > _LONGEST:
        raise click.BadParameter(f"at most {_LONGEST} bytes with Ethernet headers", param_hint="--size")
    pinger = Pinger(
        where := parse_host(target, "TARGET"),
        own_address(options["ip"], where),
        parse_mac(options["mac"]),
        link.mode != "ip",
        options["count"],
        options["interval"],
        options["size"],
        options["wait"],
        quiet or as_json,
    )
    with link.open("ping") as interface:
        come_up(interface, timeout)
        if not quiet and not as_json:
            click.echo(f"PING {target} over memif, {pinger.size} bytes of data")
        try:
            pinger.run(interface)
        except KeyboardInterrupt:
            pass
        except MemifDisconnectedError as error:
            fail(error)
    print_json(pinger.summary()) if as_json else pinger.print_summary(target)
    sys.exit(0 if pinger.received else 1)


def own_address(text: str | None, target: bytes) -> bytes:
    """Return our IPv4 address, 4 bytes, which must not be the target's; None as text: a default that differs."""
    if text is None:
        return next(raw for raw in (parse_host(own, "--ip") for own in _OWN) if raw != target)
    own = parse_host(text, "--ip")
    if own == target:
        raise click.BadParameter(f"{text!r} is the target's address", param_hint="--ip")
    return own


@dataclass
class Pinger:
    """One run of ping: sends requests, counts the answers, keeps the round-trip times. One thread.

    Attributes:
        target: IPv4 address to ping, 4 bytes.
        own: Our IPv4 address.
        mac: Our MAC address.
        ethernet: Whether packets have an Ethernet header.
        count: Requests after which to end; 0: no limit.
        interval: Seconds between two requests.
        size: Bytes of data of a request.
        wait: Seconds to wait for the last replies; 0: no limit.
        quiet: Do not print a line for each reply.
        peer_mac: The target's MAC address, once it is known.
        sent: Requests.
        received: Requests with a reply.
        duplicates: Further replies to the same request.
        corrupted: Replies with a wrong checksum.
        errors: ICMP errors, and requests whose target does not answer ARP.
        others: Replies from other addresses than the target.
        wrong_data: Replies whose data is not that of the request.
        times: Round-trip times in seconds.
        asked: When each of the last 65536 requests was sent, by sequence number.
        answered: Sequence numbers with a reply.
        waiting: Sequence numbers without any answer.
        identifier: Of all requests.
        started: When it began, by `time.monotonic`.
    """

    target: bytes
    own: bytes
    mac: bytes
    ethernet: bool
    count: int
    interval: float
    size: int
    wait: float
    quiet: bool
    peer_mac: bytes | None = None
    sent: int = 0
    received: int = 0
    duplicates: int = 0
    corrupted: int = 0
    errors: int = 0
    others: int = 0
    wrong_data: int = 0
    times: list[float] = field(default_factory=list)
    asked: dict[int, float] = field(default_factory=dict)
    answered: set[int] = field(default_factory=set)
    waiting: set[int] = field(default_factory=set)
    identifier: int = field(default_factory=lambda: os.getpid() & 0xFFFF)
    started: float = field(default_factory=time.monotonic)

    def run(self, interface: Interface) -> None:
        """Send and receive until the count is reached and answered, or time is up."""
        following = time.monotonic()
        while not self.done:
            if (now := time.monotonic()) >= following:
                self._send(interface)
                following = max(following + self.interval, now)
            else:
                self._receive(interface, min(following - now, 0.1))
        last = time.monotonic()
        while self.waiting and time.monotonic() < last + self.patience:
            self._receive(
                interface, 0.1 if not self.wait else min(max(last + self.patience - time.monotonic(), 0), 0.1)
            )

    @property
    def done(self) -> bool:
        """All requests are sent."""
        return 0 < self.count <= self.sent

    @property
    def patience(self) -> float:
        """Seconds to wait for replies to the last request."""
        return max(self.wait, 2 * max(self.times, default=0.0)) if self.wait else math.inf

    def _send(self, interface: Interface) -> None:
        self.sent += 1
        sequence = self.sent & 0xFFFF
        if self.ethernet and self.peer_mac is None and not self._resolve(interface):
            self.errors += 1
            self._say(f"From {IPv4Address(self.own)} icmp_seq={sequence} {icmp.HOST_UNREACHABLE}")
            return
        packet = icmp.echo_request(self.own, self.target, self.identifier, sequence, self.size)
        if self.ethernet:
            assert self.peer_mac is not None
            packet = (icmp.encapsulate(self.mac, self.peer_mac) + packet).ljust(60, b"\0")
        self.answered.discard(sequence)
        self.asked[sequence] = time.perf_counter()
        if interface.tx[0].send([packet]):
            self.waiting.add(sequence)

    def _resolve(self, interface: Interface) -> bool:
        """Ask for the target's MAC address."""
        deadline = time.monotonic() + min(self.wait or _ASK_AT_MOST, _ASK_AT_MOST)
        while self.peer_mac is None and (left := deadline - time.monotonic()) > 0:
            interface.tx[0].send([icmp.arp(1, self.mac, self.own, b"", self.target)])
            again = time.monotonic() + min(left, _ASK_AGAIN)
            while self.peer_mac is None and (left := again - time.monotonic()) > 0:
                self._receive(interface, left)
        return self.peer_mac is not None

    def _receive(self, interface: Interface, timeout: float) -> None:
        for queue in interface.rx:
            with queue.recv(64, timeout if queue.index == 0 else 0) as burst:
                now = time.perf_counter()
                for packet in burst:
                    self._packet(interface, bytes(packet), now)

    def _packet(self, interface: Interface, packet: bytes, now: float) -> None:
        if self.ethernet:
            kind, packet = packet[12:14], packet[14:]
            if kind == b"\x08\x06":
                self._arp(interface, packet)
            if kind != b"\x08\x00":
                return
        message = icmp.parse(packet, self.own)
        if message is None or message.identifier != self.identifier or message.sequence not in self.asked:
            return
        if message.kind == icmp.ECHO_REPLY:
            self._reply(message, now)
        elif message.data == self.target:
            self._error(message)

    def _arp(self, interface: Interface, frame: bytes) -> None:
        read = icmp.parse_arp(frame)
        if read is None:
            return
        operation, sender_mac, sender, asked = read
        if operation == 2 and sender == self.target and not sender_mac[0] & 1:
            self.peer_mac = sender_mac
        elif operation == 1 and asked == self.own:
            interface.tx[0].send([icmp.arp(2, self.mac, self.own, sender_mac, sender)])

    def _error(self, message: icmp.Message) -> None:
        self.errors += 1
        self.waiting.discard(message.sequence)
        wrong = "" if message.valid else " (BAD CHECKSUM)"
        self._say(f"From {message.source} icmp_seq={message.sequence} {message.error}{wrong}")

    def _reply(self, message: icmp.Message, now: float) -> None:
        """Count a reply in exactly one way."""
        sequence, trip = message.sequence, now - self.asked[message.sequence]
        remark = ""
        if not message.valid:
            self.corrupted += 1
            remark = " (BAD CHECKSUM!)"
        elif message.source.packed != self.target:
            self.others += 1
            remark = " (DIFFERENT ADDRESS!)"
        elif sequence in self.answered:
            self.duplicates += 1
            remark = " (DUP!)"
        else:
            self.received += 1
            self.times.append(trip)
            self.answered.add(sequence)
            self.waiting.discard(sequence)
        head = f"{message.size} bytes from {message.source}: icmp_seq={sequence} ttl={message.ttl}"
        self._say(f"{head} time={1e3 * trip:.3f} ms{remark}")
        if message.valid and (wrong := icmp.difference(message.data, self.size)) is not None:
            self.wrong_data += 1
            self._say(wrong)

    def _say(self, line: str) -> None:
        if not self.quiet:
            click.echo(line)

    def summary(self) -> dict[str, Any]:
        """Return the counts, and the round-trip times in milliseconds."""
        milliseconds = [1e3 * t for t in self.times]
        times = (
            {
                "min": min(milliseconds),
                "avg": statistics.fmean(milliseconds),
                "max": max(milliseconds),
                "mdev": statistics.pstdev(milliseconds),
            }
            if milliseconds
            else None
        )
        return {
            "transmitted": self.sent,
            "received": self.received,
            "duplicates": self.duplicates,
            "corrupted": self.corrupted,
            "errors": self.errors,
            "from_others": self.others,
            "wrong_data": self.wrong_data,
            "loss_percent": 100 * (self.sent - self.received) / self.sent if self.sent else 0.0,
            "time_ms": 1e3 * (time.monotonic() - self.started),
            "rtt_ms": times,
        }

    def print_summary(self, target: str) -> None:
        """Print the same as ping(8) does."""
        s = self.summary()
        counts = ("duplicates", "corrupted", "errors", "from_others", "wrong_data")
        extra = "".join(f", +{s[name]} {name.replace('_', ' ')}" for name in counts if s[name])
        click.echo(f"\n--- {target} ping statistics ---")
        click.echo(
            f"{s['transmitted']} packets transmitted, {s['received']} received{extra}, "
            f"{s['loss_percent']:.3g}% packet loss, time {s['time_ms']:.0f}ms"
        )
        if s["rtt_ms"] is not None:
            click.echo("rtt min/avg/max/mdev = {min:.3f}/{avg:.3f}/{max:.3f}/{mdev:.3f} ms".format(**s["rtt_ms"]))
