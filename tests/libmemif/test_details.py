"""memif_get_details: every field, and strings in the caller's buffer."""

from typing import Any

import pytest

from libmemif.rig import End, initialised, pair
from memif import libmemif as c

NAMES = {
    "master": {"interface_name": "left", "secret": b"s3cret"},
    "slave": {"interface_name": "right", "secret": "s3cret"},
}


def test_every_field(socket_path: str) -> None:
    with pair(socket_path, interface_id=7, mode=c.MEMIF_INTERFACE_MODE_IP, **NAMES) as (master, slave):  # type: ignore[arg-type]
        slave.send(b"abc")
        err, md = c.memif_get_details(master.conn)
        assert err == c.MEMIF_ERR_SUCCESS
        assert (md.if_name, md.inst_name, md.remote_if_name, md.remote_inst_name) == ("left", "test", "right", "test")
        assert (md.id, md.secret, md.role, md.mode, md.link_up_down, md.error) == (7, "s3cret", 0, 1, 1, "")
        assert md.socket_filename == md.socket_path == socket_path
        assert (md.rx_queues_num, md.tx_queues_num, md.regions_num) == (1, 1, 1)
        rx = md.rx_queues[0]
        assert (rx.region, rx.qid, rx.ring_size, rx.flags, rx.head, rx.tail) == (0, 0, 1024, 0, 1, 0)
        assert (md.tx_queues[0].head, md.tx_queues[0].tail, md.tx_queues[0].buffer_size) == (1024, 0, 2048)
        region = md.regions[0]
        assert (region.index, region.is_external, region.fd > 2) == (0, 0, True)
        assert region.addr is not None
        assert len(region.addr) == region.size > 4 << 20
        assert c.memif_get_details(slave.conn)[1].role == 1


def test_before_the_link_is_up(socket_path: str) -> None:
    with initialised():
        md = c.memif_get_details(End(socket_path, interface_id=3).conn)[1]
        assert (md.remote_if_name, md.remote_inst_name, md.link_up_down) == ("", "", 0)
        assert (md.rx_queues, md.tx_queues, md.regions) == ([], [], [])
        assert (md.secret, md.if_name) == (None, "memif3")


def test_c_s_arguments_fill_struct_and_buffer(socket_path: str) -> None:
    with pair(socket_path, **NAMES) as (master, _):  # type: ignore[arg-type]
        mine, buf = c.memif_details_t(), bytearray(2048)
        err, md = c.memif_get_details(master.conn, mine, buf, len(buf))
        assert err == c.MEMIF_ERR_SUCCESS
        assert md is mine
        assert bytes(buf).rstrip(b"\0").split(b"\0") == [
            b"left",
            b"test",
            b"right",
            b"test",
            b"s3cret",
            socket_path.encode(),
        ]
        assert c.memif_get_details(master.conn, buf)[0] == c.MEMIF_ERR_SUCCESS
        assert c.memif_get_details(master.conn, buf, 2048)[0] == c.MEMIF_ERR_SUCCESS


@pytest.mark.parametrize("room", [0, 4, 5, 15, 30])
def test_too_small_a_buffer(socket_path: str, room: int) -> None:
    with pair(socket_path, **NAMES) as (master, _):  # type: ignore[arg-type]
        buf = bytearray(b"#" * 64)
        err, md = c.memif_get_details(master.conn, c.memif_details_t(), buf, room)
        assert err == c.MEMIF_ERR_NOBUF_DET
        assert md.if_name == ("left" if room >= 5 else "")
        assert md.socket_filename == ""
        assert (md.id, md.rx_queues_num, md.link_up_down) == (0, 1, 1)
        assert buf[room:] == b"#" * (64 - room)
        assert c.memif_get_details(master.conn, room)[0] == c.MEMIF_ERR_NOBUF_DET


@pytest.mark.parametrize("args", [(b"read-only", 9), (bytearray(9), -1), ("text",), (None, "x"), (1.5,), (1, 2, 3)])
def test_bad_arguments(socket_path: str, args: tuple[Any, ...]) -> None:
    with initialised():
        conn = End(socket_path).conn
        assert c.memif_get_details(conn, *args)[0] == c.MEMIF_ERR_INVAL_ARG
