"""The listening side: taking clients in, until they have an interface.

Half-open clients, those in their handshake, are limited in number. When one more comes, room is made by dropping the
oldest of the process that has most of them, as the kernel names it: a crowd from one hostile process pushes out only
itself, and an honest client, which needs milliseconds, gets through.

Without a free descriptor the kernel keeps a client waiting and the listener readable, which would keep every event loop
awake for nothing. One descriptor is held back for this: it makes room to accept the client and to hang up on it.
"""

import contextlib
import errno
import socket
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

from memif.address import Address
from memif.config import LARGEST_REGION_LIMIT, InterfaceConfig
from memif.control import transport
from memif.control.connection import Connection
from memif.control.listener import Listener, listen_socket
from memif.control.poller import Poller
from memif.logs import Seldom, get_logger, of
from memif.protocol import Cause, Close, InterfaceInfo, MasterConfig, MasterHandshake, Refusal, Role
from memif.protocol.refusals import IS_SLAVE, UNKNOWN_ID
from memif.protocol.wire import MAX_RING, Init
from memif.system._steady import Descriptor, accept, eventfd
from memif.types import SocketStats

_log = get_logger("memif.socket")
_OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)


class Candidate(Protocol):
    """An interface that clients can ask for."""

    @property
    def config(self) -> InterfaceConfig:
        """Its options."""

    def offer(self) -> InterfaceInfo | Refusal:
        """Return what a client that asks for it may have. `InterfaceInfo.owner` becomes its connection's host."""

    def turned_down(self, end: Close) -> None:
        """A client that asked for it did not get it."""


Candidates = Mapping[tuple[Role, int], Candidate]


class Acceptor:
    """Listens while there are masters, and keeps clients until they have named their interface.

    Use with the lock of the `memif.control.engine.Engine` around it.
    """

    def __init__(
        self,
        address: Address,
        app_name: str,
        poller: Poller,
        connections: set[Connection],
        candidates: Candidates,
        *,
        mode: int | None,
        owner: tuple[int, int] | None,
        handshake_timeout: float,
        max_pending: int,
    ) -> None:
        """Open nothing yet; `candidates` and `connections` are those of the engine, by reference."""
        self._address = address
        self._app_name = app_name
        self._poller = poller
        self._connections = connections
        self._candidates = candidates
        self._file = mode, owner
        self._handshake_timeout = handshake_timeout
        self._max_pending = max_pending
        self._gate = Gate()
        self._seldom = Seldom()
        self._listener: Listener | None = None
        self._adopted = False
        self.stats: SocketStats = {"accepted": 0, "turned_away": 0, "refused": 0}
        #: The last id that a client asked for in vain, because there is no such master.
        self.unknown_id: int | None = None

    @property
    def fd(self) -> int:
        """The listener's descriptor, -1 without one."""
        return -1 if self._listener is None else self._listener.fileno()

    def listen(self) -> None:
        """Listen, if that is not so yet. Raises what `memif.control.listener.listen_socket` raises."""
        if self._listener is None:
            mode, owner = self._file
            self._listener = listen_socket(self._address, mode=mode, owner=owner)
            try:
                self._poller.add(self._listener.fileno(), self)
            except BaseException:
                self._close_listener()
                raise

    def adopt(self, fd: int) -> None:
        """Listen on a descriptor that somebody else has bound. It is taken over, unless that fails: closed by `close`,
        and not before."""
        if fd != self.fd:
            listener = Listener(fileno=fd)
            try:
                self._poller.add(fd, self)
            except BaseException:
                listener.detach()
                raise
            self._close_listener()
            listener.setblocking(False)
            self._listener = listener
        self._adopted = True

    def pause(self) -> None:
        """No master is left. An adopted listener waits for the next one."""
        if not self._adopted:
            self._close_listener()

    def _close_listener(self) -> None:
        if self._listener is not None:
            self._poller.remove(self._listener.fileno(), self)
            self._listener.close()
            self._listener = None

    def close(self) -> None:
        """Stop listening."""
        self._adopted = False
        self._close_listener()

    def release(self) -> None:
        """Give the descriptor up that is held back."""
        self._gate.close()

    def abandon(self) -> None:
        """In a forked child: close our copies and leave everything to the parent."""
        if self._listener is not None:
            self._listener.close()

    def ready(self, events: int) -> bool:
        """Take one client in."""
        if self._listener is None:
            return False
        try:
            sock = self._gate.accept(self._listener)
        except OSError:
            self.stats["turned_away"] += 1
            return True
        if sock is not None:
            self.stats["accepted"] += 1
            self._make_room()
            shake = MasterHandshake(self._limits(), self._look_up, time.monotonic(), self._handshake_timeout)
            Connection(sock, shake, self, str(self._address), self._poller, self._connections).start()
        return True

    def _make_room(self) -> None:
        half_open = [each for each in tuple(self._connections) if each.handshake.deadline is not None]
        if len(half_open) >= self._max_pending:
            self.stats["turned_away"] += 1
            whom_to_drop(half_open).disconnect("too many clients in their handshake")

    def _limits(self) -> MasterConfig:
        """For HELLO. Which limits hold for the memory is known only when the client has said which interface it
        wants."""
        masters = [each.config for (role, _), each in tuple(self._candidates.items()) if role is Role.MASTER]
        return MasterConfig(
            self._app_name,
            max_region_bytes=LARGEST_REGION_LIMIT,
            max_s2m_rings=widest(master.rx_queues for master in masters),
            max_m2s_rings=widest(master.tx_queues for master in masters),
        )

    def _look_up(self, init: Init) -> InterfaceInfo | Refusal:
        wanted = self._candidates.get((Role.MASTER, init.id))
        if wanted is not None:
            return wanted.offer()
        self.unknown_id = init.id
        return IS_SLAVE if (Role.SLAVE, init.id) in self._candidates else UNKNOWN_ID

    def _wanted(self, connection: Connection) -> Candidate | None:
        """The interface that a client has asked for."""
        shake = connection.handshake
        asked = shake.asked if isinstance(shake, MasterHandshake) else None
        return None if asked is None else self._candidates.get((Role.MASTER, asked.id))

    def closed_with(self, connection: Connection, end: Close) -> None:
        """A client left, or was refused, before it had an interface."""
        wanted = self._wanted(connection)
        if wanted is None and end.cause is Cause.EOF:  # it only looked who is here, as `memif list` does
            _log.debug("%s: a client left without asking for an interface", self._address)
        elif end.cause is not Cause.LOCAL:
            if wanted is None:
                self.stats["refused"] += 1
            else:
                wanted.turned_down(end)
            name = "" if wanted is None else wanted.config.name
            _log.log(self._seldom.level(), "%s: client refused: %s", self._address, end.text, extra=of(name))


