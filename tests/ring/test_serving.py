"""RxQueue.serve: what the handler gets, what is sent, when the loop ends, and what a handler or a peer can do wrong."""

import ctypes
import gc
import random
import select
import struct
import threading
import time
from typing import Any

import numpy as np
import pytest

from memif.errors import MemifBufferError, MemifDisconnectedError, MemifStateError, MemifTypeError, MemifValueError
from memif.ring.handlers import address_of
from patience import within
from ring.compiled import handlers
from ring.memory import End, Memory, drain, pair, take
from ring.test_threads import Thread, waits

ROLES = ("slave", "master")
MODES = ("interrupt", "polling", "adaptive")
#: A handler's type, in the words of ctypes.
PROTOTYPE = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.POINTER(ctypes.POINTER(ctypes.c_uint8)),
    ctypes.POINTER(ctypes.c_uint32),
    ctypes.c_uint32,
    ctypes.c_void_p,
)
roles = pytest.mark.parametrize("role", ROLES)


def ends(role: str, pair_of: tuple[Any, End, End]) -> tuple[End, End]:
    """(the end that serves, the other one)."""
    _, slave, master = pair_of
    return (slave, master) if role == "slave" else (master, slave)


def rounds(here: End, name: str, **options: Any) -> int:
    """Serve what is there, and send it back."""
    count = 0
    while done := here.rx.serve(getattr(handlers(), name), here.tx, timeout=0, **options):
        count += done
    return count


@roles
@pytest.mark.parametrize("name", ["echo", "swap_macs", "choose"])
def test_what_comes_back(role: str, name: str) -> None:
    """Packets and chains of all sizes, round and round the ring."""
    dice = random.Random(7)
    with pair(4, 256) as made:
        here, there = ends(role, made)
        total = 0
        for _ in range(400):
            packets = [dice.randbytes(dice.choice((1, 13, 14, 60, 255, 256, 257, 600, 1000))) for _ in range(4)]
            sent = there.tx.send(packets)
            assert rounds(here, name) == sent
            expected = packets[:sent]
            if name == "swap_macs":
                expected = [p[6:12] + p[:6] + p[12:] for p in expected if len(p) >= 14]
            elif name == "choose":
                expected = [p[:-1] for p in expected if not p[0] & 1 and len(p) > 1]
            assert drain(there.rx) == expected
            total += len(expected)
        assert here.tx.stats["packets"] == total
        assert there.tx.stats["packets"] == here.rx.stats["packets"]
        assert here.rx.ring is not None
        assert there.tx.free() == 16


@roles
def test_without_sending(role: str) -> None:
    notes = np.zeros(4, np.uint64)
    with pair(4, 256) as made:
        here, there = ends(role, made)
        packets = [bytes([n]) * (100 * n) for n in range(1, 7)]
        assert there.tx.send(packets) == 6
        assert here.rx.serve(handlers().note, data=notes, timeout=0) == 6
        # 256 bytes fit into a buffer: the first two in one call, each chain in one of its own.
        whole = b"".join(packets)
        assert notes.tolist() == [5, 6, len(whole), sum(whole)]
        assert there.tx.free() == 16


def test_runs_of_many() -> None:
    notes = np.zeros(4, np.uint64)
    with pair(10, 64) as (_, slave, master):
        assert slave.tx.send([b"x" * 60] * 1000) == 1000
        assert master.rx.serve(handlers().note, data=notes, count=1000) == 1000
        assert notes.tolist() == [4, 1000, 60_000, 60_000 * ord("x")]


@roles
def test_full_ring_holds_the_peer_up(role: str) -> None:
    """Nothing is lost: what does not fit stays in the ring that it came in."""
    with pair(4, 256) as made:
        here, there = ends(role, made)
        stop = threading.Event()
        thread = Thread(lambda: here.rx.serve(handlers().echo, here.tx, until=stop.is_set))
        sent = 0
        deadline = time.monotonic() + within(5)
        while sent < 32:
            sent += there.tx.send([struct.pack("<I", sent) * 4])
            assert time.monotonic() < deadline
        time.sleep(0.05)
        assert there.tx.send([b"no room"]) == 0
        got: list[bytes] = []
        while len(got) < 32:
            got += drain(there.rx)
            assert time.monotonic() < deadline
        stop.set()
        assert thread.get() == 32
        assert got == [struct.pack("<I", n) * 4 for n in range(32)]
        assert here.tx.stats["ring_full"] == 0


