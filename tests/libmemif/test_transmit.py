"""memif_buffer_alloc, memif_tx_burst and what 4.0 added to them: results, counts, order, chains."""

from typing import Any

import pytest

from libmemif.rig import End, buffers, pair, poll_until
from memif import libmemif as c

SMALL = {"log2_ring_size": 3, "buffer_size": 128}
BOTH = pytest.mark.parametrize("sender", ["slave", "master"])
OK, FULL, INVALID = c.MEMIF_ERR_SUCCESS, c.MEMIF_ERR_NOBUF_RING, c.MEMIF_ERR_INVAL_ARG


def ends(link: tuple[End, End], sender: str) -> tuple[End, End]:
    """(sending end, receiving end)."""
    return link if sender == "master" else link[::-1]


def fill(bufs: list[c.memif_buffer_t], *packets: bytes) -> None:
    """Write packets into allocated buffers."""
    for buf, packet in zip(bufs, packets, strict=False):
        buf.data[: len(packet)] = packet
        buf.len = len(packet)


# -- memif_buffer_alloc


@BOTH
def test_alloc_gives_whole_buffers(socket_path: str, sender: str) -> None:
    with pair(socket_path) as link:
        tx, _ = ends(link, sender)
        bufs = buffers(8)
        assert c.memif_buffer_alloc(tx.conn, 0, bufs, 2) == (OK, 2)
        assert c.memif_buffer_alloc(tx.conn, 0, bufs[2:], 2, 0) == (OK, 2)
        assert c.memif_buffer_alloc(tx.conn, 0, bufs[4:], 2, 60) == (OK, 2)
        assert [buf.len for buf in bufs[:6]] == [2048] * 4 + [60] * 2
        assert [len(buf.data) for buf in bufs[:6]] == [2048] * 6
        assert [buf.desc_index for buf in bufs[:6]] == list(range(6))
        assert {buf.flags for buf in bufs} == {0}
        assert not any(buf.data.readonly for buf in bufs[:6])
        assert c.memif_buffer_alloc(tx.conn, 0, [], 0) == (OK, 0)


@BOTH
def test_alloc_of_a_full_ring_counts_what_fitted(socket_path: str, sender: str) -> None:
    with pair(socket_path, slave=SMALL) as link:
        tx, rx = ends(link, sender)
        bufs = buffers(12)
        assert c.memif_buffer_alloc(tx.conn, 0, bufs, 12) == (FULL, 8)
        assert c.memif_buffer_alloc(tx.conn, 0, bufs[8:], 1) == (FULL, 0)
        fill(bufs, *[b"x"] * 8)
        assert c.memif_tx_burst(tx.conn, 0, bufs, 8) == (OK, 8)
        assert c.memif_buffer_alloc(tx.conn, 0, bufs, 1) == (FULL, 0)
        assert len(rx.receive(5)) == 5
        assert c.memif_buffer_alloc(tx.conn, 0, bufs, 12) == (FULL, 5)


@BOTH
def test_alloc_chains_what_exceeds_the_buffer(socket_path: str, sender: str) -> None:
    with pair(socket_path, slave=SMALL) as link:
        tx, rx = ends(link, sender)
        bufs = buffers(8)
        assert c.memif_buffer_alloc(tx.conn, 0, bufs, 3, 300) == (FULL, 6)  # never a part of a chain
        assert [(buf.len, buf.flags) for buf in bufs[:6]] == [(128, 1), (128, 1), (44, 0)] * 2
        assert c.memif_buffer_alloc(tx.conn, 0, bufs[6:], 1, 129) == (OK, 2)
        for buf in bufs:
            buf.data[: buf.len] = b"c" * buf.len
        assert c.memif_tx_burst(tx.conn, 0, bufs, 8) == (OK, 8)
        assert rx.receive(8) == [b"c" * n for n in (128, 128, 44, 128, 128, 44, 128, 1)]


@BOTH
def test_alloc_of_chains_stops_where_bufs_end(socket_path: str, sender: str) -> None:
    with pair(socket_path, slave=SMALL) as link:
        tx, _ = ends(link, sender)
        bufs = buffers(5)
        assert c.memif_buffer_alloc(tx.conn, 0, bufs, 2, 300) == (FULL, 3)
        assert c.memif_buffer_alloc(tx.conn, 0, bufs[3:], 1, 256) == (OK, 2)


@BOTH
@pytest.mark.parametrize("size", [-1, 65537, "x", 1.5, 2**70])
def test_alloc_refuses_sizes(socket_path: str, sender: str, size: Any) -> None:
    with pair(socket_path) as link:
        tx, _ = ends(link, sender)
        assert c.memif_buffer_alloc(tx.conn, 0, buffers(4), 1, size) == (INVALID, 0)


