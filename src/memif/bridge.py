"""Joining two packet ports: memif interfaces, TAP or TUN devices, network interfaces.

Between two memifs, packets go from ring to ring by one native call a burst, one copy each: the rings belong to two
different memories. A port of the kernel takes and gives one packet a system call.
"""

import errno
import select
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol

from memif.config import check_callback, seconds
from memif.errors import MemifDisconnectedError, MemifOSError, MemifTypeError
from memif.interface import Interface
from memif.ring import Burst

#: Packets as they come from a port: a burst in shared memory, or copies.
Packets = Burst | list[bytes]
_BURST = 256
#: What the kernel says of an interface that somebody has set down.
_DOWN = (errno.EIO, errno.ENETDOWN)


class Device(Protocol):
    """A port of the kernel: `memif.tap.Tap`, `memif.packet_socket.PacketSocket`."""

    name: str

    def fileno(self) -> int:
        """Readable when a packet waits."""

    def recv(self, count: int = 256) -> list[bytes]:
        """Packets that wait, [] if none does."""

    def send(self, packets: list[bytes]) -> int:
        """-> how many were taken."""


@dataclass(slots=True)
class Counters:
    """One direction: what came from a port, what the other took, and what was lost between, as it had no room."""

    packets: int = 0
    bytes: int = 0
    sent: int = 0
    dropped: int = 0


class MemifPort:
    """A memif interface as a port. While its link is down it gives nothing, and takes nothing."""

    interface: Interface
    patience: float

    down = False  # links of memifs come and go

    def __init__(self, interface: Interface, patience: float = 0.001) -> None:
        """patience: seconds to wait for room in a full ring before packets are dropped."""
        if not isinstance(interface, Interface):
            raise MemifTypeError.argument("interface", interface, "a memif.Interface")
        self.interface, self.patience = interface, seconds("patience", patience, none=False) or 0.0
        self.name: str = interface.name

    @property
    def fds(self) -> list[int]:
        """Descriptors that become readable when there is something to do."""
        fds = [self.interface.socket.fileno()]
        if self.interface.up:
            fds += [queue.fileno() for queue in self.interface.rx]
        return fds

    @property
    def polling(self) -> bool:
        """True when packets come without a signal."""
        return any(queue.mode != "interrupt" for queue in self.interface.rx)

    def receive(self) -> Iterator[Packets]:
        """A burst of each queue that has one; released when the next is asked for."""
        if not self.interface.up:
            self.interface.socket.poll(0)
            return
        try:
            for queue in self.interface.rx:
                with queue.recv(_BURST, 0) as burst:
                    if burst:
                        yield burst
        except MemifDisconnectedError:
            return

    def send(self, packets: Packets, turn: int = 0) -> int:
        """-> how many went into the ring."""
        if not self.interface.up:
            return 0
        queue = self.interface.tx[turn % len(self.interface.tx)]
        sent, count = 0, len(packets)
        deadline = 0.0
        try:
            while True:
                sent += (
                    queue.forward(packets, start=sent)
                    if isinstance(packets, Burst)
                    else queue.send(packets[sent:] if sent else packets)
                )
                if sent == count:
                    return sent
                now = time.monotonic()
                deadline = deadline or now + self.patience
                if now >= deadline or not queue.wait_free(1, deadline - now):
                    return sent
        except MemifDisconnectedError:
            return sent

    def close(self) -> None:
        """Take the link down."""
        self.interface.close()


class DevicePort:
    """A device of the kernel as a port. While somebody has set its interface down it gives nothing, and takes nothing;
    when that is gone for good, its error comes out of here."""

    device: Device
    name: str
    close: Callable[[], None]

    polling = False

    def __init__(self, device: Device, close: Callable[[], None]) -> None:
        if not all(hasattr(device, name) for name in ("name", "fileno", "recv", "send")):
            raise MemifTypeError.argument("device", device, "a Tap, a PacketSocket, or what has their methods")
        if not callable(close):
            raise MemifTypeError.argument("close", close, "something to call")
        self.device, self.name, self.close = device, device.name, close
        #: True while the interface was last seen to be down.
        self.down: bool = False

    @property
    def fds(self) -> list[int]:
        """Descriptors that become readable when there is something to do."""
        return [self.device.fileno()]

    def receive(self) -> Iterator[Packets]:
        """What waits."""
        try:
            packets = self.device.recv(_BURST)
        except MemifOSError as error:
            self._failed(error)
            return
        if packets:
            self.down = False
            yield packets

    def send(self, packets: Packets, turn: int = 0) -> int:
        """-> how many the kernel took."""
        try:
            taken = self.device.send(packets.tobytes() if isinstance(packets, Burst) else packets)
        except MemifOSError as error:
            self._failed(error)
            return 0
        self.down = False
        return taken

    def _failed(self, error: MemifOSError) -> None:
        if error.errno not in _DOWN:
            raise error
        self.down = True


Port = MemifPort | DevicePort


class Bridge:
    """Moves packets between two ports, both ways. Closes them at the end; context manager. One thread.

    `watch` is called with the index of the port that packets came from (0, 1) and the packets, before they go on.
    """

    def __init__(self, first: Port, second: Port, watch: Callable[[int, Packets], object] | None = None) -> None:
        for name, port in (("first", first), ("second", second)):
            if not isinstance(port, MemifPort | DevicePort):
                raise MemifTypeError.argument(name, port, "a MemifPort or a DevicePort")
        self.ports: tuple[Port, Port] = (first, second)
        self.watch: Callable[[int, Packets], object] | None = check_callback("watch", watch)
        #: From the first port to the second, and back.
        self.counters: tuple[Counters, Counters] = (Counters(), Counters())
        self._exit = ExitStack()
        for port in self.ports:
            self._exit.callback(port.close)

    def step(self, timeout: float = 0.1) -> int:
        """Move what is there; wait for something, `timeout` seconds at most, when nothing is. -> packets moved."""
        moved = sum(self._move(source) for source in (0, 1))
        if not moved and (limit := seconds("timeout", timeout, none=False)):
            self._wait(limit)
        return moved

    def _move(self, source: int) -> int:
        counters, target = self.counters[source], self.ports[1 - source]
        moved = 0
        for turn, packets in enumerate(self.ports[source].receive()):
            count = len(packets)
            moved += count
            counters.packets += count
            counters.bytes += int(packets.lengths.sum()) if isinstance(packets, Burst) else sum(map(len, packets))
            if self.watch is not None:
                self.watch(source, packets)
            sent = target.send(packets, turn)
            counters.sent += sent
            counters.dropped += count - sent
        return moved

    def _wait(self, timeout: float) -> None:
        if any(port.polling for port in self.ports):
            timeout = min(timeout, 50e-6)
        poller = select.poll()
        try:
            for port in self.ports:
                for fd in port.fds:
                    poller.register(fd, select.POLLIN)
        except MemifDisconnectedError:
            return
        if timeout < 1e-3:
            time.sleep(timeout)
            timeout = 0
        poller.poll(1000 * timeout)
        for port in self.ports:
            if isinstance(port, MemifPort):
                port.interface.socket.poll(0)

    def close(self) -> None:
        """Close both ports."""
        self._exit.close()

    def __enter__(self) -> "Bridge":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
