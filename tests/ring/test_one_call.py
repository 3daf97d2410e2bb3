"""Receiving in one call: `recv_array`, `recv_into`, `recv_list`, `recv_packet`; and `send_packet`."""

import inspect
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp

from memif.errors import MemifDisconnectedError, MemifStateError, MemifValueError
from ring.memory import End, pair


def both_ways(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test with a sender and a receiver, a slave and a master, then with the roles changed."""

    def run(receiver: str, **arguments: Any) -> None:
        with pair() as (_, slave, master):
            sender, end = (master, slave) if receiver == "slave" else (slave, master)
            test(sender, end, **arguments)

    others = list(inspect.signature(test).parameters.values())[2:]
    named = inspect.Parameter("receiver", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    run.__signature__ = inspect.Signature([named, *others])  # type: ignore[attr-defined]
    run.__name__ = test.__name__
    return pytest.mark.parametrize("receiver", ["slave", "master"])(run)


@pytest.mark.parametrize("receiver", ["slave", "master"])
@given(data=st.data(), width=st.integers(1, 300), count=st.integers(1, 16))
@settings(deadline=None, max_examples=60)
def test_what_send_array_accepts_comes_back(receiver: str, data: st.DataObject, width: int, count: int) -> None:
    matrix = data.draw(hnp.arrays(np.uint8, (count, width)))
    lengths = np.array(data.draw(st.lists(st.integers(1, width), min_size=count, max_size=count)), np.uint32)
    with pair() as (_, slave, master):
        sender, end = (master, slave) if receiver == "slave" else (slave, master)
        sent = sender.tx.send_array(matrix, lengths)
        got, sizes = end.rx.recv_array(width, timeout=0)
        assert (got.shape, got.dtype, sizes.dtype) == ((sent, width), np.uint8, np.uint32)
        assert sizes.tolist() == lengths[:sent].tolist()
        inside = np.arange(width) < lengths[:sent, None]
        assert (got == matrix[:sent] * inside).all()
        assert sender.tx.send_array(got, sizes) == sent
        filled, each = np.full((20, width), 7, np.uint8), np.full(20, 7, np.uint32)
        assert end.rx.recv_into(filled, each, 0) == sent
        assert (filled[:sent] == got).all()
        assert (filled[sent:] == 7).all()
        assert each.tolist() == [*sizes.tolist(), *[7] * (20 - sent)]


@both_ways
def test_lists_and_packets(sender: End, end: End) -> None:
    packets = [bytes([i]) * (i * 40 + 1) for i in range(8)]  # some chained
    assert sender.tx.send(packets) == 8
    assert end.rx.recv_list(3, 0) == packets[:3]
    assert end.rx.recv_packet(0) == packets[3]
    assert end.rx.recv_packet(timeout=0) == packets[4]
    assert end.rx.recv_list(timeout=0) == packets[5:]
    assert end.rx.recv_list(timeout=0) == []
    assert end.rx.recv_packet(0) is None
    matrix, lengths = end.rx.recv_array(60, timeout=0)
    assert (matrix.shape, lengths.shape) == ((0, 60), (0,))
    assert end.rx.recv_into(np.zeros((2, 60), np.uint8), np.zeros(2, np.uint32), 0) == 0
    assert end.rx.stats["packets"] == 8


@both_ways
def test_what_is_longer_than_the_rows_is_cut(sender: End, end: End) -> None:
    assert sender.tx.send([b"abcdef", b"xy", b"z" * 300]) == 3
    matrix, lengths = end.rx.recv_array(4, 16, 0)
    assert [row.tobytes() for row in matrix] == [b"abcd", b"xy\0\0", b"zzzz"]
    assert lengths.tolist() == [6, 2, 300]


@both_ways
def test_slots_go_back_at_once(sender: End, end: End) -> None:
    matrix, lengths = np.zeros((16, 60), np.uint8), np.zeros(16, np.uint32)
    calls: list[Any] = [
        lambda: end.rx.recv_array(60, timeout=0),
        lambda: end.rx.recv_into(matrix, lengths, 0),
        lambda: end.rx.recv_list(timeout=0),
        lambda: [end.rx.recv_packet(0) for _ in range(16)],
    ]
    for call in calls * 3:
        assert sender.tx.send([b"x" * 60] * 20) == 16
        call()
        assert sender.tx.free() == 16


@both_ways
def test_the_matrix_is_used_again_only_when_nobody_has_it(sender: End, end: End) -> None:
    kept = []
    for i in range(8):
        assert sender.tx.send_packet(bytes([i]) * 60)
        kept.append(end.rx.recv_array(60, timeout=0))
    assert [matrix[0, 0] for matrix, _ in kept] == list(range(8))
    assert [lengths.tolist() for _, lengths in kept] == [[60]] * 8


CHANGES: dict[str, Callable[[Any], Any]] = {
    "nothing": lambda array: None,
    "shape": lambda array: setattr(array, "shape", (1, *array.shape)),
    "dtype": lambda array: setattr(array, "dtype", np.int8),
    "flags": lambda array: array.setflags(write=False),
}


@pytest.mark.parametrize("change", CHANGES)
@both_ways
def test_arrays_that_their_last_user_changed(sender: End, end: End, change: str) -> None:
    for i in range(6):
        assert sender.tx.send([bytes([i]) * 60] * 4) == 4
        matrix, lengths = end.rx.recv_array(60, timeout=0)
        assert (matrix.dtype, matrix.shape, matrix[3, 59]) == (np.uint8, (4, 60), i)
        assert (lengths.dtype, lengths.tolist()) == (np.uint32, [60] * 4)
        CHANGES[change](matrix)
        CHANGES[change](lengths)
        del matrix, lengths


@both_ways
def test_they_wait(sender: End, end: End) -> None:
    calls: list[Any] = [
        lambda: end.rx.recv_packet(5),
        lambda: end.rx.recv_list(timeout=5)[0],
        lambda: end.rx.recv_array(4, timeout=5)[0].tobytes(),
    ]
    for call in calls:
        timer = threading.Timer(0.02, lambda: sender.tx.send_packet(b"late"))
        timer.start()
        assert call() == b"late"
        timer.join()
    start = time.monotonic()
    assert end.rx.recv_packet(0.05) is None
    assert time.monotonic() - start >= 0.05


@both_ways
def test_one_packet(sender: End, end: End) -> None:
    for data in (b"bytes", bytearray(b"array"), memoryview(b"view!"), np.frombuffer(b"numpy", np.uint8)):
        assert sender.tx.send_packet(data) is True
        assert end.rx.recv_packet(0) == bytes(data)
    assert [sender.tx.send_packet(b"x") for _ in range(17)] == [True] * 16 + [False]
    assert sender.tx.stats["packets"] == 20
    assert sender.tx.stats["ring_full"] == 1
    with pytest.raises(MemifValueError, match=r"^argument data"):
        end.tx.send_packet(b"")
    with pytest.raises(MemifValueError, match=r"^argument data"):
        end.tx.send_packet(b"x" * (16 * 256 + 1))


@both_ways
def test_a_chain_of_one_call(sender: End, end: End) -> None:
    packet = bytes(range(256)) * 5
    assert sender.tx.send_packet(packet)
    assert end.rx.recv_packet(0) == packet


@both_ways
def test_the_link_is_down(sender: End, end: End) -> None:
    assert sender.tx.send([b"left"] * 2) == 2
    end.rx.detach(keep=True)
    assert end.rx.recv_packet(0) == b"left"
    assert end.rx.recv_list() == [b"left"]
    for call in (end.rx.recv_packet, end.rx.recv_list, lambda: end.rx.recv_array(4)):
        with pytest.raises(MemifDisconnectedError):
            call()
    end.tx.detach()
    with pytest.raises(MemifDisconnectedError):
        end.tx.send_packet(b"x")


@both_ways
def test_an_open_burst(sender: End, end: End) -> None:
    with sender.tx.alloc(1, 4):
        with pytest.raises(MemifStateError):
            sender.tx.send_packet(b"x")
    assert end.rx.recv_packet(0) == bytes(4)


@pytest.mark.parametrize(
    "matrix",
    [bytes(8), bytearray(8), np.zeros((2, 4), np.uint16), np.zeros((0, 4), np.uint8), np.zeros((2, 4), np.uint8)[::-1]],
)
@both_ways
def test_a_wrong_matrix_takes_no_packet(sender: End, end: End, matrix: Any) -> None:
    assert sender.tx.send_packet(b"kept")
    with pytest.raises((MemifValueError, TypeError), match=r"^argument matrix"):
        end.rx.recv_into(matrix, np.zeros(2, np.uint32), 0)
    assert end.rx.recv_packet(0) == b"kept"


@pytest.mark.parametrize(
    "lengths",
    [
        None,
        [1, 2],
        bytes(8),
        np.zeros(1, np.uint32),
        np.zeros(2, np.int32),
        np.zeros(4, np.uint32)[::2],
        np.zeros((2, 1), np.uint32),
    ],
)
@both_ways
def test_wrong_lengths_take_no_packet(sender: End, end: End, lengths: Any) -> None:
    assert sender.tx.send_packet(b"kept")
    with pytest.raises((MemifValueError, TypeError), match=r"^argument lengths"):
        end.rx.recv_into(np.zeros((2, 4), np.uint8), lengths, 0)
    assert end.rx.recv_packet(0) == b"kept"
