"""Initialise, create, delete, poll: results and codes of 2.0's functions."""

import errno
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import memif
from children import text_of_child
from libmemif.rig import End, initialised, pair, poll_until
from memif import libmemif as c
from patience import within


def nothing(*_: Any) -> int:
    return 0


def create(path: str | None = None, **args: Any) -> int:
    """The code of memif_create."""
    err, conn = c.memif_create(c.memif_conn_args_t(socket_filename=path, **args))
    assert (conn is None) == (err != 0)
    return err


# -- memif_init, memif_cleanup


def test_init_twice_is_refused_and_cleanup_ends_it() -> None:
    with initialised():
        assert c.memif_init(None, "again") == c.MEMIF_ERR_ALREADY
    assert c.memif_init(None, "again") == c.MEMIF_ERR_SUCCESS
    assert c.memif_cleanup() == c.MEMIF_ERR_SUCCESS
    assert c.memif_cleanup() == c.MEMIF_ERR_SUCCESS


@pytest.mark.parametrize(
    "args",
    [
        ("no callback", "app"),
        (None, 7),
        (None, "x" * 32),
        (None, "app", 7),
        (None, "app", None, 7),
        (None, "app", None, None, 7),
        (None, "app", None, 7, None),
        (None, "a", None, None, None, None),
    ],
)
def test_init_refuses_bad_arguments(args: tuple[Any, ...]) -> None:
    assert c.memif_init(*args) == c.MEMIF_ERR_INVAL_ARG


def test_init_reports_a_callback_that_fails() -> None:
    assert c.memif_init(lambda fd, events: -1, "app") == c.MEMIF_ERR_CB_FDUPDATE
    assert c.memif_init(lambda fd, events: 1 // 0, "app") == c.MEMIF_ERR_CB_FDUPDATE


def test_init_without_a_name_uses_the_library_s(socket_path: str) -> None:
    with initialised(None, None):
        end = End(socket_path, is_master=1)
        assert c.memif_get_details(end.conn)[1].inst_name == c.MEMIF_DEFAULT_APP_NAME


def test_init_reports_that_there_are_no_descriptors_left() -> None:
    def child() -> str:
        import resource

        used = max(map(int, os.listdir("/proc/self/fd")))
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 1, used + 1))
        while True:
            try:
                os.dup(0)
            except OSError:
                break
        err = c.memif_init(None, "app")
        return f"{int(err)} {getattr(err, 'errno', None)}"

    assert text_of_child(child, uid=os.getuid(), gid=os.getgid()) == f"{c.MEMIF_ERR_PROC_FILE_LIMIT:d} {errno.EMFILE}"


def test_cleanup_deletes_connections(socket_path: str) -> None:
    with pair(socket_path) as (master, slave):
        pass
    assert (master.events, slave.events) == (["up", "down"], ["up", "down"])
    assert c.memif_delete(master.conn) == c.MEMIF_ERR_NOCONN
    assert c.memif_get_details(slave.conn)[0] == c.MEMIF_ERR_NOCONN
    assert not os.path.exists(socket_path)


# -- memif_create


def test_create_needs_init_or_a_socket(socket_path: str) -> None:
    assert create(socket_path) == c.MEMIF_ERR_INVAL_ARG


@pytest.mark.parametrize(
    ("args", "code"),
    [
        ({"log2_ring_size": 15}, c.MEMIF_ERR_MAX_RING),
        ({"log2_ring_size": -1}, c.MEMIF_ERR_INVAL_ARG),
        ({"log2_ring_size": "x"}, c.MEMIF_ERR_MAX_RING),
        ({"mode": 3}, c.MEMIF_ERR_INVAL_ARG),
        ({"mode": []}, c.MEMIF_ERR_INVAL_ARG),
        ({"interface_id": -1}, c.MEMIF_ERR_INVAL_ARG),
        ({"interface_id": 2**32}, c.MEMIF_ERR_INVAL_ARG),
        ({"interface_id": None}, c.MEMIF_ERR_INVAL_ARG),
        ({"buffer_size": 65536}, c.MEMIF_ERR_INVAL_ARG),
        ({"num_s2m_rings": 256}, c.MEMIF_ERR_INVAL_ARG),
        ({"interface_name": "n" * 32}, c.MEMIF_ERR_INVAL_ARG),
        ({"interface_name": 5}, c.MEMIF_ERR_INVAL_ARG),
        ({"interface_name": "\ud800"}, c.MEMIF_ERR_INVAL_ARG),
        ({"secret": "s" * 24}, c.MEMIF_ERR_INVAL_ARG),
        ({"secret": 5}, c.MEMIF_ERR_INVAL_ARG),
        ({"socket": "x"}, c.MEMIF_ERR_INVAL_ARG),
    ],
)
def test_create_refuses_bad_arguments(socket_path: str, args: dict[str, Any], code: int) -> None:
    with initialised():
        assert create(socket_path, **args) == code


