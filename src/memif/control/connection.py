"""One control connection: a socket, its handshake, and the actions that the handshake asks for, carried out.

Nothing here blocks or waits: the poller calls `Connection.ready`, the engine `Connection.tick`. What happens is told to
the interface that the connection is for, its `Host`; before a client has named one, to its `Keeper`.

An exception can come between any two steps: from a signal handler, for lack of memory, out of a user's function. Then
nobody knows how far the handshake and the actions got. So each piece of work notes that it has begun, and at the end
that it is done. A connection whose work was begun and neither done nor is going on was broken off: it is `due` at once,
and the next `tick` ends it. Every step of that end can be done again.
"""

import contextlib
import logging
import select
import socket
from collections import deque
from collections.abc import Callable
from typing import Protocol

from memif.control import transport
from memif.control.poller import Poller
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


class Keeper(Protocol):
    """Who looks after a connection."""

    def closed_with(self, connection: "Connection", end: Close) -> None:
        """The connection has ended; the socket is closed already. Called again if an exception comes out of it."""


class Host(Keeper, Protocol):
    """The interface that a connection is for: a slave's from the start, a master's once the client has named it."""

    def selected(self, connection: "Connection") -> None:
        """Master: the client asked for this interface and may have it."""

    def make_memory(self, wanted: CreateMemory) -> tuple[Mapped, list[RegionOffer], list[RingOffer]]:
        """Slave: the memory of the connection."""

    def take_memory(self, wanted: MapMemory) -> Mapped:
        """Master: the memory that the client offers, checked and mapped."""

    def up_with(self, connection: "Connection") -> None:
        """The link is up; `Connection.mapped` has the rings."""


