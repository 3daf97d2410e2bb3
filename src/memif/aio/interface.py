"""`Interface` of the asyncio API: a sync interface whose events come from the event loop."""

import asyncio
import contextlib
import inspect
import time
from collections.abc import Awaitable, Callable, Generator
from types import TracebackType
from typing import Any, Protocol, Self, cast

from memif.aio.loop import LONGEST_SLEEP, Signal
from memif.aio.queues import RxQueue, TxQueue
from memif.config import CommonOptions, Deadline, seconds
from memif.errors import MemifClosedError, MemifDisconnectedError, MemifTimeoutError, MemifValueError
from memif.hints import OnlyAsync, RxQueues, TxQueues
from memif.interface import Interface as SyncInterface, Options, endpoint_of
from memif.socket import Socket as SyncSocket
from memif.system import Single
from memif.types import Details, InterfaceStats, ModeName, Peer, Side

_CALLBACKS = ("on_connect", "on_disconnect", "on_interrupt")


class ControlSocket(Protocol):
    """What an interface knows of its `memif.aio.Socket`."""

    loop: asyncio.AbstractEventLoop
    changed: Signal
    sync: SyncSocket

    def close(self) -> Awaitable[None]:
        """Close all interfaces and the socket."""


class Done:
    """The result of calls that do not wait: both ``iface.close()`` and ``await iface.close()`` work."""

    def __await__(self) -> Generator[None, None, None]:
        return
        yield


class Interface(OnlyAsync, Single):
    """One memif interface. Created by `memif.aio.connect`, `memif.aio.listen` and `memif.aio.Socket.interface`.

    It has the members of `memif.Interface`; `wait_up`, `drain` and the waiting methods of the queues are coroutines.
    The event loop serves the control channel, so `up` is always current. Callbacks run in the loop; a coroutine
    function runs as a task.

    As an async context manager it closes itself at the end of the block. Only the loop's thread may use it.

    Attributes:
        socket: The `memif.aio.Socket` that the interface was opened on.
        sync: The interface of the sync API behind this one.
    """

    def __init__(self, socket: ControlSocket, options: "AioOptions", *, owns_socket: bool = False) -> None:
        """For `Socket.interface` only."""
        self.socket: ControlSocket = socket
        self._owns_socket = owns_socket
        self._tasks: set[asyncio.Task[Any]] = set()
        self._rx: dict[int, RxQueue] = {}
        self._tx: dict[int, TxQueue] = {}
        if inspect.iscoroutinefunction(options.get("authorize")):
            # A coroutine object is true, so it would admit every client.
            raise MemifValueError.argument("authorize", "a coroutine function", "a function that returns a bool")
        self.sync: SyncInterface = socket.sync.interface(**self._with_callbacks(options))
        endpoint_of(self.sync).advice = "await wait_up() first"

    @property
    def id(self) -> int:
        """The number of the interface on its socket."""
        return self.sync.id

    @property
    def name(self) -> str:
        """The name that the peer sees."""
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
        """Why the last connection ended or was refused, by either side; None before the first."""
        return self.sync.disconnect_reason

    @property
    def stats(self) -> InterfaceStats:
        """Counters of queues and connections, see `memif.types.InterfaceStats`. A reconnect does not reset them."""
        return self.sync.stats

    def details(self) -> Details:
        """Return a snapshot of everything known about the interface."""
        return self.sync.details()

    @property
    def rx(self) -> tuple[RxQueue, ...]:
        """The receive queues of the current or last link."""
        return RxQueues(self._rx.get(queue.index) or self._new_rx(queue) for queue in self.sync.rx)

    @property
    def tx(self) -> tuple[TxQueue, ...]:
        """The transmit queues of the current or last link."""
        return TxQueues(self._tx.get(queue.index) or self._new_tx(queue) for queue in self.sync.tx)

    def _new_rx(self, queue: Any) -> RxQueue:
        return self._rx.setdefault(queue.index, RxQueue(self.socket.loop, queue, self.socket.changed))

    def _new_tx(self, queue: Any) -> TxQueue:
        return self._tx.setdefault(queue.index, TxQueue(self.socket.loop, queue))

    def __repr__(self) -> str:
        return f"<aio {self.sync!r}>"

    async def wait_up(self, timeout: float | None = None) -> None:
        """Wait until the link is up and packets can move in both directions; see `memif.Interface.wait_up`.

        Args:
            timeout: Seconds to wait; None waits for ever.

        Raises:
            MemifTimeoutError: The link did not come up in time. Its cause is the last failure.
            MemifError: A failure that a retry cannot cure (wrong secret or mode, no permission), raised at once as the
                subclass for it. With ``reconnect=None`` every failure is raised.
            MemifClosedError: The interface was closed.
        """
        deadline = Deadline(timeout)
        while True:
            try:
                self.sync.wait_up(0)
            except MemifTimeoutError as error:
                left = deadline.left(LONGEST_SLEEP)
                if left <= 0:
                    raise endpoint_of(self.sync).timed_out(deadline.timeout or 0.0) from error.__cause__
            else:
                break
            await self.socket.changed.wait(left)
        while endpoint_of(self.sync).filling(time.monotonic()) and deadline.left(LONGEST_SLEEP) > 0:
            await asyncio.sleep(1e-3)

    async def drain(self, timeout: float | None = None) -> bool:
        """Wait until the peer has taken all packets sent, on all queues; see `memif.TxQueue.drain`.

        Args:
            timeout: Seconds to wait; 0 does not wait, None waits for ever.

        Returns:
            True when it has, False after the timeout.
        """
        deadline = Deadline(timeout)
        for queue in self.tx:
            if not await queue.drain(deadline.rest()):
                return False
        return True

    def connect(self) -> None:
        """Start one attempt to connect, as slave, and return without waiting for the link; see `wait_up`.

        Needed only with ``reconnect=None``.

        Raises:
            MemifError: The errors of `memif.Interface.connect`.
        """
        self.sync.connect()

    def disconnect(self, reason: str = "") -> None:
        """Take the link down. A slave reconnects after its reconnect period.

        Args:
            reason: The reason that the peer is told, see `memif.Interface.disconnect`.
        """
        self.sync.disconnect(reason)
        self.socket.changed.set()

    def close(self, *, drain: float = 0.0) -> Awaitable[None]:
        """Take the link down and remove the interface from its socket. A second call does nothing.

        If `memif.aio.connect` or `memif.aio.listen` created the interface, its socket is closed too. Tasks that wait on
        the interface get `MemifClosedError`.

        Args:
            drain: Seconds to wait first, until the peer has taken all packets sent; see `memif.Interface.close`.

        Returns:
            An object to await. With `drain` it must be awaited; otherwise awaiting it is optional.
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

    def _with_callbacks(self, options: "AioOptions") -> Options:
        """Return the options with callbacks that get this object and whose errors go to the loop."""
        mine = {name: self._adapted(call) for name in _CALLBACKS if callable(call := options.get(name))}
        if options.get("on_connect") is None:
            # A queue operation may notice the peer first; without this nobody would wake the tasks that wait.
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
