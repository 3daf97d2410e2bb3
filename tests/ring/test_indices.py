"""The 16 bit indices run through zero, and rings of each size stay exact."""

import random

import numpy as np
import pytest

from ring.memory import NEXT, drain, pair, take


def numbered(first: int, count: int, width: int = 8) -> np.ndarray:
    """Rows that begin with their number."""
    rows = np.zeros((count, width), np.uint8)
    rows[:, :4] = np.arange(first, first + count, dtype="<u4").reshape(-1, 1).view(np.uint8)
    return rows


@pytest.mark.parametrize("slave_sends", [True, False])
@pytest.mark.parametrize("log2", [0, 1, 3, 6, 10, 14])
def test_indices_wrap(log2: int, slave_sends: bool) -> None:
    """More than 65536 packets through the ring in bursts of random size, each byte checked."""
    chance = random.Random(log2)
    with pair(log2, 16) as (memory, slave, master):
        tx, rx = (slave.tx, master.rx) if slave_sends else (master.tx, slave.rx)
        sent = received = 0
        held = []
        while received < 70_000:
            sent += tx.send_array(numbered(sent, chance.randint(1, memory.size)))
            burst = rx.recv(chance.randint(1, memory.size), timeout=0)
            expected = numbered(received, len(burst))
            assert np.array_equal(burst.gather(8), expected)
            received += len(burst)
            held.append(burst)
            while len(held) > 3 or (held and chance.random() < 0.5):
                held.pop(chance.randrange(len(held))).release()
        for burst in held:
            burst.release()
        received += len(drain(rx))
        assert received == sent == rx.stats["packets"] == tx.stats["packets"]
        ring = 0 if slave_sends else 1
        assert memory.head(ring) == (sent if slave_sends else sent + memory.size) & 0xFFFF
        assert memory.tail(ring) == sent & 0xFFFF


@pytest.mark.parametrize("slave_sends", [True, False])
def test_a_chain_goes_on_in_slot_0(slave_sends: bool) -> None:
    """Chains at every position of the ring, also across its end."""
    with pair(3, 64) as (_, slave, master):
        tx, rx = (slave.tx, master.rx) if slave_sends else (master.tx, slave.rx)
        for start in range(16):
            data = bytes(range(start, start + 150))
            assert tx.send([data]) == 1
            with rx.recv(1, timeout=0) as burst:
                assert burst.tobytes() == [data]
                assert burst.pieces.tolist() == [64, 64, 22]
                assert burst.flags.tolist() == [NEXT, NEXT, 0]
                assert len(burst.fragments(0)) == 3
            assert tx.send([b"x"]) == 1
            assert take(rx) == [b"x"]


@pytest.mark.parametrize("slave_sends", [True, False])
@pytest.mark.parametrize("log2", [0, 1, 2, 5])
def test_full_and_empty(log2: int, slave_sends: bool) -> None:
    with pair(log2, 64) as (memory, slave, master):
        tx, rx = (slave.tx, master.rx) if slave_sends else (master.tx, slave.rx)
        assert not rx.recv(1, timeout=0)
        for _ in range(3):
            assert tx.free() == memory.size
            assert tx.send([b"a"] * (memory.size + 3)) == memory.size
            assert tx.free() == 0
            assert tx.send([b"b"]) == 0
            assert not tx.alloc(1)
            assert not tx.wait_free(1, timeout=0)
            assert take(rx) == [b"a"] * memory.size
            assert tx.wait_free(memory.size, timeout=0)
        assert tx.stats["ring_full"] == 15


def test_headroom_shrinks_what_the_master_may_write() -> None:
    with pair(2, 100, headroom=30) as (memory, slave, master):
        assert memory.descriptor(1, 0) == (0, 0, 70, memory.buffer_at(1, 0) + 30)
        assert master.tx.send([b"m" * 140]) == 1
        with slave.rx.recv(timeout=0) as burst:
            assert burst.pieces.tolist() == [70, 70]
            burst.prepend(30)
            burst.fragments(0)[0][:30] = b"h" * 30
            assert burst.tobytes() == [b"h" * 30 + b"m" * 140]
            assert slave.tx.forward(burst) == 1
        assert take(master.rx) == [b"h" * 30 + b"m" * 140]
        for _ in range(8):  # exchanged buffers are re-armed like others
            assert master.tx.send([b"n" * 70]) == 1
            assert take(slave.rx) == [b"n" * 70]
            assert slave.tx.send([b"o" * 100]) == 1
            assert take(master.rx) == [b"o" * 100]


def test_a_zero_copy_forward_copies_nothing() -> None:
    """The packet leaves from the buffer that it came in."""
    with pair(2, 64) as (memory, slave, master):
        master.tx.send([b"abc"])
        with slave.rx.recv(timeout=0) as burst:
            place = burst.offsets[0]
            assert slave.tx.forward(burst) == 1
        assert memory.descriptor(0, 0) == (0, 0, 3, place)
        with master.rx.recv(timeout=0) as burst:
            assert burst.offsets[0] == place
        assert memory.descriptor(1, 0) == (0, 0, 64, memory.buffer_at(0, 0))
