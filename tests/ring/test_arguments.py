"""Bad arguments: the error names the argument, what it got and what is allowed; nothing was sent, nothing is stuck."""

import os
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from memif.errors import MemifStateError, MemifValueError
from memif.ring import Queue, Region, Ring, RxQueue, RxRing, TxQueue, TxRing
from ring.memory import End, Memory, Owner, drain, pair

Call = Callable[[End], Any]
M = np.zeros((4, 8), np.uint8)

REFUSED: dict[str, tuple[Call, str]] = {
    "count 0": (lambda e: e.rx.recv(0), "count: got 0, allowed: 1 to 16384"),
    "count -1": (lambda e: e.rx.recv(-1), "count: got -1, allowed: 1 to 16384"),
    "count large": (lambda e: e.rx.recv(16385), "count: got 16385, allowed: 1 to 16384"),
    "count huge": (lambda e: e.rx.recv(2**70), "count: got 1180591620717411303424, allowed: 1 to 16384"),
    "timeout": (lambda e: e.rx.recv(1, timeout=-0.5), "timeout: got -0.5, allowed: None or a number"),
    "timeout nan": (lambda e: e.rx.wait(float("nan")), "timeout: got nan"),
    "mode": (lambda e: setattr(e.rx, "mode", "fast"), "mode: got 'fast', allowed: one of interrupt, polling"),
    "empty packet": (lambda e: e.tx.send([b"x", b""]), r"packets\[1\]: got '0 bytes', allowed: 1 to 1024 bytes"),
    "large packet": (lambda e: e.tx.send([b"x", bytes(1025)]), r"packets\[1\]: got '1025 bytes', allowed: 1 to 1024"),
    "huge packet": (lambda e: e.tx.send([bytearray(65537)]), r"packets\[0\]: got '65537 bytes'"),
    "vector": (lambda e: e.tx.send_array(M[0]), r"matrix: got 'shape \(8,\).*allowed: a uint8 matrix"),
    "scalar": (lambda e: e.tx.send_array(np.uint8(1)), r"matrix: got 'shape \(\)"),
    "words": (lambda e: e.tx.send_array(M.view(np.uint16)), "matrix: got .*items of 2 bytes"),
    "columns": (lambda e: e.tx.send_array(M.T), "matrix"),
    "no columns": (lambda e: e.tx.send_array(M[:, :0]), r"matrix: got 'shape \(4, 0\)"),
    "wide": (lambda e: e.tx.send_array(np.zeros((1, 65537), np.uint8)), "matrix.*65537.*rows of 1 to 65536"),
    "row": (lambda e: e.tx.send_array(np.zeros((2, 1025), np.uint8)), r"matrix\[0\]: got '1025 bytes'"),
    "length 0": (
        lambda e: e.tx.send_array(M, np.array([1, 0, 1, 1], np.uint32)),
        r"lengths\[1\]: got 0, allowed: 1 to 8",
    ),
    "length 9": (lambda e: e.tx.send_array(M, [8, 8, 9, 8]), r"lengths\[2\]: got 9, allowed: 1 to 8"),
    "length -1": (lambda e: e.tx.send_array(M, [8, 8, -1, 8]), "lengths: got '-1 to 8', allowed: 1 to 65536"),
    "lengths few": (lambda e: e.tx.send_array(M, [8, 8]), r"lengths: got .*shape \(2,\).*shape \(4,\)"),
    "lengths kind": (lambda e: e.tx.send_array(M, [1.5] * 4), "lengths: got 'dtype float64"),
    "alloc 0": (lambda e: e.tx.alloc(0), "count: got 0, allowed: 1 to 16384"),
    "alloc many": (lambda e: e.tx.alloc(16385), "count: got 16385"),
    "size 0": (lambda e: e.tx.alloc(1, 0), "size: got 0, allowed: 1 to 65536"),
    "size large": (lambda e: e.tx.alloc(1, 1025), "size: got 1025, allowed: 1 to 1024 bytes"),
    "size huge": (lambda e: e.tx.alloc(1, 65537), "size: got 65537"),
    "wait_free 0": (lambda e: e.tx.wait_free(0), "count: got 0, allowed: 1 to 16"),
    "wait_free 17": (lambda e: e.tx.wait_free(17), "count: got 17, allowed: 1 to 16"),
}

