"""send_all, forward_all, drain and close(drain=...), and what a master can send when its link has just come up."""

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

import memif
import memif.testing
from ends import Child, receive
from memif.interface import endpoint_of

ROLES = pytest.mark.parametrize("sender", ["master", "slave"])


@pytest.fixture(params=["master", "slave"])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[memif.Interface, memif.Interface]]:
    """A sender and its receiver, over rings of 16 slots."""
    with memif.testing.pair(ring_size=16, buffer_size=64) as (master, slave):
        yield (master, slave) if request.param == "master" else (slave, master)


def numbered(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


class Receiver(threading.Thread):
    """Receives so many packets."""

    def __init__(self, queue: memif.RxQueue, count: int) -> None:
        super().__init__()
        self._queue, self._count = queue, count
        self.packets: list[bytes] = []
        self.start()

    def run(self) -> None:
        self.packets = receive(self._queue, self._count)


def test_send_all(ends: tuple[memif.Interface, memif.Interface]) -> None:
    """More than the ring holds, of all kinds; none is counted as refused, but for chains."""
    here, there = ends
    matrix = np.arange(600 * 8, dtype=np.uint8).reshape(600, 8)
    lengths = np.tile(np.array([8, 3], np.uint32), 300)
    chains = [bytes([n % 256]) * (64 * (n % 17) or 1) for n in range(40)]
    for packets, wanted in (
        (numbered(1000), numbered(1000)),
        (iter(numbered(300)), numbered(300)),
        ((matrix,), [bytes(row) for row in matrix]),
        ((matrix, lengths), [bytes(row[:n]) for row, n in zip(matrix, lengths, strict=True)]),
        (chains, chains),
    ):
        assert here.tx[0].stats["ring_full"] == 0
        receiver = Receiver(there.rx[0], len(wanted))
        arguments = packets if isinstance(packets, tuple) else (packets,)
        assert here.tx[0].send_all(*arguments, timeout=10) == len(wanted)
        receiver.join()
        assert receiver.packets == wanted


def test_a_timeout_tells_how_many_were_sent(ends: tuple[memif.Interface, memif.Interface]) -> None:
    here, there = ends
    assert here.tx[0].send_all(numbered(20), timeout=0.02) == 16
    assert here.tx[0].send_all(numbered(20), timeout=0) == 0
    assert not here.tx[0].drain(0.02)
    assert not here.drain(0.02)
    assert receive(there.rx[0], 16) == numbered(16)
    there.rx[0].recv(timeout=0).release()
    assert here.tx[0].drain(1)
    assert here.drain(1)


def test_forward_all(ends: tuple[memif.Interface, memif.Interface]) -> None:
    """Into a ring that is full at first."""
    here, there = ends
    assert here.tx[0].send(numbered(16)) == 16
    with there.rx[0].recv(timeout=1) as burst:
        assert there.tx[0].send([b"in the way"] * 10) == 10
        assert there.tx[0].forward_all(burst, start=1, timeout=0.02) == 6
        receiver = Receiver(here.rx[0], 10 + 6 + 9)
        assert there.tx[0].forward_all(burst, start=7, timeout=10) == 9
        receiver.join()
    assert receiver.packets == [b"in the way"] * 10 + numbered(16)[1:]


def test_what_is_wrong_is_said(ends: tuple[memif.Interface, memif.Interface]) -> None:
    here, _ = ends
    with pytest.raises(memif.MemifValueError, match=r"packets\[0\]: got '1025 bytes', allowed: 1 to 1024"):
        here.tx[0].send_all([bytes(1025)], timeout=1)
    with pytest.raises(memif.MemifValueError, match="lengths"):
        here.tx[0].send_all([b"x"], [1])
    with pytest.raises(memif.MemifValueError, match="timeout"):
        here.tx[0].send_all([b"x"], timeout=-1)
    with pytest.raises(memif.MemifValueError, match="drain"):
        here.close(drain=-1)
    assert not here.closed
    timer = threading.Timer(0.05, here.disconnect)
    timer.start()
    with pytest.raises(memif.MemifDisconnectedError):
        here.tx[0].send_all(numbered(20))
    timer.join()
    with pytest.raises(memif.MemifDisconnectedError):
        here.tx[0].drain()


def test_drain_when_nothing_was_sent(ends: tuple[memif.Interface, memif.Interface]) -> None:
    assert all(end.drain(0) for end in ends)


def test_close_waits_for_the_peer(ends: tuple[memif.Interface, memif.Interface]) -> None:
    here, there = ends
    assert here.tx[0].send(numbered(5)) == 5
    receiver = threading.Timer(0.05, lambda: there.rx[0].recv(timeout=0).release())
    receiver.start()
    here.close(drain=10)
    receiver.join()
    assert here.closed
    assert there.rx[0].stats["packets"] == 5
    here.close(drain=10)


def test_close_waits_no_longer_than_told(ends: tuple[memif.Interface, memif.Interface]) -> None:
    here, _ = ends
    assert here.tx[0].send(numbered(5)) == 5
    start = time.monotonic()
    here.close(drain=0.1)
    assert here.closed
    assert time.monotonic() - start >= 0.1


# -- a link that has just come up


def sending_at_once(path: str, role: str) -> int:
    """In the child: send as soon as the link is up, and leave."""
    iface = memif.listen(path) if role == "master" else memif.connect(path)
    iface.wait_up(10)
    sent = iface.tx[0].send(numbered(100))
    iface.close()
    return sent


@pytest.mark.parametrize("role", ["master", "slave"])
def test_the_first_packets_of_a_link_are_accepted_and_arrive(socket_path: str, role: str) -> None:
    """And all of them are received after a close right behind the send."""
    for _ in range(5):
        with Child(sending_at_once, socket_path, role) as child:
            if role == "slave":
                iface = memif.listen(socket_path)
                iface.wait_up(10)
            else:
                iface = memif.connect(socket_path, timeout=10)
            with iface:
                assert receive(iface.rx[0], 100) == numbered(100)
                assert child.joined() == 100
                assert iface.rx[0].stats["dropped_left"] == 0


def test_a_slave_that_offers_nothing_holds_nobody_up(socket_path: str) -> None:
    """Not before its buffers have come, at most a third of a second; and that only once."""
    with memif.Socket(socket_path) as listening:
        master = listening.interface(role="master")
        with memif.testing.HostilePeer(socket_path, idle=lambda: listening.poll(0)) as peer:
            assert peer.play(peer.script()) is None
            start = time.monotonic()
            master.wait_up(5)
            assert time.monotonic() - start > 0.1
            assert not endpoint_of(master).filling(time.monotonic())
            assert master.tx[0].send([b"x"]) == 0
            ring = peer.rings["m2s", 0]
            ring.head = 1
            assert master.tx[0].send([b"x"]) == 1
