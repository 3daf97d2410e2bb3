"""How long bursts and what they show live: order of release, disconnects, kept views, columns."""

import gc
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from memif.errors import MemifDisconnectedError, MemifStateError, MemifValueError
from memif.ring import Burst
from ring.memory import Memory, drain, pair, take

USES: dict[str, Callable[[Burst], Any]] = {
    "len": len,
    "bool": bool,
    "index": lambda b: b[0],
    "slice": lambda b: b[:],
    "iter": iter,
    "lengths": lambda b: b.lengths,
    "offsets": lambda b: b.offsets,
    "pieces": lambda b: b.pieces,
    "regions": lambda b: b.regions,
    "flags": lambda b: b.flags,
    "chained": lambda b: b.chained,
    "memory": lambda b: b.memory,
    "gather": lambda b: b.gather(4),
    "scatter": lambda b: b.scatter(np.zeros((1, 4), np.uint8)),
    "tobytes": lambda b: b.tobytes(),
    "fragments": lambda b: b.fragments(0),
    "prepend": lambda b: b.prepend(0),
    "enter": lambda b: b.__enter__(),
    "send": lambda b: b.send(),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("made_by", ["recv", "alloc"])
def test_nothing_works_after_the_release(use: str, made_by: str) -> None:
    with pair() as (_, slave, master):
        master.tx.send([b"x"])
        burst = slave.rx.recv(timeout=0) if made_by == "recv" else slave.tx.alloc(1)
        burst.release()
        with pytest.raises(MemifStateError, match="released"):
            USES[use](burst)
        burst.release()
        burst.__exit__(None, None, None)
        assert repr(burst) == "<Burst, released>"


def test_the_empty_burst() -> None:
    """It is one and the same, takes part in everything and survives its release."""
    with pair() as (_, slave, _master):
        with slave.rx.recv(timeout=0) as burst:
            assert len(burst) == 0
            assert not burst
            assert list(burst) == burst.tobytes() == burst[:] == []
            columns = [burst.lengths, burst.offsets, burst.pieces, burst.regions, burst.flags]
            assert [c.shape for c in columns] == [(0,)] * 5
            assert [c.dtype.name for c in columns] == ["uint32"] * 3 + ["uint16"] * 2
            assert burst.gather(7).shape == (0, 7)
            assert burst.memory == ()
            assert not burst.chained
            burst.scatter(np.zeros((0, 5), np.uint8))
            burst.prepend(3)
            assert slave.tx.forward(burst) == 0
            assert repr(burst) == "<Burst of 0 packets>"
            with pytest.raises(IndexError):
                burst[0]
        assert slave.rx.recv(timeout=0) is burst


def test_slots_come_back_in_the_order_of_the_ring() -> None:
    """A burst that is kept holds up those released before it."""
    with pair(2, 64) as (memory, slave, master):
        slave.tx.send([b"a", b"b", b"c", b"d"])
        bursts = [master.rx.recv(1, timeout=0) for _ in range(4)]
        tails = []
        for i in (2, 1, 0, 3):
            bursts[i].release()
            tails.append(memory.tail(0))
        assert tails == [0, 0, 3, 4]


def test_a_burst_that_is_forgotten_gives_its_slots_back() -> None:
    with pair(2, 64) as (_, slave, master):
        for _ in range(50):
            assert slave.tx.send([b"a"] * 4) == 4
            assert len(master.rx.recv(timeout=0)) == 4
            gc.collect(0)


def test_a_reserved_burst_that_is_forgotten_frees_the_queue() -> None:
    with pair(2, 64) as (_, slave, master):
        burst = slave.tx.alloc(3)
        with pytest.raises(MemifStateError, match="open burst"):
            slave.tx.free()
        del burst
        assert slave.tx.free() == 4
        assert slave.tx.send([b"x"] * 5) == 4
        assert take(master.rx) == [b"x"] * 4


def test_an_exception_cancels_what_was_reserved() -> None:
    with pair(2, 64) as (_, slave, master):
        burst = slave.tx.alloc(2)
        burst[0][:] = b"x" * 64
        with pytest.raises(ZeroDivisionError), burst:
            _ = 1 / 0
        assert drain(master.rx) == []
        with slave.tx.alloc(2, size=5) as burst:
            burst.scatter(np.frombuffer(b"helloworld", np.uint8).reshape(2, 5))
        assert drain(master.rx) == [b"hello", b"world"]


@pytest.mark.parametrize("side", ["slave", "master"])
def test_release_after_the_link_went_down(side: str) -> None:
    with pair(3, 64) as (_, slave, master):
        end, other = (slave, master) if side == "slave" else (master, slave)
        other.tx.send([b"abc", b"d" * 100])
        received, reserved = end.rx.recv(timeout=0), end.tx.alloc(2, size=9)
        end.owner.disconnect()
        assert received.tobytes() == [b"abc", b"d" * 100]
        assert received.gather(3)[0].tobytes() == b"abc"
        for call in (lambda: end.tx.send([b"x"]), lambda: end.rx.recv(timeout=0), lambda: end.tx.forward(received)):
            with pytest.raises(MemifDisconnectedError):
                call()
        assert reserved.send() == 0
        received.release()
        assert end.rx.ring is end.tx.ring is None


def test_a_new_ring_goes_on_counting() -> None:
    """Bursts of the old connection are released into the old memory, not the new."""
    with Memory(2, 64) as memory, Memory(1, 64) as other:
        slave, master = memory.slave(), memory.master()
        slave.tx.send([b"a", b"b"])
        burst = master.rx.recv(timeout=0)
        slave.owner.disconnect()
        master.owner.disconnect()
        for end, rings in ((slave, other.rings(slave=True)), (master, other.rings(slave=False))):
            if end is slave:
                for ring in rings:
                    ring.initialise()
            end.tx.attach(rings[0])
            end.rx.attach(rings[1])
        assert slave.tx.send([b"c"]) == 1
        burst.release()
        assert (memory.tail(0), other.tail(0)) == (2, 0)
        assert take(master.rx) == [b"c"]
        assert other.tail(0) == 1
        assert master.rx.stats["packets"] == slave.tx.stats["packets"] == 3


def test_views_outlive_everything() -> None:
    """A memoryview, an array of lengths and a numpy view of the memory stay readable when all else is gone."""
    with pair(2, 64) as (memory, slave, master):
        slave.tx.send([b"payload", b"y" * 100])
        burst = master.rx.recv(timeout=0)
        view, lengths, (whole,) = burst[0], burst.lengths, burst.memory
        burst.release()
        slave.owner.disconnect()
        master.owner.disconnect()
        del burst, slave, master
        gc.collect()
        assert bytes(view) == b"payload"
        assert lengths.tolist() == [7, 100]
        assert whole.nbytes == memory.total
        view[:] = b"written"
        assert memory.map[memory.buffers : memory.buffers + 7] == b"written"
        del view, whole


def test_columns_keep_their_contents() -> None:
    """An array of a released burst is not used for another, nor a view derived from one."""
    with pair(4, 64) as (_, slave, master):
        kept = []
        for i in range(1, 20):
            slave.tx.send([b"x" * i] * 3)
            with master.rx.recv(timeout=0) as burst:
                kept.append((i, burst.lengths if i % 2 else burst.lengths[1:], burst.offsets.reshape(3, 1)))
        for i, lengths, offsets in kept:
            assert set(lengths.tolist()) == {i}
            assert len(set(offsets[:, 0].tolist())) == 3


@pytest.mark.parametrize("column", ["offsets", "pieces", "regions", "flags"])
def test_only_lengths_can_be_written(column: str) -> None:
    with pair() as (_, slave, master):
        slave.tx.send([b"abc"])
        with master.rx.recv(timeout=0) as burst:
            array = getattr(burst, column)
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 1
            with pytest.raises(ValueError, match="WRITEABLE"):
                array.flags.writeable = True


@pytest.mark.parametrize("value", [0, 4, 65, 0x80000000, 0xFFFFFFFF])
def test_lengths_that_make_no_sense(value: int) -> None:
    """Each use refuses them and says which; none reads or writes outside the packet."""
    with pair() as (_, slave, master):
        slave.tx.send([b"abc"] * 3)
        with master.rx.recv(timeout=0) as burst:
            burst.lengths[1] = value
            for use in ("gather", "tobytes", "slice"):
                with pytest.raises(MemifValueError, match=r"lengths\[1\]: got \d+, allowed: 1 to 3"):
                    USES[use](burst)
            for use in (
                lambda: burst.scatter(np.zeros((3, 4), np.uint8)),
                lambda: burst.fragments(1),
                lambda: burst[1],
                lambda: master.tx.forward(burst),
                lambda: list(burst),
            ):
                with pytest.raises(MemifValueError, match="lengths"):
                    use()
            assert bytes(burst[0]) == b"abc"
            burst.lengths[1] = 2
            assert burst.tobytes() == [b"abc", b"ab", b"abc"]


def test_lengths_of_a_chain() -> None:
    """Only the last piece can shrink."""
    with pair(3, 64) as (_, slave, master):
        slave.tx.send([b"s", b"c" * 150])
        with master.rx.recv(timeout=0) as burst:
            for value in (128, 151, 0):
                burst.lengths[1] = value
                with pytest.raises(MemifValueError, match=r"129 to 150 \(chained"):
                    burst.tobytes()
            burst.lengths[1] = 129
            assert bytes(burst[1]) == b"c" * 129
            assert burst.pieces.tolist() == [1, 64, 64, 1]
            burst.lengths[1] = 150
            assert burst.tobytes() == [b"s", b"c" * 150]


def test_lengths_of_what_is_sent() -> None:
    with pair(2, 64) as (_, slave, master):
        burst = slave.tx.alloc(2, size=10)
        burst.lengths[:] = 64  # the buffer is larger than the size asked for
        burst[0][:] = b"l" * 64
        burst.lengths[1] = 65
        with pytest.raises(MemifValueError, match=r"lengths\[1\]: got 65, allowed: 1 to 64"):
            burst.send()
        assert burst.send(1) == 1
        assert drain(master.rx) == [b"l" * 64]
        with pytest.raises(MemifValueError, match="lengths"), slave.tx.alloc(2, size=10) as burst:
            burst.lengths[1] = 0
        assert slave.tx.free() == 4


def test_gather_into_an_array() -> None:
    with pair() as (_, slave, master):
        slave.tx.send([b"abcdef", b"gh"])
        with master.rx.recv(timeout=0) as burst:
            out = np.full((5, 4), 9, np.uint8)
            rows = burst.gather(4, out)
            assert rows.base is out
            assert rows.tolist() == [list(b"abcd"), [*b"gh", 0, 0]]
            assert out[2:].tolist() == [[9] * 4] * 3
            wide = np.full((2, 10), 9, np.uint8)
            burst.gather(4, wide[:, 3:7])
            assert wide[1].tolist() == [9, 9, 9, *b"gh", 0, 0, 9, 9, 9]
            assert burst.gather(4, wide[:, 3:7]).shape == (2, 4)
            turned = np.zeros((4, 2), np.uint8).T
            narrow, flat = np.zeros((2, 3), np.uint8), np.zeros(8, np.uint8)
            short, words = np.zeros((1, 4), np.uint8), np.zeros((2, 4), np.uint16)
            for wrong in (turned, narrow, flat, short, words):
                with pytest.raises(MemifValueError, match="out"):
                    burst.gather(4, wrong)


def test_an_array_of_gather_is_used_again_only_when_nobody_has_it() -> None:
    with pair() as (_, slave, master):

        def gather(packets: list[bytes]) -> Any:
            slave.tx.send(packets)
            with master.rx.recv(timeout=0) as burst:
                return burst.gather(4)

        kept = gather([b"aaaa", b"aaaa"])
        part = gather([b"bbbb", b"bbbb"])[1]
        view = memoryview(gather([b"cccc", b"cccc"]))
        for text in (b"dddd", b"eeee", b"ffff"):
            assert gather([text, text]).tobytes() == 2 * text
        assert (kept.tobytes(), part.tobytes(), view.tobytes()) == (b"aaaaaaaa", b"bbbb", b"cccccccc")

        changes: dict[str, Callable[[Any], None]] = {
            "shape": lambda a: setattr(a, "shape", (4, 2)),
            "dtype": lambda a: setattr(a, "dtype", np.int8),
            "wider": lambda a: setattr(a, "dtype", np.uint16),
            "writeable": lambda a: setattr(a.flags, "writeable", False),
            "size": lambda a: a.resize((1, 3), refcheck=False),
        }
        for change in changes.values():
            for _ in range(3):
                change(gather([b"gggg", b"gggg"]))
            again = gather([b"abcd", b"efgh"])
            assert again.tolist() == [list(b"abcd"), list(b"efgh")]
            assert (again.dtype, again.flags.writeable, again.flags.c_contiguous) == (np.uint8, True, True)
            del again


def test_a_released_burst_stays_released_for_who_has_it() -> None:
    """Burst objects are used again, but never one that somebody can still look at."""
    with pair() as (_, slave, master):
        old = []
        for number in range(8):
            slave.tx.send([bytes([number + 1])])
            burst = master.rx.recv(timeout=0)
            assert burst.tobytes() == [bytes([number + 1])]
            burst.release()
            if number % 3:
                old.append((burst, iter([burst])))
            del burst
            for released, _holder in old:
                with pytest.raises(MemifStateError, match="released"):
                    len(released)


@pytest.mark.parametrize("sender", ["slave", "master"])
def test_every_length_is_copied_whole_and_nothing_else(sender: str) -> None:
    """Copies of up to 128 bytes are made of two moves that overlap: no byte behind the packet may change."""
    with Memory(2, 512) as memory:
        ends = {"slave": memory.slave(), "master": memory.master()}
        tx = ends.pop(sender).tx
        (receiver,) = ends.values()
        lengths = np.array([300], np.uint32)
        for n in (*range(1, 140), 200, 255, 256, 257, 300):
            row = (np.arange(300, dtype=np.uint32) * 7 + n).astype(np.uint8).reshape(1, 300)
            paint = np.full((1, 300), n & 0xFF, np.uint8)
            for _ in range(4):  # every slot has the paint of this round
                assert tx.send_array(paint) == 1
                receiver.rx.recv(1, 0).release()
            lengths[0] = n
            assert tx.send_array(row, lengths) == 1
            with receiver.rx.recv(1, 0) as burst:
                rows = burst.gather(300)
                assert burst.lengths.tolist() == [n]
                assert rows[0, :n].tobytes() == row[0, :n].tobytes()
                assert not rows[0, n:].any()
                at = int(burst.offsets[0])
                behind = burst.memory[int(burst.regions[0])][at + n : at + 300]
                assert (behind == n & 0xFF).all()


def test_scatter_any_stride() -> None:
    """Rows may come in reverse, or be one row for all."""
    with pair() as (_, slave, master):
        slave.tx.send([b"...."] * 2)
        with master.rx.recv(timeout=0) as burst:
            rows = np.frombuffer(b"abcdefgh", np.uint8).reshape(2, 4)
            burst.scatter(rows[::-1])
            assert burst.tobytes() == [b"efgh", b"abcd"]
            burst.scatter(np.broadcast_to(rows[0, :2], (2, 2)))
            assert burst.tobytes() == [b"abgh", b"abcd"]


def test_a_burst_cannot_be_made_or_pickled() -> None:
    with pytest.raises(TypeError, match="comes from"):
        Burst()
    with pair() as (_, slave, master):
        slave.tx.send([b"x"])
        with pytest.raises(TypeError, match="pickled"), master.rx.recv(timeout=0) as burst:
            pickle.dumps(burst)
    hollow = Burst.__new__(Burst)
    with pytest.raises(MemifStateError):
        len(hollow)
    hollow.release()


def test_a_packet_is_given_away_once() -> None:
    with pair(2, 64) as (_, slave, master):
        master.tx.send([b"a", b"b"])
        with slave.rx.recv(timeout=0) as burst:
            assert slave.tx.forward(burst, stop=1) == 1
            for again in (lambda: slave.tx.forward(burst), lambda: slave.tx.forward(burst, copy=True)):
                with pytest.raises(MemifStateError, match="given away"):
                    again()
            with pytest.raises(MemifStateError, match="given away"):
                burst.prepend(1)
            assert slave.tx.forward(burst, start=1, copy=True) == 1
            assert slave.tx.forward(burst, start=1) == 1
        assert drain(master.rx) == [b"a", b"b", b"b"]


def test_forward_between_links() -> None:
    """Other memory, so always by copy, whatever the role; chains are cut anew for the other ring's buffers."""
    with pair(4, 64) as (_, slave, master), pair(4, 48) as (_, slave2, master2):
        for source, sink, check in ((slave.tx, slave2.tx, master2.rx), (slave.tx, master2.tx, slave2.rx)):
            source.send([b"x" * 100, b"y"])
            with master.rx.recv(timeout=0) as burst:
                assert sink.forward(burst) == 2
                assert burst.tobytes() == [b"x" * 100, b"y"]
            assert drain(check) == [b"x" * 100, b"y"]
        master.tx.send([b"z" * 130])
        with slave.rx.recv(timeout=0) as burst:
            assert slave2.tx.forward(burst) == 1
            assert burst.pieces.tolist() == [64, 64, 2]
        with master2.rx.recv(timeout=0) as burst:
            assert burst.pieces.tolist() == [48, 48, 34]
