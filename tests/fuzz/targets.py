"""What is fuzzed: each target takes bytes, does something with them, and raises or dies when something is wrong."""

import ctypes
import io
import mmap
import struct
from collections.abc import Callable

from memif.capture import CaptureReader, describe
from memif.errors import MemifDisconnectedError, MemifError, MemifProtocolError
from memif.protocol import (
    Action,
    Close,
    CloseFd,
    CreateMemory,
    Handshake,
    InterfaceInfo,
    MapMemory,
    MasterConfig,
    MasterHandshake,
    RegionOffer,
    RingOffer,
    SlaveConfig,
    SlaveHandshake,
    State,
    decode,
    encode,
)
from memif.ring import Burst, Region, RxQueue, RxRing, TxQueue, TxRing


def wire(data: bytes) -> None:
    """A datagram is a message or is refused; a message that is encoded again means the same."""
    describe(data)
    try:
        message = decode(data)
    except MemifProtocolError:
        return
    again = encode(message)
    assert decode(again) == message
    assert repr(message).isprintable()


_SECRET = b"s3cret"


def handshake(data: bytes) -> None:
    """Both roles get any datagrams, descriptors, times and ends; every descriptor leaves exactly once."""
    source = io.BytesIO(data)
    side = _side(_number(source))
    side.start()
    given: list[int] = []
    gone: list[int] = []
    closes = 0
    while side.state is not State.CLOSED and (what := source.read(1)):
        fds = list(range(len(given) + 3, len(given) + 3 + what[0] % 4))
        actions = _feed(side, what[0], source, fds)
        if actions is None:
            continue
        given += fds
        actions += _answer(side, actions)
        gone += _released(actions)
        closes += sum(isinstance(action, Close) for action in actions)
    rest = side.eof()
    gone += _released(rest)
    closes += sum(isinstance(action, Close) for action in rest)
    assert closes == 1
    assert sorted(given) == sorted(gone)


def _number(source: io.BytesIO) -> int:
    return (source.read(1) or b"\0")[0]


def _side(kind: int) -> Handshake:
    if kind & 1:
        return SlaveHandshake(SlaveConfig(s2m_rings=1 + (kind >> 1) % 3, m2s_rings=(kind >> 3) % 3), 0.0, 5.0)
    info = InterfaceInfo("fuzz", secret=_SECRET if kind & 2 else b"", max_regions=3, max_region_bytes=1 << 20)
    return MasterHandshake(MasterConfig("fuzz", max_s2m_rings=4, max_m2s_rings=4), lambda init: info, 0.0, 5.0)


def _feed(side: Handshake, what: int, source: io.BytesIO, fds: list[int]) -> list[Action] | None:
    kind = what >> 2 & 7
    if kind < 5:
        # A type that exists, most of the time: else nearly everything ends at once.
        size = source.read(1) or b"\0"
        payload = source.read(size[0] % 72)
        return side.receive(bytes([1 + what % 8, 0]) + payload.ljust(126, b"\0"), fds)
    if kind == 5:
        return side.receive(source.read(_number(source)), fds, truncated=bool(what & 0x80))
    fds.clear()
    return side.tick(float(_number(source)) / 40) if kind == 6 else None


def _answer(side: Handshake, actions: list[Action]) -> list[Action]:
    """What the owner of the socket does."""
    for action in actions:
        if isinstance(action, CreateMemory):
            assert isinstance(side, SlaveHandshake)
            size = 128 + (16 << action.log2_ring_size)
            kinds = [(True, i) for i in range(action.s2m_rings)] + [(False, i) for i in range(action.m2s_rings)]
            rings = [RingOffer(s2m, i, 0, n * size, action.log2_ring_size, 7) for n, (s2m, i) in enumerate(kinds)]
            return side.offer([RegionOffer(size * len(rings), 6)], rings)
        if isinstance(action, MapMemory):
            assert isinstance(side, MasterHandshake)
            sizes = [region.size for region in action.regions]
            for ring in action.rings:
                assert ring.offset + 128 + (16 << ring.log2_ring_size) <= sizes[ring.region]
            return side.accept()
    return []


def _released(actions: list[Action]) -> list[int]:
    fds = [action.fd for action in actions if isinstance(action, CloseFd)]
    for action in actions:
        if isinstance(action, MapMemory):
            fds += [offer.fd for offer in (*action.regions, *action.rings)]
    return fds


def pcapng(data: bytes) -> None:
    """A capture file of any content: packets, or an error of the package's own."""
    try:
        with CaptureReader(io.BytesIO(data)) as reader:
            for packet in reader:
                assert len(packet.data) >= 0
    except MemifError:
        pass


# -- the rings: a peer's memory between two pages that nobody may touch

_PAGE = mmap.PAGESIZE
_SIZE = 2 * _PAGE
_LOG2 = 3
_RING = 128 + (16 << _LOG2)


