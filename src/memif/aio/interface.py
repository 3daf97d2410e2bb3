"""Interface of the asyncio API: a sync interface whose events come from the loop."""

import asyncio
import contextlib
import inspect
import time
from collections.abc import Awaitable, Callable, Generator
from types import TracebackType
from typing import Any, Protocol, Self, cast

from memif.aio.queues import RxQueue, TxQueue
from memif.aio.waiting import LONGEST_SLEEP, Signal
from memif.config import CommonOptions, Deadline, seconds
from memif.errors import MemifClosedError, MemifDisconnectedError, MemifTimeoutError, MemifValueError
from memif.interface import Interface as SyncInterface, Options, endpoint_of
from memif.socket import Socket as SyncSocket
from memif.system import Single
from memif.types import Details, InterfaceStats, ModeName, Peer, Side

_CALLBACKS = ("on_connect", "on_disconnect", "on_interrupt")


class ControlSocket(Protocol):
    """The `memif.aio.Socket` of an interface, as far as the interface knows it."""

    loop: asyncio.AbstractEventLoop
    changed: Signal
    sync: SyncSocket

    def close(self) -> Awaitable[None]:
        """Close all interfaces and the socket."""


class Done:
    """Result of calls that have nothing to wait for: both ``iface.close()`` and ``await iface.close()`` work."""

    def __await__(self) -> Generator[None, None, None]:
        return
        yield


