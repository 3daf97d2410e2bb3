"""kill -9 of the other end, at each step of the handshake and under load."""

import os
import random
import signal
import time
from collections.abc import Iterator

import pytest

import memif
from ends import Child, all_up, pump, receive
from memif.control import connection, transport

#: Messages that each side sends until the link is up.
STEPS = {
    "slave": ("INIT", "ADD_REGION", "ADD_RING", "ADD_RING", "CONNECT"),
    "master": ("HELLO", "ACK", "ACK", "ACK", "ACK", "CONNECTED"),
}
POINTS = [
    pytest.param(role, number, after, id=f"{role}-{'after' if after else 'before'}-{number}-{name}")
    for role, names in STEPS.items()
    for number, name in enumerate(names)
    for after in (False, True)
]


def die_at(path: str, role: str, number: int, after: bool) -> None:
    """Be one end of a link, and be killed just before or after sending message `number`."""
    send = transport.send_message
    count = 0

    def deadly(*args: object) -> None:
        nonlocal count
        if count == number and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        send(*args)  # type: ignore[arg-type]
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1

    connection.transport.send_message = deadly  # type: ignore[assignment]
    with memif.Socket(path) as sock:
        sock.interface(role=role, ring_size=64)
        while True:
            sock.poll(1.0)


@pytest.mark.parametrize(("role", "number", "after"), POINTS)
def test_killed_in_the_handshake(socket_path: str, role: str, number: int, after: bool) -> None:
    ours = "master" if role == "slave" else "slave"
    with memif.Socket(socket_path) as sock:
        iface = sock.interface(role=ours, ring_size=64, reconnect=0.02)
        with Child(die_at, socket_path, role, number, after) as child:
            pid, status = 0, 0

            def dead() -> bool:
                nonlocal pid, status
                pid, status = os.waitpid(child.pid, os.WNOHANG)
                return pid != 0

            pump(iface, until=dead, timeout=10.0)
            child.status = status
            assert os.WTERMSIG(status) == signal.SIGKILL
            pump(iface, until=lambda: not iface.up and not any(c.mapped for c in sock._engine.connections))
            # The next peer is served.
            with memif.Socket(socket_path) as second:
                good = second.interface(role=role, ring_size=64, reconnect=0.02)
                all_up(iface, good)
                assert good.tx[0].send([b"hello" * 12]) == 1
                assert receive(iface.rx[0], 1) == [b"hello" * 12]


def traffic(path: str, role: str) -> Iterator[str]:
    """Send and receive without end."""
    with memif.Socket(path) as sock:
        iface = sock.interface(role=role, reconnect=0.02)
        iface.wait_up(10.0)
        yield "up"
        packets = [bytes([n]) * 100 for n in range(64)]
        while True:
            iface.tx[0].send(packets)
            iface.rx[0].recv(64, timeout=0).release()


def use_up(iface: memif.Interface) -> None:
    """Receive and send until that fails."""
    while True:
        iface.rx[0].recv(64, timeout=0.5).release()
        iface.tx[0].send([b"x" * 100] * 64)


@pytest.mark.parametrize("role", ["slave", "master"])
def test_killed_under_load(socket_path: str, role: str) -> None:
    dice = random.Random(role)
    with memif.Socket(socket_path) as sock:
        iface = sock.interface(role="master" if role == "slave" else "slave", reconnect=0.02)
        for round_number in range(1, 6):
            with Child(traffic, socket_path, role) as child:
                pump(iface, until=lambda: iface.up, timeout=10.0)
                assert child.tells() == "up"
                end = time.monotonic() + dice.uniform(0.02, 0.2)
                while time.monotonic() < end:
                    iface.rx[0].recv(64, timeout=0.01).release()
                    iface.tx[0].send([b"x" * 100] * 64)
                child.kill9()
            with pytest.raises(memif.MemifDisconnectedError):
                use_up(iface)
            assert iface.stats["disconnects"] == round_number
        assert iface.stats["rx"][0]["packets"] > 0


def test_views_outlive_a_killed_peer(socket_path: str) -> None:
    """What was received stays readable: the memory goes with the last view, not with the peer."""
    with memif.Socket(socket_path) as sock:
        iface = sock.interface(role="master")
        with Child(traffic, socket_path, "slave") as child:
            pump(iface, until=lambda: iface.up, timeout=10.0)
            burst = iface.rx[0].recv(64, timeout=5.0)
            view, copies = burst[0], burst.tobytes()
            child.kill9()
        pump(iface, until=lambda: not iface.up)
        assert bytes(view) == copies[0]
        assert burst.tobytes() == copies
        burst.release()
        assert bytes(view) == copies[0]
        del view, burst
