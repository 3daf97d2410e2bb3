"""Peers that write anything into the shared memory: what is sound gets through, all else is counted and harmless."""

import contextlib
import fcntl
import os
import random
import struct
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st

from memif.errors import MemifDisconnectedError, MemifError
from patience import within
from ring.memory import NEXT, End, Memory, drain, pair, take
from ring.test_threads import Thread, waits

S2M, M2S = 0, 1
U16, U32 = 0xFFFF, 0xFFFFFFFF
#: flags, region, length, offset
Descriptor = tuple[int, int, int, int]

EDGES = st.sampled_from([0, 1, 63, 64, 65, 128, 65535, 65536, 65537, 0x7FFFFFFF, 0x80000000, U32 - 1, U32])
WORDS = EDGES | st.integers(0, 4096) | st.integers(0, U32)
SANE = st.tuples(st.sampled_from([0, NEXT]), st.just(0), st.integers(1, 64), st.integers(0, 900))
ANY = st.tuples(st.integers(0, U16), st.sampled_from([0, 1, 2, U16]) | st.integers(0, U16), WORDS, WORDS)


def beside_the_rings(found: Descriptor) -> Descriptor:
    """The peer may well point at the ring itself; what is there then cannot be foretold."""
    return (*found[:3], found[3] + 512 * (found[3] < 512))


ONE = (SANE | ANY).map(beside_the_rings)
DESCRIPTORS = st.lists(ONE, min_size=1, max_size=8)


def expected(memory: Memory, ring: int, found: list[Descriptor]) -> tuple[list[bytes], int, int, int]:
    """-> (packets, bad descriptors, packets dropped for these, packets dropped as too large) of `found`."""
    packets: list[bytes] = []
    bad = dropped = oversize = at = 0
    while at < len(found):
        wrong, data, length, start = 0, b"", 0, at
        while at < len(found):
            flags, region, size, offset = found[at]
            if ring == M2S:  # the slave knows where its buffers are
                region, offset, room = 0, memory.buffer_at(ring, at) + memory.headroom, memory.room - memory.headroom
            else:
                room = 65536
            if region == 0 and 0 < size <= room and offset + size <= memory.total:
                data += memory.map[offset : offset + size]
            else:
                wrong += 1
            length += size
            at += 1
            if not flags & NEXT:
                break
        else:
            if at - start < memory.size:
                break  # its end may come yet
            wrong += 1
        bad += wrong
        if wrong:
            dropped += 1
        elif length > 65536:
            oversize += 1
        else:
            packets.append(data)
    return packets, bad, dropped, oversize


@pytest.mark.parametrize("ring", [S2M, M2S])
@settings(max_examples=200, deadline=None)
@given(found=DESCRIPTORS, limit=st.integers(1, 9))
@example(found=[(NEXT, 0, 1, 512)] * 8, limit=9)
@example(found=[(NEXT, 0, 1, 512)] * 7, limit=9)
@example(found=[(NEXT, 0, 60_000, 512), (NEXT, 0, 5536, 512), (0, 0, 1, 512)], limit=1)
@example(found=[(0, 0, 1, 512), (0, 0, 0, 512), (U16, U16, U32, U32), (0, 0, 1, U32)], limit=3)
def test_any_descriptor(ring: int, found: list[Descriptor], limit: int) -> None:
    """Exactly the sound packets come out, in order; every other one is counted and its slots flow back."""
    with pair(3, 8192 if ring == S2M else 64, headroom=0 if ring == S2M else 16) as (memory, slave, master):
        end = master if ring == S2M else slave
        for at in range(0, memory.total - memory.buffers, 997):
            memory.map[memory.buffers + at] = at & 0xFF
        for at, descriptor in enumerate(found):
            memory.describe(ring, at, *descriptor)
        packets, bad, dropped, oversize = expected(memory, ring, found)
        (memory.head if ring == S2M else memory.tail)(ring, len(found))
        got = []
        for _ in range(len(found) + 1):  # rubbish alone ends a call empty-handed
            got += take(end.rx, limit)
        assert got == packets
        stats = end.rx.stats
        assert stats["bad_descriptors"] == bad
        assert stats["dropped_bad"] == dropped
        assert stats["dropped_oversize"] == oversize
        assert stats["packets"] == len(packets)
        left = len(found) - (end.rx_ring.tail if ring == S2M else end.rx_ring.head - 8)
        assert left == 0 or found[-1][0] & NEXT
        assert not end.owner.complaints


