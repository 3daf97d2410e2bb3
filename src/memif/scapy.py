"""Scapy on a memif: `MemifSocket` is one of Scapy's SuperSockets.

    from memif.scapy import MemifSocket
    from scapy.all import ICMP, IP, Ether

    with MemifSocket("/run/vpp/memif.sock", id=0) as sock:
        answer = sock.sr1(Ether() / IP(dst="192.168.1.1") / ICMP(), timeout=1)
        packets = sock.sniff(count=10)

It serves wherever Scapy takes an open socket: ``sniff(opened_socket=sock)``, ``AsyncSniffer``, ``sock.sr``,
``bridge_and_sniff(a, b)`` with other sockets in any order, ``SniffSource(socket=sock)`` of a ``PipeEngine``,
``sock.am(...)`` for answering machines, ``sendp(..., socket=sock)``. Functions that want an interface instead, as
`srp` does, take ``iface=sock.network``; those of layer 3 (`send`, `sr`, `srloop`) as well, in mode "ip". Needs scapy
2.8 or later (``pip install memif[scapy]``).
"""

import contextlib
import itertools
import math
import os
import select
import threading
import time
import weakref
from collections.abc import Sequence
from typing import Any, ClassVar, Unpack

from scapy.config import conf
from scapy.data import MTU
from scapy.error import log_runtime
from scapy.interfaces import InterfaceProvider, NetworkInterface
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet
from scapy.supersocket import SuperSocket

from memif.address import SocketName, parse_address
from memif.config import ConnectOptions, seconds
from memif.endpoints import connect
from memif.errors import MemifBufferError, MemifClosedError, MemifDisconnectedError, MemifValueError
from memif.interface import Interface
from memif.system import Single

_LONGEST_SLEEP = 0.1  # seconds: some peers lose a wake-up now and then
_POLLING_SLEEP = 1e-3  # seconds: peers of a queue that does not ask for interrupts send none


