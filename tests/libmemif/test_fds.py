"""The user polls: which descriptors are announced, with which events, and when the timer runs."""

import array
import os
import select
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from libmemif.rig import End, initialised
from memif import libmemif as c
from patience import within

READ, WRITE, DEL, MOD = (c.MEMIF_FD_EVENT_READ, c.MEMIF_FD_EVENT_WRITE, c.MEMIF_FD_EVENT_DEL, c.MEMIF_FD_EVENT_MOD)


class Loop:
    """An epoll of the user's own, fed by the callback as the guide's second example does."""

    def __init__(self) -> None:
        self.epoll = select.epoll()
        self.watched: dict[int, int] = {}
        self.log: list[tuple[int, int]] = []
        self.fail_with: Callable[[int, int], int] = lambda fd, events: 0

    def update(self, fd: int, events: int) -> int:
        """memif_control_fd_update_t. Strict: only what is possible at that moment passes."""
        self.log.append((fd, events))
        if code := self.fail_with(fd, events):
            return code
        mask = (select.EPOLLIN if events & READ else 0) | (select.EPOLLOUT if events & WRITE else 0)
        if events & DEL:
            self.epoll.unregister(fd)  # fails if it was closed already
            del self.watched[fd]
        elif events & MOD:
            self.epoll.modify(fd, mask)
            self.watched[fd] = mask
        else:
            self.epoll.register(fd, mask)
            self.watched[fd] = mask
        return 0

    def run(self, until: Callable[[], Any], timeout: float = 5.0) -> None:
        """Poll and handle until `until` says so."""
        end = time.monotonic() + within(timeout)
        while not until():
            assert time.monotonic() < end, f"still waiting, watching {self.watched}"
            for fd, events in self.epoll.poll(0.02):
                flags = (READ if events & select.EPOLLIN else 0) | (WRITE if events & select.EPOLLOUT else 0)
                assert c.memif_control_fd_handler(fd, flags) in (c.MEMIF_ERR_SUCCESS, c.MEMIF_ERR_BAD_FD)


@pytest.fixture
def loop() -> Any:
    made = Loop()
    yield made
    made.epoll.close()


def kind(fd: int) -> str:
    """What the kernel calls a descriptor."""
    return os.readlink(f"/proc/self/fd/{fd}").split(":[")[-1].rstrip("]").split("[")[-1]


def test_every_descriptor_comes_and_goes(socket_path: str, loop: Loop) -> None:
    with initialised(loop.update, "app"):
        assert [kind(fd) for fd in loop.watched] == ["timerfd"]
        master = End(socket_path, is_master=1, interrupts=True)
        slave = End(socket_path)
        loop.run(lambda: master.up and slave.up)
        before = dict(loop.watched)
        kinds = sorted(kind(fd) for fd in before)
        # Two timers (the default socket has one), listener, both ends of the connection, the master's interrupts.
        assert kinds.count("timerfd") == 2
        assert kinds.count("eventfd") == 1
        assert len(kinds) == 6
        slave.send(b"x")
        loop.run(lambda: master.interrupts)
        assert master.receive(2) == [b"x"]
        assert c.memif_delete(slave.conn) == c.MEMIF_ERR_SUCCESS
        loop.run(lambda: not master.up)
        assert len(loop.watched) == 3
        assert c.memif_delete(master.conn) == c.MEMIF_ERR_SUCCESS
        assert [kind(fd) for fd in loop.watched] == ["timerfd"]
    assert loop.watched == {}
    assert {events for _, events in loop.log} == {READ, DEL}


@pytest.mark.parametrize("fd", [-1, 0, 10**6, None, "x", 2**70])
def test_handler_of_a_descriptor_that_is_none(loop: Loop, fd: Any) -> None:
    code = c.MEMIF_ERR_BAD_FD if isinstance(fd, int) else c.MEMIF_ERR_INVAL_ARG
    assert c.memif_control_fd_handler(fd, READ) == code
    with initialised(loop.update, "app"):
        assert c.memif_control_fd_handler(fd, READ) == code


def test_handler_of_a_descriptor_that_went(socket_path: str, loop: Loop) -> None:
    with initialised(loop.update, "app"):
        master = End(socket_path, is_master=1)
        listener = next(fd for fd in loop.watched if "socket" in os.readlink(f"/proc/self/fd/{fd}"))
        assert c.memif_control_fd_handler(listener, READ) == c.MEMIF_ERR_SUCCESS
        c.memif_delete(master.conn)
        assert c.memif_control_fd_handler(listener, READ) == c.MEMIF_ERR_BAD_FD


