"""Hostile use of the rings, in either role: indices, descriptors, chains, races, interrupts."""

import fcntl
import os
import random
import threading
import time
from collections.abc import Callable, Iterator

from memif.testing.cases import Case, Outcome
from memif.testing.hostile import Descriptor, HostilePeer, RawRing

Do = Callable[[HostilePeer], object]
_INDICES = "{} queue 0: peer broke the ring's indices"
_NEXT = 1


def _linked(do: Do) -> Callable[[HostilePeer], str | None]:
    def attack(peer: HostilePeer) -> str | None:
        do(peer)
        return None

    return attack


def _buffer(peer: HostilePeer, slot: int = 0) -> Descriptor:
    """Return an honest packet of 60 bytes in the buffer of a slot."""
    return Descriptor(0, 0, 60, peer.out[slot].offset)


def send(peer: HostilePeer, *descriptors: Descriptor) -> None:
    """Put descriptors into the ring as they are, and send them."""
    start = peer.out.head if peer.role == "slave" else peer.out.tail
    for number, descriptor in enumerate(descriptors):
        peer.out[start + number] = descriptor
    peer.show(peer.out, len(descriptors))
    peer.signal()


def _ready(peer: HostilePeer) -> None:
    """Wait until the other end has given us buffers, which a master gets only after the link is up."""
    if peer.role == "master":
        peer.until(lambda: peer.out.head == peer.out.size)


def _jump(ring: str, count: int) -> Do:
    def do(peer: HostilePeer) -> None:
        _ready(peer)
        peer.show(getattr(peer, ring), count)
        peer.signal()

    return do


def _back(peer: HostilePeer) -> None:
    """Send three packets, wait until they are taken, then pretend that there were two."""
    _ready(peer)
    send(peer, *[_buffer(peer, slot) for slot in range(3)])
    peer.until(lambda: (peer.out.tail if peer.role == "slave" else peer.out.head - peer.out.size) == 3)
    peer.show(peer.out, -1)
    peer.signal()


def _return_unsent(peer: HostilePeer) -> None:
    """Return more of the other end's packets than it has sent."""
    peer.until(lambda: (peer.back.tail if peer.role == "slave" else peer.back.head) > 0)
    peer.show(peer.back, peer.back.size + 1)


_JUMPS: tuple[tuple[str, str, str, Do], ...] = (
    ("index-one-too-far", "moves its index one further than the ring has slots", "rx", _jump("out", 17)),
    ("index-half-way-round", "moves its index by 32768", "rx", _jump("out", 0x8000)),
    ("index-backwards-at-once", "moves its index back below the start", "rx", _jump("out", -1)),
    ("index-backwards", "takes packets back that were received already", "rx", _back),
    ("return-too-far", "returns one slot more than the ring has", "tx", _jump("back", 17)),
    ("return-half-way-round", "moves the index of returned slots by 32768", "tx", _jump("back", 0x8000)),
    ("return-backwards", "takes slots back", "tx", _jump("back", -1)),
)


#: Names and texts of the bad descriptors; the values need a peer's memory.
_BAD = {
    "length-0": "sends a descriptor of length 0",
    "length-2-32": "sends a descriptor of length 2**32 - 1",
    "length-65537": "sends a descriptor of 65537 bytes",
    "region-1": "names a region that does not exist",
    "region-65535": "names region 65535",
    "offset-at-end": "names a buffer at the end of its region",
    "offset-2-32": "names a buffer at offset 2**32 - 1",
    "one-byte-outside": "names a buffer that ends a byte outside its region",
}
_LENGTHS = ("length-0", "length-2-32", "length-65537")


def _bad(name: str, end: int) -> Descriptor:
    return {
        "length-0": Descriptor(0, 0, 0, 768),
        "length-2-32": Descriptor(0, 0, 0xFFFFFFFF, 768),
        "length-65537": Descriptor(0, 0, 65537, 0),
        "region-1": Descriptor(0, 1, 60, 768),
        "region-65535": Descriptor(0, 0xFFFF, 60, 768),
        "offset-at-end": Descriptor(0, 0, 60, end),
        "offset-2-32": Descriptor(0, 0, 60, 0xFFFFFFFF),
        "one-byte-outside": Descriptor(0, 0, 60, end - 59),
    }[name]


def _send_bad(name: str) -> Do:
    def do(peer: HostilePeer) -> None:
        _ready(peer)
        send(peer, _bad(name, len(peer.memory[0])))

    return do


def _offer_bad(name: str) -> Do:
    """Slave: give the master an invalid buffer."""

    def do(peer: HostilePeer) -> None:
        peer.back.fill(_bad(name, len(peer.memory[0])))
        peer.show(peer.back, 4)

    return do


