"""Shared memory by file descriptor: create memory that peers can trust, and check theirs before use.

Why the checks matter: touching a mapped page beyond the end of its file kills the process with SIGBUS, which no Python
code can catch. A peer can cause that in two ways: it announces more bytes than its file has, or it shrinks the file
after it was mapped. ``fstat`` finds the first. The seal ``F_SEAL_SHRINK``, which nobody can remove, rules out the
second. Hence the order in `check_peer_fd`: seal first, then look at the size, so that it cannot change in between.

What remains when memory is not sealed (VPP's slaves where the seal cannot be added, DPDK's zero-copy clients): a peer
that truncates its file while connected kills this process. Accept such memory only from peers that are trusted not to
do so, or set ``seal="require"``.

What no seal prevents: a peer can punch holes. In ordinary memory the kernel fills a hole with zeros at the next access.
In huge pages, and in files on a tmpfs mount that is full, there may be no page to fill it with, and the result is
SIGBUS again. So "require" also refuses all memory except that of an ordinary memfd. That holds for both roles: a master
can punch holes into its slave's memory as well. The kernel's only remedy, ``F_SEAL_FUTURE_WRITE``, cannot be used: a
slave's master could no longer map the memory, and a master would lock out the others to which a zero-copy slave offers
the same pool.

All functions can be called from any thread.
"""

import errno
import fcntl
import functools
import mmap
import os
import stat
from typing import Final

from memif.errors import ErrorCode, MemifMemoryError, MemifProtocolError, MemifValueError, from_os_error
from memif.system._steady import Descriptor, memfd, owned
from memif.types import SealPolicy

#: Largest region, in bytes, that is accepted by default. Mapping costs only address space, and DPDK announces all of
#: its memory, so this is far above the 4 GiB that descriptors reach.
DEFAULT_REGION_LIMIT: Final = 1 << 36
#: Size of ordinary huge pages on x86-64 and on AArch64 with 4 KiB pages.
HUGEPAGE_SIZE: Final = 2 << 20

_MFD_HUGE_SHIFT = 26
# Names longer than this make memfd_create fail with EINVAL.
_MAX_NAME_BYTES = 249
_WRITE_SEALS = fcntl.F_SEAL_WRITE | getattr(fcntl, "F_SEAL_FUTURE_WRITE", 0x10)
_NOT_MEMORY: Final = "region fd is not shared memory (memfd, tmpfs or hugetlbfs)"


def keep_off_standard_fds(fd: int) -> int:
    """Return `fd`, or a duplicate numbered 3 or above when it is 0, 1 or 2; `fd` is closed then.

    A process that was started with stdin closed gets descriptor 0 for the next file it opens. DPDK and libmemif send
    only descriptors above 0 and silently leave out 0. The duplicate is close-on-exec.

    Raises:
        OSError: when no number is free; `fd` is closed then too.
    """
    return owned(fd).owner.release()


