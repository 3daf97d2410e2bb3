"""What capture files are made of, independent of the file format: packets, interfaces, link types."""

import enum
from dataclasses import dataclass
from typing import Literal, NamedTuple

#: "in": received by the capturing process; "out": sent by it; "unknown": the file does not say.
Direction = Literal["in", "out", "unknown"]

#: Longest packet that a writer keeps and a reader of foreign files expects, bytes (the tcpdump group's
#: number).
MAX_SNAPLEN = 262144


class LinkType(enum.IntEnum):
    """Link layers that occur here, numbered as in the tcpdump group's registry."""

    ETHERNET = 1
    #: Starts at the IPv4 or IPv6 header: memif's mode "ip".
    RAW = 101
    #: Private use: memif control messages of 128 bytes each.
    USER0 = 147
    IPV4 = 228
    IPV6 = 229


@dataclass(frozen=True, slots=True)
class Interface:
    """Where packets were captured.

    `snaplen` is the longest piece of a packet that is kept, in bytes, 0 for no limit. `ns_numerator` /
    `ns_denominator` turn the file's ticks into nanoseconds and `offset_s` is added in seconds.
    """

    name: str = ""
    linktype: int = LinkType.ETHERNET
    snaplen: int = MAX_SNAPLEN
    description: str = ""
    ns_numerator: int = 1
    ns_denominator: int = 1
    offset_s: int = 0

    @property
    def in_nanoseconds(self) -> bool:
        """Whether the file's ticks are nanoseconds since 1970 as they are."""
        return self.ns_numerator == self.ns_denominator and not self.offset_s

    def nanoseconds(self, ticks: int) -> int:
        """Return the time since 1970 in nanoseconds for the file's `ticks`."""
        return ticks * self.ns_numerator // self.ns_denominator + self.offset_s * 1_000_000_000


class Packet(NamedTuple):
    """One captured packet; immutable.

    `timestamp_ns` counts nanoseconds since 1970 and is 0 where the file has no time. `data` is what was kept,
    `original_length` the length in bytes on the wire. `interface` indexes `CaptureReader.interfaces`.
    """

    timestamp_ns: int
    data: bytes
    original_length: int
    interface: int = 0
    linktype: int = LinkType.ETHERNET
    direction: Direction = "unknown"


@dataclass(frozen=True, slots=True)
class InterfaceStatistics:
    """Counters that a pcapng file holds for an interface; None where the file does not say."""

    interface: int
    timestamp_ns: int
    received: int | None = None
    dropped: int | None = None
