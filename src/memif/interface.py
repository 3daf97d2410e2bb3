"""`Interface`, one memif interface as users see it. `memif.control.endpoint` does the work."""

from collections.abc import Callable
from typing import Protocol, Self, Unpack

from memif.address import Address
from memif.config import CommonOptions, InterfaceConfig
from memif.control.endpoint import Endpoint
from memif.ring import RxQueue, TxQueue
from memif.system import Closing
from memif.types import Details, InterfaceStats, ModeName, Peer, Side, SocketStats


class ControlSocket(Protocol):
    """What an interface knows of its `memif.Socket`."""

    @property
    def address(self) -> Address:
        """The address of the socket."""

    @property
    def app_name(self) -> str:
        """The name of this program that peers see."""

    @property
    def stats(self) -> SocketStats:
        """Counters of clients."""

    @property
    def interfaces(self) -> tuple["Interface", ...]:
        """The interfaces that are open on the socket."""

    def interface(self, **options: Unpack["Options"]) -> "Interface":
        """Open another interface on the socket."""

    def fileno(self) -> int:
        """Return the descriptor for select, epoll or an event loop."""

    def poll(self, timeout: float | None = None) -> bool:
        """Wait for events and handle them."""

    def cancel_poll(self) -> None:
        """End a `poll` that waits, or else the next one."""

    def close(self) -> None:
        """Close all interfaces and the socket."""


class Interface(Closing):
    """One memif interface. Created by `memif.connect`, `memif.listen` and `memif.Socket.interface`.

    `up` says whether the link is up; `rx` and `tx` hold its queues. A slave connects by itself and reconnects when the
    link is lost; a master waits for clients. All of that happens inside calls: `memif.Socket.poll`, `wait_up` and every
    queue operation serve the control channel. There is no background thread.

    As a context manager it closes itself at the end of the block. Any thread may call any method; each queue belongs to
    one thread at a time. Callbacks run in the thread whose call noticed the event.

    Attributes:
        socket: The `memif.Socket` that the interface was opened on.
        rx: The receive queues of the current or last link: M2S rings of a slave, S2M rings of a master.
        tx: The transmit queues of the current or last link: S2M rings of a slave, M2S rings of a master.
    """

    def __init__(self, socket: ControlSocket, endpoint: Endpoint, *, owns_socket: bool = False) -> None:
        """For `Socket` only."""
        self.socket: ControlSocket = socket
        self._endpoint = endpoint
        self._owns_socket = owns_socket
        self.rx: tuple[RxQueue, ...] = endpoint.rx
        self.tx: tuple[TxQueue, ...] = endpoint.tx
        endpoint.face = self

    @property
    def config(self) -> InterfaceConfig:
        """The options, checked and completed with the defaults."""
        return self._endpoint.config

    @property
    def id(self) -> int:
        """The number of the interface on its socket."""
        return self._endpoint.config.id

    @property
    def name(self) -> str:
        """The name that the peer sees."""
        return self._endpoint.config.name

    @property
    def role(self) -> Side:
        """ "slave" or "master"."""
        return self._endpoint.role

    @property
    def mode(self) -> ModeName:
        """ "ethernet", "ip" or "punt/inject"."""
        return self._endpoint.mode

    @property
    def up(self) -> bool:
        """True while the link is up, as of the last call that served the control channel."""
        return self._endpoint.up

    @property
    def closed(self) -> bool:
        """True once `close` was called."""
        return self._endpoint.closed

    @property
    def peer(self) -> Peer | None:
        """Who is at the other end; None while the link is down."""
        return self._endpoint.peer

    @property
    def disconnect_reason(self) -> str | None:
        """Why the last connection ended or was refused, by either side; None before the first."""
        return self._endpoint.reason

    @property
    def stats(self) -> InterfaceStats:
        """Counters of queues and connections, see `memif.types.InterfaceStats`. A reconnect does not reset them."""
        return self._endpoint.stats

    def details(self) -> Details:
        """Return a snapshot of everything known about the interface."""
        return self._endpoint.details()

    def wait_up(self, timeout: float | None = None) -> None:
        """Wait until the link is up.

        Packets can then move in both directions: a master also waits until the slave has offered its first buffers, for
        at most a third of a second, because some slaves never offer any.

        Args:
            timeout: Seconds to wait; None waits for ever.

        Raises:
            MemifTimeoutError: The link did not come up in time. Its cause is the last failure.
            MemifError: A failure that a retry cannot cure (wrong secret or mode, no permission), raised at once as the
                subclass for it. With ``reconnect=None`` every failure is raised.
            MemifClosedError: The interface was closed.
        """
        self._endpoint.wait_up(timeout)

    def connect(self) -> None:
        """Start one attempt to connect, as slave, and return without waiting for the link; see `wait_up`.

        Needed only with ``reconnect=None``.

        Raises:
            MemifConnectionError: The attempt failed at once.
            MemifPermissionError: No permission to use the socket.
            MemifStateError: This is a master, or it is connected already.
        """
        self._endpoint.connect()

    def disconnect(self, reason: str = "") -> None:
        """Take the link down. A slave reconnects after its reconnect period.

        Args:
            reason: The reason that the peer is told. The peer gets the first 95 bytes, up to a NUL, with "?" for
                unprintable characters.
        """
        self._endpoint.disconnect(reason)

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until the peer has taken all packets sent, on all queues; see `TxQueue.drain`.

        Args:
            timeout: Seconds to wait; 0 does not wait, None waits for ever.

        Returns:
            True when it has, False after the timeout.
        """
        return self._endpoint.drain(timeout)

    def close(self, *, drain: float = 0.0) -> None:
        """Take the link down and remove the interface from its socket. A second call does nothing.

        If `memif.connect` or `memif.listen` created the interface, its socket is closed too. Threads inside calls on
        its queues get `MemifClosedError`. In a forked child the link is left to the parent.

        Args:
            drain: Seconds to wait first, until the peer has taken all packets sent, as `drain` does. A peer of this
                package receives them even after the link has ended; others, such as VPP, discard them.
        """
        try:
            self._endpoint.close(drain=drain)
        finally:
            if self._owns_socket:
                self.socket.close()

    def __enter__(self) -> Self:
        self._endpoint.check_open()
        return self

    def __repr__(self) -> str:
        return repr(self._endpoint)


class Options(CommonOptions, total=False):
    """Keyword arguments of `memif.connect`, `memif.listen` and `memif.Socket.interface`."""

    on_connect: "Callable[[Interface], object] | None"
    """Called with the interface after the link has come up. Default: None."""
    on_disconnect: "Callable[[Interface], object] | None"
    """Called with the interface after the link has gone down. Default: None."""
    on_interrupt: "Callable[[Interface, int], object] | None"
    """Called with the interface and the queue's number when packets wait on a receive queue. Default: None."""


class ConnectOptions(Options, total=False):
    """Keyword arguments of `memif.connect`, except its timeout."""

    app_name: str
    """Name of this program that peers see, at most 31 bytes. Default: "memif for Python"."""
    handshake_timeout: float
    """Seconds that a handshake with the peer may take. Default: 5.0."""


def endpoint_of(interface: Interface) -> Endpoint:
    """Return the endpoint of an interface, for other parts of this package."""
    return interface._endpoint
