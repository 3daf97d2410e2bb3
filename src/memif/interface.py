"""Interface: one memif interface, through all its connections."""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from memif.config import DEFAULT_CACHE_LINE, MODE_NAMES, InterfaceConfig, seconds
from memif.control.acceptor import Seldom
from memif.control.connection import Connection
from memif.deadline import Deadline
from memif.errors import (
    ErrorCode,
    MemifClosedError,
    MemifDisconnectedError,
    MemifError,
    MemifStateError,
    MemifTimeoutError,
    MemifTypeError,
)
from memif.logs import get_logger
from memif.memory import mapped as memory
from memif.memory.mapped import Mapped
from memif.protocol import Cause, Close, CreateMemory, MapMemory, RegionOffer, RingOffer, Role
from memif.ring import RxQueue, RxRing, TxQueue, TxRing
from memif.system import Single
from memif.types import InterfaceStats, ModeName, Side

if TYPE_CHECKING:
    from memif.socket import Socket

_log = get_logger("memif.interface")

#: Answers that stay the same however often one asks: waiting longer would not help.
_FINAL = {
    ErrorCode.SECRET,
    ErrorCode.NOSECRET,
    ErrorCode.MODE,
    ErrorCode.PROTO,
    ErrorCode.ACCES,
    ErrorCode.ACCSLAVE,
    ErrorCode.FILE_NOT_SOCK,
    ErrorCode.INVAL_ARG,
}
_FIRST_RETRY = 0.05
#: Seconds after the link came up, at most, until a master waits no longer for the slave's first buffers.
_FIRST_BUFFERS = 0.3


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of the link.

    Names are what the peer says of itself; process, user and group are the kernel's word, as of the moment when the
    connection was made (pid 0: a process outside of our PID namespace).
    """

    app_name: str
    name: str
    pid: int
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class QueueDetails:
    """One ring, as `memif_get_details` of the C library shows it; indices are raw 16 bit counters."""

    qid: int
    region: int
    ring_size: int
    flags: int
    head: int
    tail: int
    buffer_size: int


@dataclass(frozen=True, slots=True)
class RegionDetails:
    """One memory region: index, size in bytes, descriptor (-1 once the link is down), whose memory it is."""

    index: int
    size: int
    fd: int
    external: bool


@dataclass(frozen=True, slots=True)
class Details:
    """Everything about an interface at one moment: what `memif_get_details` gives, and the peer's process."""

    name: str
    app_name: str
    id: int
    role: Side
    mode: ModeName
    socket: str
    secret: bytes = field(repr=False)
    link_up: bool
    peer: Peer | None
    disconnect_reason: str | None
    rx_queues: tuple[QueueDetails, ...]
    tx_queues: tuple[QueueDetails, ...]
    regions: tuple[RegionDetails, ...]