@pytest.mark.parametrize("path", ["p" * 108, "", 5, "unix:/x"])
def test_create_refuses_bad_socket_names(path: Any) -> None:
    with initialised():
        assert create(path or "@", is_master=1) == c.MEMIF_ERR_INVAL_ARG


@pytest.mark.parametrize("args", [None, {}, 5])
def test_create_refuses_other_structs(args: Any) -> None:
    with initialised():
        assert c.memif_create(args) == (c.MEMIF_ERR_INVAL_ARG, None)


@pytest.mark.parametrize("position", [0, 1, 2])
def test_create_refuses_callbacks_that_cannot_be_called(socket_path: str, position: int) -> None:
    callbacks: list[Any] = [None, None, None]
    callbacks[position] = 5
    with initialised():
        args = c.memif_conn_args_t(socket_filename=socket_path)
        assert c.memif_create(args, *callbacks) == (c.MEMIF_ERR_INVAL_ARG, None)


def test_create_with_a_handle_that_exists(socket_path: str) -> None:
    with initialised():
        args = c.memif_conn_args_t(socket_filename=socket_path, is_master=1)
        err, conn = c.memif_create(args)
        assert err == c.MEMIF_ERR_SUCCESS
        assert c.memif_create(args, conn=conn) == (c.MEMIF_ERR_CONN, None)
        assert c.memif_delete(conn) == c.MEMIF_ERR_SUCCESS
        err, conn = c.memif_create(args, conn=conn)
        assert err == c.MEMIF_ERR_SUCCESS


def test_create_a_second_interface_of_an_id(socket_path: str) -> None:
    with initialised():
        assert create(socket_path, is_master=1, interface_id=3) == c.MEMIF_ERR_SUCCESS
        assert create(socket_path, is_master=1, interface_id=3) == c.MEMIF_ERR_INVAL_ARG
        assert create(socket_path, is_master=1, interface_id=4) == c.MEMIF_ERR_SUCCESS


def test_create_a_master_without_the_directory(socket_path: str) -> None:
    with initialised():
        err, _ = c.memif_create(c.memif_conn_args_t(socket_filename=f"{socket_path}/none/m.sock", is_master=1))
    assert err == c.MEMIF_ERR_NO_FILE
    assert (err.errno, c.memif_strerror(err)) == (errno.ENOENT, "Socket file does not exist")


@pytest.mark.parametrize("is_master", [0, 1])
def test_create_where_a_file_is_that_is_no_socket(socket_path: str, is_master: int) -> None:
    Path(socket_path).write_text("mine")
    with initialised():
        assert create(socket_path, is_master=is_master) == c.MEMIF_ERR_FILE_NOT_SOCK
    assert Path(socket_path).read_text() == "mine"


