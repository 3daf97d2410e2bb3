"""Shared memory by file descriptor: make some that peers can trust, and check theirs before trusting it.

Why the checks matter: touching a mapped page that lies beyond the end of its file kills the process with
SIGBUS, which no Python code can catch. A peer provokes that in two ways, by announcing more bytes than its
file has, or by shrinking the file after it was mapped. The first is found by `fstat`. The second is excluded
for good by the seal ``F_SEAL_SHRINK``, which nobody can take off again. Hence the order in `check_peer_fd`:
seal first, then look at the size, so that the size can not change in between.

What is left when memory stays unsealed (VPP's slaves where the seal can not be added, DPDK's zero-copy
clients): a peer that truncates its file while connected kills this process. Accept such memory only from
peers that are trusted not to do so, or set ``seal="require"``.

What no seal covers: a peer can punch holes. In ordinary memory the kernel fills a hole with zeros at the next
access. In hugepages, and in files on a tmpfs mount that is full, there may be no page to fill it with, and
that is SIGBUS again. So "require" also refuses all memory but that of an ordinary memfd. That goes for both roles: a
master can punch holes into its slave's memory just as well. The kernel's only remedy, ``F_SEAL_FUTURE_WRITE``, is
not for us to set: a slave's master could not map the memory any more, and a master would lock out the others to
which a zero-copy slave offers the same pool.

All functions may be called from any thread.
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

#: Largest region, in bytes, that is accepted by default: mapping costs only address space, and DPDK announces
#: all of its memory, so this is far above the 4 GiB that descriptors reach.
DEFAULT_REGION_LIMIT: Final = 1 << 36
#: Size of ordinary huge pages on x86-64 and on AArch64 with 4 KiB pages.
HUGEPAGE_SIZE: Final = 2 << 20

_MFD_HUGE_SHIFT = 26
# Names longer than this make memfd_create fail with EINVAL.
_MAX_NAME_BYTES = 249
_WRITE_SEALS = fcntl.F_SEAL_WRITE | getattr(fcntl, "F_SEAL_FUTURE_WRITE", 0x10)
_NOT_MEMORY: Final = "region fd is not shared memory (memfd, tmpfs or hugetlbfs)"


def keep_off_standard_fds(fd: int) -> int:
    """Return `fd`, or a duplicate of it numbered 3 or above when it is 0, 1 or 2 (`fd` is closed then).

    A process started with stdin closed gets descriptor 0 for the next thing it opens. DPDK and libmemif send
    only descriptors above 0 and silently leave out 0. The duplicate is close-on-exec. Raises `OSError` when no
    number is free; `fd` is closed then, too.
    """
    return owned(fd).owner.release()


def create_memfd(size: int, name: str = "memif", *, huge: bool = False, page_size: int = HUGEPAGE_SIZE) -> int:
    """Return the descriptor of `size` bytes of new, zeroed memory without a path, sealed at this size.

    Seals: the memory can neither shrink (peers' protection) nor grow (it is charged to this process), and no
    further seals can be set, so that a peer can not make the memory read-only under its owner. `name` is
    shown in ``/proc/<pid>/fd`` and maps. With `huge`, the memory consists of huge pages of `page_size` bytes
    and `size` has to be a multiple of that; whether so many pages exist is not known before they are
    reserved, see `memif.memory.allocator.HugepageAllocator`.

    The descriptor is close-on-exec and never 0, 1 or 2; closing it is up to the caller. Raises
    `MemifValueError` for a size that is not positive or not a multiple of the huge page, and the `MemifError`
    of the failing system call.
    """
    return owned_memfd(size, name, huge=huge, page_size=page_size).owner.release()


def owned_memfd(size: int, name: str = "memif", *, huge: bool = False, page_size: int = HUGEPAGE_SIZE) -> Descriptor:
    """As `create_memfd`; the descriptor is closed with the last reference to it."""
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
    """Check the memory that a peer sent for a region of `size` bytes; say whether it is sealed for good.

    Call it before mapping. The descriptor has to be writable shared memory (memfd, file on tmpfs, hugetlbfs),
    at least `size` bytes long, and `size` at most `limit`. A missing ``F_SEAL_SHRINK`` is added where the
    peer allows it. Where it does not, "add" accepts the memory and returns False: the caller should warn,
    because the peer can then end this process at any time (see this module's text). "require" refuses it.

    "require" also refuses huge pages and files, whose pages the peer can take away for good by punching holes.

    Raises `MemifProtocolError`, with a `detail` of at most 95 bytes to send in DISCONNECT. `fd` stays open in
    any case, its owner closes it. `MemifValueError` for an unknown `seal`.
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
    """Whether pages that the peer takes away, by punching a hole, can be had again: so only with ordinary memfds."""
    return os.fstat(fd).st_dev == _memfd_device()


def check_own_fd(fd: int) -> None:
    """For a slave with ``seal="require"``: its memory, which the master may write to, and so may shrink or punch holes
    into. Raises `MemifMemoryError` when that could end this process."""
    try:
        sealed = bool(fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK) and keeps_pages(fd)
    except OSError:
        sealed = False
    if not sealed:
        raise MemifMemoryError(
            'seal="require": the memory of this allocator is not an ordinary memfd, sealed against shrinking (but huge '
            "pages, a file, ...); the peer could take pages away, which ends this process by SIGBUS"
        )


@functools.cache
def _memfd_device() -> int:
    """Number of the kernel's own file system for ordinary memfds; huge pages and tmpfs mounts have others."""
    fd = os.memfd_create("memif-device", os.MFD_CLOEXEC)
    try:
        return os.fstat(fd).st_dev
    finally:
        os.close(fd)


def _seal(fd: int) -> bool:
    """Make `fd` unshrinkable if possible; say whether it is. Raises if it is no writable shared memory."""
    seals = _seals_of(fd)
    if seals & fcntl.F_SEAL_SHRINK:
        return True
    if seals & fcntl.F_SEAL_SEAL:
        return False
    try:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    except OSError:
        # EPERM or EBUSY: a peer that set F_SEAL_SEAL just now. What counts is the state after all.
        return bool(_seals_of(fd) & fcntl.F_SEAL_SHRINK)
    return True


def _seals_of(fd: int) -> int:
    try:
        # First: it asks no file system, while `fstat` of a file on FUSE may never come back.
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

    Ordinary memory may report a larger preferred block size when transparent huge pages are on; its size then
    tells the two apart in most cases, and where it does not, the larger answer does no harm.
    """
    info = os.fstat(fd)
    block = info.st_blksize
    huge = block > mmap.PAGESIZE and block & (block - 1) == 0 and info.st_size % block == 0
    return block if huge else mmap.PAGESIZE


def mapping_size(fd: int, size: int) -> int:
    """Return how many bytes to map, and later unmap, for a region of `size` bytes of `fd`.

    That is `size` rounded up to `page_size`: huge pages can only be unmapped whole, and ``munmap`` fails for
    any other length. Never more than the file has, once `check_peer_fd` has passed, except within its last
    page.
    """
    unit = page_size(fd)
    return -(-size // unit) * unit
