from collections.abc import Iterator
from types import TracebackType
from typing import Never, Protocol, Self, final, overload

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer

__pyx_capi__: dict[str, object]

def set_debug(on: bool) -> None:
    """For `memif.debug.enable`: bursts made from now on count the views of their packets."""

class _Selector(Protocol):
    def match(self, packets: Burst, /) -> Buffer | NDArray[np.bool]: ...

@final
class Burst:
    """Packets in shared memory, borrowed until `release` (received) or `send` (allocated).

    A sequence: ``len(burst)`` packets, of which a chained one counts once; ``burst[i]`` and iteration give writable
    memoryviews of the packet in place, or a contiguous read-only copy where the packet is chained. A context manager:
    leaving the block releases a received burst and sends an allocated one; an exception cancels it instead.

    A view, or a numpy array over one, shows its packet until the burst is released by `release`, `send` or the end of a
    ``with`` block; after that it shows what the peer puts there. A burst that is only forgotten lives as long as any
    view of it, and keeps its slots of the ring that long.

    One thread at a time may use a burst; it need not be the thread that received it. Made by `RxQueue.recv` and
    `TxQueue.alloc` only.

    Raises:
        MemifStateError: Anything is done with a burst that was released.
    """

    def __init__(self, *args: Never, **kwargs: Never) -> None: ...
    def release(self) -> None:
        """Hand the buffers back to the peer; cancel an allocated burst. A second call does nothing.

        Bursts of one queue may be released in any order; the peer gets its slots back in the order of the ring.
        """
    def send(self, count: int | None = None) -> int:
        """Send the first packets of an allocated burst and give the rest up. A packet's length is its element of
        `lengths`.

        Args:
            count: Packets to send; default all.

        Returns:
            Packets sent; 0 when the link is down.

        Raises:
            MemifValueError: A length does not fit the packet's buffers, or `count` is more than there are.
            MemifStateError: The burst was received, not allocated, or is sent already.
        """
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def __len__(self) -> int: ...
    def __bool__(self) -> bool: ...
    @overload
    def __getitem__(self, key: int, /) -> memoryview: ...
    @overload
    def __getitem__(self, key: slice, /) -> list[memoryview]: ...
    def __iter__(self) -> Iterator[memoryview]:
        """Give the packets, one after the other, as `burst[i]` does."""
    def fragments(self, i: int) -> list[memoryview]:
        """The pieces of one packet, in place.

        Args:
            i: Number of the packet; negative from the end.

        Returns:
            Writable memoryviews, one a descriptor: a single one when the packet is not chained.

        Raises:
            IndexError: There is no such packet.
            MemifStateError: The burst was released.
        """
    def tobytes(self) -> list[bytes]:
        """All packets as a list of bytes, copied."""
    def select(self, chosen: _Selector | Buffer | NDArray[np.bool]) -> list[memoryview]:
        """The chosen packets, each as `burst[i]` gives it.

        Args:
            chosen: A `memif.packet.Filter`, or booleans, shape (len(burst),).

        Raises:
            MemifValueError: The shape is wrong.
            MemifTypeError: `chosen` is of another kind.
            MemifStateError: The burst was released.
        """
    @property
    def lengths(self) -> NDArray[np.uint32]:
        """Bytes of each packet: numpy uint32, shape (len(burst),), no copy.

        Writable. In an allocated burst this sets what will be sent: it starts with the size given to `TxQueue.alloc`,
        and without one with zeros, which cannot be sent. In a received burst it may shorten a packet before
        `TxQueue.forward`. The array stays readable after the release.
        """
    @property
    def offsets(self) -> NDArray[np.uint32]:
        """Where each descriptor's data starts in its region: numpy uint32, one a descriptor, read-only, no copy."""
    @property
    def pieces(self) -> NDArray[np.uint32]:
        """Bytes of each descriptor: numpy uint32, one a descriptor, read-only, no copy.

        The same as `lengths` while no packet of the burst is chained.
        """
    @property
    def regions(self) -> NDArray[np.uint16]:
        """Region index of each descriptor: numpy uint16, one a descriptor, read-only, no copy."""
    @property
    def flags(self) -> NDArray[np.uint16]:
        """Flags of each descriptor: numpy uint16, one a descriptor, read-only, no copy.

        1 means that the packet goes on in the next descriptor.
        """
    @property
    def chained(self) -> bool:
        """Whether a packet of this burst has more than one descriptor."""
    @property
    def memory(self) -> tuple[NDArray[np.uint8], ...]:
        """The connection's regions as numpy uint8 arrays, by region index, writable, no copy.

        For compiled handlers: packet i without a chain is ``memory[regions[i]][offsets[i]:offsets[i] + lengths[i]]``.
        Writing anywhere else damages the rings of this connection.
        """
    def gather(self, width: int, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """Copy the first bytes of each packet into a matrix.

        Args:
            width: Bytes of each packet, 1 to 65536.
            out: Array to fill: uint8, shape (len(burst), width), or with more rows; the bytes of a row are contiguous.
                Default: a new one, or one that an earlier call returned and that nobody has any more.

        Returns:
            The filled part: numpy uint8, shape (len(burst), width). Behind the end of a shorter packet there are zeros.

        Raises:
            MemifValueError: `width` is outside its range, or the shape of `out` is wrong.
            MemifTypeError: An argument is of the wrong kind.
            MemifStateError: The burst was released.
        """
    def scatter(self, array: Buffer | NDArray[np.uint8]) -> None:
        """Write the rows of a matrix into the packets, the reverse of `gather`.

        Args:
            array: uint8, shape (len(burst), width). Of each row as many bytes are written as the packet has, up to
                width.

        Raises:
            MemifValueError: The shape is wrong.
            MemifTypeError: `array` is not a buffer of bytes.
            MemifStateError: The burst was released.
        """
    def prepend(self, count: int) -> None:
        """Grow every packet of a received burst at its front, into the headroom.

        Slave only: a master does not know what lies in front of a packet. An error changes nothing.

        Args:
            count: Bytes to grow by, 0 to the headroom that the interface was made with.

        Raises:
            MemifValueError: The headroom is too small, or a packet would exceed 65536 bytes.
            MemifStateError: The burst was not received by a slave, was released, or a packet was given away.
        """
