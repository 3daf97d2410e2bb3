"""``memif replay``: send the packets of a capture file."""

import bisect
import sys
import time
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import click

from memif.errors import MemifDisconnectedError, MemifValueError
from memif.interface import Interface
from memif.tools.options import (
    Link,
    complete_file,
    duration_option,
    examples,
    fail,
    interval_option,
    json_option,
    link_options,
    print_json,
    timeout_option,
)
from memif.tools.receive import announce
from memif.tools.status import Status
from memif.tools.stop import Stop
from memif.tools.transmit import drain, wait_room
from memif.tools.units import Count, seconds, si

_BURST = 256
#: Packets and bytes that are read ahead: all of an ordinary file, so that neither a loop nor top speed waits for it.
_CHUNK, _CHUNK_BYTES = 1_000_000, 512 << 20
_LONGEST = 65536


@click.command(
    "replay",
    epilog=examples("replay trace.pcapng", "replay --speed 10 trace.pcap", "replay --top-speed --loop 100 trace.pcap"),
)
@click.argument("file", shell_complete=complete_file)
@click.option(
    "-x",
    "--speed",
    type=click.FloatRange(0, min_open=True),
    default=1.0,
    show_default=True,
    metavar="FACTOR",
    help="So many times as fast as recorded.",
)
@click.option("-t", "--top-speed", is_flag=True, help="As fast as the peer takes them.")
@click.option("-l", "--loop", type=Count(), default=1, show_default=True, help="Play the file so often (0: for ever).")
@click.option("-c", "--count", type=Count(), default=0, help="End after so many packets (0: never).")
@duration_option
@interval_option
@timeout_option
@json_option
@link_options()
def command(
    link: Link,
    as_json: bool,
    file: str,
    timeout: float,
    interval: float,
    speed: float,
    top_speed: bool,
    loop: int,
    count: int,
    duration: float | None,
) -> None:
    """Send the packets of FILE, pcap or pcapng (- for standard input), with the times between them as recorded.

    Packets of another link type than the interface's mode are passed over. The ring being full delays the rest;
    nothing is dropped.
    """
    player = Player(file, link.mode, None if top_speed else speed, count)
    player.load()
    if file == "-" and loop != 1 and player.more:
        raise click.UsageError(f"standard input is too long to loop: more than {_CHUNK} packets")
    with link.open(name="replay") as interface, Stop(duration) as stop:
        stop.wait_up(interface, timeout)
        total = count or (len(player.packets) * loop if not player.more and loop else None)
        with Status("replay", 0 if as_json else interval, total=total) as status:
            if not as_json:
                announce(interface, status.say)
            error = player.run(interface, stop, status, loop)
        result = player.result(stop.elapsed)
        drain(interface)
    print_json(result) if as_json else report(result)
    if player.truncated:
        fail(f"{file}: ends in the middle of a packet; those before it were sent")
    if error is not None:
        fail(str(error))
    if error is not None or player.truncated:
        sys.exit(1)


