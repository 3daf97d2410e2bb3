# cython: language_level=3, auto_pickle=False, autotestdict=False
# cython: binding=True, annotation_typing=False
"""Receive, refill, allocate, transmit. `memif.libmemif._buffers` keeps track of the buffers.

The functions take a connection, the number of a queue and a `memif_buffers`, or a list of `memif_buffer_t`, of at least
`count` entries. Where C writes ``bufs + n``, pass the slice ``bufs[n:]``. One thread at a time may use a queue; a
second one gets MEMIF_ERR_AGAIN. No function waits or serves the control channel.
"""
from memif.errors import ErrorCode

from memif.libmemif._receive cimport RawRx
from memif.libmemif._transmit cimport RawTx

__all__ = [
    "memif_buffer_alloc",
    "memif_buffer_enq_tx",
    "memif_buffer_requeue",
    "memif_refill_queue",
    "memif_rx_burst",
    "memif_set_next_free_buffer",
    "memif_tx_burst",
]

cdef object DISCONNECTED = ErrorCode.DISCONNECTED
cdef object INVAL_ARG = ErrorCode.INVAL_ARG
cdef object NOCONN = ErrorCode.NOCONN
# An invalid handle, queue number or argument raises one of these on the fast path.
cdef tuple WRONG = (AttributeError, KeyError, TypeError, ValueError, OverflowError)


cdef RawRx rx_of(conn, qid):
    return <RawRx?>conn.interface.raw_rx[qid]


cdef RawTx tx_of(conn, qid):
    return <RawTx?>conn.interface.raw_tx[qid]


cdef object why(conn, qid, bint rx):
    """The code for a failed call: for the handle or the queue if they are invalid, else for the arguments."""
    from memif.libmemif.connections import no_ring
    from memif.libmemif.handles import memif_conn_handle_t

    rings = (conn.rx if rx else conn.tx) if isinstance(conn, memif_conn_handle_t) else {}
    try:
        if qid in rings:
            return INVAL_ARG
    except TypeError:
        pass
    return no_ring(conn, rx=rx)


cdef object broken(conn, raw):
    """End the connection, because the peer violated the ring protocol."""
    interface = conn.interface
    if interface is not None:
        interface.broken(raw.ring, "peer broke a ring")
        conn.main.collect()
    return DISCONNECTED


def memif_rx_burst(
    conn: memif_conn_handle_t, qid: int, bufs: list[memif_buffer_t] | memif_buffers, count: int
) -> tuple[int, int]:
    """Receive buffers.

    Each gets `len`, `data` and flags: MEMIF_BUFFER_FLAG_RX, and MEMIF_BUFFER_FLAG_NEXT if the packet continues in the
    next buffer. The slots are yours until `memif_refill_queue`. Invalid descriptors are dropped and counted.

    Args:
        conn: The connection.
        qid: The receive queue.
        bufs: Filled from its start.
        count: The most buffers to receive.

    Returns:
        The code, and the number of buffers received. Codes: MEMIF_ERR_SUCCESS, with 0 buffers if nothing waits;
        MEMIF_ERR_NOBUF if more than `count` wait: the buffers are received, call again; MEMIF_ERR_NOCONN,
        MEMIF_ERR_DISCONNECTED, MEMIF_ERR_QID, MEMIF_ERR_INVAL_ARG (bufs is not a list of that many buffers),
        MEMIF_ERR_AGAIN (another thread uses the queue).
    """
    cdef RawRx raw
    cdef tuple result
    try:
        raw = rx_of(conn, qid)
        result = raw.burst(bufs, count)
    except WRONG:
        return why(conn, qid, True), 0
    return result if result[0] is not None else (broken(conn, raw), 0)


def memif_refill_queue(conn: memif_conn_handle_t, qid: int, count: int = 0xFFFF, headroom: int = 0) -> int:
    """Give the oldest received buffers back to the peer.

    A slave has to do this for every queue in on_connect; before that the master has nowhere to write.

    Args:
        conn: The connection.
        qid: The receive queue.
        count: Buffers to give back; 0xFFFF or -1 (``(uint16_t) -1``; default), and any number larger than there are
            buffers, mean as many as possible.
        headroom: Slave: bytes to leave free in front of the data in these buffers, which then hold less by that many.

    Returns:
        The code: MEMIF_ERR_SUCCESS, MEMIF_ERR_NOCONN, MEMIF_ERR_DISCONNECTED, MEMIF_ERR_QID, MEMIF_ERR_AGAIN,
        MEMIF_ERR_INVAL_ARG (count outside 16 bits; headroom not below the buffer size).
    """
    try:
        return rx_of(conn, qid).refill(count, headroom)
    except WRONG:
        return why(conn, qid, True)


