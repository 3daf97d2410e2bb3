"""The end of a link: what the peer sent before it left is received, and on_disconnect finds everything in place."""

import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from libmemif.rig import End, buffers, initialised, pair, poll_until
from memif import libmemif as c

OK = c.MEMIF_ERR_SUCCESS


class Watcher(End):
    """An end that notes what its connection can do in its callbacks."""

    def __init__(self, *args: Any, take: int = 256, **kwargs: Any) -> None:
        self.got: list[bytes] = []
        self.seen: list[tuple[Any, ...]] = []
        self.take = take
        self.inside: Callable[[], Any] | None = None
        super().__init__(*args, **kwargs)

    def _interrupted(self, conn: c.memif_conn_handle_t, ctx: Any, qid: int) -> int:
        super()._interrupted(conn, ctx, qid)
        if self.take:
            self.got += self.receive(self.take, qid)
        return 0

    def _disconnected(self, conn: c.memif_conn_handle_t, ctx: Any) -> int:
        super()._disconnected(conn, ctx)
        err, md = c.memif_get_details(conn)
        code, fd = c.memif_get_queue_efd(conn, 0)
        sock = c.memif_get_socket_handle(conn)
        self.seen.append((bool(conn), bool(sock), int(err), md.link_up_down, len(md.rx_queues), int(code)))
        self.details, self.descriptor = md, fd
        if code == OK:
            os.fstat(fd)
        for region in md.regions:
            os.fstat(region.fd)
        if self.inside is not None:
            self.inside()
        return 0


def watched(path: str, **settings: Any) -> tuple[Watcher, End]:
    """A master that watches, and a slave."""
    watcher = Watcher(path, is_master=1, **settings)
    slave = End(path, num_s2m_rings=2, num_m2s_rings=2)
    poll_until(lambda: watcher.up and slave.up)
    return watcher, slave


WHOLE = (True, True, 0, 1, 2, 0)


def test_what_was_sent_before_the_end_comes_first(socket_path: str) -> None:
    with initialised():
        watcher, slave = watched(socket_path, interrupts=True)
        slave.send(b"a", b"b")
        slave.send(b"c", qid=1)
        c.memif_delete(slave.conn)
        poll_until(lambda: not watcher.up)
        assert sorted(watcher.got) == [b"a", b"b", b"c"]
        assert sorted(watcher.interrupts) == [0, 1]
        assert watcher.seen == [WHOLE]
        assert watcher.details.error == "interface deleted"
        assert watcher.details.remote_inst_name == "test"
        assert c.memif_get_details(watcher.conn)[1].rx_queues == []


@pytest.mark.parametrize("take", [1, 2])
def test_a_callback_that_takes_little_is_called_until_all_is_taken(socket_path: str, take: int) -> None:
    with initialised():
        watcher, slave = watched(socket_path, interrupts=True, take=take)
        bufs = buffers(3)
        assert c.memif_buffer_alloc(slave.conn, 0, bufs, 1, 5000) == (OK, 3)  # a chain, too
        for buf in bufs:
            buf.data[: buf.len] = b"c" * buf.len
        assert c.memif_tx_burst(slave.conn, 0, bufs, 3) == (OK, 3)
        slave.send(*[b"%d" % i for i in range(20)])
        c.memif_delete(slave.conn)
        poll_until(lambda: not watcher.up)
        assert [len(part) for part in watcher.got[:3]] == [2048, 2048, 904]
        assert watcher.got[3:] == [b"%d" % i for i in range(20)]


def test_a_callback_that_takes_nothing_does_not_hold_up_the_end(socket_path: str) -> None:
    with initialised():
        watcher, slave = watched(socket_path, interrupts=True, take=0)
        slave.send(b"left", b"over")
        watcher.inside = lambda: watcher.got.append(watcher.receive(1)[0])
        c.memif_delete(slave.conn)
        poll_until(lambda: not watcher.up)
        assert watcher.got == [b"left"]
        assert watcher.conn.live is not None
        assert watcher.conn.live.stats["rx"][0]["dropped_left"] == 1


@pytest.mark.parametrize("interrupts", [True, False])
def test_in_on_disconnect_packets_can_still_be_received(socket_path: str, interrupts: bool) -> None:
    with initialised():
        watcher, slave = watched(socket_path, interrupts=interrupts, take=0)
        slave.send(b"last")
        watcher.inside = lambda: watcher.got.extend(watcher.receive(4))
        c.memif_delete(slave.conn)
        poll_until(lambda: not watcher.up)
        assert watcher.got == [b"last"]
        assert watcher.seen == [WHOLE]


