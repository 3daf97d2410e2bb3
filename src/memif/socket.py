"""Socket: one control socket with all its interfaces, as users see it; and `connect` and `listen`, which open one
interface on a socket of its own. The work is done by `memif.control.engine`."""

from types import TracebackType
from typing import Self, Unpack

from memif.address import Address, SocketName, parse_address
from memif.config import InterfaceConfig, SocketOptions, check_mode, check_name, check_owner, seconds, whole
from memif.control.endpoint import Endpoint
from memif.control.engine import Engine
from memif.interface import Interface, Options, endpoint_of
from memif.system import Single
from memif.types import SocketStats

DEFAULT_APP_NAME = "memif for Python"


class Socket(Single):
    """A control socket: listens for clients while it has master interfaces, connects for each of its slaves.

    All work is done by `poll` and by the calls on interfaces and queues, in the calling thread. Any thread may call any
    method. Context manager: leaving the block closes the socket and its interfaces.

    An exception may come out of any call at any moment, from a signal handler or for lack of memory: the next call puts
    right what it broke off, at worst by ending the connection that was concerned.

    Args:
        path: "/run/vpp/memif.sock" (default), "@abstract", "abstract:name", or a path object.
        app_name: What peers are told this program is called, at most 31 bytes.
        mode: Of the socket file, for masters: 0o600 unless told otherwise; None leaves it to the umask. It holds before
            the first client can connect, as does `owner`.
        owner: User id and group id of the socket file; -1 keeps one.
        handshake_timeout: Seconds that a client or server may take to come up before it is dropped.
        max_pending: Clients that may be in their handshake at once (1 to 4096). One more costs the oldest of the
            process that has most of them its connection.

    Raises:
        MemifValueError: An argument is out of its range.
        MemifOSError: The three descriptors that it needs are not to be had.
    """

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
        self._engine = Engine(
            parse_address(path),
            app_name=check_name("app_name", app_name, 31),
            mode=check_mode("mode", mode),
            owner=check_owner("owner", owner),
            handshake_timeout=seconds("handshake_timeout", handshake_timeout, none=False) or 0.0,
            max_pending=whole("max_pending", max_pending, 1, 4096),
        )

    @property
    def address(self) -> Address:
        """Where the socket is."""
        return self._engine.address

    @property
    def app_name(self) -> str:
        """What peers are told."""
        return self._engine.app_name

    @property
    def stats(self) -> SocketStats:
        """Clients accepted; turned away because there were too many, or no descriptors left; refused before they had
        an interface."""
        return self._engine.acceptor.stats

    @property
    def interfaces(self) -> tuple[Interface, ...]:
        """The interfaces that are open on this socket."""
        return tuple(each.face for each in self._engine.all_members() if isinstance(each, Endpoint))

    def interface(self, **options: Unpack[Options]) -> Interface:
        """Open an interface on this socket. Returns at once; the link comes up later, see `Interface.wait_up`.

        Args:
            **options: Those of `memif.interface.Options`, which says what each means, its range and its default. ``id``
                and ``role`` are what most need.

        Raises:
            MemifValueError: An option is out of its range, or another interface has the id.
            MemifError: For a master, what `memif.listen` raises.
        """
        return self._open(options, owns_socket=False)

    def _open(self, options: Options, *, owns_socket: bool) -> Interface:
        config = InterfaceConfig.make(**options)
        with self._engine.locked():
            self._engine.check_open()
            endpoint = Endpoint(self._engine, config)
            interface = Interface(self, endpoint, owns_socket=owns_socket)
            self._engine.add(endpoint)
            return interface

    def fileno(self) -> int:
        """Return one descriptor for select, epoll or an event loop: when it is readable, call ``poll(0)``."""
        return self._engine.poller.fileno()

    def poll(self, timeout: float | None = None) -> bool:
        """Handle what is pending, after waiting for it. Callbacks run in here, and their exceptions come out of here.

        Args:
            timeout: Seconds to wait at most; 0 does not wait, None waits for ever.

        Returns:
            True when something was handled, False when the time passed or `cancel_poll` was called.

        Raises:
            MemifClosedError: The socket was closed.
        """
        return self._engine.poll(timeout)

    def cancel_poll(self) -> None:
        """End a `poll` that waits, or the next one. For any thread and for signal handlers."""
        self._engine.cancel_poll()

    def close(self) -> None:
        """Close all interfaces and the socket. A second call does nothing.

        A signal handler may call this, too, and `Interface.close`: what it interrupts in the middle is finished first.
        """
        self._engine.close()

    def __enter__(self) -> Self:
        self._engine.check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._engine.closed else f"{len(self._engine.members)} interfaces"
        return f"<Socket {self.address}, {state}>"


