"""A hostile slave's offers: descriptors, regions, rings."""

import contextlib
import errno
import fcntl
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace

from memif.protocol.wire import AddRegion, AddRing, Init, Message
from memif.testing.cases import Case, Outcome
from memif.testing.cases.talk import Change, Script, altered
from memif.testing.hostile import HostilePeer, Step

#: A slave's usual memory here: rings of 16 slots at 0 and 384, buffers from 768 on.
_RING = 384


def _region(size: int | None = None, index: int = 0, fds: Callable[[HostilePeer], list[int]] | None = None) -> Change:
    def change(peer: HostilePeer, script: Script) -> None:
        step = script["region"]
        step.message = AddRegion(index, len(peer.memory[0]) if size is None else size)
        if fds is not None:
            step.fds = fds(peer)

    return change


def _ring(which: str = "s2m", fds: Callable[[HostilePeer], list[int]] | None = None, **changes: int) -> Change:
    def change(peer: HostilePeer, script: Script) -> None:
        step = script[which]
        assert isinstance(step.message, AddRing)
        step.message = replace(step.message, **changes)  # type: ignore[arg-type]
        if fds is not None:
            step.fds = fds(peer)

    return change


def _memfd(peer: HostilePeer, size: int, flags: int = os.MFD_ALLOW_SEALING, seals: int = 0) -> int:
    fd = peer.keep(os.memfd_create("odd", flags | os.MFD_CLOEXEC))
    os.ftruncate(fd, size)
    if seals:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


def _socket_fd(peer: HostilePeer) -> list[int]:
    return [peer.keep(socket.socket(socket.AF_UNIX).detach())]


def _pipe_fd(peer: HostilePeer) -> list[int]:
    ends = os.pipe()
    return [peer.keep(end) for end in ends][1:]


def _opened(path: str, flags: int) -> Callable[[HostilePeer], list[int]]:
    return lambda peer: [peer.keep(os.open(path, flags | os.O_CLOEXEC))]


def _read_only(peer: HostilePeer) -> list[int]:
    fd = _memfd(peer, len(peer.memory[0]))
    return [peer.keep(os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC))]


def _disk_file(peer: HostilePeer) -> list[int]:
    fd = peer.keep(os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC))
    os.ftruncate(fd, len(peer.memory[0]))
    return [fd]


def _tmpfs_file(peer: HostilePeer) -> list[int]:
    fd = peer.keep(os.open("/dev/shm", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC))
    os.ftruncate(fd, len(peer.memory[0]))
    return [fd]


def _none(peer: HostilePeer) -> list[int]:
    return []


def _two(peer: HostilePeer) -> list[int]:
    return [peer.memory_fds[0], peer.memory_fds[0]]


def _full(peer: HostilePeer) -> int:
    return len(peer.memory[0])


_NO_MEMORY = "region fd is not shared memory"

