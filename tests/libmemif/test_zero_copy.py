"""memif_buffer_enq_tx: received buffers go out again without a copy."""

import pytest

from libmemif.rig import End, buffers, pair, poll_until
from memif import libmemif as c

SMALL = {"log2_ring_size": 3, "buffer_size": 128}
OK, FULL, INVALID = c.MEMIF_ERR_SUCCESS, c.MEMIF_ERR_NOBUF_RING, c.MEMIF_ERR_INVAL_ARG


def bounce(slave: End, count: int) -> int:
    """Answer up to `count` packets in place. -> how many."""
    bufs = buffers(count)
    _, n = c.memif_rx_burst(slave.conn, 0, bufs, count)
    for buf in bufs[:n]:
        buf.data[:1] = b"R"
    err, moved = c.memif_buffer_enq_tx(slave.conn, 0, bufs, n)
    assert err in (OK, FULL)
    assert c.memif_tx_burst(slave.conn, 0, bufs, moved) == (OK, moved)
    assert c.memif_refill_queue(slave.conn, 0, n) == OK
    return moved


def test_in_place_for_many_rounds(socket_path: str) -> None:
    with pair(socket_path, slave=SMALL) as (master, slave):
        for turn in range(3000):
            data = [b"q%d.%d" % (turn, i) for i in range(1 + turn % 8)]
            assert master.send(*data) == len(data)
            assert bounce(slave, 8) == len(data)
            assert master.receive(8) == [b"R" + packet[1:] for packet in data]


def test_nothing_is_copied(socket_path: str) -> None:
    with pair(socket_path) as (master, slave):
        master.send(b"same bytes")
        bufs = buffers(1)
        c.memif_rx_burst(slave.conn, 0, bufs, 1)
        view = bufs[0].data
        assert c.memif_buffer_enq_tx(slave.conn, 0, bufs, 1) == (OK, 1)
        assert (bufs[0].flags, bufs[0].len, len(bufs[0].data)) == (0, 10, 2048)
        view[:4] = b"SAME"
        assert c.memif_tx_burst(slave.conn, 0, bufs, 1) == (OK, 1)
        assert master.receive(2) == [b"SAME bytes"]


def test_a_full_ring_counts_what_fitted(socket_path: str) -> None:
    with pair(socket_path, slave=SMALL) as (master, slave):
        slave.send(*[b"old"] * 5)
        master.send(*[b"new%d" % i for i in range(8)])
        bufs = buffers(8)
        assert c.memif_rx_burst(slave.conn, 0, bufs, 8) == (OK, 8)
        assert c.memif_buffer_enq_tx(slave.conn, 0, bufs, 8) == (FULL, 3)
        assert c.memif_buffer_enq_tx(slave.conn, 0, bufs[3:], 5) == (FULL, 0)
        assert c.memif_tx_burst(slave.conn, 0, bufs, 3) == (OK, 3)
        assert len(master.receive(8)) == 8
        assert c.memif_buffer_enq_tx(slave.conn, 0, bufs[3:], 5) == (OK, 5)
        assert c.memif_tx_burst(slave.conn, 0, bufs[3:], 5) == (OK, 5)
        assert master.receive(8) == [b"new%d" % i for i in range(3, 8)]


