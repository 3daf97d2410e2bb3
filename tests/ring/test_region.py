"""Region: what it maps, who keeps it, and what a forked child sees of it."""

import gc
import mmap
import os
import pickle
from collections.abc import Iterator

import numpy as np
import pytest

from children import in_child
from memif.ring import Region

HUGE = 1 << 21


@pytest.fixture
def fd() -> Iterator[int]:
    fd = os.memfd_create("region")
    os.ftruncate(fd, 8192)
    yield fd
    os.close(fd)


def mapped(name: str) -> int:
    with open("/proc/self/maps") as maps:
        return sum(name in line for line in maps)


def test_it_is_the_memory_of_the_descriptor(fd: int) -> None:
    region = Region(fd, 8192)
    assert (len(region), region.size, region.writable, repr(region)) == (8192, 8192, True, "<Region 8192 bytes>")
    memoryview(region)[100:104] = b"here"
    assert os.pread(fd, 4, 100) == b"here"
    assert np.frombuffer(region, np.uint8)[100] == ord("h")


def test_the_last_view_unmaps_it(fd: int) -> None:
    region = Region(fd, 8192)
    view = memoryview(region)[5:9]
    array = np.frombuffer(region, np.uint8)[7:]
    del region
    assert bytes(view) == bytes(4)
    del view
    gc.collect()
    assert array[0] == 0
    assert mapped("memfd:region") == 1
    del array
    assert mapped("memfd:region") == 0


def test_read_only(fd: int) -> None:
    region = Region(fd, 8192, False)
    assert memoryview(region).readonly
    assert not region.writable


def test_the_memory_of_somebody_else() -> None:
    """Kept alive, and never unmapped by the region."""
    own = mmap.mmap(-1, 4096)
    region = Region.wrap(own)
    memoryview(region)[0] = 1
    assert own[0] == 1
    with pytest.raises(BufferError):
        own.close()
    del region
    own.close()
    for wrong, error in ((b"read-only", BufferError), (bytearray(), ValueError), (1, TypeError)):
        with pytest.raises(error):
            Region.wrap(wrong)
    with pytest.raises(BufferError):
        Region.wrap(memoryview(bytearray(8))[::2])


def test_errors(fd: int) -> None:
    for size in (0, 2**46 + 1):
        with pytest.raises(ValueError, match=f"size: got {size}, allowed: 1 to"):
            Region(fd, size)
    with pytest.raises(OSError, match="Bad file descriptor"):
        Region(-1, 4096)
    region = Region(fd, 4096)
    with pytest.raises(RuntimeError, match="only once"):
        region.__init__(fd, 4096)  # type: ignore[misc]
    with pytest.raises(TypeError):
        pickle.dumps(region)


@pytest.mark.parametrize("length", [0, 1, mmap.PAGESIZE - 1, mmap.PAGESIZE, mmap.PAGESIZE + 1])
def test_never_beyond_the_end_of_its_file(fd: int, length: int) -> None:
    """Up to the end of the last page every byte can be touched; one more would be SIGBUS at the first look."""
    os.ftruncate(fd, length)
    whole = -(-length // mmap.PAGESIZE) * mmap.PAGESIZE
    for size in {length, whole} - {0}:
        region = Region(fd, size)
        assert bytes(region) == bytes(size)
        memoryview(region)[-1] = 1
        memoryview(region)[-1] = 0
        del region
    for size in (whole + 1, whole + mmap.PAGESIZE, 2**46):
        for writable in (True, False):
            with pytest.raises(OSError, match=f"size: got {size}, allowed: at most {whole}, .* has {length} b"):
                Region(fd, size, writable)
    assert mapped("memfd:region") == 0


def test_what_has_no_length() -> None:
    """A device has memory beyond its length, which is 0."""
    with open("/dev/zero", "r+b", buffering=0) as device:
        region = Region(device.fileno(), 2 * mmap.PAGESIZE)
        assert bytes(region) == bytes(2 * mmap.PAGESIZE)


def test_a_huge_page_is_whole() -> None:
    """Its file has a multiple of its size, all of which can be mapped, and nothing more."""
    fd = os.memfd_create("region", os.MFD_HUGETLB | os.MFD_HUGE_2MB)
    try:
        os.ftruncate(fd, HUGE)
        with pytest.raises(OSError, match=f"size: got {HUGE + 1}, allowed: at most {HUGE}"):
            Region(fd, HUGE + 1)
        try:
            region = Region(fd, HUGE)
        except OSError as error:
            pytest.skip(f"no free huge pages of 2 MiB (sysctl vm.nr_hugepages): {error}")
        assert len(region) == HUGE
        del region
    finally:
        os.close(fd)


def harmless(region: Region) -> None:
    """A child sees zeros, and what it writes stays its own; so it is in the child of a child."""
    view = memoryview(region)
    view[10], view[-1] = 7, 9

    def child() -> int:
        if view[10] or view[-1]:
            return 1
        view[10] = view[-1] = 99
        return in_child(lambda: int(view[10] != 0)) >> 8

    assert in_child(child) == 0
    assert (view[10], view[-1]) == (7, 9)


def test_a_child_is_cut_off(fd: int) -> None:
    regions = [Region(fd, size) for size in (8192, 100, 4097)]
    del regions[1]
    for region in regions:
        harmless(region)


def test_a_child_is_cut_off_from_huge_pages() -> None:
    """The kernel replaces and unmaps them whole only, while a peer may announce any size."""
    fd = os.memfd_create("region", os.MFD_HUGETLB | os.MFD_HUGE_2MB)
    try:
        os.ftruncate(fd, 2 * HUGE)
        try:
            region = Region(fd, 2 * HUGE - 5000)
        except OSError as error:
            pytest.skip(f"no free huge pages of 2 MiB (sysctl vm.nr_hugepages): {error}")
        harmless(region)
        before = mapped("memfd:region")
        del region
        assert mapped("memfd:region") == before - 1
    finally:
        os.close(fd)
