"""One control socket at work: whose turn it is, what is ready, when to look at the clock, and what users are told.

All work is done in the calls of users, in their threads. The engine's lock lets one of them change connections at a
time; functions of the user are called once the lock is free again (`Engine.later`).

An exception may come out of any step at any moment, from a signal handler or for lack of memory. `Guard` gives the lock
back then, and the next call puts right what was broken off (`Engine._tick`).
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from memif.address import Address
from memif.config import seconds
from memif.control.acceptor import Acceptor, Candidate
from memif.control.connection import Connection
from memif.control.poller import Observer, Poller
from memif.errors import MemifClosedError, MemifStateError, MemifValueError, from_os_error
from memif.protocol import Role
from memif.system import Single
from memif.system._steady import Count, Guard, Hold

# Seconds between two looks of a poll inside of on_interrupt.
_NESTED_WAIT = 0.001


class Member(Candidate, Protocol):
    """An interface of this socket, as the engine knows it. The lock is held when these are called."""

    @property
    def deadline(self) -> float | None:
        """When `tick` wants to be called."""

    def start(self) -> None:
        """The engine has it now: a slave makes its first attempt to connect."""

    def tick(self, now: float) -> None:
        """It is `deadline`."""

    def close_now(self) -> None:
        """End the connection and call `Engine.remove`."""

    def abandon(self) -> None:
        """In a forked child: close our copies and leave everything to the parent."""


class Descriptors(Protocol):
    """What waits for the event fds of an engine's queues."""

    def add(self, fd: int, watcher: "Interrupt") -> None:
        """Have ``watcher.ready`` or ``watcher.run`` called when `fd` is readable. May raise what an observer raises."""

    def remove(self, fd: int, watcher: "Interrupt") -> None:
        """Forget `fd`, if it is that watcher's. To be called before the descriptor is closed."""


class Interrupt:
    """Calls a function of the user whenever a descriptor is readable, but only inside `Engine.poll`."""

    def __init__(self, engine: "Engine", fd: int, call: Callable[[], None]) -> None:
        """Watch `fd`. Raises what ``engine.interrupts`` raises."""
        self.engine: Engine = engine
        self._fd = fd
        self._call = call
        self.running: Count = Count()
        engine.interrupts.add(fd, self)

    def ready(self, events: int) -> bool:
        """Have the call made once the lock is free; not inside of itself, and in no call but `poll`."""
        due = self.engine.due
        if due is None or self.running:
            return False
        due.append(self)
        return True

    def run(self) -> None:
        """Make the call."""
        with self.running:
            self._call()

    def close(self) -> None:
        """Before the descriptor is closed."""
        self.engine.interrupts.remove(self._fd, self)


