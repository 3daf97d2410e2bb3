"""The core's socket and interface, as libmemif shows them: every control descriptor is announced, queues are left
to the user.

Nothing of the protocol is here. `ControlSocket` watches which descriptors the core opens and closes and tells the
user's callback; `ManualInterface` gives the rings to `memif.ring._raw`, which does not hand buffers back by itself.
"""

import logging
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from memif.config import InterfaceConfig
from memif.connection import Connection
from memif.errors import ErrorCode, MemifError
from memif.interface import Interface
from memif.libmemif.supply import CallbackAllocator, ExternalAllocator, ExternalRegion
from memif.libmemif.types import (
    MEMIF_FD_EVENT_MOD,
    MEMIF_FD_EVENT_READ,
    MEMIF_FD_EVENT_WRITE,
)
from memif.memory.mapped import Mapped
from memif.protocol import Close, CreateMemory, RegionOffer, RingOffer, Role
from memif.ring import RxQueue
from memif.ring._raw import ManualRxQueue, RawRx, RawTx
from memif.socket import Socket

if TYPE_CHECKING:
    from memif.libmemif.handles import Main, memif_conn_handle_t

_log = logging.getLogger("memif.libmemif")


class _Channel:
    """A control connection's socket that says so before it closes, while the descriptor is still its own."""

    def __init__(self, sock: socket.socket, on_close: Callable[[int], None]) -> None:
        self._sock = sock
        self._on_close: Callable[[int], None] | None = on_close

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def close(self) -> None:
        call, self._on_close = self._on_close, None
        if call is not None:
            call(self._sock.fileno())
        self._sock.close()


class ManualInterface(Interface):
    """An interface whose queues belong to libmemif's functions."""

    socket: "ControlSocket"
    handle: "memif_conn_handle_t | None" = None
    #: The raw rings by queue id; empty while the link is down.
    raw_rx: dict[int, RawRx]
    raw_tx: dict[int, RawTx]

    def __init__(self, socket: Socket, config: InterfaceConfig, *, owns_socket: bool = False) -> None:
        """For `Socket.interface` only."""
        self.raw_rx, self.raw_tx = {}, {}
        super().__init__(socket, config, owns_socket=owns_socket)

    def make_memory(self, wanted: CreateMemory) -> tuple[Mapped, list[RegionOffer], list[RingOffer]]:
        """Slave: from the user's callbacks, if there are any."""
        main = self.socket.main
        context = None if self.handle is None else self.handle.private_ctx
        if self.socket.external is not None:
            external = ExternalAllocator(self.socket.external, context)
            self.config = replace(self.config, allocator=external, layout="split")
        elif main.alloc is not None:
            self.config = replace(self.config, allocator=CallbackAllocator(main.alloc, main.free))
        return super().make_memory(wanted)

    def up_with(self, connection: Connection) -> None:
        """The link is up."""
        super().up_with(connection)
        self.raw_rx = {queue.index: RawRx(queue.ring) for queue in self.rx if queue.ring is not None}
        self.raw_tx = {queue.index: RawTx(queue.ring) for queue in self.tx if queue.ring is not None}

    def closed_with(self, connection: Connection, end: Close) -> None:
        """The connection has ended."""
        if connection is self._connection:
            self.raw_rx, self.raw_tx = {}, {}
            for queue in self.rx:
                if queue.ring is not None:
                    self.socket.unwatch(queue.ring.event_fd)
        super().closed_with(connection, end)

    @property
    def connecting(self) -> bool:
        """Whether there is a connection, up or on its way."""
        return self._connection is not None

    def set_period(self, period: float | None, first: float | None = None) -> None:
        """Connect every `period` seconds from now on (None: not by itself), the first time after `first`."""
        with self.socket.locked():
            self.config = replace(self.config, reconnect=period)
            waiting = self.config.role is Role.SLAVE and self._connection is None and not self.closed
            self._retry_at = time.monotonic() + (first or period) if waiting and period is not None else None

    def _queue(self, kind: Any, index: int) -> Any:
        return super()._queue(ManualRxQueue if kind is RxQueue else kind, index)


