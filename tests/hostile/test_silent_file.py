"""A peer sends a file on FUSE that never answers. Whoever closes it waits for ever; no interface may."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import memif
from ends import Child, pump
from hostile.fuse import serve
from memif.protocol.wire import Hello, Init
from memif.testing import HostilePeer
from patience import within

#: Where the peer puts it, and whether the link comes up all the same.
PLACES = {"init": True, "init-253": True, "region": False, "ring": False, "connect": True, "hello": True}


def hangs(call: Callable[[int], object], fd: int) -> bool:
    """Whether this call does: else nothing here would prove a thing."""
    thread = threading.Thread(target=call, args=(os.dup(fd),), daemon=True)
    thread.start()
    thread.join(0.2)
    return thread.is_alive()


def attacker(path: str, file: str, place: str) -> Iterator[object]:
    """For a child process, which has to be killed."""
    fd = os.open(file, os.O_RDWR)
    yield hangs(os.close, fd) and hangs(os.fstat, fd)
    peer = HostilePeer(path, "master" if place == "hello" else "slave", timeout=within(10.0))
    yield "ready"
    if place == "hello":
        peer.accept()
        peer.send(Hello("hostile"), fd)
        peer.answer()
    elif place == "unread":
        peer.connect()
        for _ in range(3):
            peer.send(Init(0), fd, fd)
    else:
        script = peer.script()
        step = script[{"init-253": "init", "ring": "s2m"}.get(place, place)]
        step.fds = [fd] * (253 if place == "init-253" else 1)
        peer.play(script)
    yield "said"
    while True:
        time.sleep(1)


@contextlib.contextmanager
def attacked(path: str, folder: Path, place: str) -> Iterator[Child]:
    """The attacker, ready. The kernel ends the file system after a while, and with it all that hangs."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(Child(serve, str(folder), limit=int(within(20))))
        if said := server.tells():
            pytest.skip(said)
        peer = stack.enter_context(Child(attacker, path, f"/proc/{server.pid}/root{folder}/file", place))
        stack.callback(server.kill9)  # first: until then nobody else who has the file can end
        assert peer.tells() is True
        assert peer.tells() == "ready"
        yield peer
        ended = os.waitid(os.P_PID, server.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        assert ended is None, "something hung until the file system had ended"


def forever(sock: memif.Socket) -> None:
    while True:
        sock.poll(5.0)


def interrupted(sock: memif.Socket) -> None:
    """Ctrl-C while it waits."""
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            forever(sock)
    finally:
        timer.join()
        signal.signal(signal.SIGINT, before)


def closed_soon(sock: memif.Socket) -> None:
    start = time.monotonic()
    sock.close()
    assert time.monotonic() - start < within(2.0)


def serves(sock: memif.Socket, path: str) -> None:
    """Another client comes up, and sends."""
    with memif.Socket(path) as connecting:
        other, good = sock.interface(role="master", id=1), connecting.interface(id=1)
        pump(sock, connecting, until=lambda: other.up and good.up)
        assert good.tx[0].send([b"x" * 60]) == 1
        with other.rx[0].recv(timeout=2.0) as burst:
            assert burst.tobytes() == [b"x" * 60]


@pytest.mark.parametrize("place", PLACES)
def test_nothing_waits_for_it(socket_path: str, tmp_path: Path, place: str) -> None:
    """The attacked socket goes on, serves others, can be interrupted, and closes."""
    slave = place == "hello"
    with memif.Socket(socket_path) as sock:
        iface = sock.interface(role="slave" if slave else "master", reconnect=0.05)
        with attacked(socket_path, tmp_path, place) as peer:
            pump(sock, until=lambda: iface.up if PLACES[place] else iface.stats["refused"])
            assert peer.tells() == "said"
            if not slave:
                serves(sock, socket_path)
            interrupted(sock)
            closed_soon(sock)


def test_what_was_never_read(socket_path: str, tmp_path: Path) -> None:
    """It lies in the socket, out of which it is taken, and closed, before the socket is."""
    with memif.Socket(socket_path) as sock:
        sock.interface(role="master")
        with attacked(socket_path, tmp_path, "unread") as peer:
            assert peer.tells() == "said"
            sock.poll(0)  # accepts
            closed_soon(sock)
