"""Links of other programs, seen through their descriptors in /proc: read only, nothing is mapped or changed.

A link's first region begins with its rings, S2M before M2S, in every known implementation. Each begins with a cookie;
the distance to the next cookie tells the size of both the ring and a cache line.
"""

import contextlib
import os
import struct
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Final

from memif.doctor import slots
from memif.doctor.findings import Finding, fault
from memif.protocol.wire import COOKIE

_HEAD: Final = struct.Struct("<IHH")  # cookie, flags, head
_MOST_RINGS: Final = 512
_LOOKS: Final = 10
_MASK_INT: Final = 1


@dataclass
class Ring:
    """One ring of a link, at `offset` of its region."""

    name: str
    s2m: bool
    offset: int
    size: int
    line: int
    looks: list[tuple[int, int, int]] = field(default_factory=list)  # flags, head, tail

    def look(self, fd: int) -> None:
        """Read its indices."""
        raw = os.pread(fd, self.line + 2, self.offset)
        if len(raw) == self.line + 2:
            _, flags, head = _HEAD.unpack_from(raw)
            self.looks.append((flags, head, int.from_bytes(raw[self.line :], "little")))

    @property
    def descriptors(self) -> int:
        """Offset of the first descriptor in the region."""
        return self.offset + 2 * self.line

    @property
    def indices(self) -> tuple[int, int]:
        """Head and tail, as they were read last."""
        return self.looks[-1][1:]

    @property
    def moves(self) -> bool:
        """Whether its indices have changed."""
        return len({look[1:] for look in self.looks}) > 1

    def findings(self, fd: int, region_size: int, signal: str) -> Iterator[Finding]:
        """What the looks tell. `signal` says whether an interrupt is pending."""
        flags, head, tail = self.looks[-1]
        between = (head - tail) & 0xFFFF
        check = f"ring {self.name}"
        if between > self.size:
            yield fault(check, "indices", f"Head {head} and tail {tail}, with {self.size} slots.")
        elif self.s2m and not self.moves and between:
            how = "polls" if flags & _MASK_INT else f"waits for interrupts{signal}"
            yield fault(check, "not-emptied", f"{between} wait in {self.size} slots; the master {how}.")
        elif not self.s2m and not self.moves and head == tail:
            yield fault(check, "not-refilled" if head else "no-buffers", f"Head and tail are {head}.")
        else:
            what = "packets wait" if self.s2m else "buffers are free"
            yield Finding(check, "ok", f"{'moves' if self.moves else 'idle'}, {between} {what} in {self.size} slots")
        bad = slots.outside(fd, self, region_size) or (None if self.s2m else slots.overrun(fd, self))
        if bad is not None:
            self.look(fd)
            if self.indices[1] == tail or bad.fault == "overrun":  # else the slots were given back meanwhile
                yield bad


def watch(listener: int, clients: Collection[int], seconds: float) -> list[Finding]:
    """Look at all links between the process `listener` and `clients` for some time."""
    try:
        links = list(_links(listener, clients))
    except PermissionError:
        return [Finding("rings", "skipped", f"process {listener} may not be looked into; run as root or as its user")]
    if not links:
        return [Finding("rings", "skipped", "no link is up" if clients else "no client is connected")]
    try:
        for turn in range(_LOOKS):
            time.sleep(seconds / (_LOOKS - 1) if turn else 0)
            for fd, rings in links:
                for ring in rings:
                    ring.look(fd)
        found: list[Finding] = []
        signal = _signal(listener, clients)
        for fd, rings in links:
            for ring in rings:
                found += ring.findings(fd, os.fstat(fd).st_size, signal) if ring.looks else ()
            found += _one_way(rings)
            if all(ring.looks for ring in rings):
                found += slots.unanswered(fd, *([ring for ring in rings if ring.s2m is way] for way in (True, False)))
        return found
    finally:
        for fd, _ in links:
            os.close(fd)


def _signal(listener: int, clients: Collection[int]) -> str:
    """Whether one of the event fds that the processes share has been written and not read, in words."""
    mine = dict(_event_fds(listener))
    shared = [mine[number] for client in clients for number, _ in _event_fds(client) if number in mine]
    if not shared:
        return ""
    return ", and one is pending" if any(shared) else ", and none is pending"


