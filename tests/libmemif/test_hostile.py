"""A peer that writes nonsense into the shared memory: packets are dropped or the link goes, nothing worse."""

import struct

import pytest

from libmemif.rig import End, buffers, initialised, pair, poll_until
from memif import libmemif as c

SMALL = {"log2_ring_size": 3, "buffer_size": 128}


def ring_of(end: End, *, rx: bool) -> memoryview:
    """The bytes of one of an end's rings, as its peer sees them (a single region, cache lines of 64 bytes)."""
    md = c.memif_get_details(end.conn)[1]
    memory = md.regions[0].addr
    assert memory is not None
    s2m = rx == (md.role == 0)
    start = 0 if s2m else 128 + 16 * 8
    return memory[start : start + 128 + 16 * 8]


def scribble(ring: memoryview, slot: int, **fields: int) -> None:
    """Overwrite fields of a descriptor."""
    at = 128 + 16 * slot
    values = dict(zip(("flags", "region", "length", "offset"), struct.unpack_from("<HHII", ring, at), strict=True))
    struct.pack_into("<HHII", ring, at, *(values | fields).values())


def set_index(ring: memoryview, *, head: bool, value: int) -> None:
    struct.pack_into("<H", ring, 6 if head else 64, value & 0xFFFF)


BAD = pytest.mark.parametrize(
    "fields",
    [
        {"length": 0},
        {"length": 2**32 - 1},
        {"length": 1 << 20},
        {"region": 9},
        {"offset": 2**32 - 1},
        {"offset": 1 << 24, "length": 60},
    ],
)


@BAD
def test_a_master_drops_bad_descriptors_and_counts_right(socket_path: str, fields: dict[str, int]) -> None:
    with pair(socket_path, slave=SMALL) as (master, slave):
        for turn in range(40):
            ring = ring_of(slave, rx=False)
            bufs = buffers(4)
            first = turn * 4
            assert c.memif_buffer_alloc(slave.conn, 0, bufs, 4, 1) == (c.MEMIF_ERR_SUCCESS, 4)
            for buf in bufs:
                buf.data[:1] = b"x"
            assert c.memif_tx_burst(slave.conn, 0, bufs, 4) == (c.MEMIF_ERR_SUCCESS, 4)
            scribble(ring, (first + turn % 4) % 8, **fields)
            assert master.receive(8) == [b"x"] * 3
            ring.release()
        assert slave.send(*[b"y"] * 9) == 8


def test_dropped_ones_alone_come_back_by_themselves(socket_path: str) -> None:
    with pair(socket_path, slave=SMALL) as (master, slave):
        for turn in range(20):
            assert slave.send(b"x" * 10, b"y" * 10) == 2
            ring = ring_of(slave, rx=False)
            for slot in (0, 1):
                scribble(ring, (2 * turn + slot) % 8, region=7)
            assert c.memif_rx_burst(master.conn, 0, buffers(4), 4) == (c.MEMIF_ERR_SUCCESS, 0)
            ring.release()


def test_a_slave_trusts_no_place_but_its_own(socket_path: str) -> None:
    with pair(socket_path, slave=SMALL) as (master, slave):
        master.send(b"good")
        ring = ring_of(master, rx=False)
        scribble(ring, 0, region=5, offset=2**32 - 1)
        assert slave.receive(2) == [b"good"]
        master.send(b"long")
        scribble(ring, 1, length=129)
        assert slave.receive(2) == []
        ring.release()
        assert master.send(*[b"x"] * 9) == 8


@pytest.mark.parametrize("receiver", ["master", "slave"])
def test_an_index_beyond_the_ring_ends_the_link(socket_path: str, receiver: str) -> None:
    with pair(socket_path, slave=SMALL) as link:
        rx = link[0] if receiver == "master" else link[1]
        ring = ring_of(rx, rx=True)
        set_index(ring, head=receiver == "master", value=9)
        assert c.memif_rx_burst(rx.conn, 0, buffers(4), 4) == (c.MEMIF_ERR_DISCONNECTED, 0)
        assert rx.events == ["up", "down"]
        ring.release()


@pytest.mark.parametrize("sender", ["master", "slave"])
def test_an_index_that_gives_too_many_slots_ends_the_link(socket_path: str, sender: str) -> None:
    with pair(socket_path, slave=SMALL) as link:
        tx = link[0] if sender == "master" else link[1]
        tx.send(*[b"x"] * 8)
        ring = ring_of(tx, rx=False)
        set_index(ring, head=sender == "master", value=30)
        assert c.memif_buffer_alloc(tx.conn, 0, buffers(9), 9) == (c.MEMIF_ERR_DISCONNECTED, 0)
        assert tx.events == ["up", "down"]
        ring.release()


@BAD
def test_a_master_that_is_offered_bad_buffers_gives_up(socket_path: str, fields: dict[str, int]) -> None:
    with pair(socket_path, slave=SMALL) as (master, slave):
        ring = ring_of(slave, rx=True)
        scribble(ring, 1, **fields)
        err, n = c.memif_buffer_alloc(master.conn, 0, buffers(4), 4)
        assert (err, n) == (c.MEMIF_ERR_DISCONNECTED, 0)
        assert master.events == ["up", "down"]
        ring.release()


def test_descriptors_that_change_after_alloc_move_nothing(socket_path: str) -> None:
    with pair(socket_path, slave=SMALL) as (master, slave):
        bufs = buffers(1)
        assert c.memif_buffer_alloc(master.conn, 0, bufs, 1) == (c.MEMIF_ERR_SUCCESS, 1)
        ring = ring_of(slave, rx=True)
        scribble(ring, 0, offset=2**32 - 1, length=2**32 - 1, region=3)
        bufs[0].data[:4] = b"data"
        bufs[0].len = 129
        assert c.memif_tx_burst(master.conn, 0, bufs, 1) == (c.MEMIF_ERR_INVAL_ARG, 0)
        bufs[0].len = 4
        assert c.memif_tx_burst(master.conn, 0, bufs, 1) == (c.MEMIF_ERR_SUCCESS, 1)
        assert slave.receive(2) == [b"data"]
        ring.release()


def test_a_client_that_talks_nonsense(socket_path: str) -> None:
    import socket

    with initialised():
        master = End(socket_path, is_master=1)
        for message in (b"", b"\xff" * 128, b"x" * 129, b"\3" * 5, b"\3".ljust(128, b"\0")):
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
                client.connect(socket_path)
                client.send(message)
                for _ in range(3):
                    assert c.memif_poll_event(10) == c.MEMIF_ERR_SUCCESS
        slave = End(socket_path)
        poll_until(lambda: master.up and slave.up)