@pytest.mark.parametrize("ring", [S2M, M2S])
def test_a_chain_whose_end_comes_late(ring: int) -> None:
    """The pieces that are there wait for the last one, also in calls that never block and ask for one packet."""
    with pair(3, 64) as (memory, slave, master):
        end = master if ring == S2M else slave
        show = memory.head if ring == S2M else memory.tail
        for i in range(4):
            memory.describe(ring, i, NEXT if i < 3 else 0, 0, 3, memory.buffer_at(ring, i))
            memory.map[memory.buffer_at(ring, i) : memory.buffer_at(ring, i) + 3] = b"%03d" % i
        for i in range(1, 4):
            show(ring, i)
            assert not end.rx.recv(1, timeout=0)
            assert not end.rx.wait(0)
            assert not end.rx.recv(1, timeout=0.01)
        show(ring, 4)
        assert take(end.rx, 1) == [b"000001002003"]


def test_a_stale_chain_flag_is_cleared() -> None:
    """A producer that never clears NEXT in its slots must not get its next packets merged."""
    with pair(2, 64) as (memory, _, master):
        memory.describe(S2M, 0, NEXT, 0, 3, memory.buffers)
        memory.describe(S2M, 1, 0, 0, 3, memory.buffers)
        memory.head(S2M, 2)
        assert len(take(master.rx)) == 1
        assert [memory.descriptor(S2M, i)[0] for i in range(2)] == [0, 0]


INDICES: dict[str, Callable[[Memory, End, End], tuple[Callable[[int], int], Callable[[], object], int, int]]] = {
    # -> (set the index, use it, what it is now, how far it may go)
    "rx master": lambda m, s, e: (lambda v: m.head(S2M, v), lambda: e.rx.recv(timeout=0), 3, 6),
    "rx slave": lambda m, s, e: (lambda v: m.tail(M2S, v), lambda: s.rx.recv(timeout=0), 3, 6),
    "tx slave": lambda m, s, e: (lambda v: m.tail(S2M, v), lambda: s.tx.free(), 1, 2),
    "tx master": lambda m, s, e: (lambda v: m.head(M2S, v), lambda: e.tx.free(), 9, 2),
}


@pytest.mark.parametrize("jump", [-1, -2, "most", "beyond", 8, 9, 100, 0x7FFF, 0x8000, 0xFFF7])
@pytest.mark.parametrize("which", INDICES)
def test_indices_that_jump(which: str, jump: int | str) -> None:
    """Each index goes forward within what the ring allows; anything else ends the connection, at once and once."""
    with pair(3, 64) as (memory, slave, master):
        for tx, rx in ((slave.tx, master.rx), (master.tx, slave.rx)):
            tx.send([b"x"] * 3)
            rx.recv(1, timeout=0).release()
            assert tx.free() == 6
        store, use, now, most = INDICES[which](memory, slave, master)
        step = {"most": most, "beyond": most + 1}[jump] if isinstance(jump, str) else jump
        store(now + step)
        end = master if "master" in which else slave
        allowed = 0 <= step <= most
        with contextlib.nullcontext() if allowed else pytest.raises(MemifDisconnectedError):
            use()
        assert len(end.owner.complaints) == (not allowed)
        if not allowed:
            assert end.owner.complaints == [f"{which[:2]} queue 0: peer broke the ring's indices"]
            with pytest.raises(MemifDisconnectedError):
                use()
            assert len(end.owner.complaints) == 1


@pytest.mark.parametrize("mode", ["interrupt", "polling", "adaptive"])
def test_a_jump_ends_the_wait(mode: str) -> None:
    with pair(3, 64) as (memory, _, master):
        master.rx.mode = mode
        thread = Thread(lambda: master.rx.recv(timeout=10))
        waits(thread)
        memory.head(S2M, 9)
        with pytest.raises(MemifDisconnectedError):
            thread.get()
        assert master.owner.complaints == ["rx queue 0: peer broke the ring's indices"]


SENDS: dict[str, Callable[[End], object]] = {
    "send": lambda e: e.tx.send([b"p" * 40]),
    "array": lambda e: e.tx.send_array(np.full((1, 40), 112, np.uint8)),
    "alloc": lambda e: send_allocated(e),
}


def send_allocated(end: End) -> int:
    with end.tx.alloc(1, size=40) as burst:
        if burst:
            burst.scatter(np.full((1, 40), 112, np.uint8))
        return len(burst)