def _event_fds(pid: int) -> Iterator[tuple[str, bool]]:
    """The kernel's number of each event fd of a process, and whether it can be read."""
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fdinfo"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/fdinfo/{name}") as lines:
                info = dict(line.split(":", 1) for line in lines if line.startswith("eventfd-"))
                if "eventfd-id" in info:
                    yield info["eventfd-id"].strip(), int(info["eventfd-count"], 16) > 0


def _one_way(rings: list[Ring]) -> Iterator[Finding]:
    """A note when only one direction has traffic, which a generator and a sink mean, and others do not."""
    moving = {ring.s2m for ring in rings if ring.moves}
    if len(moving) == 1:
        way = "slave to the master" if moving.pop() else "master to the slave"
        yield Finding("traffic", "note", f"packets go from the {way} only")


def _links(listener: int, clients: Collection[int]) -> Iterator[tuple[int, list[Ring]]]:
    """Open the first region of each link, and find its rings."""
    shared = {inode for client in clients for inode in _memory(client)} if clients else set()
    number = 0
    for inode, path in _memory(listener, must=True).items():
        if inode not in shared:
            continue
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, fd)
            rings = list(_rings(fd, f"{number} " if number else ""))
            if rings:
                number += 1
                stack.pop_all()  # whoever asked closes it
                yield fd, rings


def _memory(pid: int, *, must: bool = False) -> dict[int, str]:
    """The memory files that a process has open: inode and path of a descriptor."""
    found: dict[int, str] = {}
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        if must:
            raise
        return found
    for name in names:
        path = f"/proc/{pid}/fd/{name}"
        with contextlib.suppress(OSError):
            if os.readlink(path).startswith("/memfd:"):
                found.setdefault(os.stat(path).st_ino, path)
    return dict(sorted(found.items()))


def _rings(fd: int, link: str) -> Iterator[Ring]:
    places: list[int] = []
    size = line = step = 0
    while len(places) < _MOST_RINGS and _cookie(fd, places[-1] + step if places else 0):
        places.append(places[-1] + step if places else 0)
        if not step:
            size, line = _measure(fd)
            step = 2 * line + 16 * size
        if not size:
            return
    if not places:
        return
    rings = [Ring("", False, offset, size, line) for offset in places]
    count = _s2m_count(fd, rings)
    for number, ring in enumerate(rings):
        ring.s2m = number < count
        ring.name = f"{link}{'S2M' if ring.s2m else 'M2S'} {number if ring.s2m else number - count}"
        ring.looks.clear()
        yield ring


def _s2m_count(fd: int, rings: list[Ring]) -> int:
    """How many of the rings are S2M: half of them, unless what is in them says otherwise.

    Free buffers have one length, which those of the last ring tell, for that is M2S. Most of the time most of an M2S
    ring is free buffers, and most of an S2M ring nothing.
    """
    for ring in rings:
        ring.look(fd)
    reference = _lengths(fd, rings[-1])
    m2s = [_is_filled(ring) and (not reference or _lengths(fd, ring) <= reference) for ring in rings]
    half = len(rings) // 2
    return max(
        range(1, len(rings)),
        key=lambda count: (sum(m2s[count:]) + m2s[:count].count(False), -abs(count - half)),
    )


def _is_filled(ring: Ring) -> bool:
    head, tail = ring.indices
    return 2 * ((head - tail) & 0xFFFF) > ring.size


def _lengths(fd: int, ring: Ring) -> set[int]:
    """The lengths in some of the slots between tail and head."""
    return {slot.length for _, slot in slots.waiting(fd, ring, 16)}


def _measure(fd: int) -> tuple[int, int]:
    """Slots and cache line of the first ring, by where the second one begins; (0, 0) if there is none."""
    for line in (64, 128):  # in this order: 16 slots with lines of 64 look like 8 with lines of 128, which are rare
        for log2 in range(15):
            if _cookie(fd, 2 * line + (16 << log2)):
                return 1 << log2, line
    return 0, 0


def _cookie(fd: int, offset: int) -> bool:
    raw = os.pread(fd, 4, offset)
    return len(raw) == 4 and int.from_bytes(raw, "little") == COOKIE
