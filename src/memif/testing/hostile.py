"""HostilePeer: a memif peer that does what a test says, right or wrong.

It speaks the control protocol in either role by blocking calls, checks nothing, and gives raw access to the rings. An
honest handshake is a script of steps, which a test changes before it is played::

    with HostilePeer(path) as peer:  # a slave: connects, owns the memory
        script = peer.script()
        script["region"].message = AddRegion(0, 1 << 63)
        assert peer.play(script) == "memory region size out of range"

It works against any memif, in this process or another. In this process, `idle` is called while it waits, so that the
other end can do its part without a thread.
"""

import contextlib
import ctypes
import mmap
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from memif.address import parse_address
from memif.protocol.wire import (
    COOKIE,
    MESSAGE_SIZE,
    Ack,
    AddRegion,
    AddRing,
    Connect,
    Connected,
    Disconnect,
    Hello,
    Init,
    Message,
    decode,
    encode,
)
from memif.system import Closing

_DESCRIPTOR: Final = struct.Struct("<HHIII")


@dataclass(slots=True)
class Descriptor:
    """One slot of a ring.

    Attributes:
        flags: Bit 0: the packet continues in the next slot.
        region: Index of the region.
        length: Bytes.
        offset: Bytes from the start of the region.
        metadata: Not used.
    """

    flags: int = 0
    region: int = 0
    length: int = 0
    offset: int = 0
    metadata: int = 0

    def pack(self) -> bytes:
        """Return the 16 bytes in memory. Numbers are cut to the width of their fields."""
        return _DESCRIPTOR.pack(
            self.flags & 0xFFFF,
            self.region & 0xFFFF,
            self.length & 0xFFFFFFFF,
            self.offset & 0xFFFFFFFF,
            self.metadata & 0xFFFFFFFF,
        )


class RawRing:
    """Raw access to header and descriptors of one ring. Only the bounds of the memory are checked.

    Args:
        memory: The ring's region.
        offset: Bytes from the start of the region to the ring's header.
        log2_ring_size: The ring has 2**log2_ring_size slots.
        cache_line: Bytes of a cache line.

    Attributes:
        size: Number of slots.
        offset: See there.
    """

    def __init__(
        self, memory: mmap.mmap | memoryview | bytearray, offset: int, log2_ring_size: int, *, cache_line: int = 64
    ) -> None:
        self.size: int = 1 << log2_ring_size
        self.offset = offset
        self._line = cache_line
        self._bytes = memoryview(memory)[offset : offset + 2 * cache_line + 16 * self.size]

    def release(self) -> None:
        """Release the memory."""
        self._bytes.release()

    def _get(self, at: int, size: int) -> int:
        return int.from_bytes(self._bytes[at : at + size], "little")

    def _set(self, at: int, size: int, value: int) -> None:
        self._bytes[at : at + size] = (value % (1 << 8 * size)).to_bytes(size, "little")

    @property
    def cookie(self) -> int:
        """The magic number, 0x03E31F20 in a good ring."""
        return self._get(0, 4)

    @cookie.setter
    def cookie(self, value: int) -> None:
        self._set(0, 4, value)

    @property
    def flags(self) -> int:
        """Bit 0 is set when the consumer wants no interrupts."""
        return self._get(4, 2)

    @flags.setter
    def flags(self, value: int) -> None:
        self._set(4, 2, value)

    @property
    def head(self) -> int:
        """The slave's index, a free-running 16-bit counter. Larger numbers wrap when it is set."""
        return self._get(6, 2)

    @head.setter
    def head(self, value: int) -> None:
        self._set(6, 2, value)

    @property
    def tail(self) -> int:
        """The master's index, like `head`."""
        return self._get(self._line, 2)

    @tail.setter
    def tail(self, value: int) -> None:
        self._set(self._line, 2, value)

    def __getitem__(self, index: int) -> Descriptor:
        """The descriptor at a free-running index."""
        return Descriptor(*_DESCRIPTOR.unpack_from(self._bytes, self.place(index)))

    def __iter__(self) -> Iterator[Descriptor]:
        return map(self.__getitem__, range(self.size))

    def __setitem__(self, index: int, value: Descriptor) -> None:
        at = self.place(index)
        self._bytes[at : at + 16] = value.pack()

    def place(self, index: int) -> int:
        """Return where the descriptor of a free-running index is, in bytes from the ring's start."""
        return 2 * self._line + 16 * (index % self.size)

    def fill(self, value: Descriptor) -> None:
        """Write the same descriptor into every slot."""
        self._bytes[2 * self._line :] = value.pack() * self.size

    def initialise(self) -> None:
        """Set cookie, indices and flags, as a slave does first."""
        self.cookie, self.flags, self.head, self.tail = COOKIE, 0, 0, 0