def test_create_a_master_where_another_listens(socket_path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other:
        other.bind(socket_path)
        other.listen()
        with initialised():
            assert create(socket_path, is_master=1) == c.MEMIF_ERR_ALREADY


@pytest.mark.parametrize("is_master", [0, 1])
def test_create_without_permission_keeps_errno(socket_path: str, is_master: int) -> None:
    os.chmod(os.path.dirname(socket_path), 0o700)

    def child() -> str:
        with initialised():
            err, _ = c.memif_create(c.memif_conn_args_t(socket_filename=socket_path, is_master=is_master))
            return f"{int(err)} {err.errno}"

    if os.geteuid() != 0:
        pytest.skip("needs root, to become another user")
    assert text_of_child(child) == f"{c.MEMIF_ERR_ACCES:d} {errno.EACCES}"


def test_create_a_slave_before_its_master(socket_path: str) -> None:
    with initialised():
        slave = End(socket_path)
        assert c.memif_poll_event(20) == c.MEMIF_ERR_SUCCESS
        assert slave.events == []
        master = End(socket_path, is_master=1)
        poll_until(lambda: slave.up and master.up)


def test_a_slave_comes_back(socket_path: str) -> None:
    with pair(socket_path) as (master, slave):
        assert c.memif_delete(master.conn) == c.MEMIF_ERR_SUCCESS
        assert master.events == ["up", "down"]
        poll_until(lambda: slave.events == ["up", "down"])
        again = End(socket_path, is_master=1)
        poll_until(lambda: again.up and slave.up)
        assert slave.events == ["up", "down", "up"]
        again.send(b"hello")
        assert slave.receive(4) == [b"hello"]


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"master": {"secret": "abc"}, "slave": {"secret": b"abd\0\0"}}, "incorrect secret"),
        ({"master": {"secret": "abc"}}, "secret required"),
        ({"slave": {"mode": 1}}, "mode mismatch: the master is ethernet, the slave ip"),
        ({"slave": {"interface_id": 9}}, "cannot connect to slave"),
    ],
)
def test_a_refused_slave_knows_why(socket_path: str, settings: dict[str, Any], code: str) -> None:
    with initialised():
        End(socket_path, is_master=1, **settings.get("master", {}))
        slave = End(socket_path, **settings.get("slave", {}))
        poll_until(lambda: c.memif_get_details(slave.conn)[1].error)
        assert c.memif_get_details(slave.conn)[1].error == code
        assert set(slave.events) == {"down"}  # for each attempt that was refused


def test_several_sockets_and_ids_at_once(socket_path: str) -> None:
    with initialised():
        ends = [End(f"{socket_path}{n}", is_master=m, interface_id=i) for n in "ab" for i in (0, 7) for m in (1, 0)]
        poll_until(lambda: all(end.up for end in ends))
        for number, master in enumerate(ends[::2]):
            master.send(bytes([number]))
        assert [slave.receive(2) for slave in ends[1::2]] == [[b"\0"], [b"\1"], [b"\2"], [b"\3"]]


def test_the_default_socket_is_vpp_s(socket_path: str) -> None:
    with initialised():
        err, conn = c.memif_create(c.memif_conn_args_t())
        if err == c.MEMIF_ERR_SUCCESS:
            assert c.memif_get_details(conn)[1].socket_filename == "/run/vpp/memif.sock"
        else:
            assert err in (c.MEMIF_ERR_ACCES, c.MEMIF_ERR_NO_FILE)


@pytest.mark.parametrize(("rings", "log2", "size"), [((1, 1), 10, 2048), ((3, 2), 4, 512), ((1, 2), 12, 65535)])
def test_the_ring_arguments_shape_the_link(socket_path: str, rings: tuple[int, int], log2: int, size: int) -> None:
    with pair(
        socket_path,
        slave={"num_s2m_rings": rings[0], "num_m2s_rings": rings[1], "log2_ring_size": log2, "buffer_size": size},
    ) as (master, slave):
        for conn, (tx, rx) in ((slave.conn, rings), (master.conn, rings[::-1])):
            md = c.memif_get_details(conn)[1]
            assert (md.tx_queues_num, md.rx_queues_num) == (tx, rx)
            assert {q.ring_size for q in md.rx_queues + md.tx_queues} == {1 << log2}
        assert {q.buffer_size for q in c.memif_get_details(slave.conn)[1].rx_queues} == {size}


# -- callbacks


