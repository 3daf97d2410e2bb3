"""memif_rx_burst and memif_refill_queue: results, counts, order, chains, headroom, bad descriptors."""

from typing import Any

import pytest

from libmemif.rig import MANY, End, buffers, pair, poll_until
from memif import libmemif as c

SMALL = {"log2_ring_size": 3, "buffer_size": 128}
BOTH = pytest.mark.parametrize("receiver", ["master", "slave"])


def ends(link: tuple[End, End], receiver: str) -> tuple[End, End]:
    """(receiving end, sending end)."""
    return link if receiver == "master" else link[::-1]


def heads(end: End) -> tuple[int, int]:
    """Raw head and tail of the receive ring."""
    queue = c.memif_get_details(end.conn)[1].rx_queues[0]
    return queue.head, queue.tail


def test_empty_is_a_success(socket_path: str) -> None:
    with pair(socket_path) as link:
        for end in link:
            assert c.memif_rx_burst(end.conn, 0, buffers(4), 4) == (c.MEMIF_ERR_SUCCESS, 0)
            assert c.memif_rx_burst(end.conn, 0, [], 0) == (c.MEMIF_ERR_SUCCESS, 0)


@BOTH
def test_more_than_count_is_nobuf_with_data(socket_path: str, receiver: str) -> None:
    with pair(socket_path) as link:
        rx, tx = ends(link, receiver)
        tx.send(b"one", b"two", b"three")
        bufs = buffers(4)
        assert c.memif_rx_burst(rx.conn, 0, bufs, 2) == (c.MEMIF_ERR_NOBUF, 2)
        assert [bytes(buf.data) for buf in bufs[:2]] == [b"one", b"two"]
        assert c.memif_rx_burst(rx.conn, 0, bufs, 0) == (c.MEMIF_ERR_NOBUF, 0)
        assert c.memif_rx_burst(rx.conn, 0, bufs[2:], 2) == (c.MEMIF_ERR_SUCCESS, 1)
        assert bytes(bufs[2]) == b"three"
        assert [(buf.len, buf.flags, buf.desc_index) for buf in bufs[:3]] == [
            (3, c.MEMIF_BUFFER_FLAG_RX, 0),
            (3, c.MEMIF_BUFFER_FLAG_RX, 1),
            (5, c.MEMIF_BUFFER_FLAG_RX, 2),
        ]
        assert bufs[0].ring is bufs[0].queue is bufs[2].queue is not None
        assert c.memif_rx_burst(rx.conn, 0, bufs, 4) == (c.MEMIF_ERR_SUCCESS, 0)


@BOTH
@pytest.mark.parametrize(
    ("bufs", "count"),
    [
        (None, 1),
        ("x", 1),
        ([], 1),
        ([None], 1),
        ((c.memif_buffer_t(),), 1),
        ([c.memif_buffer_t()], 2),
        ([c.memif_buffer_t()], -1),
        ([c.memif_buffer_t()], None),
        ([c.memif_buffer_t()], 2**70),
        ([c.memif_buffer_t(), 5], 2),
        ([c.memif_buffer_t()] * 70000, 65536),
    ],
)
def test_bad_arguments(socket_path: str, receiver: str, bufs: Any, count: Any) -> None:
    with pair(socket_path) as link:
        rx, tx = ends(link, receiver)
        tx.send(b"kept")
        assert c.memif_rx_burst(rx.conn, 0, bufs, count) == (c.MEMIF_ERR_INVAL_ARG, 0)
        assert rx.receive(2) == [b"kept"]


@BOTH
def test_slots_come_back_by_refill_only(socket_path: str, receiver: str) -> None:
    with pair(socket_path, slave=SMALL) as link:
        rx, tx = ends(link, receiver)
        assert tx.send(*[b"%d" % i for i in range(9)]) == 8
        got = rx.receive(8, refill=False)
        assert got == [b"%d" % i for i in range(8)]
        assert tx.send(b"no room") == 0
        assert c.memif_refill_queue(rx.conn, 0, 3) == c.MEMIF_ERR_SUCCESS
        assert tx.send(b"8", b"9", b"10", b"11") == 3
        assert rx.receive(8) == [b"8", b"9", b"10"]  # gives 3 back
        assert c.memif_refill_queue(rx.conn, 0, 100) == c.MEMIF_ERR_SUCCESS  # the other 5
        assert tx.send(*[b"x"] * 9) == 8