def test_what_is_refused(socket_path: str) -> None:
    with pair(socket_path, slave=SMALL) as (master, slave):
        slave.send(b"x")
        bufs, free = buffers(3), buffers(1)
        assert c.memif_rx_burst(master.conn, 0, bufs, 1) == (OK, 1)
        assert c.memif_buffer_enq_tx(master.conn, 0, bufs, 1) == (INVALID, 0)  # a master
        assert c.memif_buffer_enq_tx(slave.conn, 0, bufs, 1) == (INVALID, 0)  # of another connection
        assert c.memif_buffer_enq_tx(slave.conn, 0, buffers(1), 1) == (INVALID, 0)  # never filled
        assert c.memif_buffer_alloc(slave.conn, 0, free, 1) == (OK, 1)
        assert c.memif_buffer_enq_tx(slave.conn, 0, free, 1) == (INVALID, 0)  # not received
        assert c.memif_set_next_free_buffer(slave.conn, 0, free[0]) == OK
        master.send(b"a", b"b", b"c")
        assert c.memif_rx_burst(slave.conn, 0, bufs, 3) == (OK, 3)
        assert c.memif_refill_queue(slave.conn, 0, 1) == OK
        assert c.memif_buffer_enq_tx(slave.conn, 0, bufs, 3) == (INVALID, 0)  # refilled
        assert c.memif_buffer_enq_tx(slave.conn, 0, [bufs[1], bufs[1]], 2) == (INVALID, 1)  # given away already
        assert c.memif_tx_burst(slave.conn, 0, [bufs[1]], 1) == (OK, 1)
        assert c.memif_buffer_enq_tx(slave.conn, 0, [bufs[1]], 1) == (INVALID, 0)  # sent
        assert master.receive(2) == [b"b"]


def test_a_received_buffer_of_an_earlier_connection(socket_path: str) -> None:
    with pair(socket_path) as (master, slave):
        master.send(b"x")
        bufs = buffers(1)
        assert c.memif_rx_burst(slave.conn, 0, bufs, 1) == (OK, 1)
        c.memif_delete(master.conn)
        poll_until(lambda: not slave.up)
        assert c.memif_buffer_enq_tx(slave.conn, 0, bufs, 1) == (c.MEMIF_ERR_DISCONNECTED, 0)
        End(socket_path, is_master=1)
        poll_until(lambda: slave.up)
        assert c.memif_buffer_enq_tx(slave.conn, 0, bufs, 1) == (INVALID, 0)


@pytest.mark.parametrize("count", [1, 5])
def test_a_header_in_front_by_headroom(socket_path: str, count: int) -> None:
    with pair(socket_path, slave={"headroom": 14, **SMALL}) as (master, slave):
        for _ in range(50):
            master.send(*[b"ip packet"] * count)
            bufs = buffers(count)
            assert c.memif_rx_burst(slave.conn, 0, bufs, count) == (OK, count)
            assert c.memif_buffer_enq_tx(slave.conn, 0, bufs, count) == (OK, count)
            for buf in bufs:
                buf.prepend(14)
                buf.data[:14] = b"ethernetheader"
            assert c.memif_tx_burst(slave.conn, 0, bufs, count) == (OK, count)
            assert c.memif_refill_queue(slave.conn, 0, count, 14) == OK
            assert master.receive(8) == [b"ethernetheaderip packet"] * count


def test_chains_stay_whole(socket_path: str) -> None:
    with pair(socket_path, slave=SMALL) as (master, slave):
        bufs, got = buffers(8), buffers(8)
        c.memif_buffer_alloc(master.conn, 0, bufs, 1, 300)
        for buf in bufs[:3]:
            buf.data[: buf.len] = b"z" * buf.len
        assert c.memif_tx_burst(master.conn, 0, bufs, 3) == (OK, 3)
        assert bounce(slave, 8) == 3
        assert c.memif_rx_burst(master.conn, 0, got, 8) == (OK, 3)
        assert [(buf.len, buf.flags & 1) for buf in got[:3]] == [(128, 1), (128, 1), (44, 0)]


def test_alloc_after_a_move_starts_at_the_buffer_s_start(socket_path: str) -> None:
    with pair(socket_path, slave={"headroom": 20, **SMALL}) as (master, slave):
        for _ in range(10):
            master.send(b"x" * 100)
            bounce(slave, 1)
            assert len(master.receive(1)[0]) == 100
        bufs = buffers(8)
        assert c.memif_buffer_alloc(slave.conn, 0, bufs, 8) == (OK, 8)
        assert {(len(buf.data), buf.headroom) for buf in bufs} == {(128, 0)}
