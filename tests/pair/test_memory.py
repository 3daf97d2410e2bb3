"""Where the packets lie: layouts, cache lines, the user's own memory, huge pages, headroom."""

import fcntl
import gc
import logging
import mmap
import os
from typing import Any

import pytest

import memif
from ends import all_up, linked, pump, receive, send_all
from memif.memory.region import create_memfd

PACKETS = [b"%d" % n * (n % 60 + 1) for n in range(300)]


def both_ways(master: memif.Interface, slave: memif.Interface) -> None:
    """AssertionError unless packets arrive in both directions, small ones and chains, over the ring's end."""
    for source, target in ((slave, master), (master, slave)):
        queue = source.tx[-1]
        assert queue.wait_free(queue.ring.size, timeout=1.0)
        for at in range(0, len(PACKETS), 10):
            send_all(queue, PACKETS[at : at + 10])
            assert receive(target.rx[-1], 10) == PACKETS[at : at + 10]
        long = os.urandom(5000)
        assert queue.send([long]) == 1
        assert receive(target.rx[-1], 1) == [long]


SMALL = {"ring_size": 64, "buffer_size": 256}


@pytest.mark.parametrize("layout", ["single", "split"])
@pytest.mark.parametrize("cache_line", [64, 128])
@pytest.mark.parametrize("queues", [1, 3])
def test_layouts(socket_path: str, layout: str, cache_line: int, queues: int) -> None:
    """The master finds out the line by itself, with a single ring in a direction and with several."""
    counts = {"rx_queues": queues, "tx_queues": queues}
    options = {"layout": layout, "cache_line": cache_line, **counts, **SMALL}
    with linked(socket_path, slave=options) as (master, slave):
        regions = master.details().regions
        assert len(regions) == (1 if layout == "single" else 2)
        both_ways(master, slave)


@pytest.mark.parametrize("cache_line", [64, 128])
def test_one_ring_alone(socket_path: str, cache_line: int) -> None:
    """No second ring whose place would tell the line."""
    options = {"rx_queues": 0, "cache_line": cache_line, **SMALL}
    with linked(socket_path, slave=options) as (master, slave):
        assert slave.tx[0].send(PACKETS[:20]) == 20
        assert receive(master.rx[0], 20) == PACKETS[:20]


@pytest.mark.parametrize("line", [64, 128])
def test_told_cache_line(socket_path: str, line: int) -> None:
    with linked(socket_path, cache_line=line, slave=SMALL) as (master, slave):
        both_ways(master, slave)


def test_wrong_cache_line(socket_path: str) -> None:
    """A ring takes more room then than the slave gave it, which does not go unnoticed."""
    with memif.listen(socket_path, cache_line=128) as master, memif.Socket(socket_path) as sock:
        slave = sock.interface(cache_line=64, **SMALL)
        pump(master, slave, until=lambda: slave.disconnect_reason is not None)
        assert "overlaps" in str(slave.disconnect_reason)
        assert not master.up


# -- memory that the user brings


class Plain:
    """Allocator with the two methods that are needed."""

    def __init__(self) -> None:
        self.given: list[int] = []
        self.taken: list[tuple[int, object]] = []

    def allocate(self, size: int) -> int:
        fd = create_memfd(size, "of-the-user").owner.release()
        self.given.append(fd)
        return fd

    def free(self, fd: int, buffer: object) -> None:
        self.taken.append((fd, buffer))
        if isinstance(buffer, mmap.mmap):
            buffer.close()
        os.close(fd)


class Mapping(Plain):
    """Allocator that maps its memory by itself, too."""

    def __init__(self) -> None:
        super().__init__()
        self.maps: list[mmap.mmap] = []

    def map(self, fd: int, size: int) -> mmap.mmap:
        self.maps.append(mmap.mmap(fd, size))
        return self.maps[-1]


