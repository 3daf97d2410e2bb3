"""Shared memory descriptors: made right, and a peer's checked."""

import contextlib
import errno
import fcntl
import mmap
import os
import resource
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from children import in_child
from memif.errors import MemifOSError, MemifProtocolError, MemifValueError
from memif.memory import region
from memif.memory.region import (
    check_peer_fd,
    keep_off_standard_fds,
    mapping_size,
    page_size,
)

SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


@pytest.fixture
def keep() -> Iterator[Callable[[int], int]]:
    """Close what it is given when the test ends."""
    with contextlib.ExitStack() as stack:

        def keeper(fd: int) -> int:
            stack.callback(os.close, fd)
            return fd

        yield keeper


def create_memfd(size: int, name: str = "memif", *, huge: bool = False) -> int:
    """A descriptor that the test closes by its number."""
    return region.create_memfd(size, name, huge=huge).owner.release()


def bare_memfd(size: int, *, sealable: bool = True) -> int:
    fd = os.memfd_create("peer", os.MFD_CLOEXEC | (os.MFD_ALLOW_SEALING if sealable else 0))
    os.ftruncate(fd, size)
    return fd


class TestCreate:
    def test_size_seals_and_flags(self, keep: Callable[[int], int]) -> None:
        fd = keep(create_memfd(12288, "rings"))
        assert os.fstat(fd).st_size == 12288
        assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) == SEALS
        assert not os.get_inheritable(fd)
        assert "rings" in os.readlink(f"/proc/self/fd/{fd}")

    def test_can_not_be_resized_but_can_be_written(self, keep: Callable[[int], int]) -> None:
        fd = keep(create_memfd(8192))
        for size in (4096, 16384):
            with pytest.raises(PermissionError):
                os.ftruncate(fd, size)
        with mmap.mmap(fd, 8192) as memory:
            assert memory[:] == bytes(8192)
            memory[:4] = b"memi"
        assert os.pread(fd, 4, 0) == b"memi"

    @pytest.mark.parametrize(("size", "huge"), [(0, False), (-1, False), (1 << 63, False), (4096, True)])
    def test_wrong_size(self, size: int, huge: bool) -> None:
        with pytest.raises(MemifValueError, match="size"):
            create_memfd(size, huge=huge)

    def test_impossible_size_is_reported_and_nothing_leaks(self) -> None:
        def child() -> int:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
            before = os.listdir("/proc/self/fd")
            with pytest.raises(MemifOSError, match="sizing shared memory to 8192 bytes") as caught:
                create_memfd(8192)
            return int(caught.value.errno == errno.EFBIG and os.listdir("/proc/self/fd") == before)

        assert os.waitstatus_to_exitcode(in_child(child)) == 1

    def test_any_name_will_do(self, keep: Callable[[int], int]) -> None:
        keep(create_memfd(4096, "é\0" * 500))

    def test_never_a_standard_descriptor(self) -> None:
        def child() -> int:
            for fd in (0, 1, 2):
                with contextlib.suppress(OSError):
                    os.close(fd)
            return create_memfd(4096)

        assert os.waitstatus_to_exitcode(in_child(child)) >= 3


class TestKeepOff:
    def test_high_numbers_stay(self, keep: Callable[[int], int]) -> None:
        fd = keep(bare_memfd(10))
        assert keep_off_standard_fds(fd) == fd

    def test_zero_moves_and_is_closed(self) -> None:
        def child() -> int:
            os.dup2(bare_memfd(77), 0)
            moved = keep_off_standard_fds(0)
            gone = not os.path.exists("/proc/self/fd/0")
            same = os.fstat(moved).st_size == 77 and not os.get_inheritable(moved)
            return int(moved >= 3 and gone and same)

        assert os.waitstatus_to_exitcode(in_child(child)) == 1


