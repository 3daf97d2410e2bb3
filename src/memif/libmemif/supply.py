"""Memory for packets from the user's callbacks: the allocator of `memif_init`, the external regions of 4.0.

A region is shared with another process, so the callbacks provide a descriptor, not only a pointer.
"""

import contextlib
import logging
import mmap
import os
import traceback
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from memif.errors import MemifError, MemifMemoryError, MemifOSError, MemifValueError, from_os_error
from memif.memory.allocator import MemfdAllocator
from memif.memory.region import keep_off_standard_fds
from memif.ring import Region

_log = logging.getLogger("memif.libmemif")
#: Buffers that a callback places can start at any 32-bit offset.
_REACH = 1 << 32


@dataclass(slots=True)
class ExternalRegion:
    """The four callbacks of `memif_register_external_region`.

    Attributes:
        add: Provides a slave's region for buffers.
        get_addr: Maps a region.
        remove: C's ``del``: the region is no longer used.
        get_offset: Places a buffer.
    """

    add: Callable[[int, Any], tuple[int, Any, int]]
    get_addr: Callable[[int, int, Any], Any] | None
    remove: Callable[[Any, int, int, Any], int | None] | None
    get_offset: Callable[[Any], int] | None


def own_copy(fd: object) -> int:
    """Duplicate a callback's descriptor, so that its owner can close it at any time."""
    if not isinstance(fd, int) or isinstance(fd, bool):
        raise MemifValueError.argument("fd", fd, "a file descriptor")
    try:
        return keep_off_standard_fds(os.dup(fd))
    except OSError as error:
        raise from_os_error(error, f"descriptor {fd} of shared memory") from error


def check_size(fd: int, size: int) -> None:
    """Raise unless `fd` has `size` bytes: access beyond its end would kill this process (SIGBUS)."""
    try:
        actual = os.fstat(fd).st_size
    except OSError as error:
        raise from_os_error(error, "shared memory") from error
    if actual < size:
        raise MemifMemoryError(f"the shared memory has {actual} bytes, but {size} are needed")


def map_whole(fd: int, size: int) -> mmap.mmap:
    """Map `size` bytes of `fd`, shared and writable."""
    return mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)


def ask(name: str, callback: Callable[..., Any], *args: Any) -> Any:
    """Call a user's callback. Its exception becomes an error that names it and ends the attempt to connect."""
    try:
        return callback(*args)
    except MemifError:
        raise
    except Exception as error:
        _log.error("%s: %s", name, traceback.format_exc())  # as text, so that no record keeps the memory
        raise MemifMemoryError(f"{name} raised {type(error).__name__}: {error}") from error


class CallbackAllocator:
    """`memif_alloc_t` and `memif_free_t` as a `memif.memory.allocator.Allocator`.

    Args:
        alloc: ``alloc(size)`` returns a descriptor, ``(descriptor, buffer)`` or an object with ``fileno()``; None means
            that there is no memory.
        free: ``free(memory)`` gets back what alloc returned. Without it a plain descriptor is closed, and an object is
            only released.
    """

    def __init__(self, alloc: Callable[[int], Any], free: Callable[[Any], object] | None) -> None:
        self._alloc = alloc
        self._free = free
        self._given: dict[int, Any] = {}

    def allocate(self, size: int) -> int:
        """Get `size` bytes from the callback and return a descriptor; raise `MemifError` if it fails."""
        memory = ask("memif_alloc_t", self._alloc, size)
        if memory is None:
            raise MemifMemoryError(f"the allocator has no memory for {size} bytes")
        try:
            fd = own_copy(_descriptor(memory))
            try:
                check_size(fd, size)
            except MemifError:
                os.close(fd)
                raise
        except MemifError:
            self._give_back(memory)
            raise
        self._given[fd] = memory
        return fd

    def map(self, fd: int, size: int) -> Any:
        """Return the callback's mapping if it gave one, else a new one."""
        memory = self._given[fd]
        return memory[1] if isinstance(memory, tuple) else map_whole(fd, size)

    def free(self, fd: int, buffer: Any) -> None:
        """Give the memory back. Called when its last view is gone."""
        memory = self._given.pop(fd)
        os.close(fd)
        if isinstance(buffer, mmap.mmap) and not isinstance(memory, tuple):
            _unmap(buffer)
        self._give_back(memory)

    def _give_back(self, memory: Any) -> None:
        if self._free is not None:
            self._free(memory)
        elif isinstance(memory, int):
            os.close(memory)


