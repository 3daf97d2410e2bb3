"""Receive, refill, allocate, transmit. Thin: the account of buffers is kept by `memif.libmemif._buffers`.

All functions take a connection handle, the number of a queue and a list of `memif_buffer_t` that is at least
`count` long; continue in the middle of a list with a slice (``bufs[n:]``, where C writes ``bufs + n``). One thread
at a time for each queue: a second one gets MEMIF_ERR_AGAIN. They never wait, and never look after the control
channel.
"""

from typing import Any

from memif.libmemif._buffers import memif_buffer_t
from memif.libmemif._receive import RawRx
from memif.libmemif._transmit import RawTx
from memif.libmemif.codes import (
    MEMIF_ERR_DISCONNECTED,
    MEMIF_ERR_INVAL_ARG,
    MEMIF_ERR_NOCONN,
)
from memif.libmemif.core import no_ring
from memif.libmemif.handles import memif_conn_handle_t

__all__ = [
    "memif_buffer_alloc",
    "memif_buffer_enq_tx",
    "memif_buffer_requeue",
    "memif_refill_queue",
    "memif_rx_burst",
    "memif_set_next_free_buffer",
    "memif_tx_burst",
]


# A wrong handle, queue id or argument ends in one of these on the short way to the ring.
_WRONG = (AttributeError, KeyError, TypeError, ValueError, OverflowError)


def _why(conn: object, qid: object, *, rx: bool) -> int:
    """The code for a call that failed on its way: bad handle or queue first, else another argument."""
    rings: Any = (conn.rx if rx else conn.tx) if isinstance(conn, memif_conn_handle_t) else {}
    try:
        if qid in rings:
            return MEMIF_ERR_INVAL_ARG
    except TypeError:
        pass
    return no_ring(conn, rx=rx)


def _broken(conn: memif_conn_handle_t, raw: RawRx | RawTx) -> int:
    """The peer broke the ring: the connection has to go."""
    interface = conn.interface
    if interface is not None:
        interface.broken(raw.ring, "peer broke a ring")
        conn.main.collect()
    return MEMIF_ERR_DISCONNECTED


def memif_rx_burst(conn: memif_conn_handle_t, qid: int, bufs: list[memif_buffer_t], count: int) -> tuple[int, int]:
    """Receive up to `count` buffers of queue `qid` into `bufs`. -> (code, buffers received).

    Each gets `len`, `data` and flags: MEMIF_BUFFER_FLAG_RX, and MEMIF_BUFFER_FLAG_NEXT where the packet goes on in
    the next one. The slots stay yours until `memif_refill_queue`. Descriptors that make no sense are dropped and
    counted.

    Results: MEMIF_ERR_SUCCESS, with 0 buffers when nothing waits; MEMIF_ERR_NOBUF when more waits than `count`: the
    buffers are received all the same, call again; MEMIF_ERR_NOCONN, MEMIF_ERR_DISCONNECTED, MEMIF_ERR_QID,
    MEMIF_ERR_INVAL_ARG (bufs is no list of so many buffers), MEMIF_ERR_AGAIN (another thread is at it).
    """
    try:
        raw = conn.rx[qid]
        result: tuple[int | None, int] = raw.burst(bufs, count)
    except _WRONG:
        return _why(conn, qid, rx=True), 0
    if result[0] is None:
        return _broken(conn, raw), 0
    return result  # type: ignore[return-value]


def memif_refill_queue(conn: memif_conn_handle_t, qid: int, count: int = 0xFFFF, headroom: int = 0) -> int:
    """Give the oldest `count` received buffers of queue `qid` back to the peer. -> code.

    count 0xFFFF or -1 (``(uint16_t) -1``; default) means as many as possible, and a larger count than there are
    buffers too. A slave has to do so for every queue in on_connect: before that the master has nowhere to write.
    headroom (slave only) leaves so many bytes free in front of the data in the buffers given now; they hold that
    much less.

    Results: MEMIF_ERR_SUCCESS, MEMIF_ERR_NOCONN, MEMIF_ERR_DISCONNECTED, MEMIF_ERR_QID, MEMIF_ERR_AGAIN,
    MEMIF_ERR_INVAL_ARG (count outside 16 bits; headroom not below the buffer size).
    """
    try:
        return conn.rx[qid].refill(count, headroom)
    except _WRONG:
        return _why(conn, qid, rx=True)


