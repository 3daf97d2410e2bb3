"""`Socket` of the asyncio API; `connect` and `listen`, which open one interface on a socket of its own."""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

from memif.address import Address, SocketName
from memif.aio.interface import AioOptions, Done, Interface
from memif.aio.loop import Signal
from memif.config import SocketOptions, seconds
from memif.hints import OnlyAsync
from memif.interface import endpoint_of
from memif.socket import DEFAULT_APP_NAME, Socket as SyncSocket, check_file, check_side, from_profile
from memif.system import Single
from memif.types import SocketStats


class Socket(OnlyAsync, Single):
    """A control socket with any number of interfaces, served by the running event loop.

    Create it in a coroutine or callback of the loop. As an async context manager it closes itself and its interfaces at
    the end of the block.

    Args:
        path: The control socket, see `memif.Socket`.
        **options: The other arguments of `memif.Socket`.

    Attributes:
        loop: The event loop that serves it.
        sync: The socket of the sync API behind this one. The loop calls its `memif.Socket.poll`.

    Raises:
        RuntimeError: No event loop is running.
        MemifError: The errors of `memif.Socket`.
    """

    def __init__(self, path: SocketName | None = None, **options: Unpack[SocketOptions]) -> None:
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.sync: SyncSocket = SyncSocket(path, **options)
        # Set whenever something may have happened to one of the interfaces.
        self.changed: Signal = Signal(self.loop)
        self._interfaces: list[Interface] = []
        self._fd = self.sync.fileno()
        self.loop.add_reader(self._fd, self._readable)

    @property
    def address(self) -> Address:
        """The address of the socket."""
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
        """Counters of clients, see `memif.types.SocketStats`."""
        return self.sync.stats

    def interface(self, **options: Unpack[AioOptions]) -> Interface:
        """Open an interface on this socket, without waiting for its link; see `Interface.wait_up`.

        Args:
            **options: The options of `memif.Socket.interface`. Callbacks get the asyncio interface. A coroutine
                function as callback runs as a task; ``authorize`` cannot be one, as its answer is needed at once.

        Returns:
            The interface. Its link comes up later.

        Raises:
            MemifError: The errors of `memif.Socket.interface`.
        """
        return self._add(options, owns_socket=False)

    def _add(self, options: AioOptions, *, owns_socket: bool) -> Interface:
        interface = Interface(self, options, owns_socket=owns_socket)
        self._interfaces = [*self.interfaces, interface]
        return interface

    def close(self) -> Done:
        """Close all interfaces and the socket. A second call does nothing. Awaiting the result is optional."""
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


class Opening(OnlyAsync, Single):
    """The result of `connect` and `listen`: await it to get the interface, or use it in ``async with``."""

    def __init__(self, opener: Callable[[], Coroutine[Any, Any, Interface]]) -> None:
        """For `connect` and `listen` only."""
        self._opener = opener
        self._interface: Interface | None = None

    def __repr__(self) -> str:
        return f"memif.aio.{self._opener.__qualname__.partition('.')[0]}(...)"

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if hasattr(Interface, name):
                raise AttributeError(
                    f"{self!r} is no interface yet: write iface = await {self!r}, then iface.{name}; "
                    f"or async with {self!r} as iface"
                )
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

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
    profile: str | None = None,
    timeout: float | None = 5.0,
    app_name: str = DEFAULT_APP_NAME,
    handshake_timeout: float = 5.0,
    **options: Unpack[AioOptions],
) -> Opening:
    """Open an interface and wait until its link is up.

    ``async with memif.aio.connect(path) as iface`` or ``iface = await memif.aio.connect(path)``. Nothing is opened
    before the await, and nothing stays open if it is cancelled.

    Args:
        path: The control socket, see `memif.Socket`.
        profile: Name of a profile, see `memif.connect`.
        timeout: Seconds to wait for the link; None waits for ever.
        app_name: See `memif.Socket`.
        handshake_timeout: See `memif.Socket`.
        **options: The options of `Socket.interface`, as slave; `listen` opens a master.

    Returns:
        An object to await for the interface.

    Raises:
        MemifError: The errors of `memif.connect`, raised by the await.
    """
    seconds("timeout", timeout)
    path, options = from_profile(path, options, profile)
    check_side(options, "slave")

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
    profile: str | None = None,
    app_name: str = DEFAULT_APP_NAME,
    socket_mode: int | None = 0o600,
    socket_owner: tuple[int, int] | None = None,
    handshake_timeout: float = 5.0,
    **options: Unpack[AioOptions],
) -> Opening:
    """Open an interface as master, without waiting for its client; see `Interface.wait_up`.

    ``async with memif.aio.listen(path) as iface`` or ``iface = await memif.aio.listen(path)``.

    Args:
        path: The control socket, see `memif.listen`.
        profile: Name of a profile, see `memif.connect`.
        app_name: See `memif.Socket`.
        socket_mode: The permissions of the socket file, see `memif.listen`.
        socket_owner: The user id and group id of the socket file, see `memif.listen`.
        handshake_timeout: See `memif.Socket`.
        **options: The options of `Socket.interface`, as master; `connect` opens a slave.

    Returns:
        An object to await for the interface.

    Raises:
        MemifError: The errors of `memif.listen`, raised by the await.
    """
    path, options = from_profile(path, options, profile)
    check_side(options, "master")

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
