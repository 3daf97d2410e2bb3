from typing import Self, final

from memif.errors import ErrorCode
from memif.libmemif._buffers import Raw, memif_buffer_t, memif_buffers
from memif.ring._txring import TxRing

@final
class RawTx(Raw):
    """A transmit ring for `memif_buffer_alloc`, `memif_buffer_enq_tx` and `memif_tx_burst`."""

    def __new__(cls, ring: TxRing) -> Self: ...
    def alloc(self, bufs: list[memif_buffer_t] | memif_buffers, count: int, size: int) -> tuple[ErrorCode | None, int]:
        """Reserve packets.

        Args:
            bufs: The list or array whose buffers are filled. Chains may use more than `count` of them.
            count: Packets to reserve.
            size: Bytes of each; 0: one whole buffer.

        Returns:
            The error code and the number of buffers filled. The code is None when the peer broke the ring.
        """
    def burst(self, bufs: list[memif_buffer_t] | memif_buffers, count: int) -> tuple[ErrorCode | None, int]:
        """Send buffers that were allocated: the oldest, in order.

        Args:
            bufs: The list or array of buffers.
            count: How many of them to send, from the first on.

        Returns:
            The error code and the number of buffers sent. The code is None when the peer broke the ring.
        """
    def enqueue(self, bufs: list[memif_buffer_t] | memif_buffers, count: int) -> tuple[ErrorCode | None, int]:
        """Slave: exchange received buffers with free ones of this ring.

        Args:
            bufs: The list or array of buffers.
            count: How many of them to move, from the first on.

        Returns:
            The error code and the number of buffers moved. The code is None when the peer broke the ring.
        """
    def rewind(self, buf: memif_buffer_t) -> ErrorCode:
        """Make a buffer, and all that were allocated after it, free again.

        Args:
            buf: An allocated buffer.

        Returns:
            The error code.
        """
    def exchange(self, first: memif_buffer_t, second: memif_buffer_t) -> ErrorCode:
        """Slave: let two buffers, received or allocated on this connection, change places in their rings.

        Args:
            first: One of them.
            second: The other.

        Returns:
            The error code.
        """
