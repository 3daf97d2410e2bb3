"""A zero-copy slave as VPP is one, made of raw messages and rings: see `ZeroCopySlave`."""

import mmap
import os
import select
import socket
import struct
import time

from memif.address import parse_address
from memif.protocol.wire import (
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
from memif.testing import Descriptor, RawRing

_POOL = 64 << 20  # bytes of VPP's buffer pool here, all of it offered
_STRIDE, _HEADROOM, _DATA, _FIRST = 2304, 128, 2048, 2062
_CHUNK, _LEAST = 8, 32  # slots are re-armed in steps of 8, 32 at least
_NEXT = 1


def _memory(size: int) -> tuple[int, mmap.mmap]:
    import fcntl

    fd = os.memfd_create("vpp", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    return fd, mmap.mmap(fd, size)


class ZeroCopySlave:
    """Connects, offers rings in region 0 and a whole pool of buffers in region 1, and hands out buffers as VPP does.

    Descriptors are empty until CONNECTED. Then M2S slots get buffers, in steps of 8 and never fewer than 32 at once: a
    ring of 16 slots gets none, one of 32 nothing more while a packet lies in it. Packets longer than a buffer are sent
    in pieces of 2062, 2048, 2048 ... bytes. It polls: M2S flags are 1. One thread; nothing waits.
    """

    def __init__(
        self,
        path: str,
        *,
        id: int,
        name: str,
        secret: bytes = b"",
        mode: int = 0,
        rx_queues: int = 1,
        tx_queues: int = 1,
        ring_size: int = 1024,
        retry: float = 3.0,
    ) -> None:
        self.path, self.id, self.name, self.secret, self.mode = path, id, name, secret, mode
        self.counts = {True: tx_queues, False: rx_queues}  # by S2M
        self.ring_size, self.retry = ring_size, retry
        self.up, self.admin_up = False, True
        self.reason = ""  # the master's, for a refusal
        self._next_try = 0.0
        self._sock: socket.socket | None = None
        self._clear()

    def _clear(self) -> None:
        self._rings: dict[tuple[bool, int], RawRing] = {}
        self._events: dict[tuple[bool, int], int] = {}
        self._seen: dict[int, int] = {}  # M2S: our read index
        self._free: list[int] = []
        self._held: dict[tuple[bool, int], list[int]] = {}  # buffers in slots, oldest first
        self._memory: list[mmap.mmap] = []
        self._fds: list[int] = []
        self._steps: list[tuple[Message, list[int]]] = []

    def close(self, reason: str = "") -> None:
        """End the link, with a reason or without."""
        if self._sock is not None:
            if reason:
                try:
                    self._sock.send(encode(Disconnect(0, reason)))
                except OSError:
                    pass
            self._sock.close()
        for ring in self._rings.values():
            ring.release()
        for memory in self._memory:
            memory.close()
        for fd in [*self._fds, *self._events.values()]:
            os.close(fd)
        self._sock, self.up = None, False
        self._clear()

    # -- the handshake

    def poll(self) -> None:
        """Do what is due."""
        if self._sock is None:
            if self.admin_up and time.monotonic() >= self._next_try:
                self._next_try = time.monotonic() + self.retry
                self._try()
            return
        while self._sock is not None and select.select([self._sock], [], [], 0)[0]:
            try:
                data = self._sock.recv(MESSAGE_SIZE)
            except OSError:
                data = b""
            self._on(decode(data) if data else None)
        for queue in range(self.counts[False]) if self.up else ():
            self._arm(queue)

    def _try(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            sock.connect(parse_address(self.path).sockaddr)
        except OSError:
            sock.close()
            return
        self._sock = sock
        self._offer()

    def _offer(self) -> None:
        """Make the memory, and the messages that offer it."""
        size = 128 + 16 * self.ring_size
        keys = [(s2m, index) for s2m in (True, False) for index in range(self.counts[s2m])]
        for length in (-(-len(keys) * size // 512) * 512, _POOL):
            fd, memory = _memory(length)
            self._fds.append(fd)
            self._memory.append(memory)
        self._steps = [(Init(self.id, self.mode, self.secret, "VPP 26.10-stand-in"), [])]
        self._steps += [(AddRegion(i, len(self._memory[i])), [self._fds[i]]) for i in (0, 1)]
        for number, key in enumerate(keys):
            ring = RawRing(self._memory[0], number * size, self.ring_size.bit_length() - 1)
            ring.initialise()
            ring.flags = 0 if key[0] else 1
            self._rings[key] = ring
            self._events[key] = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            add = AddRing(key[0], key[1], 0, number * size, self.ring_size.bit_length() - 1)
            self._steps.append((add, [self._events[key]]))
            self._held[key] = []
        self._steps.append((Connect(self.name), []))
        self._free = list(range(len(keys) * self.ring_size * 2))

    def _on(self, message: Message | None) -> None:
        assert self._sock is not None
        if isinstance(message, Hello | Ack) and self._steps:
            step, fds = self._steps.pop(0)
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack(f"{len(fds)}i", *fds))] if fds else []
            self._sock.sendmsg([encode(step)], rights)
        elif isinstance(message, Connected):
            self.up, self.reason = True, ""
            self._seen = {queue: self._rings[False, queue].tail for queue in range(self.counts[False])}
        elif message is None or isinstance(message, Disconnect):
            self.reason = message.reason if message else self.reason
            self.close()

    # -- packets

    def _arm(self, queue: int) -> None:
        ring, held = self._rings[False, queue], self._held[False, queue]
        empty = self.ring_size - ((ring.head - self._seen[queue]) & 0xFFFF)
        count = empty // _CHUNK * _CHUNK
        if count < _LEAST:
            return
        for at in range(count):
            buffer = self._free.pop(0)
            held.append(buffer)
            ring[ring.head + at] = Descriptor(0, 1, _DATA, buffer * _STRIDE + _HEADROOM)
        ring.head += count

    def receive(self, queue: int) -> list[bytes]:
        """Return what the master has sent. Each buffer is overwritten at once, as VPP works in place."""
        ring, held = self._rings[False, queue], self._held[False, queue]
        packets, parts = [], []
        while self._seen[queue] != ring.tail:
            slot = ring[self._seen[queue]]
            buffer = held.pop(0)
            at = buffer * _STRIDE + _HEADROOM
            assert (slot.region, slot.offset) == (1, at), "the master has moved a buffer"
            parts.append(self._memory[1][at : at + slot.length])
            self._memory[1][at : at + slot.length] = bytes(slot.length)
            self._free.append(buffer)
            self._seen[queue] = (self._seen[queue] + 1) & 0xFFFF
            if not slot.flags & _NEXT:
                packets.append(b"".join(parts))
                parts = []
        return packets

    def send(self, queue: int, packet: bytes) -> bool:
        """Send a packet; False when the ring is full: VPP's "no free tx slots"."""
        ring, held = self._rings[True, queue], self._held[True, queue]
        used = (ring.head - ring.tail) & 0xFFFF
        while len(held) > used:
            self._free.append(held.pop(0))
        pieces = [packet[:_FIRST], *(packet[at : at + _DATA] for at in range(_FIRST, len(packet), _DATA))]
        if used + len(pieces) > self.ring_size:
            return False
        for number, piece in enumerate(pieces):
            buffer = self._free.pop(0)
            held.append(buffer)
            at = buffer * _STRIDE + _HEADROOM - (14 if number == 0 else 0)
            self._memory[1][at : at + len(piece)] = piece
            flags = _NEXT if number < len(pieces) - 1 else 0
            ring[ring.head + number] = Descriptor(flags, 1, len(piece), at)
        ring.head += len(pieces)
        if not ring.flags & 1:
            os.eventfd_write(self._events[True, queue], 1)
        return True
