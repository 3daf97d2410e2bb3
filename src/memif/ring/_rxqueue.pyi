from collections.abc import Iterator
from typing import final

from memif.ring._burst import Burst
from memif.ring._queue import Queue
from memif.ring._rx import RxRing

MODES: tuple[str, ...]

@final
class RxQueue(Queue):
    mode: str
    @property
    def ring(self) -> RxRing | None: ...
    def attach(self, ring: RxRing) -> None: ...
    def recv(self, count: int = 256, timeout: float | None = None) -> Burst: ...
    def wait(self, timeout: float | None = None) -> bool: ...
    def __iter__(self) -> Iterator[Burst]: ...
