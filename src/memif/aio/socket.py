"""Socket of the asyncio API, and the two ways to open a single interface."""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from types import TracebackType
from typing import Any, Self, Unpack

from memif.address import Address, SocketName
from memif.aio.interface import AioOptions, Done, Interface
from memif.aio.waiting import Signal
from memif.config import SocketOptions, seconds
from memif.interface import endpoint_of
from memif.socket import DEFAULT_APP_NAME, Socket as SyncSocket, check_file
from memif.system import Single
from memif.types import SocketStats


class Socket(Single):
    """A control socket with any number of interfaces, looked after by the running event loop.

    Arguments as for `memif.Socket`. Must be made inside a coroutine or callback of the loop. Async context
    manager: leaving the block closes the socket and its interfaces.
    """

    def __init__(self, path: SocketName | None = None, **options: Unpack[SocketOptions]) -> None:
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        #: The socket of the sync API behind this one. Its `poll` is called by the loop.
        self.sync: SyncSocket = SyncSocket(path, **options)
        #: Set whenever something may have happened to one of the interfaces.
        self.changed: Signal = Signal(self.loop)
        self._interfaces: list[Interface] = []
        self._fd = self.sync.fileno()
        self.loop.add_reader(self._fd, self._readable)

    @property
    def address(self) -> Address:
        """Where the socket is."""
        return self.sync.address

    @property
    def closed(self) -> bool:
        """True once `close` was called."""
        return self._fd < 0

    @property
    def interfaces(self) -> tuple[Interface, ...]:
        """The interfaces that are open on this socket."""
        self._interfaces = [interface for interface in self._interfaces if not interface.closed]
        return tuple(self._interfaces)

    @property
    def stats(self) -> SocketStats:
        """Clients accepted and turned away."""
        return self.sync.stats

    def interface(self, **options: Unpack[AioOptions]) -> Interface:
        """Open an interface on this socket. Returns at once; the link comes up later, see `Interface.wait_up`.

        Options and errors as in `memif.Socket.interface`. Callbacks get the asyncio interface; a coroutine
        function runs as a task (not `authorize`, whose answer is needed at once).
        """
        return self._add(options, owns_socket=False)

    def _add(self, options: AioOptions, *, owns_socket: bool) -> Interface:
        interface = Interface(self, options, owns_socket=owns_socket)
        self._interfaces = [*self.interfaces, interface]
        return interface

    def close(self) -> Done:
        """Close all interfaces and the socket. A second call does nothing. The result may be awaited."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            if not self.loop.is_closed():
                self.loop.remove_reader(fd)
            self.sync.close()
            self.changed.set()
        return Done()

    async def __aenter__(self) -> Self:
        self.sync.__enter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<aio {self.sync!r}>"

    def _readable(self) -> None:
        try:
            self.sync.poll(0)
        finally:
            self.changed.set()


class Opening(Single):
    """What `connect` and `listen` return: await it for the interface, or use it in ``async with``."""

    def __init__(self, opener: Callable[[], Coroutine[Any, Any, Interface]]) -> None:
        """For `connect` and `listen` only."""
        self._opener = opener
        self._interface: Interface | None = None

    def __await__(self) -> Generator[Any, None, Interface]:
        return self._opener().__await__()

    async def __aenter__(self) -> Interface:
        self._interface = await self._opener()
        return self._interface

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._interface is not None
        self._interface.close()


def connect(
    path: SocketName | None = None,
    *,
    timeout: float | None = 5.0,
    app_name: str = DEFAULT_APP_NAME,
    handshake_timeout: float = 5.0,
    **options: Unpack[AioOptions],
) -> Opening:
    """Open an interface, slave unless `role` says otherwise, and wait until the link is up.

    ``async with memif.aio.connect(path) as iface`` or ``iface = await memif.aio.connect(path)``. Arguments and
    errors as for `memif.connect`. Nothing is opened before the await, and nothing stays open when that is
    cancelled.
    """
    seconds("timeout", timeout)
    options.setdefault("role", "slave")

    async def opener() -> Interface:
        socket = Socket(path, app_name=app_name, handshake_timeout=handshake_timeout)
        interface = _only_interface(socket, options)
        try:
            endpoint_of(interface.sync).connect_once()
            await interface.wait_up(timeout)
        except BaseException:
            interface.close()
            raise
        return interface

    return Opening(opener)


def listen(
    path: SocketName | None = None,
    *,
    app_name: str = DEFAULT_APP_NAME,
    socket_mode: int | None = 0o600,
    socket_owner: tuple[int, int] | None = None,
    handshake_timeout: float = 5.0,
    **options: Unpack[AioOptions],
) -> Opening:
    """Open an interface as master, without waiting for its client; see `Interface.wait_up`.

    ``async with memif.aio.listen(path) as iface`` or ``iface = await memif.aio.listen(path)``. Arguments and
    errors as for `memif.listen`.
    """
    options.setdefault("role", "master")

    async def opener() -> Interface:
        check_file(socket_mode, socket_owner)
        return _only_interface(
            Socket(path, app_name=app_name, mode=socket_mode, owner=socket_owner, handshake_timeout=handshake_timeout),
            options,
        )

    return Opening(opener)


def _only_interface(socket: Socket, options: AioOptions) -> Interface:
    try:
        return socket._add(options, owns_socket=True)
    except BaseException:
        socket.close()
        raise