class MemifSocket(Single, SuperSocket):
    """A memif for Scapy.

    interface   an open `memif.Interface`, which stays open when this closes; or the path of a control socket: then
                the interface is opened here, with the options of `memif.connect`, and closed with this
    timeout     seconds: for the link to come up (None: for ever), and for room in a full ring when sending

    In mode "ethernet" packets start with `Ether`; in mode "ip" with `IP` or `IPv6`, by their first four bits.
    All receive queues are read in turn; the first transmit queue sends. When the link is lost or the socket is closed
    by another thread, reading ends like that of a file: EOFError in `recv`, which makes sniffers end with what they
    have. One thread may receive while another sends, as Scapy does it.

    Raises what `memif.connect` raises, MemifClosedError for an interface that was closed.
    """

    desc: ClassVar[str | None] = "read/write packets on a memif"
    nonblocking_socket = False

    def __init__(
        self,
        interface: Interface | SocketName | None = None,
        *,
        timeout: float | None = 5.0,
        **options: Unpack[ConnectOptions],
    ) -> None:
        self.timeout: float | None = seconds("timeout", timeout)
        self._owned = not isinstance(interface, Interface)
        #: The memif underneath.
        self.interface: Interface = (
            interface
            if isinstance(interface, Interface)
            else connect(parse_address(interface, argument="interface"), timeout=timeout, **options)
        )
        self._send_lock = threading.Lock()
        self._lock = threading.RLock()  # what follows; never held while waiting
        self._rings: tuple[Any, ...] = ()
        self._turn = 0
        self._selected = False
        if self.interface.closed:
            raise MemifClosedError(f"{self.interface.name} was closed")
        self._watcher: int | None = None  # the thread that took our descriptor last
        self._watch = _Watch(self.interface.socket.fileno())
        self.promisc: bool = True
        self.iface: str = self.interface.name

    # -- what Scapy calls

    def send(self, x: Packet) -> int:
        """Send one packet. -> its bytes. Raises MemifBufferError when the ring stays full for `timeout`
        seconds, MemifClosedError after `close`."""
        data = bytes(x)
        with self._send_lock:
            self._send(data)
        with contextlib.suppress(AttributeError):
            x.sent_time = time.time()
        return len(data)

    def _send(self, data: bytes) -> None:
        if self.closed:
            raise MemifClosedError(f"{self.iface}: the Scapy socket was closed")
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

        Waits for a packet. It does not when `select`, or another selector through `fileno`, has said that there is
        something to do, and that was the control channel's: then it may return three times None, as Scapy's sockets
        do. Raises EOFError when the link is lost or the socket closed.
        """
        while True:
            with self._lock:
                told = self._was_told()
                data = self._take()
                if data is not None or told:
                    if self._watcher is not None:
                        self._look()
                    return (None, None, None) if data is None else (self._class(data), data[:x], time.time())
            _wait([self], None)

    def fileno(self) -> int:
        """A descriptor for any kind of selector, -1 after `close`: readable when a packet waits, when the link has
        ended, or when the control channel has something to do, which `recv` does.

        When another thread than the one that asks here closes the socket, it stays readable until that one has
        learned of the end from `recv`.
        """
        with self._lock:
            if not self._watch.closed:
                self._watcher = threading.get_ident()
                self._look()
            return self._watch.fileno()

    def close(self) -> None:
        """Close the socket, and the interface if it was opened here. A second call does nothing."""
        if self.closed or not hasattr(self, "_watch"):
            return
        with self._lock:
            self.closed = True
            self._rings = ()
            self._watch.tell(True)  # whoever waits wakes up
            if self._watcher in (None, threading.get_ident()):
                self._watch.close()
        if self._owned:
            self.interface.close()

    @staticmethod
    def select(sockets: list[Any], remain: float | None = conf.recv_poll_rate) -> list[Any]:
        """Wait until one of `sockets` (of any class) can be read, `remain` seconds at most. -> those that
        can."""
        found = _wait(sockets, remain)
        for sock in found:
            if isinstance(sock, MemifSocket):
                sock._selected = True
        return found

    # -- for Scapy's functions that open sockets by themselves

    @property
    def network(self) -> NetworkInterface:
        """This memif as one of Scapy's network interfaces: ``srp(packet, iface=sock.network)``.

        Sockets that Scapy opens on it, and closes, leave the interface open. It is in Scapy's list of interfaces as
        long as the memif exists.
        """
        return _network(self.interface, self.timeout)

    # -- inside

    # Rings come before the control channel: a peer may send its last packets and leave at once.

    def _was_told(self) -> bool:
        """Whether a selector may have told the caller that there is something: then `recv` may not wait."""
        told, self._selected = self._selected, False
        return told or (self._watcher is not None and self._watch.pending())

    def _look(self) -> bool:
        """Whether `recv` has something to give, a packet or the end; our descriptor says the same from now on, if
        anybody has it."""
        with self._lock:
            ready = self.closed or self._ready()
            self._watch.tell(self.closed or (ready and self._watcher is not None))
            return ready

    def _ready(self) -> bool:
        self._attach()
        with contextlib.suppress(MemifDisconnectedError, MemifClosedError):
            # Each look arms the queue, and empties the descriptor of one that has nothing: so it takes all of them.
            waiting = [queue.wait(0) for queue in self.interface.rx if queue.ring is not None]
            if any(waiting):
                return True
        self.interface.serve()
        self._attach()
        return self.interface.closed or any(not ring.alive for ring in self._rings)

    def _take(self) -> bytes | None:
        if self.closed:
            self._watch.close()
            raise EOFError(f"{self.iface}: the socket was closed")
        self._attach()
        with contextlib.suppress(MemifDisconnectedError, MemifClosedError):
            queues = self.interface.rx if self._rings else ()
            for i in range(len(queues)):
                turn = (self._turn + i) % len(queues)
                with queues[turn].recv(1, timeout=0) as burst:
                    if burst:
                        self._turn = turn + 1
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
            self._watch.add(queue.fileno())

    def _longest_sleep(self) -> float:
        asks = all(queue.mode == "interrupt" for queue in self.interface.rx)
        return _LONGEST_SLEEP if asks else _POLLING_SLEEP

    def _class(self, data: bytes) -> type[Packet]:
        if self.interface.mode == "ethernet":
            return Ether
        return {4: IP, 6: IPv6}.get(data[0] >> 4, conf.raw_layer) if self.interface.mode == "ip" else conf.raw_layer


class _Watch:
    """One descriptor for several: readable while one of them is, and while it is told so."""

    def __init__(self, fd: int) -> None:
        self._told = False
        self._epoll = select.epoll()
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.add(fd)
        self.add(self._event)

    def add(self, fd: int) -> None:
        """Watch this one, too. Closing it ends that."""
        self._epoll.register(fd, select.EPOLLIN)

    @property
    def closed(self) -> bool:
        """After `close`."""
        return self._epoll.closed

    def fileno(self) -> int:
        """The descriptor; -1 after `close`."""
        return -1 if self._epoll.closed else self._epoll.fileno()

    def tell(self, readable: bool) -> None:
        """Be readable whatever the others are, or only with them."""
        if readable != self._told and not self.closed:
            self._told = readable
            os.eventfd_write(self._event, 1) if readable else os.eventfd_read(self._event)

    def pending(self) -> bool:
        """Whether it is readable."""
        return not self.closed and bool(self._epoll.poll(0, 1))

    def close(self) -> None:
        """Can be repeated."""
        if not self.closed:
            self._epoll.close()
            os.close(self._event)

    __del__ = close


def _wait(sockets: Sequence[Any], remain: float | None) -> list[Any]:
    """Wait until one of `sockets` can be read, `remain` seconds at most. -> those that can, in their order."""
    deadline = None if remain is None else time.monotonic() + remain
    while True:
        mine = [sock for sock in sockets if isinstance(sock, MemifSocket)]
        found = [sock for sock in mine if sock._look()]
        left = _LONGEST_SLEEP if deadline is None else max(deadline - time.monotonic(), 0.0)
        nap = 0.0 if found else min(left, *(sock._longest_sleep() for sock in mine), _LONGEST_SLEEP)
        found += [sock for sock in _readable(sockets, nap) if sock not in mine]
        if found or left <= 0:
            return [sock for sock in sockets if sock in found]


def _readable(sockets: Sequence[Any], timeout: float) -> list[Any]:
    """Those whose descriptor is readable, or closed: reading them tells their user so."""
    numbers = [sock._watch.fileno() if isinstance(sock, MemifSocket) else _number(sock) for sock in sockets]
    poller = select.poll()
    for fd in numbers:
        if fd >= 0:
            poller.register(fd, select.POLLIN)
    events = dict(poller.poll(0 if min(numbers) < 0 else math.ceil(1000 * timeout)))
    return [sock for sock, fd in zip(sockets, numbers, strict=True) if fd < 0 or fd in events]


def _number(sock: Any) -> int:
    return sock if isinstance(sock, int) else int(sock.fileno())


class _Provider(InterfaceProvider):
    """The memifs of this process for Scapy's list of interfaces, where its layer 3 functions look them up by name."""

    name = "memif"

    def load(self) -> dict[str, NetworkInterface]:
        networks = [network for each in _networks.values() for network in each.values()]
        return {network.network_name: network for network in networks}


