"""The relay between two hostile sides: what waits in it is bounded, and memory cut off in time is not looked at."""

import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from memif.errors import MemifError
from memif.protocol import wire
from memif.sniff import Link
from memif.sniff.relay import Relay
from memif.system._steady import discard
from patience import within

RIGHTS = socket.SOL_SOCKET, socket.SCM_RIGHTS


class Between:
    """A relay in a thread, a slave that floods it, a master that does not read."""

    def __init__(self, path: str) -> None:
        listener, self.master_listener = (socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2))
        listener.bind(path + "t")
        self.master_listener.bind(path)
        for sock in (listener, self.master_listener):
            sock.listen()
        listener.setblocking(False)
        self.recorder, reports = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.recorder.setblocking(False)
        reports.setblocking(False)
        self.relay = Relay(listener, reports, path, path + "t")
        self.thread = threading.Thread(target=self.relay.run)
        self.thread.start()
        self.slave = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.slave.connect(path + "t")
        self.master, _ = self.master_listener.accept()
        self.slave.settimeout(within(0.5))

    def flood(self, fds: list[int], most: int = 3000) -> int:
        """Send messages with these descriptors until nobody takes any more. -> how many went"""
        rights = [(*RIGHTS, struct.pack(f"{len(fds)}i", *fds))] if fds else []
        for count in range(most):
            try:
                self.slave.sendmsg([bytes(128)], rights)
            except (TimeoutError, OSError):
                return count
            self.read_reports()
        return most

    def read_reports(self) -> None:
        """As the recorder does, and closes what came."""
        with suppress(BlockingIOError):
            while True:
                _, fds, _, _ = socket.recv_fds(self.recorder, 4096, 64)
                for fd in fds:
                    os.close(fd)

    def close(self) -> None:
        """The end of all."""
        for sock in (self.slave, self.master, self.master_listener):
            sock.close()
        self.read_reports()
        self.recorder.close()
        self.thread.join(within(10))
        assert not self.thread.is_alive()
        self.relay._gate.close()  # which the end of its process does otherwise


@pytest.fixture
def between(socket_path: str) -> Iterator[Between]:
    one = Between(socket_path)
    yield one
    one.close()


@pytest.mark.parametrize("fds", [0, 1, 50])
def test_what_waits_for_a_master_that_does_not_read_is_bounded(between: Between, fds: int) -> None:
    null = os.open("/dev/null", os.O_RDONLY)
    before = len(os.listdir("/proc/self/fd"))
    sent = between.flood([null] * fds)
    assert 0 < sent < 3000, "the slave has to wait in the end"
    held = len(os.listdir("/proc/self/fd")) - before
    assert held <= 16 + fds, f"{held} descriptors for {sent} messages"
    waiting = sum(len(each) for pair, _ in between.relay._pairs.values() for each in pair.waiting.values()) / 2
    assert waiting <= 16
    os.close(null)


def test_memory_cut_off_before_the_link_is_up() -> None:
    """Its pages are gone: touching them would be SIGBUS."""
    fd = os.memfd_create("peer", os.MFD_CLOEXEC)  # without seals, so that it can be cut
    os.ftruncate(fd, 1 << 16)
    link = Link(1)
    link.see(wire.AddRegion(0, 1 << 16), [os.dup(fd)])
    link.see(wire.AddRing(True, 0, 0, 0, 4), [])
    os.ftruncate(fd, 0)
    with pytest.raises(MemifError, match="shorter than announced"):
        link.see(wire.Connected("master"), [])
    assert link.unsealed
    assert not link.up
    link.close()
    discard(fd)
