# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: auto_pickle=False, autotestdict=False
"""RxQueue.serve: receive, have the packets handled by a function of C, and send on, without the interpreter.

The loop `work` runs without the interpreter lock and has the locks of both rings meanwhile: it cannot take them by
itself. Every SLICE, and when there is nothing to do, it gives all of them back, and `run` looks at signals, the control
channel, the clock and `until`. Whatever is under way then is kept in the Job and goes on in the next slice.

The handler is trusted with its packets only: it gets copies of all else. The lengths that it leaves are read once and
clamped by the loops that send, in case a thread of its own writes there later.
"""
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release
from cpython.bytes cimport PyBytes_AsString, PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from memif.errors import MemifTypeError, MemifValueError
from memif.ring.handlers import address_of

from memif.ring._arguments cimport number, span_of, take_buffer
from memif.ring._atomics cimport memif_flag_get, memif_flag_set, memif_load32, memif_pause, memif_unlock
from memif.ring._clock cimport after_span, now
from memif.ring._columns cimport MAX_PACKET, Columns, copy, first_of, piece_of, unchain
from memif.ring._queue cimport SERVE_EVERY
from memif.ring._ring cimport OK, lock_ring, peer_moved
from memif.ring._rxqueue cimport RxQueue
from memif.ring._rxring cimport RxRing
from memif.ring._txqueue cimport TxQueue
from memif.ring._txring cimport SENT, FULL, Source, TxRing, no_source
from memif.ring._views cimport Store, end_loan
from memif.ring._waiting cimport ADAPTIVE_SPIN, MODE_INTERRUPT, MODE_POLLING, check_lent, look_around, sleep

cdef extern from "unistd.h" nogil:
    int usleep(unsigned int us)

cdef extern from "stdint.h":
    const uint64_t UINT64_MAX
    const Py_ssize_t MOST_COUNT "PY_SSIZE_T_MAX"

ctypedef int32_t (*Handler)(uint8_t **packets, uint32_t *lengths, uint32_t count, void *data) noexcept nogil

cdef enum:
    BURST = 256                     # the most packets of one call of the handler
    SLICE = 10_000_000              # ns without the interpreter
    LOOK_AT = 16                    # bursts between two looks at the clock
    EAGER = 1000                    # looks at a full ring before it is left alone between two
    NAP = 20                        # us for which it is

cdef enum Outcome:                  # of `work`
    LATER                           # the time is over, or something needs the interpreter
    IDLE                            # there is nothing to do
    DONE                            # count packets were handled, or the handler wants to end, or is wrong

cdef enum Step:                     # of `step`
    FAILED = -1
    MORE
    ENDED                           # as it was asked for
    GONE                            # a link has ended or is broken, or the handler is wrong

# One call of `serve`.
cdef struct Job:
    Handler handler
    void *data
    uint64_t left                   # packets to be handled until the end
    uint64_t handled
    int64_t end                     # of the slice
    int64_t patience                # ns of spinning while nothing comes
    uint8_t **packets               # BURST addresses, for the handler
    uint8_t *choice                 # BURST bytes: which packets of the burst are to be sent
    uint8_t *whole                  # MAX_PACKET bytes: a chained packet
    bint sends
    bint swaps
    bint asked                      # the handler wants to end
    bint wrong                      # it left a length that is too large:
    uint32_t wrong_index
    uint32_t wrong_length
    uint32_t wrong_room
    bint open                       # a burst is under way, and its slots are a run of this number:
    uint32_t run
    uint32_t next                   # its first packet that was not handled yet
    Source order                    # what was handled and is to be sent


def serve(RxQueue queue not None, handler, tx, data, count, timeout, until) -> int:
    """See `RxQueue.serve`."""
    cdef Job job
    cdef Py_buffer memory
    cdef size_t address = address_of(handler)
    cdef int64_t deadline = after_span(span_of(timeout))
    if tx is not None and not isinstance(tx, TxQueue):
        raise MemifTypeError.argument("tx", tx, "a TxQueue, or None")
    if until is not None and not callable(until):
        raise MemifTypeError.argument("until", until, "a function without arguments, such as threading.Event().is_set")
    memset(&job, 0, sizeof(Job))
    job.handler = <Handler><void *>address
    job.left = UINT64_MAX if count is None else <uint64_t>number("count", count, 1, MOST_COUNT)
    job.sends = tx is not None
    if data is None:
        run(queue, tx, &job, deadline, until)
        return job.handled
    take_buffer("data", data, &memory, PyBUF_WRITABLE)
    try:
        job.data = memory.buf
        run(queue, tx, &job, deadline, until)
    finally:
        PyBuffer_Release(&memory)
    return job.handled


