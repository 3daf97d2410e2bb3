"""Socket: events and their order, many interfaces on one control socket, its file, clients that misbehave."""

import os
import select
import selectors
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import memif
from children import NOBODY, in_child, text_of_child
from ends import all_up, linked, pump, receive
from patience import within


def raw_client(path: str) -> socket.socket:
    """A connected client that has said nothing yet."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client.settimeout(5.0)
    client.connect(path)
    return client


@pytest.fixture
def silent(socket_path: str) -> Iterator[socket.socket]:
    """A server on `socket_path` that accepts nobody."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.bind(socket_path)
        server.listen(8)
        yield server


# -- several interfaces


def test_several_interfaces_on_one_socket(socket_path: str) -> None:
    ids = (0, 7, 2**32 - 1)
    with memif.Socket(socket_path) as listening, memif.Socket(socket_path) as connecting:
        masters = [listening.interface(id=i, role="master") for i in ids]
        slaves = [connecting.interface(id=i) for i in ids]
        assert listening.interfaces == tuple(masters)
        all_up(*masters, *slaves)
        for slave in slaves:
            assert slave.tx[0].send([b"for %d" % slave.id]) == 1
        assert [receive(master.rx[0], 1) for master in masters] == [[b"for %d" % i] for i in ids]
        slaves[1].close()
        pump(listening, until=lambda: not masters[1].up)
        assert [master.up for master in masters] == [True, False, True]
        assert slaves[2].tx[0].send([b"still"]) == 1
        assert receive(masters[2].rx[0], 1) == [b"still"]


def test_both_roles_on_one_socket(socket_path: str) -> None:
    """Even to its own listener a socket can connect."""
    with memif.Socket(socket_path) as both:
        master, slave = both.interface(role="master"), both.interface(role="slave")
        all_up(master, slave)
        assert slave.tx[0].send([b"to myself"]) == 1
        assert receive(master.rx[0], 1) == [b"to myself"]


def test_an_id_is_taken_once_a_role(socket_path: str) -> None:
    with memif.Socket(socket_path) as sock:
        first = sock.interface(id=3, role="master")
        with pytest.raises(memif.MemifValueError, match=r"id.*3.*master"):
            sock.interface(id=3, role="server")
        first.close()
        sock.interface(id=3, role="master")


def test_a_link_survives_the_end_of_the_listener(socket_path: str) -> None:
    with memif.Socket(socket_path) as listening, memif.Socket(socket_path) as connecting:
        master = listening.interface(id=1, role="master")
        other = listening.interface(id=2, role="master")
        slave = connecting.interface(id=1)
        all_up(master, slave)
        other.close()
        assert os.path.exists(socket_path)
        master.close()
        assert not os.path.exists(socket_path)
        pump(connecting, until=lambda: not slave.up)
        assert slave.disconnect_reason == "interface deleted"
        again = listening.interface(id=1, role="master")
        all_up(again, slave)


# -- waiting for events


def epoll_ready(fd: int, timeout: float) -> bool:
    with select.epoll() as poller:
        poller.register(fd, select.EPOLLIN)
        return bool(poller.poll(timeout))


def select_ready(fd: int, timeout: float) -> bool:
    return bool(select.select([fd], [], [], timeout)[0])


def selectors_ready(fd: int, timeout: float) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(fd, selectors.EVENT_READ)
        return bool(selector.select(timeout))


@pytest.mark.parametrize("ready", [epoll_ready, select_ready, selectors_ready])
def test_fileno_tells_when_to_poll(socket_path: str, ready: Callable[[int, float], bool]) -> None:
    """Each side is polled only when its descriptor is readable: the handshake needs nothing else."""
    with memif.Socket(socket_path) as listening, memif.Socket(socket_path) as connecting:
        master = listening.interface(role="master")
        assert not ready(listening.fileno(), 0.0)
        slave = connecting.interface()
        for _ in range(100):
            for sock in (listening, connecting):
                if ready(sock.fileno(), 0.0):
                    sock.poll(0)
        assert master.up
        assert slave.up
        assert not ready(listening.fileno(), 0.05)
        assert not ready(connecting.fileno(), 0.05)


