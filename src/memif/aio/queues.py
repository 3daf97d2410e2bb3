"""RxQueue and TxQueue of the asyncio API: the sync queues, waiting through the event loop.

What makes cancellation safe: packets are taken from the ring in the last step of `recv`, behind which there is
no await, and `send_all` awaits only between calls that have published whole packets. A task that is cancelled
or times out while it waits has therefore taken nothing and left nothing half done.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Self

from memif.aio.waiting import FIRST_PAUSE, LONGEST_PAUSE, LONGEST_SLEEP, Signal, Turns, pause
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
        """Queue id."""
        return self.sync.index

    @property
    def stats(self) -> QueueStats:
        """Counters by name."""
        return self.sync.stats

    @property
    def size(self) -> int:
        """Slots of the present connection's ring, which the slave has chosen; 0 while the link is down."""
        return self.sync.size

    @property
    def ring(self) -> RxRing | TxRing | None:
        """The ring of the present connection, or None while the link is down."""
        return self.sync.ring

    def _check_alone(self) -> None:
        if self._busy:
            raise MemifStateError(f"queue {self.index} is in use by another task: one task at a time")

    def _check_link(self, ring: RxRing | TxRing | None) -> None:
        """A wait ends with the link it began on, also when the next one is up already."""
        if self.sync.ring is not ring and not self._has_rest():
            raise self.sync.owner.down()

    def _has_rest(self) -> bool:
        """Whether packets are left that the peer sent before it left."""
        return False

    def __repr__(self) -> str:
        return f"<aio {self.sync!r}>"


class RxQueue(_Queue):
    """Receives packets from the peer. One task at a time; different queues may be served by different tasks.

    ``async for burst in queue`` gives bursts of up to 256 packets. Each is released when the next is asked for. It ends
    when the link goes down or the interface is closed.
    """

    __slots__ = ("changed", "sync")

    def __init__(self, loop: asyncio.AbstractEventLoop, queue: SyncRxQueue, changed: Signal) -> None:
        """For `Interface` only."""
        super().__init__(loop)
        #: The queue of the sync API.
        self.sync: SyncRxQueue = queue
        #: Set when something may have happened to the link.
        self.changed: Signal = changed

    @property
    def mode(self) -> RxMode:
        """How to wait: "interrupt", "polling" or "adaptive".

        "interrupt", the default, lets the loop watch the queue's descriptor. "polling" is a busy loop that gives other
        tasks their turn; the peer is told not to signal. "adaptive" polls for 50 µs, then sleeps. It can be changed at
        any time.
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
            timeout: Seconds to wait; None waits for ever, 0 does not wait.

        Returns:
            The burst, to be released, best by a ``with`` block; an empty one when the time is over.

        Raises:
            MemifDisconnectedError: The link is or goes down.
            MemifClosedError: The interface is closed.
            MemifStateError: Another task waits on this queue.
            MemifValueError: An argument is outside its range.
        """
        self._check_alone()
        deadline = Deadline(timeout)
        self._busy = True
        try:
            await self._turns.give()
            ring = self.sync.ring
            burst = self.sync.recv(count, 0)
            while not burst and await self._sleep(deadline):
                self._check_link(ring)
                burst = self.sync.recv(count, 0)
            return burst
        finally:
            self._busy = False

    def recv_nowait(self, count: int = 256) -> Burst:
        """`recv` for callbacks: what is there now, maybe an empty burst. Errors as in `recv`."""
        self._check_alone()
        return self.sync.recv(count, 0)

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait until a packet is there. Takes nothing.

        Args:
            timeout: Seconds to wait; None waits for ever, 0 does not wait.

        Returns:
            Whether one is there.

        Raises:
            MemifError: As for `recv`.
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
        """Return True when there may be something, False when the time was over before."""
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
        """Ask for interrupts, and wait for one."""
        # The ring owns the descriptor. Held here, it stays open for as long as the loop watches it, whatever
        # becomes of the link.
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
    """Iterates over a queue. A class, as an async generator left by ``break`` would keep its burst until the
    loop ends."""

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


#: Methods of the sync queue that never wait, so that they are the same here.
_DIRECT: Final = {
    "send": "`memif.TxQueue.send`: copy packets into the ring. -> packets accepted; never waits.",
    "send_array": "`memif.TxQueue.send_array`: the rows of a matrix. -> packets accepted; never waits.",
    "forward": "`memif.TxQueue.forward`: a received burst, without a copy where possible. -> packets sent.",
    "alloc": "`memif.TxQueue.alloc`: empty packets to write in place. -> Burst; never waits.",
    "free": "`memif.TxQueue.free`: slots that can be filled now.",
}