def test_polling_queues_are_not_interrupted_by_the_end(socket_path: str) -> None:
    with initialised():
        watcher, slave = watched(socket_path, interrupts=True)
        assert c.memif_set_rx_mode(watcher.conn, c.MEMIF_RX_MODE_POLLING, 0) == OK
        slave.send(b"polled")
        watcher.inside = lambda: watcher.got.extend(watcher.receive(4))
        c.memif_delete(slave.conn)
        poll_until(lambda: not watcher.up)
        assert (watcher.got, watcher.interrupts) == ([b"polled"], [])


def test_own_delete_calls_on_disconnect_first(socket_path: str) -> None:
    with initialised():
        watcher, slave = watched(socket_path)
        slave.send(b"to be taken in there")
        watcher.inside = lambda: watcher.got.extend(watcher.receive(4))
        assert c.memif_delete(watcher.conn) == OK
        assert watcher.got == [b"to be taken in there"]
        assert watcher.seen == [WHOLE]
        assert slave.up  # has yet to hear of it
        assert not watcher.conn
        poll_until(lambda: not slave.up)
        assert c.memif_get_details(slave.conn)[1].error == "interface deleted"


def test_cleanup_calls_on_disconnect_with_everything_in_place(socket_path: str) -> None:
    with initialised():
        watcher, _ = watched(socket_path)
    assert watcher.seen == [WHOLE]


@pytest.mark.parametrize("end", ["delete", "cleanup", "delete_socket"])
def test_other_ways_to_the_end(socket_path: str, end: str) -> None:
    """The per-thread form, and sockets of their own."""
    err, main = c.memif_per_thread_init(None, None, "test")
    assert err == OK
    assert main is not None
    err, sock = c.memif_per_thread_create_socket(main, socket_path)
    assert sock is not None
    watcher = Watcher(None, socket=sock, is_master=1)
    slave = End(None, socket=sock, num_m2s_rings=2, num_s2m_rings=2)
    poll_until(lambda: (c.memif_per_thread_poll_event(main, 1), watcher.up and slave.up)[1], sock=sock)
    if end != "cleanup":
        assert c.memif_delete(watcher.conn) == OK
        assert watcher.seen == [WHOLE]
    if end == "delete_socket":
        assert c.memif_delete_socket(sock) == c.MEMIF_ERR_INVAL_ARG
        assert c.memif_delete(slave.conn) == OK
        assert c.memif_delete_socket(sock) == OK
    assert c.memif_per_thread_cleanup(main) == OK
    assert watcher.seen == [WHOLE]
    assert slave.events == ["up", "down"]


def test_a_delete_inside_of_on_disconnect(socket_path: str) -> None:
    """Of the peer's leaving: that deletes it. Of its own: there is nothing more to do."""
    with initialised():
        watcher, slave = watched(socket_path)
        codes: list[int] = []
        watcher.inside = lambda: codes.append(c.memif_delete(watcher.conn))
        c.memif_delete(slave.conn)
        poll_until(lambda: codes)
        assert codes == [OK]
        assert not watcher.conn
        assert watcher.events == ["up", "down"]
        again, _ = watched(socket_path)
        again.inside = lambda: codes.append(c.memif_delete(again.conn))
        assert c.memif_delete(again.conn) == OK
        assert codes == [OK, c.MEMIF_ERR_NOCONN]
        assert again.events == ["up", "down"]


@pytest.mark.parametrize("way", ["delete", "peer", "cleanup"])
def test_an_exception_in_on_disconnect_does_not_keep_the_connection(socket_path: str, way: str) -> None:
    def fail() -> None:
        raise KeyError("mine")

    assert c.memif_init(None, "test") == OK
    try:
        watcher, slave = watched(socket_path)
        watcher.inside = fail
        if way == "delete":
            with pytest.raises(KeyError, match="mine"):
                c.memif_delete(watcher.conn)
            assert not watcher.conn
        elif way == "peer":
            c.memif_delete(slave.conn)
            with pytest.raises(KeyError, match="mine"):
                poll_until(lambda: False)
            assert c.memif_rx_burst(watcher.conn, 0, buffers(1), 1) == (c.MEMIF_ERR_DISCONNECTED, 0)
            watcher.inside = None
            again = End(socket_path)
            poll_until(lambda: again.up and watcher.up)
        else:
            with pytest.raises(KeyError, match="mine"):
                c.memif_cleanup()
            assert not watcher.conn
            assert not slave.conn
        watcher.inside = None
    finally:
        assert c.memif_cleanup() == OK


