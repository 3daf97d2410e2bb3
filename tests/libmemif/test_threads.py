"""Calls from several threads end with codes, never with an exception or a crash."""

import threading
import time
from collections.abc import Callable
from typing import Any

from libmemif.rig import End, buffers, held, initialised, pair, poll_until
from memif import libmemif as c
from patience import within

SECONDS = 0.5


def together(*works: Callable[[], Any], seconds: float = SECONDS) -> list[Exception]:
    """Run each work over and over, once at least, in a thread of its own. -> what they raised."""
    errors: list[Exception] = []
    end = time.monotonic() + seconds

    def run(work: Callable[[], Any]) -> None:
        try:
            work()
            while time.monotonic() < end and not errors:
                work()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return errors


def test_a_queue_in_use_says_again(socket_path: str) -> None:
    """The ring is held by the plain API's own lock, as a second thread in the middle of a call would hold it."""
    with pair(socket_path) as (_, slave):
        bufs = buffers(2)
        raw = slave.conn.tx[0]
        assert c.memif_buffer_alloc(slave.conn, 0, bufs, 2) == (c.MEMIF_ERR_SUCCESS, 2)
        with held(raw.ring), held(slave.conn.rx[0].ring):
            assert c.memif_rx_burst(slave.conn, 0, buffers(1), 1) == (c.MEMIF_ERR_AGAIN, 0)
            assert c.memif_refill_queue(slave.conn, 0, 1) == c.MEMIF_ERR_AGAIN
            assert c.memif_buffer_alloc(slave.conn, 0, buffers(1), 1) == (c.MEMIF_ERR_AGAIN, 0)
            assert c.memif_tx_burst(slave.conn, 0, bufs, 1) == (c.MEMIF_ERR_AGAIN, 0)
            assert c.memif_buffer_enq_tx(slave.conn, 0, bufs, 1) == (c.MEMIF_ERR_AGAIN, 0)
            assert c.memif_set_next_free_buffer(slave.conn, 0, bufs[1]) == c.MEMIF_ERR_AGAIN
            assert c.memif_buffer_requeue(slave.conn, bufs[0], bufs[1]) == c.MEMIF_ERR_AGAIN
        assert c.memif_buffer_requeue(slave.conn, bufs[0], bufs[1]) == c.MEMIF_ERR_SUCCESS


def test_one_queue_from_many_threads(socket_path: str) -> None:
    with pair(socket_path) as (master, slave):
        seen: set[int] = set()

        def send() -> None:
            bufs = buffers(8)
            err, n = c.memif_buffer_alloc(slave.conn, 0, bufs, 8, 60)
            seen.add(int(err))
            err, _ = c.memif_tx_burst(slave.conn, 0, bufs, n)
            seen.add(int(err))

        def receive() -> None:
            bufs = buffers(8)
            err, n = c.memif_rx_burst(master.conn, 0, bufs, 8)
            seen.add(int(err))
            seen.add(int(c.memif_refill_queue(master.conn, 0, n)))

        assert together(send, send, receive, receive) == []
        allowed = {
            c.MEMIF_ERR_SUCCESS,
            c.MEMIF_ERR_AGAIN,
            c.MEMIF_ERR_NOBUF,
            c.MEMIF_ERR_NOBUF_RING,
            c.MEMIF_ERR_INVAL_ARG,
        }
        assert seen <= {int(code) for code in allowed}


def test_a_queue_for_each_thread(socket_path: str) -> None:
    two = {"num_s2m_rings": 2, "num_m2s_rings": 2}
    with pair(socket_path, slave=two) as (master, slave):
        counts = [[0, 0], [0, 0]]

        def both(qid: int) -> Callable[[], None]:
            def step() -> None:
                counts[qid][0] += slave.send(*[b"%d" % qid] * 32, qid=qid)
                got = master.receive(64, qid=qid)
                assert set(got) <= {b"%d" % qid}
                counts[qid][1] += len(got)

            return step

        assert together(both(0), both(1)) == []
        for qid in (0, 1):
            counts[qid][1] += len(master.receive(1024, qid=qid))
            assert counts[qid][0] == counts[qid][1] > 1000


def test_delete_while_others_use_it(socket_path: str) -> None:
    for _ in range(5):
        with pair(socket_path) as (master, slave):
            codes: set[int] = set()
            kept = slave.conn

            def use(conn: Any = kept, codes: set[int] = codes) -> None:
                bufs = buffers(4)
                err, n = c.memif_buffer_alloc(conn, 0, bufs, 4)
                codes.add(int(err))
                for buf in bufs[:n]:
                    buf.data[:1] = b"x"
                codes.add(int(c.memif_tx_burst(conn, 0, bufs, n)[0]))
                codes.add(int(c.memif_get_details(conn)[0]))
                codes.add(int(c.memif_refill_queue(conn, 0)))

            def delete(conn: Any = kept) -> None:
                time.sleep(0.03)
                assert c.memif_delete(conn) in (c.MEMIF_ERR_SUCCESS, c.MEMIF_ERR_NOCONN)

            assert together(use, lambda end=master: end.receive(64), delete, seconds=0.1) == []  # type: ignore[misc]
            use()
            assert int(c.MEMIF_ERR_NOCONN) in codes
            assert codes <= {
                int(code)
                for code in (
                    c.MEMIF_ERR_SUCCESS,
                    c.MEMIF_ERR_NOBUF_RING,
                    c.MEMIF_ERR_NOCONN,
                    c.MEMIF_ERR_DISCONNECTED,
                    c.MEMIF_ERR_INVAL_ARG,
                )
            }


def test_polls_and_creates_from_several_threads(socket_path: str) -> None:
    with initialised():
        stop = threading.Event()
        codes: set[int] = set()

        def poll() -> None:
            while not stop.is_set():
                codes.add(int(c.memif_poll_event(20)))

        pollers = [threading.Thread(target=poll) for _ in range(2)]
        for thread in pollers:
            thread.start()
        try:
            for turn in range(10):
                master, slave = End(socket_path, is_master=1, interface_id=turn), End(socket_path, interface_id=turn)
                end = time.monotonic() + within(5)
                while not (master.up and slave.up):
                    assert time.monotonic() < end
                    time.sleep(0.002)
                assert c.memif_delete(slave.conn if turn % 2 else master.conn) == c.MEMIF_ERR_SUCCESS
        finally:
            stop.set()
            for thread in pollers:
                thread.join(5)
        assert codes == {int(c.MEMIF_ERR_SUCCESS)}


def test_cancel_from_threads_loses_no_link(socket_path: str) -> None:
    with initialised():
        master, slave = End(socket_path, is_master=1), End(socket_path)
        codes: set[int] = set()
        errors = together(
            lambda: codes.add(int(c.memif_poll_event(5))),
            lambda: (c.memif_cancel_poll_event(), time.sleep(0.001)),
            seconds=0.2,
        )
        assert errors == []
        assert codes <= {int(c.MEMIF_ERR_SUCCESS), int(c.MEMIF_ERR_POLL_CANCEL)}
        c.memif_poll_event(0)
        poll_until(lambda: master.up and slave.up)
