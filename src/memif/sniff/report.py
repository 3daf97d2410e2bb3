"""How the relay reports to the recorder what passes: datagrams between the two processes.

Each has a header (kind, side, link number) and a payload: the 128 bytes of a control message with duplicates of its
descriptors, or text.
"""

import enum
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from memif.system._steady import Descriptor, receive as receive_datagram

_HEADER: Final = struct.Struct("<BBHI")
_SIZE: Final = 1024


class Kind(enum.IntEnum):
    """What a report is about."""

    #: The relay runs; the payload is its process number.
    READY = 1
    #: A slave has connected, and the master has accepted.
    OPEN = 2
    #: A control message passed.
    MESSAGE = 3
    #: A link has ended. The payload says which side closed.
    CLOSE = 4
    #: A slave could not be served. The payload says why.
    FAILED = 5


class Side(enum.IntEnum):
    """Who sent a message."""

    SLAVE = 0
    MASTER = 1


@dataclass(frozen=True, slots=True)
class Report:
    """One datagram.

    Attributes:
        kind: What it is about.
        link: Number of the link.
        side: Who sent the message, or closed the link.
        data: The payload.
        fds: Duplicates of the message's descriptors. They are closed with the last reference to them.
    """

    kind: Kind
    link: int = 0
    side: Side = Side.SLAVE
    data: bytes = b""
    fds: Sequence[Descriptor] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The payload as text."""
        return self.data.decode(errors="replace")


def send(sock: socket.socket, report: Report) -> bool:
    """Send without waiting. Returns False when nobody reads: the recorder is gone or far behind."""
    header = _HEADER.pack(report.kind, report.side, 0, report.link)
    try:
        socket.send_fds(sock, [header, report.data], report.fds, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    except OSError:
        return False
    return True


def receive(sock: socket.socket) -> Report | None:
    """Return the next report, None when the relay is gone. Raises ``BlockingIOError`` when there is none yet."""
    try:
        data, fds, _, _ = receive_datagram(sock.fileno(), _SIZE)
    except ConnectionResetError:
        return None
    if len(data) < _HEADER.size:
        return None
    kind, side, _, link = _HEADER.unpack_from(data)
    return Report(Kind(kind), link, Side(side), data[_HEADER.size :], fds)
