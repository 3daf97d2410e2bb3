"""One of two processes dies or starts anew: the other notices, says so, and carries on with the next."""

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

import memif
import memif.testing
from ends import Child, pump, receive
from pair.numbered import numbered, receive_numbered, send_numbered
from patience import within

ROLES = pytest.mark.parametrize("role", ["master", "slave"])


def opened(path: str, role: str, **options: Any) -> memif.Interface:
    if role == "master":
        return memif.listen(path, **options)
    return memif.Socket(path).interface(**options)


def flooding(path: str, role: str) -> Iterator[str]:
    """In the child: send for ever, as fast as possible."""
    iface = opened(path, role)
    iface.wait_up(10.0)
    rows = numbered(0, 256)
    yield "up"
    while True:
        iface.tx[0].send_array(rows)


def listening(path: str, role: str) -> Iterator[str]:
    """In the child: sleep in recv for ever."""
    iface = opened(path, role)
    iface.wait_up(10.0)
    yield "up"
    with iface.rx[0].recv():
        pass


def counted(path: str, role: str, count: int) -> Iterator[int]:
    """In the child: one orderly exchange."""
    iface = opened(path, role)
    iface.wait_up(10.0)
    receive_numbered(iface.rx[0], count)
    send_numbered(iface.tx[0], count)
    yield count
    pump(iface, until=lambda: not iface.up, timeout=20.0)
    iface.socket.close()


def opposite(role: str) -> str:
    return "slave" if role == "master" else "master"


def exchanged(iface: memif.Interface, path: str, role: str, count: int = 2000) -> None:
    """A new child can do what the one before it did."""
    with Child(counted, path, opposite(role), count) as child:
        iface.wait_up(10.0)
        send_numbered(iface.tx[0], count)
        receive_numbered(iface.rx[0], count)
        assert child.tells() == count
        iface.disconnect("done")
        child.joined()


@ROLES
@pytest.mark.parametrize("busy", [True, False])
def test_kill9(socket_path: str, role: str, busy: bool) -> None:
    """Several times over; in the middle of a burst, and asleep. The leak check knows whether anything is left."""
    with opened(socket_path, role, reconnect=0.05) as iface:
        for _ in range(3):
            with Child(flooding if busy else listening, socket_path, opposite(role)) as child:
                iface.wait_up(10.0)
                assert child.tells() == "up"
                if busy:
                    assert receive(iface.rx[0], 3000)
                child.kill9()
                start = time.monotonic()
                with pytest.raises(memif.MemifDisconnectedError):
                    receive(iface.rx[0], 1 << 40, timeout=5.0)
                assert time.monotonic() - start < within(2.0)
                assert not iface.up
                assert iface.disconnect_reason == "peer hung up without a reason"
        exchanged(iface, socket_path, role)
        assert iface.stats["connects"] == 4
        iface.socket.close()


@ROLES
def test_bursts_outlive_a_killed_peer(socket_path: str, role: str) -> None:
    """The memory was the slave's, and stays ours for as long as we look."""
    with opened(socket_path, role, reconnect=30) as iface:
        with Child(flooding, socket_path, opposite(role)) as child:
            iface.wait_up(10.0)
            assert iface.rx[0].wait(5.0)
            burst = iface.rx[0].recv(64, timeout=5.0)
            child.kill9()
            pump(iface, until=lambda: not iface.up)
        assert len(burst) > 0
        assert bytes(burst[0]) == numbered(0, 1).tobytes()
        assert burst.gather(64).shape == (len(burst), 64)
        burst.release()
        iface.socket.close()


@ROLES
def test_orderly_restarts(socket_path: str, role: str) -> None:
    with opened(socket_path, role, reconnect=0.05) as iface:
        for _ in range(3):
            exchanged(iface, socket_path, role)
        assert (iface.stats["connects"], iface.stats["rx"][0]["packets"]) == (3, 6000)
        iface.socket.close()


@ROLES
def test_terminated_by_a_signal(socket_path: str, role: str) -> None:
    """SIGTERM leaves Python no time for farewells, either."""
    with opened(socket_path, role, reconnect=30) as iface:
        with Child(listening, socket_path, opposite(role)) as child:
            iface.wait_up(10.0)
            assert child.tells() == "up"
            child.signal(signal.SIGTERM)
            pump(iface, until=lambda: not iface.up)
        iface.socket.close()


def ended_by_the_interpreter(path: str) -> None:
    """In the child: leave without closing anything; what Python does at its end has to do."""
    iface = memif.connect(path)
    iface.tx[0].send([b"last words"])


