"""A hostile master's side of the handshake, and what it does to the slave's memory."""

import ctypes
import fcntl
import os
from collections.abc import Callable, Iterator

from memif.protocol.wire import (
    Ack,
    AddRegion,
    AddRing,
    Connect,
    Connected,
    Disconnect,
    Hello,
    Init,
    Message,
)
from memif.testing.cases.case import Case, Outcome
from memif.testing.cases.slave_talk import say_on
from memif.testing.hostile import HUNG_UP, SILENT, HostilePeer


def _greets(*messages: Message | bytes) -> Callable[[HostilePeer], str | None]:
    """Say these at once after accepting, then listen."""

    def attack(peer: HostilePeer) -> str | None:
        peer.accept()
        for message in messages:
            peer.send(message)
        return peer.farewell()

    return attack


def _instead(of: type[Message], *messages: Message | bytes) -> Callable[[HostilePeer], str | None]:
    """Be honest until a message of type `of` comes, and answer that with these."""

    def attack(peer: HostilePeer) -> str | None:
        peer.serve(until=of)
        for message in messages:
            peer.send(message)
        return peer.farewell()

    return attack


def _hello(**changes: int) -> Hello:
    return Hello("hostile", **changes)


def _leaves(of: type[Message]) -> Callable[[HostilePeer], str | None]:
    def attack(peer: HostilePeer) -> str | None:
        peer.serve(until=of)
        assert peer.sock is not None
        peer.sock.close()
        return HUNG_UP

    return attack


_UNEXPECTED = r"unexpected message received \({}\)"

_REFUSED: tuple[tuple[str, str, str, Callable[[HostilePeer], str | None]], ...] = (
    (
        "hello-version-1",
        "speaks version 1.0 only",
        "incompatible protocol version",
        _greets(_hello(min_version=0x0100, max_version=0x0100)),
    ),
    (
        "hello-version-3",
        "speaks version 3.0 only",
        "incompatible protocol version",
        _greets(_hello(min_version=0x0300, max_version=0x0300)),
    ),
    (
        "hello-version-empty",
        "announces a range of versions that is empty",
        "incompatible protocol version",
        _greets(_hello(min_version=0xFFFF, max_version=0)),
    ),
    (
        "hello-rings-of-one-slot",
        "allows rings of one slot only",
        "ring size out of range",
        _greets(_hello(max_log2_ring_size=0)),
    ),
    ("hello-short", "sends a HELLO of 45 bytes", "malformed message received", _greets(b"\x02\x00" + bytes(43))),
    ("hello-type-0", "starts with 128 zeros", r"unknown message type \(0x0\)", _greets(bytes(128))),
    ("ack-before-hello", "starts with ACK", _UNEXPECTED.format("ACK"), _greets(Ack())),
    ("connected-before-hello", "starts with CONNECTED", _UNEXPECTED.format("CONNECTED"), _greets(Connected())),
    ("init-from-master", "starts with INIT", _UNEXPECTED.format("INIT"), _greets(Init(0))),
    ("hello-twice", "sends HELLO twice", _UNEXPECTED.format("HELLO"), _greets(_hello(), _hello())),
    (
        "region-from-master",
        "offers a region",
        _UNEXPECTED.format("ADD_REGION"),
        _instead(AddRegion, AddRegion(0, 4096)),
    ),
    (
        "connected-too-early",
        "sends CONNECTED in answer to INIT",
        _UNEXPECTED.format("CONNECTED"),
        _instead(Init, Connected()),
    ),
    ("ack-for-connect", "answers CONNECT with ACK", _UNEXPECTED.format("ACK"), _instead(Connect, Ack())),
    ("one-ack-too-many", "acknowledges everything twice", _UNEXPECTED.format("ACK"), _instead(Init, *[Ack()] * 8)),
    ("long-answer", "answers with 4000 bytes", "malformed message received", _instead(AddRing, bytes(4000))),
)


def _shrink(peer: HostilePeer) -> str | None:
    for change in (
        lambda fd: os.ftruncate(fd, 0),
        lambda fd: os.ftruncate(fd, 1 << 40),
        lambda fd: fcntl.fcntl(fd, fcntl.F_ADD_SEALS, 0x10),
    ):
        try:
            change(peer.memory_fds[0])
        except PermissionError:
            continue
        raise AssertionError("the slave's memory is not sealed")
    return None


def _punch(peer: HostilePeer) -> str | None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate(peer.memory_fds[0], 3, ctypes.c_long(0), ctypes.c_long(len(peer.memory[0])))
    return None


def _wipe(peer: HostilePeer) -> str | None:
    peer.memory[0][:] = b"\xff" * len(peer.memory[0])
    return None


def cases() -> Iterator[Case]:
    """All cases of this module."""
    for name, about, reason, attack in _REFUSED:
        yield Case(f"master-{name}", "master", False, about, attack, Outcome.REFUSED, reason)
    for kind in (Init, AddRegion, AddRing, Connect):
        name = kind.TYPE.name.lower().replace("_", "-")
        yield Case(
            f"master-leaves-at-{name}",
            "master",
            False,
            f"hangs up instead of answering {kind.TYPE.name}",
            _leaves(kind),
            Outcome.REFUSED,
            r"\(hung up\)",
        )
        yield Case(
            f"master-silent-at-{name}",
            "master",
            False,
            f"never answers {kind.TYPE.name}",
            _instead(kind),
            Outcome.REFUSED,
            "handshake timed out",
        )
    yield Case(
        "master-silent", "master", False, "accepts and says nothing", _greets(), Outcome.REFUSED, "handshake timed out"
    )
    yield Case(
        "master-refuses-with-escapes",
        "master",
        False,
        "refuses with a text of terminal escapes and no end",
        _greets(b"\x08\x00\xff\xff\xff\xff" + b"\x1b]0;" + b"z" * 118),
        Outcome.REFUSED,
        r"\(hung up\)",
    )
    yield Case(
        "master-hello-huge-limits",
        "master",
        False,
        "announces limits of 65535 and rings of 2**255 slots",
        lambda peer: (
            None
            if isinstance(
                peer.serve(_hello(max_region=0xFFFF, max_m2s_ring=0xFFFF, max_s2m_ring=0xFFFF, max_log2_ring_size=255)),
                Connect,
            )
            else SILENT
        ),
        Outcome.HARMLESS,
    )
    yield Case(
        "master-hello-no-limits",
        "master",
        False,
        "allows one ring of two slots and one region",
        lambda peer: (
            None
            if isinstance(
                peer.serve(_hello(max_region=0, max_m2s_ring=0, max_s2m_ring=0, max_log2_ring_size=1)), Connect
            )
            else SILENT
        ),
        Outcome.HARMLESS,
    )
    for name, about, change in (
        ("resizes-memory", "tries to shrink, grow and seal the slave's memory", _shrink),
        ("holes", "punches the slave's memory full of holes", _punch),
    ):
        yield Case(f"master-{name}", "master", True, about, change, Outcome.HARMLESS)
    yield Case(
        "master-fills-memory",
        "master",
        True,
        "fills all of the slave's memory with ones",
        _wipe,
        Outcome.DISCONNECTED,
        "peer broke the ring's indices",
    )
    yield Case(
        "master-goodbye",
        "master",
        True,
        "says DISCONNECT and stays connected",
        say_on(Disconnect(1, "go away")),
        Outcome.DISCONNECTED,
        "go away",
    )
    yield Case(
        "master-hello-when-up",
        "master",
        True,
        "sends HELLO on a link that is up",
        say_on(_hello()),
        Outcome.DISCONNECTED,
        _UNEXPECTED.format("HELLO"),
    )
