"""Where a slave's shared memory comes from. Replace the default to supply your own memory.

A slave needs a few regions of memory behind descriptors that it can send to its master. `MemfdAllocator` makes them of
ordinary pages and suits nearly everyone. `HugepageAllocator` uses huge pages, for less TLB pressure with large rings.
Any object with the methods of `Allocator` can be used, for instance one that supplies the descriptor of a dma-buf, or
of a file on tmpfs that other processes use as well.
"""

import errno
import logging
import mmap
import os
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from memif.errors import MemifMemoryError, MemifOSError, MemifTypeError, MemifValueError
from memif.logs import get_logger
from memif.memory.layout import align_up
from memif.memory.region import HUGEPAGE_SIZE, create_memfd
from memif.system._steady import Descriptor, discard

_log = get_logger("memif.memory")


@runtime_checkable
class Allocator(Protocol):
    """What an object needs to supply the memory of a slave.

    The two methods below are enough; the memory is then mapped with ``mmap``. More attributes are optional:

    - ``map(fd: int, size: int)`` returns a writable, contiguous buffer of at least `size` bytes over the same
      memory, for memory that is mapped already or needs special flags. It must stay valid until `free`. A
      forked child can still reach it through views that it kept, unlike memory mapped by this package.
    - ``place(count: int)`` returns the offsets of the next `count` buffers in the region that holds the buffers
      (the last one). By default buffers follow each other. It is called once for each ring, slave-to-master rings
      first. Every buffer must lie inside the region. Whether buffers overlap is not checked.
    - ``page_size: int`` is the unit of the memory in bytes, a power of two (default: the system's page size).
      Sizes that `allocate` gets are multiples of it.

    Methods are called by the thread that connects or disconnects, never by two threads at once for one interface.
    """

    def allocate(self, size: int) -> int:
        """Return a descriptor of at least `size` bytes of shared memory, readable, writable and **all zero**.

        The descriptor must not be 0, which peers cannot receive, and must support ``mmap``. It should have the seal
        ``F_SEAL_SHRINK``, which some masters require. Any exception ends the connection attempt and reaches the caller.
        """
        ...

    def free(self, fd: int, buffer: object) -> None:
        """Take back the memory that `allocate` returned, and close its descriptor.

        Called once for each descriptor, after the last view of the memory is gone. That can be long after the
        disconnect. It is never called for a buffer that is still in use when the interpreter ends.

        Args:
            fd: The descriptor.
            buffer: The result of ``map``, or None when there is no such method.
        """
        ...


def allocate(allocator: Allocator, size: int) -> int:
    """Ask `allocator` for memory. Descriptors of our own allocators are closed with their last reference."""
    if type(allocator) in (MemfdAllocator, HugepageAllocator):
        return allocator._owned(size)  # type: ignore[attr-defined, no-any-return]
    return allocator.allocate(size)


def allocator_page_size(allocator: Allocator) -> int:
    """Return the page size in bytes that `allocator` declares, or the system's, for `plan_layout`."""
    size = getattr(allocator, "page_size", None)
    return mmap.PAGESIZE if size is None else int(size)


def allocator_map(allocator: Allocator) -> Callable[[int, int], object] | None:
    """Return the optional ``map`` method of `allocator`, or None: then its memory is mapped with ``mmap``."""
    return getattr(allocator, "map", None)


def allocator_place(allocator: Allocator | None) -> Callable[[int], Sequence[int]] | None:
    """Return the optional ``place`` method of `allocator`, or None: then buffers follow each other."""
    return getattr(allocator, "place", None)


#: Bytes: no processor has larger pages.
_LARGEST_PAGE = 1 << 34


def _checked_name(name: object) -> str:
    if not isinstance(name, str):
        raise MemifTypeError.argument("name", name, "text, as str")
    return name


class MemfdAllocator:
    """Ordinary memory without a path, zeroed and sealed: the default. One object can serve many interfaces.

    Args:
        name: What ``/proc/<pid>/maps`` shows.
    """

    def __init__(self, name: str = "memif") -> None:
        self.name: str = _checked_name(name)

    @property
    def page_size(self) -> int:
        """Unit of the memory in bytes."""
        return mmap.PAGESIZE

    def allocate(self, size: int) -> int:
        """Return a new descriptor of `size` zeroed bytes.

        Raises:
            MemifError: when the kernel refuses.
        """
        return self._owned(size).owner.release()

    def _owned(self, size: int) -> Descriptor:
        return create_memfd(align_up(size, self.page_size), self.name)

    def free(self, fd: int, buffer: object = None) -> None:
        """Close `fd`."""
        discard(fd)


