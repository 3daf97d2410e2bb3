from collections.abc import Iterable, Sequence

from typing_extensions import disjoint_base

from memif.ring._region import Region
from memif.types import QueueStats

@disjoint_base
class Stats:
    """Counters of one queue: what it moved, what it dropped and why. They never go back, not even on a reconnect."""

    def as_dict(self) -> QueueStats:
        """All counters by name."""

@disjoint_base
class Ring:
    """What receiving and sending rings share: the place in memory, the indices, the event fd.

    Args:
        regions: The connection's `Region` objects, by region index.
        region: Index of the region that the ring lies in.
        offset: Where in that region the ring's header begins, in bytes.
        log2_size: Slots as a power of two, 0 to 14.
        slave: Which side this is. The direction follows from the class: a slave receives on M2S, a master on S2M.
        event_fd: The ring's event fd, -1 for none. The ring owns it from now on and closes it.
        buffers: Slave only: region index, bytes of a buffer, and the offset of each slot's buffer.
        cache_line: Bytes between the two indices in the header, 64 or 128.
        stats: Counters to go on with; default new ones.

    Attributes:
        regions: The connection's regions, by region index.
        region_index: Index of the region that the ring lies in.
        offset: Where in that region the header begins, in bytes.
        size: Number of slots.
        slave: Whether this side is the slave.
        event_fd: The ring's event fd, -1 for none.
        stats: The counters.

    Raises:
        ValueError: Anything would lie outside its region, so that no loop has to check it again.
    """

    def __init__(
        self,
        regions: Iterable[Region],
        region: int,
        offset: int,
        log2_size: int,
        *,
        slave: bool,
        event_fd: int = -1,
        buffers: tuple[int, int, Sequence[int]] | None = None,
        cache_line: int = 64,
        stats: Stats | None = None,
    ) -> None: ...
    @property
    def regions(self) -> tuple[Region, ...]: ...
    @property
    def region_index(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def slave(self) -> bool: ...
    @property
    def event_fd(self) -> int: ...
    @property
    def stats(self) -> Stats: ...
    @property
    def head(self) -> int:
        """The slave's index as it stands in memory, 0 to 65535."""
    @property
    def tail(self) -> int:
        """The master's index as it stands in memory, 0 to 65535."""
    @property
    def flags(self) -> int:
        """The ring's flags word as it stands in memory."""
    @property
    def cookie(self) -> int:
        """The magic number as it stands in memory; 0x03E31F20 in a valid ring."""
    @property
    def buffer_size(self) -> int:
        """Bytes of one buffer: as slave its own; as master the capacity that the next descriptor to be used offers."""
    @property
    def alive(self) -> bool:
        """Whether the connection still exists."""
    def initialise(self) -> None:
        """Write the header and all descriptors: slave only, before INIT. Indices are 0, interrupts allowed.

        Raises:
            RuntimeError: On a master, or in a forked child.
        """
    def kill(self) -> None:
        """Mark the connection as gone: no operation starts any more.

        Note:
            Threads that wait are woken by the owner, through the control descriptor, as a write to the event fd could
            block. A thread that is blocked in such a write is freed by emptying the event fd. A hostile peer can fill
            it again, but not before the thread has woken up each time; after a second this gives up, and only a signal
            helps.
        """
