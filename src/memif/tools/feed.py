"""Packets of a pipe as they come: `memif replay` reads it by a thread of its own, so that nothing waits for its end."""

import os
import stat
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from memif.capture import CaptureReader, Packet

#: Packets and bytes that are read ahead of the sending.
_AHEAD: Final = 100_000
_AHEAD_BYTES: Final = 64 << 20


def is_pipe(path: str) -> bool:
    """Whether `path` ("-": standard input) is a pipe, a FIFO or a socket, whose end may be far."""
    try:
        mode = (os.fstat(0) if path == "-" else os.stat(path)).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


class Feed:
    """Reads the packets of `path` in the background, those that `usable` likes. The thread ends with the process."""

    def __init__(self, path: str, usable: Callable[[Packet], bool]) -> None:
        self._path, self._usable = path, usable
        self._packets: deque[Packet] = deque()
        self._bytes = 0
        self._change = threading.Condition()
        self._ended = False
        self._error: BaseException | None = None
        #: True after the end when it was in the middle of a packet.
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
        """Wait until packets are there, or the end, `timeout` seconds at most. -> whether so."""
        with self._change:
            return self._change.wait_for(lambda: bool(self._packets) or self._ended, timeout)

    def take(self, most: int) -> list[Packet]:
        """The next packets, [] when none is there. Raises what reading raised, once all before that were taken."""
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
        """True when all packets were taken and no more will come."""
        return self._ended and not self._packets
