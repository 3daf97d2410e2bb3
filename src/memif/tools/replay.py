"""``memif replay``: send the packets of a capture file.

`Player` sends a file, `LivePlayer` a pipe, which `PacketReader` reads in the background so that nothing waits for its
end. `Pace` says when each packet is due, from the times in the capture.
"""

import bisect
import os
import stat
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

import click

from memif.capture import CaptureFormatError, CaptureOSError, CaptureReader, Packet
from memif.errors import MemifDisconnectedError, MemifError, MemifValueError
from memif.interface import Interface
from memif.tools.files import matches_mode
from memif.tools.options import (
    LinkOptions,
    complete_file,
    duration_option,
    examples,
    interval_option,
    json_option,
    link_options,
    timeout_option,
)
from memif.tools.terminal import Status, Stop, fail, print_json
from memif.tools.transfer import announce, come_up, drain, wait_room
from memif.tools.values import Count, seconds, si
from memif.tools.verb import Verb

_BURST = 256
#: Packets and bytes that are read ahead: all of an ordinary file, so that neither a loop nor top speed waits for it.
_CHUNK, _CHUNK_BYTES = 1_000_000, 512 << 20
_LONGEST = 65536
#: A wait for the next packet, in seconds, that is reported.
_LONG_WAIT = 5.0
#: Seconds to wait for the first packet of a pipe before the link is made.
_FIRST_LOOK = 1.0
#: Packets and bytes of a pipe that are read ahead of the sending.
_AHEAD: Final = 100_000
_AHEAD_BYTES: Final = 64 << 20
_SECOND: Final = 1_000_000_000
#: A clock that starts at 0 has reached no more than this when the next packet comes; otherwise 0 means "no time".
_DAY: Final = 86400 * _SECOND


@click.command(
    "replay",
    cls=Verb,
    epilog=examples(
        "replay trace.pcapng",
        "replay --multiplier 10 --maxsleep 1000 trace.pcap.gz",
        "replay --topspeed --loop 100 trace.pcap",
    )
    + "\n  tcpdump -i eth0 -U -w - | memif replay --topspeed -",
)
@click.argument("file", shell_complete=complete_file)
@click.option(
    "-x",
    "--multiplier",
    "speed",
    type=click.FloatRange(0, min_open=True),
    default=1.0,
    show_default=True,
    metavar="FACTOR",
    help="So many times as fast as recorded.",
)
@click.option("-t", "--topspeed", "top_speed", is_flag=True, help="As fast as the peer takes them.")
@click.option(
    "--maxsleep",
    "max_gap",
    type=click.FloatRange(0),
    metavar="MS",
    help="Milliseconds to wait for the next packet, at most (default: as recorded).",
)
@click.option("-l", "--loop", type=Count(), default=1, show_default=True, help="Play the file so often (0: for ever).")
@click.option("-L", "--limit", "count", type=Count(), default=0, help="End after so many packets (0: never).")
@duration_option
@interval_option
@timeout_option
@json_option
@link_options()
def command(
    link: LinkOptions,
    as_json: bool,
    file: str,
    timeout: float,
    interval: float,
    speed: float,
    top_speed: bool,
    max_gap: float | None,
    loop: int,
    count: int,
    duration: float | None,
) -> None:
    """Send the packets of FILE, pcap or pcapng (- for standard input), with the times between them as recorded.

    Compressed files are read as they are. Of a pipe each packet is sent as it comes, unless --loop needs all of them.
    Packets without a time go with the one before them. Packets of another link type than the interface's mode are
    passed over. The ring being full delays the rest; nothing is dropped.
    """
    gap = None if max_gap is None else max_gap / 1000
    live = loop == 1 and _is_pipe(file)
    player = (LivePlayer if live else Player)(file, link.mode, None if top_speed else speed, count, gap)
    player.load()
    if file == "-" and loop != 1 and player.more:
        raise click.UsageError(f"standard input is too long to loop: more than {_CHUNK} packets")
    with link.open("replay") as interface, Stop(duration) as stop:
        with stop.paused():
            come_up(interface, timeout)
        total = count or (len(player.packets) * loop if not player.more and loop else None)
        with Status("replay", 0 if as_json else interval, total=total) as status:
            if not as_json:
                announce(interface, status.say)
                player.say = status.say
            error = player.run(interface, stop, status, loop)
        result = player.result(stop.elapsed)
        drain(interface)
    print_json(result) if as_json else report(result)
    if player.truncated:
        fail(f"{file}: ends in the middle of a packet; those before it were sent")
    if error is not None:
        raise error
    if player.truncated:
        sys.exit(1)