class _MemifNetwork(NetworkInterface):
    """A memif with the face of a network interface."""

    def __init__(self, interface: Interface, timeout: float | None) -> None:
        name = f"{interface.name}#{next(_numbers)}"  # no two may be the same, whatever the peers call them
        super().__init__(_Provider(), {"name": name, "network_name": name, "description": f"memif {name}"})
        self._interface = weakref.ref(interface)
        self._timeout = timeout

    def is_valid(self) -> bool:
        interface = self._interface()
        return interface is not None and not interface.closed

    def l2socket(self) -> Any:
        return self.open

    l2listen = l2socket

    def l3socket(self, ipv6: bool = False) -> Any:
        interface = self._interface()
        if interface is not None and interface.mode != "ip":
            text = f"{self.name}: Scapy's layer 3 functions need mode 'ip', this memif is in mode {interface.mode!r}"
            raise MemifValueError(f"{text}: give Ether() / packet to those of layer 2 (sendp, srp, srp1)")
        return self.open

    def open(self, *_: Any, filter: str | None = None, **__: Any) -> MemifSocket:
        interface = self._interface()
        if interface is None:
            raise MemifClosedError(f"{self.name}: the memif is gone")
        if filter:
            log_runtime.warning("memif: %r is ignored, memif has no BPF filters: use lfilter", filter)
        return MemifSocket(interface, timeout=self._timeout)


_numbers = itertools.count()
_networks: "weakref.WeakKeyDictionary[Interface, dict[float | None, _MemifNetwork]]" = weakref.WeakKeyDictionary()
conf.ifaces.register_provider(_Provider)


def _network(interface: Interface, timeout: float | None) -> _MemifNetwork:
    """The network for `interface`, in Scapy's list."""
    ours = _networks.setdefault(interface, {})
    if timeout not in ours:
        network = ours[timeout] = _MemifNetwork(interface, timeout)
        weakref.finalize(interface, conf.ifaces.data.pop, network.network_name, None)
    conf.ifaces.data[ours[timeout].network_name] = ours[timeout]
    return ours[timeout]