def test_fileno_tells_of_a_timer(socket_path: str) -> None:
    """A slave without a master: its next attempt makes the descriptor readable, not only calls of ours."""
    with memif.Socket(socket_path) as sock:
        sock.interface(reconnect=0.2)
        for _ in range(4):
            assert select_ready(sock.fileno(), 1.0)
            sock.poll(0)


def test_an_idle_socket_sleeps(socket_path: str) -> None:
    with memif.Socket(socket_path) as sock:
        sock.interface(role="master")
        before = time.process_time()
        assert sock.poll(0.3) is False
        assert time.process_time() - before < within(0.1)


@pytest.mark.parametrize("timeout", [0, 0.05])
def test_poll_returns_after_its_timeout(socket_path: str, timeout: float) -> None:
    with memif.Socket(socket_path) as sock:
        start = time.monotonic()
        assert sock.poll(timeout) is False
        assert timeout <= time.monotonic() - start < within(timeout + 0.5)


def later(delay: float, call: Callable[[], object]) -> threading.Timer:
    timer = threading.Timer(delay, call)
    timer.start()
    return timer


@pytest.mark.parametrize("timeout", [None, 30.0])
def test_cancel_poll_from_another_thread(socket_path: str, timeout: float | None) -> None:
    with memif.Socket(socket_path) as sock:
        timer = later(0.05, sock.cancel_poll)
        assert sock.poll(timeout) is False
        timer.join()


def test_cancel_poll_ends_the_next_poll_and_only_that(socket_path: str) -> None:
    with memif.Socket(socket_path) as sock:
        sock.cancel_poll()
        sock.cancel_poll()
        assert sock.poll(None) is False
        start = time.monotonic()
        assert sock.poll(0.05) is False
        assert time.monotonic() - start >= 0.05


def test_close_ends_a_poll_in_another_thread(socket_path: str) -> None:
    sock = memif.Socket(socket_path)
    sock.interface(role="master")
    timer = later(0.05, sock.close)
    assert sock.poll(None) is False
    timer.join()
    with pytest.raises(memif.MemifClosedError, match="closed"):
        sock.poll(0)


def test_poll_reports_work(socket_path: str) -> None:
    with memif.Socket(socket_path) as sock:
        sock.interface(role="master")
        with raw_client(socket_path):
            assert sock.poll(1.0) is True
        assert sock.poll(1.0) is True  # it left


# -- callbacks


def test_callbacks(socket_path: str) -> None:
    calls: list[tuple[Any, ...]] = []

    def note(name: str) -> Callable[..., None]:
        return lambda *arguments: calls.append((name, *arguments))

    options = {f"on_{event}": note(event) for event in ("connect", "disconnect", "interrupt")}
    with linked(socket_path, master=options, slave={"tx_queues": 2}) as (master, slave):
        assert calls == [("connect", master)]
        slave.tx[1].send([b"x"])
        pump(master, until=lambda: len(calls) > 1)
        assert calls[1] == ("interrupt", master, 1)
        assert receive(master.rx[1], 1) == [b"x"]
        slave.disconnect()
        pump(master, until=lambda: not master.up)
        assert calls[-1] == ("disconnect", master)
        assert not any(call[0] == "interrupt" for call in calls[2:])


def test_on_interrupt_comes_back_while_packets_wait(socket_path: str) -> None:
    calls: list[int] = []
    with linked(socket_path, master={"on_interrupt": lambda iface, qid: calls.append(qid)}) as (master, slave):
        slave.tx[0].send([b"1", b"2"])
        pump(master, until=lambda: calls)
        assert receive(master.rx[0], 1) == [b"1"]
        calls.clear()
        slave.tx[0].send([b"3"])
        pump(master, until=lambda: calls)
        assert receive(master.rx[0], 2) == [b"2", b"3"]
        with master.rx[0].recv(timeout=0) as nothing:
            assert not nothing
        while master.socket.poll(0):
            pass
        calls.clear()
        assert master.socket.poll(0.02) is False
        assert calls == []