def _chain(peer: HostilePeer, lengths: list[int]) -> None:
    _ready(peer)
    last = len(lengths) - 1
    send(peer, *[Descriptor(_NEXT if i < last else 0, 0, n, peer.out[i].offset) for i, n in enumerate(lengths)])


def _endless(peer: HostilePeer) -> None:
    _ready(peer)
    send(peer, *[Descriptor(_NEXT, 0, 60, peer.out[i].offset) for i in range(peer.out.size)])


def _trickle(peer: HostilePeer) -> None:
    """Send a chain that grows by one piece at a time and never ends."""
    _ready(peer)
    for i in range(peer.out.size):
        send(peer, Descriptor(_NEXT, 0, 60, peer.out[i].offset))
        peer.settle()


def _oversize(peer: HostilePeer) -> None:
    send(peer, *[Descriptor(_NEXT if i < 15 else 0, 0, 8192, 768) for i in range(16)])


_CHAINS: tuple[tuple[str, str, str, Do], ...] = (
    ("chain-without-end", "fills the ring with one chain that has no end", "rx.dropped_bad", _endless),
    ("chain-that-grows", "lets a chain grow piece by piece without an end", "rx.dropped_bad", _trickle),
    (
        "chain-with-empty-piece",
        "sends a chain with an empty piece",
        "rx.dropped_bad",
        lambda peer: _chain(peer, [60, 0, 60]),
    ),
    (
        "chain-with-huge-piece",
        "sends a chain with a piece of 2**32 - 1 bytes",
        "rx.dropped_bad",
        lambda peer: _chain(peer, [60, 0xFFFFFFFF, 60]),
    ),
)


def _own_index(peer: HostilePeer) -> None:
    """Write what only the other end may write."""
    _ready(peer)
    for ring in (peer.out, peer.back):
        if peer.role == "slave":
            ring.tail = 0x5555
        else:
            ring.head = 0x5555


def _half_chain(peer: HostilePeer) -> None:
    _ready(peer)
    send(peer, Descriptor(_NEXT, 0, 60, peer.out[0].offset))


def _flags(peer: HostilePeer) -> None:
    _ready(peer)
    send(peer, Descriptor(0xFFFE, 0, 60, peer.out[0].offset, 0xFFFFFFFF))


def _cookie(peer: HostilePeer) -> None:
    for ring in (peer.out, peer.back):
        ring.cookie = 0
        ring.flags = 0xFFFF


def _header_as_packet(peer: HostilePeer) -> None:
    """Name the ring's own header as the place of a packet."""
    _ready(peer)
    send(peer, Descriptor(0, 0, 60, peer.out.offset))


def _header_as_buffer(peer: HostilePeer) -> None:
    """Have the other end write packets over the header of the ring, which is our own memory."""
    peer.back.fill(Descriptor(0, 0, 2048, peer.back.offset))
    peer.show(peer.back, 8)


def _pretend_region(peer: HostilePeer) -> None:
    """To a slave: region and offset that it never published."""
    _ready(peer)
    send(peer, Descriptor(0, 0xFFFF, 60, 0xFFFFFFFF))


def _brim(peer: HostilePeer) -> None:
    for fd in peer.event_fds.values():
        try:
            os.eventfd_write(fd, 0xFFFFFFFFFFFFFFFE)
        except BlockingIOError:
            pass


def _blocking(peer: HostilePeer) -> None:
    for fd in peer.event_fds.values():
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) & ~os.O_NONBLOCK)
    if peer.role == "slave":
        peer.show(peer.back, 8)


def _close_events(peer: HostilePeer) -> None:
    for fd in peer.event_fds.values():
        os.close(fd)
    peer.event_fds.clear()


def _storm(peer: HostilePeer) -> None:
    for _ in range(200):
        peer.signal()
        peer.settle()


_HARMLESS: tuple[tuple[str, str, Do], ...] = (
    ("own-index-overwritten", "writes the index that belongs to the other end", _own_index),
    ("chain-not-finished", "sends the first piece of a chain and no more", _half_chain),
    ("flags-all-ones", "sets all flags but NEXT, and the metadata", _flags),
    ("cookie-and-flags-overwritten", "overwrites cookies and flags of the rings", _cookie),
    ("header-as-packet", "names the ring's header as a packet", _header_as_packet),
    ("eventfd-full", "fills the counters of the event fds", _brim),
    ("eventfd-blocking", "makes the event fds blocking", _blocking),
    ("eventfd-closed", "closes the event fds", _close_events),
    ("eventfd-storm", "interrupts all the time without a packet", _storm),
)


