"""Peers that are slow, or stop altogether for a while."""

import signal
import time
from collections.abc import Iterator

import pytest

import memif
from ends import Child, pump, receive
from memif.protocol.wire import Ack, Connect, Connected, Hello
from memif.testing import HostilePeer, unused_name
from patience import within


def echo(path: str, role: str) -> Iterator[str]:
    """Send back what comes, for ever."""
    with memif.Socket(path) as sock:
        iface = sock.interface(role=role)
        iface.wait_up(10.0)
        yield "up"
        while True:
            with iface.rx[0].recv(64, timeout=1.0) as burst:
                iface.tx[0].forward(burst)


@pytest.mark.parametrize("role", ["slave", "master"])
def test_a_peer_that_stops_and_goes_on(socket_path: str, role: str) -> None:
    """While it is stopped: the ring fills up, nothing blocks beyond its timeout. Afterwards every packet is there."""
    with memif.Socket(socket_path) as sock, Child(echo, socket_path, role) as child:
        iface = sock.interface(role="master" if role == "slave" else "slave", ring_size=256, reconnect=0.02)
        pump(iface, until=lambda: iface.up, timeout=10.0)
        assert child.tells() == "up"
        packets = [number.to_bytes(4, "big") * 16 for number in range(128)]
        child.signal(signal.SIGSTOP)
        sent = iface.tx[0].send(packets)
        start = time.monotonic()
        assert not iface.tx[0].wait_free(iface.tx[0].ring.size, timeout=0.2)
        assert len(iface.rx[0].recv(timeout=0.2)) == 0
        assert 0.4 <= time.monotonic() - start < within(1.0)
        assert iface.up
        child.signal(signal.SIGCONT)
        assert receive(iface.rx[0], sent) == packets[:sent]


def test_a_slow_handshake_comes_up() -> None:
    """Half a second for each answer, within the time allowed."""
    path = unused_name()
    with (
        memif.Socket(path, handshake_timeout=3.0) as sock,
        HostilePeer(path, "master", idle=lambda: sock.poll(0)) as slow,
    ):
        iface = sock.interface()
        slow.accept()
        slow.send(Hello("slow"))
        message = None
        while not isinstance(message, Connect):
            message = slow.recv()
            end = time.monotonic() + 0.2
            while time.monotonic() < end:
                sock.poll(0.01)
            slow.send(Connected() if isinstance(message, Connect) else Ack())
        pump(sock, until=lambda: iface.up)


def test_a_trickle_does_not_extend_the_deadline() -> None:
    """The time allowed is for the whole handshake: one message now and then does not hold the place for ever."""
    path = unused_name()
    with memif.Socket(path, handshake_timeout=0.5) as sock:
        iface = sock.interface(role="master")
        with HostilePeer(path, idle=lambda: sock.poll(0)) as peer:
            start = time.monotonic()
            script = peer.script()
            peer.recv()
            reason = None
            for step in script.values():
                end = time.monotonic() + 0.2
                while time.monotonic() < end:
                    sock.poll(0.01)
                reason = peer.say({"": step})
                if reason is not None:
                    break
            assert reason == "handshake timed out"
            assert time.monotonic() - start < within(1.5)
            assert not iface.up
