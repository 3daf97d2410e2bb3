"""`Socket`, one control socket with all its interfaces; `connect` and `listen`, which open one interface on a socket of
its own. `memif.control.engine` does the work."""

from typing import Any, Self, TypeVar, Unpack, cast

from memif.address import Address, SocketName, parse_address
from memif.config import (
    ROLES,
    CommonOptions,
    InterfaceConfig,
    SocketOptions,
    check_mode,
    check_name,
    check_owner,
    seconds,
    whole,
)
from memif.control.endpoint import Endpoint
from memif.control.engine import Engine
from memif.errors import MemifValueError
from memif.interface import Interface, Options, endpoint_of
from memif.system import Closing
from memif.types import Side, SocketStats

DEFAULT_APP_NAME = "memif for Python"
AnyOptions = TypeVar("AnyOptions", bound=CommonOptions)


class Socket(Closing):
    """A control socket. It listens for clients while it has master interfaces, and connects for each slave interface.

    `poll` and the calls on interfaces and queues do all work, in the calling thread. Any thread may call any method.
    As a context manager it closes itself and its interfaces at the end of the block.

    Any call can be interrupted at any point by an exception from a signal handler or by a lack of memory. The next call
    repairs what was left unfinished; at worst it ends the connection concerned.

    Args:
        path: The control socket: a path, "@name" or "abstract:name" for an abstract socket, or a path object. None
            means "/run/vpp/memif.sock".
        app_name: The name of this program that peers see, at most 31 bytes.
        mode: The permissions of the socket file, for masters; None leaves them to the umask. They are set before the
            first client can connect, and so is `owner`.
        owner: The user id and group id of the socket file; -1 leaves one unchanged. None leaves both.
        handshake_timeout: Seconds that a handshake may take before the connection is dropped.
        max_pending: The most clients in a handshake at once, 1 to 4096. When one more connects, the oldest client of
            the process with the most pending clients is dropped.

    Raises:
        MemifValueError: An argument is out of range.
        MemifOSError: No descriptors are left; a socket needs three.
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
        """The address of the socket."""
        return self._engine.address

    @property
    def app_name(self) -> str:
        """The name of this program that peers see."""
        return self._engine.app_name

    @property
    def stats(self) -> SocketStats:
        """Counters of clients, see `memif.types.SocketStats`."""
        return self._engine.acceptor.stats

    @property
    def interfaces(self) -> tuple[Interface, ...]:
        """The interfaces that are open on this socket."""
        return tuple(each.face for each in self._engine.all_members() if isinstance(each, Endpoint))

    def interface(self, **options: Unpack[Options]) -> Interface:
        """Open an interface on this socket, without waiting for its link; see `Interface.wait_up`.

        Args:
            **options: The options of `memif.interface.Options`, which describes them with their ranges and defaults.
                Most programs set ``id`` and ``role``.

        Returns:
            The interface. Its link comes up later.

        Raises:
            MemifValueError: An option is out of range, or another interface has the same id and role.
            MemifError: A master cannot listen; the errors are those of `memif.listen`.
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
        """Return the descriptor for select, epoll or an event loop: call ``poll(0)`` when it is readable."""
        return self._engine.poller.fileno()

    def poll(self, timeout: float | None = None) -> bool:
        """Wait for events and handle them. Calls the callbacks; their exceptions are raised here.

        Args:
            timeout: Seconds to wait; 0 does not wait, None waits for ever.

        Returns:
            True when something was handled; False after the timeout or `cancel_poll`.

        Raises:
            MemifClosedError: The socket was closed.
        """
        return self._engine.poll(timeout)

    def cancel_poll(self) -> None:
        """End a `poll` that waits, or else the next one. Any thread and signal handlers may call it."""
        self._engine.cancel_poll()

    def close(self) -> None:
        """Close all interfaces and the socket. A second call does nothing.

        Signal handlers may call it, and `Interface.close`: a call that they interrupt is finished first.
        """
        self._engine.close()

    def __enter__(self) -> Self:
        self._engine.check_open()
        return self

    def __repr__(self) -> str:
        state = "closed" if self._engine.closed else f"{len(self._engine.members)} interfaces"
        return f"<Socket {self.address}, {state}>"


