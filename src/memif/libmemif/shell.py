"""The control channel of libmemif: descriptors are announced to the user, and the user manages the queues.

The protocol is in the layers below. `ControlSocket` is an engine whose poller reports descriptors to the user's
callback. `ManualEndpoint` passes its rings to raw rings, which leave the buffers to the user.
"""

import select
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from memif.address import parse_address
from memif.config import InterfaceConfig, check_name
from memif.control.connection import Connection
from memif.control.endpoint import Endpoint, region_details
from memif.control.engine import Descriptors, Engine
from memif.errors import MemifError
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
from memif.types import RegionDetails


class DataBase(Protocol):
    """What a socket knows of its `memif.libmemif.handles.Main`."""

    app_name: str
    alloc: Callable[..., Any] | None
    free: Callable[..., Any] | None
    external: ExternalRegion | None

    def announce(self, owner: "ControlSocket", fd: int, events: int) -> None:
        """Tell the user of a descriptor, or of a change; raise `MemifError` if the callback fails."""

    def knows(self, fd: int) -> bool:
        """Return whether the user was told of a descriptor."""

    def retire(self, fd: int) -> None:
        """Tell the user that a descriptor will be closed."""

    def remember(self, code: int) -> None:
        """Record a callback's error: the API function that runs in this thread will return `code`."""

    def forget(self, socket: "ControlSocket") -> None:
        """Remove a socket that is being closed."""

    def interrupts_of(self, socket: "ControlSocket") -> Descriptors | None:
        """Return what waits for the event fds of a socket's queues; None: its own poller."""


class Handle(Protocol):
    """What an interface knows of its `memif_conn_handle_t`."""

    private_ctx: Any


class ManualEndpoint(Endpoint):
    """An interface whose queues belong to libmemif's functions.

    Attributes:
        engine: The socket.
        handle: The user's handle.
        on_disconnect: Called with the interface when a connection ends, before it is dismantled, and by `farewell`.
        raw_rx: The raw receive rings by queue number; empty while the link is down.
        raw_tx: The raw transmit rings by queue number; empty while the link is down.
        rx_sizes: The bytes of a buffer in each receive ring, as the slave set them up.
        tx_sizes: The same for transmit rings.
        external_regions: The numbers of the regions that the user's callbacks provided.
    """

    engine: "ControlSocket"
    config: InterfaceConfig
    reason: str | None
    handle: Handle | None = None
    on_disconnect: Callable[["ManualEndpoint"], None] | None = None
    raw_rx: dict[int, RawRx]
    raw_tx: dict[int, RawTx]
    rx_sizes: dict[int, int]
    tx_sizes: dict[int, int]
    external_regions: set[int]

    def __init__(self, engine: "ControlSocket", config: InterfaceConfig) -> None:
        """Create an endpoint; ``engine.add`` starts it."""
        self.raw_rx, self.raw_tx, self.rx_sizes, self.tx_sizes = {}, {}, {}, {}
        self.external_regions = set()
        self._mapped: Mapped | None = None
        self._parted = False  # on_disconnect was called for this connection
        self._leaving = False  # memif_delete is in progress
        super().__init__(engine, config)

    def make_memory(self, wanted: CreateMemory) -> tuple[Mapped, list[RegionOffer], list[RingOffer]]:
        """Create the memory of a slave, from the user's callbacks if there are any."""
        main = self.engine.main
        context = None if self.handle is None else self.handle.private_ctx
        self.external_regions = set()
        if self.engine.external is not None:
            external = ExternalAllocator(self.engine.external, context)
            self.config = replace(self.config, allocator=external, layout="split")
            self.external_regions = {1}
        elif main.alloc is not None:
            self.config = replace(self.config, allocator=CallbackAllocator(main.alloc, main.free))
        return super().make_memory(wanted)

    def take_memory(self, wanted: MapMemory) -> Mapped:
        """Map the slave's memory for a master, by the user's callback if there is one."""
        external, handle = self.engine.external, self.handle
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

    # The end of a connection. As in C, on_disconnect still finds its queues, details and descriptors.

    def up_with(self, connection: Connection) -> None:
        """Take over a link that is up, with the regions' descriptors until on_disconnect has been called."""
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
        """Dismantle a connection that has ended, or an attempt that failed, after the user's callbacks."""
        if connection is not self.connection:
            return
        if self.up and not self._leaving:
            self.reason = end.reason or end.text
            self.engine.later(lambda: self._last_calls(connection, end))
            return
        self._let_go(connection, end)
        if not self._leaving:
            self.engine.later(self._call_on_disconnect)

    def _last_calls(self, connection: Connection, end: Close) -> None:
        """Let the user receive what the peer sent before it left, then call on_disconnect."""
        try:
            if end.remote:
                self._last_interrupts()
        finally:
            try:
                self.farewell()
            finally:
                with self.engine.locked():
                    self._let_go(connection, end)

    def _last_interrupts(self) -> None:
        call = self.config.on_interrupt
        for qid, raw in list(self.raw_rx.items()) if call is not None else ():
            left = raw.waiting if self.rx[qid].mode == "interrupt" else 0
            while left:
                assert call is not None
                call(self, qid)
                before, left = left, raw.waiting
                if left >= before:  # the callback takes nothing
                    break

    def farewell(self) -> None:
        """Call on_disconnect, unless it was called for this connection already."""
        with self.engine.locked():
            parted, self._parted = self._parted, True
        if not parted:
            self._call_on_disconnect()

    def _call_on_disconnect(self) -> None:
        if self.on_disconnect is not None:
            self.on_disconnect(self)

    def leave(self) -> bool:
        """Mark the interface as being deleted; return False if it was already."""
        with self.engine.locked():
            left, self._leaving = self._leaving, True
        return not left

    def _let_go(self, connection: Connection, end: Close) -> None:
        self.raw_rx, self.raw_tx = {}, {}
        self.unwatch()
        self.close_memory()
        super().closed_with(connection, end)

    def close_memory(self) -> None:
        """Close the regions' descriptors."""
        mapped, self._mapped = self._mapped, None
        if mapped is not None:
            mapped.close()

    def abandon(self) -> None:
        """Close the descriptors of a forked child."""
        self.close_memory()

    def watch(self, qid: int, fd: int) -> None:
        """Call on_interrupt for a queue from now on, unless the user's callback refuses its descriptor."""
        try:
            super().watch(qid, fd)
        except MemifError as error:
            self.engine.main.remember(error.code)

    @property
    def ending(self) -> bool:
        """Whether the connection has ended and on_disconnect is being called or will be."""
        return self.up and self.connection is not None and self.connection.fd < 0

    @property
    def mapped(self) -> Mapped | None:
        """The memory of the connection; None while the link is down."""
        return self._mapped

    def _region_details(self) -> tuple[RegionDetails, ...]:
        return region_details(self._mapped)

    @property
    def connecting(self) -> bool:
        """Whether there is a connection, up or in its handshake."""
        return self.connection is not None

    def set_period(self, period: float | None, first: float | None = None) -> None:
        """Set the period of attempts to connect.

        Args:
            period: Seconds; None turns them off.
            first: Seconds to the first attempt. Default: `period`.
        """
        with self.engine.locked():
            self.config = replace(self.config, reconnect=period)
            waiting = self.config.role is Role.SLAVE and self.connection is None and not self.closed
            self._retry_at = time.monotonic() + (first or period) if waiting and period is not None else None

    def _queue(self, kind: Any, index: int) -> Any:
        return super()._queue(ManualRxQueue if kind is RxQueue else kind, index)


