from collections.abc import Iterable, Sequence
from typing import final

from memif.ring._region import Region
from memif.ring._ring import Ring, Stats

@final
class RxRing(Ring):
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
    def start(self) -> None: ...