def connect(
    path: SocketName | None = None,
    *,
    profile: str | None = None,
    timeout: float | None = 5.0,
    app_name: str = DEFAULT_APP_NAME,
    handshake_timeout: float = 5.0,
    **options: Unpack[Options],
) -> Interface:
    """Open an interface and wait until its link is up.

    While nobody listens, the attempt is repeated until the timeout; with ``reconnect=None`` there is one attempt. The
    interface owns its socket: closing the interface closes both.

    Args:
        path: The control socket, see `Socket`.
        profile: Name of a profile, which completes the other arguments, see `memif.profiles`. With None neither
            the file nor the environment is read.
        timeout: Seconds to wait for the link; None waits for ever.
        app_name: See `Socket`.
        handshake_timeout: See `Socket`.
        **options: The options of `Socket.interface`, as slave; `listen` opens a master.

    Returns:
        The interface, with its link up.

    Raises:
        MemifTimeoutError: The link did not come up in time.
        MemifRefusedError: The peer refused for a reason that stays (secret, mode).
        MemifPermissionError: No permission to use the socket.
        MemifValueError: An argument is out of range.
    """
    seconds("timeout", timeout)
    path, options = from_profile(path, options, profile)
    check_side(options, "slave")
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
    profile: str | None = None,
    app_name: str = DEFAULT_APP_NAME,
    socket_mode: int | None = 0o600,
    socket_owner: tuple[int, int] | None = None,
    handshake_timeout: float = 5.0,
    **options: Unpack[Options],
) -> Interface:
    """Open an interface as master and return at once. Clients can connect from then on, see `Interface.wait_up`.

    The interface owns its socket: closing the interface closes both.

    Args:
        path: The control socket, see `Socket`. Its directory must exist. A socket file left by a dead program is
            replaced.
        profile: Name of a profile, which completes the other arguments, see `memif.profiles`. With None neither
            the file nor the environment is read.
        app_name: See `Socket`.
        socket_mode: The permissions of the socket file. The default, 0o600, allows only this user; None leaves them to
            the umask.
        socket_owner: The user id and group id of the socket file, see `Socket`.
        handshake_timeout: See `Socket`.
        **options: The options of `Socket.interface`, as master; `connect` opens a slave.

    Returns:
        The interface. Its link comes up when a client connects.

    Raises:
        MemifOSError: Another program listens there already (errno EADDRINUSE).
        MemifFileNotFoundError: The directory does not exist.
        MemifPermissionError: The file cannot be created, or its owner cannot be set.
        MemifValueError: An argument is out of range.
    """
    path, options = from_profile(path, options, profile)
    check_side(options, "master")
    check_file(socket_mode, socket_owner)
    return open_interface(
        path, options, app_name=app_name, mode=socket_mode, owner=socket_owner, handshake_timeout=handshake_timeout
    )


def open_interface(path: SocketName | None, options: Options, **socket_options: Unpack[SocketOptions]) -> Interface:
    """Open an interface on a socket of its own, without waiting. Closing the interface closes both."""
    socket = Socket(path, **socket_options)
    try:
        return socket._open(options, owns_socket=True)
    except BaseException:
        socket.close()
        raise


def from_profile(
    path: SocketName | None, options: AnyOptions, profile: str | None
) -> tuple[SocketName | None, AnyOptions]:
    """Complete the arguments of `connect` and `listen` by a profile, if there is one."""
    if profile is None:
        return path, options
    from memif.profiles import fill

    socket, filled = fill(path, dict(options), profile)
    return socket, cast(AnyOptions, filled)


def check_side(options: Any, side: Side) -> None:
    """Set the role of an interface that `connect` or `listen` opens. The other role is refused: it waits otherwise."""
    role = options.setdefault("role", side)
    if isinstance(role, str) and role in ROLES and ROLES[role] is not ROLES[side]:
        instead = "listen(), which waits for clients" if side == "slave" else "connect(), which connects to a master"
        raise MemifValueError.argument("role", role, f"{side!r}; or use {instead}")


def check_file(socket_mode: object, socket_owner: object) -> None:
    """Check the arguments of `listen` for the socket file under the names that its caller used."""
    check_mode("socket_mode", socket_mode)
    check_owner("socket_owner", socket_owner)
