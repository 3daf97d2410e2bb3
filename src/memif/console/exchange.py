"""Receive, answer, transmit, and `EchoSender`: what the examples do with packets.

The functions take a `MemifConnection` and a receive queue; they handle some bursts and return, so that a flood on one
interface leaves time for the others: what still waits raises the next interrupt.
"""

import threading
import time
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import ClassVar

from memif import icmp
from memif.console.connection import BURST, MemifConnection, info, say
from memif.libmemif import (
    MEMIF_BUFFER_FLAG_NEXT,
    MEMIF_ERR_AGAIN,
    MEMIF_ERR_DISCONNECTED,
    MEMIF_ERR_NOBUF,
    MEMIF_ERR_NOBUF_RING,
    MEMIF_ERR_NOCONN,
    MEMIF_ERR_SUCCESS,
    memif_buffer_alloc,
    memif_buffer_enq_tx,
    memif_buffer_t,
    memif_buffers,
    memif_refill_queue,
    memif_rx_burst,
    memif_set_next_free_buffer,
    memif_strerror,
    memif_tx_burst,
)

#: Bursts that one call handles.
_TURNS = 16
#: Seconds without progress after which a full ring is given up.
_PATIENCE = 1.0
#: Bytes that are kept of a chained packet whose end does not come.
_LONGEST = 65536
#: Packets that an `EchoSender` makes ahead; sequence numbers start again after so many.
_PREPARED = 1 << 16
#: Seconds to wait when the ring is full.
_PAUSE = 20e-6


def respond(c: MemifConnection, qid: int) -> None:
    """Answer ARP and echo requests; answers that the ring has no room for are dropped and counted."""
    receive(c, qid, lambda n: _reply(c, qid, n, 0.0, arp_only=False))


def respond_all(c: MemifConnection, qid: int) -> None:
    """The same, but wait for room in the ring, and so drop nothing."""
    receive(c, qid, lambda n: _reply(c, qid, n, _PATIENCE, arp_only=False))


def respond_arp(c: MemifConnection, qid: int) -> None:
    """Answer ARP only."""
    receive(c, qid, lambda n: _reply(c, qid, n, 0.0, arp_only=True))


def receive(c: MemifConnection, qid: int, handle: Callable[[int], None]) -> None:
    """Receive bursts into `c.rx_bufs`, call `handle` with the number of buffers of each, then refill the queue."""
    assert c.conn is not None
    for _ in range(_TURNS):
        err, n = memif_rx_burst(c.conn, qid, c.rx_bufs, BURST)
        if err not in (MEMIF_ERR_SUCCESS, MEMIF_ERR_NOBUF):
            trouble("memif_rx_burst", err)
            return
        c.rx += n
        if n:
            handle(n)
            trouble("memif_refill_queue", memif_refill_queue(c.conn, qid, n, c.headroom))
        if err == MEMIF_ERR_SUCCESS:
            return


def trouble(function: str, err: int) -> bool:
    """Return whether `function` failed, and print its error, unless the link has ended: that is printed elsewhere."""
    if err == MEMIF_ERR_SUCCESS:
        return False
    if err not in (MEMIF_ERR_DISCONNECTED, MEMIF_ERR_NOCONN, MEMIF_ERR_AGAIN):
        info(f"{function}: {memif_strerror(err)}")
    return True


def packets(c: MemifConnection, qid: int, bufs: list[memif_buffer_t] | memif_buffers) -> list[list[memif_buffer_t]]:
    """Group buffers into whole packets, by the flag that says that the next buffer continues the packet.

    A packet that is continued in the next burst is left out of both: changing a packet in place takes all of it.
    """
    found: list[list[memif_buffer_t]] = [[]]
    for buf in bufs:
        found[-1].append(buf)
        if not buf.flags & MEMIF_BUFFER_FLAG_NEXT:
            found.append([])
    rest = found.pop()
    continues = c.partial.pop(qid, None) is not None
    if rest:
        c.partial[qid] = bytearray()
    return found[1:] if continues else found


def frames(c: MemifConnection, qid: int, bufs: list[memif_buffer_t] | memif_buffers) -> list[bytearray]:
    """Return copies of received packets, with chains joined, so that the peer cannot change them any more."""
    if not c.partial and not any(buf.flags & MEMIF_BUFFER_FLAG_NEXT for buf in bufs):
        return [bytearray(buf) for buf in bufs]
    whole, frame = [], c.partial.pop(qid, bytearray())
    for buf in bufs:
        frame += memoryview(buf)
        if not buf.flags & MEMIF_BUFFER_FLAG_NEXT:
            whole.append(frame)
            frame = bytearray()
    if frame:
        c.partial[qid] = frame[:_LONGEST]
    return whole


