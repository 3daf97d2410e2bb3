from collections.abc import Iterable, Sequence
from typing import final

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer

from memif.ring._burst import Burst
from memif.ring._queue import Queue
from memif.ring._txring import TxRing

@final
class TxQueue(Queue):
    @property
    def ring(self) -> TxRing | None: ...
    def attach(self, ring: TxRing) -> None: ...
    def send(self, packets: Iterable[Buffer | NDArray[np.uint8]]) -> int: ...
    def send_array(
        self, matrix: Buffer | NDArray[np.uint8], lengths: NDArray[np.integer] | Sequence[int] | None = None
    ) -> int: ...
    def forward(
        self,
        burst: Burst,
        *,
        start: int | None = 0,
        stop: int | None = None,
        select: Buffer | NDArray[np.bool] | None = None,
        copy: bool = False,
    ) -> int: ...
    def alloc(self, count: int, size: int | None = None) -> Burst: ...
    def free(self) -> int: ...
    def wait_free(self, count: int = 1, timeout: float | None = None) -> bool: ...
    def send_all(
        self,
        packets: Iterable[Buffer | NDArray[np.uint8]] | NDArray[np.uint8],
        lengths: NDArray[np.integer] | Sequence[int] | None = None,
        *,
        timeout: float | None = None,
    ) -> int: ...
    def forward_all(
        self, burst: Burst, *, start: int | None = 0, stop: int | None = None, timeout: float | None = None
    ) -> int: ...
    def drain(self, timeout: float | None = None) -> bool: ...
    def untouched(self) -> bool: ...