class TestCheckPeer:
    def test_ours_passes_under_both_policies(self, keep: Callable[[int], int]) -> None:
        fd = keep(create_memfd(8192))
        assert check_peer_fd(fd, 8192) is True
        assert check_peer_fd(fd, 8192, seal="require") is True
        assert check_peer_fd(fd, 1) is True

    def test_missing_seal_is_added(self, keep: Callable[[int], int]) -> None:
        fd = keep(bare_memfd(8192))
        assert check_peer_fd(fd, 8192, seal="require") is True
        with pytest.raises(PermissionError):
            os.ftruncate(fd, 4096)

    def test_seal_is_added_even_while_the_peer_has_it_mapped(self, keep: Callable[[int], int]) -> None:
        fd = keep(bare_memfd(8192))
        with mmap.mmap(fd, 8192) as memory:
            assert check_peer_fd(fd, 8192)
            memory[8191] = 1

    def test_unsealable_memfd(self, keep: Callable[[int], int]) -> None:
        fd = keep(bare_memfd(8192, sealable=False))
        assert check_peer_fd(fd, 8192) is False
        with pytest.raises(MemifProtocolError, match="not sealed"):
            check_peer_fd(fd, 8192, seal="require")

    @pytest.mark.skipif(not os.path.ismount("/dev/shm"), reason="no tmpfs mounted at /dev/shm")
    def test_file_on_tmpfs(self) -> None:
        with tempfile.TemporaryFile(dir="/dev/shm") as file:
            file.truncate(4096)
            assert check_peer_fd(file.fileno(), 4096) is False

    def test_seal_is_set_before_the_size_is_read(self, keep: Callable[[int], int]) -> None:
        fd = keep(bare_memfd(4096))
        with pytest.raises(MemifProtocolError, match="8192 announced, memory has 4096"):
            check_peer_fd(fd, 8192)
        # Refused for its size, and yet sealed: so the size could not have changed after the look at it.
        assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK

    def test_size_limits(self, keep: Callable[[int], int]) -> None:
        fd = keep(create_memfd(4096))
        for size in (0, -1, 4097, (1 << 64) - 1):
            with pytest.raises(MemifProtocolError) as caught:
                check_peer_fd(fd, size)
            assert len(caught.value.detail.encode()) <= 95
        with pytest.raises(MemifProtocolError, match=r"not in 1\.\.4095"):
            check_peer_fd(fd, 4096, limit=4095)

    def test_unknown_policy(self, keep: Callable[[int], int]) -> None:
        with pytest.raises(MemifValueError, match="seal"):
            check_peer_fd(keep(create_memfd(4096)), 4096, seal="never")  # type: ignore[arg-type]

    def test_sockets_pipes_directories_eventfds(self, keep: Callable[[int], int], tmp_path: Path) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            fds = [
                ours.fileno(),
                *map(keep, os.pipe()),
                keep(os.open(tmp_path, os.O_RDONLY)),
                keep(os.eventfd(0)),
                keep(os.open("/dev/zero", os.O_RDWR)),
            ]
            for fd in fds:
                with pytest.raises(MemifProtocolError, match="not shared memory"):
                    check_peer_fd(fd, 1)

    def test_file_on_disk(self) -> None:
        # /proc is no disk, but like one it answers no seal calls, and unlike /tmp it is never a tmpfs.
        with open("/proc/self/comm", "r+b") as file:
            with pytest.raises(MemifProtocolError, match="not shared memory"):
                check_peer_fd(file.fileno(), 1)

    def test_read_only_descriptor(self, keep: Callable[[int], int]) -> None:
        fd = keep(create_memfd(4096))
        for flags in (os.O_RDONLY, os.O_WRONLY):
            with pytest.raises(MemifProtocolError, match="reading and writing"):
                check_peer_fd(keep(os.open(f"/proc/self/fd/{fd}", flags)), 4096)

    def test_path_only_and_closed_descriptors(self, keep: Callable[[int], int]) -> None:
        fd = create_memfd(4096)
        path_only = keep(os.open(f"/proc/self/fd/{fd}", os.O_PATH))
        os.close(fd)
        for number in (path_only, fd):
            with pytest.raises(MemifProtocolError):
                check_peer_fd(number, 4096)

    def test_sealed_against_writing(self, keep: Callable[[int], int]) -> None:
        fd = keep(bare_memfd(4096))
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
        with pytest.raises(MemifProtocolError, match="sealed against writing"):
            check_peer_fd(fd, 4096)


class TestSigbus:
    """The danger that all of this is for is real."""

    @staticmethod
    def shrink_and_read(*, check: bool) -> int:
        def child() -> int:
            fd = bare_memfd(8192)
            if check:
                check_peer_fd(fd, 8192)
            memory = mmap.mmap(fd, 8192)
            with contextlib.suppress(PermissionError):
                os.ftruncate(fd, 0)
            return memory[5000]

        return in_child(child)

    def test_unchecked_memory_kills(self) -> None:
        status = self.shrink_and_read(check=False)
        assert os.WIFSIGNALED(status)
        assert os.WTERMSIG(status) == signal.SIGBUS

    def test_checked_memory_does_not(self) -> None:
        assert os.waitstatus_to_exitcode(self.shrink_and_read(check=True)) == 0


def test_mapping_size_is_whole_pages(keep: Callable[[int], int]) -> None:
    fd = keep(create_memfd(3 * mmap.PAGESIZE))
    unit = page_size(fd)
    assert mapping_size(fd, 1) == unit
    assert mapping_size(fd, 2 * mmap.PAGESIZE + 1) == 3 * mmap.PAGESIZE