@BOTH
@pytest.mark.parametrize("count", [-1, 0xFFFF])
def test_refill_as_many_as_possible(socket_path: str, receiver: str, count: int) -> None:
    with pair(socket_path, slave=SMALL) as link:
        rx, tx = ends(link, receiver)
        for _ in range(20000):  # the indices come round
            tx.send(*[b"x"] * 8)
            assert len(rx.receive(5, refill=False)) == 5
            assert c.memif_refill_queue(rx.conn, 0, count) == c.MEMIF_ERR_SUCCESS
            assert len(rx.receive(8, refill=False)) == 3
            assert c.memif_refill_queue(rx.conn, 0, count) == c.MEMIF_ERR_SUCCESS
        assert tx.send(*[b"x"] * 9) == 8


def test_a_slave_that_did_not_refill_gets_nothing(socket_path: str) -> None:
    with pair(socket_path, slave={"refill": False, **SMALL}) as (master, slave):
        assert master.send(b"x") == 0
        assert c.memif_refill_queue(slave.conn, 0, 2) == c.MEMIF_ERR_SUCCESS
        assert heads(slave) == (2, 0)
        assert master.send(b"a", b"b", b"c") == 2
        assert slave.receive(8) == [b"a", b"b"]
        assert heads(slave) == (4, 2)
        assert c.memif_refill_queue(slave.conn, 0, -1) == c.MEMIF_ERR_SUCCESS
        assert heads(slave) == (10, 2)


@pytest.mark.parametrize(
    ("count", "headroom"),
    [(-2, 0), (65536, 0), ("x", 0), (None, 0), (1, -1), (1, 128), (1, 65536), (1, "x"), (2**70, 0)],
)
def test_refill_refuses(socket_path: str, count: Any, headroom: Any) -> None:
    with pair(socket_path, slave=SMALL) as (master, slave):
        master.send(b"a")
        assert slave.receive(1, refill=False) == [b"a"]
        assert c.memif_refill_queue(slave.conn, 0, count, headroom) == c.MEMIF_ERR_INVAL_ARG
        assert heads(slave) == (8, 1)


def test_refill_has_c_s_oldest_form(socket_path: str) -> None:
    with pair(socket_path) as (master, slave):
        master.send(b"a", b"b")
        assert slave.receive(4, refill=False) == [b"a", b"b"]
        assert c.memif_refill_queue(slave.conn, 0) == c.MEMIF_ERR_SUCCESS
        assert heads(slave) == (1026, 2)


def test_headroom_moves_the_data_and_takes_room(socket_path: str) -> None:
    with pair(socket_path, slave={"headroom": 28, **SMALL}) as (master, slave):
        bufs = buffers(8)
        assert c.memif_buffer_alloc(master.conn, 0, bufs, 1) == (c.MEMIF_ERR_SUCCESS, 1)
        assert len(bufs[0].data) == 100
        bufs[0].data[:] = b"h" * 100
        assert c.memif_tx_burst(master.conn, 0, bufs, 1) == (c.MEMIF_ERR_SUCCESS, 1)
        assert c.memif_rx_burst(slave.conn, 0, bufs, 8) == (c.MEMIF_ERR_SUCCESS, 1)
        got = bufs[0]
        assert (got.len, got.room, got.headroom) == (100, 100, 28)
        got.prepend(14)
        got.data[:14] = b"ethernetheader"
        assert (got.len, got.headroom, bytes(got)) == (114, 14, b"ethernetheader" + b"h" * 100)
        with pytest.raises(ValueError, match="-114 to 14"):
            got.prepend(15)
        got.prepend(-100)
        assert (got.len, bytes(got.data)) == (14, b"h" * 14)
        # Refilled without headroom: the whole buffer again.
        assert c.memif_refill_queue(slave.conn, 0, 1, 0) == c.MEMIF_ERR_SUCCESS
        for _ in range(7):
            master.send(b"x")
        assert len(slave.receive(8, refill=False)) == 7
        assert c.memif_buffer_alloc(master.conn, 0, bufs, 1) == (c.MEMIF_ERR_SUCCESS, 1)
        assert bufs[0].room == 128


def test_a_master_has_no_headroom(socket_path: str) -> None:
    with pair(socket_path) as (master, slave):
        slave.send(b"data")
        bufs = buffers(1)
        assert c.memif_rx_burst(master.conn, 0, bufs, 1) == (c.MEMIF_ERR_SUCCESS, 1)
        assert (bufs[0].room, bufs[0].headroom) == (4, 0)
        with pytest.raises(ValueError, match="count"):
            bufs[0].prepend(1)