@pytest.mark.parametrize("how", SENDS)
@settings(max_examples=60, deadline=None)
@given(offers=st.lists(ONE, min_size=8, max_size=8))
@example(offers=[(0, 0, 1, 900)] * 8)
@example(offers=[(0, 0, 39, 900), (0, 9, 1, 0)] * 4)
@example(offers=[(0, 0, U32, 512), (0, 0, 64, U32), (0, 0, 0, 512), (0, 0, 64, 900)] * 2)
def test_a_master_offered_any_buffer(how: str, offers: list[Descriptor]) -> None:
    """Only whole buffers inside the region are written; the others go back empty, and good ones work again."""
    with pair(3, 64) as (memory, slave, master):
        for at, descriptor in enumerate(offers):
            memory.describe(M2S, at, *descriptor)
        for _ in range(12):
            with contextlib.suppress(ValueError):  # buffers so small that nothing fits
                SENDS[how](master)
        tail = memory.tail(M2S)
        assert tail <= 8
        assert not master.owner.complaints
        for at in range(tail):
            _, region, length, offset = memory.descriptor(M2S, at)
            assert (region, offset) == (offers[at][1], offers[at][3])  # never the master's to change
            assert length == 0 or (region == 0 and length <= offers[at][2] and offset + length <= memory.total)
        if tail == 8:  # all were used up or spoiled: the slave re-arms, and all is well
            for at in range(8):
                memory.describe(M2S, at, 0, 0, 64, memory.buffer_at(M2S, at))
            memory.head(M2S, 16)
            assert SENDS[how](master) == 1
            start = memory.buffer_at(M2S, 0)
            assert memory.map[start : start + 40] == b"p" * 40
        del slave


def test_part_of_an_allocated_burst_between_bad_buffers() -> None:
    """Slots that cannot be used lie between those of the burst; sending fewer packets publishes just those before."""
    for count in range(4):
        with pair(3, 64) as (memory, slave, master):
            for at in (0, 2, 5):
                memory.describe(M2S, at, 0, 7, 64, 0)
            burst = master.tx.alloc(3)
            burst.lengths[:] = 64
            for i, packet in enumerate(burst):
                packet[:] = bytes([65 + i]) * 64
            assert len(burst) == 3
            burst.send(count)
            assert memory.tail(M2S) == (1, 3, 4, 5)[count]
            assert drain(slave.rx) == [bytes([65 + i]) * 64 for i in range(count)]
            assert slave.rx.stats["dropped_bad"] == (1, 2, 2, 2)[count]
            assert master.tx.send([b"on"]) == 1
            assert drain(slave.rx) == [b"on"]


COMPLAINTS = [("tx", "descriptors"), ("tx", "indices"), ("rx", "indices")]


@contextlib.contextmanager
def vandal(memory: Memory, spans: list[tuple[int, int]], seed: int) -> Iterator[None]:
    """A process that writes random words, some of them plausible, into the spans (start, end) of the memory."""
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        chance = random.Random(seed)
        places = [at for start, end in spans for at in range(start, end, 4)]
        words = [0, 1, 64, 100, 0x10000, U32, memory.buffers, memory.total - 1, memory.total - 64]
        while os.getppid() == parent:
            for at in chance.sample(places, len(places)):
                struct.pack_into("<I", memory.map, at, chance.choice(words) or chance.getrandbits(32) & 0xFF00FF)
        os._exit(0)
    try:
        yield
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def use_everything(end: End, chance: random.Random) -> None:
    """One random call; only errors of this package may come out."""
    rows = np.full((20, 90), 7, np.uint8)
    what = chance.randrange(6)
    if what == 0:
        end.tx.send([b"x" * chance.choice((1, 64, 500))] * 12)
    elif what == 1:
        end.tx.send_array(rows)
    elif what == 2:
        with end.tx.alloc(12, size=chance.choice((None, 10, 300))) as burst:
            if burst:
                burst.lengths[burst.lengths == 0] = 99
                burst.scatter(np.zeros((len(burst), 99), np.uint8))
    else:
        with end.rx.recv(chance.choice((1, 4, 64)), timeout=chance.choice((0, 0, 0.001))) as burst:
            burst.tobytes()
            burst.gather(200)
            [bytes(p) for p in burst]
            end.tx.forward(burst, copy=chance.random() < 0.3)


