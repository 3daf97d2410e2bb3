"""Allocations that are forgotten come back, and no buffer outlives what it points to."""

import gc
import os
from collections.abc import Callable
from typing import Any

import pytest

import memif
from libmemif.rig import End, buffers, initialised, pair, poll_until
from memif import libmemif as c
from memif.libmemif._buffers import Raw
from memif.libmemif._receive import ManualRxQueue, RawRx
from memif.libmemif._transmit import RawTx
from memif.ring import RxRing, TxRing

SMALL = {"log2_ring_size": 3, "buffer_size": 128}
OK, FULL, INVALID = c.MEMIF_ERR_SUCCESS, c.MEMIF_ERR_NOBUF_RING, c.MEMIF_ERR_INVAL_ARG
BOTH = pytest.mark.parametrize("sender", ["slave", "master"])


def ends(link: tuple[End, End], sender: str) -> tuple[End, End]:
    """(sending end, receiving end)."""
    return link if sender == "master" else link[::-1]


def works(tx: End, rx: End, turns: int = 3) -> None:
    """The whole ring can still be sent, in order."""
    for _ in range(turns):
        assert tx.send(*[b"%d" % i for i in range(8)]) == 8
        assert rx.receive(8) == [b"%d" % i for i in range(8)]


# -- forgotten allocations


@BOTH
@pytest.mark.parametrize("size", [0, 60, 300])
def test_allocating_into_the_same_buffers_again(socket_path: str, sender: str, size: int) -> None:
    with pair(socket_path, slave=SMALL) as link:
        tx, rx = ends(link, sender)
        bufs = buffers(8)
        for turn in range(30):
            err, n = c.memif_buffer_alloc(tx.conn, 0, bufs, 2, size)  # an early return between this and the sending
            assert (err, n) == (OK, 6 if size == 300 else 2)
            err, n = c.memif_buffer_alloc(tx.conn, 0, bufs, 1, 60)
            assert (err, n) == (OK, 1)
            bufs[0].data[:2] = b"%02d" % turn
            bufs[0].len = 2
            assert c.memif_tx_burst(tx.conn, 0, bufs, 1) == (OK, 1)
            assert rx.receive(8) == [b"%02d" % turn]
        works(tx, rx)


@BOTH
@pytest.mark.parametrize("forget", [lambda bufs: bufs.clear(), lambda bufs: bufs.reverse() or bufs.pop()])
def test_buffers_that_are_no_more(socket_path: str, sender: str, forget: Callable[[list[Any]], Any]) -> None:
    with pair(socket_path, slave=SMALL) as link:
        tx, rx = ends(link, sender)
        for _ in range(30):
            bufs = buffers(5)
            assert c.memif_buffer_alloc(tx.conn, 0, bufs, 5) == (OK, 5)
            forget(bufs)
            del bufs
            assert c.memif_buffer_alloc(tx.conn, 0, [], 0) == (OK, 0)
        works(tx, rx)


@BOTH
def test_buffers_that_a_collection_takes(socket_path: str, sender: str) -> None:
    with pair(socket_path, slave=SMALL) as link:
        tx, rx = ends(link, sender)
        loop: list[Any] = list(buffers(8))
        assert c.memif_buffer_alloc(tx.conn, 0, loop, 8) == (OK, 8)
        loop.append(loop)
        assert c.memif_buffer_alloc(tx.conn, 0, buffers(1), 1) == (FULL, 0)
        del loop
        gc.collect()
        works(tx, rx)


@BOTH
def test_what_came_before_a_forgotten_one_can_be_sent(socket_path: str, sender: str) -> None:
    with pair(socket_path, slave=SMALL) as link:
        tx, rx = ends(link, sender)
        kept, lost, later = buffers(2), buffers(2), buffers(2)
        for bufs in (kept, lost, later):
            assert c.memif_buffer_alloc(tx.conn, 0, bufs, 2, 1) == (OK, 2)
        kept[0].data[:1], kept[1].data[:1] = b"a", b"b"
        del lost
        assert c.memif_tx_burst(tx.conn, 0, kept, 2) == (OK, 2)
        assert c.memif_tx_burst(tx.conn, 0, later, 2) == (INVALID, 0)  # free as well: its turn could not come
        assert rx.receive(8) == [b"a", b"b"]
        works(tx, rx)


@BOTH
def test_a_forgotten_one_leaves_later_sending_alone_once_taken_back(socket_path: str, sender: str) -> None:
    """Taken back by hand and by its end, an allocation comes back once."""
    with pair(socket_path, slave=SMALL) as link:
        tx, rx = ends(link, sender)
        first, second = buffers(3), buffers(3)
        assert c.memif_buffer_alloc(tx.conn, 0, first, 3, 1) == (OK, 3)
        assert c.memif_set_next_free_buffer(tx.conn, 0, first[0]) == OK
        assert c.memif_buffer_alloc(tx.conn, 0, second, 3, 1) == (OK, 3)
        first.clear()
        for buf, letter in zip(second, (b"x", b"y", b"z"), strict=True):
            buf.data[:1] = letter
        assert c.memif_tx_burst(tx.conn, 0, second, 3) == (OK, 3)
        assert rx.receive(8) == [b"x", b"y", b"z"]
        works(tx, rx)


