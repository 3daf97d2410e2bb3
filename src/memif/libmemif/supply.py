"""Memory for packets from callbacks of C's kind: the allocator of `memif_init`, the external regions of 4.0.

A region of memif is shared with another process, so a pointer will not do: the callbacks bring a descriptor with it.
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
#: Buffers in regions that callbacks place can start anywhere a 32 bit offset reaches.
_REACH = 1 << 32


@dataclass(slots=True)
class ExternalRegion:
    """The four callbacks of `memif_register_external_region`."""

    add: Callable[[int, Any], tuple[int, Any, int]]
    get_addr: Callable[[int, int, Any], Any] | None
    remove: Callable[[Any, int, int, Any], int | None] | None
    get_offset: Callable[[Any], int] | None


def own_copy(fd: object) -> int:
    """Duplicate a callback's descriptor, so that its owner may close it whenever they want."""
    if not isinstance(fd, int) or isinstance(fd, bool):
        raise MemifValueError.argument("fd", fd, "a file descriptor")
    try:
        return keep_off_standard_fds(os.dup(fd))
    except OSError as error:
        raise from_os_error(error, f"descriptor {fd} of shared memory") from error


def check_size(fd: int, size: int) -> None:
    """Raise unless `fd` has `size` bytes: to touch memory behind its end would kill this process."""
    try:
        actual = os.fstat(fd).st_size
    except OSError as error:
        raise from_os_error(error, "shared memory") from error
    if actual < size:
        raise MemifMemoryError(f"memory of {actual} bytes came where {size} are needed")


def map_whole(fd: int, size: int) -> mmap.mmap:
    """Map `size` bytes."""
    return mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)


def ask(name: str, callback: Callable[..., Any], *args: Any) -> Any:
    """Call a user's callback; what it raises ends the attempt to connect, with an error that names it."""
    try:
        return callback(*args)
    except MemifError:
        raise
    except Exception as error:
        _log.error("%s: %s", name, traceback.format_exc())  # as text, so that no record keeps the memory
        raise MemifMemoryError(f"{name} raised {type(error).__name__}: {error}") from error


class CallbackAllocator:
    """`memif_alloc_t` and `memif_free_t` as an allocator of the core (`memif.memory.allocator.Allocator`).

    alloc(size) gives a descriptor, ``(descriptor, buffer)``, or an object with ``fileno()``; None is "out of memory".
    free gets back what alloc gave; without it a bare descriptor is closed, and an object left to its own devices.
    """

    def __init__(self, alloc: Callable[[int], Any], free: Callable[[Any], object] | None) -> None:
        """Takes the callbacks as they are."""
        self._alloc = alloc
        self._free = free
        self._given: dict[int, Any] = {}

    def allocate(self, size: int) -> int:
        """Ask the callback for `size` bytes; raises `MemifError` if it gives none or too few."""
        memory = ask("memif_alloc_t", self._alloc, size)
        if memory is None:
            raise MemifMemoryError(f"the allocator has no {size} bytes")
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
        """The callback's own mapping if it gave one, else a new one."""
        memory = self._given[fd]
        return memory[1] if isinstance(memory, tuple) else map_whole(fd, size)

    def free(self, fd: int, buffer: Any) -> None:
        """Give the memory back; called when its last view is gone."""
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
    """Region 0, the rings, is ours; region 1, the buffers, comes from the callbacks. One for each connection."""

    def __init__(self, region: ExternalRegion, private_ctx: Any) -> None:
        """private_ctx is that of the connection, as in C."""
        self._region = region
        self._ctx = private_ctx
        self._own = MemfdAllocator()
        self._rings = -1
        self._size = 0
        self._addr: Any = None
        self._fd = -1

    @property
    def place(self) -> Callable[[int], Sequence[int]] | None:
        """How buffers are placed: by the user's callback, if there is one."""
        return None if self._region.get_offset is None else self._place

    def _place(self, count: int) -> list[int]:
        assert self._region.get_offset is not None
        offsets = [ask("get_external_buffer_offset", self._region.get_offset, self._ctx) for _ in range(count)]
        for offset in offsets:
            if not isinstance(offset, int) or not 0 <= offset < _REACH:
                raise MemifValueError.argument("offset", offset, "0 to 2**32 - 1")
        return offsets

    def allocate(self, size: int) -> int:
        """First the rings', then the buffers' region."""
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
        """The callbacks' mapping, or ours where they gave none."""
        if fd == self._rings:
            return map_whole(fd, size)
        if self._addr is None and self._region.get_addr is not None:
            self._addr = ask("get_external_region_addr", self._region.get_addr, size, self._fd, self._ctx)
        return map_whole(fd, size) if self._addr is None else self._addr

    def free(self, fd: int, buffer: Any) -> None:
        """Give one region back."""
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
    """Master: how the regions of a slave are mapped, by the callback where C asks it: for all but region 0."""

    external: ExternalRegion
    private_ctx: Any
    #: The regions that the callback has mapped.
    brought: set[int] = field(default_factory=set)

    def bring(self, index: int, fd: int, size: int) -> Region | None:
        """For `memif.memory.mapped.adopt`."""
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
        # As in `memif.memory.mapped`: the view goes after the region.
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
        with contextlib.suppress(BufferError):  # somebody still looks; the last one unmaps it
            buffer.close()
