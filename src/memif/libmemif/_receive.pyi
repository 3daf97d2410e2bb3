from typing import Self, final

from memif.errors import ErrorCode
from memif.libmemif._buffers import Raw, memif_buffer_t
from memif.ring._queue import Queue
from memif.ring._rxring import RxRing

@final
class ManualRxQueue(Queue):
    mode: str

@final
class RawRx(Raw):
    def __new__(cls, ring: RxRing) -> Self: ...
    @property
    def waiting(self) -> int: ...
    def burst(self, bufs: list[memif_buffer_t], count: int) -> tuple[ErrorCode | None, int]: ...
    def refill(self, count: int, headroom: int) -> ErrorCode: ...