def test_interrupts_come_while_packets_wait(socket_path: str) -> None:
    two = {"num_s2m_rings": 2, "num_m2s_rings": 2}
    with pair(socket_path, slave=two, master={"interrupts": True}) as (master, slave):
        slave.send(b"a", b"b", qid=1)
        poll_until(lambda: master.interrupts)
        assert master.interrupts == [1]
        assert master.receive(1, 1) == [b"a"]
        poll_until(lambda: len(master.interrupts) > 1)  # one is left
        assert master.receive(8, 1) == [b"b"]
        seen = len(master.interrupts)
        c.memif_poll_event(20)
        assert len(master.interrupts) == seen


def test_without_on_interrupt_there_is_the_event_fd(socket_path: str) -> None:
    with pair(socket_path) as (master, slave):
        err, fd = c.memif_get_queue_efd(master.conn, 0)
        assert err == c.MEMIF_ERR_SUCCESS
        slave.send(b"a")
        import select

        assert select.select([fd], [], [], 1)[0] == [fd]
        assert c.memif_poll_event(0) == c.MEMIF_ERR_SUCCESS
        assert master.receive(4) == [b"a"]
        assert select.select([fd], [], [], 0)[0] == []


@pytest.mark.parametrize("callback", ["connect", "disconnect", "interrupt"])
def test_what_a_callback_returns_is_the_result(socket_path: str, callback: str) -> None:
    def answer(name: str) -> Any:
        return lambda conn, ctx, *qid: 77 if name == callback else None

    with initialised():
        args = c.memif_conn_args_t(socket_filename=socket_path, is_master=1)
        _, conn = c.memif_create(args, answer("connect"), answer("disconnect"), answer("interrupt"))
        slave = End(socket_path)
        codes = set()
        end = time.monotonic() + within(5)
        while not slave.up and time.monotonic() < end:
            codes.add(int(c.memif_poll_event(10)))
        slave.send(b"x")
        codes.add(int(c.memif_poll_event(10)))
        assert (77 in codes) == (callback in ("connect", "interrupt"))
        assert c.memif_delete(conn) == (77 if callback == "disconnect" else 0)


def test_what_a_callback_raises_comes_out_of_the_poll(socket_path: str) -> None:
    def fail(conn: Any, ctx: Any) -> int:
        raise KeyError("mine")

    with initialised():
        assert c.memif_create(c.memif_conn_args_t(socket_filename=socket_path, is_master=1), fail)[0] == 0
        slave = End(socket_path)
        with pytest.raises(KeyError, match="mine"):
            poll_until(lambda: False)
        poll_until(lambda: slave.up)


def test_a_connection_may_delete_itself_in_its_callback(socket_path: str) -> None:
    gone: list[int] = []

    def delete(conn: Any, ctx: Any) -> int:
        gone.append(c.memif_delete(conn))
        return 0

    with initialised():
        End(socket_path, is_master=1)
        assert c.memif_create(c.memif_conn_args_t(socket_filename=socket_path), delete, delete)[0] == 0
        poll_until(lambda: len(gone) == 2)
        assert sorted(gone) == [c.MEMIF_ERR_SUCCESS, c.MEMIF_ERR_NOCONN]


# -- memif_delete


def test_delete_tells_both_ends(socket_path: str) -> None:
    with pair(socket_path) as (master, slave):
        assert c.memif_delete(slave.conn) == c.MEMIF_ERR_SUCCESS
        assert slave.events == ["up", "down"]
        poll_until(lambda: master.events == ["up", "down"])
        assert c.memif_get_details(master.conn)[1].error == "interface deleted"
        assert not slave.conn


def test_delete_calls_on_disconnect_also_when_the_link_was_never_up(socket_path: str) -> None:
    with initialised():
        slave = End(socket_path)
        assert c.memif_delete(slave.conn) == c.MEMIF_ERR_SUCCESS
        assert slave.events == ["down"]