@roles
def test_end_while_the_ring_is_full(role: str) -> None:
    with pair(4, 256) as made:
        here, there = ends(role, made)
        for _ in range(2):
            assert there.tx.send([b"x" * 60] * 10) == 10
            here.rx.serve(handlers().echo, here.tx, timeout=0)
        stats = here.tx.stats
        assert (stats["packets"], stats["ring_full"]) == (16, 4)
        assert len(drain(there.rx)) == 16
        assert rounds(here, "echo") == 0
        assert there.tx.send([b"y" * 60] * 16) == 16
        assert rounds(here, "echo") == 16


@roles
@pytest.mark.parametrize("length", [61, 65536, 0xFFFFFFFF])
def test_a_length_that_grew(role: str, length: int) -> None:
    with pair(4, 256) as made:
        here, there = ends(role, made)
        packets = [b"a" * 60, b"\xee" * 60, b"b" * 60]
        assert there.tx.send(packets) == 3
        with pytest.raises(MemifValueError, match=rf"lengths\[1\].*got {length}, allowed: 0 to 60"):
            here.rx.serve(handlers().wrong, here.tx, data=np.full(1, length, np.uint32), timeout=0)
        assert drain(there.rx) == [b"a" * 60]
        # All slots are free again, and the queues work.
        assert there.tx.free() == 16
        assert there.tx.send([b"\xee" * 600]) == 1
        with pytest.raises(MemifValueError, match=rf"lengths\[0\].*got {max(length, 601)}, allowed: 0 to 600"):
            here.rx.serve(handlers().wrong, here.tx, data=np.full(1, max(length, 601), np.uint32), timeout=0)
        assert there.tx.send([b"\xee" * 60]) == 1
        assert rounds(here, "echo") == 1
        assert drain(there.rx) == [b"\xee" * 60]


@roles
def test_lengths_that_a_thread_of_the_handler_changes(role: str) -> None:
    """In the middle of sending, too: nothing but bytes of the packets is sent."""
    target = np.array([0, 200, 0], np.uint64)
    with pair(8, 64) as made:
        here, there = ends(role, made)
        stop = threading.Event()
        thread = Thread(lambda: here.rx.serve(handlers().reveal, here.tx, data=target, until=stop.is_set))
        assert there.tx.send([b"x" * 60] * 200) == 200
        while not target[0]:
            time.sleep(0.001)
        scribbler = threading.Thread(target=handlers().scribble, args=(ctypes.c_void_p(target.ctypes.data),))
        scribbler.start()
        seen: set[int] = set()
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            packets = drain(there.rx)
            assert all(packet == b"x" * len(packet) for packet in packets)
            seen.update(map(len, packets))
            there.tx.send([b"x" * 60] * 200)
        target[2] = 1
        scribbler.join()
        stop.set()
        assert thread.get() > 0
        assert {1, 60} <= seen <= set(range(1, 61)) or seen == {60}


@roles
@pytest.mark.parametrize("value", [0xFF, 0x00, 0x7F])
@pytest.mark.parametrize("packets", [[b"a" * 60, b"b" * 200], [b"c" * 700, b"d" * 60]], ids=["single", "chained"])
def test_a_peer_that_changes_descriptors_meanwhile(role: str, value: int, packets: list[bytes]) -> None:
    """The handler itself writes over all descriptors of the receiving ring, as a peer can at any time."""
    received, sent = (1, 0) if role == "slave" else (0, 1)
    with pair(4, 256) as made:
        here, there = ends(role, made)
        memory = made[0]
        start = ctypes.c_char.from_buffer(memory.map, memory.slot_at(received, 0))
        target = np.array([ctypes.addressof(start), 16 * memory.size, value], np.uint64)
        assert there.tx.send(packets) == 2
        assert here.rx.serve(handlers().meddle, here.tx, data=target, count=2) == 2
        assert drain(there.rx) == packets
        heads = [memory.descriptor(sent, slot) for slot in range(memory.size)]
        assert all(length <= 256 and offset + length <= memory.total for _, _, length, offset in heads)
        del start


def test_a_peer_that_breaks_the_ring() -> None:
    for ring, role in ((0, "master"), (1, "slave")):
        with pair(4, 256) as made:
            here, _ = ends(role, made)
            memory = made[0]
            (memory.head if role == "master" else memory.tail)(ring, 40_000)
            with pytest.raises(MemifDisconnectedError):
                here.rx.serve(handlers().echo, here.tx)
            assert "indices" in here.owner.complaints[0]


