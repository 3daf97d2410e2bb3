from typing import Self, final

from typing_extensions import Buffer, disjoint_base

from memif.ring._rxring import RxRing
from memif.ring._txring import TxRing

__pyx_capi__: dict[str, object]

@final
class memif_buffer_t(Buffer):
    """One buffer of a ring. Make as many as you want to handle at once, and use them again and again.

    ``bytes(buffer)`` and ``memoryview(buffer)`` give the `len` bytes. Views keep the memory mapped, whatever happens to
    the connection or to the buffer they came from; once the slot went to the peer they show what the peer does with it.
    One thread at a time.

    Attributes:
        desc_index: The slot's number in its ring, a 16 bit counter that is not masked.
    """

    @property
    def len(self) -> int:
        """Bytes of data.

        Set by `memif_rx_burst` and `memif_buffer_alloc`; set it yourself to what you wrote, up to `room`, before
        `memif_tx_burst`. As in C any 32 bits can be stored; they are checked when the buffer is sent.
        """
    @len.setter
    def len(self, value: int) -> None: ...
    @property
    def flags(self) -> int:
        """MEMIF_BUFFER_FLAG_NEXT (1): the packet goes on in the next buffer; MEMIF_BUFFER_FLAG_RX (2): received."""
    @flags.setter
    def flags(self, value: int) -> None: ...
    @property
    def desc_index(self) -> int: ...
    @property
    def data(self) -> memoryview:
        """The data in shared memory, writable: `len` bytes when received, the whole room when to be sent.

        None in a buffer that was never filled.
        """
    @property
    def queue(self) -> Raw | None:
        """An object that stands for the ring, the same for all its buffers; None in a buffer that was never filled."""
    @property
    def ring(self) -> Raw | None:
        """The same as `queue`."""
    @property
    def room(self) -> int:
        """The most that `len` may be: bytes from the start of the data to the end of the buffer.

        A master does not know the size of the buffers that it receives: there it is the length of the data.
        """
    @property
    def headroom(self) -> int:
        """Bytes in front of the data that `prepend` can take. A master has none."""
    def prepend(self, count: int) -> None:
        """Let the data start earlier, in the headroom, and grow `len` by as much: ``data -= count; len += count`` in C.

        Args:
            count: Bytes; negative to let the data start later.

        Raises:
            MemifValueError: The headroom, or `len`, is smaller.
        """

@disjoint_base
class Raw:
    """What receiving and transmitting rings share.

    Args:
        ring: The ring of one connection. It must not be used through a queue as well.
    """

    def __new__(cls, ring: RxRing | TxRing) -> Self: ...
    @property
    def ring(self) -> RxRing | TxRing:
        """The ring below."""
