"""One control connection: a socket, its handshake, and the actions that the handshake asks for, carried out.

Nothing here blocks or waits; whoever polls the socket calls `Connection.readable` and `Connection.tick`. What the
connection is for is told to a `Host`: a slave's interface, or the table of interfaces behind a listener.
"""

import logging
import os
import socket
from collections import deque
from typing import Protocol

from memif import transport
from memif.errors import ErrorCode, MemifError, MemifProtocolError
from memif.logs import get_logger, of
from memif.memory.mapped import Mapped
from memif.protocol import (
    Action,
    Close,
    CloseFd,
    CreateMemory,
    Handshake,
    MapMemory,
    MasterHandshake,
    MessageType,
    RegionOffer,
    RingOffer,
    Selected,
    Send,
    SlaveHandshake,
    Up,
    encode,
)

_log = get_logger("memif.control")


class Host(Protocol):
    """What a connection needs from its owner."""

    def make_memory(self, wanted: CreateMemory) -> tuple[Mapped, list[RegionOffer], list[RingOffer]]:
        """Slave: the memory of the connection."""

    def take_memory(self, connection: "Connection", wanted: MapMemory) -> Mapped:
        """Master: the memory that the client offers, checked and mapped."""

    def selected(self, connection: "Connection", id: int) -> None:
        """Master: the client asked for interface `id` and may have it."""

    def up_with(self, connection: "Connection") -> None:
        """The link is up; `Connection.mapped` has the rings."""

    def closed_with(self, connection: "Connection", end: Close) -> None:
        """The connection has ended; the socket is closed already."""


class Connection:
    """A socket with its handshake. Use from one thread at a time (the lock of the `memif.Socket` around it)."""

    def __init__(self, sock: socket.socket, handshake: Handshake, host: Host, name: str) -> None:
        """Takes `sock` over. `name` is for the log."""
        self.sock = sock
        self.handshake = handshake
        self.host = host
        self.name = name
        self.mapped: Mapped | None = None
        #: Where the peer's process stands, by SO_PEERCRED.
        self.credentials = transport.peer_credentials(sock)
        self._unsent: deque[Send] = deque()

    @property
    def fd(self) -> int:
        """The socket's descriptor, -1 once closed."""
        return self.sock.fileno()

    @property
    def wants_to_write(self) -> bool:
        """Whether messages wait for room in the socket."""
        return bool(self._unsent)

    def start(self) -> None:
        """Begin the handshake."""
        self._do(self.handshake.start())

    def readable(self) -> None:
        """Handle one message, if one is there. Never raises because of the peer."""
        try:
            data, fds, truncated = transport.recv_message(self.sock)
        except BlockingIOError:
            return
        except OSError:
            self._do(self.handshake.eof())
            return
        self._trace("received", int.from_bytes(data[:2], "little"), len(fds))
        self._do(self.handshake.receive(data, fds, truncated=truncated))

    def leaving(self) -> bool:
        """Whether the next thing to read is the peer's goodbye, or the end of the connection. Reads nothing."""
        try:
            head = self.sock.recv(2, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return not head or int.from_bytes(head, "little") == MessageType.DISCONNECT

    def writable(self) -> None:
        """Send what had to wait."""
        while self._unsent:
            try:
                self._transmit(self._unsent[0])
            except BlockingIOError:
                return
            except OSError:
                self._unsent.clear()
                return
            self._unsent.popleft()

    def tick(self, now: float) -> None:
        """Look at the clock (`time.monotonic`)."""
        self._do(self.handshake.tick(now))

    def disconnect(self, reason: str) -> None:
        """End the connection, telling the peer why."""
        self._do(self.handshake.disconnect(reason))

    def refuse(self, error: MemifError) -> None:
        """End the connection because of an error on this side; its text goes to the peer."""
        self._do(self.handshake.refuse(error.detail or str(error), code=error.code))

    def abandon(self) -> None:
        """Close the descriptors and say nothing: for a forked child, whose parent goes on with the connection."""
        self.sock.close()
        if self.mapped is not None:
            self.mapped.close()

    def _do(self, actions: list[Action]) -> None:
        for action in actions:
            self._one(action)

    def _one(self, action: Action) -> None:
        match action:
            case Send():
                self._send(action)
            case CloseFd(fd):
                os.close(fd)
            case CreateMemory():
                self._create(action)
            case Selected(init):
                self.host.selected(self, init.id)
            case MapMemory():
                self._map(action)
            case Up():
                self.host.up_with(self)
            case Close():
                self._close(action)

    def _send(self, action: Send) -> None:
        if not self._unsent:
            try:
                self._transmit(action)
            except BlockingIOError:
                self._unsent.append(action)
            except OSError:
                pass  # the peer is gone; reading will tell
        elif len(self._unsent) < 4:
            # Each side answers one message at a time, so a queue this long is a peer that does not read.
            self._unsent.append(action)

    def _transmit(self, action: Send) -> None:
        data = encode(action.message)
        transport.send_message(self.sock, data, action.fd)
        self._trace("sent", int.from_bytes(data[:2], "little"), int(action.fd is not None))

    def _trace(self, what: str, number: int, fds: int) -> None:
        if _log.isEnabledFor(logging.DEBUG):  # the name alone: no secret gets into a log
            name = MessageType(number).name if number in set(MessageType) else f"message of type {number}"
            _log.debug("%s: %s %s%s", self.name, what, name, " with a descriptor" * bool(fds), extra=of(self.name))

    def _create(self, wanted: CreateMemory) -> None:
        assert isinstance(self.handshake, SlaveHandshake)
        try:
            self.mapped, regions, rings = self.host.make_memory(wanted)
            actions = self.handshake.offer(regions, rings)
        except MemifError as error:
            # The text only: with the error, a handler that keeps records would keep the memory.
            _log.error("%s: %s", self.name, str(error), extra=of(self.name))
            self.refuse(error)
            return
        except BaseException:  # a user's allocator: the attempt ends, the caller gets to see why
            self._do(self.handshake.refuse("out of memory", code=ErrorCode.NOMEM))
            raise
        self._do(actions)

    def _map(self, wanted: MapMemory) -> None:
        assert isinstance(self.handshake, MasterHandshake)
        try:
            self.mapped = self.host.take_memory(self, wanted)
        except MemifError as error:
            if not isinstance(error, MemifProtocolError):
                _log.error("%s: %s", self.name, str(error), extra=of(self.name))
            self.refuse(error)
            return
        self._do(self.handshake.accept())

    def _close(self, end: Close) -> None:
        self.sock.close()
        mapped, self.mapped = self.mapped, None
        if mapped is not None:
            mapped.close()
        self.host.closed_with(self, end)
