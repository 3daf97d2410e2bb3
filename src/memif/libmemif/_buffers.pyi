from typing import Self, final

from typing_extensions import Buffer, disjoint_base

from memif.ring._rxring import RxRing
from memif.ring._txring import TxRing

__pyx_capi__: dict[str, object]

@final
class memif_buffer_t(Buffer):
    len: int
    flags: int
    @property
    def desc_index(self) -> int: ...
    @property
    def data(self) -> memoryview: ...
    @property
    def queue(self) -> Raw | None: ...
    @property
    def ring(self) -> Raw | None: ...
    @property
    def room(self) -> int: ...
    @property
    def headroom(self) -> int: ...
    def prepend(self, count: int) -> None: ...

@disjoint_base
class Raw:
    def __new__(cls, ring: RxRing | TxRing) -> Self: ...
    @property
    def ring(self) -> RxRing | TxRing: ...
