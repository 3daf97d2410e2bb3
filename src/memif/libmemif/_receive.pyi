from typing import Self, final

from memif.errors import ErrorCode
from memif.libmemif._buffers import Raw, memif_buffer_t, memif_buffers
from memif.ring._queue import Queue
from memif.ring._rxring import RxRing

@final
class ManualRxQueue(Queue):
    """A receive queue that does not receive or give buffers back by itself: a `RawRx` does both."""

    @property
    def mode(self) -> str:
        """Whether the peer is asked to signal: "interrupt" or "polling".

        Back at "interrupt", the event fd is readable if packets wait already.
        """
    @mode.setter
    def mode(self, value: str) -> None: ...
    def attach(self, ring: RxRing) -> None:
        """For the interface: the link is up."""
    def detach(self, keep: bool = False, telling: bool = False) -> None:
        """For the interface: the link is down, on_disconnect was called. What nobody received is lost, and counted."""

@final
class RawRx(Raw):
    """A receive ring for `memif_rx_burst` and `memif_refill_queue`."""

    def __new__(cls, ring: RxRing) -> Self: ...
    @property
    def waiting(self) -> int:
        """Descriptors that the peer has sent and that were not received yet."""
    def burst(self, bufs: list[memif_buffer_t] | memif_buffers, count: int) -> tuple[ErrorCode | None, int]:
        """Receive buffers.

        Args:
            bufs: The list or array whose buffers are filled.
            count: How many of them, from the first on.

        Returns:
            The error code and the number of buffers filled. The code is None when the peer broke the ring.
        """
    def refill(self, count: int, headroom: int) -> ErrorCode:
        """Give the oldest received buffers back.

        Args:
            count: How many; 0xFFFF or -1 for all.
            headroom: Bytes to leave free in front of each packet.

        Returns:
            The error code.
        """
