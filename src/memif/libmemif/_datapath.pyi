from memif.libmemif._buffers import memif_buffer_t, memif_buffers
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
