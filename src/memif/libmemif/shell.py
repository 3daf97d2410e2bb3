"""The core's socket and interface, as libmemif shows them: every control descriptor is announced, queues are left
to the user.

Nothing of the protocol is here. `ControlSocket` watches which descriptors the core opens and closes and tells the
user's callback; `ManualInterface` gives the rings to `memif.libmemif._buffers`, which does not hand buffers back by
itself.
"""

import logging
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from memif.config import InterfaceConfig
from memif.control.connection import Connection
from memif.errors import ErrorCode, MemifError
from memif.interface import Interface, RegionDetails, region_details
from memif.libmemif._receive import ManualRxQueue, RawRx
from memif.libmemif._transmit import RawTx
from memif.libmemif.supply import CallbackAllocator, ExternalAllocator, ExternalRegion, PeersRegions
from memif.libmemif.types import (
    MEMIF_FD_EVENT_MOD,
    MEMIF_FD_EVENT_READ,
    MEMIF_FD_EVENT_WRITE,
)
from memif.memory.mapped import Mapped, adopt
from memif.protocol import Close, CreateMemory, MapMemory, RegionOffer, RingOffer, Role
from memif.ring import RxQueue
from memif.socket import Socket

if TYPE_CHECKING:
    from memif.libmemif.handles import Main, memif_conn_handle_t

_log = logging.getLogger("memif.libmemif")


