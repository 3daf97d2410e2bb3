# ruff: noqa: F403, F405
"""The C library's guide, line for line: its calls in its order, in Python's syntax, by a program of two processes.

The first half of each test is the guide's program; beside it stands the other end, a plain `memif.Interface`.
"""

import select
from typing import Any

import memif
from ends import pump, receive
from memif.libmemif import *

MAX_MEMIF_BUFS = 256


class Connection:
    """The guide's ``c``: a handle with its buffers."""

    def __init__(self) -> None:
        self.conn: Any = None
        self.bufs = [memif_buffer_t() for _ in range(MAX_MEMIF_BUFS)]
        self.tx_bufs = [memif_buffer_t() for _ in range(MAX_MEMIF_BUFS)]
        self.tx_buf_num = 0
        self.log: list[Any] = []


def answer(c: Connection, qid: int) -> None:
    """Packet receive, buffers, packet transmit: the guide's steps 1 to 5, answering each packet in upper case."""
    err, rx = memif_rx_burst(c.conn, qid, c.bufs, MAX_MEMIF_BUFS)
    assert err == MEMIF_ERR_SUCCESS, memif_strerror(err)
    n = rx
    err, r = memif_buffer_alloc(c.conn, qid, c.tx_bufs, n)
    assert err == MEMIF_ERR_SUCCESS, memif_strerror(err)
    for i in range(r):
        packet = bytes(c.bufs[i].data[: c.bufs[i].len]).upper()
        c.tx_bufs[i].data[: len(packet)] = packet
        c.tx_bufs[i].len = len(packet)
    c.tx_buf_num = r
    err = memif_refill_queue(c.conn, qid, rx)
    assert err == MEMIF_ERR_SUCCESS, memif_strerror(err)
    err, r = memif_tx_burst(c.conn, qid, c.tx_bufs, c.tx_buf_num)
    assert (err, r) == (MEMIF_ERR_SUCCESS, c.tx_buf_num)


def on_connect(conn: Any, private_ctx: Connection) -> int:
    private_ctx.log.append("connected")
    return memif_refill_queue(conn, 0, -1, 0)


def on_disconnect(conn: Any, private_ctx: Connection) -> int:
    private_ctx.log.append("disconnected")
    return 0


def on_interrupt(conn: Any, private_ctx: Connection, qid: int) -> int:
    answer(private_ctx, qid)
    return 0


def create(c: Connection, path: str) -> None:
    args = memif_conn_args_t()
    args.socket_filename = path
    args.is_master = 0
    args.log2_ring_size = 10
    args.buffer_size = 2048
    args.num_s2m_rings = 1
    args.num_m2s_rings = 1
    args.interface_name = "memif_connection"
    args.mode = MEMIF_INTERFACE_MODE_ETHERNET
    args.interface_id = 0
    err, c.conn = memif_create(args, on_connect, on_disconnect, on_interrupt, c)
    if err != MEMIF_ERR_SUCCESS:
        raise AssertionError(f"memif_create: {memif_strerror(err)}")


def show(c: Connection) -> None:
    """Helper functions: version, details, error messages."""
    memif_ver = memif_get_version()
    assert memif_ver == 512
    buflen = 2048
    buf = bytearray(buflen)
    md = memif_details_t()
    err, md = memif_get_details(c.conn, md, buf, buflen)
    if err != MEMIF_ERR_SUCCESS:
        raise AssertionError(f"memif_get_details: {memif_strerror(err)}")
    assert (md.if_name, md.remote_inst_name) == ("memif_connection", "the other end")


def test_the_library_polls(socket_path: str) -> None:
    with memif.Socket(socket_path, app_name="the other end") as vpp:
        peer = vpp.interface(id=0, role="master")
        c = Connection()
        err = memif_init(None, "ICMP_Responder", None, None)
        assert err == MEMIF_ERR_SUCCESS
        create(c, socket_path)
        while c.log != ["connected"] or not peer.up:
            if memif_poll_event(5) < 0:
                raise AssertionError("poll_event error!")
            vpp.poll(0)
        show(c)
        peer.tx[0].send([b"who is there?", b"me"])
        while not peer.rx[0].wait(0):
            assert memif_poll_event(100) == MEMIF_ERR_SUCCESS
        assert receive(peer.rx[0], 2) == [b"WHO IS THERE?", b"ME"]
        assert memif_delete(c.conn) == MEMIF_ERR_SUCCESS
        assert memif_cleanup() == MEMIF_ERR_SUCCESS
        assert c.log == ["connected", "disconnected"]


def test_the_user_polls(socket_path: str) -> None:
    epfd = select.epoll()

    def control_fd_update(fd: int, events: int) -> int:
        if events & MEMIF_FD_EVENT_DEL:
            epfd.unregister(fd)
            return 0
        evt = 0
        if events & MEMIF_FD_EVENT_READ:
            evt |= select.EPOLLIN
        if events & MEMIF_FD_EVENT_WRITE:
            evt |= select.EPOLLOUT
        if events & MEMIF_FD_EVENT_MOD:
            epfd.modify(fd, evt)
            return 0
        epfd.register(fd, evt)
        return 0

    def poll_event(timeout: float) -> None:
        for fd, evt in epfd.poll(timeout):
            events = 0
            if evt & select.EPOLLIN:
                events |= MEMIF_FD_EVENT_READ
            if evt & select.EPOLLOUT:
                events |= MEMIF_FD_EVENT_WRITE
            if evt & select.EPOLLERR:
                events |= MEMIF_FD_EVENT_ERROR
            memif_err = memif_control_fd_handler(fd, events)
            if memif_err != MEMIF_ERR_SUCCESS:
                raise AssertionError(f"memif_control_fd_handler: {memif_strerror(memif_err)}")

    with epfd, memif.Socket(socket_path, app_name="the other end") as vpp:
        peer = vpp.interface(id=0, role="master")
        c = Connection()
        assert memif_init(control_fd_update, "ICMP_Responder", None, None) == MEMIF_ERR_SUCCESS
        create(c, socket_path)
        pump(vpp, until=lambda: (poll_event(0), c.log == ["connected"] and peer.up)[1])
        show(c)
        peer.tx[0].send([b"hello"])
        while not peer.rx[0].wait(0):
            poll_event(0.1)
        assert receive(peer.rx[0], 1) == [b"HELLO"]
        assert memif_delete(c.conn) == MEMIF_ERR_SUCCESS
        assert memif_cleanup() == MEMIF_ERR_SUCCESS