@pytest.mark.parametrize("handle", [None, 0, "x", object()])
def test_wrong_handles(handle: Any) -> None:
    bufs = [c.memif_buffer_t()]
    assert c.memif_delete(handle) == c.MEMIF_ERR_NOCONN
    assert c.memif_get_queue_efd(handle, 0) == (c.MEMIF_ERR_NOCONN, -1)
    assert c.memif_set_rx_mode(handle, 0, 0) == c.MEMIF_ERR_NOCONN
    assert c.memif_get_details(handle)[0] == c.MEMIF_ERR_NOCONN
    assert c.memif_request_connection(handle) == c.MEMIF_ERR_NOCONN
    assert c.memif_rx_burst(handle, 0, bufs, 1) == (c.MEMIF_ERR_NOCONN, 0)
    assert c.memif_refill_queue(handle, 0, 1) == c.MEMIF_ERR_NOCONN
    assert c.memif_buffer_alloc(handle, 0, bufs, 1) == (c.MEMIF_ERR_NOCONN, 0)
    assert c.memif_buffer_enq_tx(handle, 0, bufs, 1) == (c.MEMIF_ERR_NOCONN, 0)
    assert c.memif_tx_burst(handle, 0, bufs, 1) == (c.MEMIF_ERR_NOCONN, 0)
    assert c.memif_buffer_requeue(handle, *bufs, *bufs) == c.MEMIF_ERR_NOCONN
    assert c.memif_set_next_free_buffer(handle, 0, bufs[0]) == c.MEMIF_ERR_NOCONN


@pytest.mark.parametrize("state", ["deleted", "down", "up"])
def test_queue_functions_in_every_state(socket_path: str, state: str) -> None:
    bufs = [c.memif_buffer_t()]
    with initialised():
        end = End(socket_path)
        code, qids = c.MEMIF_ERR_DISCONNECTED, [0, 1]
        if state == "deleted":
            c.memif_delete(end.conn)
            code = c.MEMIF_ERR_NOCONN
        if state == "up":
            End(socket_path, is_master=1)
            poll_until(lambda: end.up)
            code, qids = c.MEMIF_ERR_QID, [1, -1, 256, "x", None, [], 2**70]  # type: ignore[list-item]
        for qid in qids:
            assert c.memif_get_queue_efd(end.conn, qid) == (code, -1)
            assert c.memif_set_rx_mode(end.conn, 0, qid) == code
            assert c.memif_rx_burst(end.conn, qid, bufs, 1) == (code, 0)
            assert c.memif_refill_queue(end.conn, qid, 1) == code
            assert c.memif_buffer_alloc(end.conn, qid, bufs, 1) == (code, 0)
            assert c.memif_buffer_enq_tx(end.conn, qid, bufs, 1) == (code, 0)
            assert c.memif_tx_burst(end.conn, qid, bufs, 1) == (code, 0)
            assert c.memif_set_next_free_buffer(end.conn, qid, bufs[0]) == code
        if state != "up":
            assert c.memif_buffer_requeue(end.conn, *bufs, *bufs) == code


# -- memif_set_rx_mode


def test_rx_mode_is_in_the_ring_s_flags(socket_path: str) -> None:
    with pair(socket_path, slave={"interrupts": True}) as (master, slave):
        assert c.memif_set_rx_mode(slave.conn, c.MEMIF_RX_MODE_POLLING, 0) == c.MEMIF_ERR_SUCCESS
        assert c.memif_get_details(slave.conn)[1].rx_queues[0].flags == c.MEMIF_QUEUE_FLAG_POLLING
        assert c.memif_get_details(master.conn)[1].tx_queues[0].flags == c.MEMIF_QUEUE_FLAG_POLLING
        master.send(b"silent")
        c.memif_poll_event(20)
        assert slave.interrupts == []
        assert slave.receive(4) == [b"silent"]
        assert c.memif_set_rx_mode(slave.conn, c.MEMIF_RX_MODE_INTERRUPT, 0) == c.MEMIF_ERR_SUCCESS
        master.send(b"loud")
        poll_until(lambda: slave.interrupts)


@pytest.mark.parametrize("mode", [2, -1, None, "polling"])
def test_rx_mode_refuses_others(socket_path: str, mode: Any) -> None:
    with pair(socket_path) as (_, slave):
        assert c.memif_set_rx_mode(slave.conn, mode, 0) == c.MEMIF_ERR_INVAL_ARG


# -- memif_poll_event, memif_cancel_poll_event


