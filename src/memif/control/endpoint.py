"""One interface at work: its connection, its attempts to connect, its queues.

An endpoint is the host of its connection (`memif.control.connection.Host`), a member of its engine
(`memif.control.engine.Member`) and the owner of its queues (`memif.ring`). The methods that users call are documented
in `memif.Interface`.
"""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from memif.config import DEFAULT_CACHE_LINE, MODE_NAMES, Deadline, InterfaceConfig, seconds
from memif.control import causes, transport
from memif.control.connection import Connection
from memif.control.engine import Engine, Interrupt
from memif.errors import (
    ErrorCode,
    MemifClosedError,
    MemifDisconnectedError,
    MemifError,
    MemifStateError,
    MemifTimeoutError,
    MemifTypeError,
)
from memif.hints import RxQueues, TxQueues
from memif.logs import Seldom, get_logger
from memif.memory import mapped as memory
from memif.memory.mapped import Mapped
from memif.protocol import (
    Cause,
    Close,
    CreateMemory,
    InterfaceInfo,
    MapMemory,
    Refusal,
    RegionOffer,
    RingOffer,
    Role,
    SlaveConfig,
    SlaveHandshake,
)
from memif.protocol.refusals import ALREADY_CONNECTED
from memif.ring import RxQueue, RxRing, TxQueue, TxRing
from memif.system import Single
from memif.types import Details, InterfaceStats, ModeName, Peer, QueueDetails, RegionDetails, Side

_log = get_logger("memif.interface")

#: Permanent refusals: trying again cannot help.
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
#: Seconds after the link came up that a master waits for the slave's first buffers, at most.
_FIRST_BUFFERS = 0.3


