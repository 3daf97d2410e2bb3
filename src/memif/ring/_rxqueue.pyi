from collections.abc import Callable, Iterator
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer

from memif.ring._burst import Burst
from memif.ring._queue import Queue
from memif.ring._rxring import RxRing
from memif.ring._txqueue import TxQueue
from memif.types import RxMode

MODES: tuple[RxMode, ...]

@final
class RxQueue(Queue):
    """Receives packets from the peer.

    One thread at a time may use a queue; different queues may be served by different threads.

    Iterating gives bursts of up to 256 packets. Each is released when the next is asked for. It ends when the link goes
    down or the interface is closed.
    """

    @property
    def mode(self) -> RxMode:
        """How `recv` and `wait` spend their time: "interrupt", "polling" or "adaptive".

        "interrupt", the default, sleeps until the peer signals. "polling" spins, and the peer is told not to signal.
        "adaptive" spins for 50 µs, then sleeps. It can be changed at any time. No mode loses a packet, whatever
        you wait with.

        Raises:
            MemifValueError: Set to anything else.
        """
    @mode.setter
    def mode(self, value: RxMode) -> None: ...
    @property
    def ring(self) -> RxRing | None: ...
    def attach(self, ring: RxRing) -> None:
        """For the interface: the link is up, and calls work on `ring` from now on. Its buffers go to the peer.

        Args:
            ring: A new ring. It counts in this queue's counters.
        """
    def detach(self, keep: bool = False, telling: bool = False) -> None:
        """For the interface: the link is down. Calls under way end, later ones raise.

        Args:
            keep: The peer has ended the link: what it had sent can still be received before calls raise.
            telling: on_disconnect is yet to be called: `fileno` works until `told`, so that it can be unregistered.
        """
    def fileno(self) -> int:
        """A descriptor for select, epoll or an event loop, readable when there may be something to receive.

        This holds in every mode: from the first call on the peer is asked to signal each burst, in polling and adaptive
        mode too. `recv` makes the descriptor unreadable when it has emptied the ring, so receive until less comes than
        you asked for, or you are told again. It is the ring's event fd and belongs to the connection: after a reconnect
        there is another one.

        Returns:
            The descriptor. Do not close it.

        Raises:
            MemifDisconnectedError: The link is down. Not before on_disconnect has returned, so that you can unregister
                the descriptor there, nor while packets wait that the peer sent before it left.
        """
    def leftover(self) -> bool:
        """Whether packets wait that the peer sent before it ended the link."""
    def arm(self) -> bool:
        """Ask for interrupts until `disarm`, to wait on several queues at once, as `memif.wait` and `memif.aio` do.

        Returns:
            True when a packet is there already. Otherwise the ring's `event_fd` becomes readable when one comes.

        Raises:
            MemifDisconnectedError: The link is down.
            MemifStateError: Another thread is using this queue.
        """
    def disarm(self) -> None:
        """Ask for interrupts or for none, as `mode` wants it."""
    def recv(self, count: int = 256, timeout: float | None = None) -> Burst:
        """Receive up to `count` packets.

        Waits until at least one packet is there, and returns what is there then.

        Args:
            count: The most packets to take, 1 to 16384.
            timeout: Seconds to wait; None waits for ever, 0 does not wait.

        Returns:
            The burst; an empty one when the time is over. Release it, best by a ``with`` block.

        Raises:
            MemifDisconnectedError: The link is or goes down, and all that the peer sent before it left was received.
            MemifStateError: Another thread is receiving on this queue.
            MemifBufferError: Bursts that were not released have held all slots of the ring for a second, so that
                nothing can come.
            MemifValueError: An argument is outside its range; `MemifTypeError` if it is of the wrong kind.
        """
    def recv_packet(self, timeout: float | None = None) -> bytes | None:
        """Receive one packet, copied.

        Args:
            timeout: Seconds to wait; None waits for ever, 0 does not wait.

        Returns:
            The packet; None when the time is over.

        Raises:
            MemifError: As in `recv`, of the same kinds.
        """
    def recv_list(self, count: int = 256, timeout: float | None = None) -> list[bytes]:
        """Receive up to `count` packets, copied: `recv`, `Burst.tobytes` and `Burst.release` in one call.

        Args:
            count: The most packets to take, 1 to 16384.
            timeout: Seconds to wait; None waits for ever, 0 does not wait.

        Returns:
            The packets; an empty list when the time is over.

        Raises:
            MemifError: As in `recv`, of the same kinds.
        """
    def recv_array(
        self, width: int, count: int = 256, timeout: float | None = None
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
        """Receive up to `count` packets into a matrix: `recv`, `Burst.gather` and `Burst.release` in one call.

        `TxQueue.send_array` takes what this returns, if no packet is longer than `width`.

        Args:
            width: Bytes of each packet to copy, 1 to 65536.
            count: The most packets to take, 1 to 16384.
            timeout: Seconds to wait; None waits for ever, 0 does not wait.

        Returns:
            The matrix, uint8, shape (n, width), with zeros behind the end of a shorter packet; and the packets'
            lengths, uint32, shape (n,), above `width` where a packet was cut. n is 0 when the time is over. Both can be
            arrays that an earlier call returned and that nobody has any more.

        Raises:
            MemifError: As in `recv`, of the same kinds.
        """
    def recv_into(
        self, matrix: Buffer | NDArray[np.uint8], lengths: Buffer | NDArray[np.uint32], timeout: float | None = None
    ) -> int:
        """Receive as many packets as a matrix has rows, into it and without an allocation.

        Args:
            matrix: uint8, shape (n, width), to be filled: a row for each packet, with zeros behind the end of a shorter
                one. The bytes of a row are contiguous. At most 16384 rows are filled.
            lengths: uint32, shape (n,) or more, contiguous, to be filled: the packets' lengths, above width where a
                packet was cut.
            timeout: Seconds to wait; None waits for ever, 0 does not wait.

        Returns:
            Packets received; 0 when the time is over. Rows behind them are left alone.

        Raises:
            MemifError: As in `recv`, of the same kinds.
        """
    def serve(
        self,
        handler: Any,
        tx: TxQueue | None = None,
        *,
        data: Buffer | NDArray[Any] | None = None,
        count: int | None = None,
        timeout: float | None = None,
        until: Callable[[], object] | None = None,
    ) -> int:
        """Receive, handle and send on in one compiled loop, which does not need the interpreter.

        The handler is a function of C, or one that ``numba.cfunc(memif.HANDLER_SIGNATURE)`` has compiled::

            int32_t handler(uint8_t **packets, uint32_t *lengths, uint32_t count, void *data)

        It gets up to 256 packets at a time, in the order of their arrival. ``packets[i]`` points to the ``lengths[i]``
        bytes of a packet, in shared memory, which it may change, and which a hostile peer may change meanwhile. In
        ``lengths[i]`` it leaves how many of these bytes are to be sent; 0 drops the packet. A chained packet comes
        alone, as a contiguous copy. The handler returns 0 to go on, any other number to end the loop after the packets
        received so far. It runs without the interpreter lock, and nothing else runs in this thread until it returns.

        What is sent does not leave the memory where `TxQueue.forward` would not copy it either. While the transmit ring
        is full nothing more is received, so that the peer finds its own ring full in turn.

        Args:
            handler: A function pointer of ctypes, or what ``numba.cfunc`` made. Types that it knows of its arguments
                must be those above.
            tx: The `TxQueue` that sends, of this interface or another. Default: nothing is sent; a handler that only
                looks at packets need not set lengths.
            data: Passed to the handler: the address of this writable, contiguous buffer, such as a numpy array. The
                handler has to know its size. Default: a null pointer.
            count: End after this many packets.
            timeout: End after this many seconds; None never, 0 after the packets that are there, at most 256.
            until: A function without arguments, such as ``threading.Event().is_set``. The loop asks it at least every
                100 ms, and ends when it returns true. It must not use the two queues.

        Returns:
            Packets handled. If the loop ended while the transmit ring was full, those that waited are dropped and count
            as ``ring_full`` there.

        Raises:
            MemifDisconnectedError: The link of one of the queues is or goes down. What the peer sent before it left was
                handled, if it could still be sent.
            MemifStateError: Another thread is using one of the queues, or a burst of `TxQueue.alloc` is open.
            MemifBufferError: As in `recv`.
            MemifValueError: An argument is outside its range, or the handler left a length that was larger than before.
                Of the packets behind that one, those received so far are dropped.
            MemifTypeError: An argument is of the wrong kind.
        """
    def wait(self, timeout: float | None = None) -> bool:
        """Wait until a packet is there.

        Args:
            timeout: Seconds to wait; None waits for ever, 0 does not wait.

        Returns:
            Whether one is there.

        Raises:
            MemifDisconnectedError: The link is or goes down.
            MemifStateError: Another thread is using this queue.
            MemifBufferError: As in `recv`.
            MemifValueError: The time-out is negative.
        """
    def __iter__(self) -> Iterator[Burst]:
        """Receive bursts of up to 256 packets, each released when the next is asked for, until the link goes down."""
