"""A view keeps its burst, and nothing that runs in the middle of a call takes the ground away from under it."""

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from memif.errors import MemifError, MemifStateError, MemifValueError
from memif.ring import Burst, RxQueue, TxQueue
from ring.memory import End, drain, pair

KEEPS: dict[str, Callable[[Burst], Any]] = {
    "index": lambda b: b[0],
    "slice": lambda b: b[:],
    "list": list,
    "fragments": lambda b: [b.fragments(i) for i in range(len(b))],
    "array": lambda b: np.frombuffer(b[0], np.uint8)[1:],
    "cast": lambda b: b[0].cast("B").toreadonly(),
    "memory": lambda b: b.memory,
    "part of memory": lambda b: b.memory[b.regions[0]][int(b.offsets[0]) :][:4],
    "base of memory": lambda b: b.memory[0].base,
    "exporter": lambda b: b[0].obj,
    "iterator": iter,
}


def fill(end: End, text: bytes) -> None:
    assert end.tx.send([text] * 4) == 4


@pytest.mark.parametrize("how", KEEPS)
@pytest.mark.parametrize("side", ["slave", "master"])
def test_a_view_keeps_a_burst_that_nobody_releases(how: str, side: str) -> None:
    with pair(2, 64) as (_, slave, master):
        end, other = (slave, master) if side == "slave" else (master, slave)
        for _ in range(3):
            fill(other, b"first")
            kept = KEEPS[how](end.rx.recv(timeout=0))
            gc.collect()
            assert other.tx.send([b"later"]) == 0  # all slots are lent out
            assert not end.rx.recv(timeout=0)
            del kept
            gc.collect()


def test_the_last_view_gives_the_slots_back() -> None:
    with pair(2, 64) as (_, slave, master):
        fill(slave, b"first")
        views = list(master.rx.recv(timeout=0))
        while views:
            assert slave.tx.send([b"later"]) == 0
            assert bytes(views.pop()) == b"first"
        assert slave.tx.send([b"later"]) == 1
        assert drain(master.rx) == [b"later"]


def test_kept_packets_show_what_they_showed() -> None:
    with pair(6, 64) as (_, slave, master):
        packets: list[memoryview] = []
        for k in range(20):
            slave.tx.send([(k * 16 + j).to_bytes(4, "big") for j in range(16)])
            packets += list(master.rx.recv(16, timeout=0))
        assert len(packets) == 64
        assert [int.from_bytes(p, "big") for p in packets] == list(range(64))


@pytest.mark.parametrize("how", KEEPS)
def test_a_release_gives_the_slots_back_whatever_is_kept(how: str) -> None:
    with pair(2, 64) as (_, slave, master):
        for _ in range(3):
            fill(slave, b"first")
            burst = master.rx.recv(timeout=0)
            kept = KEEPS[how](burst)
            burst.release()
            fill(slave, b"later")
            with master.rx.recv(timeout=0) as burst:
                assert burst.tobytes() == [b"later"] * 4
                again = KEEPS[how](burst)
            fill(slave, b"later")
            del kept, again, burst
            gc.collect()
            assert len(drain(master.rx)) == 4


@pytest.mark.parametrize("side", ["slave", "master"])
def test_a_view_keeps_an_allocated_burst(side: str) -> None:
    with pair(2, 64) as (_, slave, master):
        end, other = (slave, master) if side == "slave" else (master, slave)
        view = end.tx.alloc(2, size=10)[1]
        gc.collect()
        with pytest.raises(MemifStateError, match="open burst"):
            end.tx.send([b"x"])
        view[:] = b"0123456789"
        del view
        fill(end, b"after")
        assert drain(other.rx) == [b"after"] * 4


def test_views_of_a_burst_outlive_the_link() -> None:
    with pair(2, 64) as (_, slave, master):
        fill(slave, b"first")
        view = master.rx.recv(timeout=0)[0]
        master.owner.disconnect()
        slave.owner.disconnect()
        assert bytes(view) == b"first"
        del view
        gc.collect()