class Interface(Single):
    """One memif interface. Made by `memif.aio.connect`, `memif.aio.listen` and `memif.aio.Socket.interface`.

    As `memif.Interface`, with `wait_up` and the queues' `recv`, `send_all` and so on to be awaited. The control
    channel is looked after by the event loop, so `up` is always fresh. Callbacks run in the loop; one that is a
    coroutine function runs as a task.

    Async context manager: leaving the block closes the interface. Only for the loop's thread.
    """

    def __init__(self, socket: ControlSocket, options: "AioOptions", *, owns_socket: bool = False) -> None:
        """For `Socket.interface` only."""
        self.socket: ControlSocket = socket
        self._owns_socket = owns_socket
        self._tasks: set[asyncio.Task[Any]] = set()
        self._rx: dict[int, RxQueue] = {}
        self._tx: dict[int, TxQueue] = {}
        if inspect.iscoroutinefunction(options.get("authorize")):
            # A coroutine object is true, so it would let everybody in.
            raise MemifValueError.argument("authorize", "a coroutine function", "a function that returns a bool")
        #: The interface of the sync API behind this one.
        self.sync: SyncInterface = socket.sync.interface(**self._with_callbacks(options))

    # -- what it is

    @property
    def id(self) -> int:
        """Number of the interface on its socket."""
        return self.sync.id

    @property
    def name(self) -> str:
        """Name that the peer is told."""
        return self.sync.name

    @property
    def role(self) -> Side:
        """ "slave" or "master"."""
        return self.sync.role

    @property
    def mode(self) -> ModeName:
        """ "ethernet", "ip" or "punt/inject"."""
        return self.sync.mode

    @property
    def up(self) -> bool:
        """True while the link is up."""
        return self.sync.up

    @property
    def closed(self) -> bool:
        """True once `close` was called."""
        return self.sync.closed

    @property
    def peer(self) -> Peer | None:
        """Who is at the other end; None while the link is down."""
        return self.sync.peer

    @property
    def disconnect_reason(self) -> str | None:
        """Why the last connection ended or was refused; None if there was none yet."""
        return self.sync.disconnect_reason

    @property
    def stats(self) -> InterfaceStats:
        """Counters, as `memif.Interface.stats`."""
        return self.sync.stats

    def details(self) -> Details:
        """Everything about the interface at this moment."""
        return self.sync.details()

    @property
    def rx(self) -> tuple[RxQueue, ...]:
        """Receive queues; as many as the present or last link has."""
        return tuple(self._rx.get(queue.index) or self._new_rx(queue) for queue in self.sync.rx)

    @property
    def tx(self) -> tuple[TxQueue, ...]:
        """Transmit queues; as many as the present or last link has."""
        return tuple(self._tx.get(queue.index) or self._new_tx(queue) for queue in self.sync.tx)

    def _new_rx(self, queue: Any) -> RxQueue:
        return self._rx.setdefault(queue.index, RxQueue(self.socket.loop, queue, self.socket.changed))

    def _new_tx(self, queue: Any) -> TxQueue:
        return self._tx.setdefault(queue.index, TxQueue(self.socket.loop, queue))

    def __repr__(self) -> str:
        return f"<aio {self.sync!r}>"

    # -- what one does with it

    async def wait_up(self, timeout: float | None = None) -> None:
        """Return when the link is up; wait `timeout` seconds at most (None: for ever).

        Packets can move in both directions then, as in `memif.Interface.wait_up`.

        Raises `MemifTimeoutError` when the link does not come up, with the last failure as its cause; a failure that
        would stay the same
        (wrong secret or mode, no permission) at once, as the error of its own kind; `MemifClosedError`.
        """
        deadline = Deadline(timeout)
        while True:
            try:
                self.sync.wait_up(0)
            except MemifTimeoutError as error:
                left = deadline.left(LONGEST_SLEEP)
                if left <= 0:
                    text = error.detail.replace("within 0 s", f"within {deadline.timeout:g} s")
                    raise MemifTimeoutError(text) from error.__cause__
            else:
                break
            await self.socket.changed.wait(left)
        while endpoint_of(self.sync).filling(time.monotonic()) and deadline.left(LONGEST_SLEEP) > 0:
            await asyncio.sleep(1e-3)

    async def drain(self, timeout: float | None = None) -> bool:
        """Wait until the peer has taken all that was sent, on all queues; see `memif.TxQueue.drain`."""
        deadline = Deadline(timeout)
        for queue in self.tx:
            if not await queue.drain(deadline.rest()):
                return False
        return True

    def connect(self) -> None:
        """Slave: try to connect now, once. Returns when the attempt is under way; see `wait_up`.

        Needed only with ``reconnect=None``. Errors as in `memif.Interface.connect`.
        """
        self.sync.connect()

    def disconnect(self, reason: str = "") -> None:
        """Take the link down and tell the peer `reason`, see `memif.Interface.disconnect`."""
        self.sync.disconnect(reason)
        self.socket.changed.set()

    def close(self, *, drain: float = 0.0) -> Awaitable[None]:
        """Take the link down and remove the interface from its socket. A second call does nothing.

        The socket goes too, if it was made by `connect` or `listen`. Tasks that wait on this interface get
        `MemifClosedError`. There is nothing to wait for; awaiting the result is allowed.

        drain: seconds to wait before that, at most, until the peer has taken all that was sent, see
        `memif.Interface.close`. Then the result has to be awaited.
        """
        if seconds("drain", drain, none=False) and self.up:
            return self._drain_and_close(drain)
        return self._close()

    async def _drain_and_close(self, limit: float) -> None:
        try:
            with contextlib.suppress(MemifDisconnectedError, MemifClosedError):
                await self.drain(limit)
        finally:
            self._close()

    def _close(self) -> Done:
        self.sync.close()
        self.socket.changed.set()
        if self._owns_socket:
            self.socket.close()
        return Done()

    async def __aenter__(self) -> Self:
        if self.closed:
            raise MemifClosedError(f"{self.name} was closed")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- callbacks

    def _with_callbacks(self, options: "AioOptions") -> Options:
        """The options with callbacks that get this object, not the sync one, and whose errors go to the
        loop."""
        mine = {name: self._adapted(call) for name in _CALLBACKS if callable(call := options.get(name))}
        if options.get("on_connect") is None:
            # A queue operation may be the one that notices the peer: nobody else would tell those who wait for
            # it.
            mine["on_connect"] = lambda _: self.socket.changed.set()
        return cast(Options, {**options, **mine})

    def _adapted(self, callback: Callable[..., Any]) -> Callable[..., None]:
        def call(_: SyncInterface, *rest: Any) -> None:
            self.socket.changed.set()
            try:
                result = callback(self, *rest)
            except Exception as error:
                self._report(error, callback)
                return
            if inspect.iscoroutine(result):
                self._start(result, callback)

        return call

    def _start(self, work: Any, callback: Callable[..., Any]) -> None:
        task = self.socket.loop.create_task(work)
        self._tasks.add(task)  # the loop itself keeps only a weak reference

        def ended(task: asyncio.Task[Any]) -> None:
            self._tasks.discard(task)
            error = None if task.cancelled() else task.exception()
            if error is not None:
                self._report(error, callback)

        task.add_done_callback(ended)

    def _report(self, error: BaseException, callback: Callable[..., Any]) -> None:
        self.socket.loop.call_exception_handler(
            {"message": f"{self.name}: error in the callback {callback!r}", "exception": error}
        )


class AioOptions(CommonOptions, total=False):
    """Keyword arguments of an interface of `memif.aio`. A callback that is a coroutine function runs as a task."""

    on_connect: "Callable[[Interface], object] | None"
    """Called with the interface after the link has come up. Default: None."""
    on_disconnect: "Callable[[Interface], object] | None"
    """Called with the interface after the link has gone down. Default: None."""
    on_interrupt: "Callable[[Interface, int], object] | None"
    """Called with the interface and the queue's number when packets wait on a receive queue. Default: None."""