class Interface(Single):
    """One memif interface. Made by `memif.connect`, `memif.listen` and `Socket.interface`.

    The link comes and goes: `up` says whether it is there, `rx` and `tx` hold its queues. A slave connects by itself,
    again and again; a master waits for clients. All of that happens inside calls: `Socket.poll`, `wait_up`, and every
    queue operation look after the control channel; there is no background thread.

    Context manager: leaving the block closes the interface. Any thread may call any method; each queue belongs to one
    thread at a time. Callbacks run in the thread whose call noticed the event.
    """

    def __init__(self, socket: "Socket", config: InterfaceConfig, *, owns_socket: bool = False) -> None:
        """For `Socket.interface` only."""
        self.socket = socket
        self.config: InterfaceConfig = config
        self.log: logging.LoggerAdapter[logging.Logger] = logging.LoggerAdapter(_log, {"interface": config.name})
        self._owns_socket = owns_socket
        self._connection: Connection | None = None
        self._up = False
        self._closed = False
        self._reason: str | None = None
        self._error: MemifError | None = None
        self._failures = 0
        self._seldom = Seldom()
        self._up_since = 0.0
        self._offered = False
        self._retry_at: float | None = None
        self._connects = self._disconnects = self._refused = 0
        self._rx = [self._queue(RxQueue, i) for i in range(self._wanted(config.rx_queues))]
        self._tx = [self._queue(TxQueue, i) for i in range(self._wanted(config.tx_queues))]
        self._show_queues()

    # -- what it is

    @property
    def id(self) -> int:
        """Number of the interface on its socket."""
        return self.config.id

    @property
    def name(self) -> str:
        """Name that the peer is told."""
        return self.config.name

    @property
    def role(self) -> Side:
        """ "slave" or "master"."""
        return "master" if self.config.role is Role.MASTER else "slave"

    @property
    def mode(self) -> ModeName:
        """ "ethernet", "ip" or "punt/inject"."""
        return MODE_NAMES[self.config.mode]

    @property
    def up(self) -> bool:
        """True while the link is up, as far as was noticed: a call that looks after the control channel finds out."""
        return self._up

    @property
    def closed(self) -> bool:
        """True once `close` was called."""
        return self._closed

    @property
    def peer(self) -> Peer | None:
        """Who is at the other end; None while the link is down."""
        connection = self._connection
        if connection is None or not self._up:
            return None
        shake, who = connection.handshake, connection.credentials
        return Peer(shake.peer_name, shake.peer_if_name, who.pid, who.uid, who.gid)

    @property
    def disconnect_reason(self) -> str | None:
        """Why the last connection ended or was refused, sent or received; None if there was none yet."""
        return self._reason

    @property
    def stats(self) -> InterfaceStats:
        """Counters: "rx" and "tx" are lists with one dict a queue (see `memif.types.QueueStats`); "connects",
        "disconnects" and "refused" count connections. They go on through reconnects."""
        return {
            "rx": [q.stats for q in self._rx],
            "tx": [q.stats for q in self._tx],
            "connects": self._connects,
            "disconnects": self._disconnects,
            "refused": self._refused,
        }

    def details(self) -> Details:
        """Everything about the interface at this moment."""
        return Details(
            name=self.name,
            app_name=self.socket.app_name,
            id=self.id,
            role=self.role,
            mode=self.mode,
            socket=str(self.socket.address),
            secret=self.config.secret,
            link_up=self._up,
            peer=self.peer,
            disconnect_reason=self._reason,
            rx_queues=_queues_details(self.rx),
            tx_queues=_queues_details(self.tx),
            regions=self._region_details(),
        )

    def _region_details(self) -> tuple[RegionDetails, ...]:
        connection = self._connection
        mapped = None if connection is None else connection.mapped  # another thread may take both away
        return () if mapped is None or not self._up else region_details(mapped)

    def __repr__(self) -> str:
        state = "closed" if self._closed else "up" if self._up else "down"
        return f"<Interface {self.name!r} id {self.id}, {self.role} on {self.socket.address}, {state}>"

    # -- what one does with it

    def wait_up(self, timeout: float | None = None) -> None:
        """Return when the link is up; wait `timeout` seconds at most (None: for ever).

        Packets can move in both directions then: a master also waits until the slave has offered its first buffers,
        for a third of a second at most (a slave may never want packets).

        Raises `MemifTimeoutError` when the link does not come up, with the last failure as its cause; a failure that
        would stay the same (wrong secret or mode, no permission) at once, as the error of its own kind, and so every
        failure when there will be no other attempt (``reconnect=None``); `MemifClosedError`.
        """
        limit = seconds("timeout", timeout)
        deadline = None if limit is None else time.monotonic() + limit
        self._check_open()
        while not self._up:
            if self._error is not None and (self._error.code in _FINAL or self._given_up()):
                raise self._error
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                detail = f"{self.name}: the link did not come up within {limit:g} s"
                cause = f"; {self._error}" if self._error is not None else self._hint()
                raise MemifTimeoutError(detail + cause) from self._error
            self.socket.poll(0.1 if left is None else min(left, 0.1))
            self._check_open()
        while self.filling(time.monotonic()) and (deadline is None or time.monotonic() < deadline):
            self.socket.poll(1e-3)

    def filling(self, now: float) -> bool:
        """Master: whether the slave has still to offer its first buffers, and is given the time for it."""
        if self._offered or not self._up or now - self._up_since >= _FIRST_BUFFERS:
            return False
        rings = [ring for queue in self.tx if (ring := queue.ring) is not None]
        self._offered = all(ring.head != ring.tail for ring in rings)
        return not self._offered

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until the peer has taken all that was sent, on all queues; see `TxQueue.drain`."""
        deadline = Deadline(timeout)
        return all(queue.drain(deadline.rest()) for queue in self.tx)

    def _given_up(self) -> bool:
        return self.config.role is Role.SLAVE and self.config.reconnect is None and self._connection is None

    def _hint(self) -> str:
        if self.config.role is Role.MASTER:
            return f"; no client asked for id {self.id} on {self.socket.address}"
        return f"; {self.socket.address} did not answer"

    def connect(self) -> None:
        """Slave: try to connect now, once. Returns when the attempt is under way; see `wait_up`.

        Needed only with ``reconnect=None``. Raises the `MemifConnectionError` or `MemifPermissionError` of an attempt
        that fails at once, `MemifStateError` for a master or when connected already.
        """
        with self.socket.locked():
            self._check_open()
            if self.config.role is Role.MASTER:
                raise MemifStateError("a master does not connect, it waits for its client")
            if self._connection is not None:
                raise MemifStateError(f"{self.name} is connected already", code=ErrorCode.ALRCONN)
            self._connect()
            if self._error is not None:
                raise self._error

    def disconnect(self, reason: str = "") -> None:
        """Take the link down and tell the peer `reason`. A slave connects again after its period.

        Any text can be given: the peer gets its first 95 bytes, up to a NUL, with "?" for what cannot be printed.
        """
        if not isinstance(reason, str):
            raise MemifTypeError.argument("reason", reason, "a text")
        with self.socket.locked():
            self._check_parent()
            if self._connection is not None:
                self._connection.disconnect(reason)

    def close(self, *, drain: float = 0.0) -> None:
        """Take the link down and remove the interface from its socket. A second call does nothing.

        drain: seconds to wait before that, at most, until the peer has taken all that was sent, as `drain` does. A
        peer of this package receives it even after the link has ended; others, like VPP, throw it away then.

        The socket goes too, if it was made by `memif.connect` or `memif.listen`. Threads inside calls on this
        interface's queues get `MemifClosedError`. In a forked child it leaves the link to the parent.
        """
        if self.socket.pid != os.getpid():
            self._closed = True
            self.socket.close()
            return
        limit = seconds("drain", drain, none=False)
        try:
            if limit and self._up:
                with contextlib.suppress(MemifDisconnectedError, MemifClosedError):
                    self.drain(limit)
        finally:
            self._close()

    def _close(self) -> None:
        self.socket.alone(self.close_now)
        if self._owns_socket:
            self.socket.close()

    def close_now(self) -> None:
        """With the socket's lock: all of `close` but the socket of its own."""
        # Each step can be done again: after an exception the second call does the rest.
        self._closed = True
        self._retry_at = None
        if self._connection is not None:
            self._connection.disconnect("interface deleted")
        for queue in self._rx:
            queue.detach()  # also what is left of a link that ended before
        self.socket.remove(self)

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- for its queues (see memif.ring)

    def serve(self) -> None:
        """Look after the control channel without waiting."""
        self.socket.serve()

    def broken(self, ring: RxRing | TxRing, text: str) -> None:
        """The peer violated the ring protocol on `ring`: end the connection that it belongs to."""
        with self.socket.locked():
            connection = self._connection
            if connection is not None and connection.mapped is not None and ring.alive:
                self.log.warning("%s: %s", self.name, text)
                connection.disconnect(text)

    def down(self) -> MemifError:
        """The error for an operation that needs the link."""
        if self._closed:
            return MemifClosedError(f"{self.name} was closed")
        reason = f": {self._reason}" if self._reason else ""
        return MemifDisconnectedError(f"{self.name}: the link is down{reason}")

    # -- for its connection (see memif.control.connection.Host)

    def make_memory(self, wanted: CreateMemory) -> tuple[Mapped, list[RegionOffer], list[RingOffer]]:
        """Slave: the shared memory of a new connection."""
        config = self.config
        return memory.create(
            wanted,
            buffer_size=config.buffer_size,
            kind=config.layout,
            headroom=config.headroom,
            cache_line=config.cache_line or DEFAULT_CACHE_LINE,
            allocator=config.allocator,
            seal=config.seal,
        )

    def take_memory(self, connection: Connection, wanted: MapMemory) -> Mapped:
        """Master: the slave's memory, checked and mapped."""
        config = self.config
        return memory.adopt(
            wanted, seal=config.seal, limit=config.max_region_bytes, cache_line=config.cache_line, name=self.name
        )

    def selected(self, connection: Connection, id: int) -> None:
        """Master: this connection is ours."""
        self._connection = connection

    def up_with(self, connection: Connection) -> None:
        """The link is up: give the rings to the queues."""
        mapped = connection.mapped
        assert mapped is not None
        self._rx += [self._queue(RxQueue, i) for i in range(len(self._rx), len(mapped.rx))]
        self._tx += [self._queue(TxQueue, i) for i in range(len(self._tx), len(mapped.tx))]
        self._show_queues(len(mapped.rx), len(mapped.tx))
        self._up_since, self._offered = time.monotonic(), self.config.role is Role.SLAVE
        for rx_ring, rx in zip(mapped.rx, self.rx, strict=True):
            rx.attach(rx_ring)
            if self.config.on_interrupt is not None:
                self.socket.watch(rx.fileno(), self, rx.index)
        for tx_ring, tx in zip(mapped.tx, self.tx, strict=True):
            tx.attach(tx_ring)
        self.log.info("%s: connected to %s", self.name, connection.handshake.peer_if_name)
        self._connects += 1
        call = self.config.on_connect
        self._commit(connection, True, None if call is None else partial(call, self))
        self._error, self._failures, self._retry_at = None, 0, None

    def closed_with(self, connection: Connection, end: Close) -> None:
        """The connection has ended: the queues have no rings any more."""
        if connection is not self._connection:
            return
        was_up = self._up
        self._reason = end.reason or end.text
        self._error = end.error()
        for queue in (*self._rx, *self._tx):
            if queue.ring is not None:
                if self.config.on_interrupt is not None and isinstance(queue, RxQueue):
                    self.socket.unwatch(queue.ring.event_fd)
                # What the peer sent before it left is there to be received.
                queue.detach(keep=end.cause in (Cause.PEER, Cause.EOF), telling=was_up)
        level = logging.INFO if was_up or end.cause is Cause.LOCAL else self._seldom.level()
        self.log.log(level, "%s: %s", self.name, end.text)
        if was_up:
            self._disconnects += 1
        else:
            self._refused += 1
        self._commit(None, False, self._end_call() if was_up else None)
        if was_up:
            self.socket.wake()
        self._plan_retry()

    def _commit(self, connection: Connection | None, up: bool, call: Callable[[], object] | None) -> None:
        """Be up, or down, and owe the user a call: all or nothing, if an exception comes from a signal handler."""
        owe = self.socket.calls.append
        # No Python function begins and no loop turns in these lines: an exception comes before or after them.
        self._connection = connection
        self._up = up
        if call is not None:
            owe(call)

    def _end_call(self) -> Callable[[], object]:
        """What calls on_interrupt for what the peer sent before it left, then on_disconnect: in their order."""
        left = [queue.index for queue in self.rx if isinstance(queue, RxQueue) and queue.leftover()]
        return partial(self._ended, left)

    def _ended(self, left: list[int]) -> None:
        with contextlib.ExitStack() as stack:  # each is called, whatever the others raise; the last first
            for queue in (*self._rx, *self._tx):
                stack.callback(queue.told)
            if self.config.on_disconnect is not None:
                stack.callback(self.config.on_disconnect, self)
            if (on_interrupt := self.config.on_interrupt) is not None:
                for qid in reversed(left):
                    stack.callback(on_interrupt, self, qid)

    # -- own machinery; the socket's lock is held

    def tick(self, now: float) -> None:
        """Connect if it is time to."""
        if self._connection is not None:
            return
        if self._retry_at is None:
            self._plan_retry()  # an exception came before this was done
        elif now >= self._retry_at:
            self._retry_at = None
            self._connect()

    @property
    def deadline(self) -> float | None:
        """When `tick` wants to be called."""
        wants = self.config.role is Role.SLAVE and self.config.reconnect is not None and not self._closed
        return 0.0 if wants and self._retry_at is None and self._connection is None else self._retry_at

    def _connect(self) -> None:
        try:
            self._connection = self.socket.open_connection(self)
        except MemifError as error:
            if self._error is None or str(self._error) != str(error):
                self.log.info("%s: %s", self.name, error)
            self._error = error
            self._plan_retry()
            return
        self._error = None
        self._connection.start()

    def start(self) -> None:
        """First attempt of a slave."""
        if self.config.reconnect is not None:
            self._connect()

    def start_once(self) -> None:
        """For `memif.connect`: the only attempt of a slave that does not connect by itself; raises what is wrong."""
        if self.config.role is Role.SLAVE and self.config.reconnect is None:
            self.connect()

    def _plan_retry(self) -> None:
        period = self.config.reconnect
        if self.config.role is Role.SLAVE and period is not None and not self._closed:
            # Quickly at first: the master may be just starting. VPP and libmemif wait for their period at once.
            delay = min(period, _FIRST_RETRY * 2 ** min(self._failures, 16))
            self._failures += 1
            self._retry_at = time.monotonic() + delay

    def _wanted(self, count: int | None) -> int:
        # A master's number is a limit: the slave decides. One queue is there from the start, so that iface.rx[0]
        # can be named before the link is up.
        return 1 if count is None or self.config.role is Role.MASTER else count

    def _queue(self, kind: Any, index: int) -> Any:
        queue = kind(self, index, self.socket.fileno())
        if kind is RxQueue:
            queue.mode = self.config.rx_mode
        return queue

    def _show_queues(self, rx: int | None = None, tx: int | None = None) -> None:
        #: Receive queues (M2S rings of a slave, S2M rings of a master); as many as the present or last link has.
        self.rx: tuple[RxQueue, ...] = tuple(self._rx[:rx])
        #: Transmit queues (S2M rings of a slave, M2S rings of a master).
        self.tx: tuple[TxQueue, ...] = tuple(self._tx[:tx])

    def _check_open(self) -> None:
        if self._closed:
            raise MemifClosedError(f"{self.name} was closed")
        self._check_parent()

    def _check_parent(self) -> None:
        if self.socket.pid != os.getpid():
            raise MemifStateError(f"{self.name} belongs to the parent process: open another one after fork()")


def region_details(mapped: Mapped) -> tuple[RegionDetails, ...]:
    """What there is to say of a connection's memory."""
    return tuple(
        RegionDetails(i, len(region), int(fd), mapped.external)
        for i, (region, fd) in enumerate(zip(mapped.regions, mapped.fds, strict=False))
    )


def _queues_details(queues: Sequence[RxQueue | TxQueue]) -> tuple[QueueDetails, ...]:
    # Each ring is looked up once: another thread may take it away at any time.
    rings = [(queue.index, queue.ring) for queue in queues]
    return tuple(
        QueueDetails(index, ring.region_index, ring.size, ring.flags, ring.head, ring.tail, ring.buffer_size)
        for index, ring in rings
        if ring is not None
    )
