"""What capture files contain, independent of their format: packets, interfaces, link types; and what fails with them.

The text of the errors does not begin with a message of the C library, which has none for "the disk is full" or "this is
not a capture file".
"""

import enum
import errno as _errno
from dataclasses import dataclass
from typing import Literal, NamedTuple

from memif.errors import MemifOSError, MemifValueError

#: "in" was received by the capturing process, "out" was sent by it; "unknown" where the file does not say.
Direction = Literal["in", "out", "unknown"]

#: Longest packet that a writer keeps, in bytes. The tcpdump group's number.
MAX_SNAPLEN = 262144


class LinkType(enum.IntEnum):
    """Link layers that this package uses, numbered as in the tcpdump group's registry."""

    ETHERNET = 1
    #: Packets start at the IPv4 or IPv6 header, as in memif's mode "ip".
    RAW = 101
    #: Private use. Here memif control messages of 128 bytes each.
    USER0 = 147
    IPV4 = 228
    IPV6 = 229


@dataclass(frozen=True, slots=True)
class CaptureInterface:
    """Where packets were captured, as a capture file describes it.

    Attributes:
        name: Its name, "" when the file has none.
        linktype: What packets begin with, a `LinkType` or any other number of the registry.
        snaplen: Bytes that are kept of each packet, 0 for no limit.
        description: Text for people.
        ns_numerator: A tick of the file's clock is ns_numerator / ns_denominator nanoseconds.
        ns_denominator: See there.
        offset_s: Seconds to add to the file's times.
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
        """Whether the file's ticks are nanoseconds since 1970."""
        return self.ns_numerator == self.ns_denominator and not self.offset_s

    def nanoseconds(self, ticks: int) -> int:
        """Return the time since 1970 in nanoseconds for the file's `ticks`."""
        return ticks * self.ns_numerator // self.ns_denominator + self.offset_s * 1_000_000_000


class Packet(NamedTuple):
    """One captured packet. Immutable.

    Attributes:
        timestamp_ns: Nanoseconds since 1970, 0 where the file has no time.
        data: The bytes that were kept.
        original_length: Bytes on the wire.
        interface: Index in `CaptureReader.interfaces`.
        linktype: What the packet begins with, a `LinkType` or any other number of the registry.
        direction: "in", "out" or "unknown", as the capturing process saw it.
    """

    timestamp_ns: int
    data: bytes
    original_length: int
    interface: int = 0
    linktype: int = LinkType.ETHERNET
    direction: Direction = "unknown"


@dataclass(frozen=True, slots=True)
class InterfaceStatistics:
    """Counters that a pcapng file has for an interface.

    Attributes:
        interface: Index in `CaptureReader.interfaces`.
        timestamp_ns: When they were read, in nanoseconds since 1970.
        received: Packets seen, None where the file does not say.
        dropped: Packets that should be in the file and are not, None where the file does not say.
    """

    interface: int
    timestamp_ns: int
    received: int | None = None
    dropped: int | None = None


class CaptureFormatError(MemifValueError):
    """The file is not a capture of a supported format, or it is malformed."""

    def __str__(self) -> str:
        return self.detail


class CaptureTruncatedError(CaptureFormatError, EOFError):
    """The file ends in the middle of a block. The packets before it were delivered. Only strict readers raise it."""


class CaptureOSError(MemifOSError):
    """A system call on a capture file failed. `errno` is the kernel's number."""

    def __str__(self) -> str:
        return self.detail


class CaptureNotFoundError(CaptureOSError, FileNotFoundError):
    """There is no such file."""


class CapturePermissionError(CaptureOSError, PermissionError):
    """The process is not allowed to open or write the file."""


class CapturePipeClosedError(CaptureOSError, BrokenPipeError):
    """The reader of the pipe has gone. For a live capture this is the normal end."""


_KINDS: dict[int, type[CaptureOSError]] = {
    _errno.ENOENT: CaptureNotFoundError,
    _errno.EACCES: CapturePermissionError,
    _errno.EPERM: CapturePermissionError,
    _errno.EPIPE: CapturePipeClosedError,
}


def os_error(error: OSError, what: str) -> CaptureOSError:
    """Return this module's error for `error`. `what` says what was tried."""
    kind = _KINDS.get(error.errno or 0, CaptureOSError)
    return kind(f"{what}: {error.strerror or error}", errno=error.errno)
