"""What a handshake tells its owner to do, and the values that pass between the two.

A handshake does no I/O. Whatever it is fed, it answers with a list of actions, which the owner of the
socket must carry out in order. File descriptors are opaque integers here, and each one that arrives leaves
exactly once: either inside `MapMemory`, which makes it the owner's, or by `CloseFd`.
"""

import enum
from dataclasses import dataclass

from memif.errors import (
    ErrorCode,
    MemifConnectionError,
    MemifDisconnectedError,
    MemifError,
    MemifProtocolError,
    MemifRefusedError,
    MemifTimeoutError,
)
from memif.protocol.wire import Init, Message


@dataclass(frozen=True, slots=True)
class RegionOffer:
    """A memory region: `size` in bytes and the memory's descriptor. Its index is its place in the tuple."""

    size: int
    fd: int


@dataclass(frozen=True, slots=True)
class RingOffer:
    """A ring: slave to master or back, its index in that direction, its place, its log2 size, its eventfd.

    `offset` is in bytes from the start of region number `region`.
    """

    s2m: bool
    index: int
    region: int
    offset: int
    log2_ring_size: int
    fd: int


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What both sides agreed on: rings of each direction, log2 of their size, most regions allowed."""

    s2m_rings: int
    m2s_rings: int
    log2_ring_size: int
    max_regions: int


@dataclass(frozen=True, slots=True)
class Send:
    """Send one datagram, with the descriptor `fd` beside it if there is one; `fd` stays the owner's."""

    message: Message
    fd: int | None = None


@dataclass(frozen=True, slots=True)
class CloseFd:
    """Close a descriptor that the peer sent and nobody will use."""

    fd: int


@dataclass(frozen=True, slots=True)
class CreateMemory:
    """Slave: make rings and buffers of these numbers, then call `SlaveHandshake.offer`."""

    s2m_rings: int
    m2s_rings: int
    log2_ring_size: int
    max_regions: int


@dataclass(frozen=True, slots=True)
class Selected:
    """Master: the client asked for this interface and may have it."""

    init: Init


@dataclass(frozen=True, slots=True)
class MapMemory:
    """Master: map and check this memory, then call `MasterHandshake.accept`, or `refuse` to say why not.

    The descriptors belong to the owner from here on. Numbers were checked against each other: rings lie
    inside their regions and apart. What the numbers can not tell is left: the real size of the memory, its
    seals, the cookies, and header sizes other than 128 bytes.
    """

    regions: tuple[RegionOffer, ...]
    rings: tuple[RingOffer, ...]


@dataclass(frozen=True, slots=True)
class Up:
    """The link is up."""


class Cause(enum.Enum):
    """Who or what ended a connection."""

    #: The owner called `disconnect`.
    LOCAL = enum.auto()
    #: We refused the peer: unknown interface, wrong secret, unusable memory.
    REFUSED = enum.auto()
    #: The peer broke the protocol.
    PROTOCOL = enum.auto()
    #: The handshake took too long.
    TIMEOUT = enum.auto()
    #: The peer sent DISCONNECT.
    PEER = enum.auto()
    #: The peer closed the socket without a word.
    EOF = enum.auto()


@dataclass(frozen=True, slots=True)
class Close:
    """Close the socket; always the last action. The memory of a link that was up goes as well.

    `reason` is the bare text of the DISCONNECT message, sent or received, "" without one; `text` is a
    sentence for the user; `was_up` says whether a working link was lost rather than never made.
    """

    reason: str
    cause: Cause
    code: ErrorCode
    text: str
    was_up: bool = False

    @property
    def remote(self) -> bool:
        """Whether the peer ended the connection."""
        return self.cause in (Cause.PEER, Cause.EOF)

    def error(self) -> MemifError:
        """Build the exception that tells a waiting caller of this end."""
        if self.cause is Cause.TIMEOUT:
            return MemifTimeoutError(self.text, code=self.code)
        if self.cause is Cause.PROTOCOL:
            return MemifProtocolError(self.text, code=self.code)
        if self.was_up or self.cause is Cause.LOCAL:
            return MemifDisconnectedError(self.text, code=self.code)
        if self.remote:
            return MemifRefusedError(self.text, code=self.code, reason=self.reason)
        return MemifConnectionError(self.text, code=self.code)


Action = Send | CloseFd | CreateMemory | Selected | MapMemory | Up | Close