def test_a_callback_may_do_anything(socket_path: str) -> None:
    """Send, close itself, open another: the lock is not held meanwhile."""
    opened: list[memif.Interface] = []

    def greet(iface: memif.Interface) -> None:
        iface.tx[0].send([b"hello"])

    def replace(iface: memif.Interface) -> None:
        thread = threading.Thread(target=lambda: opened.append(iface.socket.interface(id=9, role="master")))
        thread.start()
        thread.join(5.0)
        iface.close()

    with linked(socket_path, slave={"on_connect": greet}, master={"on_disconnect": replace}) as (master, slave):
        assert receive(master.rx[0], 1) == [b"hello"]
        slave.close()
        pump(master.socket, until=lambda: master.closed)
        assert [iface.id for iface in opened] == [9]
        assert master.socket.interfaces == tuple(opened)


@pytest.mark.parametrize("event", ["on_connect", "on_disconnect", "on_interrupt", "authorize"])
def test_an_exception_of_a_callback_comes_out_of_poll(socket_path: str, event: str) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError(event)

    with memif.Socket(socket_path) as listening, memif.Socket(socket_path) as connecting:
        master = listening.interface(role="master", **{event: fail})
        slave = connecting.interface(reconnect=None)

        def all_of_it() -> None:
            slave.connect()
            all_up(master, slave)
            slave.tx[0].send([b"x"])
            pump(listening, until=lambda: False, timeout=0.2) if event == "on_interrupt" else None
            slave.close()
            pump(listening, until=lambda: not master.up)

        with pytest.raises(ZeroDivisionError, match=event):
            all_of_it()
        if event == "on_interrupt":
            master.rx[0].recv(timeout=0).release()  # else it is called again, before the end of the link
        # The socket is as good as before, and the client is not kept hanging.
        slave.close()
        pump(listening, until=lambda: not master.up and not listening._engine.connections)


# -- clients and servers that misbehave


def test_silent_client_is_dropped(socket_path: str) -> None:
    with memif.Socket(socket_path, handshake_timeout=0.1) as sock:
        sock.interface(role="master")
        with raw_client(socket_path) as client:
            start = time.monotonic()
            pump(sock, until=lambda: sock._engine.connections)
            pump(sock, until=lambda: not sock._engine.connections)
            assert 0.05 < time.monotonic() - start < within(2.0)
            assert client.recv(200)[:2] == b"\x02\0"  # HELLO
            farewell = client.recv(200)
            assert farewell[:2] == b"\x08\0"  # DISCONNECT
            assert b"time" in farewell
            assert client.recv(200) == b""


def test_silent_server_is_left(socket_path: str, silent: socket.socket) -> None:
    with memif.Socket(socket_path, handshake_timeout=0.1) as sock:
        slave = sock.interface(reconnect=None)
        slave.connect()
        start = time.monotonic()
        with pytest.raises(memif.MemifTimeoutError, match="time"):
            slave.wait_up(5.0)
        assert 0.05 < time.monotonic() - start < within(2.0)
        assert "time" in str(slave.disconnect_reason)


def test_too_many_pending_clients(socket_path: str) -> None:
    with memif.Socket(socket_path, max_pending=2) as sock, memif.Socket(socket_path) as connecting:
        master = sock.interface(role="master")
        with raw_client(socket_path) as first, raw_client(socket_path), raw_client(socket_path):
            pump(sock, until=lambda: sock.stats["accepted"] == 3)
            assert sock.stats == {"accepted": 3, "turned_away": 1, "refused": 0}
            # Room is made by the one that had the most time.
            assert b"too many clients" in b"".join(first.recv(200) for _ in range(2))
            assert first.recv(200) == b""
        # The others have gone, too: there is room for one that means it.
        pump(sock, until=lambda: not sock._engine.connections)
        all_up(master, connecting.interface())