def test_an_exception_in_the_last_on_interrupt_still_leads_to_on_disconnect(socket_path: str) -> None:
    ends: list[str] = []

    def fail(conn: Any, ctx: Any, qid: int) -> int:
        raise KeyError("mine")

    with initialised():
        args = c.memif_conn_args_t(socket_filename=socket_path, is_master=1)
        err, conn = c.memif_create(args, None, lambda *_: ends.append("down"), fail)
        assert err == OK
        slave = End(socket_path)
        poll_until(lambda: slave.up)
        slave.send(b"x")
        c.memif_delete(slave.conn)
        deadline = time.monotonic() + 5
        while not ends and time.monotonic() < deadline:
            with contextlib.suppress(KeyError):
                c.memif_poll_event(10)
        assert ends == ["down"]
        assert c.memif_rx_burst(conn, 0, buffers(1), 1) == (c.MEMIF_ERR_DISCONNECTED, 0)


def test_polls_inside_of_callbacks_end(socket_path: str) -> None:
    """A callback that polls is not called again from in there."""
    depth: list[str] = []
    calls: list[str] = []

    def polling(name: str) -> Callable[..., int]:
        def call(*_: Any) -> int:
            assert name not in depth
            depth.append(name)
            calls.append(name)
            for _ in range(3):
                assert c.memif_poll_event(0) == OK
            depth.pop()
            return 0

        return call

    with initialised():
        args = c.memif_conn_args_t(socket_filename=socket_path, is_master=1)
        err, _ = c.memif_create(args, polling("connect"), polling("disconnect"), polling("interrupt"))
        assert err == OK
        slave = End(socket_path)
        poll_until(lambda: slave.up)
        slave.send(b"x")
        for _ in range(4):
            assert c.memif_poll_event(20) == OK
        assert calls.count("interrupt") >= 3  # nobody receives the packet
        c.memif_delete(slave.conn)
        poll_until(lambda: "disconnect" in calls)
        for _ in range(4):
            assert c.memif_poll_event(5) == OK
        assert (calls.count("connect"), calls.count("disconnect"), depth) == (1, 1, [])


def test_each_refused_attempt_is_told(socket_path: str) -> None:
    with initialised():
        End(socket_path, is_master=1, secret="a")
        slave = Watcher(socket_path, secret="b")
        poll_until(lambda: len(slave.events) >= 3)
        assert set(slave.events) == {"down"}
        assert {seen[:5] for seen in slave.seen} == {(True, True, 0, 0, 0)}
        assert slave.details.error == "incorrect secret"


def test_a_peer_that_dies_without_a_word(socket_path: str) -> None:
    with initialised():
        watcher, slave = watched(socket_path, interrupts=True)
        slave.send(b"last words")
        assert slave.conn.live is not None
        connection = slave.conn.live.connection
        assert connection is not None
        connection.sock.shutdown(socket.SHUT_RDWR)
        poll_until(lambda: not watcher.up)
        assert watcher.got == [b"last words"]


def test_a_new_link_is_a_new_connection(socket_path: str) -> None:
    with initialised():
        watcher, slave = watched(socket_path, interrupts=True)
        for turn in range(3):
            slave.send(b"turn %d" % turn)
            c.memif_delete(slave.conn)
            poll_until(lambda: not watcher.up)
            slave = End(socket_path, num_s2m_rings=2, num_m2s_rings=2)
            poll_until(lambda: watcher.up and slave.up)  # noqa: B023
        assert watcher.got == [b"turn %d" % turn for turn in range(3)]
        assert watcher.seen == [WHOLE] * 3


# -- memif_get_details of a master


def test_buffer_sizes_of_a_master_are_those_of_the_slave(socket_path: str) -> None:
    with pair(socket_path, slave={"buffer_size": 512, "log2_ring_size": 2}) as (master, slave):
        for _ in range(6):
            slave.send(b"x" * 42)
            master.send(b"y" * 77)
            master.receive(4)
            slave.receive(4)
            for end in (master, slave):
                md = c.memif_get_details(end.conn)[1]
                assert {q.buffer_size for q in md.rx_queues + md.tx_queues} == {512}