WRONG_TYPE: dict[str, Call] = {
    "one packet": lambda e: e.tx.send(b"packet"),
    "text": lambda e: e.tx.send(["text"]),
    "numbers": lambda e: e.tx.send([b"x", 1]),
    "none": lambda e: e.tx.send(None),  # type: ignore[arg-type]
    "count": lambda e: e.rx.recv(1.5),  # type: ignore[arg-type]
    "timeout": lambda e: e.rx.recv(1, timeout="1"),  # type: ignore[arg-type]
    "matrix": lambda e: e.tx.send_array([[1, 2]]),  # type: ignore[arg-type]
    "forward": lambda e: e.tx.forward([b"x"]),  # type: ignore[arg-type]
    "forward None": lambda e: e.tx.forward(None),  # type: ignore[arg-type]
    "attach": lambda e: e.rx.attach(e.tx_ring),  # type: ignore[arg-type]
    "attach tx": lambda e: e.tx.attach(e.rx_ring),  # type: ignore[arg-type]
    "attach None": lambda e: e.tx.attach(None),  # type: ignore[arg-type]
}


def works(slave: End, master: End) -> None:
    """Nothing of what was refused went out, and all of the ring is still there."""
    assert drain(slave.rx) == drain(master.rx) == []
    for tx, rx in ((slave.tx, master.rx), (master.tx, slave.rx)):
        assert tx.free() == 16
        assert tx.send([b"\x01" * 1024] * 2) == 1
        assert drain(rx) == [b"\x01" * 1024]


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("what", REFUSED)
def test_refused(what: str, side: int) -> None:
    call, message = REFUSED[what]
    with pair(4, 64) as (_, *ends):
        with pytest.raises(MemifValueError, match=message):
            call(ends[side])
        works(*ends)


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("what", WRONG_TYPE)
def test_wrong_type(what: str, side: int) -> None:
    with pair(4, 64) as (_, *ends):
        with pytest.raises(TypeError):
            WRONG_TYPE[what](ends[side])
        works(*ends)


def test_forward_arguments() -> None:
    with pair(4, 64) as (_, slave, master):
        slave.tx.send([b"a", b"b", b"c"])
        with master.rx.recv(timeout=0) as burst:
            for select in ([True] * 2, [True] * 4):
                with pytest.raises(
                    MemifValueError, match=r"select: got .*, allowed: shape \(3,\), contiguous booleans"
                ):
                    master.tx.forward(burst, select=np.array(select))
            with pytest.raises(MemifValueError, match=r"select: got 'shape \(3,\), items of 8 bytes"):
                master.tx.forward(burst, select=np.array([1, 0, 1]))  # type: ignore[arg-type]
            assert master.tx.forward(burst, start=2, stop=1) == 0
            assert master.tx.forward(burst, start=-1, stop=99) == 1
        with slave.tx.alloc(1, 1) as reserved, pytest.raises(MemifStateError, match="its own send"):
            slave.tx.forward(reserved)
        received = slave.rx.recv(timeout=0)
        with pytest.raises(MemifStateError, match="only an allocated burst"):
            received.send()
        received.release()
        with pytest.raises(MemifStateError, match="released"):
            slave.tx.forward(received)


def test_burst_arguments() -> None:
    with pair(4, 64, headroom=8) as (_, slave, master):
        master.tx.send([b"abc"])
        with slave.rx.recv(timeout=0) as burst:
            for width in (0, -1, 65537, 2**80):
                with pytest.raises(MemifValueError, match=r"width: got .*, allowed: 1 to 65536"):
                    burst.gather(width)
            for count in (-1, 9, 65537):
                with pytest.raises(MemifValueError, match=f"count: got {count}"):
                    burst.prepend(count)
            for i in (1, -2, 2**70):
                with pytest.raises(IndexError):
                    burst[i]
            with pytest.raises(TypeError):
                burst["0"]  # type: ignore[call-overload]
            with pytest.raises(MemifValueError, match="array"):
                burst.scatter(np.zeros((0, 4), np.uint8))
            assert burst.tobytes() == [b"abc"]
        reserved = slave.tx.alloc(2)
        for sent in (-1, 3, 2**70):
            with pytest.raises(MemifValueError, match=r"count: got .*, allowed: 0 to"):
                reserved.send(sent)
        assert reserved.send(0) == 0


def test_a_refusal_restores_the_slaves_capacities() -> None:
    """A master that takes packets back leaves the descriptors as the slave had published them."""
    with pair(3, 100) as (memory, slave, master):
        before = [memory.descriptor(1, i) for i in range(8)]
        for call in (
            lambda: master.tx.send([b"x"] * 3 + [b"y" * 250, b""]),
            lambda: master.tx.send_array(np.zeros((3, 801), np.uint8)),
        ):
            with pytest.raises(MemifValueError):
                call()
            assert [memory.descriptor(1, i) for i in range(8)] == before
        master.tx.alloc(3).release()
        with master.tx.alloc(8, size=250) as burst:
            assert len(burst) == 2
            assert burst.send(1) == 1
        assert [memory.descriptor(1, i) for i in range(3, 8)] == before[3:]
        assert len(drain(slave.rx)[0]) == 250


class Evil:
    """An exporter that does something else first."""

    def __init__(self, act: Callable[[], Any]) -> None:
        self.act = act

    def __index__(self) -> int:
        self.act()
        return 1

    def __len__(self) -> int:
        return 1


