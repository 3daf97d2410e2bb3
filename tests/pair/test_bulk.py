"""Two Python processes move numbered packets with checksums: none may be lost, changed or out of order."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import memif
from ends import Child, all_up, pump
from pair.numbered import WIDTH, numbered, receive_numbered, send_numbered

CPUS = sorted(os.sched_getaffinity(0))
MILLIONS = 10_000_000


def opposite(role: str) -> str:
    return "slave" if role == "master" else "master"


@contextlib.contextmanager
def end(path: str, options: dict[str, Any]) -> Iterator[memif.Interface]:
    """One end of the link, up."""
    with memif.Socket(path) as sock:
        iface = sock.interface(**options)
        all_up(iface, timeout=10.0)
        yield iface


def peer(path: str, options: dict[str, Any], work: Callable[..., object], args: tuple[Any, ...]) -> Iterator[object]:
    """In the child: open the other end, do `work` with it, say so, and stay until the link goes down."""
    with end(path, options) as iface:
        yield work(iface, *args)
        pump(iface, until=lambda: not iface.up, timeout=150.0)


class Run:
    """One transfer: the child has the role opposite to ours, and does what it is told."""

    def __init__(self, path: str, role: str, **options: Any) -> None:
        self.path = path
        self.options = {**options, "role": role}
        self.theirs = {**options, "role": opposite(role)}

    def __call__(self, here: Callable[..., object], there: Callable[..., object], *args: Any) -> Any:
        with Child(peer, self.path, self.theirs, there, args, cpu=CPUS[-1], limit=190) as child:
            with end(self.path, self.options) as iface:
                here(iface, *args)
                result = child.tells(150.0)
                for queue in iface.stats["rx"]:
                    assert queue["bad_descriptors"] == queue["dropped_bad"] == queue["dropped_oversize"] == 0
            child.joined()
        return result


def send(iface: memif.Interface, count: int) -> None:
    send_numbered(iface.tx[0], count)


def receive(iface: memif.Interface, count: int) -> None:
    receive_numbered(iface.rx[0], count)


@pytest.mark.timeout(200)  # it takes 3 s on two idle CPUs
@pytest.mark.parametrize("role", ["master", "slave"])
def test_ten_million_packets(socket_path: str, role: str) -> None:
    Run(socket_path, role, rx_mode="polling")(receive, send, MILLIONS)


def both_ways(iface: memif.Interface, count: int) -> None:
    """Send and receive at the same time, one thread each."""
    failures: list[BaseException] = []

    def sender() -> None:
        try:
            send_numbered(iface.tx[0], count)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=sender)
    thread.start()
    try:
        receive_numbered(iface.rx[0], count)
    finally:
        thread.join(150.0)
    assert not failures, failures


@pytest.mark.parametrize("mode", ["ethernet", "ip", "punt/inject"])
@pytest.mark.parametrize("role", ["master", "slave"])
def test_both_ways_at_once(socket_path: str, role: str, mode: str) -> None:
    Run(socket_path, role, mode=mode)(both_ways, both_ways, 300_000)


@pytest.mark.parametrize("mode", ["interrupt", "adaptive", "polling"])
@pytest.mark.parametrize("role", ["master", "slave"])
def test_no_wake_up_is_lost(socket_path: str, role: str, mode: str) -> None:
    """A sender that pauses now and then: whoever sleeps must be woken for the next packet."""
    Run(socket_path, role, rx_mode=mode, ring_size=64)(receive, send, 200_000)


@pytest.mark.parametrize("role", ["master", "slave"])
@pytest.mark.parametrize(("ring_size", "count"), [(2, 10_000), (4, 20_000), (256, 300_000), (16384, 500_000)])
def test_ring_sizes(socket_path: str, role: str, ring_size: int, count: int) -> None:
    # In the larger ones, more than 65536 packets also take every index past its wrap.
    Run(socket_path, role, ring_size=ring_size, buffer_size=128, rx_mode="adaptive")(receive, send, count)


def chained_packet(number: int) -> bytes:
    """A packet of 1 to about 9000 bytes that nobody can mistake for another."""
    length = 1 + number * 7919 % 9000
    return (number.to_bytes(4, "little") + numbered(number, 1).tobytes() * (length // WIDTH + 1))[:length]


def send_chained(iface: memif.Interface, count: int) -> None:
    packets = [chained_packet(i) for i in range(count)]
    done = 0
    while done < count:
        done += iface.tx[0].send(packets[done : done + 64])


def receive_chained(iface: memif.Interface, count: int) -> None:
    at = 0
    while at < count:
        with iface.rx[0].recv(50, timeout=5.0) as burst:
            assert len(burst), f"{at} of {count} packets"
            for data in burst.tobytes():
                assert data == chained_packet(at), f"packet {at}"
                at += 1


@pytest.mark.parametrize("role", ["master", "slave"])
@pytest.mark.parametrize(("ring_size", "buffer_size"), [(128, 128), (16, 2048)])
def test_chains_across_the_wrap(socket_path: str, role: str, ring_size: int, buffer_size: int) -> None:
    Run(socket_path, role, ring_size=ring_size, buffer_size=buffer_size)(receive_chained, send_chained, 3000)


def largest_packet() -> bytes:
    return np.arange(1 << 14, dtype="<u4").tobytes()


def send_largest(iface: memif.Interface, count: int) -> None:
    packet = largest_packet()
    assert len(packet) == 65536
    for _ in range(count):
        assert iface.tx[0].wait_free(33, timeout=5.0)
        assert iface.tx[0].send([packet]) == 1


def receive_largest(iface: memif.Interface, count: int) -> None:
    packet = largest_packet()
    for _ in range(count):
        with iface.rx[0].recv(1, timeout=5.0) as burst:
            assert bytes(burst[0]) == packet


@pytest.mark.parametrize("role", ["master", "slave"])
def test_packets_of_64_kib(socket_path: str, role: str) -> None:
    Run(socket_path, role, ring_size=64)(receive_largest, send_largest, 200)


def send_by_queue(iface: memif.Interface, count: int) -> None:
    """Each queue sends a share; the first packet's number tells which."""
    for queue in iface.tx:
        send_numbered(queue, count, first=queue.index * count, batch=64)