def test_packets_in_flight_when_the_peer_leaves(socket_path: str) -> None:
    """They can be received whether the link is still up or not."""
    with memif.listen(socket_path) as master:
        with Child(ended_by_the_interpreter, socket_path) as child:
            master.wait_up(10.0)
            assert receive(master.rx[0], 1) == [b"last words"]
            child.joined()
            pump(master, until=lambda: not master.up)
        with Child(ended_by_the_interpreter, socket_path) as child:
            pump(master, until=lambda: master.stats["disconnects"] == 2)
            child.joined()
            with master.rx[0].recv(timeout=0) as burst:
                assert burst.tobytes() == [b"last words"]


def dying(path: str) -> Iterator[str]:
    """In the child: send something, and live on until killed."""
    with memif.connect(path) as iface:
        iface.tx[0].send([b"last words"])
        yield "sent"
        time.sleep(60)


def test_what_a_killed_peer_had_sent_is_received(socket_path: str) -> None:
    with memif.listen(socket_path) as master, Child(dying, socket_path) as child:
        master.wait_up(10.0)
        assert child.tells() == "sent"
        child.kill9()
        pump(master, until=lambda: not master.up)
        with master.rx[0].recv(timeout=0) as burst:
            assert burst.tobytes() == [b"last words"]
        with pytest.raises(memif.MemifDisconnectedError):
            master.rx[0].recv(timeout=0)


@ROLES
def test_paused_peer(socket_path: str, role: str) -> None:
    """A stopped process is a slow one: the ring fills up, time-outs hold, and everything arrives afterwards."""
    with opened(socket_path, role) as iface, Child(counted, socket_path, opposite(role), 3000) as child:
        iface.wait_up(10.0)
        assert iface.tx[0].wait_free(1024, timeout=5.0)
        child.signal(signal.SIGSTOP)
        os.waitpid(child.pid, os.WUNTRACED)
        rows = numbered(0, 1500)
        assert iface.tx[0].send_array(rows) == 1024
        assert iface.tx[0].send_array(rows[1024:]) == 0
        start = time.monotonic()
        assert not iface.tx[0].wait_free(1, timeout=0.1)
        with iface.rx[0].recv(timeout=0.1) as nothing:
            assert not nothing
        assert 0.2 <= time.monotonic() - start < within(1.0)
        child.signal(signal.SIGCONT)
        send_numbered(iface.tx[0], 3000 - 1024, first=1024)
        receive_numbered(iface.rx[0], 3000)
        assert child.tells() == 3000
        iface.close()
        child.joined()
        iface.socket.close()


@pytest.mark.parametrize("word", ["disconnect", "close"])
@pytest.mark.parametrize("receiver", ["master", "slave"])
def test_what_was_sent_before_the_end_is_received_after_it(receiver: str, word: str) -> None:
    """The control channel tells of the end before the packets of all queues have been received."""
    with memif.testing.pair(rx_queues=3, tx_queues=3, slave={"reconnect": 30}) as ends:
        here, there = ends if receiver == "master" else ends[::-1]
        for number, queue in enumerate(there.tx):
            assert queue.send([bytes([number + 1])] * 5 * (number + 1)) == 5 * (number + 1)
        if word == "disconnect":
            there.disconnect("enough")
        else:
            there.socket.close()
        pump(here, until=lambda: not here.up)
        for number, queue in enumerate(here.rx):
            assert queue.wait(0)
            with queue.recv(3, timeout=5) as first, queue.recv() as rest:
                assert first.tobytes() + rest.tobytes() == [bytes([number + 1])] * 5 * (number + 1)
            for call in (queue.recv, queue.wait):
                with pytest.raises(memif.MemifDisconnectedError):
                    call(timeout=5)
            assert queue.stats["dropped_left"] == 0
        assert list(here.rx[0]) == []


def test_what_nobody_received_is_counted_at_the_next_link() -> None:
    with memif.testing.pair(slave={"reconnect": 0.05}) as (master, slave):
        for count in (4, 2):
            assert slave.tx[0].send([b"old"] * count) == count
            slave.disconnect()
            pump(master, until=lambda: not master.up)
            pump(master, slave, until=lambda: master.up and slave.up)
        assert slave.tx[0].send([b"new"]) == 1
        with master.rx[0].recv(timeout=5) as burst:
            assert burst.tobytes() == [b"new"]
        assert master.rx[0].stats["dropped_left"] == 6


def test_an_end_of_our_own_ends_receiving_at_once() -> None:
    with memif.testing.pair(slave={"reconnect": 30}) as (master, slave):
        slave.tx[0].send([b"x"])
        master.disconnect()
        with pytest.raises(memif.MemifDisconnectedError):
            master.rx[0].recv(timeout=0)
    with memif.testing.pair(slave={"reconnect": 30}) as (master, slave):
        slave.tx[0].send([b"x"])
        slave.disconnect()
        pump(master, until=lambda: not master.up)
        master.close()
        with pytest.raises(memif.MemifClosedError):
            master.rx[0].recv(timeout=0)
        assert master.rx[0].stats["dropped_left"] == 1