def test_rubbish_is_answered_with_a_reason(socket_path: str) -> None:
    with linked(socket_path) as (master, slave), raw_client(socket_path) as client:
        client.send(b"\xff" * 128)
        pump(master, until=lambda: len(master.socket._engine.connections) == 2)
        pump(master, until=lambda: len(master.socket._engine.connections) == 1)
        assert client.recv(200)[:2] == b"\x02\0"
        assert b"unknown message type" in client.recv(200)
        assert master.up
        assert slave.up


def test_many_clients_come_and_go(socket_path: str) -> None:
    with memif.Socket(socket_path) as sock:
        sock.interface(role="master")
        for _ in range(200):
            raw_client(socket_path).close()
            sock.poll(0)
        pump(sock, until=lambda: sock.stats["accepted"] == 200 and not sock._engine.connections)


# -- who may connect


def test_authorize(socket_path: str) -> None:
    asked: list[memif.Peer] = []

    def even(peer: memif.Peer) -> bool:
        asked.append(peer)
        return len(asked) % 2 == 0

    with (
        memif.Socket(socket_path) as listening,
        memif.Socket(socket_path, app_name="visitor") as connecting,
    ):
        master = listening.interface(role="master", authorize=even)
        slave = connecting.interface(reconnect=None)
        slave.connect()
        pump(listening, connecting, until=lambda: slave.disconnect_reason is not None)
        assert slave.disconnect_reason == "not authorized"
        assert not master.up
        assert asked == [memif.Peer("visitor", "", os.getpid(), os.geteuid(), os.getegid())]
        slave.connect()
        all_up(master, slave)
        assert master.stats["refused"] == 1


