"""A forked child and memory that an allocator mapped: nothing that the child calls reaches the parent's rings."""

import contextlib
import gc
import mmap
import os
import select
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import memif
from children import in_child
from memif.ring import Region, RxRing, TxRing
from memif.testing import pair as linked


class Shared:
    """An allocator that maps its memory itself; the child keeps that mapping, and it is shared."""

    def allocate(self, size: int) -> int:
        fd = os.memfd_create("shared", os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, size)
        return fd

    def map(self, fd: int, size: int) -> object:
        self.memory = mmap.mmap(fd, size)
        return self.memory

    def free(self, fd: int, buffer: object) -> None:
        os.close(fd)


CALLS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "mode": lambda s, b, a: setattr(s.rx[0], "mode", "polling"),
    "adaptive": lambda s, b, a: setattr(s.rx[0], "mode", "adaptive"),
    "recv": lambda s, b, a: s.rx[0].recv(timeout=0),
    "wait": lambda s, b, a: s.rx[0].wait(0),
    "iterate": lambda s, b, a: next(iter(s.rx[0])),
    "send": lambda s, b, a: s.tx[0].send([b"child"]),
    "send_array": lambda s, b, a: s.tx[0].send_array(np.zeros((2, 60), np.uint8)),
    "alloc": lambda s, b, a: s.tx[0].alloc(1, size=4),
    "free": lambda s, b, a: s.tx[0].free(),
    "forward": lambda s, b, a: s.tx[0].forward(b),
    "scatter": lambda s, b, a: b.scatter(np.zeros((len(b), 4), np.uint8)),
    "prepend": lambda s, b, a: b.prepend(0),
    "release": lambda s, b, a: (b.release(), a.release()),
    "send allocated": lambda s, b, a: a.send(),
    "detach": lambda s, b, a: (s.rx[0].detach(), s.tx[0].detach(), s.rx[0].detach(True)),
    "attach again": lambda s, b, a: s.rx[0].attach(s.rx[0].ring),
    "attach again tx": lambda s, b, a: s.tx[0].attach(s.tx[0].ring),
    "initialise": lambda s, b, a: (s.rx[0].ring.initialise(), s.tx[0].ring.initialise()),
    "start": lambda s, b, a: s.rx[0].ring.start(),
    "kill": lambda s, b, a: (s.rx[0].ring.kill(), s.tx[0].ring.kill()),
    "close": lambda s, b, a: s.close(),
    "disconnect": lambda s, b, a: s.disconnect("child"),
    "forget": lambda s, b, a: gc.collect(),
}


@contextlib.contextmanager
def link() -> Iterator[tuple[Shared, Any, Any]]:
    own = Shared()
    with linked(slave={"allocator": own}, ring_size=16) as (master, slave):
        yield own, master, slave


@pytest.mark.parametrize("what", CALLS)
def test_the_child_reaches_no_ring(what: str) -> None:
    with link() as (own, master, slave):
        master.tx[0].send([b"one", b"two"])
        burst = [slave.rx[0].recv(1, timeout=1.0)]
        open_one = [slave.tx[0].alloc(2, size=10)]
        master.tx[0].send([b"three"])
        ready = bool(select.select([slave.rx[0]], [], [], 0)[0])
        before = bytes(own.memory)

        def child() -> int:
            if what == "forget":
                burst.clear()
                open_one.clear()
                gc.collect()
                return 0
            try:
                CALLS[what](slave, burst[0], open_one[0])
            except (memif.MemifError, RuntimeError, StopIteration):
                pass
            return 0

        assert in_child(child) == 0
        assert bytes(own.memory) == before
        assert bool(select.select([slave.rx[0]], [], [], 0)[0]) is ready
        burst[0].release()
        open_one[0].release()
        assert slave.rx[0].recv(timeout=1.0).tobytes() == [b"two", b"three"]
        assert slave.tx[0].send([b"parent"]) == 1
        assert master.rx[0].recv(timeout=1.0).tobytes() == [b"parent"]


def test_the_mode_is_refused_in_a_child() -> None:
    with link() as (_, _master, slave):

        def child() -> int:
            try:
                slave.rx[0].mode = "polling"
            except memif.MemifStateError as error:
                return 0 if "parent process" in str(error) else 2
            return 1

        assert in_child(child) == 0
        assert slave.rx[0].mode == "interrupt"


def test_a_child_of_a_callback_in_the_middle_of_a_call() -> None:
    """Code of the user runs in the middle of recv and forks there: the call ends in the child."""
    with link() as (own, master, slave):
        box: list[int] = []
        before = b""

        def fork_once() -> None:
            nonlocal before
            if not box:
                before = bytes(own.memory)
                box.append(os.fork())

        class Owner:
            serve = staticmethod(fork_once)

            def down(self) -> Exception:
                return memif.MemifDisconnectedError("down")

            def broken(self, ring: object, text: str) -> None:
                os._exit(9)

        queue = memif.RxQueue(Owner(), 0, -1)
        queue.attach(slave.rx[0].ring)
        status = 0
        try:
            queue.recv(timeout=0.3)
        except memif.MemifStateError:
            status = 3
        finally:
            if box and box[0] == 0:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(box[0], 0)[1]) == 3
        del master


def test_a_large_sparse_region_is_cut_off_in_the_child() -> None:
    """More than the machine has: the pages that replace it must not be reserved."""
    size = 60 << 30
    fd = os.memfd_create("large")
    try:
        os.ftruncate(fd, size)
        try:
            region = Region(fd, size)
        except OSError as error:
            pytest.skip(f"no address space for {size} bytes: {error}")
        with memoryview(region) as view:
            view[-4:] = b"mine"

            def child() -> int:
                if bytes(view[-4:]) != bytes(4):
                    return 1
                view[-4:] = b"kid."
                return 0

            assert in_child(child) == 0
            assert bytes(view[-4:]) == b"mine"
    finally:
        os.close(fd)


@pytest.mark.parametrize("kind", [RxRing, TxRing])
@pytest.mark.parametrize("offset", [16, 4096 - 128, (1 << 64) - 16, (1 << 63), 8])
def test_a_header_is_checked_before_it_is_computed(kind: type, offset: int) -> None:
    fd = os.memfd_create("small")
    try:
        os.ftruncate(fd, 4096)
        region = Region(fd, 4096)
        if offset == 16:
            kind((region,), 0, offset, 2, slave=False)
            return
        with pytest.raises(ValueError, match="offset"):
            kind((region,), 0, offset, 14 if offset == 4096 - 128 else 2, slave=False)
    finally:
        os.close(fd)