_REGIONS: tuple[tuple[str, str, str, Change], ...] = (
    ("region-no-fd", "sends ADD_REGION without a descriptor", "missing memory region fd", _region(fds=_none)),
    ("region-two-fds", "sends two descriptors for a region", "more than one file descriptor", _region(fds=_two)),
    ("region-socket", "offers a socket as memory", _NO_MEMORY, _region(fds=_socket_fd)),
    ("region-pipe", "offers a pipe as memory", _NO_MEMORY, _region(fds=_pipe_fd)),
    ("region-directory", "offers a directory as memory", _NO_MEMORY, _region(fds=_opened("/", os.O_RDONLY))),
    ("region-path-only", "offers a descriptor opened with O_PATH", _NO_MEMORY, _region(fds=_opened("/", os.O_PATH))),
    ("region-device", "offers /dev/zero as memory", _NO_MEMORY, _region(fds=_opened("/dev/zero", os.O_RDWR))),
    ("region-eventfd", "offers an eventfd as memory", _NO_MEMORY, _region(fds=lambda peer: [peer.event_fds["s2m", 0]])),
    (
        "region-read-only",
        "offers memory that is open for reading only",
        "not open for reading and writing",
        _region(fds=_read_only),
    ),
    (
        "region-write-sealed",
        "offers memory that is sealed against writing",
        "sealed against writing",
        _region(fds=lambda peer: [_memfd(peer, _full(peer), seals=fcntl.F_SEAL_WRITE)]),
    ),
    (
        "region-future-write-sealed",
        "offers memory that is sealed against future writing",
        "sealed against writing",
        _region(fds=lambda peer: [_memfd(peer, _full(peer), seals=0x10)]),
    ),
    (
        "region-smaller-than-said",
        "announces a page more than the memory has",
        r"region size \d+ announced, memory has \d+",
        lambda peer, script: _region(_full(peer) + 4096)(peer, script),
    ),
    (
        "region-one-byte-more",
        "announces a byte more than the memory has",
        r"region size \d+ announced, memory has \d+",
        lambda peer, script: _region(_full(peer) + 1)(peer, script),
    ),
    (
        "region-empty-memfd",
        "offers a memfd of no bytes",
        r"region size \d+ announced, memory has 0",
        _region(fds=lambda peer: [_memfd(peer, 0)]),
    ),
    ("region-size-0", "announces a region of no bytes", "memory region size out of range", _region(0)),
    ("region-size-2-63", "announces a region of 2**63 bytes", "memory region size out of range", _region(1 << 63)),
    (
        "region-size-2-64",
        "announces a region of 2**64 - 1 bytes",
        "memory region size out of range",
        _region((1 << 64) - 1),
    ),
    ("region-index-gap", "starts with region 1", "unexpected region index", _region(index=1)),
    ("region-index-65535", "starts with region 65535", "unexpected region index", _region(index=0xFFFF)),
)

_RINGS: tuple[tuple[str, str, str, Change], ...] = (
    ("ring-no-fd", "sends ADD_RING without a descriptor", "missing ring interrupt fd", _ring(fds=_none)),
    ("ring-two-fds", "sends two descriptors for a ring", "more than one file descriptor", _ring(fds=_two)),
    ("ring-socket", "offers a socket for interrupts", "ring interrupt fd is not an eventfd", _ring(fds=_socket_fd)),
    ("ring-pipe", "offers a pipe for interrupts", "ring interrupt fd is not an eventfd", _ring(fds=_pipe_fd)),
    (
        "ring-memfd",
        "offers memory for interrupts",
        "ring interrupt fd is not an eventfd",
        _ring(fds=lambda peer: [peer.memory_fds[0]]),
    ),
    (
        "ring-directory",
        "offers a directory for interrupts",
        "ring interrupt fd is not an eventfd",
        _ring(fds=_opened("/", os.O_RDONLY)),
    ),
    ("ring-region-1", "puts a ring into a region that it did not offer", "unknown region", _ring(region=1)),
    ("ring-region-65535", "puts a ring into region 65535", "unknown region", _ring(region=0xFFFF)),
    (
        "ring-past-the-end",
        "lets a ring end 16 bytes past its region",
        "exceeds its region",
        lambda peer, script: _ring(offset=_full(peer) - _RING + 16)(peer, script),
    ),
    (
        "ring-at-the-end",
        "starts a ring at the end of its region",
        "exceeds its region",
        lambda peer, script: _ring(offset=_full(peer))(peer, script),
    ),
    ("ring-offset-2-32", "puts a ring at offset 2**32 - 16", "exceeds its region", _ring(offset=0xFFFFFFF0)),
    ("ring-misaligned-1", "puts a ring at offset 1", "is not aligned", _ring(offset=1)),
    ("ring-misaligned-8", "puts a ring at offset 8", "is not aligned", _ring(offset=8)),
    (
        "ring-overlap",
        "lets the second ring begin inside the first",
        "overlaps its neighbour",
        _ring("m2s", offset=_RING - 16),
    ),
    ("ring-same-place", "puts both rings at one place", "overlaps its neighbour", _ring("m2s", offset=0)),
    ("ring-index-gap", "starts with ring 1", "unexpected ring index", _ring(index=1)),
    ("ring-index-65535", "starts with ring 65535", "unexpected ring index", _ring(index=0xFFFF)),
    ("ring-private-header", "asks for private headers", "private headers not supported", _ring(private_hdr_size=8)),
    (
        "ring-cookie",
        "writes no cookie",
        "wrong cookie on tx ring 0",
        lambda peer, script: setattr(peer.rings["s2m", 0], "cookie", 0),
    ),
    (
        "ring-cookie-m2s",
        "writes a wrong cookie",
        "wrong cookie on rx ring 0",
        lambda peer, script: setattr(peer.rings["m2s", 0], "cookie", 0x3E31F21),
    ),
)