def test_only_invalid_packets() -> None:
    """A peer that sends them all the time keeps nobody from the end."""
    with pair(4, 256) as (memory, slave, master):
        for slot in range(16):
            memory.describe(0, slot, 0, 7, 60, 0)
        memory.head(0, 16)
        assert master.rx.serve(handlers().echo, master.tx, timeout=0.02) == 0
        assert master.rx.stats["dropped_bad"] == 16
        del slave


@roles
def test_a_packet_that_can_never_fit(role: str) -> None:
    with Memory(4, 1024) as big, pair(2, 64) as (_, slave, master):
        slow = slave if role == "slave" else master
        other = master if role == "slave" else slave
        here = big.slave()
        there = big.master()
        assert there.tx.send([b"x" * 1000, b"y" * 60]) == 2
        assert here.rx.serve(handlers().echo, slow.tx, timeout=0.05) == 2
        assert drain(other.rx) == [b"y" * 60]
        assert slow.tx.stats["dropped_oversize"] == 1


def test_count() -> None:
    with pair() as (_, slave, master):
        assert slave.tx.send([b"x" * 60] * 10) == 10
        assert master.rx.serve(handlers().echo, count=3) == 3
        assert master.rx.serve(handlers().echo, count=5, timeout=1) == 5
        assert len(drain(master.rx)) == 2