def _race(seconds: float, good: bool) -> Do:
    """Send all the time, while a thread rewrites the descriptors."""

    def do(peer: HostilePeer) -> None:
        _ready(peer)
        honest = Descriptor(0, 0, 60, peer.out[0].offset)
        evil = Descriptor(0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
        longer = Descriptor(0, 0, 0xFFFF, len(peer.memory[0]) - 60)
        ring = peer.out if good else peer.back
        with peer.scribble(ring, honest, evil, honest, longer):
            _busy(peer, seconds)

    return do


def _busy(peer: HostilePeer, seconds: float) -> None:
    """Move indices as an honest peer would, whatever is in the slots."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if peer.role == "slave":
            peer.out.head = peer.out.tail + peer.out.size
            peer.back.head = peer.back.tail + peer.back.size
        else:
            peer.out.tail = peer.out.head
            peer.back.tail = peer.back.head
        peer.signal()
        peer.settle()


def _race_index(peer: HostilePeer) -> None:
    """A thread moves the index at random."""
    stop = threading.Event()
    dice = random.Random(4)

    def run() -> None:
        while not stop.is_set():
            index = dice.randrange(1 << 16)
            if peer.role == "slave":
                peer.out.head = peer.back.head = index
            else:
                peer.out.tail = peer.back.tail = index

    thread = threading.Thread(target=run, name="index racer", daemon=True)
    thread.start()
    try:
        for _ in range(50):
            peer.settle()
    finally:
        stop.set()
        thread.join()


def _garbage(seed: int) -> Do:
    def do(peer: HostilePeer) -> None:
        dice = random.Random(seed)
        _ready(peer)
        for _ in range(20):
            start = peer.out.offset
            memory = peer.memory[0]
            header = memory[start : start + 384]
            memory[start : start + 384] = dice.randbytes(384)
            memory[start + 6 : start + 8] = header[6:8]
            memory[start + 64 : start + 66] = header[64:66]
            _show_some(peer.out, peer.role, dice.randrange(1, 17))
            peer.signal()
            peer.settle()

    return do


def _show_some(ring: RawRing, role: str, count: int) -> None:
    if role == "slave":
        ring.head = ring.tail + count
    else:
        ring.tail = min(ring.tail + count, ring.head)


def ring_cases() -> Iterator[Case]:
    """What a hostile peer does to the rings, for both roles where both have them."""
    for role in ("slave", "master"):
        for name, about, side, do in _JUMPS:
            if role == "master" and name == "return-too-far":
                do = _return_unsent
            yield Case(f"{role}-{name}", role, True, about, _linked(do), Outcome.DISCONNECTED, _INDICES.format(side))
        for name, about in _BAD.items():
            if role == "slave" or name in _LENGTHS:
                yield Case(
                    f"{role}-{name}",
                    role,
                    True,
                    about,
                    _linked(_send_bad(name)),
                    Outcome.DROPPED,
                    counter="rx.dropped_bad",
                )
        for name, about, counter, do in _CHAINS:
            yield Case(f"{role}-{name}", role, True, about, _linked(do), Outcome.DROPPED, counter=counter)
        for name, about, do in _HARMLESS:
            yield Case(f"{role}-{name}", role, True, about, _linked(do), Outcome.HARMLESS)
        yield Case(
            f"{role}-descriptors-race",
            role,
            True,
            "rewrites descriptors of packets while they are read",
            _linked(_race(0.15, True)),
            Outcome.SURVIVED,
        )
        yield Case(
            f"{role}-free-slots-race",
            role,
            True,
            "rewrites descriptors of free slots while they are used",
            _linked(_race(0.15, False)),
            Outcome.SURVIVED,
        )
        yield Case(
            f"{role}-index-race",
            role,
            True,
            "moves its indices at random all the time",
            _linked(_race_index),
            Outcome.SURVIVED,
        )
        for seed in range(4):
            yield Case(
                f"{role}-garbage-{seed}",
                role,
                True,
                "fills the ring with random bytes, again and again",
                _linked(_garbage(seed)),
                Outcome.SURVIVED,
            )
    for name, about in _BAD.items():
        if name != "length-65537":
            about = about.replace("sends a descriptor", "offers a buffer").replace("names", "offers")
            yield Case(
                f"slave-offers-{name}",
                "slave",
                True,
                about,
                _linked(_offer_bad(name)),
                Outcome.DROPPED,
                counter="tx.bad_descriptors",
            )
    yield Case(
        "slave-header-as-buffer",
        "slave",
        True,
        "offers the ring's header as a buffer",
        _linked(_header_as_buffer),
        Outcome.DISCONNECTED,
        _INDICES.format("tx"),
    )
    yield Case(
        "slave-chain-oversize",
        "slave",
        True,
        "sends a chain of more than 65536 bytes",
        _linked(_oversize),
        Outcome.DROPPED,
        counter="rx.dropped_oversize",
    )
    yield Case(
        "master-invents-buffers",
        "master",
        True,
        "sends region and offset that the slave never published",
        _linked(_pretend_region),
        Outcome.HARMLESS,
    )
