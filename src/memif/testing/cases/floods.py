"""Hostile crowds: more connections than anybody wants."""

import socket
from collections.abc import Callable, Iterator

from memif.protocol.wire import Init
from memif.testing.cases.case import Case, Outcome
from memif.testing.hostile import HostilePeer

_CROWD = 200


def _try_connect(peer: HostilePeer) -> socket.socket | None:
    """One more connection; None when the listener's queue is full just now."""
    try:
        return peer.connect()
    except BlockingIOError:
        return None


def _half_open(peer: HostilePeer) -> str | None:
    """Hundreds of connections that say nothing; then an honest one."""
    for _ in range(_CROWD):
        if _try_connect(peer) is None:
            peer.settle()
    return peer.play(peer.script())


def _crowd_of_inits(peer: HostilePeer) -> str | None:
    """Hundreds of clients that all ask for the interface; the first has it, and says no more."""
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


def cases() -> Iterator[Case]:
    """All cases of this module."""
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