def _many(name: str, message: Callable[[int], Message], fd: Callable[[HostilePeer], int], count: int = 300) -> Change:
    """Offer the same thing with rising numbers, in place of one step."""

    def change(peer: HostilePeer, script: Script) -> None:
        before = {key: script.pop(key) for key in list(script)}
        for key, step in before.items():
            if key == name:
                script.update({f"{key}{i}": Step(message(i), [fd(peer)]) for i in range(count)})
            else:
                script[key] = step

    return change


def _with_init_fds(count: int) -> Change:
    def change(peer: HostilePeer, script: Script) -> None:
        script["init"] = Step(Init(peer.id), [peer.memory_fds[0]] * count)

    return change


def _unsealable(peer: HostilePeer, script: Script) -> None:
    """Offer memory that cannot be sealed, so that it may shrink."""
    script["region"].fds = [_memfd(peer, _full(peer), flags=0)]
    peer.memory_fds.insert(0, script["region"].fds[0])
    _copy_rings(peer)


def _huge(peer: HostilePeer) -> list[int]:
    """Sealed, but of huge pages, of which there may be none when one is needed."""
    fd = peer.keep(os.memfd_create("huge", os.MFD_ALLOW_SEALING | os.MFD_HUGETLB | os.MFD_CLOEXEC))
    os.ftruncate(fd, 2 << 20)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    return [fd]


def _copy_rings(peer: HostilePeer) -> None:
    os.pwrite(peer.memory_fds[0], peer.memory[0][:], 0)


def _tmpfs(peer: HostilePeer, script: Script) -> None:
    script["region"].fds = _tmpfs_file(peer)
    os.pwrite(script["region"].fds[0], peer.memory[0][:], 0)


def _shrink(peer: HostilePeer) -> None:
    """Cut the memory off below the rings; a sealed one refuses."""
    try:
        os.ftruncate(peer.memory_fds[0], 0)
    except OSError as error:
        if error.errno != errno.EPERM:
            raise


