"""icmp_responder-eb of 18.10: the program supplies the memory for its packets (external region).

    python examples/libmemif/icmp_responder_eb.py [--socket PATH]

The console of icmp_responder-epoll; slaves keep their buffers in memory that this program allocates and maps, as one
would for buffers that another device fills; a master maps its slave's buffers itself. `show` lists the regions.
`del` says when the memory is not needed any more.
"""

import mmap
import os
import sys
from collections.abc import Callable, Iterable

from console import main

from memif.console import Console, MemifConnection
from memif.console.connection import info
from memif.console.show import regions
from memif.libmemif import MEMIF_ERR_SUCCESS, MEMIF_ERR_SYSCALL, memif_details_t, memif_register_external_region

#: Bytes from one buffer to the next.
STRIDE = 2048


class Memory:
    """The program's packet memory: one memfd for each connection of a slave."""

    def __init__(self) -> None:
        self._next: dict[int, int] = {}

    def add(self, size: int, c: MemifConnection) -> tuple[int, mmap.mmap | None, int]:
        """The library wants a region of `size` bytes for a connection."""
        try:
            fd = os.memfd_create("icmp_responder-eb", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            os.ftruncate(fd, size)
            addr = mmap.mmap(fd, size)
        except OSError:
            return MEMIF_ERR_SYSCALL, None, -1
        self._next[c.index] = 0
        info(f"external region of {size} bytes")
        return MEMIF_ERR_SUCCESS, addr, fd

    def get_addr(self, size: int, fd: int, c: MemifConnection) -> mmap.mmap:
        """Where a region is mapped; `add` has told already."""
        return mmap.mmap(fd, size)

    def remove(self, addr: mmap.mmap, size: int, fd: int, c: MemifConnection) -> int:
        """Nothing uses the region any more."""
        os.close(fd)
        info(f"external region of {size} bytes is free")
        return 0

    def get_offset(self, c: MemifConnection) -> int:
        """Where the next buffer lies."""
        offset = self._next[c.index]
        self._next[c.index] += STRIDE
        return offset


class ExternalConnection(MemifConnection):
    """An interface that shows its memory."""

    def region_lines(self, md: memif_details_t) -> Iterable[str]:
        """All regions: the rings' and the buffers'."""
        return regions(md)


class ExternalConsole(Console):
    """Registers the callbacks before the first interface."""

    def connection(self, index: int) -> MemifConnection:
        """One that shows its memory."""
        return ExternalConnection(index)

    def open(self, on_control_fd_update: Callable[[int, int], int] | None) -> int:
        """Set the library up."""
        err = super().open(on_control_fd_update)
        memory = Memory()
        memif_register_external_region(memory.add, memory.get_addr, memory.remove, memory.get_offset)
        return err


if __name__ == "__main__":
    sys.exit(main(ExternalConsole, __doc__))