cdef int run(RxQueue queue, TxQueue tx, Job *j, int64_t deadline, until) except -1:
    """The call, with the arguments checked."""
    cdef RxRing ring = queue.source()
    cdef TxRing target = <TxRing>tx.usable() if j.sends else None
    cdef Store store = Store(max(ring.size, BURST))
    cdef bytes memory = PyBytes_FromStringAndSize(NULL, BURST * (sizeof(uint8_t *) + 1) + MAX_PACKET)
    cdef Step end = MORE
    j.packets = <uint8_t **>PyBytes_AsString(memory)
    j.choice = <uint8_t *>(j.packets + BURST)
    j.whole = j.choice + BURST
    queue.enter()
    try:
        if j.sends:
            tx.enter()
            try:
                while end == MORE:
                    end = step(queue, ring, tx, target, &store.c, j, deadline, until)
            finally:
                tx.leave()
        else:
            while end == MORE:
                end = step(queue, ring, tx, target, &store.c, j, deadline, until)
    finally:
        finish(queue, ring, target, &store.c, j)
        queue.leave()
    if end == GONE:
        why(queue, ring, tx, target, j)
    return 0


cdef Step step(RxQueue queue, RxRing ring, TxQueue tx, TxRing target, Columns *c, Job *j, int64_t deadline,
               until) except FAILED:
    """One slice without the interpreter, and all that needs it."""
    cdef Outcome outcome
    queue.check_ours(ring)                          # `until`, or a signal handler, can have forked
    if j.sends:
        tx.claim(target)
    if not lock_ring(ring):
        if j.sends:
            memif_unlock(&target.lock)
        queue.in_use()
    j.swaps = j.sends and target.can_swap(ring)
    j.patience = SLICE if queue._mode == MODE_POLLING else 0 if queue._mode == MODE_INTERRUPT else ADAPTIVE_SPIN
    j.end = min(deadline, now() + SLICE)
    queue.serving = ring
    with nogil:
        outcome = work(ring, target, c, j)
    queue.serving = None
    if j.sends:
        memif_unlock(&target.lock)
    memif_unlock(&ring.lock)
    if j.wrong or ring.trouble != OK or j.sends and (target.trouble != OK or memif_flag_get(&target.dead)):
        return GONE
    if outcome == DONE:
        return ENDED
    if memif_flag_get(&ring.dead) and not rest(queue, ring):
        return GONE
    PyErr_CheckSignals()
    if until is not None and until():
        return ENDED
    if now() >= deadline:
        return ENDED
    look(queue, ring, tx, j.sends, deadline - now() if outcome == IDLE else 0)
    return MORE


cdef bint rest(RxQueue queue, RxRing ring) except -1:
    """After the end of the link: whether packets are left that the peer sent before it."""
    if queue.left is not ring:
        return False
    if not lock_ring(ring):
        queue.in_use()
    peer_moved(ring, ring.size)                     # once dead, the ring does not ask any more
    memif_unlock(&ring.lock)
    return ring.ready() and ring.trouble == OK


cdef int look(RxQueue queue, RxRing ring, TxQueue tx, bint sends, int64_t span) except -1:
    """Serve the control channels if it is time, and sleep up to `span` ns. Functions of the user, which this may call,
    can use the queues themselves."""
    cdef int64_t t = now()
    cdef bint both = sends and tx.owner is not queue.owner and t - tx.served > SERVE_EVERY
    cdef bint own = t - queue.served > SERVE_EVERY
    if not (span or both or own):
        return 0
    if sends:
        tx.leave()
    try:
        if both:
            tx.serve_control()
        if span:
            check_lent(queue, ring)
            sleep(queue, ring, span)
        elif own:
            look_around(queue, ring)
    finally:
        if sends:
            tx.enter()
    return 0


cdef void finish(RxQueue queue, RxRing ring, TxRing target, Columns *c, Job *j) noexcept:
    """Give the slots of a burst back that is still under way, and count what was to be sent."""
    cdef uint32_t i
    if j.open:
        if j.sends:
            for i in range(j.order.first, j.order.last):
                target.stats.n.ring_full += j.order.choice == NULL or j.order.choice[i]
            target.stats.n.ring_full += c.packets - j.next
        end_loan(ring, None, j.run)
    if queue.exported and not memif_flag_get(&ring.dead):
        ring.arm(True, True)
    if queue.left is ring and lock_ring(ring):
        peer_moved(ring, ring.size)
        memif_unlock(&ring.lock)


cdef int why(RxQueue queue, RxRing ring, TxQueue tx, TxRing target, Job *j) except -1:
    """Raise what has ended the loop."""
    if j.wrong:
        raise MemifValueError.argument(f"lengths[{j.wrong_index}], as the handler left it", j.wrong_length,
                                       f"0 to {j.wrong_room}")
    if ring.trouble != OK:
        queue.broken(ring)
    if j.sends and target.trouble != OK:
        tx.broken(target)
    if j.sends and memif_flag_get(&target.dead):
        raise tx.owner.down()
    queue.forget()
    raise queue.owner.down()


# -- without the interpreter. `tx` is None where job.sends is false.


