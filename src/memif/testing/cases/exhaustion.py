"""Hostile peers that exhaust a process: descriptors whose ``close`` waits for an hour, and crowds of connections."""

import os
import select
import socket
import struct
from collections.abc import Callable, Iterator

from memif.protocol.wire import Ack, Connect, Hello, Init
from memif.testing.cases import Attack, Case, Outcome
from memif.testing.hostile import HUNG_UP, HostilePeer, Step

#: The most that one message can carry.
_MOST = 253
Fds = Callable[[HostilePeer], list[int]]


def _lingering(peer: HostilePeer) -> list[int]:
    """Return a TCP socket with SO_LINGER and bytes that its receiver never takes: its last ``close`` waits an hour."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        sender = socket.create_connection(listener.getsockname())
        peer.keep(listener.accept()[0].detach())
    sender.setblocking(False)
    try:
        while True:
            sender.send(bytes(1 << 16))
    except BlockingIOError:
        pass
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 3600))
    return [sender.detach()]


def _in_flight(peer: HostilePeer) -> list[int]:
    """Return a UNIX socket in which such a socket is unread."""
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with left:
        fds = _lingering(peer)
        socket.send_fds(left, [b"x"], fds)
        _give(fds)
    return [right.detach()]


def _zoo(peer: HostilePeer) -> list[int]:
    """Return one of each kind: pipe, terminal, epoll, directory, device, memory, event fd."""
    terminal = [peer.keep(fd) for fd in os.openpty()][:1]
    ends = [peer.keep(fd) for fd in os.pipe()]
    epoll = select.epoll()
    kinds = [os.dup(fd) for fd in (*terminal, *ends, epoll.fileno())]
    epoll.close()
    kinds += [os.open("/", os.O_RDONLY), os.open("/", os.O_PATH), os.open("/dev/null", os.O_RDWR)]
    return [*kinds, os.memfd_create("zoo"), os.eventfd(0)]


def _crowd(peer: HostilePeer) -> list[int]:
    """Return as many as a message can carry, the last one of the bad kind."""
    return [os.eventfd(0) for _ in range(_MOST - 1)] + _lingering(peer)


def _give(fds: list[int]) -> None:
    """Close ours, so that the receiver has the last ones."""
    for fd in fds:
        os.close(fd)


def _beside(name: str, make: Fds) -> Attack:
    """Slave: send descriptors with one step of the script, in place of its own."""

    def attack(peer: HostilePeer) -> str | None:
        script = peer.script()
        script[name].fds, script[name].give = make(peer), True
        return peer.play(script)

    return attack


def _unread(peer: HostilePeer) -> str | None:
    """Send an invalid message, for which the other end hangs up, and after it a descriptor, which stays unread."""
    script = peer.script()
    steps = {"invalid": Step(bytes(128), answer=False)}
    steps |= {f"behind{i}": Step(data, _lingering(peer), answer=False, give=True) for i, data in enumerate((b"", b"x"))}
    steps["init"] = script["init"]
    return peer.play(steps)


def _unaccepted(peer: HostilePeer) -> str | None:
    """Connect, send such a descriptor and leave, again and again, and then connect honestly."""
    for _ in range(20):
        sock = peer.connect()
        fds = _lingering(peer)
        peer.send(Init(peer.id), *fds)
        _give(fds)
        sock.close()
    peer.settle()
    return peer.play(peer.script())


def _greeting(make: Fds) -> Attack:
    """Master: send descriptors with HELLO."""

    def attack(peer: HostilePeer) -> str | None:
        peer.accept()
        fds = make(peer)
        peer.send(Hello("hostile"), *fds)
        _give(fds)
        return None if isinstance(peer.answer(), Connect) else HUNG_UP

    return attack


def _acknowledging(peer: HostilePeer) -> str | None:
    """Master: send such a descriptor with the first ACK."""
    peer.serve(until=Init)
    fds = _lingering(peer)
    peer.send(Ack(), *fds)
    _give(fds)
    return None if isinstance(peer.answer(), Connect) else HUNG_UP


def _greeting_unread(peer: HostilePeer) -> str | None:
    """Master: send a HELLO for which the slave hangs up, and a descriptor after it."""
    peer.accept()
    peer.send(Hello("hostile", min_version=0x0100, max_version=0x0100))
    fds = _lingering(peer)
    peer.send(Ack(), *fds)
    _give(fds)
    return peer.farewell()


_LINGERING = "a socket that lingers for an hour when it is closed"
_HARMLESS: tuple[tuple[str, str, str, Attack], ...] = (
    ("fd-lingering", "slave", f"sends {_LINGERING} beside INIT", _beside("init", _lingering)),
    ("fd-in-flight", "slave", "sends a UNIX socket with such a one in it beside INIT", _beside("init", _in_flight)),
    ("fd-zoo", "slave", "sends a pipe, a terminal, an epoll and more beside INIT", _beside("init", _zoo)),
    ("fd-253", "slave", f"sends {_MOST} descriptors beside INIT, with such a one the last", _beside("init", _crowd)),
    ("fd-unaccepted", "slave", "sends such a one and leaves before it is accepted", _unaccepted),
    ("hello-fd-lingering", "master", f"sends {_LINGERING} beside HELLO", _greeting(_lingering)),
    ("hello-fd-in-flight", "master", "sends a UNIX socket with such a one in it beside HELLO", _greeting(_in_flight)),
    ("hello-fd-zoo", "master", "sends a pipe, a terminal, an epoll and more beside HELLO", _greeting(_zoo)),
    ("hello-fd-253", "master", f"sends {_MOST} descriptors beside HELLO", _greeting(_crowd)),
    ("ack-fd-lingering", "master", f"sends {_LINGERING} beside ACK", _acknowledging),
)
_REFUSED: tuple[tuple[str, str, str, Attack, str], ...] = (
    (
        "fd-lingering-region",
        "slave",
        f"offers {_LINGERING} as memory",
        _beside("region", _lingering),
        "region fd is not shared memory",
    ),
    (
        "fd-lingering-ring",
        "slave",
        f"offers {_LINGERING} for interrupts",
        _beside("s2m", _lingering),
        "ring interrupt fd is not an eventfd",
    ),
    ("fd-253-region", "slave", f"offers {_MOST} descriptors as memory", _beside("region", _crowd), "more than one"),
    ("fd-unread", "slave", "is hung up on, with such a one in a message still unread", _unread, "unknown message type"),
    (
        "hello-fd-unread",
        "master",
        "is hung up on, with such a one in a message still unread",
        _greeting_unread,
        "incompatible protocol version",
    ),
)


def descriptor_cases() -> Iterator[Case]:
    """Descriptors of the wrong kind beside any message."""
    for name, role, about, attack in _HARMLESS:
        yield Case(name, role, False, about, attack, Outcome.HARMLESS)
    for name, role, about, attack, reason in _REFUSED:
        yield Case(name, role, False, about, attack, Outcome.REFUSED, reason)


_CROWD = 200


def _try_connect(peer: HostilePeer) -> socket.socket | None:
    """Open one more connection. Returns None when the listener's queue is full."""
    try:
        return peer.connect()
    except BlockingIOError:
        return None


