"""Where a slave's memory comes from: huge pages, or an allocator of your own.

python examples/howto_memory.py
"""

import os

import memif

# [hugepages] ordinary pages, with one warning, if there are no huge pages
pages = memif.HugepageAllocator(fallback=True)


# [own]
class Counted:
    """Ordinary memory, counted.

    An allocator returns a descriptor of at least `size` bytes and gets it back.
    """

    def __init__(self) -> None:
        self.bytes = 0

    def allocate(self, size: int) -> int:
        """Called once for each region of each link.

        The memory must be zero and must not shrink.
        """
        fd = os.memfd_create("counted", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.truncate(fd, size)
        self.bytes += size
        return fd

    def free(self, fd: int, buffer: object) -> None:
        """Called when the link has ended and no view of the memory is left."""
        os.close(fd)


# [use]
counted = Counted()
with memif.listen("@memory", id=0) as first, memif.listen("@memory-2", id=0) as second:
    with memif.Socket("@memory") as socket, memif.Socket("@memory-2") as other:
        ends = [
            socket.interface(id=0, allocator=counted, ring_size=256),
            other.interface(id=0, allocator=pages, ring_size=256),
        ]
        while not all(end.up for end in (first, second, *ends)):
            for end in (first.socket, second.socket, socket, other):
                end.poll(0.01)
        for slave in ends:
            print(f"{slave.details().regions[0].size:,} bytes")
print(f"{counted.bytes:,} bytes came from our own allocator")
