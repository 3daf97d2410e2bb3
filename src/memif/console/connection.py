"""An interface of an example program: its handle, address, counters and buffers."""

import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from memif.libmemif import (
    MEMIF_ERR_SUCCESS,
    memif_buffers,
    memif_conn_args_t,
    memif_conn_handle_t,
    memif_create,
    memif_delete,
    memif_details_t,
    memif_get_details,
    memif_refill_queue,
    memif_strerror,
)

#: Buffers that one call receives or sends.
BURST = 256
#: The C example's MAC address: six letters.
MAC = b"aaaaaa"
#: For a refill: as many buffers as possible.
ALL = 0xFFFF

_print_lock = threading.Lock()
_prompt = ""


@contextmanager
def prompted(prompt: str) -> Iterator[None]:
    """Context in which somebody types behind `prompt` on the terminal: what is said goes below, with a new prompt."""
    global _prompt
    _prompt = prompt
    try:
        yield
    finally:
        _prompt = ""


def say(text: str) -> None:
    """Print a line at once, whole, whatever other threads print."""
    with _print_lock:
        start = "\n" if _prompt else ""
        sys.stdout.write(f"{start}{text}\n{_prompt}")  # in one piece, also for a reader of the output
        sys.stdout.flush()


def info(text: str) -> None:
    """Print a message in the C example's manner."""
    say(f"INFO: {text}")


class MemifConnection:
    """One interface. Its callbacks run in the thread that handles the control descriptors.

    Attributes:
        index: The slot in the console's table.
        ip: Own IPv4 address, 4 bytes.
        mac: Own MAC address, 6 bytes.
        headroom: Bytes to leave free in front of received packets (slave).
        conn: The library's handle; None before `create`.
        handler: ``f(connection, qid)``, called when packets wait; None: nothing is received.
        up: Whether the link is up.
        queues: Receive and transmit queues.
        partial: By receive queue, the start of a packet whose rest has not come yet.
        tx_lock: Held from allocating to sending, as allocated buffers have to be sent in order.
        rx: Buffers received.
        tx: Buffers sent.
        tx_err: Answers for which there was no room.
        ts: Nanoseconds that the last `send` took.
    """

    def __init__(self, index: int = 0, ip: bytes | None = None, mac: bytes = MAC, *, headroom: int = 0) -> None:
        self.index = index
        self.ip: bytes = bytes((192, 168, (index + 1) & 0xFF, 2)) if ip is None else ip
        self.mac = mac
        self.headroom = headroom
        self.conn: memif_conn_handle_t | None = None
        self.handler: Callable[[MemifConnection, int], None] | None = None
        self.up: bool = False
        self.queues: tuple[int, int] = (0, 0)
        self.partial: dict[int, bytearray] = {}
        self.clear()
        self.tx_lock: threading.Lock = threading.Lock()
        self.new_buffers()

    def clear(self) -> None:
        """Zero the counters."""
        self.rx = self.tx = self.tx_err = self.ts = 0

    def new_buffers(self) -> None:
        """Replace the buffers; the old ones would keep the memory of the link that has ended."""
        self.rx_bufs: memif_buffers = memif_buffers(BURST)
        self.tx_bufs: memif_buffers = memif_buffers(BURST)

    def create(self, args: memif_conn_args_t, handler: "Callable[[MemifConnection, int], None] | None") -> int:
        """Create the interface and return the library's code; without a handler the caller has to receive itself."""
        self.handler = handler
        on_interrupt = None if handler is None else self.on_interrupt
        err, conn = memif_create(args, self.on_connect, self.on_disconnect, on_interrupt, self, conn=self.conn)
        if err == MEMIF_ERR_SUCCESS:
            self.conn = conn
        return err

    def delete(self) -> int:
        """Disconnect and delete the interface; return the library's code."""
        conn, self.conn = self.conn, None
        return memif_delete(conn)  # type: ignore[arg-type]

    # -- callbacks

    def on_connect(self, conn: memif_conn_handle_t, ctx: Any) -> int:
        """The link is up: offer all buffers to the peer."""
        self.conn = conn
        self.partial.clear()
        _, details = memif_get_details(conn)
        self.queues = details.rx_queues_num, details.tx_queues_num
        info(self.connected_text())
        for qid in range(self.queues[0]):
            err = memif_refill_queue(conn, qid, ALL, self.headroom if details.role else 0)
            if err != MEMIF_ERR_SUCCESS:
                info(f"memif_refill_queue: {memif_strerror(err)}")
        self.up = True
        return 0

    def connected_text(self) -> str:
        """Return the message for a link that comes up."""
        return "memif connected!"

    def on_disconnect(self, conn: memif_conn_handle_t, ctx: Any) -> int:
        """The link has ended, or the master has refused us. As in 2.0, deleting a link that is down is silent."""
        told, self.up = self.up or self.conn is not None, False
        self.new_buffers()
        if told:
            info("memif disconnected!")
        return 0

    def on_interrupt(self, conn: memif_conn_handle_t, _: Any, qid: int) -> int:
        """Packets wait on a queue."""
        if self.handler is not None:
            self.handler(self, qid)
        return 0

    def queue_lines(self, qid: int) -> Iterable[str]:
        """Return further lines of `show` about receive queue `qid`."""
        return ()

    def region_lines(self, md: memif_details_t) -> Iterable[str]:
        """Return the lines of `show` about the memory regions; most programs print none."""
        return ()

    def tx_qid(self, qid: int) -> int:
        """Return the transmit queue for answers to packets of receive queue `qid`."""
        return qid % (self.queues[1] or 1)
