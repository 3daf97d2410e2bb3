"""Types for annotations: words that arguments accept, dictionaries of counters, and the details of an interface.

`memif.interface.Options` has the arguments of an interface.
"""

from dataclasses import dataclass, field
from typing import Literal, TypedDict

#: Which end an interface is. DPDK says client and server where everyone else says slave and master.
RoleName = Literal["slave", "client", "master", "server"]
#: The same, as `Interface.role` gives it.
Side = Literal["slave", "master"]
#: What the packets are; the same at both ends.
ModeName = Literal["ethernet", "ip", "punt/inject"]
#: How a receive queue waits, see `memif.RxQueue.mode`.
RxMode = Literal["interrupt", "polling", "adaptive"]
#: Where a slave puts the buffers: into the region of the rings, or into a region of their own.
Layout = Literal["single", "split"]
#: What to do about memory whose pages the peer can take away.
SealPolicy = Literal["add", "require"]
#: Bytes of a cache line of the peer's machine.
CacheLine = Literal[64, 128]


class QueueStats(TypedDict):
    """Counters of one queue over all its connections: `memif.RxQueue.stats`, `memif.TxQueue.stats`."""

    packets: int
    """Packets received, or accepted for sending; a chained packet counts as one."""
    bytes: int
    """Bytes of these packets."""
    bursts: int
    """Calls that moved at least one packet."""
    bad_descriptors: int
    """Invalid descriptors from the peer: outside their region, longer than their buffer, or empty."""
    dropped_bad: int
    """Received packets that were dropped because of an invalid descriptor."""
    dropped_oversize: int
    """Received packets that were dropped because they are longer than 64 KiB, or a chain without an end."""
    dropped_left: int
    """Packets that the peer had sent before it left, and that nobody received before the next link or `close`."""
    ring_full: int
    """Packets that `send` and similar calls did not accept because the ring was full."""
    interrupts_sent: int
    """Wake-ups sent to the peer."""
    interrupts_received: int
    """Wake-ups from the peer."""


class InterfaceStats(TypedDict):
    """Counters of an interface over all its connections: `memif.Interface.stats`."""

    rx: list[QueueStats]
    """One for each receive queue."""
    tx: list[QueueStats]
    """One for each transmit queue."""
    connects: int
    """How often the link came up."""
    disconnects: int
    """How often it went down."""
    refused: int
    """Connections that ended before the link was up; of a master, also clients that asked for it and were refused."""


class SocketStats(TypedDict):
    """Counters of a listening control socket: `memif.Socket.stats`."""

    accepted: int
    """Clients accepted."""
    turned_away: int
    """Clients turned away because there were too many, or because no file descriptors were left."""
    refused: int
    """Clients refused that had not asked for an interface of this socket."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of the link.

    Attributes:
        app_name: Name of the program, as the peer says.
        name: Name of the interface, as the peer says.
        pid: Process that made the connection, as the kernel says; 0 for one outside of our PID namespace.
        uid: Its effective user.
        gid: Its effective group.
    """

    app_name: str
    name: str
    pid: int
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class QueueDetails:
    """One ring, as `memif_get_details` of the C library shows it; indices are raw 16 bit counters."""

    qid: int
    region: int
    ring_size: int
    flags: int
    head: int
    tail: int
    buffer_size: int


@dataclass(frozen=True, slots=True)
class RegionDetails:
    """One memory region: index, size in bytes, descriptor (-1 once the link is down), whose memory it is."""

    index: int
    size: int
    fd: int
    external: bool


@dataclass(frozen=True, slots=True)
class Details:
    """Everything about an interface at one moment: what `memif_get_details` gives, and the peer's process."""

    name: str
    app_name: str
    id: int
    role: Side
    mode: ModeName
    socket: str
    secret: bytes = field(repr=False)
    link_up: bool
    peer: Peer | None
    disconnect_reason: str | None
    rx_queues: tuple[QueueDetails, ...]
    tx_queues: tuple[QueueDetails, ...]
    regions: tuple[RegionDetails, ...]