class Endpoint(Single):
    """The machinery of one interface, through all its connections."""

    def __init__(self, engine: Engine, config: InterfaceConfig) -> None:
        """Make an endpoint that `Engine.add` sets to work."""
        self.engine: Engine = engine
        self.config: InterfaceConfig = config
        #: What the callbacks of the user get.
        self.face: Any = self
        #: For the error of an operation before the first link: how to wait for it.
        self.advice: str = "call wait_up() or poll() first"
        self.log: logging.LoggerAdapter[logging.Logger] = logging.LoggerAdapter(_log, {"interface": config.name})
        self.connection: Connection | None = None
        self.up: bool = False
        self.closed: bool = False
        self.reason: str | None = None
        self._error: MemifError | None = None  # of the present attempt
        self._last: MemifError | None = None  # of the attempts since the link was up
        self._failures = 0
        self._seldom = Seldom()
        self._up_since = 0.0
        self._offered = False
        self._retry_at: float | None = None
        self._connects = self._disconnects = self._refused = 0
        self._interrupts: dict[int, Interrupt] = {}
        self._rx = [self._queue(RxQueue, i) for i in range(self._wanted(config.rx_queues))]
        self._tx = [self._queue(TxQueue, i) for i in range(self._wanted(config.tx_queues))]
        self._show_queues()

    def _wanted(self, count: int | None) -> int:
        # A master's number is a limit: the slave decides. One queue is there from the start, so that iface.rx[0]
        # can be named before the link is up.
        return 1 if count is None or self.config.role is Role.MASTER else count

    def _queue(self, kind: Any, index: int) -> Any:
        queue = kind(self, index, self.engine.poller.fileno())
        if kind is RxQueue:
            queue.mode = self.config.rx_mode
        return queue

    def _show_queues(self, rx: int | None = None, tx: int | None = None) -> None:
        #: Receive queues (M2S rings of a slave, S2M rings of a master); as many as the present or last link has.
        self.rx: tuple[RxQueue, ...] = RxQueues(self._rx[:rx])
        #: Transmit queues (S2M rings of a slave, M2S rings of a master).
        self.tx: tuple[TxQueue, ...] = TxQueues(self._tx[:tx])
        self.face.rx, self.face.tx = self.rx, self.tx  # looked up for each call on a queue, so without a call

    # -- what it is

    @property
    def name(self) -> str:
        """Name that the peer is told."""
        return self.config.name

    @property
    def role(self) -> Side:
        """Which side of a link."""
        return "master" if self.config.role is Role.MASTER else "slave"

    @property
    def mode(self) -> ModeName:
        """What the packets are."""
        return MODE_NAMES[self.config.mode]

    @property
    def peer(self) -> Peer | None:
        """Who is at the other end; None while the link is down."""
        connection = self.connection
        if connection is None or not self.up:
            return None
        shake, who = connection.handshake, connection.credentials
        return Peer(shake.peer_name, shake.peer_if_name, who.pid, who.uid, who.gid)

    @property
    def stats(self) -> InterfaceStats:
        """Counters, through all connections."""
        return {
            "rx": [q.stats for q in self._rx],
            "tx": [q.stats for q in self._tx],
            "connects": self._connects,
            "disconnects": self._disconnects,
            "refused": self._refused,
        }

    def details(self) -> Details:
        """Everything at this moment."""
        return Details(
            name=self.name,
            app_name=self.engine.app_name,
            id=self.config.id,
            role=self.role,
            mode=self.mode,
            socket=str(self.engine.address),
            secret=self.config.secret,
            link_up=self.up,
            peer=self.peer,
            disconnect_reason=self.reason,
            rx_queues=queue_details(self.rx),
            tx_queues=queue_details(self.tx),
            regions=self._region_details(),
        )

    def _region_details(self) -> tuple[RegionDetails, ...]:
        connection = self.connection
        mapped = None if connection is None else connection.mapped  # another thread may take both away
        return region_details(mapped) if self.up else ()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "up" if self.up else "down"
        return f"<Interface {self.name!r} id {self.config.id}, {self.role} on {self.engine.address}, {state}>"

    # -- what a user does with it

    def wait_up(self, timeout: float | None = None) -> None:
        """See `memif.Interface.wait_up`."""
        limit = seconds("timeout", timeout)
        deadline = None if limit is None else time.monotonic() + limit
        self.check_open()
        while not self.up:
            if self._error is not None and self._given_up(self._error):
                raise self._error
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise self.timed_out(limit or 0.0)
            self.engine.poll(0.1 if left is None else min(left, 0.1))
            self.check_open()
        while self.filling(time.monotonic()) and (deadline is None or time.monotonic() < deadline):
            self.engine.poll(1e-3)

    def filling(self, now: float) -> bool:
        """Master: whether the slave has still to offer its first buffers, and is given the time for it."""
        if self._offered or not self.up or now - self._up_since >= _FIRST_BUFFERS:
            return False
        rings = [ring for queue in self.tx if (ring := queue.ring) is not None]
        self._offered = all(ring.head != ring.tail for ring in rings)
        return not self._offered

    def _given_up(self, error: MemifError) -> bool:
        """Whether another attempt is not made, or cannot help. The next client of a master may be a better one."""
        if self.config.role is Role.MASTER:
            return False
        return error.code in _FINAL or (self.config.reconnect is None and self.connection is None)

    def timed_out(self, waited: float) -> MemifTimeoutError:
        """Return the error for having waited in vain for that many seconds: the cause once and first."""
        error = MemifTimeoutError(f"{self._cause()} (waited {waited:g} s)")
        error.__cause__ = self._last
        return error

    def _cause(self) -> str:
        if self.config.role is Role.SLAVE:
            return f"{self.engine.address} did not answer" if self._last is None else str(self._last)
        place = f"id {self.config.id} on {self.engine.address}"
        if self._last is not None:
            return f"{self._last}: {place}"
        other = self.engine.acceptor.unknown_id
        asked = "" if other is None else f"; one asked for id {other}, which is not open here"
        return f"no client asked for {place}{asked}"

    def connect(self) -> None:
        """See `memif.Interface.connect`."""
        with self.engine.locked():
            self.check_open()
            if self.config.role is Role.MASTER:
                raise MemifStateError("a master does not connect, it waits for its client")
            if self.connection is not None:
                raise MemifStateError(f"{self.name} is connected already", code=ErrorCode.ALRCONN)
            self._connect()
            if self._error is not None:
                raise self._error

    def connect_once(self) -> None:
        """For `memif.connect`: the only attempt of a slave that does not connect by itself; raises what is wrong."""
        if self.config.role is Role.SLAVE and self.config.reconnect is None:
            self.connect()

    def disconnect(self, reason: str = "") -> None:
        """See `memif.Interface.disconnect`."""
        if not isinstance(reason, str):
            raise MemifTypeError.argument("reason", reason, "a text")
        with self.engine.locked():
            self._check_parent()
            if self.connection is not None:
                self.connection.disconnect(reason)

    def drain(self, timeout: float | None = None) -> bool:
        """See `memif.Interface.drain`."""
        deadline = Deadline(timeout)
        return all(queue.drain(deadline.rest()) for queue in self.tx)

    def close(self, *, drain: float = 0.0) -> None:
        """See `memif.Interface.close`. In a forked child the parent keeps the link."""
        if self.engine.pid != os.getpid():
            self.closed = True
            self.engine.close()
            return
        limit = seconds("drain", drain, none=False)
        try:
            if limit and self.up:
                with contextlib.suppress(MemifDisconnectedError, MemifClosedError):
                    self.drain(limit)
        finally:
            self.engine.alone(self.close_now)

    def check_open(self) -> None:
        """Raise `MemifClosedError` or `MemifStateError` where nothing can be done with the interface."""
        if self.closed:
            raise MemifClosedError(f"{self.name} was closed")
        self._check_parent()

    def _check_parent(self) -> None:
        if self.engine.pid != os.getpid():
            raise MemifStateError(f"{self.name} belongs to the parent process: open another one after fork()")

    # -- the owner of the queues

    def serve(self) -> None:
        """Look after the control channel without waiting."""
        self.engine.serve()

    def broken(self, ring: RxRing | TxRing, text: str) -> None:
        """The peer violated the ring protocol on `ring`: end the connection that it belongs to."""
        with self.engine.locked():
            connection = self.connection
            if connection is not None and connection.mapped is not None and ring.alive:
                self.log.warning("%s: %s", self.name, text)
                connection.disconnect(text)

    def down(self) -> MemifError:
        """Return the error for an operation that needs the link."""
        if self.closed:
            return MemifClosedError(f"{self.name} was closed")
        if not self._connects and self.reason is None:
            return MemifDisconnectedError(f"{self.name}: {self._not_yet()}")
        reason = f": {self.reason}" if self.reason else ""
        return MemifDisconnectedError(f"{self.name}: the link is down{reason}")

    def _not_yet(self) -> str:
        address = self.engine.address
        if self.config.role is Role.MASTER:
            return f"no peer has connected yet on {address}; {self.advice}"
        if self._last is not None:
            return str(self._last)
        connect = "call connect(), then " if self.config.reconnect is None and self.connection is None else ""
        return f"not connected to {address} yet; {connect}{self.advice}"

    # -- a member of the engine; the lock is held

    @property
    def deadline(self) -> float | None:
        """When `tick` wants to be called."""
        wants = self.config.role is Role.SLAVE and self.config.reconnect is not None and not self.closed
        return 0.0 if wants and self._retry_at is None and self.connection is None else self._retry_at

    def tick(self, now: float) -> None:
        """Connect if it is time to."""
        if self.connection is not None:
            return
        if self._retry_at is None:
            self._plan_retry()  # an exception came before this was done
        elif now >= self._retry_at:
            self._retry_at = None
            self._connect()

    def start(self) -> None:
        """Make a slave's first attempt."""
        if self.config.role is Role.SLAVE and self.config.reconnect is not None:
            self._connect()

    def offer(self) -> InterfaceInfo | Refusal:
        """Master: what a client that asks for this interface may have."""
        if self.connection is not None:
            return ALREADY_CONNECTED
        config = self.config
        return InterfaceInfo(
            config.name,
            config.mode,
            config.secret,
            max_s2m_rings=config.rx_queues,
            max_m2s_rings=config.tx_queues,
            max_regions=config.max_regions,
            max_region_bytes=config.max_region_bytes,
            owner=self,
        )

    def close_now(self) -> None:
        """All of `close` that needs the lock."""
        # Each step can be done again: after an exception the second call does the rest.
        self.closed = True
        self._retry_at = None
        if self.connection is not None:
            self.connection.disconnect("interface deleted")
        for queue in self._rx:
            queue.detach()  # also what is left of a link that ended before
        self.engine.remove(self)

    def abandon(self) -> None:
        """In a forked child: there is nothing beside the connection, which is abandoned by itself."""

    def _connect(self) -> None:
        config = self.config
        slave = SlaveConfig(
            config.id,
            config.mode,
            config.secret,
            self.engine.app_name,
            config.name,
            s2m_rings=1 if config.tx_queues is None else config.tx_queues,
            m2s_rings=1 if config.rx_queues is None else config.rx_queues,
            log2_ring_size=config.log2_ring_size,
        )
        before = self._last
        try:
            sock = transport.connect_socket(self.engine.address)
            shake = SlaveHandshake(slave, time.monotonic(), self.engine.handshake_timeout)
            self.connection = Connection(
                sock, shake, self, config.name, self.engine.poller, self.engine.connections, host=self
            )
            self._error = None
            self.connection.start()
        except MemifError as error:
            self.connection = None
            if before is None or str(before) != str(error):
                self.log.info("%s: %s", self.name, error)
            self._error = self._last = error
            self._plan_retry()

    def _plan_retry(self) -> None:
        period = self.config.reconnect
        if self.config.role is Role.SLAVE and period is not None and not self.closed:
            # Quickly at first: the master may be just starting. VPP and libmemif wait for their period at once.
            delay = min(period, _FIRST_RETRY * 2 ** min(self._failures, 16))
            self._failures += 1
            self._retry_at = time.monotonic() + delay

    # -- the host of the connection; the lock is held

    def selected(self, connection: Connection) -> None:
        """Master: a client wants this interface. It has it from here on, unless it is not welcome."""
        self.connection = connection
        connection.name = self.name
        authorize = self.config.authorize
        if authorize is not None:
            who = connection.credentials
            welcome = False
            try:
                welcome = bool(authorize(Peer(connection.handshake.peer_name, "", who.pid, who.uid, who.gid)))
            finally:  # also when it raises, which the caller of `poll` gets to see
                if not welcome:
                    connection.refuse(MemifStateError("not authorized", code=ErrorCode.ACCES))

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

    def take_memory(self, wanted: MapMemory) -> Mapped:
        """Master: the slave's memory, checked and mapped."""
        config = self.config
        return memory.adopt(
            wanted, seal=config.seal, limit=config.max_region_bytes, cache_line=config.cache_line, name=self.name
        )

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
                self.watch(rx.index, rx.fileno())  # by which the queue knows, too
        for tx_ring, tx in zip(mapped.tx, self.tx, strict=True):
            tx.attach(tx_ring)
        self.log.info("%s: connected to %s", self.name, connection.handshake.peer_if_name)
        self._connects += 1
        call = self.config.on_connect
        self._commit(connection, True, None if call is None else partial(call, self.face))
        self._error = self._last = None
        self._failures, self._retry_at = 0, None

    def closed_with(self, connection: Connection, end: Close) -> None:
        """The connection has ended: the queues have no rings any more."""
        if connection is not self.connection:
            return
        was_up = self.up
        self._note(end)
        self.unwatch()
        for queue in (*self._rx, *self._tx):
            if queue.ring is not None:
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
            self.engine.poller.wake()  # threads that wait in a queue's call
        self._plan_retry()

    def turned_down(self, end: Close) -> None:
        """Master: a client that asked for this interface did not get it."""
        self._refused += 1
        if self.connection is None:  # else it has to do with a second client, not with the link
            self._note(end)

    def _note(self, end: Close) -> None:
        self.reason = end.reason or end.text
        config = self.config
        text = (
            causes.of_master(end) if config.role is Role.MASTER else causes.of_slave(end, config, self.engine.address)
        )
        self._error = self._last = end.error(text)

    def _commit(self, connection: Connection | None, up: bool, call: Callable[[], object] | None) -> None:
        """Be up, or down, and owe the user a call: all or nothing, if an exception comes from a signal handler."""
        owe = self.engine.later
        # No Python function begins and no loop turns in these lines: an exception comes before or after them.
        self.connection = connection
        self.up = up
        if call is not None:
            owe(call)

    def watch(self, qid: int, fd: int) -> None:
        """Call on_interrupt whenever `fd`, of receive queue `qid`, is readable."""
        self._interrupts[qid] = Interrupt(self.engine, fd, partial(self._interrupt, qid))

    def unwatch(self) -> None:
        """Before the descriptors of the rings go."""
        for qid, interrupt in tuple(self._interrupts.items()):
            interrupt.close()
            del self._interrupts[qid]

    def _interrupt(self, qid: int) -> None:
        call = self.config.on_interrupt
        if self.up and call is not None:
            call(self.face, qid)

    def _end_call(self) -> Callable[[], object]:
        """What calls on_interrupt for what the peer sent before it left, then on_disconnect: in their order."""
        left = [queue.index for queue in self.rx if isinstance(queue, RxQueue) and queue.leftover()]
        return partial(self._ended, left)

    def _ended(self, left: list[int]) -> None:
        with contextlib.ExitStack() as stack:  # each is called, whatever the others raise; the last first
            for queue in (*self._rx, *self._tx):
                stack.callback(queue.told)
            if self.config.on_disconnect is not None:
                stack.callback(self.config.on_disconnect, self.face)
            if (on_interrupt := self.config.on_interrupt) is not None:
                for qid in reversed(left):
                    stack.callback(on_interrupt, self.face, qid)


def region_details(mapped: Mapped | None) -> tuple[RegionDetails, ...]:
    """Return what there is to say of a connection's memory, nothing for None."""
    if mapped is None:
        return ()
    return tuple(
        RegionDetails(i, len(region), int(fd), mapped.external)
        for i, (region, fd) in enumerate(zip(mapped.regions, mapped.fds, strict=False))
    )


def queue_details(queues: Sequence[RxQueue | TxQueue]) -> tuple[QueueDetails, ...]:
    """Return what there is to say of the rings that the queues have."""
    # Each ring is looked up once: another thread may take it away at any time.
    rings = [(queue.index, queue.ring) for queue in queues]
    return tuple(
        QueueDetails(index, ring.region_index, ring.size, ring.flags, ring.head, ring.tail, ring.buffer_size)
        for index, ring in rings
        if ring is not None
    )