def _reply(c: MemifConnection, qid: int, n: int, patience: float, *, arp_only: bool) -> None:
    ip, mac, answer = c.ip, c.mac, icmp.answer
    answers = [frame for frame in frames(c, qid, c.rx_bufs[:n]) if answer(frame, ip, mac, arp_only=arp_only)]
    if answers:
        transmit(c, c.tx_qid(qid), answers, patience)


def transmit(c: MemifConnection, qid: int, answers: Sequence[bytearray | bytes], patience: float = 0.0) -> None:
    """Send packets on queue `qid`, and count in `tx_err` those for which there is no room.

    Args:
        c: The interface.
        qid: Transmit queue.
        answers: The packets.
        patience: Seconds without progress after which a full ring is given up.
    """
    with c.tx_lock:
        # Packets of one size share an allocation, and `len` is right without a further word.
        for size, group in groupby(answers, len):
            run = list(group)
            left = _transmit_run(c, qid, run, size, patience)
            c.tx_err += left


def _transmit_run(c: MemifConnection, qid: int, run: list[bytearray | bytes], size: int, patience: float) -> int:
    """Send packets of one size; return how many were not sent."""
    assert c.conn is not None
    done, deadline, bufs = 0, 0.0, c.tx_bufs
    while done < len(run):
        err, n = memif_buffer_alloc(c.conn, qid, bufs, min(len(run) - done, BURST), size)
        if err != MEMIF_ERR_NOBUF_RING and trouble("memif_buffer_alloc", err):
            break
        if n:
            deadline = 0.0
            done += fill(bufs, n, run, done)
            err, sent = memif_tx_burst(c.conn, qid, bufs, n)
            c.tx += sent
            if trouble("memif_tx_burst", err):
                break
        elif not (deadline := _wait(patience, deadline)):
            break
    return len(run) - done


def _wait(patience: float, deadline: float) -> float:
    """Give the peer a moment; return the time at which to give up, 0 for now."""
    now = time.monotonic()
    if not patience or (deadline and now > deadline):
        return 0.0
    time.sleep(_PAUSE)
    return deadline or now + patience


def fill(bufs: memif_buffers, n: int, run: Sequence[bytearray | bytes], start: int) -> int:
    """Write packets into buffers.

    Args:
        bufs: Buffers that were allocated for the packets' size; a packet may take several.
        n: How many buffers.
        run: Packets of that size.
        start: The first packet to write.

    Returns:
        How many packets were written.
    """
    k, at = start, 0
    for i in range(n):
        buf = bufs[i]
        view = memoryview(buf)
        if buf.flags & MEMIF_BUFFER_FLAG_NEXT or at:
            view[:] = run[k][at : at + len(view)]
            at += len(view)
        else:
            view[:] = run[k]
        if not buf.flags & MEMIF_BUFFER_FLAG_NEXT:
            k, at = k + 1, 0
    return k - start


def send_in_place(c: MemifConnection, qid: int, bufs: list[memif_buffer_t] | memif_buffers) -> None:
    """Slave: send received buffers as they are, without a copy; count in `tx_err` those for which there is no room."""
    assert c.conn is not None
    if not bufs:
        return
    with c.tx_lock:
        err, n = memif_buffer_enq_tx(c.conn, qid, bufs, len(bufs))
        if err != MEMIF_ERR_NOBUF_RING and trouble("memif_buffer_enq_tx", err) and not n:
            return
        whole = n
        while whole and bufs[whole - 1].flags & MEMIF_BUFFER_FLAG_NEXT:  # the end of a chain found no room
            whole -= 1
        if whole < n:
            memif_set_next_free_buffer(c.conn, qid, bufs[whole])
        err, sent = memif_tx_burst(c.conn, qid, bufs, whole)
        trouble("memif_tx_burst", err)
        c.tx += sent
        c.tx_err += len(bufs) - sent


class EchoSender(threading.Thread):
    """Sends echo requests on queue 0 of an interface as fast as the ring takes them, and prints how long that took.

    `stop` ends it early. It ends with a message when the interface is deleted.

    Attributes:
        busy: Whether packets may still be sent.
    """

    farewell: ClassVar[str] = "Thread exiting..."

    def __init__(self, c: MemifConnection, count: int, ip: bytes, mac: bytes | None) -> None:
        """Prepare the thread.

        Args:
            c: The interface.
            count: Echo requests to send.
            ip: Destination address, 4 bytes.
            mac: Destination MAC address; None: no Ethernet header.
        """
        super().__init__(name=f"send {c.index}", daemon=True)
        self._c = c
        self._count = count
        self._request = icmp.echo_requests(c.ip, c.mac, ip, mac)
        self._ask = threading.Event()
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
        """Send until done or stopped; return the library's code and the packets sent."""
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
        """Send as many as there is room for; return the library's code and the packets sent."""
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
