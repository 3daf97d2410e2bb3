"""Threads on one queue, waiting, and what wakes a waiter; forks."""

import contextlib
import os
import select
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from children import in_child
from memif.errors import MemifDisconnectedError, MemifStateError
from patience import within
from ring.memory import drain, pair, take

MODES = ("interrupt", "polling", "adaptive")


class Thread(threading.Thread):
    """Runs a function and keeps its result or its error."""

    def __init__(self, function: Callable[[], Any]) -> None:
        super().__init__()
        self.function, self.result, self.error = function, None, None  # type: ignore[var-annotated]
        self.start()

    def run(self) -> None:
        try:
            self.result = self.function()
        except Exception as error:  # the test looks at it
            self.error = error

    def get(self) -> Any:
        self.join(10)
        assert not self.is_alive()
        if self.error is not None:
            raise self.error
        return self.result


def waits(thread: Thread) -> None:
    """The thread is under way and does not end by itself."""
    thread.join(0.05)
    assert thread.is_alive()


@pytest.mark.parametrize("events", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_recv_waits_for_a_packet(mode: str, events: bool) -> None:
    with pair(events=events) as (_, slave, master):
        master.rx.mode = mode
        thread = Thread(lambda: master.rx.recv(timeout=10))
        waits(thread)
        slave.tx.send([b"late"])
        with thread.get() as burst:
            assert burst.tobytes() == [b"late"]
        thread = Thread(lambda: master.rx.wait(10))
        waits(thread)
        slave.tx.send([b"later"])
        assert thread.get() is True
        assert master.rx.wait(0)
        assert take(master.rx) == [b"later"]


@pytest.mark.parametrize("mode", MODES)
def test_timeouts(mode: str) -> None:
    with pair(events=True) as (_, _slave, master):
        master.rx.mode = mode
        for timeout in (0, 0.001, 0.15):
            start = time.monotonic()
            assert not master.rx.recv(timeout=timeout)
            assert not master.rx.wait(timeout)
            assert 2 * timeout <= time.monotonic() - start < within(2 * timeout + 1)


@pytest.mark.parametrize("mode", MODES)
def test_the_mask_says_how_we_wait(mode: str) -> None:
    """Bit 0 of the ring's flags, on the rings where we are the consumer only."""
    with pair(events=True) as (memory, slave, master):
        master.rx.mode = mode
        assert (memory.flags(0), memory.flags(1)) == (int(mode != "interrupt"), 0)
        slave.tx.send([b"x"])
        assert slave.tx.stats["interrupts_sent"] == int(mode == "interrupt")
        assert bool(select.select([master.rx_ring.event_fd], [], [], 0)[0]) is (mode == "interrupt")
        master.rx.mode = "interrupt"
        assert memory.flags(0) == 0


def test_adaptive_asks_for_interrupts_only_while_it_sleeps() -> None:
    with pair(events=True) as (memory, slave, master):
        master.rx.mode = "adaptive"
        thread = Thread(lambda: master.rx.recv(timeout=10))
        deadline = time.monotonic() + within(5)
        while memory.flags(0) and time.monotonic() < deadline:
            time.sleep(0.001)
        assert memory.flags(0) == 0
        slave.tx.send([b"x"])
        thread.get().release()
        assert memory.flags(0) == 1
        assert master.rx.stats["interrupts_received"] == 1


def test_an_event_fd_that_is_polled_is_emptied_with_the_ring() -> None:
    with pair(events=True) as (_, slave, master):
        fd = master.rx.fileno()
        for _ in range(3):
            slave.tx.send([b"x"] * 3)
            assert select.select([fd], [], [], 0)[0]
            assert len(take(master.rx, 2)) == 2
            assert select.select([fd], [], [], 0)[0]
            assert len(take(master.rx, 2)) == 1
            assert not select.select([fd], [], [], 0)[0]
        assert master.rx.stats["packets"] == 9
        assert master.rx.stats["bursts"] == 6


@pytest.mark.parametrize("mode", MODES)
def test_two_threads_on_one_queue(mode: str) -> None:
    with pair(events=True) as (_, slave, master):
        master.rx.mode = mode
        thread = Thread(lambda: master.rx.recv(timeout=10))
        waits(thread)
        for use in (lambda: master.rx.recv(timeout=0), lambda: master.rx.wait(0)):
            with pytest.raises(MemifStateError, match="queue 0 is in use by another thread"):
                use()
        master.tx.send([b"the other direction is free"])
        slave.tx.send([b"x"])
        thread.get().release()
        assert not master.rx.recv(timeout=0)


def test_senders_collide_or_succeed() -> None:
    """Whoever gets in sends whole packets, everyone else is told; the queue works on afterwards."""
    with pair(6, 64) as (_, slave, master):
        stop = time.monotonic() + 0.5
        row = np.zeros((40, 64), np.uint8)

        def sender(value: int) -> tuple[int, int]:
            sent = refused = 0
            while time.monotonic() < stop:
                try:
                    sent += slave.tx.send_array(row + value)
                except MemifStateError:
                    refused += 1
            return sent, refused

        threads = [Thread(lambda i=i: sender(i)) for i in range(1, 4)]  # type: ignore[misc]
        counts = dict.fromkeys(range(1, 4), 0)
        while any(thread.is_alive() for thread in threads):
            for packet in take(master.rx):
                assert packet == packet[:1] * 64
                counts[packet[0]] += 1
        for packet in drain(master.rx):
            counts[packet[0]] += 1
        assert counts == {i: threads[i - 1].get()[0] for i in range(1, 4)}
        assert slave.tx.send([b"x"]) == 1


def test_bursts_are_released_by_other_threads() -> None:
    """One thread receives, two release; every slot comes back."""
    with pair(6, 64) as (_, slave, master):
        queue: list[Any] = []
        total, done = 30_000, threading.Event()

        def release() -> None:
            while not done.is_set() or queue:
                try:
                    queue.pop(-1 if len(queue) % 2 else 0).release()
                except IndexError:
                    time.sleep(0)

        threads = [Thread(release) for _ in range(2)]
        sent = received = 0
        row = np.zeros((16, 8), np.uint8)
        deadline = time.monotonic() + within(30)
        while received < total and time.monotonic() < deadline:
            sent += slave.tx.send_array(row)
            burst = master.rx.recv(8, timeout=0)
            received += len(burst)
            if burst:
                queue.append(burst)
            else:
                time.sleep(0)
        done.set()
        for thread in threads:
            thread.get()
        assert received >= total
        drain(master.rx)
        assert slave.tx.free() == 64


def test_a_burst_in_use_is_not_released() -> None:
    """A native loop at work in one thread keeps another from pulling the burst away, or makes it wait; no crash."""
    with pair(10, 2048) as (_, slave, master):
        big = np.ones((1024, 2048), np.uint8)
        for _ in range(10):
            slave.tx.send_array(big)
            burst = master.rx.recv(1024, timeout=0)
            thread = Thread(lambda b=burst: b.gather(2048).sum())  # type: ignore[misc]
            while thread.is_alive():
                try:
                    burst.release()
                except MemifStateError:
                    pass
            with contextlib.suppress(MemifStateError):  # it was released before the thread came to it
                assert thread.get() == big.sum()
            burst.release()
        assert slave.tx.free() == 1024


@pytest.mark.parametrize("mode", MODES)
def test_a_disconnect_ends_the_wait(mode: str) -> None:
    """The owner wakes a waiter through the control descriptor."""
    control = os.eventfd(0)
    try:
        with pair(events=True) as (memory, slave, _):
            end = memory.master(control)
            end.rx.mode = mode
            for use in (lambda: end.rx.recv(timeout=10), lambda: end.rx.wait(10)):
                end.rx.attach(memory.rings(slave=False)[1])
                thread = Thread(use)
                waits(thread)
                end.owner.disconnect()
                os.eventfd_write(control, 1)
                start = time.monotonic()
                with pytest.raises(MemifDisconnectedError):
                    thread.get()
                assert time.monotonic() - start < within(1)
                os.eventfd_read(control)
            del slave
    finally:
        os.close(control)


def test_a_disconnect_ends_the_iteration() -> None:
    with pair(events=True) as (_, slave, master):
        slave.tx.send([b"x"])
        found = []
        for burst in master.rx:
            found.append(burst.tobytes())
            master.owner.disconnect()
        assert found == [[b"x"]]


def test_the_control_channel_is_served_while_waiting() -> None:
    """What the owner does then may use the queue, or end the link."""
    control = os.eventfd(1)
    try:
        with pair(events=True) as (memory, slave, _):
            end = memory.master(control)
            inner: list[Any] = []

            def serve() -> None:
                os.eventfd_read(control)
                inner.append(len(end.rx.recv(timeout=0)))
                slave.tx.send([b"x", b"y"])
                inner.append(len(take(end.rx, 1)))

            end.owner.on_serve = serve
            with end.rx.recv(timeout=5) as burst:
                assert burst.tobytes() == [b"y"]
            assert inner == [0, 1]
            os.eventfd_write(control, 1)
            end.owner.on_serve = end.owner.disconnect
            with pytest.raises(MemifDisconnectedError):
                end.rx.recv(timeout=5)
    finally:
        os.close(control)


def test_a_signal_ends_the_wait() -> None:
    """A handler that raises gets through, and the queue is free afterwards."""
    import signal

    def handler(*_: object) -> None:
        raise InterruptedError("handler")

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with pair(events=True) as (_, slave, master):
            for mode in MODES:
                master.rx.mode = mode
                timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
                timer.start()
                with pytest.raises(InterruptedError, match="handler"):
                    master.rx.recv(timeout=10)
                timer.join()
                slave.tx.send([b"x"])
                assert take(master.rx) == [b"x"]
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_wait_free_sees_slots_come_back() -> None:
    with pair(2, 64) as (_, slave, master):
        slave.tx.send([b"x"] * 4)
        thread = Thread(lambda: slave.tx.wait_free(4, timeout=10))
        waits(thread)
        drain(master.rx)
        assert thread.get() is True
        start = time.monotonic()
        slave.tx.send([b"x"])
        assert slave.tx.wait_free(4, timeout=0.05) is False
        assert 0.05 <= time.monotonic() - start < within(2)


def test_a_forked_child_can_do_no_harm() -> None:
    """In the child every call raises, views show zeros, and what it writes stays its own."""
    with pair(3, 64, events=True) as (memory, slave, master):
        slave.tx.send([b"one", b"two"])
        burst = master.rx.recv(1, timeout=0)
        reserved = master.tx.alloc(1, size=64)
        view = burst[0]

        def child() -> int:
            calls: list[Callable[[], Any]] = [
                lambda: master.rx.recv(timeout=0),
                lambda: master.rx.wait(0),
                lambda: master.tx.send([b"x"]),
                lambda: slave.tx.send_array(np.zeros((1, 4), np.uint8)),
                lambda: slave.tx.alloc(1),
                lambda: slave.tx.free(),
                lambda: master.rx.fileno(),
                lambda: len(burst),
                lambda: burst.gather(4),
                lambda: reserved.send(),
            ]
            for number, call in enumerate(calls, 1):
                try:
                    call()
                except MemifStateError as error:
                    if "parent process" not in str(error):
                        return 100 + number
                else:
                    return number
            if bytes(view) != bytes(3):
                return 50
            view[:] = b"bad"
            burst.release()
            reserved.release()
            master.owner.disconnect()
            slave.owner.disconnect()
            return 0

        assert in_child(child) == 0
        assert burst.tobytes() == [b"one"]
        assert memory.tail(0) == 0
        burst.release()
        assert take(master.rx) == [b"two"]
        reserved[0][:] = b"r" * 64
        assert reserved.send() == 1
        assert take(slave.rx) == [b"r" * 64]
