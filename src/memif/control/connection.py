"""One control connection: a socket, its handshake, and the actions that the handshake asks for, carried out.

Nothing here blocks or waits; whoever polls the socket calls `Connection.readable` and `Connection.tick`. What the
connection is for is told to a `Host`: a slave's interface, or the table of interfaces behind a listener.

An exception can come between any two steps: from a signal handler, for lack of memory, out of a user's function. Then
nobody knows how far the handshake and the actions got. So each piece of work says that it has begun, and in the end
that it is done; a connection whose work was begun, not done, and is not at it now is `broken_off`, and the next tick of
the socket ends it by `finish`. Every step of the end can be done again.
"""

import logging
import socket
from collections import deque
from collections.abc import Callable
from typing import Protocol

from memif.control import transport
from memif.errors import ErrorCode, MemifError, MemifProtocolError
from memif.logs import get_logger, of
from memif.memory.mapped import Mapped
from memif.protocol import (
    Action,
    Cause,
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
    State,
    Up,
    encode,
)
from memif.system._steady import Count, discard

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
        """The connection has ended; the socket is closed already. Called again if an exception comes out of it."""


class Connection:
    """A socket with its handshake. Use from one thread at a time (the lock of the `memif.Socket` around it)."""

    def __init__(self, sock: socket.SocketType, handshake: Handshake, host: Host, name: str) -> None:
        """Takes `sock` over. `name` is for the log."""
        self.sock = sock
        #: The socket's descriptor, also once it is closed.
        self.key: int = sock.fileno()
        self.handshake = handshake
        self.host = host
        self.name = name
        self.mapped: Mapped | None = None
        #: Where the peer's process stands, by SO_PEERCRED.
        self.credentials: transport.PeerCredentials = transport.peer_credentials(sock)
        self._unsent: deque[Send] = deque()
        self._at_work = Count()
        self._done = False  # until it has started
        #: Whether it has ended and its owner knows.
        self.ended: bool = False

    @property
    def fd(self) -> int:
        """The socket's descriptor, -1 once closed."""
        return self.sock.fileno()

    @property
    def wants_to_write(self) -> bool:
        """Whether messages wait for room in the socket."""
        return bool(self._unsent)

    @property
    def broken_off(self) -> bool:
        """Whether an exception has left it in the middle of something."""
        return not self._done and not self._at_work and not self.ended

    def start(self) -> None:
        """Begin the handshake."""
        self._work(self.handshake.start)

    def readable(self) -> None:
        """Handle one message, if one is there. Never raises because of the peer."""
        self._work(self._receive)

    def _receive(self) -> list[Action]:
        try:
            data, fds, truncated = transport.recv_message(self.sock)
        except BlockingIOError:
            return []
        except OSError:
            return self.handshake.eof()
        self._trace("received", int.from_bytes(data[:2], "little"), len(fds))
        return self.handshake.receive(data, fds, truncated=truncated)

    def _work(self, what: Callable[[], list[Action]]) -> None:
        """Do `what` and the actions that it gives."""
        with self._at_work:
            self._done = False
            self._do(what())
            self._done = self._at_work.inside == 1  # else it is a part of more work

    def finish(self) -> None:
        """End a connection that is `broken_off`."""
        with self._at_work:
            self._do(self.handshake.disconnect("interrupted"))
            if not self.ended:  # the handshake was at its end already
                self._close(self.handshake.closed or _interrupted(self.handshake))

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
        self._work(lambda: self.handshake.tick(now))

    def disconnect(self, reason: str) -> None:
        """End the connection, telling the peer why."""
        self._work(lambda: self.handshake.disconnect(reason))
        if not self.ended:  # broken off on its way to the end
            self.finish()

    def refuse(self, error: MemifError) -> None:
        """End the connection because of an error on this side; its text goes to the peer."""
        self._work(lambda: self.handshake.refuse(error.detail or str(error), code=error.code))

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
                discard(fd)
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
        transport.hang_up(self.sock)
        if self.mapped is not None:
            self.mapped.close()
            self.mapped = None
        self.host.closed_with(self, end)
        self.ended = True


def _interrupted(handshake: Handshake) -> Close:
    was_up = handshake.negotiated is not None and handshake.state is State.UP
    return Close("", Cause.LOCAL, ErrorCode.DISCONNECTED, "interrupted", was_up)