def memif_buffer_alloc(
    conn: memif_conn_handle_t, qid: int, bufs: list[memif_buffer_t] | memif_buffers, count: int, size: int | None = None
) -> tuple[int, int]:
    """Get free buffers of a transmit queue.

    `len` of each is what it was allocated for; `data` shows all its room. There may be any number of calls before
    `memif_tx_burst`. On a slave the data starts at the start of the buffer, whatever headroom it was received with.

    Args:
        conn: The connection.
        qid: The transmit queue.
        bufs: Filled from its start. A packet larger than a buffer takes several, all but the last with
            MEMIF_BUFFER_FLAG_NEXT, so that bufs has to be longer than `count`.
        count: Packets.
        size: Bytes of each packet; None (default) or 0 for one whole buffer.

    Returns:
        The code, and the number of buffers allocated. Codes: MEMIF_ERR_SUCCESS; MEMIF_ERR_NOBUF_RING if the ring, or
        bufs, is full: those that fit are allocated, possibly 0, never part of a chain; MEMIF_ERR_NOCONN,
        MEMIF_ERR_DISCONNECTED, MEMIF_ERR_QID, MEMIF_ERR_AGAIN, MEMIF_ERR_INVAL_ARG (bufs; a size above 65536, or one
        that does not fit into the whole ring).
    """
    cdef RawTx raw
    cdef tuple result
    try:
        raw = tx_of(conn, qid)
        result = raw.alloc(bufs, count, 0 if size is None else size)
    except WRONG:
        return why(conn, qid, False), 0
    return result if result[0] is not None else (broken(conn, raw), 0)


def memif_tx_burst(
    conn: memif_conn_handle_t, qid: int, bufs: list[memif_buffer_t] | memif_buffers, count: int
) -> tuple[int, int]:
    """Send buffers, and signal the peer if it wants that.

    A packet of `len` bytes is sent from each buffer; with MEMIF_BUFFER_FLAG_NEXT in flags it continues in the next one.
    Sent buffers belong to the peer.

    Args:
        conn: The connection.
        qid: The transmit queue.
        bufs: The oldest buffers that were allocated (or enqueued) on this queue and not sent yet, in that order; not
            necessarily all of them.
        count: How many of bufs to send.

    Returns:
        The code, and the number of buffers sent. Codes: MEMIF_ERR_SUCCESS; MEMIF_ERR_INVAL_ARG if a buffer is out of
        order, not of this queue, sent already, or has a `len` of 0 or beyond its room, or if the end of a chain is
        missing: the whole packets before it are sent and counted; MEMIF_ERR_NOCONN, MEMIF_ERR_DISCONNECTED,
        MEMIF_ERR_QID, MEMIF_ERR_AGAIN.
    """
    cdef RawTx raw
    cdef tuple result
    try:
        raw = tx_of(conn, qid)
        result = raw.burst(bufs, count)
    except WRONG:
        return why(conn, qid, False), 0
    return result if result[0] is not None else (broken(conn, raw), result[1])


def memif_buffer_enq_tx(
    conn: memif_conn_handle_t, qid: int, bufs: list[memif_buffer_t] | memif_buffers, count: int
) -> tuple[int, int]:
    """Slave: put received buffers into a transmit queue, without a copy.

    Each is exchanged for a free buffer of the ring, which takes the slot of the received one: refill the receive queue
    as always. Afterwards they are like allocated ones: write into them, set `len`, and send them in this order by
    `memif_tx_burst`. ``buffer.prepend(n)`` uses the room in front of the data that `memif_refill_queue` left.

    Args:
        conn: The connection.
        qid: The transmit queue.
        bufs: Received buffers.
        count: How many of bufs to enqueue.

    Returns:
        The code, and the number of buffers enqueued. Codes: MEMIF_ERR_SUCCESS; MEMIF_ERR_NOBUF_RING if the ring is
        full; MEMIF_ERR_INVAL_ARG for a master, or at the first buffer that was not received on this connection or was
        refilled; MEMIF_ERR_NOCONN, MEMIF_ERR_DISCONNECTED, MEMIF_ERR_QID, MEMIF_ERR_AGAIN.
    """
    cdef RawTx raw
    cdef tuple result
    try:
        raw = tx_of(conn, qid)
        result = raw.enqueue(bufs, count)
    except WRONG:
        return why(conn, qid, False), 0
    return result if result[0] is not None else (broken(conn, raw), result[1])


def memif_set_next_free_buffer(conn: memif_conn_handle_t, qid: int, buf: memif_buffer_t) -> int:
    """Free buffers that were allocated and are not to be sent.

    Args:
        conn: The connection.
        qid: The transmit queue.
        buf: The first of them; all that were allocated after it are free again, too.

    Returns:
        The code: MEMIF_ERR_SUCCESS, MEMIF_ERR_NOCONN, MEMIF_ERR_DISCONNECTED, MEMIF_ERR_QID, MEMIF_ERR_AGAIN,
        MEMIF_ERR_INVAL_ARG (not allocated there, or sent already).
    """
    try:
        return tx_of(conn, qid).rewind(buf)
    except WRONG:
        return why(conn, qid, False)


def memif_buffer_requeue(conn: memif_conn_handle_t, buf_a: memif_buffer_t, buf_b: memif_buffer_t) -> int:
    """Slave: exchange the places of two buffers in the rings.

    Each keeps its data and continues in the other's slot and queue. So packets can be sent in another order than they
    were allocated in, or be dropped in between.

    Args:
        conn: The connection.
        buf_a: A buffer that was received and not refilled, or allocated and not sent.
        buf_b: Another one.

    Returns:
        The code: MEMIF_ERR_SUCCESS, MEMIF_ERR_NOCONN, MEMIF_ERR_DISCONNECTED, MEMIF_ERR_AGAIN, MEMIF_ERR_INVAL_ARG
        (master; a buffer in the peer's hands, or of another connection).
    """
    from memif.libmemif.handles import memif_conn_handle_t

    if not isinstance(conn, memif_conn_handle_t) or conn.live is None:
        return NOCONN
    rings = conn.tx
    if not rings:
        return DISCONNECTED
    return next(iter(rings.values())).exchange(buf_a, buf_b)