class ControlSocket(Engine):
    """A socket that reports its descriptors (timer, listener, connections, interrupts) to its main.

    Args:
        path: The control socket.
        main: The main that it belongs to.

    Raises:
        MemifError: The path is invalid, or the callback for descriptors failed.
    """

    def __init__(self, path: Any, main: DataBase) -> None:
        self.main: DataBase = main
        self.external: ExternalRegion | None = main.external
        super().__init__(
            parse_address(path),
            app_name=check_name("app_name", main.app_name, 31),
            mode=None,
            owner=None,
            handshake_timeout=5.0,
            max_pending=64,
            observer=self._observe,
        )
        self.interrupts: Descriptors = main.interrupts_of(self) or self.interrupts

    def _observe(self, fd: int, events: int) -> None:
        """Report a descriptor.

        A new descriptor that the callback refuses is not used. Other changes cannot be refused; the error is recorded.
        """
        if not events:
            self.main.retire(fd)
            return
        flags = MEMIF_FD_EVENT_READ | (MEMIF_FD_EVENT_WRITE if events & select.EPOLLOUT else 0)
        if not self.main.knows(fd):
            self.main.announce(self, fd, flags)
            return
        try:
            self.main.announce(self, fd, flags | MEMIF_FD_EVENT_MOD)
        except MemifError as error:
            self.main.remember(error.code)

    def close(self) -> None:
        """Close all interfaces and the socket."""
        self.main.forget(self)
        super().close()

    def interface(self, options: dict[str, Any]) -> ManualEndpoint:
        """Open an interface that connects only when it is told to."""
        config = InterfaceConfig.make(**options, reconnect=None)
        with self.locked():
            self.check_open()
            endpoint = ManualEndpoint(self, config)
            self.add(endpoint)
            return endpoint
