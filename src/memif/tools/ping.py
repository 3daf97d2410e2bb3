"""``memif ping``: ICMP echo requests over memif, in the manner of ping(8)."""

import ipaddress
import math
import os
import statistics
import struct
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import click

from memif.errors import MemifDisconnectedError
from memif.interface import Interface
from memif.tools.icmp_responder import parse_mac
from memif.tools.options import Link, examples, link_options, print_json, timeout_option
from memif.tools.transmit import come_up

_ASK_AGAIN = 0.25  # seconds between two ARP requests
_LONGEST = 65536 - 42
_BROADCAST = b"\xff" * 6
_ECHO_REQUEST, _ECHO_REPLY = 8, 0


@click.command(
    "ping",
    epilog=examples(
        "ping --ip 192.168.1.1 -c 4 192.168.1.2", "ping --role master --mode ip --json -c 100 -I 0.01 192.168.1.2"
    ),
)
@click.argument("target")
@click.option("--ip", default="192.168.1.1", show_default=True, metavar="ADDR", help="Own IPv4 address.")
@click.option("--mac", default="02:fe:00:00:00:01", show_default=True, help="Own MAC address.")
@click.option("-c", "--count", type=click.IntRange(0), default=0, help="End after so many requests (0: never).")
@click.option("-I", "--interval", type=click.FloatRange(0), default=1.0, show_default=True, help="Seconds between two.")
@click.option("-S", "--size", type=click.IntRange(0, 65507), default=56, show_default=True, help="Payload bytes.")
@click.option("-W", "--wait", type=click.FloatRange(0), default=1.0, show_default=True, help="Seconds for a reply.")
@timeout_option
@click.option("-q", "--quiet", is_flag=True, help="Print the summary only.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@link_options()
def command(link: Link, target: str, as_json: bool, quiet: bool, timeout: float, **options: Any) -> None:
    """Ping TARGET, an IPv4 address behind the memif interface.

    Exit code 0: at least one reply; 1: none, or no link; 2: wrong usage.
    """
    if link.mode != "ip" and options["size"] > _LONGEST:
        raise click.BadParameter(f"at most {_LONGEST} bytes with Ethernet headers", param_hint="--size")
    pinger = Pinger(
        address(target, "TARGET"),
        address(options["ip"], "--ip"),
        parse_mac(options["mac"]),
        link.mode != "ip",
        options["count"],
        options["interval"],
        options["size"],
        options["wait"],
        quiet or as_json,
    )
    with link.open(name="ping") as interface:
        come_up(interface, timeout)
        if not quiet and not as_json:
            click.echo(f"PING {target} over memif, {pinger.size} bytes of data")
        try:
            pinger.run(interface)
        except KeyboardInterrupt:
            pass
        except MemifDisconnectedError as error:
            click.echo(f"memif: {error}", err=True)
    print_json(pinger.summary()) if as_json else pinger.print_summary(target)
    sys.exit(0 if pinger.times else 1)


def address(text: str, where: str) -> bytes:
    """Four bytes of an IPv4 address."""
    try:
        return ipaddress.IPv4Address(text.partition("/")[0]).packed
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not an IPv4 address", param_hint=where) from error


def checksum(data: bytes) -> int:
    """Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


@dataclass
class Pinger:
    """One run of ping: builds requests, recognises replies, keeps the times (seconds)."""

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
    duplicates: int = 0
    times: list[float] = field(default_factory=list)
    waiting: dict[int, float] = field(default_factory=dict)
    identifier: int = field(default_factory=lambda: os.getpid() & 0xFFFF)
    started: float = field(default_factory=time.monotonic)

    def run(self, interface: Interface) -> None:
        """Send and receive until the count is reached and answered, or time is up."""
        following = time.monotonic()
        end = math.inf
        while (now := time.monotonic()) < end:
            if now >= following and (not self.count or self.sent < self.count):
                self._send(interface, now)
                following = max(following + self.interval, now)
                if self.count and self.sent == self.count:
                    end = time.monotonic() + self.wait
            if self.count and self.sent == self.count and not self.waiting:
                return
            until = end if self.count and self.sent == self.count else following
            self._receive(interface, min(max(until - time.monotonic(), 0), 0.1))

    def _send(self, interface: Interface, now: float) -> None:
        if self.ethernet and self.peer_mac is None and not self._resolve(interface):
            self.sent += 1  # like ping(8): a request that could not be addressed is a lost one
            return
        self.sent += 1
        sequence = self.sent & 0xFFFF
        packet = self._request(sequence)
        self.waiting[sequence] = time.perf_counter()
        if not interface.tx[0].send([packet]):
            del self.waiting[sequence]
        for old in [n for n, t in self.waiting.items() if time.perf_counter() - t > max(self.wait, 1.0)]:
            del self.waiting[old]

    def _resolve(self, interface: Interface) -> bool:
        """Ask for the target's MAC address, for as long as a reply is waited for."""
        deadline = time.monotonic() + self.wait
        while self.peer_mac is None and (left := deadline - time.monotonic()) > 0:
            self._ask(interface)
            again = time.monotonic() + min(left, _ASK_AGAIN)
            while self.peer_mac is None and (left := again - time.monotonic()) > 0:
                self._receive(interface, left)
        return self.peer_mac is not None

    def _ask(self, interface: Interface) -> None:
        request = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, self.mac, self.own, bytes(6), self.target)
        interface.tx[0].send([(_BROADCAST + self.mac + b"\x08\x06" + request).ljust(60, b"\0")])

    def _request(self, sequence: int) -> bytes:
        data = bytes(i & 0xFF for i in range(self.size))
        icmp = struct.pack("!BBHHH", _ECHO_REQUEST, 0, 0, self.identifier, sequence) + data
        icmp = icmp[:2] + struct.pack("!H", checksum(icmp)) + icmp[4:]
        length = 20 + len(icmp)
        header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, length, sequence, 0x4000, 64, 1, 0, self.own, self.target)
        packet = header[:10] + struct.pack("!H", checksum(header)) + header[12:] + icmp
        if not self.ethernet:
            return packet
        assert self.peer_mac is not None
        return (self.peer_mac + self.mac + b"\x08\x00" + packet).ljust(60, b"\0")

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
        if len(packet) < 28 or packet[0] >> 4 != 4 or packet[9] != 1 or packet[16:20] != self.own:
            return
        icmp = packet[(packet[0] & 15) * 4 : int.from_bytes(packet[2:4], "big")]
        if len(icmp) < 8 or icmp[0] != _ECHO_REPLY or checksum(icmp):
            return
        identifier, sequence = struct.unpack("!HH", icmp[4:8])
        if identifier == self.identifier:
            self._reply(sequence, len(icmp), packet[8], now)

    def _arp(self, interface: Interface, arp: bytes) -> None:
        if len(arp) < 28:
            return
        operation, sender_mac, sender = struct.unpack("!H6s4s", arp[6:18])
        if operation == 2 and sender == self.target:
            self.peer_mac = sender_mac
        elif operation == 1 and arp[24:28] == self.own:
            reply = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 2, self.mac, self.own, sender_mac, sender)
            interface.tx[0].send([(sender_mac + self.mac + b"\x08\x06" + reply).ljust(60, b"\0")])

    def _reply(self, sequence: int, size: int, ttl: int, now: float) -> None:
        asked = self.waiting.pop(sequence, None)
        if asked is None:
            self.duplicates += 1
            return
        self.times.append(now - asked)
        if not self.quiet:
            source = ipaddress.IPv4Address(self.target)
            click.echo(f"{size} bytes from {source}: icmp_seq={sequence} ttl={ttl} time={1e3 * (now - asked):.3f} ms")

    def summary(self) -> dict[str, Any]:
        """The counts, and the round-trip times in milliseconds."""
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
            "received": len(self.times),
            "duplicates": self.duplicates,
            "loss_percent": 100 * (self.sent - len(self.times)) / self.sent if self.sent else 0.0,
            "time_ms": 1e3 * (time.monotonic() - self.started),
            "rtt_ms": times,
        }

    def print_summary(self, target: str) -> None:
        """The same as ping(8) prints it."""
        s = self.summary()
        extra = f", +{s['duplicates']} duplicates" if s["duplicates"] else ""
        click.echo(f"\n--- {target} ping statistics ---")
        click.echo(
            f"{s['transmitted']} packets transmitted, {s['received']} received{extra}, "
            f"{s['loss_percent']:.3g}% packet loss, time {s['time_ms']:.0f}ms"
        )
        if s["rtt_ms"] is not None:
            click.echo("rtt min/avg/max/mdev = {min:.3f}/{avg:.3f}/{max:.3f}/{mdev:.3f} ms".format(**s["rtt_ms"]))