class ExternalAllocator:
    """The allocator of one connection: the rings in region 0, the callbacks' memory for buffers in region 1.

    Args:
        region: The callbacks.
        private_ctx: The argument of `memif_create`, passed to the callbacks.
    """

    def __init__(self, region: ExternalRegion, private_ctx: Any) -> None:
        self._region = region
        self._ctx = private_ctx
        self._own = MemfdAllocator()
        self._rings = -1
        self._size = 0
        self._addr: Any = None
        self._fd = -1

    @property
    def place(self) -> Callable[[int], Sequence[int]] | None:
        """The function that places buffers, if the user has one."""
        return None if self._region.get_offset is None else self._place

    def _place(self, count: int) -> list[int]:
        assert self._region.get_offset is not None
        offsets = [ask("get_external_buffer_offset", self._region.get_offset, self._ctx) for _ in range(count)]
        for offset in offsets:
            if not isinstance(offset, int) or not 0 <= offset < _REACH:
                raise MemifValueError.argument("offset", offset, "0 to 2**32 - 1")
        return offsets

    def allocate(self, size: int) -> int:
        """Return a descriptor for the rings' region first, then for the buffers' region."""
        if self._rings < 0:
            self._rings = self._own.allocate(size)
            return self._rings
        result = ask("add_external_region", self._region.add, size, self._ctx)
        if not isinstance(result, tuple) or len(result) != 3:
            raise MemifValueError.argument("add_external_region", result, "(err, addr, fd)")
        err, self._addr, self._fd = result
        if err:
            raise MemifOSError(f"add_external_region returned {err}")
        self._size = size
        try:
            fd = own_copy(self._fd)
            check_size(fd, size)
        except MemifError:
            self._remove(self._addr)
            raise
        return fd

    def map(self, fd: int, size: int) -> Any:
        """Return the callbacks' mapping, or a new one if they gave none."""
        if fd == self._rings:
            return map_whole(fd, size)
        if self._addr is None and self._region.get_addr is not None:
            self._addr = ask("get_external_region_addr", self._region.get_addr, size, self._fd, self._ctx)
        return map_whole(fd, size) if self._addr is None else self._addr

    def free(self, fd: int, buffer: Any) -> None:
        """Give a region back."""
        if fd == self._rings:
            self._own.free(fd)
            self._rings = -1
            _unmap(buffer)
            return
        os.close(fd)
        if buffer is not self._addr:
            _unmap(buffer)
        self._remove(self._addr)
        self._addr = None

    def _remove(self, addr: Any) -> None:
        if self._region.remove is not None:
            self._region.remove(addr, self._size, self._fd, self._ctx)


@dataclass(slots=True)
class PeersRegions:
    """Maps the regions of a slave for a master, by the callback except for region 0, as in C.

    Attributes:
        external: The callbacks.
        private_ctx: The argument of `memif_create`, passed to the callbacks.
        brought: The numbers of the regions that the callback has mapped.
    """

    external: ExternalRegion
    private_ctx: Any
    brought: set[int] = field(default_factory=set)

    def bring(self, index: int, fd: int, size: int) -> Region | None:
        """Map a region for `memif.memory.mapped.adopt`; None if the callback does not."""
        get_addr = self.external.get_addr
        if index == 0 or get_addr is None:
            return None
        own = own_copy(fd)
        try:
            addr = ask("get_external_region_addr", get_addr, size, own, self.private_ctx)
            if addr is None:
                os.close(own)
                return None
            view = _as_bytes(addr, size)
            region = Region.wrap(view)
        except BaseException:
            os.close(own)
            raise
        # As in `memif.memory.mapped`, the view outlives the region.
        weakref.finalize(view, _peers_region_gone, self.external, addr, size, own, self.private_ctx)
        self.brought.add(index)
        return region


def _as_bytes(addr: Any, size: int) -> memoryview:
    try:
        view = memoryview(addr).cast("B")
    except (TypeError, BufferError) as error:
        raise MemifValueError.argument("addr", addr, "a writable buffer, or None to have it mapped") from error
    if view.readonly or view.nbytes < size:
        raise MemifValueError.argument("addr", addr, f"a writable buffer of at least {size} bytes")
    return view


def _peers_region_gone(external: ExternalRegion, addr: Any, size: int, fd: int, private_ctx: Any) -> None:
    try:
        if external.remove is not None:
            external.remove(addr, size, fd, private_ctx)
    finally:
        os.close(fd)


def _descriptor(memory: Any) -> int:
    if isinstance(memory, tuple):
        return int(memory[0])
    fileno = getattr(memory, "fileno", None)
    return int(fileno()) if callable(fileno) else memory


def _unmap(buffer: Any) -> None:
    if isinstance(buffer, mmap.mmap):
        with contextlib.suppress(BufferError):  # a view is left; its end unmaps it
            buffer.close()