def _half_open(peer: HostilePeer) -> str | None:
    """Open hundreds of connections that send nothing, then an honest one."""
    for _ in range(_CROWD):
        if _try_connect(peer) is None:
            peer.settle()
    return peer.play(peer.script())


def _crowd_of_inits(peer: HostilePeer) -> str | None:
    """Open hundreds of connections that all ask for the interface. The first gets it, and sends no more."""
    for _ in range(_CROWD):
        if _try_connect(peer) is not None:
            peer.send(Init(peer.id))
        peer.settle()
    return peer.play(peer.script())


def _come_and_go(peer: HostilePeer) -> str | None:
    for _ in range(_CROWD):
        sock = _try_connect(peer)
        if sock is not None:
            sock.close()
        else:
            peer.settle()
    return peer.play(peer.script())


def _again_and_again(peer: HostilePeer) -> str | None:
    """Come up honestly and vanish, twenty times."""
    attack: Callable[[], str | None] = lambda: peer.play(peer.script())  # noqa: E731
    for _ in range(20):
        reason = attack()
        if reason is not None:
            return reason
        peer.close()
        peer.settle()
    return attack()


def crowd_cases() -> Iterator[Case]:
    """Crowds of connections."""
    yield Case(
        "crowd-half-open",
        "slave",
        False,
        f"opens {_CROWD} connections and says nothing on them",
        _half_open,
        Outcome.HARMLESS,
    )
    yield Case(
        "crowd-come-and-go", "slave", False, f"connects and hangs up {_CROWD} times", _come_and_go, Outcome.HARMLESS
    )
    yield Case(
        "crowd-of-inits",
        "slave",
        False,
        f"asks for the interface on {_CROWD} connections",
        _crowd_of_inits,
        Outcome.REFUSED,
        "already connected",
    )
    yield Case(
        "up-and-down", "slave", False, "connects and vanishes 20 times in a row", _again_and_again, Outcome.HARMLESS
    )
