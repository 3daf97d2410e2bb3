"""RxQueue.serve on real links: both roles, two processes, what ends a link meanwhile, and two links at once."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import memif
from ends import Child, linked, pump, receive
from patience import within
from ring.compiled import handlers
from ring.test_threads import Thread, waits

MODES = ("interrupt", "polling", "adaptive")
ROLES = ("master", "slave")
modes = pytest.mark.parametrize("mode", MODES)
roles = pytest.mark.parametrize("role", ROLES)


@contextlib.contextmanager
def link(path: str, role: str, mode: str = "interrupt", **options: Any) -> Iterator[tuple[memif.Interface, ...]]:
    """(the end in that role, the other one)."""
    with linked(path, **options) as (master, slave):
        here, there = (master, slave) if role == "master" else (slave, master)
        here.rx[0].mode = mode
        yield here, there


@contextlib.contextmanager
def serving(here: memif.Interface, name: str = "swap_macs", **options: Any) -> Iterator[Thread]:
    """Serve in a thread, which ends with the block."""
    stop = threading.Event()
    options.setdefault("tx", here.tx[0])
    thread = Thread(lambda: here.rx[0].serve(getattr(handlers(), name), until=stop.is_set, **options))
    try:
        yield thread
    finally:
        stop.set()
        thread.join(within(10))
        assert not thread.is_alive()


@modes
@roles
def test_round_trips(socket_path: str, role: str, mode: str) -> None:
    with link(socket_path, role, mode) as (here, there), serving(here):
        for n in range(200):
            packet = bytes(range(12)) + bytes([n]) * (2 + 17 * n)
            assert there.tx[0].send([packet]) == 1
            assert receive(there.rx[0], 1) == [packet[6:12] + packet[:6] + packet[12:]]


@modes
@roles
def test_all_come_back(socket_path: str, role: str, mode: str) -> None:
    """More than both rings hold, from a peer that sends as fast as it can."""
    with link(socket_path, role, mode, ring_size=64) as (here, there), serving(here, "echo"):
        sent, got, deadline = 0, [], time.monotonic() + within(20)
        while len(got) < 5000 and time.monotonic() < deadline:
            sent += there.tx[0].send([n.to_bytes(4, "little") * 15 for n in range(sent, min(sent + 32, 5000))])
            got += there.rx[0].recv_list(64, 0)
        assert got == [n.to_bytes(4, "little") * 15 for n in range(5000)]


@modes
@roles
def test_closed_by_another_thread(socket_path: str, role: str, mode: str) -> None:
    with link(socket_path, role, mode) as (here, there), serving(here, "echo") as thread:
        assert there.tx[0].send([b"x" * 60]) == 1
        assert receive(there.rx[0], 1) == [b"x" * 60]
        before = time.monotonic()
        here.close()
        with pytest.raises((memif.MemifDisconnectedError, memif.MemifClosedError)):
            thread.get()
        assert time.monotonic() - before < within(1)


@modes
@roles
def test_the_peer_leaves(socket_path: str, role: str, mode: str) -> None:
    """What it had sent is handled before the loop ends, whoever notices first that it has left."""
    with link(socket_path, role, mode) as (here, there):
        for polled in (False, True):
            pump(here, there, until=lambda: here.up and there.up)
            notes = np.zeros(4, np.uint64)
            with serving(here, "note", tx=None, data=notes) as thread:
                waits(thread)
                sent = there.tx[0].send([b"x" * 60] * 500)
                there.disconnect()
                if polled:
                    here.socket.poll(0)
                with pytest.raises(memif.MemifDisconnectedError):
                    thread.get()
            assert notes[1] == sent == 500


def noise(path: str, role: str) -> Iterator[str]:
    """Send and receive without end."""
    with memif.Socket(path) as sock:
        iface = sock.interface(role=role, reconnect=0.02)
        iface.wait_up(10.0)
        yield "up"
        while True:
            iface.tx[0].send([b"x" * 600] * 64)
            iface.rx[0].recv(64, timeout=0).release()


@modes
@roles
def test_the_peer_is_killed(socket_path: str, role: str, mode: str) -> None:
    other = "slave" if role == "master" else "master"
    with memif.Socket(socket_path) as sock:
        here = sock.interface(role=role, reconnect=0.02, rx_mode=mode)
        for _ in range(3):
            with Child(noise, socket_path, other) as child:
                pump(here, until=lambda: here.up)
                assert child.tells() == "up"
                with serving(here, "swap_macs") as thread:
                    waits(thread)
                    child.signal(signal.SIGKILL)
                    with pytest.raises(memif.MemifDisconnectedError):
                        thread.get()


def test_from_one_link_to_another(socket_path: str) -> None:
    """A bridge: the link of the transmit queue ends, too, and is served meanwhile."""
    with linked(socket_path, id=1) as (left, west), linked(socket_path + "2", id=2) as (right, east):
        with serving(left, "echo", tx=right.tx[0]) as thread:
            assert west.tx[0].send([b"x" * 60, b"y" * 5000]) == 2
            assert receive(east.rx[0], 2) == [b"x" * 60, b"y" * 5000]
            east.disconnect()
            with pytest.raises(memif.MemifDisconnectedError):
                thread.get()
        assert left.up


@roles
def test_down_before(socket_path: str, role: str) -> None:
    with memif.Socket(socket_path) as sock:
        here = sock.interface(role=role)
        with pytest.raises(memif.MemifDisconnectedError):
            here.rx[0].serve(handlers().echo, here.tx[0])


def test_a_fork_in_the_middle(socket_path: str) -> None:
    """The child cannot go on with its parent's link."""
    with link(socket_path, "master") as (here, there):
        pids: list[int] = []

        def until() -> bool:
            pids.append(os.fork())
            return pids[-1] != 0

        try:
            here.rx[0].serve(handlers().echo, here.tx[0], until=until)
        except memif.MemifStateError:
            os._exit(7)
        finally:
            if pids[-1] == 0:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pids[0], 0)[1]) == 7
        assert there.tx[0].send([b"x" * 60]) == 1
        assert here.rx[0].serve(handlers().echo, here.tx[0], count=1, timeout=within(5)) == 1
        assert receive(there.rx[0], 1) == [b"x" * 60]