class Engine(Single):
    """The machinery of one control socket. `memif.Socket` says what the methods of the same names do for users."""

    def __init__(
        self,
        address: Address,
        *,
        app_name: str,
        mode: int | None,
        owner: tuple[int, int] | None,
        handshake_timeout: float,
        max_pending: int,
        observer: Observer | None = None,
    ) -> None:
        """Open the three descriptors of the poller; `MemifOSError` without them.

        Args:
            address: Where to listen or to connect.
            app_name: What peers are told.
            mode: Of the socket file, see `memif.control.listener.listen_socket`.
            owner: Of the socket file.
            handshake_timeout: Seconds until a peer has to be up.
            max_pending: The most clients in their handshake.
            observer: See `memif.control.poller.Poller`.
        """
        self._closed = True
        self.address: Address = address
        self.app_name: str = app_name
        self.handshake_timeout: float = handshake_timeout
        self.pid: int = os.getpid()
        self._lock = threading.RLock()
        self._guard = Guard(self._lock)
        try:
            self.poller: Poller = Poller(observer)
        except OSError as error:  # what was made is closed with this object
            raise from_os_error(error, "control socket") from error
        self.members: dict[tuple[Role, int], Member] = {}
        self.connections: set[Connection] = set()
        self.acceptor: Acceptor = Acceptor(
            address,
            app_name,
            self.poller,
            self.connections,
            self.members,
            mode=mode,
            owner=owner,
            handshake_timeout=handshake_timeout,
            max_pending=max_pending,
        )
        #: Interrupts that the present round has found, None outside of `poll`.
        self.due: list[Interrupt] | None = None
        self._in_interrupt = Count()
        self._pollers = Count()
        self._cancelled = False
        #: What is to be called when the lock is free, see `run_calls`.
        self.calls: deque[Callable[[], object]] = deque()
        #: ``later(call)``: have `call` made when the lock is free again. Not a Python function: no exception splits it.
        self.later: Callable[[Callable[[], object]], None] = self.calls.append
        #: Where interrupts are watched: the poller, unless somebody who waits for more than this engine does it.
        self.interrupts: Descriptors = self.poller
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self.close()

    # -- interfaces

    def add(self, member: Member) -> None:
        """Take an interface in. Raises `MemifValueError` when its id is taken, and what listening raises."""
        with self.locked():
            config = member.config
            key = (config.role, config.id)
            if key in self.members:
                raise MemifValueError.argument("id", config.id, f"one that no {config.role.value} on this socket has")
            if config.role is Role.MASTER:
                self.acceptor.listen()
            self.members[key] = member
            member.start()

    def remove(self, member: Member) -> None:
        """The interface is closed."""
        key = (member.config.role, member.config.id)
        if self.members.get(key) is member:
            del self.members[key]
        if not any(role is Role.MASTER for role, _ in tuple(self.members)):
            self.acceptor.pause()

    def all_members(self) -> tuple[Member, ...]:
        """Return the interfaces there are; a signal handler may change the table meanwhile."""
        return tuple(self.members.values())

    # -- waiting and handling

    def poll(self, timeout: float | None = None) -> bool:
        """See `memif.Socket.poll`."""
        limit = seconds("timeout", timeout)
        deadline = None if limit is None else time.monotonic() + limit
        self.check_open()
        try:
            with self._pollers:
                return self._poll_until(deadline)
        finally:
            self._release_descriptors()

    def _poll_until(self, deadline: float | None) -> bool:
        while True:
            if self._handle(polling=True):
                return True
            if self._cancelled or self._closed:
                self._cancelled = False
                return False
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return False
            if self._in_interrupt:  # whose descriptor is still readable: waiting for it would not wait
                time.sleep(_NESTED_WAIT if left is None else min(left, _NESTED_WAIT))
            else:
                self.poller.wait(left)

    def cancel_poll(self) -> None:
        """See `memif.Socket.cancel_poll`."""
        with self._lock:
            self._cancelled = True
            self.poller.wake()

    def serve(self) -> None:
        """Handle what is pending, for a queue's call: without waiting, and without on_interrupt."""
        if not self._closed and self.pid == os.getpid():
            self._handle(polling=False)
            self._release_descriptors()

    def _handle(self, *, polling: bool) -> bool:
        """Do everything that can be done now. Returns whether there was anything."""
        interrupts: list[Interrupt] = []
        # Only pollers wait for the lock: another thread that has it does the work.
        handled = self._guard.run(self._round, interrupts if polling else None, blocking=polling)
        if handled is None:
            return False
        for interrupt in interrupts:
            with self._in_interrupt:
                interrupt.run()
        return self.run_calls() or handled

    def _round(self, interrupts: list[Interrupt] | None) -> bool:
        """With the lock: all that is pending. `interrupts` takes those that are to be called."""
        if self._closed:
            return False
        before, self.due = self.due, interrupts
        try:
            handled = self._tick()
            # A thread in poll must see that it was woken, so only that one ends it, if there is one.
            handled |= self.poller.dispatch(awake=interrupts is not None or not self._pollers)
            if handled or self.poller.expired:  # maybe just after the look at the clock
                handled |= self._tick()
            return handled
        except BaseException:
            self.poller.wake()  # what is left undone, the next call does: an event loop has to make it
            raise
        finally:
            self.due = before

    def _tick(self) -> bool:
        """Look at the clock, and finish what an exception broke off. Returns whether there was anything."""
        now = time.monotonic()
        handled = False
        times: list[float] = []
        for connection in tuple(self.connections):
            due = connection.due
            if due is None:
                if connection.ended:
                    self.connections.discard(connection)
            elif now < due:
                times.append(due)
            else:
                connection.tick(now)
                handled = True
        for member in self.all_members():
            due = member.deadline
            if due is None:
                continue
            if now < due:
                times.append(due)
            else:
                member.tick(now)
                handled = True
        if handled:
            self._set_timer()
        else:
            self.poller.set_timer(min(times, default=None))
        return handled

    def _set_timer(self) -> None:
        """Have the poller ready when the next is due."""
        times = [due for each in tuple(self.connections) if (due := each.due) is not None]
        times += [due for each in self.all_members() if (due := each.deadline) is not None]
        self.poller.set_timer(min(times, default=None))

    # -- the lock, and what comes after it

    def locked(self) -> Hold:
        """Context: nobody else changes connections; calls that became due run after it."""
        return self._guard.hold(self._leave, self._after)

    def _leave(self) -> None:
        """On the way out of `locked`."""
        if self._guard.depth == 1 and not self._closed and self.pid == os.getpid():
            self._set_timer()

    def _after(self) -> None:
        """Once the lock is free again."""
        self._release_descriptors()
        self.run_calls()

    def alone(self, work: Callable[[], object]) -> None:
        """Do `work` with the lock. Where this thread is in the middle of something with it already (this is a signal
        handler, or a callback that is called at once), do it after that."""
        with self.locked():
            if self._guard.depth == 1:
                work()
            else:
                self.later(work)

    def run_calls(self) -> bool:
        """Make the calls that are due, without the lock. Returns whether there were any."""
        ran = False
        while True:
            try:
                call = self.calls.popleft()
            except IndexError:
                return ran
            ran = True
            call()

    # -- the end

    def close(self) -> None:
        """See `memif.Socket.close`."""
        if self._closed:
            return
        if self.pid != os.getpid():
            self._abandon()
            return
        self.alone(self._close_now)

    def _close_now(self) -> None:
        for member in self.all_members():
            member.close_now()
        if not self._closed:
            for connection in tuple(self.connections):
                connection.disconnect("closed")
            self.acceptor.close()
            self._closed = True
            self.poller.wake()

    def _release_descriptors(self) -> None:
        """Close what threads inside `poll` need, once there is none any more, and what the call needs that a signal
        handler interrupts."""
        if not self._closed or self.poller.closed:
            return
        with self._lock:
            if not self._pollers and not self._guard.depth:
                self.acceptor.release()
                self.poller.close()

    def _abandon(self) -> None:
        """In a forked child: close our copies and leave everything to the parent."""
        self._closed = True
        # At the fork another thread may have held the lock, or been in poll, which does not exist here.
        self._lock = threading.RLock()
        self._guard, self._pollers = Guard(self._lock), Count()
        for member in self.all_members():
            member.abandon()
        for connection in tuple(self.connections):
            connection.abandon()
        self.acceptor.abandon()
        self._release_descriptors()

    def check_open(self) -> None:
        """Raise `MemifClosedError` or `MemifStateError` where nothing can be done with the socket."""
        if self._closed:
            raise MemifClosedError(f"the socket {self.address} was closed")
        if self.pid != os.getpid():
            raise MemifStateError(f"the socket {self.address} belongs to the parent process")
