"""What the slots of a ring tell: descriptors that lie, buffers that overflow, frames that nobody answers."""

import os
import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Final, NamedTuple, Protocol

from memif.doctor.findings import Finding, fault

_SLOT: Final = struct.Struct("<HHII")
_MOST: Final = 256  # slots that are looked at
_RECENT: Final = 32
_ETHERTYPES: Final = (b"\x08\x00", b"\x08\x06", b"\x86\xdd", b"\x81\x00")


class Slot(NamedTuple):
    """A descriptor."""

    flags: int
    region: int
    length: int
    offset: int


class Slots(Protocol):
    """What this module needs of a ring: where its descriptors begin, how many there are, and its last indices."""

    name: str
    size: int

    @property
    def descriptors(self) -> int:
        """Offset of the first descriptor in the region."""

    @property
    def indices(self) -> tuple[int, int]:
        """Head and tail, as they were read last."""


def read(fd: int, ring: Slots, first: int, count: int) -> Iterator[tuple[int, Slot]]:
    """The slots from a free-running index on, with their numbers."""
    for number in range(count):
        place = (first + number) % ring.size
        raw = os.pread(fd, _SLOT.size, ring.descriptors + 16 * place)
        if len(raw) == _SLOT.size:
            yield place, Slot(*_SLOT.unpack(raw))


def waiting(fd: int, ring: Slots, most: int = _MOST) -> list[tuple[int, Slot]]:
    """The slots between tail and head."""
    head, tail = ring.indices
    return list(read(fd, ring, tail, min((head - tail) & 0xFFFF, ring.size, most)))


def outside(fd: int, ring: Slots, region_size: int) -> Finding | None:
    """A slot between tail and head that points out of the first region."""
    for place, slot in waiting(fd, ring):
        if slot.region == 0 and slot.offset + slot.length > region_size:
            detail = f"Slot {place}: offset {slot.offset} and length {slot.length} in {region_size} bytes."
            return fault(f"ring {ring.name}", "descriptor", detail)
    return None


def overrun(fd: int, ring: Slots) -> Finding | None:
    """An M2S slot whose packet is longer than the distance to the next buffer."""
    slots = [slot for _, slot in read(fd, ring, 0, min(ring.size, _MOST))]
    offsets = sorted({slot.offset for slot in slots if slot.region == slots[0].region})
    gaps = Counter(after - before for before, after in pairwise(offsets))
    if len(offsets) < 4:
        return None
    stride = gaps.most_common(1)[0][0]
    longest = max(slot.length for slot in slots)
    if longest <= stride:
        return None
    return fault(f"ring {ring.name}", "overrun", f"A packet has {longest} bytes, a buffer {stride} at most.")


def unanswered(fd: int, sent: Iterable[Slots], back: Iterable[Slots]) -> Iterator[Finding]:
    """A note for a MAC address to which the slave sends, and from which nothing comes."""
    asked = Counter(mac for ring in sent for mac in _macs(fd, ring, ring.indices[0] - _RECENT, slice(0, 6)))
    answering = {mac for ring in back for mac in _macs(fd, ring, ring.indices[1] - _RECENT, slice(6, 12))}
    for mac, count in asked.most_common(1):
        if not mac[0] & 1 and mac not in answering and 2 * count > asked.total():
            yield Finding("frames", "note", f"most frames go to {mac.hex(':')}, and none comes from there")


def _macs(fd: int, ring: Slots, first: int, field: slice) -> Iterator[bytes]:
    """A MAC address of each recent frame in the first region that looks like Ethernet."""
    for _, slot in read(fd, ring, first, min(_RECENT, ring.size)):
        head = os.pread(fd, 14, slot.offset) if slot.region == 0 and slot.length >= 14 else b""
        if head[12:] in _ETHERTYPES:
            yield head[field]