cdef Outcome work(RxRing rx, TxRing tx, Columns *c, Job *j) noexcept nogil:
    """Receive, handle and send until the slice ends, or nothing is there."""
    cdef uint32_t slots, bursts = 0
    cdef int64_t t
    while True:
        if j.open:
            if not through(rx, tx, c, j):
                return LATER
            if j.asked or j.left == 0:
                return DONE
            bursts += 1
            if bursts % LOOK_AT == 0 and now() >= j.end or memif_flag_get(&rx.dead):
                return LATER
        if rx.run_tail != rx.run_head:
            rx.settle()                             # what other threads have released
        unchain(c)
        slots = rx.take(c, <uint32_t>min(j.left, BURST))
        if slots:
            j.run = rx.open_run(slots)
            j.open = True
            j.next = 0
            continue
        if rx.trouble or memif_flag_get(&rx.dead):
            return LATER
        if j.patience == 0:
            return IDLE
        t = now()
        if t >= j.end:
            return LATER
        if not rx.spin(min(j.end, t + j.patience)):
            return LATER if j.patience == SLICE else IDLE


cdef bint through(RxRing rx, TxRing tx, Columns *c, Job *j) noexcept nogil:
    """Bring the burst to its end. False: later, because the transmit ring is full or there is trouble."""
    while True:
        if j.order.first < j.order.last and not send(rx, tx, j):
            return False
        if j.wrong or j.next >= c.packets:
            break
        if c.chained and c.first[j.next + 1] - c.first[j.next] > 1:
            handle_chain(rx, c, j)
        else:
            handle_run(rx, c, j)
    memif_flag_set(&rx.runs[j.run & rx.wrap].done, 1)
    rx.settle()
    j.open = False
    j.asked |= j.wrong
    return True


cdef bint send(RxRing rx, TxRing tx, Job *j) noexcept nogil:
    """Send what was handled. False: the transmit ring stays full."""
    cdef int verdict, _i, tries = 0
    cdef Source *order = &j.order
    while True:
        order.sent = 0
        order.total = 0
        if j.swaps and order.c != NULL:
            verdict = tx.swap_all(rx, order)
            order.first -= verdict != SENT
        else:
            verdict = tx.put_all(order)
            tx.count_sent(order.sent, order.total)
        tx.publish()
        if verdict == SENT:
            return True
        if verdict != FULL:                         # it can never fit
            tx.stats.n.dropped_oversize += 1
            order.first += 1
            if order.first == order.last:
                return True
            continue
        if tx.trouble or memif_flag_get(&tx.dead) or memif_flag_get(&rx.dead) or now() >= j.end:
            return False
        tries += 1
        if tries > EAGER:
            usleep(NAP)
        for _i in range(16):
            memif_pause()


cdef void handle_run(RxRing rx, Columns *c, Job *j) noexcept nogil:
    """Call the handler with all the packets up to the next chain, where they lie."""
    cdef uint32_t start = j.next, end = start, d, i, n, left = 0
    cdef const uint32_t *first = c.first if c.chained else NULL
    while end < c.packets and (first == NULL or first[end + 1] - first[end] == 1):
        d = first_of(c, end)
        j.packets[end - start] = rx.spans[c.region[d]].base + c.offset[d]
        end += 1
    j.next = end
    call(j, c.length + start, end - start)
    if not j.sends:
        return
    j.order = no_source()
    j.order.c = c
    j.order.spans = rx.spans
    j.order.first = start
    for i in range(start, end):
        d = first_of(c, i)
        n = memif_load32(c.length + i)
        if n > c.room[d]:
            note_wrong(j, i - start, n, c.room[d])
            break
        c.piece[d] = n
        j.choice[i] = n != 0
        left += n != 0
        j.order.last = i + 1
    if left != end - start:
        j.order.choice = j.choice


cdef void handle_chain(RxRing rx, Columns *c, Job *j) noexcept nogil:
    """Call the handler with one packet that lies in several pieces, copied together."""
    cdef uint32_t i = j.next, d, n, total = 0
    for d in range(c.first[i], c.first[i + 1]):
        n = min(piece_of(c, d), MAX_PACKET - total)
        copy(j.whole + total, rx.spans[c.region[d]].base + c.offset[d], n)
        total += n
    j.next = i + 1
    j.packets[0] = j.whole
    call(j, c.length + i, 1)
    if not j.sends:
        return
    n = memif_load32(c.length + i)
    if n > total:
        note_wrong(j, 0, n, total)
    elif n:
        j.order = no_source()
        j.order.rows = j.whole
        j.order.width = n
        j.order.last = 1


cdef void call(Job *j, uint32_t *lengths, uint32_t count) noexcept nogil:
    j.handled += count
    j.left -= count
    if j.handler(j.packets, lengths, count, j.data):
        j.asked = True


cdef void note_wrong(Job *j, uint32_t index, uint32_t length, uint32_t room) noexcept nogil:
    j.wrong = True
    j.wrong_index = index
    j.wrong_length = length
    j.wrong_room = room
