"""`RxQueue` and `TxQueue` of the asyncio API: the sync queues, waiting through the event loop.

Cancellation is safe. `recv` takes packets from the ring in its last step, with no await after it, and `send_all` awaits
only between calls that publish whole packets. So a task that is cancelled while it waits has taken nothing and left
nothing half done.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from memif.aio.loop import FIRST_PAUSE, LONGEST_PAUSE, LONGEST_SLEEP, Signal, Turns, pause
from memif.config import Deadline
from memif.errors import MemifClosedError, MemifDisconnectedError, MemifStateError, MemifValueError
from memif.ring import RxQueue as SyncRxQueue, RxRing, TxQueue as SyncTxQueue, TxRing, feeding
from memif.system import Single
from memif.types import QueueStats, RxMode

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Buffer

    from memif.ring import Burst

_ADAPTIVE_SPIN = 50e-6
_T = TypeVar("_T")


class _Queue(Single):
    """What both directions share."""

    __slots__ = ("_busy", "_loop", "_turns")
    sync: SyncRxQueue | SyncTxQueue

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._turns = Turns()
        self._busy = False

    @property
    def index(self) -> int:
        """The number of the queue."""
        return self.sync.index

    @property
    def stats(self) -> QueueStats:
        """Counters by name, see `memif.types.QueueStats`."""
        return self.sync.stats

    @property
    def size(self) -> int:
        """Slots of the current link's ring, as chosen by the slave; 0 while the link is down."""
        return self.sync.size

    @property
    def ring(self) -> RxRing | TxRing | None:
        """The ring of the current link; None while the link is down."""
        return self.sync.ring

    def _check_alone(self) -> None:
        if self._busy:
            raise MemifStateError(f"queue {self.index} is in use by another task: one task at a time")

    def _check_link(self, ring: RxRing | TxRing | None) -> None:
        """End a wait when its link has ended, even if the next one is up already."""
        if self.sync.ring is not ring and not self._has_rest():
            raise self.sync.owner.down()

    def _has_rest(self) -> bool:
        """Return whether packets are left from a peer that has disconnected."""
        return False

    def __repr__(self) -> str:
        return f"<aio {self.sync!r}>"


