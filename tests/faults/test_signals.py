"""Signals in blocking calls: Ctrl-C is answered within 100 ms in every mode, and EINTR disturbs nothing."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

import memif
from ends import linked, pump
from memif.testing import HostilePeer, unused_name
from patience import within
from ring.compiled import handlers

Call = Callable[[memif.Interface], object]
LIMIT = within(0.1)
MODES = ("interrupt", "polling", "adaptive")


def _fill(iface: memif.Interface) -> None:
    while iface.tx[0].send([b"x" * 60] * 64):
        pass


def _wait_free(iface: memif.Interface) -> object:
    _fill(iface)
    return iface.tx[0].wait_free(1)


def _iterate(iface: memif.Interface) -> object:
    return [len(burst) for burst in iface.rx[0]]


CALLS: dict[str, Call] = {
    "recv": lambda iface: iface.rx[0].recv(),
    "recv-with-timeout": lambda iface: iface.rx[0].recv(timeout=30.0),
    "wait": lambda iface: iface.rx[0].wait(),
    "iteration": _iterate,
    "serve": lambda iface: iface.rx[0].serve(handlers().echo, iface.tx[0]),
    "wait_free": _wait_free,
    "poll": lambda iface: iface.socket.poll(),
}


@pytest.fixture
def interrupted() -> Iterator[Callable[..., float]]:
    """Run something, interrupt it after 0.2 s, and say how long it took to answer."""
    sent = [0.0]

    def ctrl_c() -> None:
        time.sleep(0.2)
        sent[0] = time.monotonic()
        os.kill(os.getpid(), signal.SIGINT)

    def run(call: Callable[[], object]) -> float:
        thread = threading.Thread(target=ctrl_c)
        thread.start()
        try:
            with pytest.raises(KeyboardInterrupt):
                call()
            return time.monotonic() - sent[0]
        finally:
            thread.join()

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield run
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CALLS)
def test_ctrl_c(socket_path: str, interrupted: Callable[..., float], name: str, mode: str) -> None:
    with linked(socket_path, ring_size=64, rx_mode=mode) as (master, slave):
        assert interrupted(lambda: CALLS[name](master)) < LIMIT
        # Afterwards all is as before.
        assert slave.tx[0].send([b"y" * 60]) == 1
        with master.rx[0].recv(timeout=2.0) as burst:
            assert burst.tobytes() == [b"y" * 60]


@pytest.mark.parametrize("role", ["slave", "master"])
def test_ctrl_c_while_waiting_for_the_link(socket_path: str, interrupted: Callable[..., float], role: str) -> None:
    with memif.Socket(socket_path) as sock:
        iface = sock.interface(role=role)
        assert interrupted(iface.wait_up) < LIMIT


def test_ctrl_c_in_connect(socket_path: str, interrupted: Callable[..., float]) -> None:
    assert interrupted(lambda: memif.connect(socket_path, timeout=30.0)) < LIMIT


def test_ctrl_c_under_a_flood_of_rubbish(interrupted: Callable[..., float]) -> None:
    """A peer that sends bad descriptors without end keeps nobody from Ctrl-C, nor from the timeout."""
    path = unused_name()
    with memif.Socket(path) as sock:
        iface = sock.interface(role="master")
        with HostilePeer(path, idle=lambda: sock.poll(0)) as peer:
            peer.link()
            stop = threading.Event()

            def flood() -> None:
                ring = peer.out
                ring.fill(type(ring[0])(0, 0xFFFF, 60, 0))
                while not stop.is_set():
                    ring.head = ring.tail + ring.size
                    peer.signal()

            thread = threading.Thread(target=flood)
            thread.start()
            try:
                start = time.monotonic()
                assert len(iface.rx[0].recv(256, timeout=0.2)) == 0
                assert time.monotonic() - start < within(1.0)
                assert interrupted(lambda: iface.rx[0].recv(256)) < LIMIT
            finally:
                stop.set()
                thread.join()
            assert iface.rx[0].stats["dropped_bad"] > 0


@pytest.fixture
def storm() -> Iterator[list[int]]:
    """A signal every millisecond, with a handler that only counts."""
    count = [0]

    def tick(number: int, frame: object) -> None:
        count[0] += 1

    before = signal.signal(signal.SIGUSR1, tick)
    stop = threading.Event()

    def send() -> None:
        while not stop.wait(0.001):
            os.kill(os.getpid(), signal.SIGUSR1)

    thread = threading.Thread(target=send)
    thread.start()
    yield count
    stop.set()
    thread.join()
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("mode", MODES)
def test_eintr_everywhere(socket_path: str, storm: list[int], mode: str) -> None:
    with linked(socket_path, ring_size=64, rx_mode=mode) as (master, slave):
        for number in range(200):
            packets = [number.to_bytes(2, "big") * 30] * 16
            assert slave.tx[0].send(packets) == 16
            with master.rx[0].recv(64, timeout=2.0) as burst:
                assert burst.tobytes() == packets
        start = time.monotonic()
        assert len(master.rx[0].recv(timeout=0.3)) == 0
        assert 0.3 <= time.monotonic() - start < within(0.6)
        slave.disconnect()
        pump(master, slave, until=lambda: not master.up)
        pump(master, slave, until=lambda: master.up and slave.up)
    assert storm[0] > 50


def test_eintr_while_connecting(socket_path: str, storm: list[int]) -> None:
    with memif.Socket(socket_path) as sock:
        iface = sock.interface()
        start = time.monotonic()
        with pytest.raises(memif.MemifTimeoutError):
            iface.wait_up(0.3)
        assert 0.3 <= time.monotonic() - start < within(0.8)


def test_a_handler_may_use_the_queue(socket_path: str) -> None:
    """An exception of a handler comes out of the call; the queue is free again afterwards."""

    class Stop(Exception):
        pass

    def handler(number: int, frame: object) -> None:
        raise Stop

    before = signal.signal(signal.SIGALRM, handler)
    try:
        with linked(socket_path) as (master, slave):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(Stop):
                master.rx[0].recv()
            slave.tx[0].send([b"z" * 60])
            assert len(master.rx[0].recv(timeout=2.0)) == 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