def create_memfd(size: int, name: str = "memif", *, huge: bool = False, page_size: int = HUGEPAGE_SIZE) -> Descriptor:
    """Return the descriptor of new, zeroed memory without a path, sealed at its size.

    The memory cannot shrink (which protects peers) and cannot grow (it is charged to this process). No further seals
    can be set, so a peer cannot make the memory read-only for its owner.

    Args:
        size: Bytes. With `huge` a multiple of `page_size`.
        name: What ``/proc/<pid>/fd`` and ``/proc/<pid>/maps`` show.
        huge: Use huge pages. Whether there are enough is not known until they are reserved; see
            `memif.memory.allocator.HugepageAllocator`.
        page_size: Bytes of a huge page.

    Returns:
        The descriptor. It is close-on-exec, never 0, 1 or 2, and closed with the last reference to it.

    Raises:
        MemifValueError: when the size is not positive, or not a multiple of the huge page.
        MemifError: when a system call fails.
    """
    if not 0 < size < 1 << 63 or (huge and size % page_size):
        allowed = f"a positive multiple of {page_size}" if huge else "1 to 2**63 - 1"
        raise MemifValueError.argument("size", size, allowed)
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    if huge:
        flags |= os.MFD_HUGETLB | (page_size.bit_length() - 1) << _MFD_HUGE_SHIFT
    try:
        fd = memfd(_short_name(name), flags)
    except OSError as error:
        raise from_os_error(error, f"memfd_create of {size} bytes") from error
    try:
        os.ftruncate(fd, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    except OSError as error:
        fd.close()
        raise from_os_error(error, f"sizing shared memory to {size} bytes") from error
    return fd


def _short_name(name: str) -> bytes:
    return os.fsencode(name).replace(b"\0", b"?")[:_MAX_NAME_BYTES]


def check_peer_fd(fd: int, size: int, *, seal: SealPolicy = "add", limit: int = DEFAULT_REGION_LIMIT) -> bool:
    """Check the memory that a peer sent for a region. Call it before mapping.

    The descriptor must be writable shared memory (memfd, file on tmpfs, hugetlbfs) of at least `size` bytes. A missing
    ``F_SEAL_SHRINK`` is added where the peer allows it.

    Args:
        fd: The memory's descriptor. It stays open in any case; its owner closes it.
        size: Bytes that the peer announced.
        seal: What to do with memory that cannot be sealed. "add" accepts it. "require" refuses it, and also huge pages
            and files, whose pages the peer can take away by punching holes.
        limit: The most bytes of a region.

    Returns:
        True when the memory is sealed against shrinking. If False, the caller should warn, because the peer can end
        this process at any time (see this module's text).

    Raises:
        MemifProtocolError: when the memory is refused. Its `detail` has at most 95 bytes, to be sent in DISCONNECT.
        MemifValueError: when `seal` is unknown.
    """
    if seal not in ("add", "require"):
        raise MemifValueError.argument("seal", seal, "'add' or 'require'")
    if not 0 < size <= limit:
        raise MemifProtocolError(f"region size {size} not in 1..{limit}"[:95])
    sealed = _seal(fd)
    if seal == "require" and not sealed:
        raise MemifProtocolError("region memory is not sealed against shrinking")
    if seal == "require" and not keeps_pages(fd):
        raise MemifProtocolError("region memory is not an ordinary memfd (huge pages, file)")
    actual = os.fstat(fd).st_size
    if actual < size:
        raise MemifProtocolError(f"region size {size} announced, memory has {actual}"[:95])
    return sealed


def keeps_pages(fd: int) -> bool:
    """Whether pages that the peer takes away by punching a hole come back at the next access: only in plain memfds."""
    return os.fstat(fd).st_dev == _memfd_device()


def check_own_fd(fd: int) -> None:
    """Check a slave's own memory for ``seal="require"``: the master can write to it, so it can punch holes into it.

    Raises:
        MemifMemoryError: when the master could end this process by that.
    """
    try:
        sealed = bool(fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK) and keeps_pages(fd)
    except OSError:
        sealed = False
    if not sealed:
        raise MemifMemoryError(
            'seal="require": the memory of this allocator is not an ordinary memfd that is sealed against shrinking '
            "(but huge pages, a file, ...); the peer could take pages away, which ends this process by SIGBUS"
        )


@functools.cache
def _memfd_device() -> int:
    """Device number of the kernel's own file system for ordinary memfds. Huge pages and tmpfs mounts have others."""
    fd = os.memfd_create("memif-device", os.MFD_CLOEXEC)
    try:
        return os.fstat(fd).st_dev
    finally:
        os.close(fd)


def _seal(fd: int) -> bool:
    """Seal `fd` against shrinking if possible, and return whether it is. Raises unless it is writable memory."""
    seals = _seals_of(fd)
    if seals & fcntl.F_SEAL_SHRINK:
        return True
    if seals & fcntl.F_SEAL_SEAL:
        return False
    try:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    except OSError:
        # EPERM or EBUSY: the peer has set F_SEAL_SEAL just now. What counts is the present state.
        return bool(_seals_of(fd) & fcntl.F_SEAL_SHRINK)
    return True


def _seals_of(fd: int) -> int:
    try:
        # This comes first: it asks no file system, while `fstat` of a file on FUSE may never return.
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
        regular = stat.S_ISREG(os.fstat(fd).st_mode)
        access = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
    except OSError as error:
        # EINVAL: a file system without seals, a device, a pipe. EBADF: closed, or opened with O_PATH.
        code = ErrorCode.BAD_FD if error.errno == errno.EBADF else ErrorCode.MFMSG
        raise MemifProtocolError(_NOT_MEMORY, code=code) from error
    if not regular:
        raise MemifProtocolError(_NOT_MEMORY)
    if access != os.O_RDWR:
        raise MemifProtocolError("region fd is not open for reading and writing")
    if seals & _WRITE_SEALS:
        raise MemifProtocolError("region memory is sealed against writing")
    return seals


def page_size(fd: int) -> int:
    """Return the page size of shared memory in bytes: the system's, or that of huge pages.

    With transparent huge pages, ordinary memory may report a larger preferred block size. Its size then tells the two
    apart in most cases, and where it does not, the larger answer does no harm.
    """
    info = os.fstat(fd)
    block = info.st_blksize
    huge = block > mmap.PAGESIZE and block & (block - 1) == 0 and info.st_size % block == 0
    return block if huge else mmap.PAGESIZE


def mapping_size(fd: int, size: int) -> int:
    """Return how many bytes to map, and later unmap, for a region of `size` bytes of `fd`.

    That is `size` rounded up to `page_size`: huge pages can only be unmapped whole, and ``munmap`` fails for any other
    length. Once `check_peer_fd` has passed, this exceeds the file's size by less than a page.
    """
    unit = page_size(fd)
    return -(-size // unit) * unit
