# cython: language_level=3, auto_pickle=False, autotestdict=False
# cython: binding=False, embedsignature=True, embedsignature.format=clinic
"""Queue: what RxQueue and TxQueue share. One object for one queue of an interface, through all its
connections.

A queue holds the ring of the present connection, or none while the link is down. A call takes its own
reference to the ring first, so a disconnect in another thread can replace it at any time: the call ends on
memory that is still mapped.
"""
cimport cython

from memif.errors import MemifClosedError, MemifDisconnectedError, MemifStateError

from memif.ring._atomics cimport memif_flag_get, memif_try_lock, memif_unlock
from memif.ring._clock cimport now
from memif.ring._region cimport fork_count
from memif.ring._ring cimport BAD_DESCRIPTOR, BAD_INDEX
from memif.ring._views cimport Pool

cdef extern from "pythread.h":
    unsigned long PyThread_get_thread_ident()


@cython.final
cdef class _Bursts:
    """Iterates over a receive queue. No generator: one left by ``break`` needs memory then, and crashes without."""
    cdef Queue queue        # None at the end
    cdef object burst

    def __iter__(self):
        return self

    def __next__(self):
        queue = self.queue
        self.release()
        if queue is None or queue.ring is None and not queue.leftover():
            self.queue = None
            raise StopIteration
        try:
            self.burst = queue.recv(256)
        except (MemifDisconnectedError, MemifClosedError):
            self.queue = None
            raise StopIteration from None
        return self.burst

    def __del__(self):
        self.release()

    cdef int release(self) except -1:
        burst = self.burst
        self.burst = None
        if burst is not None:
            burst.release()
        return 0

    def __reduce__(self):
        raise TypeError("an iterator over a queue cannot be pickled or copied")


cdef object bursts_of(Queue queue):
    cdef _Bursts bursts = _Bursts.__new__(_Bursts)
    bursts.queue = queue
    return bursts


cdef class Queue:
    """One queue of an interface, in one direction, through all its connections. Made by an `Interface`.

    Attributes:
        owner: The interface.
        index: Number of the queue, from 0 on.
        counters: The counters, as an object.
        control_fd: Descriptor of the interface's socket, which calls that wait watch too.
    """

    def __cinit__(self, owner=None, unsigned int index=0, int control_fd=-1):
        self.owner = owner
        self.index = index
        self.control_fd = control_fd
        self.counters = Stats()
        self.pool = Pool()

    @property
    def ring(self):
        """The ring of the present connection; None while the link is down."""
        return self.any_ring

    @property
    def size(self):
        """Slots of the present connection's ring, which the slave has chosen; 0 while the link is down."""
        cdef Ring ring = self.any_ring
        return 0 if ring is None else ring.size

    @property
    def stats(self) -> dict:
        """Counters by name: ``packets``, ``bytes``, ``bursts``, what was dropped, and why. They outlive reconnects."""
        return self.counters.as_dict()

    def attach(self, Ring ring not None) -> None:
        """For the interface: the link is up, and calls work on `ring` from now on.

        Args:
            ring: A new ring. It counts in this queue's counters.
        """
        ring.check_complete()
        self.check_ours(ring)
        self.check_owned()
        ring.stats = self.counters
        self.any_ring = ring

    def detach(self, bint keep=False, bint telling=False) -> None:
        """For the interface: the link is down. Calls under way end, later ones raise.

        Args:
            keep: The peer has ended the link: what it had sent can still be received before calls raise.
            telling: on_disconnect is yet to be called: `fileno` works until `told`, so that it can be unregistered.
        """
        cdef Ring ring = self.any_ring
        self.any_ring = None
        if ring is not None:
            ring.kill()
            if telling:
                self.ended = ring

    def told(self) -> None:
        """For the interface: on_disconnect has returned."""
        self.ended = None

    def fileno(self) -> int:
        """The ring's event fd, for select, epoll or an event loop.

        It belongs to the connection: after a reconnect there is another one.

        Returns:
            The descriptor. Do not close it.

        Raises:
            MemifDisconnectedError: The link is down.
        """
        cdef Ring ring = self.ended
        return (ring if ring is not None else self.usable()).event_fd

    cdef Ring usable(self):
        """The ring, if calls may work on it."""
        cdef Ring ring = self.any_ring
        self.check_owned()
        if ring is None or memif_flag_get(&ring.dead):
            raise self.owner.down()
        self.check_ours(ring)
        return ring

    cdef int check_owned(self) except -1:
        if self.owner is None:
            raise MemifStateError("this queue was made by hand and belongs to no interface")
        return 0

    cdef int check_ours(self, Ring ring) except -1:
        if ring.born != fork_count():
            raise MemifStateError("this connection belongs to the parent process: open another after fork()")
        return 0

    cdef int in_use(self) except -1:
        raise MemifStateError(f"queue {self.index} is in use by another thread: one thread at a time")

    cdef int enter(self) except -1:
        if not memif_try_lock(&self.busy):
            self.in_use()
        self.holder = PyThread_get_thread_ident()
        return 0

    cdef void leave(self) noexcept:
        """The end of what `enter` began, unless another thread has taken over during `serve`."""
        if self.holder == PyThread_get_thread_ident():
            self.holder = 0
            memif_unlock(&self.busy)

    cdef int serve_control(self) except -1:
        """Look after the control channel, timers and reconnects. May end the link, and may call the user's
        functions."""
        cdef unsigned int forks = fork_count()
        self.served = now()
        self.owner.serve()
        if forks != fork_count():
            raise MemifStateError("this connection belongs to the parent process: open another after fork()")
        return 0

    cdef int idle(self) except -1:
        """A call that never waits found nothing to do: look after the control channel now and then."""
        if now() - self.served > SERVE_EVERY:
            self.serve_control()
        return 0

    cdef int broken(self, Ring ring) except -1:
        """The peer violated the ring protocol: the connection has to go."""
        what = {BAD_INDEX: "indices", BAD_DESCRIPTOR: "descriptors"}.get(ring.trouble, "interrupts")
        self.owner.broken(ring, f"{self.direction} queue {self.index}: peer broke the ring's {what}")
        raise self.owner.down()

    def __repr__(self) -> str:
        state = "down" if self.any_ring is None else f"{self.any_ring.size} slots"
        return f"<{type(self).__name__} {self.index}, {state}>"

    def __reduce__(self):
        raise TypeError("a queue belongs to a connection of this process and cannot be pickled or copied")