class RxQueue(_Queue):
    """Receives packets from the peer. One task at a time may use a queue.

    ``async for burst in queue`` yields bursts of up to 256 packets. Each is released when the next one is requested.
    The iteration ends when the link goes down or the interface is closed.

    Attributes:
        sync: The queue of the sync API behind this one.
    """

    __slots__ = ("changed", "sync")

    def __init__(self, loop: asyncio.AbstractEventLoop, queue: SyncRxQueue, changed: Signal) -> None:
        """For `Interface` only."""
        super().__init__(loop)
        self.sync: SyncRxQueue = queue
        self.changed: Signal = changed

    @property
    def mode(self) -> RxMode:
        """How to wait: "interrupt", "polling" or "adaptive". It can be changed at any time.

        "interrupt", the default: the loop watches the queue's descriptor. "polling": a busy loop that yields to other
        tasks; the peer is told not to signal. "adaptive": polls for 50 µs, then sleeps.
        """
        return self.sync.mode

    @mode.setter
    def mode(self, value: RxMode) -> None:
        self.sync.mode = value

    async def recv(self, count: int = 256, timeout: float | None = None) -> Burst:
        """Receive up to `count` packets.

        Waits until at least one packet is there. A call that is cancelled has taken no packet.

        Args:
            count: The most packets to take, 1 to 16384.
            timeout: Seconds to wait; 0 does not wait, None waits for ever.

        Returns:
            The burst; empty after the timeout. Release it, best by a ``with`` block.

        Raises:
            MemifDisconnectedError: The link is down or goes down.
            MemifClosedError: The interface was closed.
            MemifStateError: Another task uses the queue.
            MemifBufferError: Unreleased bursts hold all slots of the ring, so that nothing can arrive.
            MemifValueError: An argument is out of range.
        """
        return await self._take(timeout, lambda: self.sync.recv(count, 0))

    async def recv_packet(self, timeout: float | None = None) -> bytes | None:
        """Receive one packet, copied; None when the time is over. See `memif.RxQueue.recv_packet`.

        A call that is cancelled has taken no packet, here and in the calls below.
        """
        return await self._take(timeout, lambda: self.sync.recv_packet(0))

    async def recv_list(self, count: int = 256, timeout: float | None = None) -> list[bytes]:
        """Receive up to `count` packets, copied; none when the time is over. See `memif.RxQueue.recv_list`."""
        return await self._take(timeout, lambda: self.sync.recv_list(count, 0))

    async def recv_array(
        self, width: int, count: int = 256, timeout: float | None = None
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
        """Receive up to `count` packets into a matrix, and their lengths. See `memif.RxQueue.recv_array`."""
        return await self._take(timeout, lambda: self.sync.recv_array(width, count, 0), lambda got: len(got[1]))

    async def recv_into(
        self, matrix: Buffer | NDArray[np.uint8], lengths: Buffer | NDArray[np.uint32], timeout: float | None = None
    ) -> int:
        """Receive into a matrix and an array, and return how many packets came. See `memif.RxQueue.recv_into`."""
        return await self._take(timeout, lambda: self.sync.recv_into(matrix, lengths, 0))

    async def _take(self, timeout: float | None, take: Callable[[], _T], found: Callable[[_T], object] = bool) -> _T:
        """What `take` gives, as soon as it has `found` something or the time is over."""
        self._check_alone()
        deadline = Deadline(timeout)
        self._busy = True
        try:
            await self._turns.give()
            ring = self.sync.ring
            got = take()
            while not found(got) and await self._sleep(deadline):
                self._check_link(ring)
                got = take()
            return got
        finally:
            self._busy = False

    def recv_nowait(self, count: int = 256) -> Burst:
        """Receive up to `count` packets without waiting, for callbacks; see `recv`. The burst may be empty."""
        self._check_alone()
        return self.sync.recv(count, 0)

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait until a packet is there. Takes nothing from the queue.

        Args:
            timeout: Seconds to wait; 0 does not wait, None waits for ever.

        Returns:
            True when a packet is there, False after the timeout.

        Raises:
            MemifError: The errors of `recv`.
        """
        self._check_alone()
        deadline = Deadline(timeout)
        self._busy = True
        try:
            await self._turns.give()
            ring = self.sync.ring
            while not self.sync.wait(0):
                if not await self._sleep(deadline):
                    return False
                self._check_link(ring)
            return True
        finally:
            self._busy = False

    async def _sleep(self, deadline: Deadline) -> bool:
        """Return True when there may be packets, False after the timeout."""
        left = deadline.left(LONGEST_SLEEP)
        if left <= 0:
            return False
        mode = self.sync.mode
        if mode == "polling":
            await asyncio.sleep(0)
        elif mode == "interrupt" or not await self._spin(min(left, _ADAPTIVE_SPIN)):
            await self._nap(left)
        return True

    async def _spin(self, time_left: float) -> bool:
        end = time.monotonic() + time_left
        while not (found := self.sync.wait(0)) and time.monotonic() < end:
            await asyncio.sleep(0)
        return found

    async def _nap(self, timeout: float) -> None:
        """Ask the peer for interrupts and wait for one."""
        # The ring owns the descriptor. This reference keeps it open while the loop watches it, even if the link ends.
        ring = self.sync.ring
        try:
            if not self.sync.arm() and ring is not None:
                await self.changed.wait(timeout, ring.event_fd)
        finally:
            self.sync.disarm()

    def _has_rest(self) -> bool:
        return self.sync.leftover()

    def __aiter__(self) -> _Bursts:
        return _Bursts(self)


class _Bursts(Single):
    """Iterator over a queue. An async generator left by ``break`` would keep its burst until the loop ends."""

    __slots__ = ("_burst", "_queue")

    def __init__(self, queue: RxQueue) -> None:
        self._queue = queue
        self._burst: Burst | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Burst:
        self._release()
        try:
            self._burst = await self._queue.recv()
        except (MemifDisconnectedError, MemifClosedError):
            raise StopAsyncIteration from None
        return self._burst

    def _release(self) -> None:
        burst, self._burst = self._burst, None
        if burst is not None:
            burst.release()

    def __del__(self) -> None:
        self._release()


#: Methods of the sync queue that never wait. They are used here unchanged.
_DIRECT: Final = {
    "send": "Copy packets into the ring and return how many were accepted; see `memif.TxQueue.send`.",
    "send_packet": "Copy one packet into the ring and return whether it was accepted; see `memif.TxQueue.send_packet`.",
    "send_array": "Send the rows of a matrix and return how many were accepted; see `memif.TxQueue.send_array`.",
    "forward": "Send a received burst and return the packets sent; see `memif.TxQueue.forward`.",
    "alloc": "Return a burst of empty packets to write in place; see `memif.TxQueue.alloc`.",
    "free": "Return the slots that can be filled now; see `memif.TxQueue.free`.",
}


class TxQueue(_Queue):
    """Sends packets to the peer. One task at a time may use a queue.

    `send`, `send_packet`, `send_array`, `forward`, `alloc` and `free` are those of the sync queue and never wait.
    `send_all` and `forward_all` wait for free slots. memif has no signal for free slots, so they poll, with pauses that
    grow from 10 µs to 1 ms while nothing moves.

    Attributes:
        sync: The queue of the sync API behind this one.
    """

    __slots__ = {**_DIRECT, "sync": "The queue of the sync API behind this one."}

    def __init__(self, loop: asyncio.AbstractEventLoop, queue: SyncTxQueue) -> None:
        """For `Interface` only."""
        super().__init__(loop)
        self.sync: SyncTxQueue = queue
        for name in _DIRECT:
            setattr(self, name, getattr(queue, name))

    if TYPE_CHECKING:  # at run time these are the methods of the sync queue, with no call in between

        def send(self, packets: Iterable[Buffer | NDArray[np.uint8]]) -> int:
            """Copy packets into the ring and return how many were accepted; see `memif.TxQueue.send`."""
            raise NotImplementedError

        def send_packet(self, data: Buffer | NDArray[np.uint8]) -> bool:
            """Copy one packet into the ring and return whether it was accepted. See `memif.TxQueue.send_packet`."""
            raise NotImplementedError

        def send_array(
            self, matrix: Buffer | NDArray[np.uint8], lengths: NDArray[np.integer] | Sequence[int] | None = None
        ) -> int:
            """Send the rows of a matrix and return how many were accepted; see `memif.TxQueue.send_array`."""
            raise NotImplementedError

        def forward(
            self,
            burst: Burst,
            *,
            start: int | None = 0,
            stop: int | None = None,
            select: Buffer | NDArray[np.bool] | None = None,
            copy: bool = False,
        ) -> int:
            """Send a received burst, without a copy where possible; see `memif.TxQueue.forward`."""
            raise NotImplementedError

        def alloc(self, count: int, size: int | None = None) -> Burst:
            """Return a burst of empty packets to write in place; see `memif.TxQueue.alloc`."""
            raise NotImplementedError

        def free(self) -> int:
            """Return the slots that can be filled now; see `memif.TxQueue.free`."""
            raise NotImplementedError

    async def send_all(
        self,
        packets: Iterable[Buffer | NDArray[np.uint8]] | NDArray[np.uint8],
        lengths: NDArray[np.integer] | Sequence[int] | None = None,
        *,
        timeout: float | None = None,
    ) -> int:
        """Send all packets, waiting while the ring is full.

        A call that is cancelled has sent whole packets, from the first on; `stats` says how many.

        Args:
            packets: Bytes-like objects from any iterable, taken from it as they can be sent, at most 256 ahead; or a
                uint8 matrix as in `memif.TxQueue.send_array`.
            lengths: The bytes of each packet, with a matrix only.
            timeout: Seconds to wait in all; None waits for ever.

        Returns:
            The number of packets sent; fewer than all after the timeout.

        Raises:
            MemifStateError: Another task uses the queue.
            MemifError: The errors of `memif.TxQueue.send_all`. Packets before an invalid one may have been sent.
        """
        return await self._alone(self._run(feeding.sending(self.sync, packets, lengths), Deadline(timeout)))

    async def forward_all(
        self, burst: Burst, *, start: int | None = 0, stop: int | None = None, timeout: float | None = None
    ) -> int:
        """Send all packets of a received burst, waiting while the ring is full.

        Args:
            burst: A received burst.
            start: The first packet to send, as in a slice.
            stop: The end of the packets to send, as in a slice; None is the end of the burst.
            timeout: Seconds to wait in all; None waits for ever.

        Returns:
            The number of packets sent; fewer than all after the timeout.

        Raises:
            MemifStateError: Another task uses the queue.
            MemifError: The errors of `memif.TxQueue.forward`.
        """
        return await self._alone(self._run(feeding.forwarding(self.sync, burst, start, stop), Deadline(timeout)))

    async def drain(self, timeout: float | None = None) -> bool:
        """Wait until the peer has taken all packets sent; see `memif.TxQueue.drain`.

        Args:
            timeout: Seconds to wait; 0 does not wait, None waits for ever.

        Returns:
            True when it has, False after the timeout.

        Raises:
            MemifDisconnectedError: The link is down or goes down.
            MemifStateError: Another task uses the queue.
        """
        deadline = Deadline(timeout)
        return self.sync.untouched() or await self.wait_free(self.size, deadline.rest())

    async def wait_free(self, count: int = 1, timeout: float | None = None) -> bool:
        """Wait until slots are free.

        Args:
            count: The slots wanted, 1 to the ring's size.
            timeout: Seconds to wait; 0 does not wait, None waits for ever.

        Returns:
            True when they are, False after the timeout.

        Raises:
            MemifDisconnectedError: The link is down or goes down.
            MemifStateError: Another task uses the queue.
            MemifValueError: An argument is out of range.
        """
        self.sync.free()  # raises while the link is down
        if not 1 <= count <= self.size:
            raise MemifValueError.argument("count", count, f"1 to {self.size}")
        return bool(await self._alone(self._room(Deadline(timeout), count)))

    async def _alone(self, work: Coroutine[Any, Any, int]) -> int:
        """Do `work` as the only task on this queue."""
        try:
            self._check_alone()
        except BaseException:
            work.close()
            raise
        self._busy = True
        try:
            return await work
        finally:
            self._busy = False

    async def _run(self, steps: feeding.SlotRequests, deadline: Deadline) -> int:
        """Run the steps and return the packets sent."""
        try:
            wanted = next(steps)
            while True:
                wanted = steps.send(await self._room(deadline, wanted))
        except StopIteration as end:
            return int(end.value)

    async def _room(self, deadline: Deadline, wanted: int = 1) -> int:
        """Wait for at least `wanted` free slots and return how many are free; 0 after the timeout."""
        await self._turns.give()
        ring = self.sync.ring
        length = FIRST_PAUSE
        while (room := self.sync.free()) < wanted:
            left = deadline.left(length)
            if left <= 0:
                return 0
            await pause(self._loop, left)
            self._check_link(ring)
            length = min(2 * length, LONGEST_PAUSE)
        return room


@contextlib.contextmanager
def alone(queues: Sequence[RxQueue]) -> Iterator[None]:
    """Reserve the queues for the current task."""
    held = set(queues)
    for queue in held:
        queue._check_alone()
    for queue in held:
        queue._busy = True
    try:
        yield
    finally:
        for queue in held:
            queue._busy = False