class HugepageAllocator:
    """Memory of huge pages, zeroed and sealed.

    Pages are taken when `allocate` is called, so a lack of pages is noticed at once, and not by SIGBUS at the first
    access to a missing page.

    **For trusted peers only.** A peer that punches holes into the memory gives its pages back to the system. If no page
    is free when one is touched again, this process dies of SIGBUS after all. No seal that lets the peer write prevents
    it. A slave with ``seal="require"`` does not come up with this memory.

    Root has to reserve huge pages, with ``sysctl vm.nr_hugepages=<pages>``, or with ``hugepages=`` on the kernel's
    command line, which is best for pages of 1 GiB.

    Args:
        page_size: Bytes of a huge page, a power of two above the system's page size.
        fallback: What a lack of huge pages leads to. True: one warning in the log ("memif.memory") and ordinary pages.
            False: `MemifMemoryError`.
        name: What ``/proc/<pid>/maps`` shows.

    Raises:
        MemifValueError: when `page_size` is invalid.
    """

    def __init__(self, page_size: int = HUGEPAGE_SIZE, *, fallback: bool = True, name: str = "memif") -> None:
        fits = isinstance(page_size, int) and mmap.PAGESIZE < page_size <= _LARGEST_PAGE
        if not fits or page_size & (page_size - 1):
            allowed = f"a power of two above {mmap.PAGESIZE}, at most {_LARGEST_PAGE}"
            raise MemifValueError.argument("page_size", page_size, allowed)
        self.page_size = page_size
        self.fallback = fallback
        self.name: str = _checked_name(name)
        self._warned = False

    def allocate(self, size: int) -> int:
        """Return a new descriptor of `size` zeroed bytes, rounded up to whole huge pages.

        Raises:
            MemifMemoryError: when there are not enough huge pages and `fallback` is off. Its text says how many pages
                are needed and how to get them.
        """
        return self._owned(size).owner.release()

    def _owned(self, size: int) -> Descriptor:
        size = align_up(size, self.page_size)
        try:
            return self._allocate_huge(size)
        except (MemifMemoryError, MemifOSError) as error:
            if getattr(error, "errno", None) in (errno.EMFILE, errno.ENFILE, errno.EFBIG):
                raise
            if not self.fallback:
                raise MemifMemoryError(self._advice(size)) from error
            self._warn(size)
        return create_memfd(size, self.name)

    def free(self, fd: int, buffer: object = None) -> None:
        """Close `fd`. Its huge pages go back to the system once the peer has unmapped them too."""
        discard(fd)

    def _allocate_huge(self, size: int) -> Descriptor:
        fd = create_memfd(size, self.name, huge=True, page_size=self.page_size)
        try:
            _take_pages(fd, size)
        except OSError as error:
            discard(fd)
            raise MemifMemoryError(error.strerror or "no huge pages") from error
        return fd

    def _advice(self, size: int) -> str:
        pages, kib = size // self.page_size, self.page_size >> 10
        where = f"/sys/kernel/mm/hugepages/hugepages-{kib}kB"
        free = _read_number(f"{where}/free_hugepages")
        advice = (
            f"sysctl vm.nr_hugepages={pages} (or more)"
            if self.page_size == HUGEPAGE_SIZE
            else f"echo {pages} > {where}/nr_hugepages"
        )
        return f"{pages} huge pages of {kib} KiB are needed, {free} are free; as root: {advice}"

    def _warn(self, size: int) -> None:
        level = logging.DEBUG if self._warned else logging.WARNING
        self._warned = True
        _log.log(level, "Using ordinary memory instead of huge pages: %s", self._advice(size))


def _take_pages(fd: int, size: int) -> None:
    """Give every huge page of `fd` its memory. Raises `OSError` when there are not enough."""
    # Mapping reserves pages, and fails if there are too few. A limit of the process's control group is enforced only
    # when a page is really taken. Allocating finds both.
    with mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE):
        try:
            os.posix_fallocate(fd, 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise


def _read_number(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        # No such directory: the kernel does not know this page size.
        return "none"