@BOTH
def test_a_full_ring_of_forgotten_ones(socket_path: str, sender: str) -> None:
    with pair(socket_path, slave=SMALL) as link:
        tx, rx = ends(link, sender)
        bufs = buffers(9)
        assert c.memif_buffer_alloc(tx.conn, 0, bufs, 9) == (FULL, 8)
        assert c.memif_buffer_alloc(tx.conn, 0, bufs[8:], 1) == (FULL, 0)
        assert c.memif_buffer_alloc(tx.conn, 0, bufs, 9) == (FULL, 8)  # its own again
        assert [buf.desc_index for buf in bufs[:8]] == list(range(8))
        assert c.memif_buffer_alloc(tx.conn, 0, bufs[4:], 1, 60) == (OK, 1)  # gives up four
        works(tx, rx) if c.memif_set_next_free_buffer(tx.conn, 0, bufs[0]) == OK else pytest.fail("lost too much")


def test_enqueued_buffers_that_are_filled_anew(socket_path: str) -> None:
    """Zero-copy, and an error before the sending."""
    with pair(socket_path, slave=SMALL) as (master, slave):
        bufs = buffers(8)
        for turn in range(40):
            master.send(b"%d" % turn)
            assert c.memif_rx_burst(slave.conn, 0, bufs, 8) == (OK, 1)
            assert c.memif_buffer_enq_tx(slave.conn, 0, bufs, 1) == (OK, 1)
            assert c.memif_refill_queue(slave.conn, 0, 1) == OK
            if turn % 4 == 0:
                assert c.memif_tx_burst(slave.conn, 0, bufs, 1) == (OK, 1)
                assert master.receive(2) == [b"%d" % turn]
        bufs.clear()
        works(slave, master)
        works(master, slave)


@BOTH
def test_buffers_that_change_to_another_queue(socket_path: str, sender: str) -> None:
    two = {"num_s2m_rings": 2, "num_m2s_rings": 2}
    with pair(socket_path, slave=SMALL | two) as link:
        tx, rx = ends(link, sender)
        bufs = buffers(8)
        for turn in range(20):
            assert c.memif_buffer_alloc(tx.conn, turn % 2, bufs, 8) == (OK, 8)
        bufs.clear()
        for qid in range(2):
            assert tx.send(*[b"q"] * 8, qid=qid) == 8
            assert rx.receive(8, qid=qid) == [b"q"] * 8


# -- views, and objects made by hand


def linked(path: str) -> tuple[End, memif.Socket, memif.Interface]:
    """Our master, and a slave by the core API."""
    master, plain = End(path, is_master=1), memif.Socket(path)
    slave = plain.interface(ring_size=8)
    poll_until(lambda: (plain.poll(0), master.up and slave.up)[1])
    return master, plain, slave


@pytest.mark.parametrize("look", [memoryview, lambda buf: buf.data, lambda buf: memoryview(memoryview(buf))])
def test_a_view_outlives_its_buffer_s_next_link(socket_path: str, look: Callable[[Any], memoryview]) -> None:
    bufs = buffers(1)
    views = []
    with initialised():
        for turn in range(3):
            master, plain, slave = linked(f"{socket_path}{turn}")
            slave.tx[0].send([b"link %d" % turn])
            assert c.memif_rx_burst(master.conn, 0, bufs, 1) == (OK, 1)
            views.append(look(bufs[0]))
            plain.close()
            c.memif_delete(master.conn)
            del master, plain, slave
            gc.collect()
        assert [bytes(view[:6]) for view in views] == [b"link 0", b"link 1", b"link 2"]
        views[0][:4] = b"mine"
        assert bytes(views[0][:6]) == b"mine 0"


@pytest.mark.parametrize("make", ["frombuffer", "ndarray", "asarray"])
def test_an_array_outlives_its_buffer_s_next_link(socket_path: str, make: str) -> None:
    numpy = pytest.importorskip("numpy")
    bufs = buffers(1)
    with initialised():
        master, plain, slave = linked(f"{socket_path}1")
        slave.tx[0].send([b"first"])
        c.memif_rx_burst(master.conn, 0, bufs, 1)
        if make == "ndarray":
            array = numpy.ndarray(5, numpy.uint8, bufs[0])
        else:
            array = numpy.frombuffer(bufs[0], numpy.uint8) if make == "frombuffer" else numpy.asarray(bufs[0])
        plain.close()
        c.memif_delete(master.conn)
        del master, plain, slave
        master, plain, slave = linked(f"{socket_path}2")
        slave.tx[0].send([b"other"])
        c.memif_rx_burst(master.conn, 0, bufs, 1)
        gc.collect()
        assert bytes(array) == b"first"
        plain.close()
        c.memif_delete(master.conn)
        del array, master, plain, slave  # nor is the first link's memory kept for ever
        master, plain, slave = linked(f"{socket_path}3")
        slave.tx[0].send([b"third"])
        c.memif_rx_burst(master.conn, 0, bufs, 1)
        gc.collect()
        with open("/proc/self/maps") as maps:
            assert sum("memfd:memif" in line for line in maps) == 2  # both ends of the third
        plain.close()