def test_a_burst_in_a_cycle_with_its_views() -> None:
    with pair(2, 64) as (_, slave, master):
        for _ in range(20):
            fill(slave, b"first")
            burst = master.rx.recv(timeout=0)
            cycle: list[Any] = [burst, burst[0], iter(burst), burst.lengths, burst.memory]
            cycle.append(cycle)
            del burst, cycle
            gc.collect()
        fill(slave, b"later")


# -- one base, one owner

COLUMNS = ["lengths", "offsets", "pieces", "regions", "flags"]


@pytest.mark.parametrize("column", COLUMNS)
def test_an_array_leads_to_its_own_column_only(column: str) -> None:
    """Through `base` nobody gets at the offsets and rooms that the loops follow."""
    with pair(2, 64) as (_, slave, master):
        slave.tx.send([b"abc", b"de"])
        with master.rx.recv(timeout=0) as burst:
            array = getattr(burst, column)
            base: Any = array
            while base is not None:
                if not isinstance(base, np.ndarray):
                    view = memoryview(base)
                    assert view.nbytes == array.nbytes
                    assert view.readonly is (column != "lengths")
                else:
                    assert base.nbytes == array.nbytes
                    assert base.flags.writeable is (column == "lengths")
                base = base.obj if isinstance(base, memoryview) else getattr(base, "base", None)


# -- what runs in the middle of a call


class Bomb:
    """Garbage whose finalizer releases bursts and takes the memory that they leave."""

    def __init__(self, bursts: list[Burst], junk: list[Any]) -> None:
        self.bursts, self.junk, self.me = bursts, junk, self

    def __del__(self) -> None:
        for burst in self.bursts:
            try:
                burst.release()
            except MemifStateError:  # a call is under way
                pass
        self.junk += [bytearray(b"A" * n) for _ in range(20) for n in range(96, 192, 8)]