class TxQueue(_Queue):
    """Sends packets to the peer. One task at a time; different queues may be served by different tasks.

    `send`, `send_array`, `forward`, `alloc` and `free` are those of the sync queue: they never wait. `send_all` and
    `forward_all` wait for free slots. Nothing in memif signals free slots, so they look again after pauses, which grow
    from 10 µs to 1 ms while nothing moves.
    """

    __slots__ = {**_DIRECT, "sync": "The queue of the sync API."}

    def __init__(self, loop: asyncio.AbstractEventLoop, queue: SyncTxQueue) -> None:
        """For `Interface` only."""
        super().__init__(loop)
        self.sync: SyncTxQueue = queue
        for name in _DIRECT:
            setattr(self, name, getattr(queue, name))

    if TYPE_CHECKING:  # at run time these are the methods of the sync queue, with no call in between

        def send(self, packets: Iterable[Buffer | NDArray[np.uint8]]) -> int:
            """Copy packets into the ring and return how many it accepted, without waiting. See `memif.TxQueue.send`."""
            raise NotImplementedError

        def send_array(
            self, matrix: Buffer | NDArray[np.uint8], lengths: NDArray[np.integer] | Sequence[int] | None = None
        ) -> int:
            """Send the rows of a matrix and return how many were accepted. See `memif.TxQueue.send_array`."""
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
            """Send a received burst, without a copy where possible, and return how many packets were sent.

            Never waits. See `memif.TxQueue.forward`.
            """
            raise NotImplementedError

        def alloc(self, count: int, size: int | None = None) -> Burst:
            """Reserve packets in the ring, to be written in place. Never waits. See `memif.TxQueue.alloc`."""
            raise NotImplementedError

        def free(self) -> int:
            """Slots that can be filled now."""
            raise NotImplementedError

    async def send_all(
        self,
        packets: Iterable[Buffer | NDArray[np.uint8]] | NDArray[np.uint8],
        lengths: NDArray[np.integer] | Sequence[int] | None = None,
        *,
        timeout: float | None = None,
    ) -> int:
        """Send all packets, and wait while the ring is full.

        A call that is cancelled has sent whole packets, from the first on; the queue's `stats` tell how many.

        Args:
            packets: Bytes-like objects from any iterable, taken from it as they can be sent, at most 256 ahead; or a
                uint8 matrix as in `send_array`.
            lengths: For a matrix: bytes of each row to send.
            timeout: Seconds to wait; None waits for ever.

        Returns:
            The number of packets sent: all, or fewer when the time is over.

        Raises:
            MemifError: As for `send`; packets in front of a bad one may have been sent.
        """
        return await self._alone(self._run(feeding.sending(self.sync, packets, lengths), Deadline(timeout)))

    async def forward_all(
        self, burst: Burst, *, start: int | None = 0, stop: int | None = None, timeout: float | None = None
    ) -> int:
        """Forward all packets of a received burst, and wait while the ring is full.

        Args:
            burst: The burst.
            start: The first packet to send.
            stop: The packet to stop at; None for the end.
            timeout: Seconds to wait; None waits for ever.

        Returns:
            The number of packets sent: all, or fewer when the time is over.
        """
        return await self._alone(self._run(feeding.forwarding(self.sync, burst, start, stop), Deadline(timeout)))

    async def drain(self, timeout: float | None = None) -> bool:
        """Wait until the peer has taken all that was sent. See `memif.TxQueue.drain`.

        Args:
            timeout: Seconds to wait; None waits for ever.

        Returns:
            Whether it has taken all.
        """
        deadline = Deadline(timeout)
        return self.sync.untouched() or await self.wait_free(self.size, deadline.rest())

    async def wait_free(self, count: int = 1, timeout: float | None = None) -> bool:
        """Wait until `count` slots are free.

        Args:
            count: Slots, 1 to the ring's size.
            timeout: Seconds to wait; None waits for ever, 0 does not wait.

        Returns:
            Whether they are free.
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
        """Go through the steps. -> packets sent."""
        try:
            wanted = next(steps)
            while True:
                wanted = steps.send(await self._room(deadline, wanted))
        except StopIteration as end:
            return int(end.value)

    async def _room(self, deadline: Deadline, wanted: int = 1) -> int:
        """-> free slots, once they are `wanted` at least; 0 when the time was over before."""
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
    """Hold the queues as the only task."""
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
