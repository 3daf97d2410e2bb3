"""Socket handles of 4.0, data bases of 3.1: each with its own event loop and timer."""

import os
import select
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from libmemif.rig import End, buffers, initialised, poll_until
from memif import libmemif as c
from patience import within

OK, INVALID = c.MEMIF_ERR_SUCCESS, c.MEMIF_ERR_INVAL_ARG
TWO_SECONDS = c.itimerspec(it_interval=c.timespec(2), it_value=c.timespec(2))


@pytest.fixture
def sockets() -> Iterator[list[c.memif_socket_handle_t]]:
    """Sockets to be deleted, with their connections, when the test ends."""
    made: list[c.memif_socket_handle_t] = []
    yield made
    for sock in made:
        if sock.socket is not None:
            sock.socket.close()
        sock.main.close()


def create_socket(
    made: list[c.memif_socket_handle_t], path: str, ctx: Any = None, **args: Any
) -> c.memif_socket_handle_t:
    err, sock = c.memif_create_socket(c.memif_socket_args_t(path=path, **args), ctx)
    assert err == OK
    assert sock is not None
    made.append(sock)
    return sock


def poll_both(done: Any, *socks: c.memif_socket_handle_t) -> None:
    end = time.monotonic() + within(5)
    while not done():
        assert time.monotonic() < end
        for sock in socks:
            assert c.memif_poll_event(sock, 2) == OK


def test_two_sockets_talk(socket_path: str, sockets: list[Any]) -> None:
    left = create_socket(sockets, socket_path, app_name="left app")
    right = create_socket(sockets, socket_path, app_name="right app")
    master, slave = End(None, socket=left, is_master=1), End(None, socket=right)
    poll_both(lambda: master.up and slave.up, left, right)
    slave.send(b"4.0")
    assert master.receive(2) == [b"4.0"]
    assert c.memif_get_details(master.conn)[1].remote_inst_name == "right app"
    assert c.memif_get_socket_handle(master.conn) is left
    assert c.memif_get_socket_path(left) == c.memif_get_socket_filename(left) == socket_path
    assert c.memif_delete_socket(left) == INVALID  # it is in use
    assert c.memif_delete(master.conn) == OK
    assert c.memif_delete_socket(left) == OK
    assert not left
    assert c.memif_get_socket_handle(master.conn) is None


def test_master_and_slave_on_one_abstract_socket(sockets: list[Any]) -> None:
    sock = create_socket(sockets, f"@memif test {os.getpid()}")
    master, slave = End(None, socket=sock, is_master=1), End(None, socket=sock)
    poll_until(lambda: master.up and slave.up, sock=sock)
    assert c.memif_get_socket_path(sock) == f"@memif test {os.getpid()}"


@pytest.mark.parametrize(
    "args",
    [
        {"path": ""},
        {"path": "p" * 108},
        {"path": 5},
        {"path": "/tmp/x", "app_name": "a" * 32},
        {"path": "/tmp/x", "alloc": 5},
        {"path": "/tmp/x", "free": 5},
        {"path": "/tmp/x", "realloc": 5},
        {"path": "/tmp/x", "on_control_fd_update": 5},
        {"path": "/tmp/x", "connection_request_timer": -1},
        {"path": "/tmp/x", "connection_request_timer": "x"},
        {"path": "unix:/tmp/x"},
    ],
)
def test_create_socket_refuses(args: dict[str, Any]) -> None:
    assert c.memif_create_socket(c.memif_socket_args_t(**args)) == (INVALID, None)


def test_create_socket_reports_a_callback_that_fails(socket_path: str) -> None:
    args = c.memif_socket_args_t(path=socket_path, on_control_fd_update=lambda fde, ctx: -1)
    assert c.memif_create_socket(args) == (c.MEMIF_ERR_CB_FDUPDATE, None)


