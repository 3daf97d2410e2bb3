"""One run of ``memif ping``: requests out, answers in, each counted in exactly one way."""

import math
import os
import statistics
import time
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any, Final

import click

from memif import icmp
from memif.errors import MemifDisconnectedError
from memif.interface import Interface
from memif.tools.linking import Waiting
from memif.tools.neighbour import ASK_AGAIN
from memif.tools.terminal import Stop

_ASK_AT_MOST: Final = 3.0  # seconds until a host that does not answer them is unreachable, as with the kernel
_FLOOD: Final = 0.01  # seconds that -f waits for a reply before it sends the next request


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
        ttl: Time to live of requests.
        deadline: Seconds after which it ends, which is for `Stop`; None: never. With a `count`, requests are sent until
            as many were answered.
        flood: Send when a reply has come, 100 times a second at least.
        timestamps: Print the time in front of each line.
        outstanding: Say when a request has no answer before the next is sent.
        quiet: Do not print a line for each reply.
        peer_mac: The target's MAC address, once it is known.
        sent: Requests.
        received: Requests with a reply.
        late: Replies of these that came after `wait`.
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
    ttl: int = 64
    deadline: float | None = None
    flood: bool = False
    timestamps: bool = False
    outstanding: bool = False
    quiet: bool = False
    peer_mac: bytes | None = None
    sent: int = 0
    received: int = 0
    late: int = 0
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

    def run(self, interface: Interface, stop: Stop, waiting: Waiting) -> None:
        """Send and receive until the count is reached and answered, or `stop` is set."""
        self._waiting = waiting
        self.started = following = time.monotonic()
        while not self.done and not stop:
            now = time.monotonic()
            if now >= following or (self.flood and self.interval == 0 and not self.waiting):
                self._send(interface, stop)
                following = max(following + max(self.interval, _FLOOD if self.flood else 0), now)
            else:
                self._receive(interface, min(following - now, stop.left()))
        last = time.monotonic()
        while self.waiting and not stop and (left := last + self.patience - time.monotonic()) > 0:
            self._receive(interface, min(left, stop.left()))

    @property
    def done(self) -> bool:
        """No request is left to be sent."""
        return 0 < self.count <= (self.sent if self.deadline is None else self.received + self.errors)

    @property
    def patience(self) -> float:
        """Seconds to wait for replies to the last request."""
        return max(self.wait, 2 * max(self.times, default=0.0)) if self.wait else math.inf

    def _send(self, interface: Interface, stop: Stop) -> None:
        if self.outstanding and self.sent and (last := self.sent & 0xFFFF) in self.waiting:
            self._say(f"no answer yet for icmp_seq={last}")
        self.sent += 1
        sequence = self.sent & 0xFFFF
        self.answered.discard(sequence)
        if self.flood and not self.quiet:
            click.echo(".", nl=False)
        try:
            self._request(interface, sequence, stop)
        except MemifDisconnectedError:
            self._gone()

    def _request(self, interface: Interface, sequence: int, stop: Stop) -> None:
        if self.ethernet and self.peer_mac is None and not self._resolve(interface, stop):
            if not stop:
                self.errors += 1
                self._say(f"From {IPv4Address(self.own)} icmp_seq={sequence} {icmp.HOST_UNREACHABLE}")
            return
        packet = icmp.echo_request(self.own, self.target, self.identifier, sequence, self.size, self.ttl)
        if self.ethernet:
            assert self.peer_mac is not None
            packet = (icmp.encapsulate(self.mac, self.peer_mac) + packet).ljust(60, b"\0")
        self.asked[sequence] = time.perf_counter()
        if interface.tx[0].send([packet]):
            self.waiting.add(sequence)

    def _gone(self) -> None:
        """The link is down: what is on its way is lost, and the next peer may have another address."""
        self.waiting.clear()
        self.peer_mac = None
        self._waiting.lost()

    def _resolve(self, interface: Interface, stop: Stop) -> bool:
        """Ask for the target's MAC address; raise `MemifDisconnectedError` when the link has gone."""
        deadline = time.monotonic() + min(self.wait or _ASK_AT_MOST, _ASK_AT_MOST)
        while self.peer_mac is None and not stop and (left := deadline - time.monotonic()) > 0:
            interface.tx[0].send([icmp.arp(1, self.mac, self.own, b"", self.target)])
            again = time.monotonic() + min(left, ASK_AGAIN)
            while self.peer_mac is None and not stop and (left := again - time.monotonic()) > 0:
                self._receive(interface, min(left, stop.left()))
        return self.peer_mac is not None

    def _receive(self, interface: Interface, timeout: float) -> None:
        self._waiting.tick()
        try:
            for queue in interface.rx:
                with queue.recv(64, timeout if queue.index == 0 else 0) as burst:
                    now = time.perf_counter()
                    for packet in burst:
                        self._packet(interface, bytes(packet), now)
        except MemifDisconnectedError:
            self._gone()
            interface.socket.poll(timeout)

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
        if (mac := icmp.arp_answer(frame, self.target)) is not None:
            self.peer_mac = mac
        elif (read := icmp.parse_arp(frame)) is not None:
            operation, sender_mac, sender, asked = read
            if operation == 1 and asked == self.own:
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
            self.late += 0 < self.wait < trip
            self.times.append(trip)
            self.answered.add(sequence)
            self.waiting.discard(sequence)
        head = f"{message.size} bytes from {message.source}: icmp_seq={sequence} ttl={message.ttl}"
        if self.flood and not remark:
            if not self.quiet:
                click.echo("\b \b", nl=False)
        else:
            self._say(f"{head} time={1e3 * trip:.3f} ms{remark}")
        if message.valid and (wrong := icmp.difference(message.data, self.size)) is not None:
            self.wrong_data += 1
            self._say(wrong)

    def _say(self, line: str) -> None:
        if not self.quiet:
            click.echo(f"[{time.time():.6f}] {line}" if self.timestamps else line)

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
            "late": self.late,
            "duplicates": self.duplicates,
            "corrupted": self.corrupted,
            "errors": self.errors,
            "from_others": self.others,
            "wrong_data": self.wrong_data,
            "loss_percent": 100 * (self.sent - self.received) / self.sent if self.sent else 0.0,
            "time_ms": 1e3 * (time.monotonic() - self.started),
            "rtt_ms": times,
        }
