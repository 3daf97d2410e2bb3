"""The control channel, as libmemif shows it: every descriptor is announced, queues are left to the user.

Nothing of the protocol is here. `ControlSocket` is an engine whose poller tells the user's callback which descriptors
come and go; `ManualEndpoint` gives the rings to raw rings, which does not hand buffers back by itself.
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
from memif.control.engine import Engine
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
    """What the sockets of one `memif_init` share, as they know it."""

    app_name: str
    alloc: Callable[..., Any] | None
    free: Callable[..., Any] | None
    external: ExternalRegion | None

    def announce(self, owner: "ControlSocket", fd: int, events: int) -> None:
        """Tell the user of a descriptor, or of a change. Raises `MemifError` when the callback fails."""

    def knows(self, fd: int) -> bool:
        """Whether the user was told of a descriptor."""

    def retire(self, fd: int) -> None:
        """Tell the user that a descriptor will be closed."""

    def remember(self, code: int) -> None:
        """A callback failed: the function of the API that runs in this thread will return `code`."""

    def forget(self, socket: "ControlSocket") -> None:
        """A socket is closed."""


class Handle(Protocol):
    """What the user knows an interface by."""

    private_ctx: Any


class ManualEndpoint(Endpoint):
    """An interface whose queues belong to libmemif's functions."""

    engine: "ControlSocket"
    handle: Handle | None = None
    #: Called with the interface when a connection ends, while all of it is still there, and by `farewell`.
    on_disconnect: Callable[["ManualEndpoint"], None] | None = None
    #: The raw rings by queue id; empty while the link is down.
    raw_rx: dict[int, RawRx]
    raw_tx: dict[int, RawTx]
    #: Bytes of a buffer in these rings, as the slave had set them up.
    rx_sizes: dict[int, int]
    tx_sizes: dict[int, int]
    #: Regions that callbacks of the user have brought.
    external_regions: set[int]

    def __init__(self, engine: "ControlSocket", config: InterfaceConfig) -> None:
        """Make an endpoint that ``engine.add`` sets to work."""
        self.raw_rx, self.raw_tx, self.rx_sizes, self.tx_sizes = {}, {}, {}, {}
        self.external_regions = set()
        self._mapped: Mapped | None = None
        self._parted = False  # on_disconnect was called for this connection
        self._leaving = False  # memif_delete is at it
        super().__init__(engine, config)

    def make_memory(self, wanted: CreateMemory) -> tuple[Mapped, list[RegionOffer], list[RingOffer]]:
        """Slave: from the user's callbacks, if there are any."""
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
        """Master: the slave's memory, mapped by the user's callback if there is one."""
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
        """What the peer had sent before it left is received first, then on_disconnect is called."""
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
                if left >= before:  # the user does not want them
                    break

    def farewell(self) -> None:
        """Call on_disconnect, unless that was done for this connection already."""
        with self.engine.locked():
            parted, self._parted = self._parted, True
        if not parted:
            self._call_on_disconnect()

    def _call_on_disconnect(self) -> None:
        if self.on_disconnect is not None:
            self.on_disconnect(self)

    def leave(self) -> bool:
        """The user deletes the interface. -> False when that is under way already."""
        with self.engine.locked():
            left, self._leaving = self._leaving, True
        return not left

    def _let_go(self, connection: Connection, end: Close) -> None:
        self.raw_rx, self.raw_tx = {}, {}
        self.unwatch()
        self.close_memory()
        super().closed_with(connection, end)

    def close_memory(self) -> None:
        """Let go of the regions' descriptors."""
        mapped, self._mapped = self._mapped, None
        if mapped is not None:
            mapped.close()

    def abandon(self) -> None:
        """In a forked child: close our copies."""
        self.close_memory()

    def watch(self, qid: int, fd: int) -> None:
        """Call on_interrupt for a queue, unless the user's callback refuses its descriptor."""
        try:
            super().watch(qid, fd)
        except MemifError as error:
            self.engine.main.remember(error.code)

    @property
    def ending(self) -> bool:
        """Whether the connection has ended and on_disconnect is being called, or about to be."""
        return self.up and self.connection is not None and self.connection.fd < 0

    @property
    def mapped(self) -> Mapped | None:
        """The memory of the connection; None while the link is down."""
        return self._mapped

    def _region_details(self) -> tuple[RegionDetails, ...]:
        return region_details(self._mapped)

    @property
    def connecting(self) -> bool:
        """Whether there is a connection, up or on its way."""
        return self.connection is not None

    def set_period(self, period: float | None, first: float | None = None) -> None:
        """Connect every `period` seconds from now on (None: not by itself), the first time after `first`."""
        with self.engine.locked():
            self.config = replace(self.config, reconnect=period)
            waiting = self.config.role is Role.SLAVE and self.connection is None and not self.closed
            self._retry_at = time.monotonic() + (first or period) if waiting and period is not None else None

    def _queue(self, kind: Any, index: int) -> Any:
        return super()._queue(ManualRxQueue if kind is RxQueue else kind, index)


class ControlSocket(Engine):
    """A socket whose descriptors (timer, listener, connections, interrupts) are known to somebody else's event loop."""

    def __init__(self, path: Any, main: DataBase) -> None:
        """Raises `MemifError` for a bad name, or when the callback for descriptors fails."""
        self.main = main
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

    def _observe(self, fd: int, events: int) -> None:
        """A new descriptor that the callback refuses is not used; it cannot stop another change, its error is
        remembered."""
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
        """Open an interface that does not connect by itself."""
        config = InterfaceConfig.make(**options, reconnect=None)
        with self.locked():
            self.check_open()
            endpoint = ManualEndpoint(self, config)
            self.add(endpoint)
            return endpoint