def test_the_timer_runs_only_while_a_slave_is_down(socket_path: str, loop: Loop) -> None:
    with initialised(loop.update, "app"):
        assert c.memif_set_connection_request_timer(0.05) == c.MEMIF_ERR_SUCCESS
        slave = End(socket_path)
        timer = next(fd for fd in list(loop.watched)[::-1] if kind(fd) == "timerfd")

        def fires(seconds: float = 0.3) -> bool:
            return bool(select.select([timer], [], [], seconds)[0])

        assert fires()
        master = End(socket_path, is_master=1)
        loop.run(lambda: master.up and slave.up)
        assert not fires()
        c.memif_delete(master.conn)
        loop.run(lambda: not slave.up)
        assert fires()
        c.memif_delete(slave.conn)
        assert timer not in loop.watched


def test_a_callback_that_fails_for_the_listener(socket_path: str, loop: Loop) -> None:
    with initialised(loop.update, "app"):
        loop.fail_with = lambda fd, events: int("eventfd" not in kind(fd) and "timerfd" not in kind(fd)) & events
        err, conn = c.memif_create(c.memif_conn_args_t(socket_filename=socket_path, is_master=1))
        assert (err, conn) == (c.MEMIF_ERR_CB_FDUPDATE, None)
        assert not os.path.exists(socket_path)
        loop.fail_with = lambda fd, events: 0
        assert c.memif_create(c.memif_conn_args_t(socket_filename=socket_path, is_master=1))[0] == c.MEMIF_ERR_SUCCESS


def test_a_callback_that_fails_for_a_slave_s_connection(socket_path: str, loop: Loop) -> None:
    with initialised(loop.update, "app"):
        End(socket_path, is_master=1)
        loop.fail_with = lambda fd, events: -(kind(fd) != "timerfd")
        err, conn = c.memif_create(c.memif_conn_args_t(socket_filename=socket_path))
        assert (err, conn) == (c.MEMIF_ERR_CB_FDUPDATE, None)
        loop.fail_with = lambda fd, events: 0


def test_a_callback_that_fails_for_a_client(socket_path: str, loop: Loop) -> None:
    with initialised(loop.update, "app"):
        End(socket_path, is_master=1)
        listener = next(fd for fd in loop.watched if kind(fd) != "timerfd")
        loop.fail_with = lambda fd, events: -1
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
            client.connect(socket_path)
            assert c.memif_control_fd_handler(listener, READ) == c.MEMIF_ERR_CB_FDUPDATE
            client.settimeout(5)
            assert client.recv(128) == b""
        loop.fail_with = lambda fd, events: 0


def test_a_callback_that_fails_when_a_descriptor_goes(socket_path: str, loop: Loop) -> None:
    with initialised(loop.update, "app"):
        master = End(socket_path, is_master=1)
        loop.fail_with = lambda fd, events: events & DEL
        assert c.memif_delete(master.conn) == c.MEMIF_ERR_CB_FDUPDATE
        assert c.memif_delete(master.conn) == c.MEMIF_ERR_NOCONN
        loop.fail_with = lambda fd, events: 0


def region_message(index: int) -> tuple[bytes, list[Any]]:
    """ADD_REGION with a descriptor of one page."""
    fd = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, 4096)
    message = (4).to_bytes(2, "little") + index.to_bytes(2, "little") + (4096).to_bytes(8, "little")
    return message.ljust(128, b"\0"), [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]


def test_write_is_asked_for_while_the_peer_does_not_read(socket_path: str, loop: Loop) -> None:
    """A client that sends and never reads the answers: the master has to wait for room in the socket."""
    with initialised(loop.update, "app"), socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        End(socket_path, is_master=1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        client.connect(socket_path)
        loop.run(lambda: len(loop.watched) >= 4)
        ours = list(loop.watched)[-1]
        with socket.socket(fileno=os.dup(ours)) as accepted:
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # a few datagrams
        init = (3).to_bytes(2, "little") + (0x200).to_bytes(2, "little")
        client.send(init.ljust(128, b"\0"))
        for index in range(250):
            message, ancillary = region_message(index)
            client.sendmsg([message], ancillary)
            os.close(ancillary[0][2][0])
            loop.run(lambda: not select.select([ours], [], [], 0)[0] if ours in loop.watched else True)
            if any(events & WRITE for _, events in loop.log):
                break
        assert (ours, READ | WRITE | MOD) in loop.log
        client.setblocking(False)
        received = 0
        end = time.monotonic() + within(5)
        while (ours, READ | MOD) not in loop.log and ours in loop.watched and time.monotonic() < end:
            try:
                received += bool(client.recv(128))
            except BlockingIOError:
                loop.run(lambda: select.select([client], [], [], 0)[0] or (ours, READ | MOD) in loop.log)
        assert received > 1
        assert (ours, READ | MOD) in loop.log
