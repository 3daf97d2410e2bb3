"""A slave with seal="require" and the allocators: only memory that a master cannot take away."""

from typing import Any

import pytest

import memif
from ends import pump
from memif.memory.allocator import HugepageAllocator, MemfdAllocator
from memory.test_allocator import free_huge_pages


def test_ordinary_memory_is_fine(socket_path: str) -> None:
    comes_up(socket_path, MemfdAllocator())


def test_huge_pages_that_fell_back_to_ordinary_ones_are_fine(socket_path: str) -> None:
    comes_up(socket_path, HugepageAllocator(1 << 30))  # of which no machine has one to spare


@pytest.mark.skipif(free_huge_pages() < 8, reason="needs 8 free huge pages: sysctl vm.nr_hugepages=8")
def test_huge_pages_are_refused(socket_path: str) -> None:
    with memif.listen(socket_path) as master, memif.Socket(socket_path) as sock:
        slave = sock.interface(allocator=HugepageAllocator(fallback=False), seal="require")
        pump(master, slave, until=lambda: slave.disconnect_reason)
        assert 'seal="require"' in str(slave.disconnect_reason)
        assert not master.up


def comes_up(path: str, allocator: Any) -> None:
    with memif.listen(path) as master, memif.Socket(path) as sock:
        slave = sock.interface(allocator=allocator, seal="require")
        pump(master, slave, until=lambda: master.up and slave.up)
