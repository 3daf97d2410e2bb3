"""Who may come in, what they are asked, and what is never told."""

import copy
import hmac
import logging
import os
import pickle
import stat

import pytest

import memif
from children import NOBODY, text_of_child
from ends import Child, linked, pump
from memif.capture import describe
from memif.config import InterfaceConfig
from memif.protocol import encode
from memif.protocol.wire import Hello, Init
from memif.testing import HostilePeer, unused_name

SECRET = b"tr0ub4dor"


def client(path: str, uid: int) -> str:
    """A slave in a process of user `uid`, for a while."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    with memif.connect(path, timeout=5.0) as iface:
        iface.rx[0].recv(timeout=0.3)
    return "was up"


root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")


@root
def test_the_kernel_says_who_the_peer_is(socket_path: str) -> None:
    os.chmod(os.path.dirname(socket_path), 0o755)
    seen: list[memif.Peer] = []
    with memif.Socket(socket_path, mode=0o666) as sock:
        iface = sock.interface(role="master", authorize=lambda peer: seen.append(peer) or peer.uid == NOBODY)
        with Child(client, socket_path, NOBODY) as child:
            pump(iface, until=lambda: iface.up)
            peer = iface.peer
            assert peer is not None
            assert (peer.pid, peer.uid, peer.gid) == (child.pid, NOBODY, NOBODY)
            assert (seen[0].pid, seen[0].uid, seen[0].gid) == (child.pid, NOBODY, NOBODY)
            assert child.joined() == "was up"
        pump(iface, until=lambda: not iface.up)
        assert iface.peer is None


@root
def test_other_users_can_not_connect_by_default(socket_path: str) -> None:
    os.chmod(os.path.dirname(socket_path), 0o755)
    with memif.listen(socket_path) as iface:
        assert stat.S_IMODE(os.stat(socket_path).st_mode) == 0o600
        text = text_of_child(lambda: str(memif.connect(socket_path, timeout=0.3)))
        assert text.startswith("MemifPermissionError"), text
        assert iface.socket.stats["accepted"] == 0


@pytest.mark.parametrize(("mode", "expected"), [(0o660, 0o660), (0o600, 0o600), (None, 0o755)])
def test_the_mode_of_the_file(socket_path: str, mode: int | None, expected: int) -> None:
    before = os.umask(0o022)
    try:
        with memif.listen(socket_path, socket_mode=mode):
            assert stat.S_IMODE(os.stat(socket_path).st_mode) == expected
    finally:
        os.umask(before)


def test_authorize_that_raises_refuses() -> None:
    path = unused_name()

    def fail(peer: memif.Peer) -> bool:
        raise ZeroDivisionError

    with memif.Socket(path) as sock:
        iface = sock.interface(role="master", authorize=fail)
        errors = []

        def idle() -> None:
            try:
                sock.poll(0)
            except ZeroDivisionError as error:
                errors.append(error)

        with HostilePeer(path, idle=idle) as peer:
            assert peer.play(peer.script()) == "not authorized"
        assert len(errors) == 1
        assert not iface.up


def test_the_secret_is_never_told(socket_path: str, caplog: pytest.LogCaptureFixture) -> None:
    """Not in a log, at any level, not by repr, not in an error, neither the right one nor a guess."""
    caplog.set_level(logging.DEBUG)
    guess = b"gu3ss"
    shown = [
        repr(InterfaceConfig.make(secret=SECRET)),
        describe(encode(Init(0, secret=SECRET))),
        repr(Init(0, secret=SECRET)),
    ]
    with linked(socket_path, secret=SECRET) as ends:
        for iface in ends:
            shown += [repr(iface), repr(iface.details()), repr(iface.stats), repr(iface.socket), str(iface.peer)]
            assert iface.details().secret == SECRET
    with memif.Socket(socket_path) as sock:
        sock.interface(role="master", secret=SECRET)
        with HostilePeer(socket_path, secret=guess, idle=lambda: sock.poll(0)) as peer:
            assert peer.play(peer.script()) == "incorrect secret"
    for wrong in (b"x" * 24, b"a\0b", 5):
        with pytest.raises(memif.MemifValueError) as error:
            InterfaceConfig.make(secret=wrong)  # type: ignore[arg-type]
        shown.append(str(error.value))
        assert repr(wrong) not in str(error.value)
    everything = "\n".join([*shown, caplog.text])
    for secret in (SECRET, guess):
        assert secret.decode() not in everything
        assert secret.hex() not in everything


def test_secrets_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    real = hmac.compare_digest

    def compare(left: bytes, right: bytes) -> bool:
        compared.append((left, right))
        return real(left, right)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    path = unused_name()
    with memif.Socket(path) as sock:
        sock.interface(role="master", secret=SECRET)
        for guess, reason in ((b"t", "incorrect secret"), (SECRET[:-1], "incorrect secret"), (SECRET, None)):
            with HostilePeer(path, secret=guess, idle=lambda: sock.poll(0)) as peer:
                assert peer.play(peer.script()) == reason
    assert [left for left, _ in compared] == [b"t", SECRET[:-1], SECRET]


def test_hello_tells_the_limits_on_rings() -> None:
    """An honest client that wants more rings than the interfaces here allow is told before it asks."""
    path = unused_name()
    with memif.Socket(path) as sock, memif.Socket(path) as connecting:
        master = sock.interface(role="master", rx_queues=2, tx_queues=1)
        with HostilePeer(path, idle=lambda: sock.poll(0)) as peer:
            peer.connect()
            hello = peer.recv()
            assert isinstance(hello, Hello)
            assert (hello.max_s2m_ring, hello.max_m2s_ring) == (1, 0)
        slave = connecting.interface(rx_queues=1, tx_queues=4)
        pump(sock, connecting, until=lambda: master.up and slave.up)
        assert (len(master.rx), len(master.tx)) == (2, 1)


def test_a_crowd_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """One warning a second is enough for clients that come in vain."""
    caplog.set_level(logging.WARNING)
    path = unused_name()
    with memif.Socket(path) as sock:
        iface = sock.interface(role="master", secret=SECRET)
        other = sock.interface(role="master", id=1)
        for number in range(40):
            with HostilePeer(
                path, id=number % 2, secret=b"x" if number % 2 == 0 else b"", idle=lambda: sock.poll(0)
            ) as peer:
                script = peer.script()
                script["s2m"].fds = []
                assert peer.play(script) in ("incorrect secret", "missing ring interrupt fd")
        assert iface.stats["refused"] == 20
        assert other.stats["refused"] == 20
        assert sock.stats["refused"] == 0
    assert len(caplog.records) < 8


def test_what_a_link_shows_can_not_be_copied(socket_path: str) -> None:
    with linked(socket_path, secret=SECRET) as (master, _):
        for thing in (master, master.socket, master.rx[0]):
            with pytest.raises((TypeError, AttributeError)):
                pickle.dumps(thing)
            with pytest.raises((TypeError, AttributeError)):
                copy.deepcopy(thing)