@pytest.mark.parametrize("side", ["slave", "master"])
def test_descriptors_are_rewritten_all_the_time(side: str) -> None:
    """The other process rewrites descriptors while they are read and written: no crash, and the ring keeps flowing."""
    with Memory(4, 64, headroom=8) as memory:
        deadline, rounds, moved = time.monotonic() + 1.5, 0, 0
        chance, complaints = random.Random(5), set[str]()
        spans = [(memory.slot_at(ring, 0), memory.slot_at(ring, 0) + 16 * memory.size) for ring in (S2M, M2S)]
        with vandal(memory, spans, seed=6):
            while time.monotonic() < deadline:
                slave, master = memory.slave(), memory.master()
                end, other = (slave, master) if side == "slave" else (master, slave)
                memory.head(S2M, 0), memory.tail(S2M, 0), memory.tail(M2S, 0)
                with contextlib.suppress(MemifError):
                    for _ in range(300):
                        rounds += 1
                        with contextlib.suppress(ValueError):
                            use_everything(end, chance)
                        with contextlib.suppress(ValueError):
                            use_everything(other, chance)
                moved += end.rx.stats["packets"] + end.rx.stats["dropped_bad"]
                complaints.update(end.owner.complaints)
        assert rounds > 50
        assert moved > 0
        # A chain's descriptors differed between two looks; or they pointed at the indices, and a packet went there.
        assert complaints <= {f"{which} queue 0: peer broke the ring's {what}" for which, what in COMPLAINTS}


@pytest.mark.parametrize("side", ["slave", "master"])
def test_everything_is_rewritten_all_the_time(side: str) -> None:
    """Indices, flags, cookie and descriptors at once: no crash; the link goes down as soon as an index is wrong."""
    with Memory(4, 64) as memory:
        deadline, broken = time.monotonic() + 1.5, 0
        chance = random.Random(7)
        with vandal(memory, [(0, memory.buffers)], seed=8):
            while time.monotonic() < deadline:
                slave = memory.slave()
                end = slave if side == "slave" else memory.master()
                with contextlib.suppress(MemifError):
                    while time.monotonic() < deadline:
                        with contextlib.suppress(ValueError):
                            use_everything(end, chance)
                broken += len(end.owner.complaints)
        assert broken > 10


def test_an_event_fd_that_blocks() -> None:
    """A peer fills the counter of the shared event fd and makes it blocking: the end of the link frees the sender."""
    with pair(events=True) as (memory, slave, _):
        fd = memory.events[S2M]
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) & ~os.O_NONBLOCK)
        os.eventfd_write(fd, 2**64 - 2)
        thread = Thread(lambda: slave.tx.send([b"x"]))
        waits(thread)
        slave.owner.disconnect()
        assert thread.get() == 1
        # The same trick on a reader: it never blocks.
        end = memory.master()
        assert take(end.rx) == [b"x"]
        assert os.eventfd_read(fd) == 1
        os.eventfd_write(fd, 2**64 - 2)
        end.rx.fileno()
        assert not end.rx.recv(timeout=0.05)
        assert not end.rx.recv(timeout=0)
        end.owner.disconnect()


def test_a_peer_that_keeps_signalling_without_packets() -> None:
    """The wait still ends in time."""
    with pair(events=True) as (memory, _, master):
        thread = Thread(lambda: master.rx.recv(timeout=0.2))
        start = time.monotonic()
        while thread.is_alive():
            os.eventfd_write(memory.events[S2M], 1)
        assert not thread.get()
        assert time.monotonic() - start < within(2)


def test_a_peer_that_sends_nothing_but_rubbish() -> None:
    """Bad packets without end wake a waiter for ever, but the timeout holds."""
    with pair(3, 64) as (memory, _, master):
        for at in range(8):
            memory.describe(S2M, at, 0, 9, 1, 0)
        thread = Thread(lambda: master.rx.recv(timeout=0.3))
        start = time.monotonic()
        while thread.is_alive():
            memory.head(S2M, memory.tail(S2M) + 1)
        assert not thread.get()
        assert time.monotonic() - start < within(2)
        assert master.rx.stats["dropped_bad"] > 1


@pytest.mark.parametrize("size", [1, 15, 16, 31, 33, 64, 65, 100, 128, 129, 200])
@pytest.mark.parametrize("shift", [-1, 1, 7, -36])
def test_buffers_that_overlap(size: int, shift: int) -> None:
    """A slave may offer a buffer that overlaps the packet to be forwarded into it: the packet arrives whole."""
    with pair(3, 256) as (memory, slave, master):
        data = bytes(range(size))
        slave.tx.send([data])
        memory.describe(M2S, 0, 0, 0, 256, memory.buffer_at(S2M, 0) + 64 + shift)
        memory.describe(S2M, 0, 0, 0, size, memory.buffer_at(S2M, 0) + 64)
        start = memory.buffer_at(S2M, 0) + 64
        memory.map[start : start + size] = data
        with master.rx.recv(timeout=0) as burst:
            assert master.tx.forward(burst) == 1
        assert memory.map[start + shift : start + shift + size] == data
