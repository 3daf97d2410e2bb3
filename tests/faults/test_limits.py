"""No descriptors, no address space, no disk: an error for the user, a reason for the peer, and on we go."""

import contextlib
import errno
import os
import resource
import sys
from collections.abc import Callable, Iterator

import pytest

import memif
from children import in_child
from ends import linked, pump, receive
from memif.memory.allocator import MemfdAllocator
from memif.testing import HostilePeer, unused_name


def limited(what: int, value: int) -> None:
    resource.setrlimit(what, (value, resource.getrlimit(what)[1]))


@contextlib.contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """Context: all but `count` of this process's descriptors are in use."""
    taken: list[int] = []
    limited(resource.RLIMIT_NOFILE, 512)
    with contextlib.suppress(OSError):
        while True:
            taken.append(os.open("/dev/null", os.O_RDONLY))
    for _ in range(count):
        os.close(taken.pop())
    try:
        yield
    finally:
        for fd in taken:
            os.close(fd)


def good(run: Callable[[], object]) -> None:
    """Run it in a child, whose limits are its own."""

    def child() -> int:
        try:
            run()
        except BaseException:
            import traceback

            traceback.print_exc(file=sys.__stderr__)
            return 1
        return 0

    assert in_child(child) == 0


def test_no_descriptors_for_clients() -> None:
    """The listener hangs up on clients that it has no descriptor for, its link stays, and later all is well again."""

    def run() -> None:
        path = unused_name()
        with linked(path) as (master, slave):
            sock = master.socket
            with HostilePeer(path, idle=lambda: sock.poll(0)) as crowd:
                for _ in range(4):
                    crowd.connect()
                with descriptors_left(1):
                    pump(master, until=lambda: sock.stats["accepted"] + sock.stats["turned_away"] >= 5)
                    assert sock.stats["turned_away"] >= 2
                    # Nothing is pending: an event loop would not spin.
                    assert not any(sock.poll(0) for _ in range(3))
                    slave.tx[0].send([b"x" * 60])
                    assert receive(master.rx[0], 1) == [b"x" * 60]
            second = sock.interface(role="master", id=1)
            with memif.Socket(path) as other:
                client = other.interface(id=1)
                pump(sock, other, until=lambda: client.up and second.up)

    good(run)


def test_no_descriptors_for_what_a_client_sends() -> None:
    """Descriptors that did not fit are cut off by the kernel: the client is refused, nothing is lost."""

    def run() -> None:
        path = unused_name()
        with memif.Socket(path) as sock:
            master = sock.interface(role="master")
            with HostilePeer(path, idle=lambda: sock.poll(0)) as peer:
                script = peer.script()
                pump(sock, until=lambda: sock.stats["accepted"])
                with descriptors_left(0):
                    reason = peer.play(script)
                assert reason == "malformed message received", reason
                assert not master.up
                assert peer.play(peer.script()) is None

    good(run)


def test_no_descriptors_for_a_slave() -> None:
    """Its attempt fails with an error that says so, and a later one succeeds."""

    def run() -> None:
        path = unused_name()
        with memif.Socket(path) as listening, memif.Socket(path) as connecting:
            master = listening.interface(role="master")
            with descriptors_left(2):
                slave = connecting.interface(reconnect=0.02)
                pump(listening, connecting, until=lambda: slave.stats["refused"])
                assert "open files" in str(slave.disconnect_reason), slave.disconnect_reason
                assert not slave.up
            pump(listening, connecting, until=lambda: master.up and slave.up)

    good(run)


def _address_space() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


@pytest.mark.nosanitizer  # which needs terabytes of address space
def test_no_address_space_for_a_region() -> None:
    """A client's memory that cannot be mapped is refused with the reason, and the next client is served."""

    def run() -> None:
        path = unused_name()
        with memif.Socket(path) as sock:
            sock.interface(role="master")
            # What this process has by now, from the tests before, and 1 GiB.
            limited(resource.RLIMIT_AS, _address_space() + (1 << 30))
            with HostilePeer(path, idle=lambda: sock.poll(0)) as peer:
                script = peer.script()
                os.ftruncate(peer.memory_fds[0], 1 << 34)
                script["region"].message = type(script["region"].message)(0, 1 << 34)  # type: ignore[call-arg]
                reason = peer.play(script)
                assert reason is not None
                assert "memory" in reason, reason
                assert peer.play({**peer.script()}) is None

    good(run)


@pytest.mark.nosanitizer
def test_no_address_space_for_a_slave() -> None:
    def run() -> None:
        path = unused_name()
        with memif.Socket(path) as listening, memif.Socket(path) as connecting:
            listening.interface(role="master")
            limited(resource.RLIMIT_AS, 400 << 20)
            slave = connecting.interface(ring_size=16384, buffer_size=65535, rx_queues=1, tx_queues=1, reconnect=None)
            slave.connect()
            pump(listening, connecting, until=lambda: slave.stats["refused"])
            assert "memory" in str(slave.disconnect_reason).lower()

    good(run)


def test_memory_that_can_not_grow() -> None:
    """RLIMIT_FSIZE stops the slave's ftruncate: an error, not a death by SIGXFSZ."""

    def run() -> None:
        path = unused_name()
        with memif.Socket(path) as listening, memif.Socket(path) as connecting:
            listening.interface(role="master")
            limited(resource.RLIMIT_FSIZE, 4096)
            slave = connecting.interface(reconnect=None)
            slave.connect()
            pump(listening, connecting, until=lambda: slave.stats["refused"])
            assert "shared memory" in str(slave.disconnect_reason)

    good(run)


class FullDisk(MemfdAllocator):
    """No space, as the kernel says it."""

    def allocate(self, size: int) -> int:
        with open("/dev/full", "wb", buffering=0) as full:
            full.write(b"x")
        return 0


def test_no_space(socket_path: str) -> None:
    with memif.Socket(socket_path) as listening, memif.Socket(socket_path) as connecting:
        master = listening.interface(role="master")
        slave = connecting.interface(allocator=FullDisk(), reconnect=None)
        slave.connect()
        pump(listening, connecting, until=lambda: slave.stats["refused"])
        assert os.strerror(errno.ENOSPC) in str(slave.disconnect_reason)
        assert not master.up


@pytest.mark.parametrize("error", [OSError(errno.EIO, "broken"), RuntimeError("a bug"), MemoryError()])
def test_allocators_that_fail(socket_path: str, error: Exception) -> None:
    """Whatever an allocator raises ends the attempt, comes out of `poll`, and leaves nothing behind."""

    class Broken(MemfdAllocator):
        def allocate(self, size: int) -> int:
            raise error

    with memif.Socket(socket_path) as listening, memif.Socket(socket_path) as connecting:
        listening.interface(role="master")
        slave = connecting.interface(allocator=Broken(), reconnect=None)
        slave.connect()
        with contextlib.suppress(type(error)):
            pump(listening, connecting, until=lambda: slave.stats["refused"], timeout=1.0)
        assert slave.stats["refused"] == 1
        assert not slave.up