def test_poll_waits_for_milliseconds() -> None:
    with initialised():
        start = time.monotonic()
        assert c.memif_poll_event(60) == c.MEMIF_ERR_SUCCESS
        assert 0.05 < time.monotonic() - start < within(2)
        assert c.memif_poll_event(0) == c.MEMIF_ERR_SUCCESS


@pytest.mark.parametrize("timeout", [-2, None, "x", 1.5])
def test_poll_refuses_bad_timeouts(timeout: Any) -> None:
    with initialised():
        code = c.MEMIF_ERR_INVAL_ARG
        if timeout is None:
            assert c.memif_cancel_poll_event() == c.MEMIF_ERR_SUCCESS
            code = c.MEMIF_ERR_INVAL_ARG
        assert c.memif_poll_event(timeout) == code


def test_poll_of_a_library_that_does_not_poll() -> None:
    assert c.memif_poll_event(0) == c.MEMIF_ERR_BAD_FD
    assert c.memif_cancel_poll_event() == c.MEMIF_ERR_BAD_FD
    with initialised(nothing, "app"):
        assert c.memif_poll_event(0) == c.MEMIF_ERR_BAD_FD
        assert c.memif_cancel_poll_event() == c.MEMIF_ERR_BAD_FD


def test_cancel_ends_a_poll_that_waits_for_ever() -> None:
    with initialised():
        results: list[int] = []
        thread = threading.Thread(target=lambda: results.append(c.memif_poll_event(-1)))
        thread.start()
        time.sleep(0.05)
        assert c.memif_cancel_poll_event() == c.MEMIF_ERR_SUCCESS
        thread.join(5)
        assert results == [c.MEMIF_ERR_POLL_CANCEL]
        assert c.memif_poll_event(0) == c.MEMIF_ERR_SUCCESS


def test_cancel_holds_for_the_next_poll() -> None:
    with initialised():
        c.memif_cancel_poll_event()
        assert c.memif_poll_event(-1) == c.MEMIF_ERR_POLL_CANCEL


def test_cleanup_ends_a_poll_in_another_thread() -> None:
    results: list[int] = []
    with initialised():
        threads = [threading.Thread(target=lambda: results.append(c.memif_poll_event(-1))) for _ in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(0.05)
    for thread in threads:
        thread.join(5)
    assert results == [c.MEMIF_ERR_POLL_CANCEL] * 3


def test_a_forked_child_starts_anew(socket_path: str) -> None:
    with pair(socket_path) as (master, slave):

        def child() -> str:
            bufs = [c.memif_buffer_t()]
            codes = [
                c.memif_poll_event(0),
                c.memif_rx_burst(slave.conn, 0, bufs, 1)[0],
                c.memif_tx_burst(master.conn, 0, bufs, 1)[0],
                c.memif_init(None, "child"),
            ]
            return " ".join(str(int(code)) for code in codes)

        codes = (c.MEMIF_ERR_BAD_FD, c.MEMIF_ERR_NOCONN, c.MEMIF_ERR_NOCONN, c.MEMIF_ERR_SUCCESS)
        answer = text_of_child(child, uid=os.getuid(), gid=os.getgid())
        assert answer == " ".join(str(int(code)) for code in codes)
        master.send(b"still here")
        assert slave.receive(2) == [b"still here"]


def test_the_other_end_may_be_any(socket_path: str) -> None:
    with initialised(), memif.listen(socket_path, id=2) as other:
        slave = End(socket_path, interface_id=2)
        poll_until(lambda: (other.socket.poll(0), slave.up)[1])
        other.tx[0].send([b"from the plain API"])
        assert slave.receive(4) == [b"from the plain API"]


def test_packets_that_nobody_receives_do_not_hide_other_events(socket_path: str) -> None:
    with initialised():
        master, slave = End(socket_path, is_master=1, interrupts=True), End(socket_path)
        poll_until(lambda: master.up and slave.up)
        slave.send(b"left in the ring")
        poll_until(lambda: len(master.interrupts) > 3)
        other = End(socket_path, is_master=1, interface_id=1), End(socket_path, interface_id=1)
        poll_until(lambda: all(end.up for end in other))
        c.memif_delete(slave.conn)
        poll_until(lambda: not master.up)