@BOTH
def test_chains_come_as_several_buffers(socket_path: str, receiver: str) -> None:
    with pair(socket_path, slave=SMALL) as link:
        rx, tx = ends(link, receiver)
        bufs = buffers(8)
        assert c.memif_buffer_alloc(tx.conn, 0, bufs, 2, 300) == (c.MEMIF_ERR_SUCCESS, 6)
        for buf in bufs[:6]:
            buf.data[: buf.len] = bytes([buf.desc_index]) * buf.len
        assert c.memif_tx_burst(tx.conn, 0, bufs, 6) == (c.MEMIF_ERR_SUCCESS, 6)
        got = buffers(8)
        assert c.memif_rx_burst(rx.conn, 0, got, 8) == (c.MEMIF_ERR_SUCCESS, 6)
        assert [buf.len for buf in got[:6]] == [128, 128, 44] * 2
        assert [buf.flags & c.MEMIF_BUFFER_FLAG_NEXT for buf in got[:6]] == [1, 1, 0] * 2
        assert b"".join(got[:6]) == b"".join(bytes([i]) * n for i, n in enumerate([128, 128, 44] * 2))
        assert c.memif_refill_queue(rx.conn, 0, 6) == c.MEMIF_ERR_SUCCESS
        assert tx.send(*[b"x"] * 9) == 8


@BOTH
def test_a_chain_longer_than_count_comes_in_parts(socket_path: str, receiver: str) -> None:
    with pair(socket_path, slave=SMALL) as link:
        rx, tx = ends(link, receiver)
        bufs = buffers(8)
        assert c.memif_buffer_alloc(tx.conn, 0, bufs, 1, 600) == (c.MEMIF_ERR_SUCCESS, 5)
        assert c.memif_tx_burst(tx.conn, 0, bufs, 5) == (c.MEMIF_ERR_SUCCESS, 5)
        tx.send(b"next")
        got = buffers(8)
        assert c.memif_rx_burst(rx.conn, 0, got, 2) == (c.MEMIF_ERR_NOBUF, 2)
        # What was not handed out is not given back either.
        assert c.memif_refill_queue(rx.conn, 0, -1) == c.MEMIF_ERR_SUCCESS
        assert tx.send(*[b"x"] * 8) == 4
        assert c.memif_rx_burst(rx.conn, 0, got[2:], 2) == (c.MEMIF_ERR_NOBUF, 2)
        assert c.memif_rx_burst(rx.conn, 0, got[4:], 2) == (c.MEMIF_ERR_NOBUF, 1)
        assert [buf.flags & 1 for buf in got[:5]] == [1, 1, 1, 1, 0]
        assert [buf.desc_index for buf in got[:5]] == [0, 1, 2, 3, 4]
        assert rx.receive(8) == [b"next", *[b"x"] * 4]


@BOTH
def test_a_whole_ring_at_once(socket_path: str, receiver: str) -> None:
    with pair(socket_path) as link:
        rx, tx = ends(link, receiver)
        data = [i.to_bytes(2, "little") * 30 for i in range(1024)]
        for _ in range(3):
            assert tx.send(*data) == 1024
            assert rx.receive(MANY) == data


def test_views_of_refilled_buffers_do_no_harm(socket_path: str) -> None:
    with pair(socket_path) as (master, slave):
        slave.send(b"seen")
        bufs = buffers(1)
        c.memif_rx_burst(master.conn, 0, bufs, 1)
        view = bufs[0].data
        c.memif_refill_queue(master.conn, 0, 1)
        c.memif_delete(master.conn)
        poll_until(lambda: not slave.up)
        assert bytes(view) == b"seen"
        assert bytes(bufs[0]) == b"seen"


def test_receiving_on_a_link_that_went(socket_path: str) -> None:
    with pair(socket_path) as (master, slave):
        slave.send(b"x")
        c.memif_delete(slave.conn)
        poll_until(lambda: not master.up)
        assert c.memif_rx_burst(master.conn, 0, buffers(1), 1) == (c.MEMIF_ERR_DISCONNECTED, 0)
        assert c.memif_refill_queue(master.conn, 0, 1) == c.MEMIF_ERR_DISCONNECTED
