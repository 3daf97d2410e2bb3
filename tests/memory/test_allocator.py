"""Allocators: the default, huge pages with and without any, and a user's own."""

import logging
import mmap
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from memif.errors import MemifMemoryError, MemifOSError, MemifValueError
from memif.memory import (
    Allocator,
    HugepageAllocator,
    MemfdAllocator,
    allocator_map,
    allocator_page_size,
    check_peer_fd,
    page_size,
    plan_layout,
)

HUGE = 2 << 20
#: More than any machine has, yet a size that files may have.
TOO_MUCH = 1 << 45


def free_huge_pages(size: int = HUGE) -> int:
    path = Path(f"/sys/kernel/mm/hugepages/hugepages-{size >> 10}kB/free_hugepages")
    return int(path.read_text()) if path.exists() else 0


class Own:
    """The least that a user has to write."""

    def __init__(self) -> None:
        self.freed: list[tuple[int, object]] = []

    def allocate(self, size: int) -> int:
        fd = os.memfd_create("own", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, size)
        return fd

    def free(self, fd: int, buffer: object) -> None:
        os.close(fd)
        self.freed.append((fd, buffer))


class OwnMapped(Own):
    """The same, with memory mapped by the user."""

    page_size = 65536

    def map(self, fd: int, size: int) -> mmap.mmap:
        return mmap.mmap(fd, size)


def test_all_are_allocators() -> None:
    assert all(isinstance(a, Allocator) for a in (MemfdAllocator(), HugepageAllocator(), Own(), OwnMapped()))
    assert not isinstance(object(), Allocator)


def test_optional_attributes() -> None:
    assert allocator_page_size(Own()) == mmap.PAGESIZE
    assert allocator_page_size(OwnMapped()) == 65536
    assert allocator_map(Own()) is None
    assert allocator_map(MemfdAllocator()) is None
    own = OwnMapped()
    fd = own.allocate(65536)
    mapper = allocator_map(own)
    assert mapper is not None
    with mapper(fd, 65536) as buffer:  # type: ignore[attr-defined]
        buffer[0] = 7
        assert os.pread(fd, 1, 0) == b"\7"
    own.free(fd, buffer)
    assert own.freed == [(fd, buffer)]


def test_memfd_is_sealed_zeroed_whole_pages() -> None:
    allocator = MemfdAllocator("mine")
    fd = allocator.allocate(5000)
    try:
        assert os.fstat(fd).st_size == 2 * mmap.PAGESIZE
        assert check_peer_fd(fd, 5000, seal="require")
        assert "mine" in os.readlink(f"/proc/self/fd/{fd}")
    finally:
        allocator.free(fd)
    with pytest.raises(OSError):
        os.fstat(fd)


def test_lack_of_huge_pages_falls_back_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    # A page size that no kernel has: a lack that every machine shares.
    allocator = HugepageAllocator(page_size=8192)
    with caplog.at_level(logging.WARNING, logger="memif"):
        fds = [
            allocator.allocate(plan_layout(1, 1, 4, page_size=allocator.page_size).region_sizes[0]) for _ in range(2)
        ]
    for fd in fds:
        assert os.fstat(fd).st_size % 8192 == 0
        with mmap.mmap(fd, os.fstat(fd).st_size) as memory:
            memory[:] = b"x" * len(memory)
        allocator.free(fd)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "ordinary memory" in caplog.text


def test_without_fallback_the_error_says_what_to_do() -> None:
    pages = TOO_MUCH // HUGE
    with pytest.raises(MemifMemoryError, match=rf"{pages} huge pages of 2048 KiB.*nr_hugepages={pages}"):
        HugepageAllocator(fallback=False).allocate(TOO_MUCH)
    with pytest.raises(MemifMemoryError, match="hugepages-1048576kB/nr_hugepages"):
        HugepageAllocator(1 << 30, fallback=False).allocate(TOO_MUCH)


def test_nothing_leaks_when_pages_are_missing() -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(MemifMemoryError):
        HugepageAllocator(fallback=False).allocate(TOO_MUCH)
    assert len(os.listdir("/proc/self/fd")) == before


def test_other_failures_are_not_called_a_lack_of_pages() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd"))
    dummies = [os.open("/dev/null", os.O_RDONLY) for _ in range(3)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(min(dummies), used), hard))
    try:
        with pytest.raises(MemifOSError):
            HugepageAllocator().allocate(HUGE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in dummies:
            os.close(fd)


@pytest.mark.parametrize("size", [4096, 3 << 20, 0, -HUGE])
def test_wrong_page_size(size: int) -> None:
    with pytest.raises(MemifValueError, match="page_size"):
        HugepageAllocator(size)


@pytest.mark.skipif(free_huge_pages() < 2, reason="needs two free huge pages: sysctl vm.nr_hugepages=2")
def test_huge_pages() -> None:
    allocator = HugepageAllocator(fallback=False)
    fd = allocator.allocate(HUGE + 1)
    try:
        assert os.fstat(fd).st_size == 2 * HUGE
        assert page_size(fd) == HUGE
        assert check_peer_fd(fd, HUGE + 1, seal="require")
        with mmap.mmap(fd, 2 * HUGE) as memory:
            memory[2 * HUGE - 1] = 1
    finally:
        allocator.free(fd)


AT_EXIT = """
import ctypes, gc, mmap, os, sys
import memif
from memif.testing import pump, unused_name

libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]

class Own:
    def allocate(self, size):
        fd = os.memfd_create("own", os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, size)
        return fd

    def map(self, fd, size):
        return (ctypes.c_char * size).from_address(libc.mmap(None, size, 3, mmap.MAP_SHARED, fd, 0))

    def free(self, fd, buffer):
        print("free", flush=True)
        libc.munmap(ctypes.addressof(buffer), len(buffer))
        os.close(fd)

name = unused_name()
master, socket = memif.listen(name), memif.Socket(name)
slave = socket.interface(allocator=Own())
pump(master.socket, socket, until=lambda: master.up and slave.up)
master.tx[0].send([b"x" * 60] * 4)
burst = slave.rx[0].recv(4, timeout=1.0)
"""

ENDINGS = {
    "a burst is alive": ("", 0),
    "a view is alive": ("view = burst[0]; burst.release(); del burst; socket.close()", 0),
    "an array is alive": ("memory = burst.memory; burst.release(); del burst; socket.close()", 0),
    "only rings are alive": ("burst.release(); del burst", 0),
    "in a cycle": ("slave.self = [slave, burst, socket]; slave.self.append(slave.self); del slave, burst, socket", 0),
    "used in an exit function": ("import atexit; atexit.register(lambda: print(len(burst.tobytes())))", 0),
    "all is closed": ("burst.release(); socket.close(); del burst, slave, socket; gc.collect()", 1),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_memory_in_use_at_exit_is_not_freed(ending: str) -> None:
    """`free` promises that no view is in use, and the end of the interpreter does not change that."""
    code, freed = ENDINGS[ending]
    code = code.replace("slave.self =", "box =").replace("slave.self", "box")
    done = subprocess.run([sys.executable, "-c", AT_EXIT + code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("free") == freed