def receive_by_queue(iface: memif.Interface, count: int) -> None:
    for queue in iface.rx:
        receive_numbered(queue, count, first=queue.index * count)


def exchange(iface: memif.Interface, count: int) -> tuple[int, int]:
    """Send to the peer, then receive: the counts are small enough for both to do it in this order."""
    assert all(queue.wait_free(count, timeout=5.0) for queue in iface.tx)
    send_by_queue(iface, count)
    receive_by_queue(iface, count)
    return len(iface.rx), len(iface.tx)


@pytest.mark.parametrize("role", ["master", "slave"])
@pytest.mark.parametrize(("to_master", "to_slave"), [(2, 2), (3, 1), (1, 4), (0, 2), (255, 255)])
def test_queue_counts(socket_path: str, role: str, to_master: int, to_slave: int) -> None:
    """Equal and unequal counts; a master takes what the slave offers."""
    as_slave = {"tx_queues": to_master, "rx_queues": to_slave, "ring_size": 64, "buffer_size": 64}
    run = Run(socket_path, role)
    (run.options if role == "slave" else run.theirs).update(as_slave)
    counts = (to_slave, to_master) if role == "slave" else (to_master, to_slave)
    assert run(exchange, exchange, 50) == counts[::-1]


def forward(iface: memif.Interface, count: int) -> None:
    """Send everything back where it came from, without a look at it."""
    done = 0
    while done < count:
        with iface.rx[0].recv(256, timeout=5.0) as burst:
            assert len(burst)
            at = 0
            while at < len(burst):
                at += iface.tx[0].forward(burst, start=at)
        done += at


@pytest.mark.parametrize("role", ["master", "slave"])
@pytest.mark.parametrize("ring_size", [8, 1024])
def test_forwarded_packets_come_back(socket_path: str, role: str, ring_size: int) -> None:
    """The child forwards: as slave by swapping buffers, as master by copying."""
    Run(socket_path, role, ring_size=ring_size)(both_ways, forward, 40_000)
