"""A fork while connected: the child can neither use nor damage what belongs to its parent."""

import functools
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import pytest

import memif
from children import in_child
from ends import linked, receive

PACKET = b"parent's" * 8


def said(run: Callable[[], object]) -> str:
    try:
        return f"returned {run()!r}"
    except memif.MemifError as error:
        return type(error).__name__


def still_works(master: memif.Interface, slave: memif.Interface) -> None:
    """Packets both ways, untouched."""
    for sender, receiver in ((master, slave), (slave, master)):
        assert sender.tx[0].send([PACKET]) == 1
        assert receive(receiver.rx[0], 1) == [PACKET]
    assert master.up
    assert slave.up


OPERATIONS: dict[str, Callable[[memif.Interface], object]] = {
    "recv": lambda iface: iface.rx[0].recv(timeout=0),
    "wait": lambda iface: iface.rx[0].wait(0),
    "send": lambda iface: iface.tx[0].send([b"child" * 12]),
    "send_array": lambda iface: iface.tx[0].send_array(__import__("numpy").zeros((4, 60), "u1")),
    "alloc": lambda iface: iface.tx[0].alloc(4),
    "free": lambda iface: iface.tx[0].free(),
    "poll": lambda iface: iface.socket.poll(0),
    "wait_up": lambda iface: iface.wait_up(0.1) if not iface.up else iface.socket.poll(0),
    "disconnect": lambda iface: iface.disconnect("from the child"),
    "interface": lambda iface: iface.socket.interface(id=9),
}


@pytest.mark.parametrize("role", ["slave", "master"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_the_child_is_refused(socket_path: str, name: str, role: str) -> None:
    with linked(socket_path) as ends:
        iface = ends[role == "slave"]

        def child() -> int:
            return 0 if said(lambda: OPERATIONS[name](iface)) == "MemifStateError" else 1

        assert in_child(child) == 0
        still_works(*ends)


@pytest.mark.parametrize("role", ["slave", "master"])
def test_the_child_may_close(socket_path: str, role: str) -> None:
    """close() in the child gives its copies up and tells the peer nothing."""
    with linked(socket_path) as ends:
        iface = ends[role == "slave"]

        def child() -> int:
            iface.close()
            iface.socket.close()
            return 0 if iface.closed else 1

        assert in_child(child) == 0
        assert os.path.exists(socket_path)
        still_works(*ends)


def test_views_show_the_child_zeros_and_reach_nobody(socket_path: str) -> None:
    with linked(socket_path) as (master, slave):
        slave.tx[0].send([PACKET])
        burst = master.rx[0].recv(timeout=2.0)
        view = burst[0]
        assert in_child(functools.partial(spoil, burst, view, burst.memory[0])) == 0
        assert bytes(view) == PACKET
        burst.release()
        still_works(master, slave)


def spoil(burst: memif.Burst, view: memoryview, memory: Any) -> int:
    """In the child: read zeros, write ones over everything. 0 when all was as it should be."""
    clean = bytes(view) == bytes(len(PACKET)) and not memory.any()
    view[:] = b"\xff" * len(view)
    memory[:] = 0xFF
    return 0 if clean and said(burst.tobytes) == said(lambda: burst[0]) == "MemifStateError" else 1


def test_bursts_may_be_dropped_in_the_child(socket_path: str) -> None:
    with linked(socket_path) as (master, slave):
        slave.tx[0].send([PACKET] * 3)
        bursts = [master.rx[0].recv(timeout=2.0)]
        bursts.append(slave.tx[0].alloc(5))

        def child() -> int:
            bursts[0].release()
            bursts.clear()
            return 0

        assert in_child(child) == 0
        bursts[1].release()
        assert bursts[0].tobytes() == [PACKET] * 3
        bursts.clear()
        still_works(master, slave)


def test_the_child_opens_its_own(socket_path: str) -> None:
    """After fork the package works as in a new process."""
    with linked(socket_path) as ends:

        def child() -> int:
            with linked(socket_path + "2") as (master, slave):
                slave.tx[0].send([b"mine" * 16])
                return 0 if receive(master.rx[0], 1) == [b"mine" * 16] else 1

        assert in_child(child) == 0
        still_works(*ends)


FORKING = """
    import os, sys, memif
    from memif.testing import pair
    with pair() as (master, slave):
        burst = None
        slave.tx[0].send([b"a" * 60])
        burst = master.rx[0].recv(timeout=2.0)
        pid = os.fork()
        if pid == 0:
            if sys.argv[1] == "exit":
                sys.exit(0)          # unwinds the with blocks and ends the interpreter
            raise RuntimeError("the child fails")
        status = os.waitpid(pid, 0)[1]
        burst.release()
        for number in range(3):
            slave.tx[0].send([b"b" * 60])
            with master.rx[0].recv(timeout=2.0) as burst:
                assert burst.tobytes() == [b"b" * 60]
        assert master.up and slave.up
        assert os.WIFEXITED(status), status
    print("good")
"""


@pytest.mark.parametrize("how", ["exit", "raise"])
def test_a_child_that_ends_normally(how: str) -> None:
    """Its interpreter runs the with blocks' ends and all finalizers; the parent's link does not notice."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FORKING), how], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("good\n")
    assert ("RuntimeError" in done.stderr) == (how == "raise")
    assert "Exception ignored" not in done.stderr