def connect(
    path: SocketName | None = None,
    *,
    timeout: float | None = 5.0,
    app_name: str = DEFAULT_APP_NAME,
    handshake_timeout: float = 5.0,
    **options: Unpack[Options],
) -> Interface:
    """Open an interface, slave unless `role` says otherwise, and wait until the link is up.

    While nobody listens the attempt is repeated until the time is over; with ``reconnect=None`` there is one attempt.
    The interface owns its socket: closing it closes both.

    Args:
        path: The control socket, see `Socket`.
        timeout: Seconds to wait for the link, None for ever.
        app_name: See `Socket`.
        handshake_timeout: See `Socket`.
        **options: Those of `Socket.interface`.

    Raises:
        MemifTimeoutError: The link did not come up in time.
        MemifRefusedError: The peer refuses for good (secret, mode).
        MemifPermissionError: The socket may not be used.
        MemifValueError: An argument is out of its range.
    """
    seconds("timeout", timeout)
    options.setdefault("role", "slave")
    interface = open_interface(path, options, app_name=app_name, handshake_timeout=handshake_timeout)
    try:
        endpoint_of(interface).connect_once()
        interface.wait_up(timeout)
    except BaseException:
        interface.close()
        raise
    return interface


def listen(
    path: SocketName | None = None,
    *,
    app_name: str = DEFAULT_APP_NAME,
    socket_mode: int | None = 0o600,
    socket_owner: tuple[int, int] | None = None,
    handshake_timeout: float = 5.0,
    **options: Unpack[Options],
) -> Interface:
    """Open an interface as master and return at once; clients may connect from then on, see `Interface.wait_up`.

    The interface owns its socket: closing it closes both.

    Args:
        path: The control socket. Its directory must exist; a socket file that a dead program left is replaced.
        app_name: See `Socket`.
        socket_mode: Mode of the file, 0o600 (only this user) unless told otherwise.
        socket_owner: User id and group id of the file.
        handshake_timeout: See `Socket`.
        **options: Those of `Socket.interface`.

    Raises:
        MemifOSError: Somebody listens there already (errno EADDRINUSE).
        MemifFileNotFoundError: There is no such directory.
        MemifPermissionError: The file cannot be made, or not be given that owner.
        MemifValueError: An argument is out of its range.
    """
    options.setdefault("role", "master")
    check_file(socket_mode, socket_owner)
    return open_interface(
        path, options, app_name=app_name, mode=socket_mode, owner=socket_owner, handshake_timeout=handshake_timeout
    )


def open_interface(path: SocketName | None, options: Options, **socket_options: Unpack[SocketOptions]) -> Interface:
    """Open an interface on a socket of its own, without waiting: closing the interface closes both."""
    socket = Socket(path, **socket_options)
    try:
        return socket._open(options, owns_socket=True)
    except BaseException:
        socket.close()
        raise


def check_file(socket_mode: object, socket_owner: object) -> None:
    """Check what `listen` gives to the socket, which has other names for it: the interface has a mode of its own."""
    check_mode("socket_mode", socket_mode)
    check_owner("socket_owner", socket_owner)


def engine_of(socket: Socket) -> Engine:
    """Return the machinery of a socket, for other parts of this package."""
    return socket._engine