class Pace:
    """When each packet is due.

    Packets without a time go with the one before them. Times never go back: a packet that is older than the one before
    goes with it; if the clock was set back by more than a second, the new time counts from then on.
    """

    def __init__(self, speed: float | None, max_gap: float | None = None) -> None:
        """Start at the first packet.

        Args:
            speed: How many times as fast as recorded; None: at once.
            max_gap: The longest wait for a packet in seconds, after `speed`; None: as recorded.
        """
        self._speed, self._max_gap = speed, max_gap
        self._latest: int | None = None
        self._due = 0.0
        self._began_at_zero = False

    def due(self, timestamp_ns: int) -> float:
        """Return the seconds after the first packet at which the next one, which has this time, is due."""
        if self._speed is not None:
            gap = self._gap(timestamp_ns) * 1e-9 / self._speed
            self._due += gap if self._max_gap is None else min(gap, self._max_gap)
        return self._due

    def _gap(self, now: int) -> int:
        """Nanoseconds since the packet before."""
        if now == 0:
            self._began_at_zero |= self._latest is None
            return 0
        if self._latest is None:
            self._latest = 0 if self._began_at_zero and now < _DAY else now
        gap = now - self._latest
        if gap > 0 or gap < -_SECOND:
            self._latest = now
        return max(gap, 0)


@dataclass
class Player:
    """Reads a capture in large chunks and sends it by the burst. One thread.

    Attributes:
        path: The file.
        mode: Of the interface; packets of other link types are skipped.
        speed: How many times as fast as recorded; None: as fast as the peer takes them.
        count: Packets after which to end; 0: no limit.
        max_gap: The longest wait for a packet, seconds; None: as recorded.
        packets: Packets that wait to be sent.
        times: When they are due, seconds after the start.
        say: Called with a line of text about long waits.
        more: Whether the file has more packets than those that were read.
        sent: Packets sent.
        bytes: Bytes sent.
        passed_over: Packets that cannot be sent in this mode.
        cut: Packets of which the capture has only the beginning.
        truncated: Whether the file ends in the middle of a packet.
    """

    path: str
    mode: str
    speed: float | None
    count: int = 0
    max_gap: float | None = None
    packets: list[bytes] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    say: Callable[[str], object] | None = None
    more: bool = False
    sent: int = 0
    bytes: int = 0
    passed_over: int = 0
    cut: int = 0
    truncated: bool = False

    def load(self) -> None:
        """Open the file and read the first chunk.

        Raises:
            CaptureFormatError: The file is not a capture, or has no packets for this mode.
            CaptureOSError: The file cannot be read.
        """
        self.passed_over = self.cut = 0
        self._reader = CaptureReader("-" if self.path == "-" else self.path)
        self._source = (packet for packet in self._reader if self._usable(packet))
        self._pace = Pace(self.speed, self.max_gap)
        self._next_chunk()
        if not self.packets:
            self._reader.close()
            raise CaptureFormatError(f"{self.path}: no packets for mode {self.mode} in there")

    def _usable(self, packet: Packet) -> bool:
        if not matches_mode(packet.linktype, self.mode) or not 0 < len(packet.data) <= _LONGEST:
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
        self._queue(chunk)
        if not self.more:
            self.truncated = self._reader.truncated
            self._reader.close()

    def _queue(self, packets: list[Packet]) -> None:
        """Make these the packets that `_chunk` sends."""
        self.packets: list[bytes] = [packet.data for packet in packets]
        self.times = [self._pace.due(packet.timestamp_ns) for packet in packets]
        self._told = -1

    def run(self, interface: Interface, stop: Stop, status: Status, loop: int) -> MemifError | None:
        """Send the file `loop` times (0: for ever); return the error that ended it early, if there was one."""
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
        """Return the first packet that is not due yet, a burst ahead at most; wait a little if that is the next one."""
        if self.speed is None:
            return min(at + _BURST, len(self.packets))
        now = time.perf_counter() - start
        end = bisect.bisect_right(self.times, now, at, min(at + _BURST, len(self.times)))
        if end == at:
            wait = self.times[at] - now
            if wait > _LONG_WAIT and self.say is not None and at != self._told:
                self._told = at
                self.say(f"the next packet is due in {_span(wait)}, as recorded; --maxsleep shortens that")
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
        """Return the counts and rates."""
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


def _is_pipe(path: str) -> bool:
    """Whether `path` ("-": standard input) is a pipe, a FIFO or a socket, whose end may be far off."""
    try:
        mode = (os.fstat(0) if path == "-" else os.stat(path)).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