@pytest.mark.parametrize("layout", ["single", "split"])
@pytest.mark.parametrize("kind", [Plain, Mapping])
def test_own_allocator(socket_path: str, kind: type[Plain], layout: str) -> None:
    allocator = kind()
    count = 1 if layout == "single" else 2
    options = {"allocator": allocator, "layout": layout, "reconnect": 0.01, **SMALL}
    with linked(socket_path, slave=options) as (master, slave):
        assert len(allocator.given) == count
        assert [region.external for region in slave.details().regions] == [kind is Mapping] * count
        assert [region.fd for region in slave.details().regions] == allocator.given
        both_ways(master, slave)
        slave.disconnect()
        pump(master, until=lambda: not master.up)
        all_up(master, slave)
        gc.collect()
        # The memory of the first connection is back, that of the second is in use.
        assert len(allocator.given) == 2 * count
        assert len(allocator.taken) == count
        both_ways(master, slave)
    gc.collect()
    assert len(allocator.taken) == 2 * count
    assert all((buffer is not None) == (kind is Mapping) for _, buffer in allocator.taken)


def test_own_mapping_shows_the_packets(socket_path: str) -> None:
    allocator = Mapping()
    with linked(socket_path, slave={"allocator": allocator, **SMALL}) as (_, slave):
        slave.tx[0].send([b"a needle in the memory of the user"])
        assert allocator.maps[0].find(b"a needle in the memory of the user") > 0


def test_own_memory_is_kept_for_a_view(socket_path: str) -> None:
    allocator = Mapping()
    with linked(socket_path, slave={"allocator": allocator, **SMALL}) as (master, slave):
        assert master.tx[0].wait_free(1, timeout=1.0)
        master.tx[0].send([b"view"])
        burst = slave.rx[0].recv(1, timeout=1.0)
        view = burst[0]
        burst.release()
        del burst
        slave.close()
        gc.collect()
        assert allocator.taken == []
        assert bytes(view) == b"view"
    view.release()
    del view, slave, master
    gc.collect()
    assert len(allocator.taken) == 1


def test_own_memory_goes_back_from_a_cycle_too(socket_path: str) -> None:
    """The collector finds the view, and everything behind it, at once; the order must be right all the same."""
    allocator = Mapping()
    with linked(socket_path, slave={"allocator": allocator, **SMALL}) as (master, slave):
        assert master.tx[0].wait_free(1, timeout=1.0)
        master.tx[0].send([b"view"])
        with slave.rx[0].recv(1, timeout=1.0) as burst:
            cycle: list[Any] = [burst[0]]
            cycle.append(cycle)
    del burst, slave, master, cycle
    gc.collect()
    assert len(allocator.taken) == 1


