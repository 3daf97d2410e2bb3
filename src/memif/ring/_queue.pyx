# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""RxQueue and TxQueue: what users call. One object for one queue of an interface, through all its connections.

A queue holds the ring of the present connection, or none while the link is down. A call takes its own reference to the ring
first, so a disconnect in another thread can replace it at any time: the call ends on memory that is still mapped.

Waiting: a consumer that goes to sleep clears MASK_INT, passes a full fence, looks at the ring once more and only then polls
the event fd. Peers that lack a fence between publishing and reading MASK_INT can lose a wake-up; no sleep is longer than
100 ms for that reason. The control channel is watched in the same poll, so a blocking call also keeps the link alive.
"""
from cpython.buffer cimport (PyBUF_SIMPLE, PyBUF_STRIDES, PyBuffer_Release, PyObject_GetBuffer)
from cpython.bytes cimport PyBytes_AsString, PyBytes_Check
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from memif.errors import MemifDisconnectedError, MemifStateError, MemifValueError

from memif.ring._burst cimport EMPTY, Burst, Store, allocated, received, take_store
from memif.ring._region cimport fork_count
from memif.ring._ring cimport (MAX_PACKET, MOVED, OK, Columns, Ring, RxRing, Stats, TxRing, memif_flag_get,
                               memif_flag_set, memif_pause, memif_try_lock, memif_unlock)

cdef extern from "poll.h" nogil:
    cdef struct pollfd:
        int fd
        short events
        short revents
    int poll(pollfd *fds, unsigned long count, int timeout)
    enum:
        POLLIN

cdef enum:
    SMALL = 8               # bursts up to this size are not worth giving up the interpreter lock
    MODE_INTERRUPT = 0
    MODE_POLLING = 1
    MODE_ADAPTIVE = 2

cdef int64_t SERVE_EVERY = 10_000_000        # ns between looks at the control channel by calls that never wait
cdef int64_t SPIN_SLICE = 100_000            # ns of spinning between looks at signals and the control channel
cdef int64_t ADAPTIVE_SPIN = 50_000          # ns of spinning before an adaptive queue goes to sleep
cdef int64_t LONGEST_SLEEP = 100_000_000     # ns

MODES = ("interrupt", "polling", "adaptive")


cdef inline int64_t now() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return <int64_t>t.tv_sec * 1_000_000_000 + t.tv_nsec


cdef int64_t deadline_of(timeout) except -1:
    """Absolute time in ns for a timeout in seconds; None is for ever."""
    if timeout is None:
        return 0x7FFFFFFFFFFFFFFF
    cdef double seconds = timeout
    if not 0 <= seconds:
        raise MemifValueError.argument("timeout", timeout, "None or a number of seconds from 0 on")
    if seconds > 1e9:
        return 0x7FFFFFFFFFFFFFFF
    return now() + <int64_t>(seconds * 1e9)


cdef class Queue:
    """What both directions share. Made by an Interface; not to be made by hand."""
    cdef readonly object owner          # the Interface, or anything with serve(), broken(queue, text), down()
    cdef readonly unsigned int index    # queue id
    cdef readonly Stats counters
    cdef readonly int control_fd
    cdef Ring any_ring
    cdef list pool
    cdef int busy
    cdef int64_t served

    def __init__(self, owner, unsigned int index, int control_fd):
        self.owner = owner
        self.index = index
        self.control_fd = control_fd
        self.counters = Stats()
        self.pool = []

    @property
    def ring(self):
        """The ring of the present connection, or None while the link is down."""
        return self.any_ring

    @property
    def stats(self) -> dict:
        """Counters by name; see `Stats`."""
        return self.counters.as_dict()

    def attach(self, Ring ring not None) -> None:
        """The link is up: from now on calls work on `ring`, and it counts here."""
        ring.stats = self.counters
        self.any_ring = ring

    def detach(self) -> None:
        """The link is down: calls under way end, later ones raise."""
        cdef Ring ring = self.any_ring
        self.any_ring = None
        if ring is not None:
            ring.kill()

    def fileno(self) -> int:
        """The ring's event fd, for select, epoll or an event loop. Raises MemifDisconnectedError while the link is down.

        It belongs to the connection: after a reconnect there is another one.
        """
        return self.usable().event_fd

    cdef Ring usable(self):
        cdef Ring ring = self.any_ring
        if ring is None or memif_flag_get(&ring.dead):
            raise self.owner.down()
        if ring.born != fork_count():
            raise MemifStateError("this connection belongs to the parent process: open one of your own after fork()")
        return ring

    cdef int enter(self) except -1:
        if not memif_try_lock(&self.busy):
            raise MemifStateError(f"queue {self.index} is in use by another thread: one thread at a time")
        return 0

    cdef int idle(self) except -1:
        """A call that never waits found nothing to do: look after the control channel now and then."""
        cdef int64_t t = now()
        if t - self.served > SERVE_EVERY:
            self.served = t
            self.owner.serve()
        return 0

    cdef int broken(self, Ring ring) except -1:
        """The peer violated the ring protocol: the connection has to go."""
        text = f"{'rx' if isinstance(self, RxQueue) else 'tx'} queue {self.index}: peer broke the ring's "
        text += {1: "indices", 2: "descriptors"}.get(ring.trouble, "interrupts")
        self.owner.broken(ring, text)
        raise self.owner.down()

    def __repr__(self) -> str:
        state = "down" if self.any_ring is None else f"{self.any_ring.size} slots"
        return f"<{type(self).__name__} {self.index}, {state}>"

    def __reduce__(self):
        raise TypeError("a queue belongs to a connection of this process and cannot be pickled or copied")


cdef class RxQueue(Queue):
    """Receives packets from the peer. One thread at a time; different queues may be served by different threads.

    `mode` is "interrupt" (sleep until the peer signals; the default), "polling" (spin; the peer is told not to signal) or
    "adaptive" (spin for 50 µs, then sleep). It can be changed at any time.
    """
    cdef int _mode
    cdef bint exported          # somebody polls the event fd: it must be emptied when the ring is

    @property
    def mode(self) -> str:
        return MODES[self._mode]

    @mode.setter
    def mode(self, value) -> None:
        if value not in MODES:
            raise MemifValueError.argument("mode", value, "one of " + ", ".join(MODES))
        self._mode = MODES.index(value)
        if self.any_ring is not None:
            self.any_ring.set_mask(self._mode != MODE_INTERRUPT)

    def attach(self, Ring ring not None) -> None:
        super().attach(ring)
        ring.set_mask(self._mode != MODE_INTERRUPT)
        (<RxRing>ring).start()

    def fileno(self) -> int:
        fd = super().fileno()
        self.exported = True
        return fd

    def recv(self, count=256, timeout=None) -> Burst:
        """Receive up to `count` packets (1 to 16384). -> Burst, to be released (or used as a context manager).

        Returns as soon as at least one packet is there; an empty burst when `timeout` seconds have passed without one (0
        never blocks, None waits for ever). Raises MemifDisconnectedError when the link is or goes down, MemifStateError
        when another thread is receiving on this queue, MemifValueError for a count or timeout outside their range.
        """
        cdef Py_ssize_t limit = count
        if limit < 1 or limit > 16384:
            raise MemifValueError.argument("count", count, "1 to 16384")
        cdef RxRing ring = <RxRing>self.usable()
        self.enter()
        try:
            burst = self.take(ring, <uint32_t>limit)
            if burst is None:
                if timeout is not None and timeout == 0:
                    self.idle()
                    return EMPTY
                burst = self.wait_take(ring, <uint32_t>limit, deadline_of(timeout))
            return burst
        finally:
            memif_unlock(&self.busy)

    def wait(self, timeout=None) -> bool:
        """Wait until a packet is there, for `timeout` seconds at most (None: for ever). -> True when one is.

        Errors as in `recv`.
        """
        cdef RxRing ring = <RxRing>self.usable()
        self.enter()
        try:
            return self.sleep_until(ring, deadline_of(timeout))
        finally:
            memif_unlock(&self.busy)

    def __iter__(self):
        """Bursts of up to 256 packets, each released when the next is asked for; ends when the link goes down."""
        while self.any_ring is not None:
            try:
                burst = self.recv(256)
            except MemifDisconnectedError:
                return
            with burst:
                yield burst

    cdef Burst take(self, RxRing ring, uint32_t limit):
        """What is there now, or None."""
        cdef uint32_t slots, run = 0, capacity = limit
        cdef Store store
        cdef Columns *c
        while True:
            store = take_store(self.pool, capacity)
            c = &store.c
            if not lock_ring(ring):
                raise MemifStateError(f"queue {self.index} is in use by another thread: one thread at a time")
            if limit <= SMALL:
                slots = take_locked(ring, c, limit, self._mode == MODE_INTERRUPT and self.exported, &run)
            else:
                with nogil:
                    slots = take_locked(ring, c, limit, self._mode == MODE_INTERRUPT and self.exported, &run)
            if c.packets:
                return received(ring, store, run, self.pool)
            self.pool.append(store)
            if ring.trouble != OK:
                self.broken(ring)
            if slots or capacity >= ring.size or ring.stalled or ring.seen == ring.cursor:
                return None                 # nothing, or nothing but rubbish, of which a hostile peer has no end
            self.pool.clear()
            capacity = ring.size            # a chain longer than the columns

    cdef Burst wait_take(self, RxRing ring, uint32_t limit, int64_t deadline):
        cdef Burst burst
        while self.sleep_until(ring, deadline):
            burst = self.take(ring, limit)
            if burst is not None:
                return burst
            # A peer that keeps us awake with rubbish must keep us neither from the clock nor from signals and control.
            PyErr_CheckSignals()
            self.idle()
            if memif_flag_get(&ring.dead):
                raise self.owner.down()
            if now() >= deadline:
                break
        return EMPTY

    cdef bint sleep_until(self, RxRing ring, int64_t deadline) except -1:
        """True when a packet is there, False when the deadline has passed."""
        cdef int64_t t = now(), spin_end, left
        cdef pollfd fds[2]
        cdef bint found
        cdef int mode
        while True:
            mode = self._mode
            left = deadline - t
            if mode != MODE_INTERRUPT:
                spin_end = t + min(left, SPIN_SLICE if mode == MODE_POLLING else ADAPTIVE_SPIN)
                with nogil:
                    found = spin(ring, spin_end)
                if found:
                    return True
                left = deadline - now()
            if mode != MODE_POLLING:
                if arm(ring):
                    if mode == MODE_ADAPTIVE:
                        ring.set_mask(True)
                    return True
                fds[0].fd = ring.event_fd
                fds[1].fd = self.control_fd
                fds[0].events = fds[1].events = POLLIN
                fds[0].revents = fds[1].revents = 0
                with nogil:
                    poll(fds, 2, sleep_ms(left))
                    if fds[0].revents:
                        ring.drain()
                if mode == MODE_ADAPTIVE:
                    ring.set_mask(True)
            PyErr_CheckSignals()
            if memif_flag_get(&ring.dead):
                raise self.owner.down()
            t = now()
            if mode == MODE_POLLING:
                if t - self.served > SERVE_EVERY:
                    self.served = t
                    self.owner.serve()
            elif fds[1].revents or not fds[0].revents:
                self.owner.serve()
            if memif_flag_get(&ring.dead):
                raise self.owner.down()
            if ring.ready():
                return True
            if t >= deadline:
                return False


cdef bint lock_ring(Ring ring) noexcept nogil:
    """The ring's lock is held for microseconds at most by threads that release bursts."""
    cdef int tries
    for tries in range(100000):
        if memif_try_lock(&ring.lock):
            return True
        memif_pause()
    return False