#: What `play` and `farewell` return when the other end hung up without a reason, and when it sent nothing at all.
HUNG_UP: Final = "(hung up)"
SILENT: Final = "(silent)"


@dataclass(slots=True)
class Step:
    """One message of a script.

    Attributes:
        message: A message, or any bytes.
        fds: Descriptors to send with it.
        answer: Wait for an answer.
        give: Close the descriptors once they are sent, so that the other end has the last ones.
    """

    message: Message | bytes
    fds: list[int] = field(default_factory=list)
    answer: bool = True
    give: bool = False

    @property
    def data(self) -> bytes:
        """The bytes of the datagram."""
        return self.message if isinstance(self.message, bytes) else encode(self.message)


class HostilePeer(Closing):
    """One control connection and its memory, controlled by a test. Context manager. One thread at a time.

    Args:
        path: Control socket of the other end, as for `memif.Socket`.
        role: "slave" connects and owns the memory. "master" listens until `accept`.
        id: The interface to ask for.
        secret: Its secret.
        log2_ring_size: Log2 of the size of the rings that a slave creates: one each way, in one region.
        buffer_size: Bytes of the buffers that a slave creates.
        timeout: Seconds to wait for the other end.
        idle: Called again and again while waiting.

    Attributes:
        sock: The control socket, None before the connection.
        memory: Mapped regions, by index.
        memory_fds: Their descriptors.
        rings: Rings by direction ("s2m", "m2s") and index.
        event_fds: Their event fds.
    """

    path: str
    role: str
    id: int
    secret: bytes
    log2_ring_size: int
    buffer_size: int
    timeout: float

    def __init__(
        self,
        path: str,
        role: str = "slave",
        *,
        id: int = 0,
        secret: bytes = b"",
        log2_ring_size: int = 4,
        buffer_size: int = 2048,
        timeout: float = 2.0,
        idle: Callable[[], object] | None = None,
    ) -> None:
        self.path, self.role, self.id, self.secret = path, role, id, secret
        self.log2_ring_size, self.buffer_size, self.timeout = log2_ring_size, buffer_size, timeout
        self._idle = idle
        self._sockets: list[socket.socket] = []
        self._fds: list[int] = []
        self.sock: socket.socket | None = None
        self.memory: list[mmap.mmap] = []
        self.memory_fds: list[int] = []
        self.rings: dict[tuple[str, int], RawRing] = {}
        self.event_fds: dict[tuple[str, int], int] = {}
        self._listener = self._listen() if role == "master" else None

    def close(self) -> None:
        """Close everything without sending DISCONNECT. A second call does nothing."""
        for ring in self.rings.values():
            ring.release()
        for memory in self.memory:
            memory.close()
        for fd in {*self._fds, *self.memory_fds, *self.event_fds.values()}:
            with contextlib.suppress(OSError):
                os.close(fd)
        for sock in self._sockets:
            sock.close()
        self.rings, self.event_fds = {}, {}
        self.memory, self.memory_fds, self._fds, self._sockets = [], [], [], []
        self.sock = None

    def keep(self, fd: int) -> int:
        """Have `fd` closed at the end. Returns it."""
        self._fds.append(fd)
        return fd

    # -- the control channel

    def _new_socket(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.setblocking(False)
        self._sockets.append(sock)
        return sock

    def _listen(self) -> socket.socket:
        sock = self._new_socket()
        sock.bind(parse_address(self.path).sockaddr)
        sock.listen(8)
        return sock

    def connect(self) -> socket.socket:
        """Slave: open one more connection, which becomes `sock`. Earlier ones stay open until `close`."""
        sock = self._new_socket()
        sock.connect(parse_address(self.path).sockaddr)
        self.sock = sock
        return sock

    def accept(self) -> socket.socket:
        """Master: accept the next client, which becomes `sock`. Raises ``TimeoutError`` when none comes."""
        assert self._listener is not None
        if not self._wait(self._listener):
            raise TimeoutError("no client came")
        self.sock, _ = self._listener.accept()
        self.sock.setblocking(False)
        self._sockets.append(self.sock)
        return self.sock

    def _wait(self, sock: socket.socket) -> bool:
        deadline = time.monotonic() + self.timeout
        while time.monotonic() < deadline:
            if self._idle is not None:
                self._idle()
            if select.select([sock], [], [], 0.002 if self._idle else 0.1)[0]:
                return True
        return False

    def send(self, message: Message | bytes, *fds: int) -> bool:
        """Send one datagram, with descriptors. Returns False when the other end is gone."""
        data = message if isinstance(message, bytes) else encode(message)
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack(f"{len(fds)}i", *fds))] if fds else []
        assert self.sock is not None
        try:
            self.sock.sendmsg([data], ancillary, socket.MSG_NOSIGNAL)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def recv(self) -> Message | None:
        """Return the next message, None when the other end has closed. Raises ``TimeoutError`` when nothing comes."""
        assert self.sock is not None
        if not self._wait(self.sock):
            raise TimeoutError("the other end sends nothing")
        try:
            data, fds, _, _ = socket.recv_fds(self.sock, MESSAGE_SIZE, 8)
        except ConnectionResetError:
            return self.recv()  # reported once, before the last messages
        self._fds += fds
        self.received = fds
        return decode(data) if data else None

    def farewell(self) -> str:
        """Read until the other end leaves. Returns its reason, `HUNG_UP`, or `SILENT` when it stays."""
        while True:
            try:
                message = self.recv()
            except TimeoutError:
                return SILENT
            if message is None:
                return HUNG_UP
            if isinstance(message, Disconnect):
                return message.reason

    # -- an honest handshake, to be altered

    def script(self) -> dict[str, Step]:
        """Slave: return the steps "init", "region", "s2m", "m2s", "connect" of an honest handshake, with new memory."""
        self.make_memory()
        self.connect()
        steps = {"init": Step(Init(self.id, secret=self.secret, name="hostile"))}
        steps["region"] = Step(AddRegion(0, len(self.memory[0])), [self.memory_fds[0]])
        for (direction, index), ring in self.rings.items():
            message = AddRing(direction == "s2m", index, 0, ring.offset, self.log2_ring_size)
            steps[direction] = Step(message, [self.event_fds[direction, index]])
        steps["connect"] = Step(Connect("hostile0"))
        return steps

    def make_memory(self, size: int | None = None, flags: int = os.MFD_ALLOW_SEALING) -> None:
        """Slave: create one region with a ring each way and a buffer for each slot.

        Args:
            size: Bytes of the region; None for what is needed.
            flags: Of ``memfd_create``.
        """
        slots = 1 << self.log2_ring_size
        ring_bytes = 128 + 16 * slots
        base = 2 * ring_bytes
        fd = os.memfd_create("hostile", flags | os.MFD_CLOEXEC)
        self.memory_fds.append(fd)
        os.ftruncate(fd, size or -(-(base + 2 * slots * self.buffer_size) // mmap.PAGESIZE) * mmap.PAGESIZE)
        self.memory.append(mmap.mmap(fd, 0))
        for number, direction in enumerate(("s2m", "m2s")):
            ring = RawRing(self.memory[0], number * ring_bytes, self.log2_ring_size)
            ring.initialise()
            for slot in range(slots):
                place = base + (number * slots + slot) * self.buffer_size
                ring[slot] = Descriptor(0, 0, self.buffer_size, place)
            self.rings[direction, 0] = ring
            self.event_fds[direction, 0] = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def play(self, script: dict[str, Step]) -> str | None:
        """Slave: wait for HELLO, then send the steps, each after the answer to the one before.

        Returns:
            None when the link is up, else the reason for which the other end left, `HUNG_UP` or `SILENT`.
        """
        if not isinstance(self.recv(), Hello):
            return HUNG_UP
        return self.say(script)

    def say(self, script: dict[str, Step]) -> str | None:
        """Like `play`, without waiting for HELLO."""
        for step in script.values():
            sent = self.send(step.data, *step.fds)
            for fd in step.fds if step.give else ():
                os.close(fd)
            if not sent:
                return self.farewell()
            if not step.answer:
                continue
            try:
                answer = self.recv()
            except TimeoutError:
                return SILENT
            if isinstance(answer, Disconnect):
                return answer.reason
            if answer is None:
                return HUNG_UP
        return None

    def serve(self, hello: Hello | None = None, until: type[Message] | None = None) -> Message | None:
        """Master: accept a client, send HELLO, answer all its messages and map its memory, up to CONNECTED.

        Args:
            hello: The HELLO to send; None for an honest one.
            until: Stop at the first message of this type, without an answer to it.

        Returns:
            The last message received, None when the client left.
        """
        self.accept()
        self.send(hello or Hello("hostile"))
        return self.answer(until)

    def answer(self, until: type[Message] | None = None) -> Message | None:
        """Master: like `serve`, for a client that has got HELLO."""
        while True:
            message = self.recv()
            if message is None or isinstance(message, Disconnect) or (until and isinstance(message, until)):
                return message
            self._take(message)
            self.send(Connected("hostile0") if isinstance(message, Connect) else Ack())
            if isinstance(message, Connect):
                return message

    def _take(self, message: Message) -> None:
        if isinstance(message, AddRegion):
            self.memory_fds += self.received
            self.memory.append(mmap.mmap(self.received[0], message.size))
        if isinstance(message, AddRing):
            key = ("s2m" if message.s2m else "m2s", message.index)
            self.event_fds[key] = self.received[0]
            self.rings[key] = RawRing(self.memory[message.region], message.offset, message.log2_ring_size)

    def link(self) -> None:
        """Come up honestly, in either role. Raises ``ConnectionError`` with the reason when the other end refuses."""
        if self.role == "slave":
            reason = self.play(self.script())
        else:
            reason = None if isinstance(self.serve(), Connect) else HUNG_UP
        if reason is not None:
            raise ConnectionError(reason)

    # -- the rings

    @property
    def out(self) -> RawRing:
        """The ring on which this end sends packets."""
        return self.rings["s2m" if self.role == "slave" else "m2s", 0]

    @property
    def back(self) -> RawRing:
        """The ring on which this end receives packets."""
        return self.rings["m2s" if self.role == "slave" else "s2m", 0]

    def show(self, ring: RawRing, count: int) -> None:
        """Advance our index of a ring by `count`: on `out` that sends packets, on `back` it returns slots."""
        if self.role == "slave":
            ring.head += count
        else:
            ring.tail += count

    def settle(self) -> None:
        """Let the other end do its part, if it is in this process."""
        for _ in range(3):
            if self._idle is not None:
                self._idle()

    def until(self, condition: Callable[[], object]) -> None:
        """Wait until `condition` is true. Raises ``TimeoutError`` when it does not become true."""
        deadline = time.monotonic() + self.timeout
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError("the other end did not do what was waited for")
            self.settle()
            time.sleep(0.001)

    def signal(self, direction: str | None = None) -> None:
        """Interrupt the other end, as after sending."""
        key = direction or ("s2m" if self.role == "slave" else "m2s")
        with contextlib.suppress(BlockingIOError):
            os.eventfd_write(self.event_fds[key, 0], 1)

    @contextlib.contextmanager
    def scribble(self, ring: RawRing, *versions: Descriptor) -> Iterator[None]:
        """Context: a thread rewrites all descriptors of `ring` all the time, with one version after the other."""
        memory = self.memory[0]
        start = ring.offset + ring.place(0)
        anchor = (ctypes.c_char * (16 * ring.size)).from_buffer(memory, start)
        target = ctypes.addressof(anchor)
        blocks = [version.pack() * ring.size for version in versions]
        stop = threading.Event()

        def run() -> None:
            while not stop.is_set():
                for block in blocks:
                    ctypes.memmove(target, block, len(block))

        thread = threading.Thread(target=run, name="scribble", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            del anchor