class Refusing(Plain):
    """Allocator that has no memory for us."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def allocate(self, size: int) -> int:
        raise self.error


class TooSmall(Mapping):
    """Allocator whose mappings are shorter than what was asked for."""

    def map(self, fd: int, size: int) -> mmap.mmap:
        return super().map(fd, mmap.PAGESIZE)


class Rubbish(Plain):
    """Allocator whose descriptors are no memory."""

    def allocate(self, size: int) -> int:
        fd = os.open("/dev/null", os.O_RDWR)
        self.given.append(fd)
        return fd


def connect_error(path: str, allocator: Any, master: memif.Interface) -> Exception:
    with memif.Socket(path) as sock:
        slave = sock.interface(reconnect=None, allocator=allocator, **SMALL)
        slave.connect()
        try:
            pump(master, sock, until=lambda: slave.disconnect_reason is not None, timeout=2.0)
            slave.wait_up(0.1)
        except Exception as error:
            return error
    raise AssertionError("no error")


def test_allocators_that_fail(socket_path: str) -> None:
    with memif.listen(socket_path) as master:
        error = connect_error(socket_path, Refusing(memif.MemifMemoryError("none left")), master)
        assert isinstance(error, memif.MemifMemoryError) or "none left" in str(error)
        error = connect_error(socket_path, Refusing(OSError(12, "Cannot allocate memory")), master)
        assert isinstance(error, memif.MemifError)
        assert "llocate memory" in str(error)
        for kind in (TooSmall, Rubbish):
            allocator = kind()
            assert isinstance(connect_error(socket_path, allocator, master), memif.MemifError)
            gc.collect()
            assert len(allocator.taken) == len(allocator.given) == 1
        all_up(master, memif_slave := memif.Socket(socket_path).interface())
        memif_slave.socket.close()


def test_an_unexpected_exception_of_an_allocator(socket_path: str) -> None:
    """It reaches the caller; the connection is given up and can be tried again."""
    with memif.listen(socket_path) as master, memif.Socket(socket_path) as sock:
        allocator = Refusing(ZeroDivisionError("a bug of the user's"))
        slave = sock.interface(reconnect=0.01, allocator=allocator, **SMALL)
        with pytest.raises(ZeroDivisionError):
            pump(master, slave, until=lambda: slave.up)
        assert slave.disconnect_reason is not None
        slave.config.allocator.allocate = Plain().allocate  # type: ignore[method-assign]
        all_up(master, slave)


def test_unsealed_memory(socket_path: str, caplog: pytest.LogCaptureFixture) -> None:
    class Unsealed(Plain):
        def allocate(self, size: int) -> int:
            # Sealed against seals: nobody can make it safe any more.
            fd = os.memfd_create("loose", os.MFD_CLOEXEC)
            os.ftruncate(fd, size)
            self.given.append(fd)
            return fd

    with linked(socket_path, slave={"allocator": Unsealed(), **SMALL}) as (master, slave):
        assert any("not sealed" in record.message for record in caplog.records)
        both_ways(master, slave)
    with memif.listen(socket_path, seal="require") as master:
        error = connect_error(socket_path, Unsealed(), master)
        assert "seal" in str(error)
        # What can be sealed is welcome.
        with memif.Socket(socket_path) as sock:
            all_up(master, sock.interface())


def test_default_memory_is_sealed(socket_path: str) -> None:
    with linked(socket_path) as (master, _):
        seals = fcntl.fcntl(master.details().regions[0].fd, fcntl.F_GET_SEALS)
        assert seals & fcntl.F_SEAL_SHRINK


# -- huge pages


def test_huge_pages_or_a_clear_message(socket_path: str, caplog: pytest.LogCaptureFixture) -> None:
    """With the pages: used. Without: one warning that says what to do, and ordinary memory."""
    with open("/proc/sys/vm/nr_hugepages") as file:
        there = int(file.read()) > 8
    caplog.set_level(logging.WARNING)
    options = {"allocator": memif.HugepageAllocator(), "reconnect": 0.01, **SMALL}
    with linked(socket_path, slave=options) as (master, slave):
        both_ways(master, slave)
        assert slave.details().regions[0].size % (1 << 21) == 0
        slave.disconnect()
        pump(master, until=lambda: not master.up)
        all_up(master, slave)
    warnings = [r.getMessage() for r in caplog.records if "huge pages" in r.getMessage()]
    assert len(warnings) == (0 if there else 1)
    assert there or "sysctl vm.nr_hugepages" in warnings[0]


def test_huge_pages_without_fallback(socket_path: str) -> None:
    allocator = memif.HugepageAllocator(1 << 21, fallback=False)
    with open("/proc/sys/vm/nr_hugepages") as file:
        if int(file.read()) > 8:
            pytest.skip("this machine has huge pages, so none are missing")
    with memif.listen(socket_path) as master:
        error = connect_error(socket_path, allocator, master)
        assert "huge pages of 2048 KiB are needed" in str(error)


# -- headroom


@pytest.mark.parametrize("headroom", [14, 128, 255])
def test_headroom_and_prepend(socket_path: str, headroom: int) -> None:
    """A slave puts a header in front of what it received and sends it on without a copy, around the ring."""
    with linked(socket_path, slave={"headroom": headroom, **SMALL}) as (master, slave):
        room = 256 - headroom
        assert master.tx[0].wait_free(64, timeout=1.0)
        assert master.details().tx_queues[0].buffer_size == room
        header = bytes(range(14))
        for round_ in range(200):
            packet = b"%d" % round_ * 20
            assert master.tx[0].send([packet[:room]]) == 1
            with slave.rx[0].recv(1, timeout=1.0) as burst:
                burst.prepend(14)
                burst[0][:14] = header
                assert slave.tx[0].forward(burst) == 1
            assert receive(master.rx[0], 1) == [header + packet[:room]]


def test_no_more_than_the_headroom(socket_path: str) -> None:
    with linked(socket_path, slave={"headroom": 14, **SMALL}) as (master, slave):
        assert master.tx[0].wait_free(1, timeout=1.0)
        master.tx[0].send([b"x"])
        with slave.rx[0].recv(1, timeout=1.0) as burst, pytest.raises(memif.MemifValueError, match="14"):
            burst.prepend(15)