cdef int sleep_ms(int64_t left) noexcept nogil:
    """Milliseconds for poll, rounded up, never above the longest sleep."""
    return <int>((max(min(left, LONGEST_SLEEP), 0) + 999_999) // 1_000_000)


cdef uint32_t take_locked(RxRing ring, Columns *c, uint32_t limit, bint empty_fd, uint32_t *run) noexcept nogil:
    """Take a burst, note the run of slots, and drop the lock. -> slots passed."""
    cdef uint32_t slots
    ring.settle()
    slots = ring.take(c, limit)
    if empty_fd and c.packets < limit:
        # Somebody sleeps on the event fd, and the ring is empty now: empty the fd too, then look again, because a
        # packet may have come between the two.
        ring.drain()
        slots += ring.take(c, limit)
    if slots:
        run[0] = ring.open_run(slots)
        if c.packets == 0:
            memif_flag_set(&ring.runs[run[0] & ring.wrap].done, 1)
            ring.settle()
    memif_unlock(&ring.lock)
    return slots


cdef bint arm(RxRing ring) noexcept nogil:
    """Ask for interrupts; True when a packet came before the request could be seen, so that sleeping would be wrong."""
    cdef bint found
    if not lock_ring(ring):
        return True
    ring.settle()
    ring.set_mask(False)
    found = ring.ready()
    memif_unlock(&ring.lock)
    return found


cdef bint spin(RxRing ring, int64_t end) noexcept nogil:
    """Look at the ring until something is there or the time is over."""
    cdef int i
    while True:
        for i in range(64):
            if ring.ready() or memif_flag_get(&ring.dead):
                return True
            memif_pause()
        if ring.run_tail != ring.run_head and memif_try_lock(&ring.lock):
            ring.settle()
            memif_unlock(&ring.lock)
        if now() >= end:
            return False


cdef class TxQueue(Queue):
    """Sends packets to the peer. One thread at a time; different queues may be served by different threads."""

    cdef TxRing start(self):
        """The ring, locked for this thread."""
        cdef TxRing ring = <TxRing>self.usable()
        self.enter()
        if not lock_ring(ring):
            memif_unlock(&self.busy)
            raise MemifStateError(f"queue {self.index} is in use by another thread: one thread at a time")
        if ring.lent:
            self.finish(ring)
            raise MemifStateError(f"queue {self.index} has an open burst from alloc(): send or release it first")
        return ring

    cdef void finish(self, TxRing ring) noexcept:
        memif_unlock(&ring.lock)
        memif_unlock(&self.busy)

    cdef int after(self, TxRing ring, Py_ssize_t wanted, Py_ssize_t sent) except -1:
        if ring.trouble != OK:
            self.broken(ring)
        if sent < wanted:
            self.idle()
        return 0

    def send(self, packets) -> int:
        """Copy packets (a sequence of bytes-like objects, 1 to 65536 bytes each) into the ring and publish them.

        -> packets accepted, from the first on; fewer than given when the ring is full, which is no error: nothing signals
        free slots, so call again later or see `wait_free`. A packet larger than the peer's buffers is chained.

        Raises MemifValueError (nothing was sent then) for an empty packet or one that can never fit, TypeError for what
        is not bytes-like, MemifDisconnectedError while the link is down, MemifStateError when another thread is using
        this queue or a burst of `alloc` is open.
        """
        cdef TxRing ring
        cdef Py_ssize_t count, i = 0, length = 0
        cdef int verdict = 1
        cdef Py_buffer view
        cdef const uint8_t *data
        cdef uint64_t total = 0
        cdef bint held
        if not isinstance(packets, (list, tuple)):
            if isinstance(packets, (bytes, bytearray, memoryview, str)):
                raise TypeError("packets: expected a sequence of bytes-like objects; for one packet write send([packet])")
            packets = list(packets)
        count = len(packets)
        ring = self.start()
        try:
            for i in range(count):
                if i >= len(packets):               # a packet's own code can change the list
                    break
                packet = packets[i]
                held = not PyBytes_Check(packet)
                if held:
                    PyObject_GetBuffer(packet, &view, PyBUF_SIMPLE)
                    data = <const uint8_t *>view.buf
                    length = view.len
                else:
                    data = <const uint8_t *>PyBytes_AsString(packet)
                    length = len(<bytes>packet)
                verdict = ring.put(data, <uint32_t>length) if 0 < length <= MAX_PACKET else -1
                if held:
                    PyBuffer_Release(&view)
                if verdict != 1:
                    break
                total += length
            else:
                i = count
            if verdict == -1:
                raise MemifValueError.argument(f"packets[{i}]", f"{length} bytes", self.fits(ring))
            if ring.show():
                with nogil:
                    ring.signal()
            ring.stats.n.packets += i
            ring.stats.n.bytes += total
            ring.stats.n.bursts += i != 0
            ring.stats.n.ring_full += count - i
        except BaseException:
            ring.cursor = ring.settled
            raise
        finally:
            self.finish(ring)
        if i < count or ring.trouble != OK:
            self.after(ring, count, i)
        return i

    cdef str fits(self, TxRing ring):
        room = ring.buffer_size
        return f"1 to {min(room * max(ring.size - 1, 1), MAX_PACKET)} bytes (buffers of {room} in {ring.size} slots)"

    def send_array(self, matrix, lengths=None) -> int:
        """Copy the rows of a matrix into the ring: row i is a packet of ``lengths[i]`` bytes. -> packets accepted.

        matrix: uint8, shape (n, width), rows contiguous (any stride between rows), not copied on the way. lengths:
        uint32, shape (n,), each 1 to width; default: all rows whole. Other integer dtypes are converted. Results and
        errors as in `send`.
        """
        cdef Py_buffer rows, sizes
        cdef uint32_t i, count, width, accepted = 0
        cdef const uint32_t *each = NULL
        cdef TxRing ring
        cdef int verdict
        PyObject_GetBuffer(matrix, &rows, PyBUF_STRIDES)
        try:
            if (rows.ndim != 2 or rows.itemsize != 1 or rows.shape[1] > MAX_PACKET or rows.shape[1] < 1
                    or rows.shape[0] > 0x7FFFFFFF or rows.strides[1] != 1 and rows.shape[1] > 1):
                shape = tuple([rows.shape[k] for k in range(rows.ndim)])
                raise MemifValueError.argument("matrix", f"shape {shape}, items of {rows.itemsize} bytes",
                                               f"a uint8 matrix of 1 to {MAX_PACKET} contiguous bytes a row")
            count = <uint32_t>rows.shape[0]
            width = <uint32_t>rows.shape[1]
            if lengths is not None:
                lengths = as_uint32(lengths, count)
                PyObject_GetBuffer(lengths, &sizes, PyBUF_SIMPLE)
                each = <const uint32_t *>sizes.buf
            try:
                if each != NULL:
                    for i in range(count):
                        if each[i] - 1 >= width:
                            raise MemifValueError.argument(f"lengths[{i}]", each[i], f"1 to {width}")
                ring = self.start()
                if count <= SMALL:
                    accepted = ring.put_rows(<const uint8_t *>rows.buf, rows.strides[0], each, width, count)
                    verdict = ring.verdict
                    if verdict == -1:
                        ring.cursor = ring.settled
                    if ring.show():
                        with nogil:
                            ring.signal()
                else:
                    with nogil:
                        accepted = ring.put_rows(<const uint8_t *>rows.buf, rows.strides[0], each, width, count)
                        verdict = ring.verdict
                        if verdict == -1:
                            ring.cursor = ring.settled
                        ring.publish()
                self.finish(ring)
                if verdict == -1:
                    raise MemifValueError.argument(f"row {accepted}", f"{width if each == NULL else each[accepted]} bytes",
                                                   self.fits(ring))
            finally:
                if each != NULL:
                    PyBuffer_Release(&sizes)
        finally:
            PyBuffer_Release(&rows)
        if accepted < count or ring.trouble != OK:
            self.after(ring, count, accepted)
        return accepted

    def forward(self, Burst burst not None, *, start=0, stop=None, select=None, bint copy=False) -> int:
        """Send packets of a received burst on. -> packets sent, fewer than asked for when this ring is full.

        start, stop     which packets (default all), as in a slice
        select          a boolean array, one element a packet of the burst: only those that are true are sent
        copy            True: never exchange buffers, so that the same packets can be sent again elsewhere

        Where this side is slave and both queues belong to the same connection, the buffers themselves change places and
        no byte is copied: the packets then belong to the peer, so do not write to them any more. In all other cases the
        packets are copied. Release the burst afterwards, as always. Changes made to the packets, to `lengths` and by
        `prepend` take effect. Errors as in `send`; MemifStateError when a packet was given away before.
        """
        burst.check()
        if burst.c == NULL:
            return 0
        if burst.rx is None:
            raise MemifStateError("forward takes a received burst; an allocated one has its own send()")
        cdef Py_ssize_t first, last, wanted, step
        first, last, step = slice(start, stop).indices(burst.c.packets)
        burst.check()                               # an index may be an object that released it
        burst.check_lengths()
        cdef Py_buffer chosen
        cdef const uint8_t *choice = NULL
        cdef Columns *c = burst.c
        cdef RxRing source = burst.rx
        if select is not None:
            PyObject_GetBuffer(select, &chosen, PyBUF_SIMPLE)
            if chosen.itemsize != 1 or chosen.len != c.packets:
                PyBuffer_Release(&chosen)
                raise MemifValueError.argument("select", f"{chosen.len} elements", f"{c.packets} booleans")
            choice = <const uint8_t *>chosen.buf
        cdef TxRing ring
        cdef uint32_t sent = 0
        cdef int verdict = 0
        burst.busy += 1
        try:
            if burst.c != c:
                burst.check()
            wanted = 0
            for i in range(first, last):
                wanted += choice == NULL or choice[i] != 0
            ring = self.start()
            if not memif_flag_get(&source.dead) and ring.slave and source.regions is ring.regions and not copy:
                with nogil:
                    verdict = swap_all(ring, source, c, choice, <uint32_t>first, <uint32_t>last, &sent)
            else:
                with nogil:
                    verdict = copy_all(ring, source, c, choice, <uint32_t>first, <uint32_t>last, &sent)
            ring.stats.n.ring_full += wanted - sent
            self.finish(ring)
        finally:
            burst.busy -= 1
            if choice != NULL:
                PyBuffer_Release(&chosen)
        if verdict == -2:
            raise MemifStateError("a packet of this burst was given away by an earlier forward(): use copy=True there")
        if verdict == -1 and sent == 0:
            raise MemifValueError.argument("burst", "a packet larger than the ring", self.fits(ring))
        if sent < wanted or ring.trouble != OK:
            self.after(ring, wanted, sent)
        return sent

    def alloc(self, count, size=None) -> Burst:
        """Reserve up to `count` empty packets of `size` bytes (default: one whole buffer each) to write in place.

        -> Burst, with fewer packets when the ring is full (empty when it is quite full). Leaving its ``with`` block sends
        it, an exception or `Burst.release` gives it up. Set `Burst.lengths` to send less than `size`. A size above the
        peer's buffers makes chained packets: write those through `Burst.fragments` or `Burst.scatter`. While the burst
        is open nothing else can be sent on this queue. Errors as in `send`.
        """
        cdef Py_ssize_t wanted = count
        cdef Py_ssize_t each = 0 if size is None else size
        cdef int verdict = 1
        if wanted < 1 or wanted > 16384:
            raise MemifValueError.argument("count", count, "1 to 16384")
        if each < 0 or each > MAX_PACKET or (size is not None and each == 0):
            raise MemifValueError.argument("size", size, f"1 to {MAX_PACKET}")
        cdef TxRing ring = self.start()
        cdef Store store
        cdef uint32_t pieces = 1
        cdef Py_ssize_t n = 0
        try:
            if each and ring.buffer_size:
                pieces = <uint32_t>((each + ring.buffer_size - 1) // ring.buffer_size)
            store = take_store(self.pool, <uint32_t>min(wanted * pieces, ring.size) + 1)
            with nogil:
                ring.free_slots(<uint32_t>wanted)
                while n < wanted:
                    verdict = ring.reserve(&store.c, <uint32_t>each)
                    if verdict != 1:
                        break
                    n += 1
            ring.stats.n.ring_full += wanted - n
            ring.lent = n != 0
        finally:
            self.finish(ring)
        if n:
            return allocated(ring, store, self.pool)
        self.pool.append(store)
        if verdict == -1:
            raise MemifValueError.argument("size", size, self.fits(ring))
        self.after(ring, wanted, 0)
        return EMPTY

    def free(self) -> int:
        """Slots that can be filled now."""
        cdef TxRing ring = self.start()
        cdef uint32_t n = ring.free_slots(ring.size)
        self.finish(ring)
        self.after(ring, 1, n)
        return n

    def wait_free(self, count=1, timeout=None) -> bool:
        """Wait until `count` slots are free, for `timeout` seconds at most (None: for ever). -> True when they are.

        Nothing signals free slots in memif, so this looks again after pauses that grow from 10 µs to 1 ms.
        """
        cdef int64_t deadline = deadline_of(timeout), pause = 10_000
        cdef TxRing ring = <TxRing>self.usable()
        if not 1 <= count <= ring.size:
            raise MemifValueError.argument("count", count, f"1 to {ring.size}")
        while self.free() < count:
            if now() >= deadline:
                return False
            with nogil:
                nap(min(pause, max(deadline - now(), 0)))
            pause = min(2 * pause, 1_000_000)
            PyErr_CheckSignals()
            self.idle()
        return True


cdef extern from "time.h" nogil:
    int nanosleep(const timespec *request, timespec *left)


cdef void nap(int64_t ns) noexcept nogil:
    cdef timespec t
    t.tv_sec = 0
    t.tv_nsec = ns
    nanosleep(&t, NULL)


cdef object as_uint32(lengths, uint32_t count):
    """`lengths` as a contiguous buffer of `count` uint32; converted where it is another kind of integers."""
    import numpy
    array = numpy.asarray(lengths)
    if array.dtype.kind not in "ui" or array.shape != (count,):
        raise MemifValueError.argument("lengths", f"dtype {array.dtype}, shape {array.shape}",
                                       f"uint32, shape ({count},)")
    if array.dtype != numpy.uint32 and count and not 0 <= array.min() <= array.max() <= MAX_PACKET:
        raise MemifValueError.argument("lengths", f"{array.min()} to {array.max()}", f"1 to {MAX_PACKET}")
    return numpy.ascontiguousarray(array, dtype=numpy.uint32)


cdef int swap_all(TxRing ring, RxRing source, Columns *c, const uint8_t *choice, uint32_t first, uint32_t last,
                  uint32_t *sent) noexcept nogil:
    """Exchange the buffers of the chosen packets and publish. -> as `put`, -2: a packet was given away before."""
    cdef uint32_t p, d, pieces
    cdef int verdict = 1
    cdef uint64_t total = 0
    ring.free_slots(c.descriptors)
    for p in range(first, last):
        if choice != NULL and not choice[p]:
            continue
        d = c.first[p] if c.chained else p
        pieces = c.first[p + 1] - d if c.chained else 1
        if c.slot[d] == MOVED:
            verdict = -2
            break
        verdict = ring.swap(source, c, d, pieces)
        if verdict != 1:
            break
        total += c.length[p]
        sent[0] += 1
    count_sent(ring, sent[0], total)
    return verdict


cdef int copy_all(TxRing ring, RxRing source, Columns *c, const uint8_t *choice, uint32_t first, uint32_t last,
                  uint32_t *sent) noexcept nogil:
    """Copy the chosen packets and publish. -> as `put`."""
    cdef uint32_t p, d, pieces, i
    cdef int verdict = 1
    cdef uint64_t total = 0
    cdef uint8_t *one
    cdef uint8_t **data = &one
    if c.chained:
        data = <uint8_t **>malloc(c.descriptors * sizeof(uint8_t *))
        if data == NULL:
            return 0
    ring.free_slots(c.descriptors)
    for p in range(first, last):
        if choice != NULL and not choice[p]:
            continue
        d = c.first[p] if c.chained else p
        pieces = c.first[p + 1] - d if c.chained else 1
        for i in range(pieces):
            data[i] = source.spans[c.region[d + i]].base + c.offset[d + i]
        verdict = ring.put_pieces(data, c.piece + d, pieces, c.length[p])
        if verdict != 1:
            break
        total += c.length[p]
        sent[0] += 1
    if c.chained:
        free(data)
    count_sent(ring, sent[0], total)
    return verdict


cdef void count_sent(TxRing ring, uint32_t packets, uint64_t total) noexcept nogil:
    ring.stats.n.packets += packets
    ring.stats.n.bytes += total
    ring.stats.n.bursts += packets != 0
    ring.publish()