class ControlSocket(Socket):
    """A socket whose descriptors (timer, listener, connections, interrupts) are known to somebody else's event loop."""

    interface_type = ManualInterface

    def __init__(self, path: Any, main: "Main") -> None:
        """Raises `MemifError` for a bad name, or when the callback for descriptors fails."""
        self.main = main
        self.external: ExternalRegion | None = main.external
        self._writing: set[int] = set()
        super().__init__(path, app_name=main.app_name, mode=None)
        try:
            self._announce(self._timer.fd, MEMIF_FD_EVENT_READ)
        except MemifError:
            self.close()
            raise

    @property
    def closed(self) -> bool:
        """True once `close` was called."""
        return self._closed

    def _announce(self, fd: int, events: int) -> None:
        self.main.announce(self, fd, events)

    def _retire(self, fd: int) -> None:
        """Tell that `fd` goes away; a callback that fails cannot stop that, its error is remembered."""
        self._writing.discard(fd)
        self.main.retire(self, fd)

    # -- where the core opens and closes descriptors

    def _add(self, config: InterfaceConfig, *, owns_socket: bool) -> Interface:
        with self.locked():
            before = self._listener
            interface = super()._add(config, owns_socket=owns_socket)
            if self._listener is not None and self._listener is not before:
                try:
                    self._announce(self._listener.fileno(), MEMIF_FD_EVENT_READ)
                except MemifError:
                    interface.close()
                    raise
            return interface

    def adopt_listener(self, fd: int) -> None:
        """Listen on a descriptor that somebody else has bound. Taken over: closed with the socket."""
        from memif.listener import Listener

        listener = Listener(fileno=fd)
        listener.setblocking(False)
        with self.locked():
            self._close_listener()
            self._listener = listener
            self._epoll.register(fd, MEMIF_FD_EVENT_READ)
            self._announce(fd, MEMIF_FD_EVENT_READ)

    @property
    def listener_fd(self) -> int:
        """The listener's descriptor, -1 without one."""
        return -1 if self._listener is None else self._listener.fileno()

    def _close_listener(self) -> None:
        if self._listener is not None:
            self._retire(self._listener.fileno())
        super()._close_listener()

    def _register(self, connection: Connection) -> None:
        try:
            self._announce(connection.fd, MEMIF_FD_EVENT_READ)
        except MemifError:
            connection.sock.close()
            raise
        connection.sock = cast(socket.socket, _Channel(connection.sock, self._retire))
        super()._register(connection)

    def _update(self, fd: int, connection: Connection) -> None:
        super()._update(fd, connection)
        if connection.fd < 0 or connection.wants_to_write == (fd in self._writing):
            return
        self._writing ^= {fd}
        wanted = MEMIF_FD_EVENT_READ | (MEMIF_FD_EVENT_WRITE if connection.wants_to_write else 0)
        try:
            self._announce(fd, wanted | MEMIF_FD_EVENT_MOD)
        except MemifError as error:
            self.main.remember(error.code)

    def watch(self, fd: int, interface: Interface, qid: int) -> None:
        """Announce an interrupt descriptor."""
        super().watch(fd, interface, qid)
        try:
            self._announce(fd, MEMIF_FD_EVENT_READ)
        except MemifError as error:
            self.main.remember(error.code)

    def unwatch(self, fd: int) -> None:
        """An interrupt descriptor goes away."""
        if fd in self._watched:
            self._retire(fd)
        super().unwatch(fd)

    def _release_descriptors(self) -> None:
        if self._closed and not self._pollers and not self._epoll.closed:
            self._retire(self._timer.fd)
            self.main.forget(self)
        super()._release_descriptors()

    def _accept(self) -> None:
        try:
            super()._accept()
        except MemifError as error:
            if error.code != ErrorCode.CB_FDUPDATE:
                raise
            self.main.remember(error.code)
