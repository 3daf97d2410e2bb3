"""The command `send`: a thread that sends echo requests as fast as the ring takes them."""

import threading
import time
from typing import ClassVar

from memif.console import icmp
from memif.console.answer import fill
from memif.console.connection import BURST, Connection, info, say
from memif.libmemif import MEMIF_ERR_NOBUF_RING, MEMIF_ERR_SUCCESS, memif_buffer_alloc, memif_strerror, memif_tx_burst

#: Packets made ahead; sequence numbers start again after so many.
_PREPARED = 1 << 16
#: Seconds to wait when the ring is full.
_PAUSE = 20e-6


class Sender(threading.Thread):
    """Sends `count` echo requests on queue 0 of a connection, waiting where the ring is full, and prints the figures.

    `stop` ends it early. The connection may go away meanwhile: then it says so and ends.
    """

    farewell: ClassVar[str] = "Thread exiting..."

    def __init__(self, c: Connection, count: int, ip: bytes, mac: bytes | None) -> None:
        """ip, mac: whom to send to; mac None: no Ethernet header."""
        super().__init__(name=f"send {c.index}", daemon=True)
        self._c = c
        self._count = count
        self._request = icmp.echo_requests(c.ip, c.mac, ip, mac)
        self._ask = threading.Event()
        #: Whether packets may still be sent.
        self.busy: bool = True

    def stop(self) -> None:
        """End soon."""
        self._ask.set()

    def run(self) -> None:
        """The thread."""
        start = time.monotonic_ns()
        err, sent = self._send_all()
        self.busy = False
        if err != MEMIF_ERR_SUCCESS:
            info(f"{self.failed}: {memif_strerror(err)} {self.farewell}")
            return
        self._c.ts = time.monotonic_ns() - start
        self._report(sent, self._c.ts)

    def _send_all(self) -> tuple[int, int]:
        """Send until done or told to stop. -> (code, packets sent)."""
        prepared: list[bytes] = []
        sent = 0
        while sent < self._count and not self._ask.is_set():
            at = sent % _PREPARED
            if at == len(prepared):
                prepared += map(self._request, range(at, at + BURST))
            err, n = self._burst(prepared[at : at + min(BURST, self._count - sent)])
            if err != MEMIF_ERR_SUCCESS:
                return err, sent
            sent += n
            if not n:
                time.sleep(_PAUSE)
        return MEMIF_ERR_SUCCESS, sent

    def _burst(self, packets: list[bytes]) -> tuple[int, int]:
        """Send as many as there is room for. -> (code, packets sent)."""
        c, bufs = self._c, self._c.tx_bufs
        self.failed: str = "memif_buffer_alloc"
        with c.tx_lock:
            err, n = memif_buffer_alloc(c.conn, 0, bufs, len(packets), len(packets[0]))  # type: ignore[arg-type]
            if err not in (MEMIF_ERR_SUCCESS, MEMIF_ERR_NOBUF_RING):
                return err, 0
            done = fill(bufs, n, packets, 0)
            self.failed = "memif_tx_burst"
            err, sent = memif_tx_burst(c.conn, 0, bufs, n)  # type: ignore[arg-type]
            c.tx += sent
            return err, done

    def _report(self, sent: int, ns: int) -> None:
        say("\n")
        info("Pakcet sequence finished!")
        info(f"Seq len: {sent}")
        info(f"Seq time: {ns // 10**9}s {ns % 10**9}ns")
        info(f"Average pps: {sent / ns * 1e9 if ns else 0.0:f}")
        info(self.farewell)
