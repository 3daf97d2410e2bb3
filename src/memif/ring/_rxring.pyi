from collections.abc import Iterable, Sequence
from typing import final

from memif.ring._region import Region
from memif.ring._ring import Ring, Stats

__pyx_capi__: dict[str, object]

@final
class RxRing(Ring):
    """Packets from the peer: S2M on a master, M2S on a slave.

    Takes the arguments of `Ring` and one more.

    Args:
        headroom: Slave only: bytes left free in front of each packet, for `Burst.prepend`; less than the buffer size.

    Attributes:
        headroom: Bytes left free in front of each packet.
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
        headroom: int = 0,
    ) -> None: ...
    @property
    def headroom(self) -> int: ...
    def start(self) -> None:
        """Slave, after CONNECTED: hand all buffers to the master. Does nothing on a master, or a second time."""
