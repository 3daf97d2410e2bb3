"""Scapy on a memif: `MemifSocket` is one of Scapy's SuperSockets.

    from memif.scapy import MemifSocket
    from scapy.all import ICMP, IP, Ether

    with MemifSocket("/run/vpp/memif.sock", id=0) as sock:
        answer = sock.sr1(Ether() / IP(dst="192.168.1.1") / ICMP(), timeout=1)
        packets = sock.sniff(count=10)

It serves wherever Scapy takes an open socket: ``sniff(opened_socket=sock)``, ``AsyncSniffer``,
``bridge_and_sniff(a, b)``, ``sock.sr``, ``sock.am(...)`` for answering machines, ``sendp(..., socket=sock)``.
Functions that want an interface instead, as `srp` does, take ``iface=sock.network``. Needs scapy (``pip install
memif[scapy]``).
"""

import contextlib
import select
import threading
import time
from typing import Any, ClassVar

from scapy.config import conf
from scapy.data import MTU
from scapy.error import log_runtime
from scapy.interfaces import InterfaceProvider, NetworkInterface
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet
from scapy.supersocket import SuperSocket

from memif.address import SocketName
from memif.endpoints import connect
from memif.errors import MemifBufferError, MemifClosedError, MemifDisconnectedError
from memif.interface import Interface

_LONGEST_SLEEP = 0.1  # seconds: some peers lose a wake-up now and then
_POLLING_SLEEP = 1e-3  # seconds: peers of a queue that does not ask for interrupts send none