def test_indices_with_a_mind_of_their_own() -> None:
    """An argument whose conversion releases the burst, or shortens the list, is noticed."""
    with pair(4, 64) as (_, slave, master):
        for use in (
            lambda b: b[Evil(b.release)],
            lambda b: b[: Evil(b.release)],
            lambda b: b.gather(Evil(b.release)),
            lambda b: b.fragments(Evil(b.release)),
            lambda b: b.prepend(Evil(b.release)),
            lambda b: master.tx.forward(b, stop=Evil(b.release)),
        ):
            slave.tx.send([b"abc", b"d"])
            with pytest.raises(MemifStateError, match="released"):
                use(master.rx.recv(timeout=0))
        burst = slave.tx.alloc(3)
        with pytest.raises(MemifStateError, match="released"):
            burst.send(Evil(burst.release))  # type: ignore[arg-type]
        assert slave.tx.free() == 16


def test_rings_check_their_place() -> None:
    with Memory(4, 64) as memory:
        region = Region(memory.fd, memory.total)
        good: dict[str, Any] = {"slave": False}
        for regions, index, offset, log2, more, message in (
            ((region,), 1, 0, 4, good, "region: got 1"),
            ((), 0, 0, 4, good, "region: got 0"),
            ((region,), 0, 0, 15, good, "log2_size: got 15"),
            ((region,), 0, 8, 4, good, "offset: got 8"),
            ((region,), 0, memory.total - 368, 4, good, "offset"),
            ((region,), 0, 2**64 - 16, 4, good, "offset"),
            ((region,), 0, 0, 4, {**good, "cache_line": 32}, "cache_line: got 32"),
            ((region,), 0, 0, 4, {"slave": True}, "buffers: got None"),
            ((region,), 0, 0, 4, {"slave": True, "buffers": (1, 64, range(16))}, "buffers: got region 1"),
            ((region,), 0, 0, 4, {"slave": True, "buffers": (0, 0, range(16))}, "buffers: got 0 bytes"),
            ((region,), 0, 0, 4, {"slave": True, "buffers": (0, 65537, range(16))}, "buffers: got 65537"),
            ((region,), 0, 0, 4, {"slave": True, "buffers": (0, 64, range(15))}, "buffers: got 15 offsets"),
            ((region,), 0, 0, 4, {"slave": True, "buffers": (0, 64, [memory.total - 63] * 16)}, "buffers: got offset"),
            ((Region(memory.fd, 4096, False),), 0, 0, 4, good, "regions"),
        ):
            for kind in (RxRing, TxRing):
                with pytest.raises(ValueError, match=message):
                    kind(regions, index, offset, log2, **more)
        assert TxRing((region,), 0, memory.total - 384, 4, slave=False).size == 16
        slave = {"slave": True, "buffers": (0, 64, [1024] * 16)}
        with pytest.raises(ValueError, match="headroom: got 64, allowed: less than the buffer size 64"):
            RxRing((region,), 0, 0, 4, headroom=64, **slave)


def test_an_event_fd_is_taken_over_only_by_a_ring_that_was_made() -> None:
    with Memory(2, 64) as memory:
        region = Region(memory.fd, memory.total)
        fd = os.eventfd(0)
        with pytest.raises(ValueError, match="headroom"):
            RxRing((region,), 0, 0, 2, slave=True, buffers=(0, 8, [384] * 4), headroom=8, event_fd=fd)
        os.fstat(fd)
        ring = RxRing((region,), 0, 0, 2, slave=True, buffers=(0, 8, [384] * 4), event_fd=fd)
        del ring
        with pytest.raises(OSError):
            os.fstat(fd)


def test_half_made_objects_are_harmless() -> None:
    """What __new__ alone made, and a second __init__."""
    for kind in (Ring, RxRing, TxRing):
        hollow = kind.__new__(kind)
        for name in ("head", "tail", "flags", "cookie", "buffer_size"):
            with pytest.raises(RuntimeError, match="never set up"):
                getattr(hollow, name)
        assert not hollow.alive
        hollow.kill()
        with pytest.raises(RuntimeError, match="never set up"):
            hollow.initialise()
    queue = RxQueue(Owner(), 3, -1)
    with pytest.raises(RuntimeError, match="never set up"):
        queue.attach(RxRing.__new__(RxRing))
    with pytest.raises(BufferError, match="never set up"):
        memoryview(Region.__new__(Region))
    with pair() as (_, slave, _master), pytest.raises(RuntimeError, match="only once"):
        slave.tx_ring.__init__((), 0, 0, 0, slave=False)  # type: ignore[misc]
    with pytest.raises(TypeError):
        pickle.dumps(queue)
    assert repr(queue) == "<RxQueue 3, down>"
    assert isinstance(TxQueue(Owner(), 0, -1), Queue)
