"""Joining two packet ports: memif interfaces, TAP or TUN devices, network interfaces.

Between two memifs, packets go from ring to ring by one native call per burst, with one copy each, as the rings are in
different memory. A device of the kernel takes and gives one packet per system call.
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
from memif.system import Closing

#: Packets as they come from a port: a burst in shared memory, or copies.
Packets = Burst | list[bytes]
_BURST = 256
#: Errors of the kernel for an interface that is set down.
_DOWN = (errno.EIO, errno.ENETDOWN)


class Device(Protocol):
    """A device of the kernel: `memif.tap.Tap`, `memif.packet_socket.PacketSocket`."""

    name: str

    def fileno(self) -> int:
        """Return a descriptor that is readable when a packet waits."""

    def recv(self, count: int = 256) -> list[bytes]:
        """Return packets that wait, [] if there are none."""

    def send(self, packets: list[bytes]) -> int:
        """Send packets; return how many the kernel took."""


@dataclass(slots=True)
class BridgeCounters:
    """One direction of a bridge.

    Attributes:
        packets: Packets that came from a port.
        bytes: Bytes of these packets.
        sent: Packets that the other port took.
        dropped: Packets for which it had no room.
    """

    packets: int = 0
    bytes: int = 0
    sent: int = 0
    dropped: int = 0


class MemifPort:
    """A memif interface as a port. While its link is down, it gives and takes nothing.

    Attributes:
        interface: The interface, which the port closes.
        patience: Seconds to wait for room in a full ring before packets are dropped.
        name: Of the interface.
    """

    interface: Interface
    patience: float

    down = False  # links of memifs come and go

    def __init__(self, interface: Interface, patience: float = 0.001) -> None:
        """Wrap an interface.

        Raises:
            MemifTypeError: `interface` is not a `memif.Interface`.
            MemifValueError: `patience` is not a time.
        """
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
        """Whether packets come without making a descriptor readable."""
        return any(queue.mode != "interrupt" for queue in self.interface.rx)

    def receive(self) -> Iterator[Packets]:
        """Yield a burst of each queue that has packets; it is released when the next one is asked for."""
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
        """Send packets on the queue number `turn`, modulo their count; return how many went into the ring."""
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
        """Close the interface."""
        self.interface.close()


class DevicePort:
    """A device of the kernel as a port.

    While its interface is set down, it gives and takes nothing. When the interface is deleted, `receive` and `send`
    raise the device's error.

    Attributes:
        device: The device.
        name: Of the device.
        close: Closes the device.
        down: Whether the interface was set down at the last attempt.
    """

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
        self.down: bool = False

    @property
    def fds(self) -> list[int]:
        """Descriptors that become readable when there is something to do."""
        return [self.device.fileno()]

    def receive(self) -> Iterator[Packets]:
        """Yield the packets that wait."""
        try:
            packets = self.device.recv(_BURST)
        except MemifOSError as error:
            self._failed(error)
            return
        if packets:
            self.down = False
            yield packets

    def send(self, packets: Packets, turn: int = 0) -> int:
        """Send packets, whatever `turn`; return how many the kernel took."""
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


class Bridge(Closing):
    """Moves packets between two ports, both ways. Context manager, which closes both ports. One thread.

    Attributes:
        ports: The two ports.
        watch: Called with the index of the port that packets came from (0 or 1) and the packets, before they go on;
            None: nothing is called.
        counters: From the first port to the second, and back.

    Raises:
        MemifTypeError: A port is neither a `MemifPort` nor a `DevicePort`.
    """

    def __init__(self, first: Port, second: Port, watch: Callable[[int, Packets], object] | None = None) -> None:
        for name, port in (("first", first), ("second", second)):
            if not isinstance(port, MemifPort | DevicePort):
                raise MemifTypeError.argument(name, port, "a MemifPort or a DevicePort")
        self.ports: tuple[Port, Port] = (first, second)
        self.watch: Callable[[int, Packets], object] | None = check_callback("watch", watch)
        self.counters: tuple[BridgeCounters, BridgeCounters] = (BridgeCounters(), BridgeCounters())
        self._exit = ExitStack()
        for port in self.ports:
            self._exit.callback(port.close)

    def step(self, timeout: float = 0.1) -> int:
        """Move the packets that wait; if there are none, wait for some, `timeout` seconds at most.

        Returns:
            How many packets came from both ports.
        """
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
