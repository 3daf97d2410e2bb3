"""Sending what comes from a pipe: `LivePlayer`, and `PacketReader`, which reads it in the background."""

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from memif.capture import CaptureFormatError, CaptureOSError, CaptureReader, Packet
from memif.errors import MemifDisconnectedError, MemifError
from memif.tools.player import BURST, Pace, Player, Replay

#: Seconds to wait for the first packet of a pipe before the link is made.
_FIRST_LOOK: Final = 1.0
#: Packets and bytes of a pipe that are read ahead of the sending.
_AHEAD: Final = 100_000
_AHEAD_BYTES: Final = 64 << 20


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
        self._pace = Pace(self._speed, self._max_gap)
        self._reading = PacketReader(self.path, self.usable)
        if self._reading.wait(_FIRST_LOOK):
            self.queue(self._reading.take(BURST))
            self._check_some()

    def _check_some(self) -> None:
        if self._reading.ended and not self.packets:
            raise CaptureFormatError(f"{self.path}: no packets for mode {self._mode} in there")

    def play(self, replay: Replay) -> MemifError | None:
        """Send until the pipe's end; return the error that ended it early, if there was one."""
        started = False
        while not replay.ended:
            try:
                if not self.packets:
                    self.queue(self._reading.take(BURST))
                if self.packets:
                    if not started:
                        started, self._start = True, time.perf_counter()
                        replay.begin()
                    if error := self.send_all(replay):
                        return error
                    self.packets = []
                elif self._reading.ended:
                    self.truncated = self._reading.truncated
                    if not started:
                        self._check_some()
                    break
                else:
                    self._idle(replay)
            except MemifDisconnectedError:
                try:
                    replay.reconnect()
                except MemifError as error:
                    return error
            except (CaptureFormatError, CaptureOSError) as error:
                return error
        return None

    def _idle(self, replay: Replay) -> None:
        """Wait for the pipe, and serve the link meanwhile."""
        self._reading.wait(replay.stop.left())
        replay.interface.socket.poll(0)
        replay.interface.tx[0].free()  # raises when the link has ended
        replay.tick()
