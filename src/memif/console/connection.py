"""An interface of an example program: its handle, address, counters and buffers."""

import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from memif.libmemif import (
    MEMIF_ERR_SUCCESS,
    memif_buffer_t,
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
#: refill: as many buffers as possible.
ALL = 0xFFFF

_print_lock = threading.Lock()


def say(text: str) -> None:
    """Print a line at once, whole, whatever other threads print."""
    with _print_lock:
        sys.stdout.write(f"{text}\n")  # one piece, also for who reads along
        sys.stdout.flush()


def info(text: str) -> None:
    """Print a message in the C example's manner."""
    say(f"INFO: {text}")


class MemifConnection:
    """One interface. Its callbacks run in the thread that handles the control descriptors.

    index       the slot in the console's table
    ip, mac     own addresses, 4 and 6 bytes
    handler     ``f(connection, qid)``, called when packets wait
    headroom    bytes that are left free in front of received packets (slave)
    rx, tx      buffers received and sent; tx_err: answers that found no room; ts: nanoseconds that the last `send` took
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
        #: By receive queue: the start of a packet whose rest has not come yet.
        self.partial: dict[int, bytearray] = {}
        self.clear()
        #: Held from allocating to sending: allocated buffers have to be sent in order.
        self.tx_lock: threading.Lock = threading.Lock()
        self.new_buffers()

    def clear(self) -> None:
        """Zero the counters."""
        self.rx = self.tx = self.tx_err = self.ts = 0

    def new_buffers(self) -> None:
        """Take new buffers; the old ones would keep the memory of a link that has gone."""
        self.rx_bufs: list[memif_buffer_t] = [memif_buffer_t() for _ in range(BURST)]
        self.tx_bufs: list[memif_buffer_t] = [memif_buffer_t() for _ in range(BURST)]

    def create(self, args: memif_conn_args_t, handler: "Callable[[MemifConnection, int], None] | None") -> int:
        """Create the interface; without a handler nothing is received but by the caller's own doing. -> code."""
        self.handler = handler
        on_interrupt = None if handler is None else self.on_interrupt
        err, conn = memif_create(args, self.on_connect, self.on_disconnect, on_interrupt, self, conn=self.conn)
        if err == MEMIF_ERR_SUCCESS:
            self.conn = conn
        return err

    def delete(self) -> int:
        """Disconnect and delete the interface. -> code."""
        conn, self.conn = self.conn, None
        return memif_delete(conn)  # type: ignore[arg-type]

    # -- callbacks

    def on_connect(self, conn: memif_conn_handle_t, ctx: Any) -> int:
        """The link is up: let the peer have all buffers."""
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
        """What is said when the link comes up."""
        return "memif connected!"

    def on_disconnect(self, conn: memif_conn_handle_t, ctx: Any) -> int:
        """The link has gone, or the master has refused us. As in 2.0, not told when a link is deleted that was down."""
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
        """What `show` says of receive queue `qid` beyond the usual."""
        return ()

    def region_lines(self, md: memif_details_t) -> Iterable[str]:
        """What `show` says of the memory regions; most programs nothing."""
        return ()

    def tx_qid(self, qid: int) -> int:
        """The transmit queue that answers what came from receive queue `qid`."""
        return qid % (self.queues[1] or 1)
