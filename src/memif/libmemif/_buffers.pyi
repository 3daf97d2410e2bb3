from collections.abc import Iterator
from typing import Any, Self, final, overload

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer, disjoint_base

from memif.ring._rxring import RxRing
from memif.ring._txring import TxRing

__pyx_capi__: dict[str, object]

@final
class memif_buffer_t(Buffer):
    """One buffer of a ring. Create as many as you handle at once, and reuse them.

    ``bytes(buffer)`` and ``memoryview(buffer)`` give the `len` bytes. Views keep the memory mapped, even
    after the connection has ended or the buffer was filled again. Once the peer owns the slot, they show what the peer
    writes there. One thread at a time may use a buffer.

    Attributes:
        desc_index: The slot's number in its ring, a 16-bit counter that is not masked.
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
        """MEMIF_BUFFER_FLAG_NEXT (1): the packet continues in the next buffer; MEMIF_BUFFER_FLAG_RX (2): received."""
    @flags.setter
    def flags(self, value: int) -> None: ...
    @property
    def desc_index(self) -> int: ...
    @property
    def data(self) -> memoryview:
        """The data in shared memory, writable: `len` bytes when received, the whole room when allocated.

        None in a buffer that was never filled.
        """
    @property
    def queue(self) -> Raw | None:
        """An object that identifies the ring, the same for all its buffers; None in a buffer that was never filled."""
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
    def copy_from(self, data: Buffer) -> None:
        """Write bytes at the start of the data and set `len` to their number.

        Args:
            data: Any object with the buffer protocol, of up to `room` bytes.

        Raises:
            MemifValueError: There is less room.
            MemifTypeError: `data` is not a buffer of bytes.
            BufferError: This buffer was never filled.
        """

@final
class memif_buffers:
    """An array of buffers: ``memif_buffers(256)`` where C declares ``memif_buffer_t bufs[256]``.

    Accepted wherever a list of `memif_buffer_t` is. ``bufs[i]`` is one of them, always the same; ``bufs[n:]``, where C
    writes ``bufs + n``, is an array of the same buffers (with a step it is a list). Besides, it does for all buffers in
    one call what a loop does one by one. Each buffer counts for itself, also one of a chain. One thread at a time.

    Args:
        count: Number of buffers, 0 to 65535.

    Raises:
        MemifValueError: `count` is outside its range.
        MemifTypeError: `count` is not an integer.
    """

    def __new__(cls, count: int) -> Self: ...
    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, key: int, /) -> memif_buffer_t: ...
    @overload
    def __getitem__(self, key: slice[int | None, int | None, None], /) -> memif_buffers: ...
    @overload
    def __getitem__(self, key: slice, /) -> memif_buffers | list[memif_buffer_t]: ...
    def __iter__(self) -> Iterator[memif_buffer_t]:
        """Iterate over the buffers."""
    @property
    def lengths(self) -> NDArray[np.uint32]:
        """`len` of each buffer: numpy uint32, shape (len(bufs),), no copy.

        Writable: set it to what you wrote, before `memif_tx_burst`.
        """
    def gather(self, width: int, count: int | None = None, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """Copy the first bytes of the buffers into a matrix.

        Args:
            width: Bytes of each buffer, 1 to 65536.
            count: How many buffers, from the first on. Default: all.
            out: Array to fill: uint8, shape (count, width), or with more rows; the bytes of a row are contiguous.
                Default: a new one, or one that an earlier call returned and that nobody has any more.

        Returns:
            The filled part: numpy uint8, shape (count, width). Behind the end of shorter data there are zeros.

        Raises:
            MemifValueError: An argument is outside its range, or the shape of `out` is wrong.
            MemifTypeError: An argument is of the wrong kind.
            BufferError: One of the buffers was never filled.
        """
    def scatter(self, array: Buffer | NDArray[np.uint8], count: int | None = None) -> None:
        """Write the rows of a matrix into the buffers, the reverse of `gather`.

        Args:
            array: uint8, shape (count, width), or with more rows. Of each row as many bytes are written as the buffer's
                `len` says, up to width and to the buffer's room.
            count: How many buffers, from the first on. Default: all.

        Raises:
            MemifValueError: The shape is wrong, or `count` outside its range.
            MemifTypeError: An argument is of the wrong kind.
            BufferError: One of the buffers was never filled.
        """
    def copy_from(self, packets: list[Any] | tuple[Any, ...]) -> int:
        """Write one packet into each buffer, from the first on, and set its `len`.

        Args:
            packets: List or tuple of objects with the buffer protocol. Those for which there is no buffer are left.

        Returns:
            How many were written.

        Raises:
            MemifValueError: A packet is larger than its buffer's room; those before it are written.
            MemifTypeError: An argument is of the wrong kind.
            BufferError: One of the buffers was never filled.
        """
    def tobytes(self, count: int | None = None) -> list[bytes]:
        """The data of the first `count` buffers (default: of all), copied: a list of bytes."""

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
