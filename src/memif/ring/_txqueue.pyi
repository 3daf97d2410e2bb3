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
    """Sends packets to the peer.

    One thread at a time may use a queue; different queues may be served by different threads.
    """

    @property
    def ring(self) -> TxRing | None: ...
    def attach(self, ring: TxRing) -> None:
        """For the interface: the link is up, and calls work on `ring` from now on.

        Args:
            ring: A new ring. It counts in this queue's counters.
        """
    def send(self, packets: Iterable[Buffer | NDArray[np.uint8]]) -> int:
        """Copy packets into the ring and publish them.

        A packet larger than the peer's buffers is sent as a chain of several. When the ring is full fewer packets are
        accepted than given, which is no error. Nothing signals free slots, so call again later, or see `wait_free` and
        `send_all`.

        Args:
            packets: Bytes-like objects of 1 to 65536 bytes each, as a list, a tuple or any other iterable.

        Returns:
            Packets accepted, from the first on.

        Raises:
            MemifValueError: A packet is empty or can never fit into the ring. Nothing was sent.
            MemifTypeError: A packet is not bytes-like. Nothing was sent.
            MemifDisconnectedError: The link is down.
            MemifStateError: Another thread is using this queue, or a burst of `alloc` is open.
        """
    def send_packet(self, data: Buffer | NDArray[np.uint8]) -> bool:
        """Copy one packet into the ring and publish it.

        Args:
            data: Bytes-like, 1 to 65536 bytes.

        Returns:
            Whether it was accepted; False when the ring is full.

        Raises:
            MemifValueError: The packet is empty or can never fit into the ring.
            MemifTypeError: `data` is not bytes-like.
            MemifDisconnectedError: The link is down.
            MemifStateError: Another thread is using this queue, or a burst of `alloc` is open.
        """
    def send_array(
        self, matrix: Buffer | NDArray[np.uint8], lengths: NDArray[np.integer] | Sequence[int] | None = None
    ) -> int:
        """Copy the rows of a matrix into the ring and publish them: each row is a packet.

        Args:
            matrix: uint8, shape (n, width). The bytes of a row are contiguous, the rows may lie any distance apart. It
                is not copied on the way.
            lengths: Bytes of each packet: uint32, shape (n,), each 1 to width. Other integer dtypes are converted.
                Default: all rows whole.

        Returns:
            Packets accepted, from the first on; fewer than n when the ring is full.

        Raises:
            MemifValueError: A shape or length is wrong, or a packet can never fit into the ring. Nothing was sent.
            MemifTypeError: `matrix` is not a buffer of bytes.
            MemifDisconnectedError: The link is down.
            MemifStateError: Another thread is using this queue, or a burst of `alloc` is open.
        """
    def forward(
        self,
        burst: Burst,
        *,
        start: int | None = 0,
        stop: int | None = None,
        select: Buffer | NDArray[np.bool] | None = None,
        copy: bool = False,
    ) -> int:
        """Send packets of a received burst on.

        Where this side is the slave and both queues belong to the same connection, the buffers change places and no
        byte is copied. The packets then belong to the peer: do not write to them any more. Otherwise the packets are
        copied. Release the burst afterwards, as always. Changes to the packets, to `Burst.lengths` and by
        `Burst.prepend` take effect.

        Args:
            burst: A received burst.
            start: First packet to send, as in a slice.
            stop: End of the packets to send, as in a slice; None is the end of the burst.
            select: Booleans, shape (len(burst),): send only the packets whose element is true. Default: all.
            copy: True never exchanges buffers, so that the same packets can be sent again elsewhere.

        Returns:
            Packets sent; fewer than asked for when the ring is full.

        Raises:
            MemifStateError: The burst is not a received one, was released, or one of the packets was given away by an
                earlier call; another thread is using this queue, or a burst of `alloc` is open.
            MemifValueError: A length or `select` is wrong, or the first packet can never fit into the ring.
            MemifTypeError: An argument is of the wrong kind.
            MemifDisconnectedError: The link is down.
        """
    def alloc(self, count: int, size: int | None = None) -> Burst:
        """Reserve packets in the ring, to be written in place.

        Leaving the burst's ``with`` block sends it; an exception, or `Burst.release`, gives it up. While it is open
        nothing else can be sent on this queue. What is not written is sent as zeros, never as bytes of an earlier
        packet. Zeros are cheap for packets of a given size, and free for what `Burst.scatter` fills. Without `size`,
        and by `Burst.memory` or `Burst.offsets`, whole buffers are set to zero first.

        Args:
            count: The most packets to reserve, 1 to 16384.
            size: Bytes of each packet, 1 to 65536. Above the peer's buffer size packets are chained: write those
                through `Burst.fragments` or `Burst.scatter`. None: each packet has a whole buffer to write to and no
                length; set `Burst.lengths` before the burst is sent.

        Returns:
            The burst, with fewer packets when the ring is full; an empty one when it has no room at all. Set
            `Burst.lengths` to send less than `size`, or more where the buffers are larger.

        Raises:
            MemifValueError: An argument is outside its range, or a packet of `size` bytes can never fit into the ring.
            MemifTypeError: An argument is of the wrong kind.
            MemifDisconnectedError: The link is down.
            MemifStateError: Another thread is using this queue, or a burst of an earlier call is open.
        """
    def free(self) -> int:
        """Slots that can be filled now.

        Raises:
            MemifDisconnectedError: The link is down.
            MemifStateError: Another thread is using this queue, or a burst of `alloc` is open.
        """
    def wait_free(self, count: int = 1, timeout: float | None = None) -> bool:
        """Wait until slots are free.

        Nothing signals free slots in memif, so this looks again after pauses that grow from 10 µs to 1 ms.

        Args:
            count: Slots wanted, 1 to the ring's size.
            timeout: Seconds to wait; None waits for ever, 0 does not wait.

        Returns:
            Whether so many are free.

        Raises:
            MemifValueError: An argument is outside its range.
            MemifDisconnectedError: The link is or goes down.
            MemifStateError: Another thread is using this queue, or a burst of `alloc` is open.
        """
    def send_all(
        self,
        packets: Iterable[Buffer | NDArray[np.uint8]] | NDArray[np.uint8],
        lengths: NDArray[np.integer] | Sequence[int] | None = None,
        *,
        timeout: float | None = None,
    ) -> int:
        """Send all packets, waiting while the ring is full. Serves the control channel meanwhile.

        Args:
            packets: Bytes-like objects from any iterable, taken from it as they can be sent, at most 256 ahead; or a
                uint8 matrix as in `send_array`.
            lengths: Bytes of each packet, with a matrix only.
            timeout: Seconds to wait in all; None waits for ever.

        Returns:
            Packets sent: all, or fewer when the time is over.

        Raises:
            MemifValueError: A packet is empty or can never fit into the ring. Packets before it may have been sent:
                `stats` says how many.
            MemifTypeError: A packet is not bytes-like. The same holds.
            MemifDisconnectedError: The link is or goes down.
            MemifStateError: Another thread is using this queue, or a burst of `alloc` is open.
        """
    def forward_all(
        self, burst: Burst, *, start: int | None = 0, stop: int | None = None, timeout: float | None = None
    ) -> int:
        """Send all packets of a received burst on, waiting while the ring is full.

        Args:
            burst: A received burst.
            start: First packet to send, as in a slice.
            stop: End of the packets to send, as in a slice; None is the end of the burst.
            timeout: Seconds to wait in all; None waits for ever.

        Returns:
            Packets sent: all, or fewer when the time is over.

        Raises:
            MemifError: As in `forward`.
        """
    def drain(self, timeout: float | None = None) -> bool:
        """Wait until the peer has taken all that was sent.

        It has when all slots are free again. A slave as peer may keep some of its buffers back: VPP and DPDK in
        zero-copy mode offer them in batches, so the answer may be False although everything was taken.

        Args:
            timeout: Seconds to wait; None waits for ever, 0 does not wait.

        Returns:
            Whether all slots are free.

        Raises:
            MemifDisconnectedError: The link is or goes down.
            MemifStateError: Another thread is using this queue, or a burst of `alloc` is open.
        """
    def untouched(self) -> bool:
        """Whether nothing was sent on the present link.

        Raises:
            MemifDisconnectedError: The link is down.
        """
