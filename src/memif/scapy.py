"""Scapy on a memif: `MemifSocket` is one of Scapy's SuperSockets.

Example::

    from memif.scapy import MemifSocket
    from scapy.all import ICMP, IP, Ether

    with MemifSocket("/run/vpp/memif.sock", id=0) as sock:
        answer = sock.sr1(Ether() / IP(dst="192.168.1.1") / ICMP(), timeout=1)
        packets = sock.sniff(count=10)

It can be used wherever Scapy takes an open socket: ``sniff(opened_socket=sock)``, ``AsyncSniffer``, ``sock.sr``,
``bridge_and_sniff(a, b)`` with other sockets in any order, ``SniffSource(socket=sock)`` of a ``PipeEngine``,
``sock.am(...)`` for answering machines, ``sendp(..., socket=sock)``. Functions that need an interface instead, such as
``srp``, take ``iface=sock.network``. In mode "ip" those of layer 3 (``send``, ``sr``, ``srloop``) do so too. Needs
scapy 2.8 or later (``pip install memif[scapy]``).
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

from memif.address import SocketName, parse_address
from memif.config import seconds
from memif.errors import MemifBufferError, MemifClosedError, MemifDisconnectedError, MemifValueError
from memif.extras import with_advice
from memif.interface import ConnectOptions, Interface, endpoint_of
from memif.packet import Filter
from memif.socket import connect
from memif.system import Single

with with_advice():
    from scapy.config import conf
    from scapy.data import MTU
    from scapy.interfaces import InterfaceProvider, NetworkInterface
    from scapy.layers.inet import IP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import Ether
    from scapy.packet import Packet
    from scapy.supersocket import SuperSocket

_LONGEST_SLEEP = 0.1  # seconds: some peers lose a wake-up now and then
_POLLING_SLEEP = 1e-3  # seconds: peers of a queue that does not ask for interrupts send none


class MemifSocket(Single, SuperSocket):
    """A memif for Scapy.

    In mode "ethernet" packets start with ``Ether``; in mode "ip" with ``IP`` or ``IPv6``, by their first four bits. All
    receive queues are read in turn. The first transmit queue sends. When the link is lost, or another thread closes the
    socket, reading ends as at the end of a file: ``recv`` raises ``EOFError``, and sniffers return what they have. One
    thread can receive while another sends, as Scapy does it.

    Args:
        interface: An open `memif.Interface`, which stays open when this closes. Or a control socket: then the interface
            is opened here, and closed with this.
        filter: What to receive, an expression in the language of tcpdump (see `memif.packet.Filter`); packets that do
            not pass are taken from the ring all the same. None is everything.
        timeout: Seconds for the link to come up, and for room in a full ring when sending. None waits for ever.
        **options: Options of `memif.connect`, with a control socket.

    Attributes:
        interface: The memif underneath.

    Raises:
        MemifError: what `memif.connect` raises.
        MemifClosedError: when the interface was closed.
    """

    desc: ClassVar[str | None] = "read/write packets on a memif"
    nonblocking_socket = False

    def __init__(
        self,
        interface: Interface | SocketName | None = None,
        *,
        filter: str | None = None,
        timeout: float | None = 5.0,
        **options: Unpack[ConnectOptions],
    ) -> None:
        self.timeout: float | None = seconds("timeout", timeout)
        self._owned = not isinstance(interface, Interface)
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
        self._filter = _filter(filter, self.interface, close=self._owned)
        self._watcher: int | None = None  # the thread that took our descriptor last
        self._watch = _Watch(self.interface.socket.fileno())
        self.promisc: bool = True
        self.iface: str = self.interface.name

    # -- what Scapy calls

    def send(self, x: Packet) -> int:
        """Send one packet and return its length in bytes.

        Raises:
            MemifBufferError: when the ring stays full for `timeout` seconds.
            MemifClosedError: after `close`.
        """
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
        """Receive one packet.

        Waits for a packet. When `select`, or another selector on `fileno`, has reported something to do, it does not
        wait: if that was only a control event, it returns three times None, as Scapy's sockets do.

        Args:
            x: The most bytes of the packet.

        Returns:
            The packet's class, its data, and the time of its arrival here in seconds since 1970.

        Raises:
            EOFError: when the link is lost or the socket is closed.
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
        """Return a descriptor for any kind of selector, -1 after `close`.

        It is readable when a packet waits, when the link has ended, or when there is a control event, which ``recv``
        handles. When another thread closes the socket, it stays readable until the thread that called this has seen the
        end in ``recv``.
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
            self._watch.tell(True)  # wakes up whoever waits
            if self._watcher in (None, threading.get_ident()):
                self._watch.close()
        if self._owned:
            self.interface.close()

    @staticmethod
    def select(sockets: list[Any], remain: float | None = conf.recv_poll_rate) -> list[Any]:
        """Wait until one of `sockets` (of any class) can be read, at most `remain` seconds. Returns those that can."""
        found = _wait(sockets, remain)
        for sock in found:
            if isinstance(sock, MemifSocket):
                sock._selected = True
        return found

    # -- for Scapy's functions that open sockets by themselves

    @property
    def network(self) -> NetworkInterface:
        """This memif as one of Scapy's network interfaces, for ``srp(packet, iface=sock.network)``.

        The memif stays open when Scapy opens and closes sockets on it. It is in Scapy's list of interfaces as long as
        it exists.
        """
        return _network(self.interface, self.timeout)

    # -- inside

    # Rings come before the control channel: a peer may send its last packets and leave at once.

    def _was_told(self) -> bool:
        """Return whether a selector may have reported something to the caller: then `recv` must not wait."""
        told, self._selected = self._selected, False
        return told or (self._watcher is not None and self._watch.pending())

    def _look(self) -> bool:
        """Return whether `recv` has a packet or the end to report, and set our descriptor accordingly."""
        with self._lock:
            ready = self.closed or self._ready()
            self._watch.tell(self.closed or (ready and self._watcher is not None))
            return ready

    def _ready(self) -> bool:
        self._attach()
        with contextlib.suppress(MemifDisconnectedError, MemifClosedError):
            # Each wait arms its queue, and drains the descriptor of an empty one. So all of them are asked.
            waiting = [queue.wait(0) for queue in self.interface.rx if queue.ring is not None]
            if any(waiting):
                return True
        endpoint_of(self.interface).serve()
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
                        if self._filter is None or self._filter.match(burst)[0]:
                            return bytes(burst[0])
                        return None
        endpoint_of(self.interface).serve()
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


def _filter(expression: str | None, interface: Interface, *, close: bool) -> Filter | None:
    """Compile a filter; where that fails, close an interface that nobody else has."""
    if not expression:
        return None
    try:
        return Filter(expression, mode="ethernet" if interface.mode == "ethernet" else "ip")
    except BaseException:
        if close:
            interface.close()
        raise


class _Watch:
    """One descriptor for several: readable while one of them is, and while it is set so."""

    def __init__(self, fd: int) -> None:
        self._told = False
        self._epoll = select.epoll()
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.add(fd)
        self.add(self._event)

    def add(self, fd: int) -> None:
        """Watch this descriptor too, until it is closed."""
        self._epoll.register(fd, select.EPOLLIN)

    @property
    def closed(self) -> bool:
        """True after `close`."""
        return self._epoll.closed

    def fileno(self) -> int:
        """Return the descriptor, -1 after `close`."""
        return -1 if self._epoll.closed else self._epoll.fileno()

    def tell(self, readable: bool) -> None:
        """Be readable in any case, or only while one of the others is."""
        if readable != self._told and not self.closed:
            self._told = readable
            os.eventfd_write(self._event, 1) if readable else os.eventfd_read(self._event)

    def pending(self) -> bool:
        """Return whether it is readable."""
        return not self.closed and bool(self._epoll.poll(0, 1))

    def close(self) -> None:
        """Close it. Can be repeated."""
        if not self.closed:
            self._epoll.close()
            os.close(self._event)

    __del__ = close


def _wait(sockets: Sequence[Any], remain: float | None) -> list[Any]:
    """Wait until one of `sockets` can be read, at most `remain` seconds. Returns those that can, in their order."""
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
    """Return those whose descriptor is readable, or closed: reading them reports that."""
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
    """A memif as one of Scapy's network interfaces."""

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
        return MemifSocket(interface, filter=filter, timeout=self._timeout)


_numbers = itertools.count()
_networks: "weakref.WeakKeyDictionary[Interface, dict[float | None, _MemifNetwork]]" = weakref.WeakKeyDictionary()
conf.ifaces.register_provider(_Provider)


def _network(interface: Interface, timeout: float | None) -> _MemifNetwork:
    """Return the network for `interface`, and put it into Scapy's list."""
    ours = _networks.setdefault(interface, {})
    if timeout not in ours:
        network = ours[timeout] = _MemifNetwork(interface, timeout)
        weakref.finalize(interface, conf.ifaces.data.pop, network.network_name, None)
    conf.ifaces.data[ours[timeout].network_name] = ours[timeout]
    return ours[timeout]