@dataclass
class Player:
    """Reads a capture in large chunks and sends it by the burst. `speed` None is top speed. One thread."""

    path: str
    mode: str
    speed: float | None
    count: int = 0
    packets: list[bytes] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    more: bool = False
    sent: int = 0
    bytes: int = 0
    passed_over: int = 0
    cut: int = 0
    truncated: bool = False

    def load(self) -> None:
        """Open the file and read the first chunk; raises what `memif.capture.CaptureReader` raises."""
        from memif.capture import CaptureFormatError, CaptureReader
        from memif.tools.filters import matches_mode

        self.passed_over = self.cut = 0
        self._reader = CaptureReader("-" if self.path == "-" else self.path)
        self._source = (packet for packet in self._reader if self._usable(packet, matches_mode))
        self._origin: int | None = None
        self._next_chunk()
        if not self.packets:
            self._reader.close()
            raise CaptureFormatError(f"{self.path}: no packets for mode {self.mode} in there")

    def _usable(self, packet: Any, matches: Any) -> bool:
        if not matches(packet.linktype, self.mode) or not 0 < len(packet.data) <= _LONGEST:
            self.passed_over += 1
            return False
        self.cut += packet.original_length > len(packet.data)
        return True

    def _next_chunk(self) -> None:
        chunk, size = [], 0
        for packet in islice(self._source, _CHUNK):
            chunk.append(packet)
            size += len(packet.data)
            if size >= _CHUNK_BYTES:
                break
        self.more = len(chunk) == _CHUNK or size >= _CHUNK_BYTES
        self.packets = [packet.data for packet in chunk]
        if chunk and self._origin is None:
            self._origin = chunk[0].timestamp_ns
        # Times never go back: a file that is not in order plays in the order of the file.
        latest = 0.0
        self.times = []
        for packet in chunk:
            latest = max(latest, (packet.timestamp_ns - (self._origin or 0)) * 1e-9)
            self.times.append(latest)
        if not self.more:
            self.truncated = self._reader.truncated
            self._reader.close()

    def run(self, interface: Interface, stop: Stop, status: Status, loop: int) -> MemifDisconnectedError | None:
        """Send the file so often. -> the error that ended it early, if one did."""
        whole = not self.more
        try:
            for turn in range(loop) if loop else iter(int, 1):
                if turn and not whole:
                    self.load()
                start = time.perf_counter()
                while self.packets:
                    self._chunk(interface, stop, status, start)
                    if stop or self._full() or whole:
                        break
                    self._next_chunk()
                if stop or self._full():
                    break
        except MemifDisconnectedError as error:
            return error
        finally:
            self._reader.close()
        return None

    def _full(self) -> bool:
        return bool(self.count) and self.sent >= self.count

    def _chunk(self, interface: Interface, stop: Stop, status: Status, start: float) -> None:
        at, turn = 0, 0
        while at < len(self.packets) and not stop and not self._full():
            end = self._due(at, start, interface, stop)
            if self.count:
                end = min(end, at + self.count - self.sent)
            if end > at:
                at += self._send(interface, turn, at, end)
                turn += 1
            status.tick(self.sent, self.bytes)

    def _due(self, at: int, start: float, interface: Interface, stop: Stop) -> int:
        """The first packet that may not go yet, one burst ahead at most; waits when that is the next one."""
        if self.speed is None:
            return min(at + _BURST, len(self.packets))
        now = (time.perf_counter() - start) * self.speed
        end = bisect.bisect_right(self.times, now, at, min(at + _BURST, len(self.times)))
        if end == at:
            wait = (self.times[at] - now) / self.speed
            if wait > 0.003:
                interface.socket.poll(min(wait - 0.002, stop.left()))  # epoll counts in milliseconds
            elif wait > 0.0002:
                time.sleep(wait - 0.0001)
        return end

    def _send(self, interface: Interface, turn: int, at: int, end: int) -> int:
        queue = interface.tx[turn % len(interface.tx)]
        packets = self.packets[at:end]
        try:
            sent = int(queue.send(packets))
        except MemifValueError as error:
            raise MemifValueError(f"packet {at + 1} or later of {self.path}: {error.detail}") from error
        self.sent += sent
        self.bytes += sum(map(len, packets[:sent]))
        if sent < len(packets):
            wait_room(queue)
        return sent

    def result(self, elapsed: float) -> dict[str, Any]:
        """The numbers."""
        return {
            "packets": self.sent,
            "bytes": self.bytes,
            "seconds": elapsed,
            "pps": self.sent / elapsed if elapsed else 0.0,
            "bps": 8 * self.bytes / elapsed if elapsed else 0.0,
            "passed_over": self.passed_over,
            "cut": self.cut,
            "truncated_file": self.truncated,
        }


def report(result: dict[str, Any]) -> None:
    """The result for people."""
    click.echo(f"{result['packets']} packets, {si(result['bytes'], 'B')} sent in {seconds(result['seconds'])}")
    click.echo(f"  {si(result['pps'], 'pps')}, {si(result['bps'], 'bit/s')}")
    if result["passed_over"]:
        click.echo(f"  {result['passed_over']} passed over: empty, too long, or of another link type")
    if result["cut"]:
        click.echo(f"  {result['cut']} were cut by the capture's snap length and sent as they are")