def memif_buffer_alloc(
    conn: memif_conn_handle_t, qid: int, bufs: list[memif_buffer_t], count: int, size: int | None = None
) -> tuple[int, int]:
    """Get free buffers of transmit queue `qid` for `count` packets of `size` bytes. -> (code, buffers allocated).

    size None (default) or 0 is one whole buffer a packet. A larger size than the buffer's takes chains: several
    entries of bufs, which needs to be so much longer than `count`, all but the last with MEMIF_BUFFER_FLAG_NEXT;
    the result counts buffers. `len` is what each was allocated for, `data` shows the whole room. Allocate as often
    as you like before `memif_tx_burst`. On a slave each starts at the buffer's start again, whatever headroom it
    was received with.

    Results: MEMIF_ERR_SUCCESS; MEMIF_ERR_NOBUF_RING when the ring, or bufs, is full: those that fit are allocated,
    maybe 0, never part of a chain; MEMIF_ERR_NOCONN, MEMIF_ERR_DISCONNECTED, MEMIF_ERR_QID, MEMIF_ERR_AGAIN,
    MEMIF_ERR_INVAL_ARG (bufs; a size above 65536, or that the whole ring could not hold).
    """
    try:
        raw = conn.tx[qid]
        result: tuple[int | None, int] = raw.alloc(bufs, count, 0 if size is None else size)
    except _WRONG:
        return _why(conn, qid, rx=False), 0
    if result[0] is None:
        return _broken(conn, raw), 0
    return result  # type: ignore[return-value]


def memif_tx_burst(conn: memif_conn_handle_t, qid: int, bufs: list[memif_buffer_t], count: int) -> tuple[int, int]:
    """Send the first `count` of `bufs`, and signal the peer if it wants that. -> (code, buffers sent).

    They must be the oldest that were allocated (or enqueued) on this queue and not sent yet, in that order; it need
    not be all of them. A packet of `len` bytes is sent from each; with MEMIF_BUFFER_FLAG_NEXT in flags it goes on
    in the next one. Sent buffers belong to the peer.

    Results: MEMIF_ERR_SUCCESS; MEMIF_ERR_INVAL_ARG when a buffer is out of order, not of this queue, sent already,
    or has a `len` of 0 or beyond its room, or when a chain's end is missing: the whole packets before that are sent
    and counted; MEMIF_ERR_NOCONN, MEMIF_ERR_DISCONNECTED, MEMIF_ERR_QID, MEMIF_ERR_AGAIN.
    """
    try:
        raw = conn.tx[qid]
        result: tuple[int | None, int] = raw.burst(bufs, count)
    except _WRONG:
        return _why(conn, qid, rx=False), 0
    if result[0] is None:
        return _broken(conn, raw), result[1]
    return result  # type: ignore[return-value]


def memif_buffer_enq_tx(conn: memif_conn_handle_t, qid: int, bufs: list[memif_buffer_t], count: int) -> tuple[int, int]:
    """Slave: put received buffers into transmit queue `qid` as they are, without a copy. -> (code, buffers enqueued).

    Each changes places with a free buffer of the ring, which takes the received one's slot: refill the receive queue as
    always. Afterwards they are like allocated ones: write into them, set `len`, send them in this order by
    `memif_tx_burst`. Room in front of the data, left by `memif_refill_queue`, can be taken by
    ``buffer.prepend(n)``.

    Results: MEMIF_ERR_SUCCESS; MEMIF_ERR_NOBUF_RING when the ring is full, with those that fitted counted;
    MEMIF_ERR_INVAL_ARG for a master, or from the first buffer on that is not a received one of this connection or was
    refilled, those before it counted; MEMIF_ERR_NOCONN, MEMIF_ERR_DISCONNECTED, MEMIF_ERR_QID, MEMIF_ERR_AGAIN.
    """
    try:
        raw = conn.tx[qid]
        result: tuple[int | None, int] = raw.enqueue(bufs, count)
    except _WRONG:
        return _why(conn, qid, rx=False), 0
    if result[0] is None:
        return _broken(conn, raw), result[1]
    return result  # type: ignore[return-value]


def memif_set_next_free_buffer(conn: memif_conn_handle_t, qid: int, buf: memif_buffer_t) -> int:
    """Take allocations back: `buf` and all allocated after it on transmit queue `qid` are free again. -> code.

    For buffers that were allocated and shall not be sent. Results: MEMIF_ERR_SUCCESS, MEMIF_ERR_NOCONN,
    MEMIF_ERR_DISCONNECTED, MEMIF_ERR_QID, MEMIF_ERR_AGAIN, MEMIF_ERR_INVAL_ARG (not allocated there, or sent already).
    """
    try:
        return conn.tx[qid].rewind(buf)
    except _WRONG:
        return _why(conn, qid, rx=False)


def memif_buffer_requeue(conn: memif_conn_handle_t, buf_a: memif_buffer_t, buf_b: memif_buffer_t) -> int:
    """Slave: let two buffers change their places in the rings. -> code.

    Both must be in your hands: received and not refilled, or allocated and not sent. Each keeps its data and goes
    on in the other's slot and queue: so packets can be sent in another order than they were allocated in, or
    dropped in between.

    Results: MEMIF_ERR_SUCCESS, MEMIF_ERR_NOCONN, MEMIF_ERR_DISCONNECTED, MEMIF_ERR_AGAIN, MEMIF_ERR_INVAL_ARG
    (master; a buffer that is not in your hands, or of another connection).
    """
    if not isinstance(conn, memif_conn_handle_t) or conn.live is None:
        return MEMIF_ERR_NOCONN
    rings = conn.tx
    if not rings:
        return MEMIF_ERR_DISCONNECTED
    return next(iter(rings.values())).exchange(buf_a, buf_b)