@pytest.mark.parametrize("call", ["rx", "alloc"])
def test_a_finalizer_in_the_middle_of_a_call(socket_path: str, call: str) -> None:
    """The last buffer of an old link is filled anew: its memory goes, which runs the allocator's code, which empties
    the list that the call works on."""
    bufs = buffers(4)
    gone: list[int] = []

    def give_back(memory: Any) -> None:
        gone.append(len(bufs))
        bufs.clear()
        os.close(memory)

    def alloc(size: int) -> int:
        fd = os.memfd_create("lost", os.MFD_CLOEXEC)
        os.ftruncate(fd, size)
        return fd

    with initialised(None, "test", alloc, give_back):
        master, slave = End(socket_path, is_master=1), End(socket_path)
        poll_until(lambda: master.up and slave.up)
        assert c.memif_buffer_alloc(slave.conn, 0, bufs, 4) == (OK, 4)
        c.memif_delete(slave.conn)
        poll_until(lambda: not master.up)
        del slave
        gc.collect()
        assert gone == []  # the buffers keep it
        slave = End(socket_path)
        poll_until(lambda: master.up and slave.up)
        master.send(b"a", b"b", b"c", b"d")
        if call == "rx":
            assert c.memif_rx_burst(slave.conn, 0, bufs, 4) == (OK, 4)
        else:
            assert c.memif_buffer_alloc(slave.conn, 0, bufs, 4, 60) == (OK, 4)
        gc.collect()
        assert gone == [4]
        bufs += buffers(4)
    gc.collect()


@pytest.mark.parametrize("make", [Raw, RawRx, RawTx])
@pytest.mark.parametrize("ring", [RxRing, TxRing])
def test_raw_rings_made_by_hand(make: Any, ring: Any) -> None:
    with pytest.raises(TypeError):
        make()
    with pytest.raises(TypeError):
        make.__new__(make)
    with pytest.raises(TypeError):
        make(None)
    with pytest.raises((RuntimeError, TypeError)):
        make(ring.__new__(ring))


def test_a_queue_made_by_hand() -> None:
    queue = ManualRxQueue.__new__(ManualRxQueue)
    queue.mode = "polling"
    assert queue.mode == "polling"
    with pytest.raises(TypeError):
        queue.attach(None)  # type: ignore[arg-type]
    with pytest.raises((RuntimeError, TypeError)):
        queue.attach(RxRing.__new__(RxRing))


def test_raw_rings_of_a_link_that_is_in_use(socket_path: str) -> None:
    """Made by hand over a ring that another one drives: wrong, and harmless."""
    with pair(socket_path, slave=SMALL) as (master, slave):
        slave.send(b"a", b"b", b"c")
        assert master.receive(2) == [b"a", b"b"]
        raw, bufs = RawRx(master.conn.rx[0].ring), buffers(9)  # type: ignore[arg-type]
        assert raw.burst(bufs, 9) == (OK, 1)
        assert bytes(bufs[0]) == b"c"
        for _ in range(20):
            assert raw.refill(-1, 0) == OK
        tx = RawTx(slave.conn.tx[0].ring)  # type: ignore[arg-type]
        for _ in range(20):
            _, n = tx.alloc(bufs, 8, 0)
            tx.burst(bufs, n)
            tx.rewind(bufs[0])
            tx.enqueue(bufs, n)
            tx.exchange(bufs[0], bufs[1])


@pytest.mark.parametrize("count", [-(2**63), -(2**31), -5, 1, 2**31, 2**63 - 1, 2**63, 2**100, -(2**100)])
def test_prepend_at_the_extremes(socket_path: str, count: int) -> None:
    with pair(socket_path) as (_, slave):
        bufs = buffers(1)
        for buf in (bufs[0], c.memif_buffer_t()):
            with pytest.raises(ValueError, match=r"argument count: got .*, allowed: 0 to 0|-4 to 0"):
                buf.prepend(count)
        slave.send(b"data")
        assert c.memif_buffer_alloc(slave.conn, 0, bufs, 1, 4) == (OK, 1)
        with pytest.raises(ValueError, match="allowed: -4 to 0"):
            bufs[0].prepend(count)
        assert (bufs[0].len, bufs[0].headroom) == (4, 0)