def test_the_user_s_own_loop(socket_path: str, sockets: list[Any]) -> None:
    known: dict[int, c.memif_fd_event_t] = {}

    def update(fde: c.memif_fd_event_t, ctx: Any) -> int:
        assert ctx == "mine"
        assert isinstance(fde.type, c.memif_fd_event_type_t)
        if fde.type & c.MEMIF_FD_EVENT_DEL:
            del known[fde.fd]
        else:
            known[fde.fd] = fde
        return 0

    sock = create_socket(sockets, socket_path, "mine", on_control_fd_update=update)
    assert len(known) == 1
    master, slave = End(None, socket=sock, is_master=1, interrupts=True), End(None, socket=sock)
    slave_sent = False
    end = time.monotonic() + within(5)
    while not master.interrupts:
        assert time.monotonic() < end
        for fd in select.select(list(known), [], [], 0.02)[0]:
            if fd in known:
                assert c.memif_control_fd_handler(known[fd].private_ctx, c.MEMIF_FD_EVENT_READ) == OK
        if master.up and slave.up and not slave_sent:
            slave_sent = bool(slave.send(b"x"))
    assert c.memif_poll_event(sock, 0) == c.MEMIF_ERR_BAD_FD
    assert c.memif_cancel_poll_event(sock) == c.MEMIF_ERR_BAD_FD
    gone = known[max(known)].private_ctx
    c.memif_delete(master.conn)
    c.memif_delete(slave.conn)
    assert c.memif_control_fd_handler(gone, 1) == c.MEMIF_ERR_BAD_FD
    assert c.memif_delete_socket(sock) == OK
    assert known == {}


def test_poll_and_cancel(socket_path: str, sockets: list[Any]) -> None:
    sock = create_socket(sockets, socket_path)
    assert c.memif_poll_event(sock, 0) == OK
    assert c.memif_poll_event(sock, -2) == INVALID
    assert c.memif_cancel_poll_event(sock) == OK
    assert c.memif_poll_event(sock) == c.MEMIF_ERR_POLL_CANCEL
    assert c.memif_delete_socket(sock) == OK


@pytest.mark.parametrize("handle", [None, "x", 5, "deleted"])
def test_wrong_socket_handles(socket_path: str, sockets: list[Any], handle: Any) -> None:
    if handle == "deleted":
        handle = create_socket(sockets, socket_path)
        assert c.memif_delete_socket(handle) == OK
        assert c.memif_poll_event(handle, 0) == INVALID
        assert c.memif_cancel_poll_event(handle) == INVALID
        assert c.memif_create(c.memif_conn_args_t(socket=handle)) == (INVALID, None)
        assert c.memif_set_connection_request_timer(handle, 1.0) == INVALID
    assert c.memif_delete_socket(handle) == INVALID
    assert c.memif_get_socket_path(handle) is None
    assert c.memif_get_listener_fd(handle) == -1
    assert c.memif_set_listener_fd(handle, 0) == INVALID
    assert c.memif_get_socket_handle(handle) is None
    c.memif_register_external_region(handle, None, None, None, None)
    if handle is not None:
        assert c.memif_cancel_poll_event(handle) == INVALID


# -- listener


def test_listener_fd_comes_and_goes(socket_path: str, sockets: list[Any]) -> None:
    sock = create_socket(sockets, socket_path)
    assert c.memif_get_listener_fd(sock) == -1
    master = End(None, socket=sock, is_master=1)
    fd = c.memif_get_listener_fd(sock)
    with socket.socket(fileno=os.dup(fd)) as listener:
        assert listener.getsockname() == socket_path
    c.memif_delete(master.conn)
    assert c.memif_get_listener_fd(sock) == -1


def test_a_listener_of_somebody_else(socket_path: str, sockets: list[Any]) -> None:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(socket_path)
    listener.listen()
    sock = create_socket(sockets, socket_path)
    fd = listener.detach()
    assert c.memif_set_listener_fd(sock, fd) == OK
    assert c.memif_get_listener_fd(sock) == fd
    other = create_socket(sockets, socket_path, connection_request_timer=0.05)
    master, slave = End(None, socket=sock, is_master=1), End(None, socket=other)
    poll_both(lambda: master.up and slave.up, sock, other)
    assert c.memif_set_listener_fd(sock, fd) == OK  # once more: nothing changes
    masters = [master]
    for _ in range(2):  # it stays when its last master goes, for the next one
        c.memif_delete(masters[-1].conn)
        assert c.memif_get_listener_fd(sock) == fd
        poll_both(lambda: not slave.up, sock, other)
        masters.append(End(None, socket=sock, is_master=1))
        poll_both(lambda: masters[-1].up and slave.up, sock, other)
    c.memif_delete(masters[-1].conn)
    c.memif_delete(slave.conn)
    assert c.memif_delete_socket(sock) == OK
    assert os.path.exists(socket_path)  # not ours to remove
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)


