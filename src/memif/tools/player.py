"""Sending a capture file: `Player`; `Pace` says when each packet is due, from the times in the capture."""

import bisect
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from memif.capture import CaptureFormatError, CaptureReader, Packet
from memif.errors import MemifDisconnectedError, MemifError, MemifValueError
from memif.interface import Interface
from memif.tools.files import matches_mode
from memif.tools.linking import Waiting, come_up
from memif.tools.screen import say
from memif.tools.terminal import Status, Stop
from memif.tools.transfer import Pacer, pause, wait_room
from memif.tools.values import Rate

#: The most packets of a burst.
BURST: Final = 256
#: Packets and bytes that are read ahead: all of an ordinary file, so that neither a loop nor top speed waits for it.
CHUNK: Final = 1_000_000
_CHUNK_BYTES: Final = 512 << 20
_LONGEST: Final = 65536
#: A wait for the next packet, in seconds, that is reported.
_LONG_WAIT: Final = 5.0
_SECOND: Final = 1_000_000_000
#: A clock that starts at 0 has reached no more than this when the next packet comes; otherwise 0 means "no time".
_DAY: Final = 86400 * _SECOND


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
class Replay:
    """All files of one run, and what has been sent of them.

    Attributes:
        interface: The interface.
        stop: Ends it at any time.
        status: Shows the progress.
        waiting: Says who comes and goes.
        timeout: Seconds to wait for a peer that has gone.
        rate: A rate instead of the recorded times; None: those.
        limit: Packets after which to end; 0: never.
        sent: Packets sent.
        size: Bytes sent.
    """

    interface: Interface
    stop: Stop
    status: Status
    waiting: Waiting
    timeout: float
    rate: Rate | None = None
    limit: int = 0
    sent: int = 0
    size: int = 0

    def __post_init__(self) -> None:
        self._pacer = None if self.rate is None else Pacer(self.rate.amount)
        self._turn = 0

    @property
    def ended(self) -> bool:
        """Whether nothing more is to be sent."""
        return bool(self.stop) or 0 < self.limit <= self.sent

    def tick(self) -> None:
        """Show the progress."""
        self.status.tick(self.sent, self.size)

    def begin(self) -> None:
        """The first packet can be sent now."""
        if self._pacer is not None:
            self._pacer.restart(self._done)

    @property
    def _done(self) -> int:
        return 8 * self.size if self.rate is not None and self.rate.bits else self.sent

    def due(self, packets: list[bytes]) -> int:
        """Return how many of the next packets are due at the rate; wait a little if none is."""
        if self.limit:
            packets = packets[: self.limit - self.sent]
        if self._pacer is None or self.rate is None:
            return len(packets)
        due, wait = self._pacer.due(self._done)
        if not due:
            pause(self.interface, wait, self.stop)
        if not self.rate.bits:
            return min(due, len(packets))
        count = 0
        for packet in packets:
            if due <= 0:
                break
            due -= 8 * len(packet)
            count += 1
        return count

    def send(self, packets: list[bytes]) -> int:
        """Send packets; return how many the peer took, after a pause if that is none."""
        queue = self.interface.tx[self._turn % len(self.interface.tx)]
        sent = int(queue.send(packets))
        self.sent += sent
        self.size += sum(map(len, packets[:sent]))
        if sent:
            self._turn += 1
        else:
            wait_room(queue)  # which raises when the link ends: not with packets to be counted
        return sent

    def reconnect(self) -> float:
        """The peer has gone: wait until it is back; return how long that took, in seconds.

        Raises:
            MemifError: It did not come back in time.
        """
        began = time.perf_counter()
        self.waiting.lost()
        come_up(self.interface, self.timeout, self.waiting, self.stop)
        self.begin()
        return time.perf_counter() - began

    def result(self) -> dict[str, Any]:
        """Return the counts and rates."""
        elapsed = self.stop.elapsed
        return {
            "packets": self.sent,
            "bytes": self.size,
            "seconds": elapsed,
            "pps": self.sent / elapsed if elapsed else 0.0,
            "bps": 8 * self.size / elapsed if elapsed else 0.0,
        }


