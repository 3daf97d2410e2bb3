"""DPDK's testpmd as the yardstick: against itself, and against us in both roles."""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import numpy as np

import memif
from memif.bench import cores
from peers.testpmd import Testpmd


@contextmanager
def _folder() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="memif-bench-") as folder:
        yield os.path.join(folder, "m.sock")


def rate(receiver: Testpmd, seconds: float) -> float:
    """Return the packets per second that a testpmd receives, measured for `seconds`."""
    before, start = receiver.stats()["ipackets"], time.perf_counter()
    time.sleep(seconds)
    return float((receiver.stats()["ipackets"] - before) / (time.perf_counter() - start))


def to_itself(size: int, runs: int, seconds: float, *, zero_copy: bool = False) -> float:
    """testpmd client to testpmd server, burst 32, one core each; return the median of packets per second."""
    first, last = cores()
    with _folder() as path, Testpmd(path, "server", cpu=first, forward="rxonly", bsize=2048) as server:
        with Testpmd(
            path, "client", cpu=last, forward="txonly", txpkts=size, bsize=2048, zero_copy=zero_copy
        ) as client:
            client.wait_link()
            server.start()
            client.start()
            time.sleep(0.3)
            rates = [rate(server, seconds) for _ in range(runs)]
            client.stop()
            server.stop()
    return statistics.median(rates)


def to_us(size: int, runs: int, seconds: float, *, role: str = "master") -> float:
    """testpmd sends, we copy every packet out. `role` is ours."""
    first, last = cores()
    with _folder() as path, _joined(path, role, last, "txonly", size) as (interface, peer):
        os.sched_setaffinity(0, {first})
        peer.start()
        recv = interface.rx[0].recv
        rates = []
        for _ in range(runs + 1):
            count, start = 0, time.monotonic()
            while (now := time.monotonic()) < start + seconds:
                for _ in range(16):
                    with recv(256, 0) as burst:
                        if burst:
                            burst.gather(size)
                            count += len(burst)
            rates.append(count / (now - start))
        peer.stop()
    os.sched_setaffinity(0, {first, last})
    return statistics.median(rates[1:])


def from_us(size: int, runs: int, seconds: float, *, role: str = "slave") -> float:
    """We send, testpmd receives (and copies into its mbufs). `role` is ours."""
    first, last = cores()
    matrix = np.zeros((256, size), np.uint8)
    with _folder() as path, _joined(path, role, last, "rxonly", size) as (interface, peer):
        os.sched_setaffinity(0, {first})
        peer.start()
        send = interface.tx[0].send_array
        rates = []
        for _ in range(runs + 1):
            count, start = 0, time.monotonic()
            while (now := time.monotonic()) < start + seconds:
                for _ in range(16):
                    count += send(matrix)
            rates.append(count / (now - start))
        peer.stop()
    os.sched_setaffinity(0, {first, last})
    return statistics.median(rates[1:])


@contextmanager
def _joined(path: str, role: str, cpu: int, forward: str, size: int) -> Iterator[tuple[memif.Interface, Testpmd]]:
    options = {"cpu": cpu, "forward": forward, "txpkts": size, "bsize": 2048}
    if role == "master":
        with memif.listen(path, id=0, rx_mode="polling") as interface, Testpmd(path, "client", **options) as peer:
            interface.wait_up(10)
            yield interface, peer
    else:
        with Testpmd(path, "server", **options) as peer:
            with memif.connect(path, id=0, timeout=10, rx_mode="polling") as interface:
                yield interface, peer