def test_a_listener_whose_announcement_fails_stays_its_owner_s(socket_path: str, sockets: list[Any]) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(socket_path)
        listener.listen()
        args = c.memif_socket_args_t(
            path=socket_path, on_control_fd_update=lambda fde, ctx: int(fde.fd == listener.fileno())
        )
        err, sock = c.memif_create_socket(args)
        sockets.append(sock)
        assert err == OK
        assert c.memif_set_listener_fd(sock, listener.fileno()) == c.MEMIF_ERR_CB_FDUPDATE
        assert c.memif_get_listener_fd(sock) == -1
        assert listener.getsockname() == socket_path


@pytest.mark.parametrize("fd", [-1, 10**6, None, "x", 2**70])
def test_what_is_no_listener(socket_path: str, sockets: list[Any], fd: Any) -> None:
    sock = create_socket(sockets, socket_path)
    assert c.memif_set_listener_fd(sock, fd) == c.MEMIF_ERR_BAD_FD
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as idle, socket.socket() as tcp:
        tcp.listen()
        for wrong in (idle.fileno(), tcp.fileno()):
            assert c.memif_set_listener_fd(sock, wrong) == c.MEMIF_ERR_BAD_FD


# -- connecting by hand, and the timer


def test_without_a_timer_the_user_connects(socket_path: str, sockets: list[Any]) -> None:
    there, here = create_socket(sockets, socket_path), create_socket(sockets, socket_path)
    slave = End(None, socket=here)  # tries once
    assert c.memif_request_connection(slave.conn) == c.MEMIF_ERR_NO_FILE
    master = End(None, socket=there, is_master=1)
    assert c.memif_request_connection(master.conn) == INVALID
    for _ in range(5):
        c.memif_poll_event(here, 20)
        c.memif_poll_event(there, 0)
    assert slave.events == []
    assert c.memif_request_connection(slave.conn) == OK
    assert c.memif_request_connection(slave.conn) == c.MEMIF_ERR_ALRCONN
    poll_both(lambda: master.up and slave.up, there, here)
    assert c.memif_request_connection(slave.conn) == c.MEMIF_ERR_ALRCONN
    c.memif_delete(slave.conn)
    assert c.memif_request_connection(slave.conn) == c.MEMIF_ERR_NOCONN


def test_a_dead_listener_refuses(socket_path: str, sockets: list[Any]) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
        dead.bind(socket_path)
    slave = End(None, socket=create_socket(sockets, socket_path))
    assert c.memif_request_connection(slave.conn) == c.MEMIF_ERR_CONNREFUSED


@pytest.mark.parametrize("timer", [TWO_SECONDS, 2.0, c.itimerspec(it_value=c.timespec(0, 50_000_000))])
def test_the_timer_of_a_socket(socket_path: str, sockets: list[Any], timer: Any) -> None:
    there = create_socket(sockets, socket_path)
    here = create_socket(sockets, socket_path, connection_request_timer=timer)
    slave = End(None, socket=here)
    master = End(None, socket=there, is_master=1)
    poll_both(lambda: master.up and slave.up, there, here)
    assert c.memif_set_connection_request_timer(here, 0.05) == OK
    assert c.memif_delete(master.conn) == OK
    master = End(None, socket=there, is_master=1)
    poll_both(lambda: slave.events == ["up", "down", "up"], there, here)
    assert c.memif_set_connection_request_timer(here, c.itimerspec()) == OK
    assert c.memif_delete(master.conn) == OK
    master = End(None, socket=there, is_master=1)
    for _ in range(10):
        c.memif_poll_event(here, 20)
        c.memif_poll_event(there, 0)
    assert slave.events == ["up", "down", "up", "down"]


@pytest.mark.parametrize(
    "timer", [-1, "x", None, float("nan"), float("inf"), c.itimerspec(c.timespec(-1), c.timespec(1))]
)
def test_timers_that_are_none(socket_path: str, sockets: list[Any], timer: Any) -> None:
    sock = create_socket(sockets, socket_path)
    assert c.memif_set_connection_request_timer(sock, timer) == INVALID
    assert c.memif_set_connection_request_timer(timer) == INVALID
    with initialised():
        assert c.memif_set_connection_request_timer(timer) == INVALID
        assert c.memif_set_connection_request_timer(1.0) == OK


