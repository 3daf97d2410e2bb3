"""The kernel's own ping, through TAP and testpmd, answered by ``memif icmp-responder``."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from peers.end import THEIRS, settle
from peers.tap import KernelPort
from peers.testpmd import Testpmd, poll_until

pytestmark = pytest.mark.dpdk

OURS, KERNEL = "10.7.0.2", "10.7.0.1/24"


class Responder:
    """A running ``memif icmp-responder``."""

    def __init__(self, path: str, role: str, *options: str) -> None:
        words = [sys.executable, "-m", "memif", "icmp-responder", "--socket", path, "--role", role, "--ip", OURS]
        self.process = subprocess.Popen(
            [*words, "--json", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def finish(self) -> dict[str, Any]:
        """End it as Ctrl-C does and return what it says it did."""
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=10)
        assert self.process.returncode == 0, err
        return json.loads(out.splitlines()[-1])  # type: ignore[no-any-return]


@contextmanager
def responder(path: str, role: str, *options: str) -> Iterator[Responder]:
    running = Responder(path, role, *options)
    try:
        if role == "master":
            assert poll_until(lambda: os.path.exists(path), 10.0, 0.01), running.process.poll()
        yield running
    finally:
        running.process.kill()
        print(*running.process.communicate())  # shown when the test fails


@pytest.mark.parametrize("role", ["master", "slave"])
def test_kernel_ping(socket_path: str, kernel_port: Callable[..., KernelPort], role: str) -> None:
    """ARP first, then every size up to what fits into a frame: each echo comes back, whole and once."""
    with responder(socket_path, role) as answering:
        port = kernel_port(THEIRS[role], address=KERNEL)
        port.testpmd.wait_link(10.0)
        result = port.ping(OURS, count=500)
        assert result.sent == 500
        assert result.received >= 499  # see KernelPort.ping on the last one
        assert (result.duplicates, result.corrupted) == (0, False)
        for size in (0, 1, 17, 1472):
            result = port.ping(OURS, count=5, size=size, interval=0.1)
            assert (result.received, result.corrupted) == (5, False), result.output
        assert OURS in port.run("ip", "neigh")
        port.testpmd.stop()
        report = answering.finish()
        settle(port.testpmd)
    assert report["answered"]["echo"] == 520


def test_nobody_else_answers(socket_path: str, kernel_port: Callable[..., KernelPort]) -> None:
    """Another address of the same network gets no answer."""
    with responder(socket_path, "master") as answering:
        port = kernel_port("client", address=KERNEL)
        port.testpmd.wait_link(10.0)
        assert port.ping("10.7.0.3", count=2, wait=0.5).received == 0
        assert port.ping(OURS, count=2, interval=0.5).received == 2
        port.testpmd.stop()
        answering.finish()
        settle(port.testpmd)


def test_zero_copy_client(
    socket_path: str, testpmd: Callable[..., Testpmd], kernel_port: Callable[..., KernelPort]
) -> None:
    with responder(socket_path, "master", "--rx-mode", "adaptive") as answering:
        port = kernel_port("client", address=KERNEL, zero_copy=True, mbufs=8192)
        port.testpmd.wait_link(10.0)
        result = port.ping(OURS, count=10, size=1000, interval=0.1)
        assert (result.received, result.corrupted) == (10, False), result.output
        port.testpmd.stop()
        answering.finish()
        settle(port.testpmd)
