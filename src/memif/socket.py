"""Socket: one control socket with all its interfaces, and the one place that waits for events."""

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, Unpack

from memif.address import Address, SocketName, parse_address
from memif.config import (
    LARGEST_REGION_LIMIT,
    InterfaceConfig,
    Options,
    check_mode,
    check_name,
    check_owner,
    seconds,
    whole,
)
from memif.control import transport
from memif.control.acceptor import Gate, Seldom, whom_to_drop, widest
from memif.control.connection import Connection
from memif.control.listener import Listener, listen_socket
from memif.control.poller import Timer
from memif.errors import (
    ErrorCode,
    MemifClosedError,
    MemifStateError,
    MemifValueError,
    from_os_error,
)
from memif.interface import Interface, Peer
from memif.logs import get_logger
from memif.memory.mapped import Mapped
from memif.protocol import (
    Cause,
    Close,
    CreateMemory,
    InterfaceInfo,
    MapMemory,
    MasterConfig,
    MasterHandshake,
    Refusal,
    RegionOffer,
    RingOffer,
    Role,
    SlaveConfig,
    SlaveHandshake,
)
from memif.protocol.refusals import ALREADY_CONNECTED, IS_SLAVE, UNKNOWN_ID
from memif.protocol.wire import Init
from memif.system import Single
from memif.system._steady import Count, Guard, Hold, eventfd, notify
from memif.types import SocketStats

_log = get_logger("memif.socket")
_NOT_AUTHORIZED = Refusal("not authorized", ErrorCode.ACCES)
# Seconds between two looks of a poll inside of on_interrupt.
_NESTED_WAIT = 0.001
DEFAULT_APP_NAME = "memif for Python"


@dataclass(slots=True)
class _Watch:
    """A receive queue with an `on_interrupt`, and how many of its calls are running."""

    interface: Interface
    qid: int
    running: Count = field(default_factory=Count)