@BOTH
def test_alloc_of_what_the_ring_can_never_hold(socket_path: str, sender: str) -> None:
    with pair(socket_path, slave=SMALL) as link:
        tx, _ = ends(link, sender)
        bufs = buffers(9)
        assert c.memif_buffer_alloc(tx.conn, 0, bufs, 1, 8 * 128) == (OK, 8)
        assert c.memif_set_next_free_buffer(tx.conn, 0, bufs[0]) == OK
        assert c.memif_buffer_alloc(tx.conn, 0, bufs, 1, 8 * 128 + 1) == (INVALID, 0)


@BOTH
@pytest.mark.parametrize(
    ("bufs", "count"),
    [
        (None, 1),
        ([], 1),
        ([None], 1),
        ([c.memif_buffer_t()], 2),
        ([c.memif_buffer_t()], -1),
        ("x", 1),
        ([c.memif_buffer_t()], "x"),
        ({}, 0),
        ([c.memif_buffer_t()], 65536),
    ],
)
def test_bad_arguments(socket_path: str, sender: str, bufs: Any, count: Any) -> None:
    with pair(socket_path) as link:
        tx, _ = ends(link, sender)
        assert c.memif_buffer_alloc(tx.conn, 0, bufs, count) == (INVALID, 0)
        assert c.memif_tx_burst(tx.conn, 0, bufs, count) == (INVALID, 0)
        assert c.memif_buffer_enq_tx(tx.conn, 0, bufs, count) == (INVALID, 0)
        assert c.memif_buffer_alloc(tx.conn, 0, [c.memif_buffer_t(), None], 1, 60) == (INVALID, 0)


# -- memif_tx_burst


@BOTH
def test_parts_of_several_allocations_go_in_order(socket_path: str, sender: str) -> None:
    with pair(socket_path) as link:
        tx, rx = ends(link, sender)
        one, two = buffers(4), buffers(4)
        assert c.memif_buffer_alloc(tx.conn, 0, one, 4, 60) == (OK, 4)
        assert c.memif_buffer_alloc(tx.conn, 0, two, 4, 60) == (OK, 4)
        fill(two, b"4", b"5", b"6", b"7")
        fill(one, b"0", b"1", b"2", b"3")
        assert c.memif_tx_burst(tx.conn, 0, one, 3) == (OK, 3)
        assert rx.receive(9) == [b"0", b"1", b"2"]
        assert c.memif_tx_burst(tx.conn, 0, [one[3], *two[:2]], 3) == (OK, 3)
        assert c.memif_tx_burst(tx.conn, 0, two[2:], 2) == (OK, 2)
        assert rx.receive(9) == [b"3", b"4", b"5", b"6", b"7"]
        assert c.memif_tx_burst(tx.conn, 0, two, 0) == (OK, 0)


@BOTH
def test_wrong_order_is_refused_from_there_on(socket_path: str, sender: str) -> None:
    with pair(socket_path) as link:
        tx, rx = ends(link, sender)
        bufs = buffers(4)
        c.memif_buffer_alloc(tx.conn, 0, bufs, 4)
        fill(bufs, b"0", b"1", b"2", b"3")
        assert c.memif_tx_burst(tx.conn, 0, bufs[1:], 1) == (INVALID, 0)
        assert c.memif_tx_burst(tx.conn, 0, [bufs[0], bufs[2], bufs[1]], 3) == (INVALID, 1)
        assert rx.receive(9) == [b"0"]
        assert c.memif_tx_burst(tx.conn, 0, [bufs[1], bufs[1]], 2) == (INVALID, 1)
        assert c.memif_tx_burst(tx.conn, 0, bufs[2:], 2) == (OK, 2)
        assert rx.receive(9) == [b"1", b"2", b"3"]


@BOTH
@pytest.mark.parametrize("length", [0, 129, 2**32 - 1])
def test_lengths_are_checked(socket_path: str, sender: str, length: int) -> None:
    with pair(socket_path, slave=SMALL) as link:
        tx, rx = ends(link, sender)
        bufs = buffers(3)
        c.memif_buffer_alloc(tx.conn, 0, bufs, 3)
        fill(bufs, b"a", b"b", b"c")
        bufs[1].len = length
        assert c.memif_tx_burst(tx.conn, 0, bufs, 3) == (INVALID, 1)
        bufs[1].len = 128
        assert c.memif_tx_burst(tx.conn, 0, bufs[1:], 2) == (OK, 2)
        assert [len(packet) for packet in rx.receive(4)] == [1, 128, 1]


