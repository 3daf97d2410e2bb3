"""Interface: one memif interface, as users see it. The work is done by `memif.control.endpoint`."""

from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self, Unpack

from memif.address import Address
from memif.config import CommonOptions, InterfaceConfig
from memif.control.endpoint import Endpoint
from memif.ring import RxQueue, TxQueue
from memif.system import Single
from memif.types import Details, InterfaceStats, ModeName, Peer, Side, SocketStats


class ControlSocket(Protocol):
    """The `memif.Socket` of an interface, as far as the interface knows it."""

    @property
    def address(self) -> Address:
        """Where the socket is."""

    @property
    def app_name(self) -> str:
        """What peers are told."""

    @property
    def stats(self) -> SocketStats:
        """Counters of clients."""

    @property
    def interfaces(self) -> tuple["Interface", ...]:
        """The interfaces that are open on it."""

    def interface(self, **options: Unpack["Options"]) -> "Interface":
        """Open another interface on it."""

    def fileno(self) -> int:
        """Return one descriptor for select, epoll or an event loop."""

    def poll(self, timeout: float | None = None) -> bool:
        """Handle what is pending, after waiting for it."""

    def cancel_poll(self) -> None:
        """End a `poll` that waits, or the next one."""

    def close(self) -> None:
        """Close all interfaces and the socket."""


class Interface(Single):
    """One memif interface. Made by `memif.connect`, `memif.listen` and `Socket.interface`.

    The link comes and goes: `up` says whether it is there, `rx` and `tx` hold its queues. A slave connects by itself,
    again and again; a master waits for clients. All of that happens inside calls: `Socket.poll`, `wait_up`, and every
    queue operation look after the control channel; there is no background thread.

    Context manager: leaving the block closes the interface. Any thread may call any method; each queue belongs to one
    thread at a time. Callbacks run in the thread whose call noticed the event.
    """

    def __init__(self, socket: ControlSocket, endpoint: Endpoint, *, owns_socket: bool = False) -> None:
        """For `Socket` only."""
        #: The socket that it was opened on.
        self.socket: ControlSocket = socket
        self._endpoint = endpoint
        self._owns_socket = owns_socket
        #: Receive queues (M2S rings of a slave, S2M rings of a master); as many as the present or last link has.
        self.rx: tuple[RxQueue, ...] = endpoint.rx
        #: Transmit queues (S2M rings of a slave, M2S rings of a master); as many as the present or last link has.
        self.tx: tuple[TxQueue, ...] = endpoint.tx
        endpoint.face = self

    @property
    def config(self) -> InterfaceConfig:
        """Its options, checked and with their defaults."""
        return self._endpoint.config

    @property
    def id(self) -> int:
        """Number of the interface on its socket."""
        return self._endpoint.config.id

    @property
    def name(self) -> str:
        """Name that the peer is told."""
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
        """True while the link is up, as far as was noticed: a call that looks after the control channel finds out."""
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
        """Why the last connection ended or was refused, sent or received; None if there was none yet."""
        return self._endpoint.reason

    @property
    def stats(self) -> InterfaceStats:
        """Counters: "rx" and "tx" are lists with one dict a queue (see `memif.types.QueueStats`); "connects",
        "disconnects" and "refused" count connections. They go on through reconnects."""
        return self._endpoint.stats

    def details(self) -> Details:
        """Return everything about the interface at this moment."""
        return self._endpoint.details()

    def wait_up(self, timeout: float | None = None) -> None:
        """Return when the link is up.

        Packets can move in both directions then: a master also waits until the slave has offered its first buffers,
        for a third of a second at most (a slave may never want packets).

        Args:
            timeout: Seconds to wait, None for ever.

        Raises:
            MemifTimeoutError: The link did not come up in time; the last failure is its cause.
            MemifError: A failure that would stay the same (wrong secret or mode, no permission), as the error of its
                own kind, without waiting for the time to pass; every failure where there will be no other attempt
                (``reconnect=None``).
            MemifClosedError: The interface was closed.
        """
        self._endpoint.wait_up(timeout)

    def connect(self) -> None:
        """Slave: try to connect now, once. Returns when the attempt is under way; see `wait_up`.

        Needed only with ``reconnect=None``.

        Raises:
            MemifConnectionError: The attempt failed at once.
            MemifPermissionError: The socket may not be used.
            MemifStateError: This is a master, or connected already.
        """
        self._endpoint.connect()

    def disconnect(self, reason: str = "") -> None:
        """Take the link down. A slave connects again after its period.

        Args:
            reason: What the peer is told. Any text can be given: the peer gets its first 95 bytes, up to a NUL, with
                "?" for what cannot be printed.
        """
        self._endpoint.disconnect(reason)

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until the peer has taken all that was sent, on all queues; see `TxQueue.drain`."""
        return self._endpoint.drain(timeout)

    def close(self, *, drain: float = 0.0) -> None:
        """Take the link down and remove the interface from its socket. A second call does nothing.

        The socket goes too, if it was made by `memif.connect` or `memif.listen`. Threads inside calls on this
        interface's queues get `MemifClosedError`. In a forked child it leaves the link to the parent.

        Args:
            drain: The most seconds to wait before that, until the peer has taken all that was sent, as `drain` does. A
                peer of this package receives it even after the link has ended; others, like VPP, throw it away then.
        """
        try:
            self._endpoint.close(drain=drain)
        finally:
            if self._owns_socket:
                self.socket.close()

    def __enter__(self) -> Self:
        self._endpoint.check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

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
    """Return the machinery of an interface, for other parts of this package."""
    return interface._endpoint
