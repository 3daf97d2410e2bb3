"""The actions that a handshake asks of its owner, and the values that pass between the two.

A handshake does no I/O. It answers each event with a list of actions, which the owner of the socket must carry out in
order. File descriptors are opaque integers here. Each descriptor that arrives leaves exactly once: inside `MapMemory`,
which hands it to the owner, or by `CloseFd`.
"""

import enum
from dataclasses import dataclass
from typing import Any

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
    """A memory region. Its index is its position in the tuple of regions.

    Attributes:
        size: Bytes.
        fd: Descriptor of the memory.
    """

    size: int
    fd: int


@dataclass(frozen=True, slots=True)
class RingOffer:
    """A ring.

    Attributes:
        s2m: True for slave to master, False for master to slave.
        index: Number of the ring within its direction.
        region: Index of the region that holds the ring.
        offset: Bytes from the start of that region to the ring's header.
        log2_ring_size: The ring has 2**log2_ring_size slots.
        fd: Its eventfd.
    """

    s2m: bool
    index: int
    region: int
    offset: int
    log2_ring_size: int
    fd: int


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What both sides agreed on.

    Attributes:
        s2m_rings: Number of rings from slave to master.
        m2s_rings: Number of rings from master to slave.
        log2_ring_size: Each ring has at most 2**log2_ring_size slots.
        max_regions: The most regions that the master accepts.
    """

    s2m_rings: int
    m2s_rings: int
    log2_ring_size: int
    max_regions: int


@dataclass(frozen=True, slots=True)
class Send:
    """Send one datagram.

    Attributes:
        message: The message.
        fd: Descriptor to send with it, or None. It stays the owner's.
    """

    message: Message
    fd: int | None = None


@dataclass(frozen=True, slots=True)
class CloseFd:
    """Close a descriptor that the peer sent and that is not used."""

    fd: int


@dataclass(frozen=True, slots=True)
class CreateMemory(Negotiated):
    """Slave: create rings and buffers of these numbers, then call `SlaveHandshake.offer`."""


@dataclass(frozen=True, slots=True)
class Selected:
    """Master: the client is admitted to the interface that it asked for; `owner` is that of its `InterfaceInfo`."""

    init: Init
    owner: Any = None


@dataclass(frozen=True, slots=True)
class MapMemory:
    """Master: map and check this memory, then call `MasterHandshake.accept`, or `refuse` with the reason.

    The descriptors belong to the owner from here on. The numbers are checked against each other already: rings lie
    inside their regions and do not overlap. What remains for the owner to check is the real size of the memory, its
    seals, the cookies, and ring headers of other sizes than 128 bytes.

    Attributes:
        regions: All regions, by index.
        rings: All rings: slave to master first, each direction by index.
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
    #: We refused the peer (unknown interface, wrong secret, unusable memory).
    REFUSED = enum.auto()
    #: The peer broke the protocol.
    PROTOCOL = enum.auto()
    #: The handshake took too long.
    TIMEOUT = enum.auto()
    #: The peer sent DISCONNECT.
    PEER = enum.auto()
    #: The peer closed the socket without sending DISCONNECT.
    EOF = enum.auto()


@dataclass(frozen=True, slots=True)
class Close:
    """Close the socket, and release the memory of a link that was up. Always the last action.

    Attributes:
        reason: Text of the DISCONNECT message that was sent or received, "" without one.
        cause: Who or what ended the connection.
        code: Error code for the user.
        text: A sentence for the user.
        was_up: True when a working link was lost, False when the link never came up.
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

    def error(self, detail: str = "") -> MemifError:
        """Build the exception for a caller who waits for the link.

        Args:
            detail: Its text, if `text` is not what that caller needs to hear.
        """
        detail = detail or self.text
        if self.cause is Cause.TIMEOUT:
            return MemifTimeoutError(detail, code=self.code)
        if self.cause is Cause.PROTOCOL:
            return MemifProtocolError(detail, code=self.code)
        if self.was_up or self.cause is Cause.LOCAL:
            return MemifDisconnectedError(detail, code=self.code)
        if self.remote:
            return MemifRefusedError(detail, code=self.code, reason=self.reason)
        return MemifConnectionError(detail, code=self.code)


Action = Send | CloseFd | CreateMemory | Selected | MapMemory | Up | Close