@BOTH
def test_foreign_and_stale_buffers_are_refused(socket_path: str, sender: str) -> None:
    two = {"num_s2m_rings": 2, "num_m2s_rings": 2}
    with pair(socket_path, slave={**two, **SMALL}) as link:
        tx, rx = ends(link, sender)
        bufs, other, received = buffers(2), buffers(1), buffers(1)
        rx.send(b"r")
        assert c.memif_rx_burst(tx.conn, 0, received, 1) == (OK, 1)
        c.memif_buffer_alloc(tx.conn, 0, bufs, 2)
        c.memif_buffer_alloc(tx.conn, 1, other, 1)
        assert c.memif_tx_burst(tx.conn, 0, other, 1) == (INVALID, 0)  # another queue's
        assert c.memif_tx_burst(tx.conn, 0, received, 1) == (INVALID, 0)  # a received one
        assert c.memif_tx_burst(tx.conn, 0, buffers(1), 1) == (INVALID, 0)  # never filled
        assert c.memif_tx_burst(tx.conn, 0, bufs, 2) == (OK, 2)
        assert c.memif_tx_burst(tx.conn, 0, bufs, 2) == (INVALID, 0)  # sent already
        for _ in range(70000 // 8):  # the same 16 bit index again
            rx.receive(8)
            tx.send(*[b"x"] * 8)
        assert c.memif_tx_burst(tx.conn, 0, bufs, 2) == (INVALID, 0)


@BOTH
def test_buffers_of_an_earlier_connection_are_refused(socket_path: str, sender: str) -> None:
    with pair(socket_path) as link:
        tx, rx = ends(link, sender)
        bufs = buffers(1)
        c.memif_buffer_alloc(tx.conn, 0, bufs, 1, 60)
        old = bufs[0].data
        assert c.memif_delete(rx.conn) == OK
        poll_until(lambda: not tx.up)
        assert c.memif_tx_burst(tx.conn, 0, bufs, 1) == (c.MEMIF_ERR_DISCONNECTED, 0)
        assert c.memif_buffer_alloc(tx.conn, 0, bufs, 1) == (c.MEMIF_ERR_DISCONNECTED, 0)
        again = End(socket_path, is_master=int(sender == "slave"))
        poll_until(lambda: tx.up and again.up)
        assert c.memif_tx_burst(tx.conn, 0, bufs, 1) == (INVALID, 0)
        bufs[0].data[:3] = old[:3] = b"old"  # harmless: the old memory is still there
        assert c.memif_buffer_alloc(tx.conn, 0, bufs, 1) == (OK, 1)
        assert c.memif_tx_burst(tx.conn, 0, bufs, 1) == (OK, 1)


@BOTH
def test_chains_by_hand_are_never_cut(socket_path: str, sender: str) -> None:
    with pair(socket_path) as link:
        tx, rx = ends(link, sender)
        bufs, got = buffers(4), buffers(4)
        c.memif_buffer_alloc(tx.conn, 0, bufs, 4)
        fill(bufs, b"one", b"two,", b"goes on,", b"ends")
        bufs[1].flags = bufs[2].flags = c.MEMIF_BUFFER_FLAG_NEXT | 0xF0  # other bits never reach the peer
        assert c.memif_tx_burst(tx.conn, 0, bufs, 3) == (INVALID, 1)
        assert c.memif_tx_burst(tx.conn, 0, bufs[1:], 3) == (OK, 3)
        assert c.memif_rx_burst(rx.conn, 0, got, 4) == (OK, 4)
        assert [buf.flags & ~c.MEMIF_BUFFER_FLAG_RX for buf in got] == [0, 1, 1, 0]


def test_a_packet_beyond_64_kib_is_refused(socket_path: str) -> None:
    with pair(socket_path, slave={"buffer_size": 65535, "log2_ring_size": 3}) as (_, slave):
        bufs = buffers(3)
        c.memif_buffer_alloc(slave.conn, 0, bufs, 3)
        bufs[0].flags = 1
        assert c.memif_tx_burst(slave.conn, 0, bufs, 2) == (INVALID, 0)


@BOTH
def test_the_peer_is_signalled_once_a_burst(socket_path: str, sender: str) -> None:
    with pair(socket_path, **{"slave" if sender == "master" else "master": {"interrupts": True}}) as link:
        tx, rx = ends(link, sender)
        tx.send(*[b"x"] * 10)
        poll_until(lambda: rx.interrupts)
        assert len(rx.receive(16)) == 10
        rx.interrupts.clear()
        c.memif_poll_event(10)
        assert rx.interrupts == []


# -- 4.0: memif_set_next_free_buffer, memif_buffer_requeue


@BOTH
def test_allocations_can_be_taken_back(socket_path: str, sender: str) -> None:
    with pair(socket_path, slave=SMALL) as link:
        tx, rx = ends(link, sender)
        bufs = buffers(8)
        assert c.memif_buffer_alloc(tx.conn, 0, bufs, 8) == (OK, 8)
        fill(bufs, *[b"%d" % i for i in range(8)])
        assert c.memif_tx_burst(tx.conn, 0, bufs, 2) == (OK, 2)
        assert c.memif_set_next_free_buffer(tx.conn, 0, bufs[3]) == OK
        assert c.memif_set_next_free_buffer(tx.conn, 0, bufs[3]) == INVALID  # free already
        assert c.memif_set_next_free_buffer(tx.conn, 0, bufs[0]) == INVALID  # sent
        for wrong in (None, "x", c.memif_buffer_t()):
            assert c.memif_set_next_free_buffer(tx.conn, 0, wrong) == INVALID  # type: ignore[arg-type]
        again = buffers(8)
        assert c.memif_buffer_alloc(tx.conn, 0, again, 8) == (FULL, 5)
        assert {len(buf.data) for buf in again[:5]} == {128}
        fill(again, *[b"new %d" % i for i in range(5)])
        assert c.memif_tx_burst(tx.conn, 0, [bufs[2], bufs[3]], 2) == (INVALID, 1)
        assert c.memif_tx_burst(tx.conn, 0, again, 5) == (OK, 5)
        assert rx.receive(9) == [b"0", b"1", b"2", *[b"new %d" % i for i in range(5)]]


def test_requeue_lets_packets_overtake(socket_path: str) -> None:
    with pair(socket_path) as (master, slave):
        bufs = buffers(3)
        c.memif_buffer_alloc(slave.conn, 0, bufs, 3)
        fill(bufs, b"a", b"b", b"c")
        assert c.memif_buffer_requeue(slave.conn, bufs[0], bufs[2]) == OK
        assert [buf.desc_index for buf in bufs] == [2, 1, 0]
        assert c.memif_tx_burst(slave.conn, 0, bufs, 1) == (INVALID, 0)
        assert c.memif_tx_burst(slave.conn, 0, bufs[::-1], 3) == (OK, 3)
        assert master.receive(4) == [b"c", b"b", b"a"]
        slave.send(*[b"%d" % i for i in range(1021)])  # every buffer is still used once
        assert master.receive(1024) == [b"%d" % i for i in range(1021)]


def test_requeue_between_a_received_and_an_allocated_buffer(socket_path: str) -> None:
    with pair(socket_path, slave=SMALL) as (master, slave):
        for turn in range(20):
            got, free = buffers(1), buffers(1)
            master.send(b"in %d" % turn)
            assert c.memif_rx_burst(slave.conn, 0, got, 1) == (OK, 1)
            assert c.memif_buffer_alloc(slave.conn, 0, free, 1) == (OK, 1)
            assert c.memif_buffer_requeue(slave.conn, got[0], free[0]) == OK
            assert got[0].flags == 0
            assert free[0].flags == c.MEMIF_BUFFER_FLAG_RX
            assert c.memif_tx_burst(slave.conn, 0, got, 1) == (OK, 1)
            assert c.memif_refill_queue(slave.conn, 0, 1) == OK
            assert master.receive(2) == [b"in %d" % turn]


def test_requeue_refuses(socket_path: str) -> None:
    with pair(socket_path) as (master, slave):
        mine, theirs, got = buffers(2), buffers(2), buffers(1)
        c.memif_buffer_alloc(slave.conn, 0, mine, 2)
        c.memif_buffer_alloc(master.conn, 0, theirs, 2)
        fill(theirs, b"x", b"y")
        assert c.memif_buffer_requeue(master.conn, *theirs) == INVALID
        assert c.memif_buffer_requeue(slave.conn, mine[0], theirs[0]) == INVALID
        assert c.memif_buffer_requeue(slave.conn, mine[0], c.memif_buffer_t()) == INVALID
        assert c.memif_buffer_requeue(slave.conn, None, mine[0]) == INVALID  # type: ignore[arg-type]
        c.memif_tx_burst(master.conn, 0, theirs, 2)
        c.memif_rx_burst(slave.conn, 0, got, 1)
        c.memif_refill_queue(slave.conn, 0, 1)
        assert c.memif_buffer_requeue(slave.conn, mine[0], got[0]) == INVALID  # refilled
        assert c.memif_buffer_requeue(slave.conn, mine[0], mine[0]) == OK