# -- one wake-up for one reason


def calls_of(watcher: Watcher, polls: int = 5) -> int:
    """How often on_interrupt is called by that many polls."""
    before = len(watcher.interrupts)
    for _ in range(polls):
        assert c.memif_poll_event(0) == OK
    return len(watcher.interrupts) - before


@pytest.mark.parametrize(("sent", "counts"), [(3, [3]), (4, [2, 2]), (5, [2, 2, 1]), (2, [256]), (3, [1, 1, 1])])
def test_who_has_received_all_is_not_called_again(socket_path: str, sent: int, counts: list[int]) -> None:
    with initialised():
        watcher, slave = watched(socket_path, interrupts=True, take=0)
        slave.send(*[b"x"] * sent)
        for count in counts:
            assert calls_of(watcher) > 0
            sent -= count
            err, _ = c.memif_rx_burst(watcher.conn, 0, buffers(count), count)
            assert err == (c.MEMIF_ERR_NOBUF if sent > 0 else OK)
        assert calls_of(watcher) == 0


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_chain_that_did_not_fit_is_told_of_again(socket_path: str, count: int) -> None:
    """A packet of one buffer, then a chain: the ring is empty in between and the event descriptor was read."""
    with initialised():
        watcher, slave = watched(socket_path, interrupts=True, take=0)
        bufs = buffers(4)
        assert c.memif_buffer_alloc(slave.conn, 0, bufs, 1, 10) == (OK, 1)
        assert c.memif_buffer_alloc(slave.conn, 0, bufs[1:], 1, 5000) == (OK, 3)
        assert c.memif_tx_burst(slave.conn, 0, bufs, 4) == (OK, 4)
        taken = 0
        while taken < 4:
            assert calls_of(watcher) > 0
            err, n = c.memif_rx_burst(watcher.conn, 0, buffers(count), count)
            taken += n
            assert n > 0
            assert (err == c.MEMIF_ERR_NOBUF) == (taken < 4)
        assert calls_of(watcher) == 0


def test_back_to_interrupts_with_a_packet_waiting(socket_path: str) -> None:
    with initialised():
        watcher, slave = watched(socket_path, interrupts=True, take=0)
        assert c.memif_set_rx_mode(watcher.conn, c.MEMIF_RX_MODE_POLLING, 0) == OK
        slave.send(b"x")
        assert calls_of(watcher) == 0
        assert c.memif_set_rx_mode(watcher.conn, c.MEMIF_RX_MODE_INTERRUPT, 0) == OK
        assert calls_of(watcher) > 0
        assert watcher.receive(4) == [b"x"]
        assert calls_of(watcher) == 0
        for mode in (c.MEMIF_RX_MODE_POLLING, c.MEMIF_RX_MODE_INTERRUPT):
            assert c.memif_set_rx_mode(watcher.conn, mode, 0) == OK
        assert calls_of(watcher) == 0


# -- signals

HANDLED = """
import os, signal, sys, threading, time
from memif import libmemif as c
running = True
def handler(*_):
    global running
    running = False
signal.signal(signal.SIGTERM, handler)
form = sys.argv[1]
if form == "4.0":
    _, sock = c.memif_create_socket(c.memif_socket_args_t(path="@memif-signal-%d" % os.getpid()))
    poll = lambda: c.memif_poll_event(sock, -1)
elif form == "3.1":
    _, main = c.memif_per_thread_init(None, None, "x")
    poll = lambda: c.memif_per_thread_poll_event(main, -1)
else:
    assert c.memif_init(None, "x") == 0
    poll = lambda: c.memif_poll_event(-1)
if sys.argv[2] == "blocked":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
print("ready", flush=True)
err = 0
while running:
    err = poll()
print(int(err), err.errno, repr(err))
still = signal.pthread_sigmask(signal.SIG_BLOCK, ())
print("blocked" if signal.SIGTERM in still else "open")
"""