def _punch(peer: HostilePeer) -> None:
    """Give all pages back to the kernel: the next access finds zeros."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate(peer.memory_fds[0], 3, ctypes.c_long(0), ctypes.c_long(_full(peer)))


def _only(direction: str) -> Change:
    def change(peer: HostilePeer, script: Script) -> None:
        del script["m2s" if direction == "s2m" else "s2m"]

    return change


def _same_eventfd(peer: HostilePeer, script: Script) -> None:
    script["m2s"].fds = script["s2m"].fds


def _small_lie(peer: HostilePeer, script: Script) -> None:
    """Announce only the part with the rings. The buffers that descriptors name come after it."""
    script["region"].message = AddRegion(0, 2 * _RING)


def memory_cases() -> Iterator[Case]:
    """What a hostile slave offers."""
    for name, about, reason, change in (*_REGIONS, *_RINGS):
        yield Case(name, "slave", False, about, altered(change), Outcome.REFUSED, reason)
    for log2 in (15, 16, 31, 32, 63, 64, 255):
        yield Case(
            f"ring-log2-{log2}",
            "slave",
            False,
            f"announces a ring of 2**{log2} slots",
            altered(_ring(log2_ring_size=log2)),
            Outcome.REFUSED,
            "ring size out of range",
        )
    for log2 in (13, 14):
        yield Case(
            f"ring-log2-{log2}",
            "slave",
            False,
            f"announces a ring of 2**{log2} slots in memory for 16",
            altered(_ring(log2_ring_size=log2)),
            Outcome.REFUSED,
            "exceeds its region",
        )
    yield Case(
        "region-file-on-disk",
        "slave",
        False,
        "offers a file on disk as memory",
        altered(_region(fds=_disk_file)),
        Outcome.REFUSED,
        "region fd is not|not open|not sealed|cookie",
    )
    yield Case(
        "regions-300",
        "slave",
        False,
        "offers 300 regions",
        altered(_many("region", lambda i: AddRegion(i, 4096), lambda peer: peer.memory_fds[0])),
        Outcome.REFUSED,
        "too many regions",
    )
    yield Case(
        "rings-300",
        "slave",
        False,
        "offers 300 rings of one direction",
        altered(_many("s2m", lambda i: AddRing(True, i, 0, 384 * i, 4), lambda peer: peer.event_fds["s2m", 0])),
        Outcome.REFUSED,
        "too many rings",
    )
    yield Case(
        "rings-beyond-limit",
        "slave",
        False,
        "offers more rings than the interface allows",
        altered(_many("s2m", lambda i: AddRing(True, i, 0, 384 * i, 4), lambda peer: peer.event_fds["s2m", 0])),
        Outcome.REFUSED,
        "too many rings",
        options={"rx_queues": 2},
    )
    yield Case(
        "region-above-limit",
        "slave",
        False,
        "offers more memory than the interface allows",
        altered(lambda peer, script: None),
        Outcome.REFUSED,
        "size .*(out of range|not in)",
        options={"max_region_bytes": 4096},
    )
    yield Case(
        "regions-above-limit",
        "slave",
        False,
        "offers more regions than the interface allows",
        altered(_many("region", lambda i: AddRegion(i, 4096), lambda peer: peer.memory_fds[0])),
        Outcome.REFUSED,
        "too many regions",
        options={"max_regions": 2},
    )
    yield Case(
        "init-with-fd", "slave", False, "sends a descriptor beside INIT", altered(_with_init_fds(1)), Outcome.HARMLESS
    )
    yield Case(
        "init-with-250-fds",
        "slave",
        False,
        "sends 250 descriptors beside INIT",
        altered(_with_init_fds(250)),
        Outcome.HARMLESS,
    )
    for direction in ("s2m", "m2s"):
        yield Case(
            f"only-{direction}",
            "slave",
            False,
            f"offers a ring of direction {direction.upper()} only",
            altered(_only(direction)),
            Outcome.HARMLESS,
        )
    yield Case(
        "one-eventfd-for-both",
        "slave",
        False,
        "offers one eventfd for both rings",
        altered(_same_eventfd),
        Outcome.HARMLESS,
    )
    for policy, change in (("unsealable", _unsealable), ("tmpfs", _tmpfs)):
        about = "offers memory that cannot be sealed" if policy == "unsealable" else "offers a file on a tmpfs"
        yield Case(f"region-{policy}", "slave", False, about, altered(change), Outcome.HARMLESS)
        yield Case(
            f"region-{policy}-strict",
            "slave",
            False,
            f'{about}, to seal="require"',
            altered(change),
            Outcome.REFUSED,
            "not sealed against shrinking",
            options={"seal": "require"},
        )
    yield Case(
        "region-huge-pages-strict",
        "slave",
        False,
        'offers huge pages, to seal="require"',
        altered(_region(fds=_huge)),
        Outcome.REFUSED,
        "not an ordinary memfd",
        options={"seal": "require"},
    )
    yield Case(
        "memory-shrinks", "slave", True, "truncates its memory to nothing", _nothing_back(_shrink), Outcome.HARMLESS
    )
    yield Case(
        "memory-holes", "slave", True, "punches its memory full of holes", _nothing_back(_punch), Outcome.HARMLESS
    )
    yield Case(
        "region-too-short-for-buffers",
        "slave",
        False,
        "announces only the part of its memory with the rings",
        altered(_small_lie),
        Outcome.HARMLESS,
    )


def _nothing_back(do: Callable[[HostilePeer], None]) -> Callable[[HostilePeer], str | None]:
    def attack(peer: HostilePeer) -> str | None:
        with contextlib.suppress(BlockingIOError):
            do(peer)
        return None

    return attack
