"""memif_buffers: an array of buffers that counts as a list of them, with columns over all."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest

from libmemif.rig import End, pair, poll_until
from memif import MemifTypeError, MemifValueError, libmemif as c

OK, FULL, INVALID = c.MEMIF_ERR_SUCCESS, c.MEMIF_ERR_NOBUF_RING, c.MEMIF_ERR_INVAL_ARG
BOTH = pytest.mark.parametrize("sender", ["slave", "master"])


def ends(link: tuple[End, End], sender: str) -> tuple[End, End]:
    """(sending end, receiving end)."""
    return link if sender == "master" else link[::-1]


def test_it_is_a_sequence() -> None:
    bufs = c.memif_buffers(5)
    assert len(bufs) == 5
    assert all(isinstance(buf, c.memif_buffer_t) for buf in bufs)
    assert bufs[0] is bufs[0]
    assert bufs[-1] is bufs[4]
    assert list(bufs[2:]) == [bufs[2], bufs[3], bufs[4]]
    assert list(bufs[1:][1:3]) == [bufs[2], bufs[3]]
    assert bufs[::-2] == [bufs[4], bufs[2], bufs[0]]
    assert isinstance(bufs[1:], c.memif_buffers)
    for wrong in (5, -6, 1 << 70):
        with pytest.raises(IndexError):
            bufs[wrong]
    with pytest.raises(TypeError):
        bufs["a"]  # type: ignore[call-overload]
    for count in (-1, 65536, 1 << 70):
        with pytest.raises(MemifValueError):
            c.memif_buffers(count)
    with pytest.raises(MemifTypeError):
        c.memif_buffers("a")  # type: ignore[arg-type]
    for take in (copy.copy, pickle.dumps):
        with pytest.raises(TypeError):
            take(bufs)


@BOTH
def test_a_burst_by_columns(socket_path: str, sender: str) -> None:
    rows = np.arange(8 * 64, dtype=np.uint32).astype(np.uint8).reshape(8, 64)
    with pair(socket_path) as link:
        tx, rx = ends(link, sender)
        bufs, got = c.memif_buffers(10), c.memif_buffers(10)
        assert c.memif_buffer_alloc(tx.conn, 0, bufs, 8, 64) == (OK, 8)
        assert bufs.lengths.tolist() == [64] * 8 + [0, 0]
        bufs.lengths[3] = 7
        assert bufs[3].len == 7
        bufs.scatter(rows, 8)
        assert c.memif_tx_burst(tx.conn, 0, bufs, 8) == (OK, 8)
        assert c.memif_rx_burst(rx.conn, 0, got, 10) == (OK, 8)
        assert got.lengths[:8].tolist() == [64, 64, 64, 7, 64, 64, 64, 64]
        wanted = rows.copy()
        wanted[3, 7:] = 0
        assert (got.gather(64, 8) == wanted).all()
        out = np.full((9, 64), 255, np.uint8)
        assert (got.gather(64, 8, out) == wanted).all()
        assert (out[8] == 255).all()
        assert (got[2:].gather(8, 3) == wanted[2:5, :8]).all()
        assert got.tobytes(8) == [bytes(row)[:n] for row, n in zip(rows, got.lengths.tolist(), strict=False)]
        assert c.memif_refill_queue(rx.conn, 0, 8) == OK


@BOTH
def test_a_burst_of_bytes_and_part_of_the_array(socket_path: str, sender: str) -> None:
    packets = [bytes([n]) * (n + 1) for n in range(6)]
    with pair(socket_path) as link:
        tx, rx = ends(link, sender)
        bufs, got = c.memif_buffers(6), c.memif_buffers(6)
        assert c.memif_buffer_alloc(tx.conn, 0, bufs, 2) == (OK, 2)
        assert c.memif_buffer_alloc(tx.conn, 0, bufs[2:], 4) == (OK, 4)
        assert bufs.copy_from(packets[:5]) == 5
        bufs[5].copy_from(memoryview(packets[5]))
        assert bufs.lengths.tolist() == [1, 2, 3, 4, 5, 6]
        assert c.memif_tx_burst(tx.conn, 0, bufs, 2) == (OK, 2)
        assert c.memif_tx_burst(tx.conn, 0, bufs[2:], 4) == (OK, 4)
        assert c.memif_rx_burst(rx.conn, 0, got, 3) == (c.MEMIF_ERR_NOBUF, 3)
        assert c.memif_rx_burst(rx.conn, 0, got[3:], 3) == (OK, 3)
        assert [bytes(buf) for buf in got] == packets
        assert got.tobytes() == packets
        assert [got[i].desc_index for i in range(6)] == list(range(6))


@BOTH
def test_lengths_that_cannot_be_sent(socket_path: str, sender: str) -> None:
    with pair(socket_path) as link:
        tx, rx = ends(link, sender)
        bufs = c.memif_buffers(4)
        assert c.memif_buffer_alloc(tx.conn, 0, bufs, 4) == (OK, 4)
        for wrong in (0, 2049, 0xFFFFFFFF):
            bufs.lengths[:] = wrong
            assert c.memif_tx_burst(tx.conn, 0, bufs, 4) == (INVALID, 0)
            assert len(bufs.gather(4)) == 4
            bufs.scatter(np.zeros((4, 4096), np.uint8))  # not behind the buffers' ends
        with pytest.raises(MemifValueError):
            bufs.copy_from([b"a", bytes(2049)])
        assert bufs[0].len == 1
        with pytest.raises(MemifValueError):
            bufs[0].copy_from(bytes(2049))
        with pytest.raises(MemifTypeError):
            bufs[0].copy_from("text")  # type: ignore[arg-type]
        with pytest.raises(MemifTypeError):
            bufs.copy_from(b"text")  # type: ignore[arg-type]
        assert c.memif_tx_burst(tx.conn, 0, bufs, 1) == (OK, 1)
        assert rx.receive(4) == [b"a"]
        assert c.memif_tx_burst(tx.conn, 0, bufs, 1) == (INVALID, 0)  # sent already


def test_buffers_of_several_rings_and_of_none(socket_path: str) -> None:
    with pair(socket_path) as (master, slave):
        bufs = c.memif_buffers(4)
        assert c.memif_buffer_alloc(master.conn, 0, bufs, 2, 60) == (OK, 2)
        with pytest.raises(BufferError):
            bufs.gather(4)
        with pytest.raises(BufferError):
            bufs.scatter(np.zeros((4, 4), np.uint8))
        with pytest.raises(BufferError):
            bufs.copy_from([b"a"] * 4)
        with pytest.raises(BufferError):
            bufs.tobytes()
        assert c.memif_buffer_alloc(slave.conn, 0, bufs[2:], 2, 60) == (OK, 2)
        bufs.lengths[:] = 60
        rows = np.arange(16, dtype=np.uint8).reshape(4, 4)
        bufs.scatter(rows)
        assert (bufs.gather(4) == rows).all()
        assert c.memif_tx_burst(master.conn, 0, bufs, 4) == (INVALID, 2)
        assert c.memif_tx_burst(slave.conn, 0, bufs[2:], 2) == (OK, 2)
        for wrong in ({"count": 5}, {"count": -1}, {"out": np.zeros((3, 4), np.uint8)}):
            with pytest.raises(MemifValueError):
                bufs.gather(4, **wrong)
        for width in (0, 65537):
            with pytest.raises(MemifValueError):
                bufs.gather(width)
        with pytest.raises(MemifValueError):
            bufs.scatter(rows[:3])


@pytest.mark.parametrize("conn", ["gone", "there"])
def test_the_memory_stays_while_a_buffer_stands_for_it(socket_path: str, conn: str) -> None:
    with pair(socket_path) as (master, slave):
        bufs = c.memif_buffers(3)
        master.send(b"one", b"two", b"three")
        assert c.memif_rx_burst(slave.conn, 0, bufs, 3) == (OK, 3)
        lengths, first = bufs.lengths, bufs[0]
        if conn == "gone":
            c.memif_delete(slave.conn)
            poll_until(lambda: not master.up)
            assert c.memif_rx_burst(slave.conn, 0, bufs, 3)[0] != OK
        assert bufs.tobytes() == [b"one", b"two", b"three"]
        assert bufs.gather(3).tobytes() == b"onetwothr"
        del bufs
        assert lengths.tolist() == [3, 3, 5]
        lengths[0] = 2
        assert bytes(first) == b"on"


def test_data_is_one_view_while_nothing_changes(socket_path: str) -> None:
    with pair(socket_path) as (master, slave):
        buf = c.memif_buffer_t()
        for turn in range(3000):
            master.send(b"packet %d" % turn)
            assert c.memif_rx_burst(slave.conn, 0, [buf], 1) == (OK, 1)
            assert bytes(buf.data) == b"packet %d" % turn
            with buf.data as view:  # releases it
                assert view[0] == ord("p")
            one, other = buf.data, buf.data
            one.release()
            assert bytes(other) == b"packet %d" % turn == bytes(buf.data)
            assert c.memif_refill_queue(slave.conn, 0, 1) == OK


@pytest.mark.parametrize("wrong", [(), None, 5, b"", {}, (c.memif_buffer_t(),)])
def test_only_lists_and_arrays(socket_path: str, wrong: Any) -> None:
    with pair(socket_path) as (master, slave):
        short = c.memif_buffers(2)
        for end in (master, slave):
            for bufs in (wrong, short):
                assert c.memif_rx_burst(end.conn, 0, bufs, 3) == (INVALID, 0)
                assert c.memif_buffer_alloc(end.conn, 0, bufs, 3) == (INVALID, 0)
                assert c.memif_tx_burst(end.conn, 0, bufs, 3) == (INVALID, 0)
                assert c.memif_buffer_enq_tx(end.conn, 0, bufs, 3) == (INVALID, 0)