class Socket(Single):
    """A control socket: listens for clients while it has master interfaces, connects for each of its slaves.

    path            "/run/vpp/memif.sock" (default), "@abstract", "abstract:name", a path object
    app_name        what peers are told this program is called (at most 31 bytes)
    mode, owner     of the socket file, for masters: 0o600 unless told otherwise (None: the umask decides), and
                    (user id, group id); they hold before the first client can connect
    handshake_timeout   seconds that a client or server may take to come up before it is dropped
    max_pending     clients that may be in their handshake at once (64); one more costs the oldest of the process that
                    has most of them its connection

    All work is done by `poll` and by the calls on interfaces and queues, in the calling thread. Any thread may call any
    method. Context manager: leaving the block closes the socket and its interfaces.

    An exception may come out of any call at any moment, from a signal handler or for lack of memory: the next call puts
    right what it broke off, at worst by ending the connection that was concerned.

    Raises `MemifValueError` for a bad argument, `MemifOSError` without the three descriptors that it needs.
    """

    #: What `interface` makes; `memif.libmemif` has a kind of its own.
    interface_type: type[Interface] = Interface

    def __init__(
        self,
        path: SocketName | None = None,
        *,
        app_name: str = DEFAULT_APP_NAME,
        mode: int | None = 0o600,
        owner: tuple[int, int] | None = None,
        handshake_timeout: float = 5.0,
        max_pending: int = 64,
    ) -> None:
        self._closed = True
        self.address: Address = parse_address(path)
        self.app_name: str = check_name("app_name", app_name, 31)
        self.pid: int = os.getpid()
        self._mode = check_mode("mode", mode)
        self._owner = check_owner("owner", owner)
        self._handshake_timeout = seconds("handshake_timeout", handshake_timeout, none=False) or 0.0
        self._max_pending = whole("max_pending", max_pending, 1, 4096)
        self._lock = threading.RLock()
        self._guard = Guard(self._lock)
        try:
            self._epoll = select.epoll()
            self._wake = eventfd()
            self._timer = Timer()
        except OSError as error:  # what was made is closed with this object
            raise from_os_error(error, "control socket") from error
        self._listener: Listener | None = None
        self._gate = Gate()
        self._connections: dict[int, Connection] = {}
        self._interfaces: dict[tuple[Role, int], Interface] = {}
        self._watched: dict[int, _Watch] = {}
        self._in_interrupt = Count()
        #: What users are to be told, once the lock is free again.
        self.calls: deque[Callable[[], object]] = deque()
        self._cancelled = False
        self._pollers = Count()
        self._seldom = Seldom()
        self._closed = False
        #: Clients accepted; turned away because there were too many, or no descriptors left; refused before they had
        #: an interface.
        self.stats: SocketStats = {"accepted": 0, "turned_away": 0, "refused": 0}
        self._epoll.register(self._wake, select.EPOLLIN)
        self._epoll.register(self._timer.fd, select.EPOLLIN)

    # -- what a user calls

    @property
    def interfaces(self) -> tuple[Interface, ...]:
        """The interfaces that are open on this socket."""
        return tuple(self._interfaces.values())

    def interface(self, **options: Unpack[Options]) -> Interface:
        """Open an interface on this socket. Returns at once; the link comes up later, see `Interface.wait_up`.

        The arguments are those of `memif.config.Options`, which says what each means, its range and its default.
        All go by name; ``id`` and ``role`` are what most need.

        Raises `MemifValueError` for a bad argument; for a master what `memif.listen` raises.
        """
        return self._add(InterfaceConfig.make(**options), owns_socket=False)

    def only_interface(self, **options: Unpack[Options]) -> Interface:
        """Like `interface`, for a socket made for this one alone: closing the interface closes the socket too."""
        return self._add(InterfaceConfig.make(**options), owns_socket=True)

    def _add(self, config: InterfaceConfig, *, owns_socket: bool) -> Interface:
        with self.locked():
            self._check_open()
            key = (config.role, config.id)
            if key in self._interfaces:
                raise MemifValueError.argument("id", config.id, f"one that no {config.role.value} on this socket has")
            if config.role is Role.MASTER and self._listener is None:
                self._listener = listen_socket(self.address, mode=self._mode, owner=self._owner)
                self._epoll.register(self._listener.fileno(), select.EPOLLIN)
            interface = self.interface_type(self, config, owns_socket=owns_socket)
            self._interfaces[key] = interface
            if config.role is Role.SLAVE:
                interface.start()
            return interface

    def fileno(self) -> int:
        """One descriptor for select, epoll or an event loop: when it is readable, call ``poll(0)``."""
        return self._epoll.fileno()

    def poll(self, timeout: float | None = None) -> bool:
        """Handle what is pending, after waiting for it for `timeout` seconds at most (0: not at all, None: for ever).

        -> True when something was handled, False when the time passed or `cancel_poll` was called. Callbacks run in
        here, and their exceptions come out of here.
        """
        limit = seconds("timeout", timeout)
        deadline = None if limit is None else time.monotonic() + limit
        self._check_open()
        try:
            with self._pollers:
                return self._poll_until(deadline)
        finally:
            self._release_descriptors()

    def _poll_until(self, deadline: float | None) -> bool:
        while True:
            if self._handle(poller=True):
                return True
            if self._cancelled or self._closed:
                self._cancelled = False
                return False
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return False
            if self._in_interrupt:  # whose descriptor is still readable: waiting for it would not wait
                left = _NESTED_WAIT if left is None else min(left, _NESTED_WAIT)
                time.sleep(left)
            else:
                self._epoll.poll(left, 1)

    def cancel_poll(self) -> None:
        """End a `poll` that waits, or the next one. For any thread and for signal handlers."""
        with self._lock:
            self._cancelled = True
            notify(self._wake)

    def close(self) -> None:
        """Close all interfaces and the socket. A second call does nothing.

        A signal handler may call this, too, and `Interface.close`: what it interrupts in the middle is finished first.
        """
        if self._closed:
            return
        if self.pid != os.getpid():
            self._abandon()
            return
        self.alone(self._close_now)

    def _close_now(self) -> None:
        for interface in self.interfaces:
            interface.close_now()
        if not self._closed:
            for connection in list(self._connections.values()):
                connection.disconnect("closed")
            self._close_listener()
            self._closed = True
            notify(self._wake)

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self._interfaces)} interfaces"
        return f"<Socket {self.address}, {state}>"

    # -- for interfaces

    def locked(self) -> Hold:
        """Context: nobody else changes connections; callbacks that became due run after it."""
        return self._guard.hold(self._leave, self._after)

    def alone(self, work: Callable[[], object]) -> None:
        """Do `work` with the lock, and when this thread is in the middle of something with it already (this is a signal
        handler, or a callback that comes at once), do it after that."""
        with self.locked():
            if self._guard.depth == 1:
                work()
            else:
                self.later(work)

    def _leave(self) -> None:
        """On the way out of `locked`."""
        if self._guard.depth == 1 and not self._closed and self.pid == os.getpid():
            self._forget_ended()
            self._set_timer()

    def _after(self) -> None:
        """Once the lock is free again."""
        self._release_descriptors()
        self._run_calls()

    def serve(self) -> None:
        """Handle what is pending, for a queue operation: without waiting, and leaving `on_interrupt` aside."""
        if not self._closed and self.pid == os.getpid():
            self._handle(poller=False)
            self._release_descriptors()

    def leaving(self) -> tuple[Interface, ...]:
        """Interfaces whose peer has said goodbye or closed its end, which `poll` has yet to read. For event loops,
        which see the end of a link and its last packets at the same time."""
        with self.locked():
            if self._closed:
                return ()
            ready = {fd for fd, _ in self._epoll.poll(0)}
            return tuple(
                each
                for each in self._interfaces.values()
                if each.up
                and each._connection is not None
                and each._connection.fd in ready
                and each._connection.leaving()
            )

    def later(self, call: Callable[[], object]) -> None:
        """Run `call` when the lock is free again."""
        self.calls.append(call)

    def open_connection(self, interface: Interface) -> Connection:
        """Connect for a slave; raises what `memif.control.transport.connect_socket` raises."""
        config = interface.config
        shake = SlaveHandshake(
            SlaveConfig(
                config.id,
                config.mode,
                config.secret,
                self.app_name,
                config.name,
                s2m_rings=1 if config.tx_queues is None else config.tx_queues,
                m2s_rings=1 if config.rx_queues is None else config.rx_queues,
                log2_ring_size=config.log2_ring_size,
            ),
            time.monotonic(),
            self._handshake_timeout,
        )
        connection = Connection(transport.connect_socket(self.address), shake, interface, config.name)
        self._register(connection)
        return connection

    def wake(self) -> None:
        """Wake the threads that wait on this socket, in `poll` or in a queue's call: something has changed for them."""
        notify(self._wake)

    def remove(self, interface: Interface) -> None:
        """The interface is closed."""
        key = (interface.config.role, interface.id)
        if self._interfaces.get(key) is interface:
            del self._interfaces[key]
        if not any(role is Role.MASTER for role, _ in self._interfaces):
            self._close_listener()

    def watch(self, fd: int, interface: Interface, qid: int) -> None:
        """Call the interface's on_interrupt whenever `fd`, of its receive queue `qid`, is readable."""
        self._watched[fd] = _Watch(interface, qid)
        self._epoll.register(fd, select.EPOLLIN)

    def unwatch(self, fd: int) -> None:
        """The queue of `fd` has lost its ring."""
        if self._watched.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    # -- host of clients that have not chosen an interface yet

    def make_memory(self, wanted: CreateMemory) -> tuple[Mapped, list[RegionOffer], list[RingOffer]]:
        """Never asked of a listener."""
        raise AssertionError("a master makes no memory")

    def take_memory(self, connection: Connection, wanted: MapMemory) -> Mapped:
        """Never asked before an interface is selected."""
        raise AssertionError("no interface was selected")

    def selected(self, connection: Connection, id: int) -> None:
        """A client wants interface `id`: it belongs to that from here on, unless it is not welcome."""
        interface = self._interfaces[(Role.MASTER, id)]
        connection.host, connection.name = interface, interface.name
        interface.selected(connection, id)
        authorize = interface.config.authorize
        if authorize is not None:
            who = connection.credentials
            welcome = False
            try:
                welcome = bool(authorize(Peer(connection.handshake.peer_name, "", who.pid, who.uid, who.gid)))
            finally:  # also when it raises, which the caller of `poll` gets to see
                if not welcome:
                    connection.refuse(_refusal_error(_NOT_AUTHORIZED))

    def up_with(self, connection: Connection) -> None:
        """Never reached before an interface is selected."""

    def closed_with(self, connection: Connection, end: Close) -> None:
        """A client left, or was refused, before it had an interface."""
        if end.cause is Cause.LOCAL:
            return
        self.stats["refused"] += 1
        _log.log(self._seldom.level(), "%s: client refused: %s", self.address, end.text)

    def _lookup(self, init: Init) -> InterfaceInfo | Refusal:
        interface = self._interfaces.get((Role.MASTER, init.id))
        if interface is None:
            return IS_SLAVE if (Role.SLAVE, init.id) in self._interfaces else UNKNOWN_ID
        if interface._connection is not None:
            return ALREADY_CONNECTED
        config = interface.config
        return InterfaceInfo(
            config.name,
            config.mode,
            config.secret,
            max_s2m_rings=config.rx_queues,
            max_m2s_rings=config.tx_queues,
            max_regions=config.max_regions,
            max_region_bytes=config.max_region_bytes,
        )

    # -- events

    def _handle(self, *, poller: bool) -> bool:
        """Do everything that can be done now. -> whether there was anything."""
        interrupts: list[_Watch] = []
        # Nobody waits for the lock but those who poll: another thread that has it is at it.
        handled = self._guard.run(self._events, interrupts if poller else None, blocking=poller)
        if handled is None:
            return False
        for watch in interrupts:
            self._interrupt(watch)
        return self._run_calls() or handled

    def _events(self, interrupts: "list[_Watch] | None") -> bool:
        """With the lock: all that is pending. `interrupts` takes those that are to be called, None in no poll."""
        if self._closed:
            return False
        try:
            handled = self._tick()
            for fd, events in self._epoll.poll(0):
                handled |= self._event(fd, events, interrupts)
            return self._tick() or handled
        except BaseException:
            self.wake()  # what is left undone, the next call does: an event loop has to make it
            raise

    def _interrupt(self, watch: "_Watch") -> None:
        call = watch.interface.config.on_interrupt
        if watch.interface.up and call is not None:
            with self._in_interrupt, watch.running:
                call(watch.interface, watch.qid)

    def _event(self, fd: int, events: int, interrupts: "list[_Watch] | None") -> bool:
        if fd == self._wake:
            # A thread in poll must see this, so only that one takes it, if there is one.
            if interrupts is not None or not self._pollers:
                os.eventfd_read(self._wake)
            return False
        if fd == self._timer.fd:
            self._timer.clear()
            return False
        if self._listener is not None and fd == self._listener.fileno():
            self._accept()
            return True
        if fd in self._watched:
            watch = self._watched[fd]
            if interrupts is None or watch.running:  # a poll inside of on_interrupt does not call it again
                return False
            interrupts.append(watch)
            return True
        connection = self._connections.get(fd)
        if connection is not None:
            if events & select.EPOLLOUT:
                connection.writable()
            if events & ~select.EPOLLOUT:
                connection.readable()
            self._update(connection)
        return True

    def _tick(self) -> bool:
        """Look at the clock, and finish what an exception broke off."""
        now = time.monotonic()
        handled = False
        for connection in list(self._connections.values()):
            deadline = connection.handshake.deadline
            if connection.broken_off:
                connection.finish()
            elif deadline is not None and now >= deadline:
                connection.tick(now)
            elif not connection.ended:
                continue
            self._update(connection)
            handled = True
        for interface in self.interfaces:
            deadline = interface.deadline
            if deadline is not None and now >= deadline:
                interface.tick(now)
                handled = True
        self._set_timer()
        return handled

    def _set_timer(self) -> None:
        deadlines = [c.handshake.deadline for c in self._connections.values()]
        deadlines += [interface.deadline for interface in self._interfaces.values()]
        self._timer.set(min((d for d in deadlines if d is not None), default=None))

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            sock = self._gate.accept(self._listener)
        except OSError:
            self.stats["turned_away"] += 1
            return
        if sock is None:
            return
        self.stats["accepted"] += 1
        half_open = [c for c in self._connections.values() if c.handshake.deadline is not None]
        if len(half_open) >= self._max_pending:
            self.stats["turned_away"] += 1
            dropped = whom_to_drop(half_open)
            dropped.disconnect("too many clients in their handshake")
            self._update(dropped)
        # Which limits hold for the memory is known only when the client has said which interface it wants.
        masters = [interface.config for (role, _), interface in self._interfaces.items() if role is Role.MASTER]
        config = MasterConfig(
            self.app_name,
            max_region_bytes=LARGEST_REGION_LIMIT,
            max_s2m_rings=widest(master.rx_queues for master in masters),
            max_m2s_rings=widest(master.tx_queues for master in masters),
        )
        shake = MasterHandshake(config, self._lookup, time.monotonic(), self._handshake_timeout)
        connection = Connection(sock, shake, self, str(self.address))
        self._register(connection)
        connection.start()
        self._update(connection)

    def _register(self, connection: Connection) -> None:
        before = self._connections.get(connection.key)
        if before is not None:  # closed, and then broken off
            before.finish()
        self._connections[connection.key] = connection
        self._epoll.register(connection.fd, select.EPOLLIN)

    def _update(self, connection: Connection) -> None:
        """After any work on a connection: forget it when it has ended (epoll does by itself), or watch for room."""
        if connection.ended:
            if self._connections.get(connection.key) is connection:
                del self._connections[connection.key]
        elif connection.fd >= 0:
            self._epoll.modify(connection.fd, select.EPOLLIN | (select.EPOLLOUT if connection.wants_to_write else 0))

    def _forget_ended(self) -> None:
        for connection in [each for each in self._connections.values() if each.ended]:
            self._update(connection)

    def _run_calls(self) -> bool:
        ran = False
        while True:
            try:
                call = self.calls.popleft()
            except IndexError:
                return ran
            ran = True
            call()

    # -- the end

    def _close_listener(self) -> None:
        listener = self._listener
        if listener is not None:
            listener.close()
            self._listener = None

    def _release_descriptors(self) -> None:
        """Close what threads inside `poll` need, once there is none any more, and what the call needs that a signal
        handler interrupts."""
        if not self._closed or self._epoll.closed:
            return
        with self._lock:
            if not self._pollers and not self._guard.depth:
                self._epoll.close()
                self._timer.close()
                self._gate.close()
                self._wake.close()

    def _abandon(self) -> None:
        """In a forked child: close our copies and leave everything to the parent."""
        self._closed = True
        # At the fork another thread may have held the lock, or been in poll, which does not exist here.
        self._lock = threading.RLock()
        self._guard, self._pollers = Guard(self._lock), Count()
        for connection in self._connections.values():
            connection.abandon()
        if self._listener is not None:
            self._listener.close()
        self._release_descriptors()

    def _check_open(self) -> None:
        if self._closed:
            raise MemifClosedError(f"the socket {self.address} was closed")
        if self.pid != os.getpid():
            raise MemifStateError(f"the socket {self.address} belongs to the parent process")


def _refusal_error(refusal: Refusal) -> MemifStateError:
    return MemifStateError(refusal.text, code=refusal.code)