class Player:
    """Reads a capture in large chunks and sends it by the burst. One thread.

    Attributes:
        path: The file.
        packets: Packets that wait to be sent.
        times: When they are due, seconds after the start.
        more: Whether the file has more packets than those that were read.
        passed_over: Packets that cannot be sent in this mode.
        cut: Packets of which the capture has only the beginning.
        truncated: Whether the file ends in the middle of a packet.
    """

    path: str
    packets: list[bytes]
    times: list[float]
    more: bool
    passed_over: int
    cut: int
    truncated: bool

    def __init__(self, path: str, mode: str, speed: float | None = 1.0, max_gap: float | None = None) -> None:
        """Open nothing yet.

        Args:
            path: The file.
            mode: Of the interface; packets of other link types are skipped.
            speed: How many times as fast as recorded; None: times are not used.
            max_gap: The longest wait for a packet, seconds; None: as recorded.
        """
        self.path, self._mode, self._speed, self._max_gap = path, mode, speed, max_gap
        self.packets, self.times = [], []
        self.passed_over = self.cut = 0
        self.more = self.truncated = False

    def load(self) -> None:
        """Open the file and read the first chunk.

        Raises:
            CaptureFormatError: The file is not a capture, or has no packets for this mode.
            CaptureOSError: The file cannot be read.
        """
        self.passed_over = self.cut = 0
        self._reader = CaptureReader("-" if self.path == "-" else self.path)
        self._source = (packet for packet in self._reader if self.usable(packet))
        self._pace = Pace(self._speed, self._max_gap)
        self._next_chunk()
        if not self.packets:
            self._reader.close()
            raise CaptureFormatError(f"{self.path}: no packets for mode {self._mode} in there")

    def check(self) -> None:
        """Open the file and close it again; raises as `load`, but for what is beyond the beginning."""
        CaptureReader(self.path).close()

    def usable(self, packet: Packet) -> bool:
        """Whether a packet can be sent; counts it if not, or if it is not whole."""
        if not matches_mode(packet.linktype, self._mode) or not 0 < len(packet.data) <= _LONGEST:
            self.passed_over += 1
            return False
        self.cut += packet.original_length > len(packet.data)
        return True

    def _next_chunk(self) -> None:
        chunk, size = [], 0
        for packet in islice(self._source, CHUNK):
            chunk.append(packet)
            size += len(packet.data)
            if size >= _CHUNK_BYTES:
                break
        self.more = len(chunk) == CHUNK or size >= _CHUNK_BYTES
        self.queue(chunk)
        if not self.more:
            self.truncated = self._reader.truncated
            self._reader.close()

    def queue(self, packets: list[Packet]) -> None:
        """Make these the packets that are sent next."""
        self.packets = [packet.data for packet in packets]
        self.times = [self._pace.due(packet.timestamp_ns) for packet in packets]
        self._told = -1

    def play(self, replay: Replay) -> MemifError | None:
        """Send the file once; return the error that ended it early, if there was one."""
        try:
            self._start = time.perf_counter()
            for _ in self._chunks():
                if error := self.send_all(replay):
                    return error
                if replay.ended:
                    break
        finally:
            self._reader.close()
        return None

    def _chunks(self) -> Iterator[None]:
        """Yield once for each chunk, which is in `packets` then. A file of one chunk keeps it for the next turn."""
        if not self.packets:
            self.load()
        yield
        while self.more:
            self._next_chunk()
            yield
            if not self.more:
                self.packets = []

    def send_all(self, replay: Replay) -> MemifError | None:
        """Send the packets that were read, over all links; return the error that ended it early."""
        at = 0
        while at < len(self.packets) and not replay.ended:
            try:
                end = self._due(at, replay)
                if end > at:
                    at += replay.send(self.packets[at:end])
            except MemifDisconnectedError:
                try:
                    self._start += replay.reconnect()
                except MemifError as error:
                    return error
            except MemifValueError as error:
                raise MemifValueError(f"packet {at + 1} or later of {self.path}: {error.detail}") from error
            replay.tick()
        return None

    def _due(self, at: int, replay: Replay) -> int:
        """Return the first packet that is not due yet, a burst ahead at most; wait a little if that is the next one."""
        end = min(at + BURST, len(self.packets))
        if replay.rate is None and self._speed is not None:
            now = time.perf_counter() - self._start
            end = bisect.bisect_right(self.times, now, at, end)
            if end == at:
                self._wait(at, self.times[at] - now, replay)
        return at + replay.due(self.packets[at:end])

    def _wait(self, at: int, wait: float, replay: Replay) -> None:
        if wait > _LONG_WAIT and at != self._told:
            self._told = at
            say(f"the next packet is due in {span(wait)}, as recorded; --maxsleep shortens that")
        if wait > 0.003:
            replay.interface.socket.poll(min(wait - 0.002, replay.stop.left()))  # epoll counts in milliseconds
        elif wait > 0.0002:
            time.sleep(wait - 0.0001)


def span(wait: float) -> str:
    """Format a long time in the largest unit that fits: "12 s", "3.5 hours", "53 years"."""
    for unit, size in (("years", 365.25 * 86400), ("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if wait >= 1.5 * size:
            return f"{wait / size:.3g} {unit}"
    return f"{wait:.3g} s"