# -- 3.1


def test_sockets_of_memif_init(socket_path: str) -> None:
    assert c.memif_create_socket(socket_path) == (INVALID, None)
    with initialised():
        err, sock = c.memif_create_socket(socket_path, "ctx")
        assert err == OK
        assert sock is not None
        assert c.memif_create_socket("")[0] == INVALID
        master, slave = End(None, socket=sock, is_master=1), End(socket_path)
        poll_until(lambda: master.up and slave.up)
        assert c.memif_get_socket_filename(sock) == socket_path


def test_a_data_base_for_each_thread(socket_path: str) -> None:
    err, left = c.memif_per_thread_init("ctx", None, "left")
    assert err == OK
    err, right = c.memif_per_thread_init(None, None, "right", None, None, None)
    assert err == OK
    assert left is not None
    assert right is not None
    assert c.memif_create(c.memif_conn_args_t()) == (INVALID, None)  # there is no default socket
    one, two = (c.memif_per_thread_create_socket(main, socket_path)[1] for main in (left, right))
    master, slave = End(None, socket=one, is_master=1), End(None, socket=two)
    assert c.memif_per_thread_set_connection_request_timer(right, 0.1) == OK
    end = time.monotonic() + within(5)
    while not (master.up and slave.up):
        assert time.monotonic() < end
        assert c.memif_per_thread_poll_event(left, 5) == OK
        assert c.memif_per_thread_poll_event(right, 5) == OK
    slave.send(b"3.1")
    assert c.memif_rx_burst(master.conn, 0, buffers(2), 2) == (OK, 1)
    assert c.memif_per_thread_cancel_poll_event(left) == OK
    assert c.memif_per_thread_poll_event(left, -1) == c.MEMIF_ERR_POLL_CANCEL
    for main in (left, right):
        assert c.memif_per_thread_cleanup(main) == OK
        assert not main
        assert c.memif_per_thread_cleanup(main) == INVALID
    assert slave.events == ["up", "down"]


def test_the_callback_of_3_1_gets_the_context() -> None:
    heard: list[Any] = []
    err, main = c.memif_per_thread_init("ctx", lambda fd, events, ctx: heard.append((fd, events, ctx)), "app")
    assert err == OK
    assert main is not None
    assert c.memif_per_thread_create_socket(main, "@x")[0] == OK
    assert heard[0][1:] == (c.MEMIF_FD_EVENT_READ, "ctx")
    assert c.memif_per_thread_control_fd_handler(main, heard[0][0], 1) == OK
    assert c.memif_per_thread_control_fd_handler(main, -1, 1) == c.MEMIF_ERR_BAD_FD
    assert c.memif_per_thread_poll_event(main, 0) == c.MEMIF_ERR_BAD_FD
    assert c.memif_per_thread_cleanup(main) == OK
    assert heard[-1] == (heard[0][0], c.MEMIF_FD_EVENT_DEL, "ctx")


def test_init_in_the_form_of_3_1() -> None:
    heard: list[Any] = []
    with initialised(lambda *args: heard.append(args), "app", None, None, None):
        assert heard[0][1:] == (c.MEMIF_FD_EVENT_READ, None)


@pytest.mark.parametrize("main", [None, "x", 5])
def test_wrong_handles_of_data_bases(main: Any) -> None:
    assert c.memif_per_thread_cleanup(main) == INVALID
    assert c.memif_per_thread_control_fd_handler(main, 1, 1) == INVALID
    assert c.memif_per_thread_poll_event(main, 0) == INVALID
    assert c.memif_per_thread_cancel_poll_event(main) == INVALID
    assert c.memif_per_thread_set_connection_request_timer(main, 1.0) == INVALID
    assert c.memif_per_thread_create_socket(main, "@x") == (INVALID, None)
    c.memif_per_thread_register_external_region(main)
    assert c.memif_per_thread_init(None, 5)[0] == INVALID  # type: ignore[arg-type]
    assert c.memif_per_thread_init(None, None, 5)[0] == INVALID  # type: ignore[arg-type]
    assert c.memif_per_thread_init(None, None, "a", None, 5)[0] == INVALID  # type: ignore[arg-type]