class MemifSocket(SuperSocket):
    """A memif for Scapy.

    interface   an open `memif.Interface`, which stays open when this closes; or the path of a control socket: then
                the interface is opened here, with the options of `memif.connect`, and closed with this
    timeout     seconds: for the link to come up (None: for ever), and for room in a full ring when sending

    In mode "ethernet" packets start with `Ether`; in mode "ip" with `IP` or `IPv6`, by their first four bits.
    All receive queues are read; the first transmit queue sends. When the link is lost the socket ends like a
    file: EOFError in `recv`, which makes sniffers end. Sending and receiving may go on in two threads, as Scapy
    does it.

    Raises what `memif.connect` raises.
    """

    desc: ClassVar[str | None] = "read/write packets on a memif"
    nonblocking_socket = False

    def __init__(
        self, interface: Interface | SocketName | None = None, *, timeout: float | None = 5.0, **options: Any
    ) -> None:
        self._owned = not isinstance(interface, Interface)
        self.timeout = timeout
        #: The memif underneath.
        self.interface: Interface = (
            interface if isinstance(interface, Interface) else connect(interface, timeout=timeout, **options)
        )
        self._send_lock = threading.Lock()
        self._rings: tuple[Any, ...] = ()
        self._selected = False
        # One descriptor for the control channel and all receive queues.
        self._epoll = select.epoll()
        self._epoll.register(self.interface.socket.fileno(), select.EPOLLIN)
        self.promisc = True
        self.iface = self.interface.name

    # -- what Scapy calls

    def send(self, x: Packet) -> int:
        """Send one packet. -> its bytes. Raises MemifBufferError when the ring stays full for `timeout`
        seconds."""
        data = bytes(x)
        with self._send_lock:
            self._send(data)
        with contextlib.suppress(AttributeError):
            x.sent_time = time.time()
        return len(data)

    def _send(self, data: bytes) -> None:
        self.interface.wait_up(self.timeout)
        queue = self.interface.tx[0]
        deadline = None if self.timeout is None else time.monotonic() + self.timeout
        while not queue.send([data]):
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise MemifBufferError(f"{self.iface}: the peer takes no packets")
            queue.wait_free(1, timeout=left)
            # A chained packet needs more than the one slot that was waited for.
            time.sleep(10e-6)

    def recv_raw(self, x: int = MTU) -> tuple[type[Packet] | None, bytes | None, float | None]:
        """Receive one packet, at most `x` bytes of it. -> its class, data and time of arrival here (seconds
        since 1970).

        Waits for a packet; after `select` said that something is there it does not, and may return three times
        None. Raises EOFError when the link is lost.
        """
        while True:
            data = self._take()
            if data is not None:
                return self._class(data), data[:x], time.time()
            if self._selected:
                self._selected = False
                return None, None, None
            if self.select([self], None):
                self._selected = False

    def fileno(self) -> int:
        """A descriptor that is readable when there is something to do; `select` of this class knows more."""
        return -1 if self._epoll.closed else self._epoll.fileno()

    def close(self) -> None:
        """Close the socket, and the interface if it was opened here. A second call does nothing."""
        if self.closed or not hasattr(self, "_epoll"):
            return
        self.closed = True
        self._epoll.close()
        self._rings = ()
        if self._owned:
            self.interface.close()

    @staticmethod
    def select(sockets: list[Any], remain: float | None = conf.recv_poll_rate) -> list[Any]:
        """Wait until one of `sockets` (of any class) can be read, `remain` seconds at most. -> those that
        can."""
        deadline = None if remain is None else time.monotonic() + remain
        while True:
            mine = [sock for sock in sockets if isinstance(sock, MemifSocket)]
            ready = [sock for sock in mine if sock._ready()]
            left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            nap = min(_LONGEST_SLEEP, *(sock._longest_sleep() for sock in mine), *([] if left is None else [left]))
            others, _, _ = select.select(sockets, [], [], 0 if ready else nap)
            found = [sock for sock in sockets if sock in (ready if sock in mine else others)]
            if found or (left is not None and left <= 0):
                for sock in found:
                    if sock in mine:
                        sock._selected = True
                return found

    # -- for Scapy's functions that open sockets by themselves

    @property
    def network(self) -> NetworkInterface:
        """This memif as one of Scapy's network interfaces: ``srp(packet, iface=sock.network)``.

        Sockets that Scapy opens on it, and closes, leave the interface open.
        """
        return _MemifNetwork(self.interface, self.timeout)

    # -- inside

    # Rings come before the control channel: a peer may send its last packets and leave at once.

    def _ready(self) -> bool:
        """A packet is there, or the end of the link."""
        self._attach()
        with contextlib.suppress(MemifDisconnectedError, MemifClosedError):
            if any(queue.ring is not None and queue.wait(0) for queue in self.interface.rx):
                return True
        self.interface.serve()
        self._attach()
        return any(not ring.alive for ring in self._rings)

    def _take(self) -> bytes | None:
        self._attach()
        with contextlib.suppress(MemifDisconnectedError, MemifClosedError):
            for queue in self.interface.rx if self._rings else ():
                with queue.recv(1, timeout=0) as burst:
                    if burst:
                        return bytes(burst[0])
        self.interface.serve()
        if (self._rings and not self.interface.up) or self.interface.closed:
            raise EOFError(f"{self.iface}: the link is down: {self.interface.disconnect_reason}")
        return None

    def _attach(self) -> None:
        """Watch the receive queues as soon as the link is up for the first time."""
        if self._rings or not self.interface.up or self.closed:
            return
        # Held here, the rings keep their descriptors open for as long as they are watched.
        self._rings = tuple(queue.ring for queue in self.interface.rx)
        for queue in self.interface.rx:
            self._epoll.register(queue.fileno(), select.EPOLLIN)

    def _longest_sleep(self) -> float:
        asks = all(queue.mode == "interrupt" for queue in self.interface.rx)
        return _LONGEST_SLEEP if asks else _POLLING_SLEEP

    def _class(self, data: bytes) -> type[Packet]:
        if self.interface.mode == "ethernet":
            return Ether
        return {4: IP, 6: IPv6}.get(data[0] >> 4, conf.raw_layer) if self.interface.mode == "ip" else conf.raw_layer


class _Provider(InterfaceProvider):
    """What Scapy asks for the class of a socket: not registered, for the interfaces are no system's."""

    name = "memif"

    def _l2socket(self, dev: Any) -> Any:
        return dev.open

    _l2listen = _l2socket

    def _l3socket(self, dev: Any, ipv6: bool = False) -> Any:
        return dev.open


class _MemifNetwork(NetworkInterface):
    """A memif with the face of a network interface."""

    def __init__(self, interface: Interface, timeout: float | None) -> None:
        super().__init__(_Provider(), {"name": interface.name, "network_name": interface.name, "description": "memif"})
        self._interface = interface
        self._timeout = timeout

    def open(self, *_: Any, filter: str | None = None, **__: Any) -> MemifSocket:
        if filter:
            log_runtime.warning("memif: %r is ignored, memif has no BPF filters: use lfilter", filter)
        return MemifSocket(self._interface, timeout=self._timeout)