class PacketReader:
    """Reads the packets of a pipe in a thread of its own, which ends with the process.

    Attributes:
        truncated: Whether the pipe ended in the middle of a packet; known at its end.
    """

    def __init__(self, path: str, usable: Callable[[Packet], bool]) -> None:
        """Start reading `path`; packets for which `usable` is false are skipped."""
        self._path, self._usable = path, usable
        self._packets: deque[Packet] = deque()
        self._bytes = 0
        self._change = threading.Condition()
        self._ended = False
        self._error: BaseException | None = None
        self.truncated: bool = False
        threading.Thread(target=self._read, name="memif-feed", daemon=True).start()

    def _read(self) -> None:
        try:
            # Without a buffer of Python's: one that a thread is waiting in stops the interpreter's exit.
            source = os.dup(0) if self._path == "-" else os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            with open(source, "rb", buffering=0) as file, CaptureReader(file) as reader:
                for packet in reader:
                    if self._usable(packet):
                        self._put(packet)
                self.truncated = reader.truncated
        except BaseException as error:
            self._error = error
        with self._change:
            self._ended = True
            self._change.notify_all()

    def _put(self, packet: Packet) -> None:
        with self._change:
            while len(self._packets) >= _AHEAD or self._bytes >= _AHEAD_BYTES:
                self._change.wait()
            self._packets.append(packet)
            self._bytes += len(packet.data)
            if len(self._packets) == 1:
                self._change.notify_all()

    def wait(self, timeout: float) -> bool:
        """Wait for packets or the end of the pipe, `timeout` seconds at most; return whether either is there."""
        with self._change:
            return self._change.wait_for(lambda: bool(self._packets) or self._ended, timeout)

    def take(self, most: int) -> list[Packet]:
        """Take the next packets, [] if there is none; raise the error of reading once all before it were taken."""
        with self._change:
            taken = [self._packets.popleft() for _ in range(min(most, len(self._packets)))]
            self._bytes -= sum(len(packet.data) for packet in taken)
            if taken:
                self._change.notify_all()
            elif self._error is not None:
                raise self._error
            return taken

    @property
    def ended(self) -> bool:
        """Whether all packets were taken and no more will come."""
        return self._ended and not self._packets


class LivePlayer(Player):
    """Sends the packets of a pipe as they come."""

    packets: list[bytes]
    truncated: bool

    def load(self) -> None:
        """Start reading; raise an error if what comes within the first second is not a capture."""
        self.more = True  # their number is not known
        self._pace = Pace(self.speed, self.max_gap)
        self._reading = PacketReader(self.path, self._usable)
        if self._reading.wait(_FIRST_LOOK):
            self._queue(self._reading.take(_BURST))
            self._check_some()

    def _check_some(self) -> None:
        if self._reading.ended and not self.packets and not self.sent:
            raise CaptureFormatError(f"{self.path}: no packets for mode {self.mode} in there")

    def run(self, interface: Interface, stop: Stop, status: Status, loop: int) -> MemifError | None:
        """Send until the pipe's end; return the error that ended it early, if there was one."""
        start: float | None = None
        try:
            while not stop and not self._full():
                if not self.packets:
                    self._queue(self._reading.take(_BURST))
                if self.packets:
                    start = time.perf_counter() if start is None else start
                    self._chunk(interface, stop, status, start)
                    self.packets = []
                elif self._reading.ended:
                    self.truncated = self._reading.truncated
                    self._check_some()
                    break
                else:
                    self._idle(interface, stop, status)
        except (MemifDisconnectedError, CaptureFormatError, CaptureOSError) as error:
            return error
        return None

    def _idle(self, interface: Interface, stop: Stop, status: Status) -> None:
        """Wait for the pipe, and serve the link meanwhile."""
        self._reading.wait(stop.left())
        interface.socket.poll(0)
        interface.tx[0].free()  # raises when the link has ended
        status.tick(self.sent, self.bytes)


def _span(wait: float) -> str:
    """Format a long time in the largest unit that fits: "12 s", "3.5 hours", "53 years"."""
    for unit, size in (("years", 365.25 * 86400), ("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if wait >= 1.5 * size:
            return f"{wait / size:.3g} {unit}"
    return f"{wait:.3g} s"


def report(result: dict[str, Any]) -> None:
    """Print the result for people."""
    click.echo(f"{result['packets']} packets, {si(result['bytes'], 'B')} sent in {seconds(result['seconds'])}")
    click.echo(f"  {si(result['pps'], 'pps')}, {si(result['bps'], 'bit/s')}")
    if result["passed_over"]:
        click.echo(f"  {result['passed_over']} passed over: empty, too long, or of another link type")
    if result["cut"]:
        click.echo(f"  {result['cut']} were cut by the capture's snap length and sent as they are")