class _Channel:
    """A control connection's socket that says so before it closes, while the descriptor is still its own."""

    def __init__(self, sock: socket.SocketType, on_close: Callable[[int], None]) -> None:
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
    config: InterfaceConfig
    handle: "memif_conn_handle_t | None" = None
    #: Called with the interface when a connection ends, while all of it is still there, and by `farewell`.
    on_disconnect: Callable[["ManualInterface"], None] | None = None
    #: The raw rings by queue id; empty while the link is down.
    raw_rx: dict[int, RawRx]
    raw_tx: dict[int, RawTx]
    #: Bytes of a buffer in these rings, as the slave had set them up.
    rx_sizes: dict[int, int]
    tx_sizes: dict[int, int]
    #: Regions that callbacks of the user have brought.
    external_regions: set[int]

    def __init__(self, socket: Socket, config: InterfaceConfig, *, owns_socket: bool = False) -> None:
        """For `Socket.interface` only."""
        self.raw_rx, self.raw_tx, self.rx_sizes, self.tx_sizes = {}, {}, {}, {}
        self.external_regions = set()
        self._mapped: Mapped | None = None
        self._parted = False  # on_disconnect was called for this connection
        self._leaving = False  # memif_delete is at it
        super().__init__(socket, config, owns_socket=owns_socket)

    def make_memory(self, wanted: CreateMemory) -> tuple[Mapped, list[RegionOffer], list[RingOffer]]:
        """Slave: from the user's callbacks, if there are any."""
        main = self.socket.main
        context = None if self.handle is None else self.handle.private_ctx
        self.external_regions = set()
        if self.socket.external is not None:
            external = ExternalAllocator(self.socket.external, context)
            self.config = replace(self.config, allocator=external, layout="split")
            self.external_regions = {1}
        elif main.alloc is not None:
            self.config = replace(self.config, allocator=CallbackAllocator(main.alloc, main.free))
        return super().make_memory(wanted)

    def take_memory(self, connection: Connection, wanted: MapMemory) -> Mapped:
        """Master: the slave's memory, mapped by the user's callback if there is one."""
        external, handle = self.socket.external, self.handle
        config = self.config
        peers = None if external is None else PeersRegions(external, handle.private_ctx if handle else None)
        self.external_regions = set() if peers is None else peers.brought
        return adopt(
            wanted,
            seal=config.seal,
            limit=config.max_region_bytes,
            cache_line=config.cache_line,
            name=self.name,
            bring=None if peers is None else peers.bring,
        )

    # -- the end of a connection. As in C, on_disconnect finds all of it in place: queues, details, descriptors.

    def up_with(self, connection: Connection) -> None:
        """The link is up. The regions' descriptors are ours from here on, until on_disconnect has been called."""
        self._parted = False
        mapped = connection.mapped
        assert mapped is not None
        self._mapped, connection.mapped = mapped, replace(mapped, fds=[])
        super().up_with(connection)
        self.raw_rx = {queue.index: RawRx(queue.ring) for queue in self.rx if queue.ring is not None}
        self.raw_tx = {queue.index: RawTx(queue.ring) for queue in self.tx if queue.ring is not None}
        self.rx_sizes = {qid: raw.ring.buffer_size for qid, raw in self.raw_rx.items()}
        self.tx_sizes = {qid: raw.ring.buffer_size for qid, raw in self.raw_tx.items()}

    def closed_with(self, connection: Connection, end: Close) -> None:
        """The connection has ended, or an attempt has failed: the user's callbacks first, then all goes."""
        if connection is not self._connection:
            return
        if self._up and not self._leaving:
            self._reason = end.reason or end.text
            self.socket.later(lambda: self._last_calls(connection, end))
            return
        self._let_go(connection, end)
        if not self._leaving:
            self.socket.later(self._call_on_disconnect)

    def _last_calls(self, connection: Connection, end: Close) -> None:
        """What the peer had sent before it left is received first, then on_disconnect is called."""
        try:
            if end.remote:
                self._last_interrupts()
        finally:
            try:
                self.farewell()
            finally:
                with self.socket.locked():
                    self._let_go(connection, end)

    def _last_interrupts(self) -> None:
        call = self.config.on_interrupt
        for qid, raw in list(self.raw_rx.items()) if call is not None else ():
            left = raw.waiting if self.rx[qid].mode == "interrupt" else 0
            while left:
                assert call is not None
                call(self, qid)
                before, left = left, raw.waiting
                if left >= before:  # the user does not want them
                    break

    def farewell(self) -> None:
        """Call on_disconnect, unless that was done for this connection already."""
        with self.socket.locked():
            parted, self._parted = self._parted, True
        if not parted:
            self._call_on_disconnect()

    def _call_on_disconnect(self) -> None:
        if self.on_disconnect is not None:
            self.on_disconnect(self)

    def leave(self) -> bool:
        """The user deletes the interface. -> False when that is under way already."""
        with self.socket.locked():
            left, self._leaving = self._leaving, True
        return not left

    def _let_go(self, connection: Connection, end: Close) -> None:
        self.raw_rx, self.raw_tx = {}, {}
        for queue in self.rx:
            if queue.ring is not None:
                self.socket.unwatch(queue.ring.event_fd)
        self.close_memory()
        super().closed_with(connection, end)

    def close_memory(self) -> None:
        """Let go of the regions' descriptors."""
        mapped, self._mapped = self._mapped, None
        if mapped is not None:
            mapped.close()

    @property
    def ending(self) -> bool:
        """Whether the connection has ended and on_disconnect is being called, or about to be."""
        return self._up and self._connection is not None and self._connection.fd < 0

    @property
    def mapped(self) -> Mapped | None:
        """The memory of the connection; None while the link is down."""
        return self._mapped

    def _region_details(self) -> tuple[RegionDetails, ...]:
        mapped = self._mapped
        return () if mapped is None else region_details(mapped)

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

    interface_type: type[Interface] = ManualInterface

    def __init__(self, path: Any, main: "Main") -> None:
        """Raises `MemifError` for a bad name, or when the callback for descriptors fails."""
        self.main = main
        self.external: ExternalRegion | None = main.external
        self._adopted: socket.socket | None = None
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
        """Listen on a descriptor that somebody else has bound. Taken over, unless that fails: closed with the socket,
        and not before."""
        from memif.control.listener import Listener

        with self.locked():
            if fd == self.listener_fd:
                self._adopted = self._listener
                return
            self._announce(fd, MEMIF_FD_EVENT_READ)
            self._adopted = None
            self._close_listener()
            self._listener = self._adopted = Listener(fileno=fd)
            self._listener.setblocking(False)
            self._epoll.register(fd, MEMIF_FD_EVENT_READ)

    def remove(self, interface: Interface) -> None:
        """The interface is closed. A listener that somebody handed in waits for the next master."""
        if self._adopted is None or self._adopted is not self._listener:
            super().remove(interface)
        else:
            self._interfaces.pop((interface.config.role, interface.id), None)

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

    def _update(self, connection: Connection) -> None:
        super()._update(connection)
        fd = connection.fd
        if fd < 0 or connection.wants_to_write == (fd in self._writing):
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

    def _abandon(self) -> None:
        for interface in self.interfaces:
            if isinstance(interface, ManualInterface):
                interface.close_memory()
        super()._abandon()

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