@pytest.mark.parametrize("form", ["2.0", "3.1", "4.0"])
@pytest.mark.parametrize("mask", ["open", "blocked"])
def test_a_signal_ends_a_poll(form: str, mask: str) -> None:
    with subprocess.Popen([sys.executable, "-c", HANDLED, form, mask], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        time.sleep(0.2)  # until it waits; a signal that came before it is another test's matter
        end = time.monotonic() + 30
        child.send_signal(signal.SIGTERM)
        while child.poll() is None and time.monotonic() < end:
            time.sleep(0.02)
        if child.poll() is None:
            child.kill()
        line, still = child.stdout.read().splitlines()
        assert line.startswith(f"{int(c.MEMIF_ERR_SYSCALL)} {errno.EINTR} ")
        assert "signal" in line
        assert still == mask
        assert child.wait(5) == 0


def test_a_handler_that_raises_comes_out_of_the_poll() -> None:
    def handler(*_: Any) -> None:
        raise KeyError("mine")

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with initialised():
            timer = threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGUSR1))
            timer.start()
            with pytest.raises(KeyError, match="mine"):
                c.memif_poll_event(10_000)
            timer.join()
            assert c.memif_poll_event(0) == OK
    finally:
        signal.signal(signal.SIGUSR1, before)


# -- odd results and arguments


@pytest.mark.parametrize("callback", ["connect", "disconnect", "interrupt"])
@pytest.mark.parametrize("odd", ["text", 1.5, float("inf"), float("nan"), object(), 2**31, -(2**40), [], b"", {}])
def test_an_odd_result_of_a_callback_is_a_code_that_says_so(socket_path: str, callback: str, odd: Any) -> None:
    def answer(name: str) -> Any:
        return lambda conn, ctx, *qid: odd if name == callback else None

    with initialised():
        args = c.memif_conn_args_t(socket_filename=socket_path, is_master=1)
        _, conn = c.memif_create(args, answer("connect"), answer("disconnect"), answer("interrupt"))
        slave = End(socket_path)
        results: list[Any] = []
        end = time.monotonic() + 5
        while not slave.up and time.monotonic() < end:
            results.append(c.memif_poll_event(10))
        slave.send(b"x")
        results += [c.memif_poll_event(10), c.memif_delete(conn)]
        (told,) = {str(result.detail) for result in results if result}
        assert f"on_{callback} returned" in told
        assert {int(result) for result in results if result} == {int(c.MEMIF_ERR_INVAL_ARG)}


@pytest.mark.parametrize("fine", [0, None, False, 7, True, c.MEMIF_ERR_NOMEM, c.memif_result_t(5, 6, "seven")])
def test_results_that_are_codes(socket_path: str, fine: Any) -> None:
    with initialised():
        _, conn = c.memif_create(c.memif_conn_args_t(socket_filename=socket_path), None, lambda *_: fine)
        result = c.memif_delete(conn)
        assert result == (fine or 0)
        if isinstance(fine, c.memif_result_t):
            assert (result.errno, result.detail) == (6, "seven")


@pytest.mark.parametrize("code", [float("inf"), float("nan"), -float("inf"), "x", None, object(), [], 2**80])
def test_strerror_of_anything(code: Any) -> None:
    assert c.memif_strerror(code) == "undefined error"


@pytest.mark.parametrize("nsec", [10**9, 10**12, -1, float("nan"), "x", None])
@pytest.mark.parametrize("field", ["it_value", "it_interval"])
def test_nanoseconds_of_a_timer(socket_path: str, nsec: Any, field: str) -> None:
    times = {"it_value": c.timespec(1), "it_interval": c.timespec(1), field: c.timespec(1, nsec)}
    timer = c.itimerspec(**times)
    assert c.memif_create_socket(c.memif_socket_args_t(path=socket_path, connection_request_timer=timer)) == (
        c.MEMIF_ERR_INVAL_ARG,
        None,
    )
    with initialised():
        assert c.memif_set_connection_request_timer(timer) == c.MEMIF_ERR_INVAL_ARG
        assert c.memif_set_connection_request_timer(c.itimerspec(c.timespec(0, 999_999_999), c.timespec(1))) == OK


@pytest.mark.parametrize("is_master", [0, 1])
def test_defaults_are_written_back_as_in_c(socket_path: str, is_master: int) -> None:
    with initialised():
        args = c.memif_conn_args_t(socket_filename=socket_path, is_master=is_master)
        assert c.memif_create(args)[0] == OK
        assert (args.log2_ring_size, args.buffer_size, args.num_s2m_rings, args.num_m2s_rings) == (10, 2048, 1, 1)
        args = c.memif_conn_args_t(None, socket_path, b"", 3, 2, 512, 5, is_master, 1)
        assert c.memif_create(args)[0] == OK
        assert (args.log2_ring_size, args.buffer_size, args.num_s2m_rings, args.num_m2s_rings) == (5, 512, 3, 2)
