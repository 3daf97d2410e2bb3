"""Two ends of a link, both through the C library's API, polled by the library."""

import contextlib
import ctypes
import functools
import time
from collections.abc import Callable, Iterator
from typing import Any

from memif import libmemif as c
from memif.ring import Ring
from patience import within
from ring import memory

#: As many buffers as any test needs at once.
MANY = 1100


def buffers(count: int = 256) -> list[c.memif_buffer_t]:
    """New buffers."""
    return [c.memif_buffer_t() for _ in range(count)]


@contextlib.contextmanager
def held(ring: Ring) -> Iterator[None]:
    """Keep a ring locked, as a thread in the middle of a call does."""
    lock = ctypes.c_int.from_address(id(ring) + lock_offset())
    assert lock.value == 0
    lock.value = 1
    try:
        yield
    finally:
        lock.value = 0


@functools.cache
def lock_offset() -> int:
    """Where in a ring its lock lies: just before the flag that `Ring.kill` sets."""
    with memory.pair() as (_, slave, _):
        ring = slave.rx_ring
        before = ctypes.string_at(id(ring), Ring.__basicsize__)
        ring.kill()
        after = ctypes.string_at(id(ring), Ring.__basicsize__)
    changed = [i for i, (was, now) in enumerate(zip(before, after, strict=True)) if was != now]
    assert len(changed) == 1, changed
    return changed[0] - ctypes.sizeof(ctypes.c_int)


def poll_until(done: Callable[[], Any], timeout: float = 5.0, sock: Any = None) -> None:
    """Poll events until `done` returns something true; AssertionError after `timeout` seconds."""
    end = time.monotonic() + within(timeout)
    while not done():
        assert time.monotonic() < end, f"still waiting after {timeout} s"
        err = c.memif_poll_event(10) if sock is None else c.memif_poll_event(sock, 10)
        assert err == c.MEMIF_ERR_SUCCESS


class End:
    """A connection with a log of its callbacks. A slave refills its queues when it comes up, as the guide says."""

    def __init__(
        self, path: str | None, *, headroom: int = 0, refill: bool = True, interrupts: bool = False, **args: Any
    ) -> None:
        self.events: list[str] = []
        self.interrupts: list[int] = []
        self._refill, self._headroom = refill, headroom
        settings = c.memif_conn_args_t(socket_filename=path, **args)
        on_interrupt = self._interrupted if interrupts else None
        err, self.conn = c.memif_create(settings, self._connected, self._disconnected, on_interrupt, self)
        assert err == c.MEMIF_ERR_SUCCESS, repr(err)

    def _connected(self, conn: c.memif_conn_handle_t, ctx: Any) -> int:
        assert conn is self.conn
        assert ctx is self
        self.events.append("up")
        err, md = c.memif_get_details(conn)
        assert err == 0
        for queue in md.rx_queues if self._refill else ():
            assert c.memif_refill_queue(conn, queue.qid, 0xFFFF, self._headroom) == c.MEMIF_ERR_SUCCESS
        return 0

    def _disconnected(self, conn: c.memif_conn_handle_t, ctx: Any) -> int:
        assert conn is self.conn
        assert ctx is self
        self.events.append("down")
        return 0

    def _interrupted(self, conn: c.memif_conn_handle_t, ctx: Any, qid: int) -> int:
        assert conn is self.conn
        assert ctx is self
        self.interrupts.append(qid)
        return 0

    @property
    def up(self) -> bool:
        """Whether the link is up, by the callbacks."""
        return bool(self.events) and self.events[-1] == "up"

    def send(self, *packets: bytes, qid: int = 0) -> int:
        """Allocate, fill and send one buffer a packet. -> how many were sent."""
        bufs = buffers(len(packets))
        err, n = c.memif_buffer_alloc(self.conn, qid, bufs, len(packets))
        assert err in (c.MEMIF_ERR_SUCCESS, c.MEMIF_ERR_NOBUF_RING)
        for buf, packet in zip(bufs[:n], packets, strict=False):
            buf.data[: len(packet)] = packet
            buf.len = len(packet)
        err, sent = c.memif_tx_burst(self.conn, qid, bufs, n)
        assert (err, sent) == (c.MEMIF_ERR_SUCCESS, n)
        return sent

    def receive(self, count: int, qid: int = 0, *, refill: bool = True) -> list[bytes]:
        """Receive up to `count` buffers that are there already, and give them back."""
        bufs = buffers(count)
        err, n = c.memif_rx_burst(self.conn, qid, bufs, count)
        assert err in (c.MEMIF_ERR_SUCCESS, c.MEMIF_ERR_NOBUF)
        data = [bytes(buf.data) for buf in bufs[:n]]
        if refill:
            assert c.memif_refill_queue(self.conn, qid, n) == c.MEMIF_ERR_SUCCESS
        return data


@contextlib.contextmanager
def initialised(*args: Any) -> Iterator[None]:
    """Context: between memif_init and memif_cleanup."""
    assert c.memif_init(*(args or (None, "test"))) == c.MEMIF_ERR_SUCCESS
    try:
        yield
    finally:
        assert c.memif_cleanup() == c.MEMIF_ERR_SUCCESS


@contextlib.contextmanager
def pair(
    path: str, *, master: dict[str, Any] | None = None, slave: dict[str, Any] | None = None, **both: Any
) -> Iterator[tuple[End, End]]:
    """Context: (master, slave), linked."""
    with initialised():
        server = End(path, is_master=1, **both, **(master or {}))
        client = End(path, is_master=0, **both, **(slave or {}))
        poll_until(lambda: server.up and client.up)
        yield server, client