class _Owner:
    """What a queue needs from its interface."""

    def serve(self) -> None:
        """Nothing is pending."""

    def broken(self, ring: object, text: str) -> None:
        """The queue has found its ring broken."""

    def down(self) -> Exception:
        """The error of a link that is down."""
        return MemifDisconnectedError("down")


class _Guarded:
    """Memory between two pages without any access: whoever reads or writes beside it dies."""

    def __init__(self) -> None:
        self.whole = mmap.mmap(-1, _SIZE + 2 * _PAGE)
        anchor = ctypes.c_char.from_buffer(self.whole)
        address = ctypes.addressof(anchor)
        del anchor
        libc = ctypes.CDLL(None, use_errno=True)
        for place in (address, address + _PAGE + _SIZE):
            assert libc.mprotect(ctypes.c_void_p(place), _PAGE, 0) == 0
        self.memory = memoryview(self.whole)[_PAGE : _PAGE + _SIZE]


_guarded: _Guarded | None = None


class _Ends:
    """A receive and a transmit queue over memory that the fuzzer writes."""

    def __init__(self, slave: bool, memory: memoryview) -> None:
        region = Region.wrap(memory)
        buffers = [(0, 128, [_SIZE // 2 + (8 * n + i) * 128 for i in range(8)]) if slave else None for n in (0, 1)]
        tx = TxRing((region,), 0, 0 if slave else _RING, _LOG2, slave=slave, buffers=buffers[0])
        rx = RxRing((region,), 0, _RING if slave else 0, _LOG2, slave=slave, buffers=buffers[1])
        if slave:
            tx.initialise()
            rx.initialise()
        self.rx, self.tx = RxQueue(_Owner(), 0, -1), TxQueue(_Owner(), 0, -1)
        self.rx.attach(rx)
        self.tx.attach(tx)
        self.held: list[Burst] = []


def rings(data: bytes) -> None:
    """The peer writes anything anywhere; the queues are used in between in every way."""
    global _guarded
    if _guarded is None:
        _guarded = _Guarded()
    memory = _guarded.memory
    memory[:] = bytes(_SIZE)
    source = io.BytesIO(data)
    ends = _Ends(bool(_number(source) & 1), memory)
    while what := source.read(1):
        try:
            _use(ends, what[0], source, memory)
        except (MemifError, IndexError):
            pass
    for burst in ends.held:
        burst.release()
    ends.rx.detach()
    ends.tx.detach()


def _use(ends: _Ends, what: int, source: io.BytesIO, memory: memoryview) -> None:
    number = what >> 4
    match what & 15:
        case 0 | 1 | 2:  # a descriptor, half of the fields small, so that some are good
            slot, values = _number(source), source.read(12).ljust(12, b"\0")
            flags, region, length, offset = struct.unpack("<HHII", values)
            if what & 3:
                region, length, offset = region & 1, length % 300, offset % _SIZE
            at = _RING * (slot & 1) + 128 + 16 * (slot >> 1 & 7)
            memory[at : at + 16] = struct.pack("<HHIII", flags, region, length, offset, 0)
        case 3 | 4:  # an index
            at = _RING * (number & 1) + (64 if number & 2 else 6)
            now = int.from_bytes(memory[at : at + 2], "little")
            step = _number(source) if number & 4 else 1 + number // 8
            memory[at : at + 2] = ((now + step) & 0xFFFF).to_bytes(2, "little")
        case 5:  # anything
            raw = source.read(_number(source) % 32)
            at = int.from_bytes(source.read(2).ljust(2, b"\0"), "little") % (_SIZE - 32)
            memory[at : at + len(raw)] = raw
        case 6 | 7:
            burst = ends.rx.recv(1 + number, timeout=0)
            if number & 1:
                burst.tobytes()
                burst.gather(70)
                [bytes(view) for view in burst]
            ends.held.append(burst)
        case 8 | 9:
            if ends.held:
                ends.held.pop(number % len(ends.held)).release()
        case 10:
            ends.tx.send([bytes(1 + number * 20)] * (1 + number % 5))
        case 11:
            ends.tx.send([bytes(_number(source) * 8 + 1)])
        case 12:
            with ends.tx.alloc(1 + number % 6, 1 + _number(source)) as burst:
                for i in range(len(burst)):
                    for piece in burst.fragments(i):
                        piece[:] = bytes(len(piece))
        case 13:
            if ends.held:
                ends.tx.forward(ends.held[number % len(ends.held)], copy=bool(number & 1))
        case 14:
            if ends.held:
                burst = ends.held[number % len(ends.held)]
                burst.lengths[:] = _number(source) * 2
                burst.tobytes()
        case 15:
            ends.tx.free()
            ends.rx.wait(0)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "wire": wire,
    "handshake": handshake,
    "pcapng": pcapng,
    "rings": rings,
}
