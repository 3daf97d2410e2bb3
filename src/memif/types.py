"""Types for annotations: the words that arguments accept, and the dictionaries of counters.

`memif.config.Options` has the arguments of an interface.
"""

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
    """Connections that ended before the link was up."""


class SocketStats(TypedDict):
    """Counters of a listening control socket: `memif.Socket.stats`."""

    accepted: int
    """Clients accepted."""
    turned_away: int
    """Clients turned away because there were too many, or because no file descriptors were left."""
    refused: int
    """Clients refused before they were assigned to an interface."""