class Gate:
    """The listener's accept, with a descriptor held back. Use from one thread at a time."""

    def __init__(self) -> None:
        self._spare: Descriptor | None = None
        self._told = False
        self._hold_back()

    def _hold_back(self) -> None:
        with contextlib.suppress(OSError):
            self._spare = eventfd()

    def accept(self, listener: socket.socket) -> socket.SocketType | None:
        """Accept the next client.

        Returns:
            Its non-blocking socket; None when no client waits.

        Raises:
            OSError: A client was hung up on for lack of descriptors, or accepting failed for another reason.
        """
        try:
            client = accept(listener.fileno())
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno in _OUT_OF_DESCRIPTORS:
                self._turn_away(listener)
                self._tell(error)
            raise
        self._told = False
        if self._spare is None:
            self._hold_back()
        return client

    def _turn_away(self, listener: socket.socket) -> None:
        self.close()
        with contextlib.suppress(OSError):
            transport.hang_up(accept(listener.fileno()))
        self._hold_back()

    def _tell(self, error: OSError) -> None:
        """Once, not for each client of a crowd."""
        if not self._told:
            self._told = True
            _log.error("clients are turned away: %s", error)

    def close(self) -> None:
        """Give the held-back descriptor up."""
        if self._spare is not None:
            self._spare.close()
            self._spare = None


def whom_to_drop(half_open: Collection[Connection]) -> Connection:
    """Return the client that makes room for another: the oldest one of the process that has most of them."""
    crowd = Counter(client.credentials.pid for client in half_open)
    return max(half_open, key=lambda client: (crowd[client.credentials.pid], -(client.handshake.deadline or 0.0)))


def widest(limits: Iterable[int | None]) -> int:
    """Return the rings that HELLO announces for all interfaces together: the protocol's limit when one has none."""
    return max([1, *(MAX_RING + 1 if limit is None else limit for limit in limits)])
