"""The process between two peers: it passes their control messages on, and does nothing else.

`memif.sniff.Sniffer` starts it as ``python -m memif.sniff.relay``. It is separate from the process that records, so
that nothing that happens there (a full disk, a crash, Ctrl-C) closes the control sockets, which would end the link.
When the recorder is gone it accepts no new slaves, and it ends with the last link.
"""

import os
import select
import socket
import struct
import sys
from collections import deque
from contextlib import suppress
from typing import Final

from memif.address import Address, parse_address
from memif.control import transport
from memif.control.acceptor import Gate
from memif.errors import MemifError, MemifStateError
from memif.sniff.report import Kind, Report, Side, send
from memif.system._steady import Descriptor

_READ: Final = select.POLLIN | select.POLLHUP | select.POLLERR
# Messages and descriptors that may wait for one side before the other is no longer read. An honest peer has one of each
# in flight, because it waits for the answer. A hostile one can send 253 descriptors at once.
_MOST_WAITING: Final = 16
_MOST_PAIRS: Final = 256
# A message of the protocol has at most one descriptor. The recorder only needs to know that there were more.
_MOST_REPORTED: Final = 2


class Pair:
    """One slave and its connection to the master. Messages wait here while a socket is full.

    Attributes:
        number: Number of the link.
        socks: The two connections.
        waiting: Messages with their descriptors that wait for each side.
    """

    def __init__(self, number: int, slave: socket.SocketType, master: socket.SocketType) -> None:
        self.number = number
        self.socks: dict[Side, socket.SocketType] = {Side.SLAVE: slave, Side.MASTER: master}
        self.waiting: dict[Side, deque[tuple[bytes, list[Descriptor]]]] = {Side.SLAVE: deque(), Side.MASTER: deque()}

    def flush(self, side: Side) -> None:
        """Send what waits for `side`, until its socket is full."""
        waiting = self.waiting[side]
        while waiting:
            data, fds = waiting[0]
            try:
                _send(self.socks[side], data, fds)
            except BlockingIOError:
                return
            except OSError:
                pass  # gone; reading from it will show that
            waiting.popleft()
            _close(fds)

    def full(self, side: Side) -> bool:
        """Return whether so much waits for `side` that the other side must not be read."""
        waiting = self.waiting[side]
        return len(waiting) >= _MOST_WAITING or sum(len(fds) for _, fds in waiting) >= _MOST_WAITING

    def close(self) -> None:
        """Close both connections."""
        for side, sock in self.socks.items():
            self.flush(side)
            for _, fds in self.waiting[side]:
                _close(fds)
            transport.hang_up(sock)