def test_the_handler_ends_it() -> None:
    with pair() as (_, slave, master):
        assert slave.tx.send([b"x" * 60, b"\xee" * 60, b"y" * 60]) == 3
        assert master.rx.serve(handlers().until_mark, master.tx) == 3
        assert [p[:1] for p in drain(slave.rx)] == [b"x", b"\xee", b"y"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("events", [True, False])
def test_until(mode: str, events: bool) -> None:
    with pair(events=events) as (_, slave, master):
        master.rx.mode = mode
        stop = threading.Event()
        thread = Thread(lambda: master.rx.serve(handlers().echo, master.tx, until=stop.is_set))
        waits(thread)
        assert slave.tx.send([b"x" * 60]) == 1
        with slave.rx.recv(1, timeout=within(5)) as burst:
            assert burst.tobytes() == [b"x" * 60]
        stop.set()
        before = time.monotonic()
        assert thread.get() == 1
        assert time.monotonic() - before < within(1)


@pytest.mark.parametrize("mode", MODES)
def test_timeout(mode: str) -> None:
    with pair(events=True) as (_, _slave, master):
        master.rx.mode = mode
        for timeout in (0, 0.05):
            before = time.monotonic()
            assert master.rx.serve(handlers().echo, master.tx, timeout=timeout) == 0
            assert timeout <= time.monotonic() - before < within(timeout + 1)


def test_until_raises() -> None:
    def until() -> bool:
        raise RuntimeError("no more")

    with pair() as (_, _slave, master):
        with pytest.raises(RuntimeError, match="no more"):
            master.rx.serve(handlers().echo, master.tx, until=until)
        assert take(master.rx) == []


def test_one_thread_at_a_time() -> None:
    with pair(events=True) as (_, slave, master):
        for mode in MODES:
            master.rx.mode = mode
            stop = threading.Event()
            thread = Thread(lambda stop=stop: master.rx.serve(handlers().echo, until=stop.is_set))
            waits(thread)
            with pytest.raises(MemifStateError, match="in use"):
                master.rx.recv(1, 0)
            with pytest.raises(MemifStateError, match="in use"):
                master.rx.serve(handlers().echo, timeout=0)
            stop.set()
            thread.get()
        with pytest.raises(MemifStateError, match="in use"):
            master.rx.serve(handlers().echo, until=lambda: master.rx.serve(handlers().echo, timeout=0) == 0)
        with slave.tx.alloc(1, 60), pytest.raises(MemifStateError, match="open burst"):
            master.rx.serve(handlers().echo, slave.tx, timeout=0)
        assert take(master.rx) == [bytes(60)]


def test_bursts_of_others() -> None:
    """What another thread has received and not released holds nobody up, and is given back by the loop."""
    with pair(4, 256) as (_, slave, master):
        assert slave.tx.send([b"a" * 60] * 4) == 4
        first, second = master.rx.recv(2, 0), master.rx.recv(2, 0)
        stop = threading.Event()
        thread = Thread(lambda: master.rx.serve(handlers().echo, until=stop.is_set))
        assert slave.tx.send([b"b" * 60] * 4) == 4
        waits(thread)
        assert slave.tx.free() == 8
        second.release()
        first.release()
        assert slave.tx.wait_free(16, within(5))
        stop.set()
        assert thread.get() == 4


@pytest.mark.timeout(30)
def test_all_slots_lent() -> None:
    with pair(4, 256, events=True) as (_, slave, master):
        assert slave.tx.send([b"a" * 60] * 16) == 16
        with master.rx.recv(16, 0), pytest.raises(MemifBufferError, match="not released"):
            master.rx.serve(handlers().echo)


@pytest.mark.parametrize("mode", MODES)
def test_a_descriptor_that_is_watched(mode: str) -> None:
    """It is readable exactly while packets wait, also after the loop."""
    with pair(events=True) as (_, slave, master):
        master.rx.mode = mode
        fd = master.rx.fileno()
        assert slave.tx.send([b"x" * 60] * 6) == 6
        assert master.rx.serve(handlers().echo, count=4) == 4
        assert select.select([fd], [], [], 0)[0]
        assert master.rx.serve(handlers().echo, timeout=0.01) == 2
        assert not select.select([fd], [], [], 0)[0]
        assert slave.tx.send([b"x" * 60]) == 1
        assert select.select([fd], [], [], 0)[0]


def test_only_the_loop_refers_to_them() -> None:
    """Queues, handler, data and `until` live as long as it runs."""
    with Memory(4, 256, events=True) as memory:
        slave = memory.slave()
        stop = threading.Event()

        def run() -> int:
            return memory.master().rx.serve(
                PROTOTYPE(address_of(handlers().note)),
                memory.master().tx,
                data=np.zeros(4, np.uint64),
                until=lambda: stop.wait(0),
            )

        thread = Thread(run)
        for n in range(20):
            gc.collect()
            assert slave.tx.send([b"x" * 60]) == 1
            with slave.rx.recv(1, timeout=within(5)) as burst:
                assert len(burst) == 1, n
        stop.set()
        assert thread.get() == 20


def test_a_handler_of_python() -> None:
    """ctypes makes a C function of one. It is slow, and has the interpreter lock while it runs."""
    errors = []

    @PROTOTYPE
    def handler(packets: Any, lengths: Any, count: int, data: Any) -> int:
        for call in (lambda: master.rx.recv(1, 0), lambda: master.tx.send([b"x"]), lambda: burst.release()):
            try:
                call()
            except MemifStateError as error:
                errors.append(str(error))
        for i in range(count):
            packets[i][0] ^= 0xFF
            lengths[i] = 2
        return 0

    with pair() as (_, slave, master):
        assert slave.tx.send([b"\0\1\2"] * 3) == 3
        burst = master.rx.recv(1, 0)
        assert master.rx.serve(handler, master.tx, timeout=0) == 2
        assert len(errors) == 2
        assert drain(slave.rx) == [b"\xff\1"] * 2
        assert slave.tx.wait_free(16, 1)


WRONG: dict[str, Any] = {
    "a Python function": lambda *_: 0,
    "a number": 4711,
    "an array": np.zeros(4),
    "nothing": None,
}


@pytest.mark.parametrize("kind", WRONG)
def test_no_handler(kind: str) -> None:
    with pair() as (_, _slave, master), pytest.raises(MemifTypeError, match=r"handler: got .*numba\.cfunc"):
        master.rx.serve(WRONG[kind], timeout=0)


def test_a_handler_of_other_types() -> None:
    with pair() as (_, _slave, master):
        for kind in (
            ctypes.CFUNCTYPE(ctypes.c_int),
            ctypes.CFUNCTYPE(None, ctypes.c_int),
            ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p),
        ):
            with pytest.raises(
                MemifTypeError, match=r"handler: got .*allowed: .*LP_LP_c_ubyte, LP_c_uint, c_uint, c_void_p"
            ):
                master.rx.serve(kind(address_of(handlers().echo)), timeout=0)


def test_other_arguments() -> None:
    with pair() as (_, _slave, master):
        echo = handlers().echo
        for options, error, text in (
            ({"tx": 5}, MemifTypeError, "tx: got 5"),
            ({"tx": master.rx}, MemifTypeError, "tx: got <RxQueue"),
            ({"data": b"read-only"}, MemifValueError, "data: got 'bytes"),
            ({"data": 5}, MemifTypeError, "data: got 5"),
            ({"count": 0}, MemifValueError, "count: got 0"),
            ({"count": "x"}, MemifTypeError, "count: got 'x'"),
            ({"timeout": -1}, MemifValueError, "timeout: got -1"),
            ({"until": threading.Event()}, MemifTypeError, "until: got .*is_set"),
        ):
            with pytest.raises(error, match=text):
                master.rx.serve(echo, **{"timeout": 0, **options})