CALLS: dict[str, Callable[[Burst, End], Any]] = {
    **{name: lambda b, _end, name=name: getattr(b, name).sum() for name in COLUMNS},  # type: ignore[misc]
    "index": lambda b, _end: bytes(b[1]),
    "slice": lambda b, _end: [bytes(view) for view in b[:]],
    "iter": lambda b, _end: [bytes(view) for view in b],
    "fragments": lambda b, _end: b.fragments(0),
    "chain": lambda b, _end: b.fragments(len(b) - 1),
    "memory": lambda b, _end: len(b.memory),
    "tobytes": lambda b, _end: b.tobytes(),
    "gather": lambda b, _end: b.gather(64).sum(),
    "gather out": lambda b, _end: b.gather(4, np.zeros((len(b), 4), np.uint8)),
    "scatter": lambda b, _end: b.scatter(np.zeros((len(b), 4), np.uint8)),
    "forward": lambda b, end: end.tx.forward(b, select=np.ones(len(b), bool)),
    "wrong": lambda b, _end: b.lengths.__setitem__(0, 0) or b.tobytes(),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_finalizer_releases_the_burst_in_the_middle(call: str) -> None:
    """The collector runs at each allocation in turn: the call ends well, or says that the burst is released."""
    junk: list[Any] = []
    with pair(5, 64) as (_, slave, master):
        before = gc.get_threshold()
        gc.disable()
        try:
            for delay in range(25):
                slave.tx.send([b"x" * 40] * 5 + [b"y" * 100])
                bursts = [master.rx.recv(2, timeout=0) for _ in range(3)]
                Bomb(bursts, junk)
                gc.set_threshold(delay + 1, 1, 1)
                gc.enable()
                try:
                    CALLS[call](bursts[2], master)
                except MemifError:
                    pass
                gc.disable()
                gc.collect()
                for burst in bursts:
                    burst.release()
                junk.clear()
                drain(slave.rx)
        finally:
            gc.set_threshold(*before)
            gc.enable()
        assert slave.tx.free() == 32


# -- what was not written is not sent

WRITES: dict[str, Callable[[Burst], Any]] = {
    "nothing": lambda b: None,
    "views": lambda b: [view.__setitem__(slice(0, 5), b"hello") for view in b],
    "fragments": lambda b: [b.fragments(i)[0].__setitem__(slice(0, 5), b"hello") for i in range(len(b))],
    "scatter": lambda b: b.scatter(np.frombuffer(b"hello" * len(b), np.uint8).reshape(len(b), 5)),
    "memory": lambda b: [
        b.memory[r].__setitem__(slice(int(o), int(o) + 5), np.frombuffer(b"hello", np.uint8))
        for r, o in zip(b.regions, b.offsets, strict=True)
    ],
    "gather first": lambda b: (b.gather(5), WRITES["views"](b)),
}


@pytest.mark.parametrize("side", ["slave", "master"])
@pytest.mark.parametrize("length", [5, 20, 64])
@pytest.mark.parametrize("size", [5, 20, None])
@pytest.mark.parametrize("write", WRITES)
def test_no_byte_of_an_earlier_packet_is_sent(write: str, size: int | None, length: int, side: str) -> None:
    """The length may be set before the bytes are written, or after, to less or more than was asked for."""
    hello = bytes(5) if write == "nothing" else b"hello"
    for early in (False, True):
        with pair(2, 64) as (_, slave, master):
            end, other = (slave, master) if side == "slave" else (master, slave)
            fill(end, b"SECRET" * 10)
            drain(other.rx)
            with end.tx.alloc(2, size=size) as burst:
                if early or write == "gather first" or (write == "scatter" and size is None):
                    burst.lengths[:] = length
                WRITES[write](burst)
                burst.lengths[:] = length
            assert drain(other.rx) == [(hello + bytes(59))[:length]] * 2


def test_no_byte_of_an_earlier_packet_in_a_chain() -> None:
    with pair(3, 64) as (_, slave, master):
        slave.tx.send([b"SECRET" * 10] * 8)
        drain(master.rx)
        with slave.tx.alloc(2, size=150) as burst:
            burst.fragments(0)[1][:4] = b"some"
            burst.scatter(np.full((2, 3), 65, np.uint8))
        assert drain(master.rx) == [b"AAA" + bytes(61) + b"some" + bytes(82), b"AAA" + bytes(147)]


def test_what_an_allocated_burst_shows_before_it_is_written() -> None:
    with pair(2, 64) as (_, slave, master):
        fill(slave, b"SECRET")
        drain(master.rx)
        with slave.tx.alloc(2, size=6) as burst:
            assert burst.tobytes() == [bytes(6)] * 2
            assert not burst.gather(6).any()
            assert [bytes(view) for view in burst] == [bytes(6)] * 2
            burst.release()


def test_without_a_size_the_length_has_to_be_set() -> None:
    with pair(2, 64) as (_, slave, master):
        burst = slave.tx.alloc(2)
        assert burst.lengths.tolist() == [0, 0]
        assert [len(view) for view in burst] == [64, 64]
        burst[0][:2] = b"ok"
        burst.lengths[0] = 2
        with pytest.raises(MemifValueError, match=r"lengths\[1\]: got 0, allowed: 1 to 64 \(alloc\(\) was given no"):
            burst.__exit__(None, None, None)
        assert drain(master.rx) == []
        burst = slave.tx.alloc(2)
        burst.lengths[0] = 2
        burst[0][:] = b"ok"
        assert burst.send(1) == 1
        assert drain(master.rx) == [b"ok"]
        assert slave.tx.free() == 4


@pytest.mark.parametrize("log2", [0, 3, 10])
def test_the_size_of_a_queue_is_that_of_the_present_ring(log2: int) -> None:
    with pair(log2) as (_, slave, master):
        queues: tuple[RxQueue | TxQueue, ...] = (slave.tx, slave.rx, master.tx, master.rx)
        assert [q.size for q in queues] == [1 << log2] * 4
        for q in queues:
            q.detach()
        assert [q.size for q in queues] == [0] * 4
    assert RxQueue(None).size == TxQueue(None).size == 0