def test_permission_of_another_user(socket_path: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    os.chmod(os.path.dirname(socket_path), 0o755)
    with memif.listen(socket_path, socket_mode=0o600):
        text = text_of_child(lambda: repr(memif.connect(socket_path, timeout=0.5)))
        assert text.startswith("MemifPermissionError")
        assert socket_path in text
        assert "user nobody" in text or f"user {NOBODY}" in text
    text = text_of_child(lambda: repr(memif.listen(socket_path)))
    assert text.startswith("MemifPermissionError")
    assert os.path.dirname(socket_path) in text


# -- the socket's file


@pytest.mark.parametrize(("mode", "expected"), [(0o600, 0o600), (0o666, 0o666), (0o640, 0o640)])
def test_mode_of_the_file(socket_path: str, mode: int, expected: int) -> None:
    with memif.Socket(socket_path, mode=mode) as sock:
        sock.interface(role="master")
        assert stat.S_IMODE(os.stat(socket_path).st_mode) == expected


def test_mode_by_default_and_by_umask(socket_path: str) -> None:
    before = os.umask(0o027)
    try:
        with memif.listen(socket_path):
            assert stat.S_IMODE(os.stat(socket_path).st_mode) == 0o600
        with memif.listen(socket_path, socket_mode=None):
            assert stat.S_IMODE(os.stat(socket_path).st_mode) == 0o750
    finally:
        os.umask(before)


def test_owner_of_the_file(socket_path: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("giving files away needs root")
    os.chmod(os.path.dirname(socket_path), 0o755)
    with memif.listen(socket_path, socket_owner=(NOBODY, -1)) as master:
        found = os.stat(socket_path)
        assert (found.st_uid, found.st_gid) == (NOBODY, os.getegid())
        # It is theirs now, so they may connect; that we serve them shows in who we say they are.
        assert master.socket.poll(0) is False


def test_stale_file_is_replaced_and_removed(socket_path: str) -> None:
    def die() -> int:
        memif.listen(socket_path)
        os.kill(os.getpid(), 9)
        return 0

    assert in_child(die) == 9
    assert os.path.exists(socket_path)
    with pytest.raises(memif.MemifTimeoutError, match="left over from a program that has ended"):
        memif.connect(socket_path, timeout=0.1)
    with memif.listen(socket_path) as master, memif.Socket(socket_path) as connecting:
        all_up(master, connecting.interface())
    assert not os.path.exists(socket_path)


def test_live_listener_is_never_removed(socket_path: str) -> None:
    with memif.listen(socket_path) as master, memif.Socket(socket_path) as connecting:
        with pytest.raises(memif.MemifOSError, match=r"has .*m\.sock already") as caught:
            memif.listen(socket_path)
        assert caught.value.errno == 98
        all_up(master, connecting.interface())


def test_missing_directory(socket_path: str) -> None:
    path = f"{socket_path}.d/deep/m.sock"
    with pytest.raises(memif.MemifFileNotFoundError, match=r"m\.sock\.d/deep"):
        memif.listen(path)
    with pytest.raises(memif.MemifTimeoutError, match=r"no directory .*m\.sock\.d/deep"):
        memif.connect(path, timeout=0.1)


def test_file_that_is_no_socket(socket_path: str) -> None:
    Path(socket_path).write_text("precious")
    for call in (memif.listen, memif.connect):
        with pytest.raises(memif.MemifOSError) as caught:
            call(socket_path)
        assert caught.value.code is memif.ErrorCode.FILE_NOT_SOCK
    assert Path(socket_path).read_text() == "precious"


def test_relative_path(socket_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(os.path.dirname(socket_path))
    with linked("m.sock"):
        assert os.path.exists(socket_path)


@pytest.mark.parametrize("listen_as", ["@{}", "abstract:{}", "\0{}"])
@pytest.mark.parametrize("connect_as", ["@{}", "abstract:{}", "\0{}"])
def test_abstract_names(listen_as: str, connect_as: str) -> None:
    name = f"memif-test-{os.getpid()}/x.sock"
    with memif.listen(listen_as.format(name)) as master, memif.Socket(connect_as.format(name)) as connecting:
        all_up(master, connecting.interface())
        with pytest.raises(memif.MemifOSError, match=r"has .* already"):
            memif.listen(connect_as.format(name))
    with pytest.raises(memif.MemifTimeoutError, match="nobody listens"):
        memif.connect(connect_as.format(name), timeout=0.05)


# -- its end


def test_close_closes_everything(socket_path: str) -> None:
    sock = memif.Socket(socket_path)
    master = sock.interface(role="master")
    assert "1 interfaces" in repr(sock)
    sock.close()
    sock.close()
    sock.cancel_poll()
    assert master.closed
    assert not os.path.exists(socket_path)
    assert "closed" in repr(sock)
    with pytest.raises(memif.MemifClosedError, match="closed"):
        sock.interface()
    with pytest.raises(memif.MemifClosedError), sock:
        pass


def test_forgotten_socket_closes_itself(socket_path: str) -> None:
    memif.listen(socket_path)
    # No reference is left but for cycles, which the collector finds.
    import gc

    gc.collect()
    assert not os.path.exists(socket_path)


def test_forked_child_leaves_the_parents_socket_alone(socket_path: str) -> None:
    with linked(socket_path) as (master, slave):

        def child() -> int:
            for call in (lambda: master.socket.poll(0), lambda: slave.tx[0].send([b"x"]), slave.wait_up, slave.connect):
                try:
                    call()
                except memif.MemifStateError:
                    continue
                return 1
            master.socket.close()
            slave.socket.close()
            return 0

        assert in_child(child) == 0
        assert master.socket.poll(0.05) is False
        assert slave.tx[0].send([b"mine"]) == 1
        assert receive(master.rx[0], 2, timeout=0.1) == [b"mine"]
    assert not os.path.exists(socket_path)