class Connection:
    """A socket with its handshake. Use from one thread at a time (the lock of the engine around it)."""

    def __init__(
        self,
        sock: socket.SocketType,
        handshake: Handshake,
        keeper: Keeper,
        name: str,
        poller: Poller,
        table: set["Connection"],
        *,
        host: Host | None = None,
    ) -> None:
        """Make a connection that `start` starts.

        Args:
            sock: The control socket, taken over.
            handshake: Of the role that `sock` has.
            keeper: Told of the end, as long as there is no host.
            name: For the log.
            poller: Waits for `sock`, from `start` to the end.
            table: The connections of the engine; this one is in there until its end.
            host: The interface, if it is known.
        """
        self.sock: socket.SocketType = sock
        #: The socket's descriptor, also once it is closed.
        self.key: int = sock.fileno()
        self.handshake: Handshake = handshake
        self.name: str = name
        self.mapped: Mapped | None = None
        #: Where the peer's process stands, by SO_PEERCRED.
        self.credentials: transport.PeerCredentials = transport.peer_credentials(sock)
        #: Whether it has ended and its keeper knows.
        self.ended: bool = False
        self._keeper: Keeper = keeper
        self._host = host
        self._poller = poller
        self._table = table
        self._unsent: deque[Send] = deque()
        self._writing = False
        self._at_work = Count()
        self._done = False  # until it has started
        table.add(self)

    @property
    def fd(self) -> int:
        """The socket's descriptor, -1 once closed."""
        return self.sock.fileno()

    @property
    def due(self) -> float | None:
        """When to call `tick`, by `time.monotonic`: at once after an exception has broken something off."""
        if not (self._done or self._at_work or self.ended):
            return 0.0
        return self.handshake.deadline

    def start(self) -> None:
        """Begin the handshake. Raises what the poller's observer raises; the socket is closed then."""
        try:
            self._poller.add(self.key, self)
        except Exception:
            self.ended = True
            self._table.discard(self)
            transport.hang_up(self.sock)
            raise
        self._work(self.handshake.start)

    def ready(self, events: int) -> bool:
        """The socket can be read or written: handle one message, if one is there. Never raises because of the peer."""
        if events & select.EPOLLOUT:
            self._send_rest()
        if events & ~select.EPOLLOUT:
            self._work(self._receive)
        return True

    def _receive(self) -> list[Action]:
        try:
            data, fds, truncated = transport.recv_message(self.sock)
        except BlockingIOError:
            return []
        except OSError:
            return self.handshake.eof()
        if _log.isEnabledFor(logging.DEBUG):
            self._trace("received", data, len(fds))
        return self.handshake.receive(data, fds, truncated=truncated)

    def _work(self, what: Callable[[], list[Action]]) -> None:
        """Do `what` and the actions that it gives."""
        with self._at_work:
            self._done = False
            for action in what():
                self._one(action)
            self._done = self._at_work.inside == 1  # else it is a part of more work

    def tick(self, now: float) -> None:
        """Look at the clock (`time.monotonic`), and end what an exception has broken off."""
        if self.due == 0.0:
            self._finish()
        else:
            self._work(lambda: self.handshake.tick(now))

    def _finish(self) -> None:
        with self._at_work:
            for action in self.handshake.disconnect("interrupted"):
                self._one(action)
            if not self.ended:  # the handshake was at its end already
                self._close(self.handshake.closed or _interrupted(self.handshake))

    def disconnect(self, reason: str) -> None:
        """End the connection, telling the peer why."""
        self._work(lambda: self.handshake.disconnect(reason))
        if not self.ended:  # broken off on its way to the end
            self._finish()

    def refuse(self, error: MemifError) -> None:
        """End the connection because of an error on this side; its text goes to the peer."""
        self._work(lambda: self.handshake.refuse(error.detail or str(error), code=error.code))

    def abandon(self) -> None:
        """Close the descriptors and say nothing: for a forked child, whose parent goes on with the connection."""
        self.sock.close()
        if self.mapped is not None:
            self.mapped.close()

    def _one(self, action: Action) -> None:
        match action:
            case Send():
                self._send(action)
            case CloseFd(fd):
                discard(fd)
            case CreateMemory():
                self._create(action)
            case Selected(_, owner):
                self._host = self._keeper = owner
                self._host.selected(self)
            case MapMemory():
                self._map(action)
            case Up():
                assert self._host is not None
                self._host.up_with(self)
            case Close():
                self._close(action)

    def _send(self, action: Send) -> None:
        if not self._unsent:
            try:
                self._transmit(action)
            except BlockingIOError:
                self._unsent.append(action)
                self._watch_room()
            except OSError:
                pass  # the peer is gone; reading will tell
        elif len(self._unsent) < 4:
            # Each side answers one message at a time, so a queue this long is a peer that does not read.
            self._unsent.append(action)

    def _send_rest(self) -> None:
        """Send what had to wait."""
        with contextlib.suppress(BlockingIOError):
            try:
                while self._unsent:
                    self._transmit(self._unsent[0])
                    self._unsent.popleft()
            except BlockingIOError:
                raise
            except OSError:
                self._unsent.clear()
        self._watch_room()

    def _watch_room(self) -> None:
        if not self.ended and self._writing != bool(self._unsent):
            self._poller.modify(self.key, writing=not self._writing)
            self._writing = not self._writing

    def _transmit(self, action: Send) -> None:
        data = encode(action.message)
        transport.send_message(self.sock, data, action.fd)
        if _log.isEnabledFor(logging.DEBUG):
            self._trace("sent", data, int(action.fd is not None))

    def _trace(self, what: str, data: bytes, fds: int) -> None:
        number = int.from_bytes(data[:2], "little")  # the name alone: no secret gets into a log
        name = MessageType(number).name if number in set(MessageType) else f"message of type {number}"
        _log.debug("%s: %s %s%s", self.name, what, name, " with a descriptor" * bool(fds), extra=of(self.name))

    def _create(self, wanted: CreateMemory) -> None:
        assert isinstance(self.handshake, SlaveHandshake)
        assert self._host is not None
        try:
            self.mapped, regions, rings = self._host.make_memory(wanted)
            actions = self.handshake.offer(regions, rings)
        except MemifError as error:
            # The text only: with the error, a handler that keeps records would keep the memory.
            _log.error("%s: %s", self.name, str(error), extra=of(self.name))
            self.refuse(error)
            return
        except BaseException:  # a user's allocator: the attempt ends, the caller gets to see why
            for action in self.handshake.refuse("out of memory", code=ErrorCode.NOMEM):
                self._one(action)
            raise
        for action in actions:
            self._one(action)

    def _map(self, wanted: MapMemory) -> None:
        assert isinstance(self.handshake, MasterHandshake)
        assert self._host is not None
        try:
            self.mapped = self._host.take_memory(wanted)
        except MemifError as error:
            if not isinstance(error, MemifProtocolError):
                _log.error("%s: %s", self.name, str(error), extra=of(self.name))
            self.refuse(error)
            return
        for action in self.handshake.accept():
            self._one(action)

    def _close(self, end: Close) -> None:
        self._poller.remove(self.key, self)
        transport.hang_up(self.sock)
        if self.mapped is not None:
            self.mapped.close()
            self.mapped = None
        self._keeper.closed_with(self, end)
        self.ended = True
        self._table.discard(self)


def _interrupted(handshake: Handshake) -> Close:
    was_up = handshake.negotiated is not None and handshake.state is State.UP
    return Close("", Cause.LOCAL, ErrorCode.DISCONNECTED, "interrupted", was_up)
