"""The C API against DPDK's testpmd, which sends every frame back: both roles, chains, zero copy on either side."""

import random
import time
from collections.abc import Callable

import pytest

from libmemif.rig import End, buffers, initialised, poll_until
from memif import libmemif as c
from patience import within
from peers.testpmd import Testpmd

pytestmark = pytest.mark.dpdk

Factory = Callable[..., Testpmd]
ROLES = pytest.mark.parametrize(
    ("is_master", "zero_copy"), [(0, False), (1, False), (1, True)], ids=["slave", "master", "zero-copy client"]
)


def connected(path: str, testpmd: Factory, is_master: int, **settings: object) -> tuple[End, Testpmd]:
    """Our end and a testpmd, linked. Call between memif_init and memif_cleanup."""
    if is_master:
        end = End(path, is_master=1)
        peer = testpmd("client", **settings)
    else:
        peer = testpmd("server", **settings)
        end = End(path)
    poll_until(lambda: end.up, 15)
    return end, peer


def exchange(end: End, frames: list[bytes], *, batch: int = 32) -> list[bytes]:
    """Send frames and collect what comes back."""
    back: list[bytes] = []
    sent = 0
    deadline = time.monotonic() + within(20)
    while len(back) < len(frames):
        assert time.monotonic() < deadline, f"{sent} sent, {len(back)} of {len(frames)} back"
        if sent < len(frames) and sent - len(back) < 512:
            sent += end.send(*frames[sent : sent + batch])
        back += end.receive(256)
    return back


@ROLES
def test_frames_come_back(socket_path: str, testpmd: Factory, is_master: int, zero_copy: bool) -> None:
    source = random.Random(is_master)
    frames = [source.randbytes(source.randint(60, 1514)) for _ in range(5000)]
    with initialised():
        end, peer = connected(socket_path, testpmd, is_master, zero_copy=zero_copy)
        with peer.forwarding():
            assert exchange(end, frames) == frames
        md = c.memif_get_details(end.conn)[1]
        assert md.remote_inst_name.startswith("DPDK")
        assert (md.rx_queues_num, md.tx_queues_num) == (1, 1)
        c.memif_delete(end.conn)


@pytest.mark.parametrize("is_master", [0, 1])
def test_by_interrupts(socket_path: str, testpmd: Factory, is_master: int) -> None:
    got: list[bytes] = []

    def on_interrupt(conn: c.memif_conn_handle_t, ctx: object, qid: int) -> int:
        bufs = buffers(64)
        _, n = c.memif_rx_burst(conn, qid, bufs, 64)
        got.extend(map(bytes, bufs[:n]))
        return c.memif_refill_queue(conn, qid, n)

    with initialised():
        args = c.memif_conn_args_t(socket_filename=socket_path, is_master=is_master)
        if not is_master:
            peer = testpmd("server")
        up: list[int] = []
        err, conn = c.memif_create(args, lambda conn, ctx: up.append(c.memif_refill_queue(conn, 0)), None, on_interrupt)
        assert err == c.MEMIF_ERR_SUCCESS
        if is_master:
            peer = testpmd("client")
        poll_until(lambda: up, 15)
        with peer.forwarding():
            bufs = buffers(1)
            deadline = time.monotonic() + within(10)
            while c.memif_buffer_alloc(conn, 0, bufs, 1) != (c.MEMIF_ERR_SUCCESS, 1):
                assert time.monotonic() < deadline
                c.memif_poll_event(10)
            bufs[0].data[:60] = bytes(range(60))
            bufs[0].len = 60
            assert c.memif_tx_burst(conn, 0, bufs, 1) == (c.MEMIF_ERR_SUCCESS, 1)
            poll_until(lambda: got, 10)
        assert got == [bytes(range(60))]
        c.memif_delete(conn)


def test_a_slave_answers_in_place(socket_path: str, testpmd: Factory) -> None:
    """testpmd sends a burst first and forwards what comes back: it goes round for ever, without a copy on our side."""
    with initialised():
        end, peer = connected(socket_path, testpmd, 0, txpkts=64)
        bufs = buffers(64)
        rounds = 0
        with peer.forwarding(tx_first=1):
            deadline = time.monotonic() + within(20)
            while rounds < 20_000:
                assert time.monotonic() < deadline, f"{rounds} packets"
                _, n = c.memif_rx_burst(end.conn, 0, bufs, 64)
                if not n:
                    continue
                assert {buf.len for buf in bufs[:n]} == {64}
                assert c.memif_buffer_enq_tx(end.conn, 0, bufs, n) == (c.MEMIF_ERR_SUCCESS, n)
                assert c.memif_tx_burst(end.conn, 0, bufs, n) == (c.MEMIF_ERR_SUCCESS, n)
                assert c.memif_refill_queue(end.conn, 0, n) == c.MEMIF_ERR_SUCCESS
                rounds += n
        c.memif_delete(end.conn)


def test_chains_to_and_from_testpmd(socket_path: str, testpmd: Factory) -> None:
    """Frames of 3000 bytes: two buffers each, on both ways."""
    with initialised():
        end, peer = connected(socket_path, testpmd, 0, mbuf_size=4096, bsize=2048)
        with peer.forwarding():
            bufs, got = buffers(2), buffers(16)
            assert c.memif_buffer_alloc(end.conn, 0, bufs, 1, 3000) == (c.MEMIF_ERR_SUCCESS, 2)
            for number, buf in enumerate(bufs):
                buf.data[: buf.len] = bytes([number + 1]) * buf.len
            assert c.memif_tx_burst(end.conn, 0, bufs, 2) == (c.MEMIF_ERR_SUCCESS, 2)
            n = 0
            deadline = time.monotonic() + within(10)
            while sum(buf.len for buf in got[:n]) < 3000:
                assert time.monotonic() < deadline
                n += c.memif_rx_burst(end.conn, 0, got[n:], 8)[1]
        assert b"".join(bytes(buf) for buf in got[:n]) == b"\1" * 2048 + b"\2" * 952
        assert [buf.flags & c.MEMIF_BUFFER_FLAG_NEXT for buf in got[:n]] == [1] * (n - 1) + [0]
        c.memif_delete(end.conn)