def _send(sock: socket.SocketType, data: bytes, fds: list[Descriptor]) -> None:
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack(f"{len(fds)}i", *fds))] if fds else []
    sock.sendmsg([data], rights, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


def _close(fds: list[Descriptor]) -> None:
    for fd in fds:
        fd.close()


class Relay:
    """Accepts slaves, connects to the master for each, and passes messages on until recorder and links are gone.

    Args:
        listener: Where slaves connect.
        reports: Socket for reports to the recorder.
        target: Address of the master.
        path: Path of the listener's file, "" for an abstract name.
    """

    def __init__(self, listener: socket.socket, reports: socket.socket, target: str, path: str) -> None:
        self.listener: socket.socket | None = listener
        self.reports: socket.socket | None = reports
        self.target: Address = parse_address(target)
        self._pairs: dict[int, tuple[Pair, Side]] = {}  # by descriptor
        self._count = 0
        self._gate = Gate()
        self._poll = select.poll()
        self._file = path, _inode(path)
        self._poll.register(listener, select.POLLIN)
        self._poll.register(reports, select.POLLIN)
        self._tell(Report(Kind.READY, data=str(os.getpid()).encode()))

    def run(self) -> None:
        """Run until there is nothing left to do."""
        while self.listener is not None or self._pairs:
            for fd, events in self._poll.poll(1000):
                self._event(fd, events)

    def _event(self, fd: int, events: int) -> None:
        if self.listener is not None and fd == self.listener.fileno():
            self._accept()
        elif self.reports is not None and fd == self.reports.fileno():
            self._lost_recorder()
        elif fd in self._pairs:
            pair, side = self._pairs[fd]
            if events & select.POLLOUT:
                pair.flush(side)
            if events & _READ:
                self._pass_on(pair, side)
            self._watch(pair)

    def _accept(self) -> None:
        assert self.listener is not None
        try:
            slave = self._gate.accept(self.listener)
        except OSError:
            return
        if slave is None:
            return
        self._count += 1
        try:
            if len(self._pairs) >= 2 * _MOST_PAIRS:
                raise MemifStateError(f"{_MOST_PAIRS} slaves are connected already")
            master = transport.connect_socket(self.target)
        except MemifError as error:
            transport.hang_up(slave)
            self._tell(Report(Kind.FAILED, self._count, data=str(error).encode()[:900]))
            return
        pair = Pair(self._count, slave, master)
        for side, sock in pair.socks.items():
            self._pairs[sock.fileno()] = (pair, side)
            self._poll.register(sock, select.POLLIN)
        self._tell(Report(Kind.OPEN, pair.number))

    def _pass_on(self, pair: Pair, side: Side) -> None:
        try:
            alive = self._copied(pair, side)
        except BlockingIOError:
            return
        except OSError:
            alive = False
        if not alive:
            self._end(pair, side)

    def _copied(self, pair: Pair, side: Side) -> bool:
        """Pass one message on and report it. The recorder's duplicates are made first, because ours are closed then."""
        data, fds, _ = transport.recv_message(pair.socks[side])
        if not data:
            return False
        self._tell(Report(Kind.MESSAGE, pair.number, side, data, fds[:_MOST_REPORTED]))
        other = Side(1 - side)
        pair.waiting[other].append((data, fds))
        pair.flush(other)
        return True

    def _end(self, pair: Pair, side: Side) -> None:
        for sock in pair.socks.values():
            self._poll.unregister(sock)
            del self._pairs[sock.fileno()]
        pair.close()
        self._tell(Report(Kind.CLOSE, pair.number, side, side.name.lower().encode()))

    def _watch(self, pair: Pair) -> None:
        for side, sock in pair.socks.items():
            if sock.fileno() in self._pairs:
                read = 0 if pair.full(Side(1 - side)) else select.POLLIN
                self._poll.modify(sock, read | (select.POLLOUT if pair.waiting[side] else 0))

    def _tell(self, report: Report) -> None:
        if self.reports is not None:
            send(self.reports, report)

    def _lost_recorder(self) -> None:
        """Stop accepting slaves, because nobody records any more. The present links go on."""
        assert self.reports is not None
        self._poll.unregister(self.reports)
        self.reports.close()
        self.reports = None
        if self.listener is not None:
            self._poll.unregister(self.listener)
            path, found = self._file
            if path and _inode(path) == found:
                with suppress(OSError):
                    os.unlink(path)
            transport.turn_away(self.listener)
            self.listener.close()
            self.listener = None


def _inode(path: str) -> tuple[int, int] | None:
    try:
        info = os.lstat(path)
    except OSError:
        return None
    return info.st_dev, info.st_ino


def main(argv: list[str]) -> None:
    """Run a relay in a process that is forked off.

    The parent ends at once, so that the relay is not a child of the recorder and leaves no zombie process.

    Args:
        argv: Descriptors of the listener and of the report socket, address of the master, path of the listener.
    """
    if os.fork():
        os._exit(0)
    listener, reports = (socket.socket(fileno=int(number)) for number in argv[:2])
    os.chdir("/")
    Relay(listener, reports, argv[2], argv[3]).run()


if __name__ == "__main__":
    main(sys.argv[1:])
