"""An interface under attack, with a second one beside it that has a good peer."""

import contextlib
from typing import Any

import memif
from memif.testing import Case, HostilePeer, pump, unused_name

PACKETS = [bytes([n]) * (60 + n) for n in range(10)]


class Victim:
    """Context manager. The interface `under` attack has id 0; `other` has id 1 and is linked to `good`."""

    def __init__(self, case: Case, **options: Any) -> None:
        """`case` says which role the attacker has, and options; more `options` are those of this interface."""
        self.case = case
        self.options = {"role": "slave" if case.role == "master" else "master", "reconnect": 0.02, **options}
        self.path, self.second = unused_name(), unused_name()
        self.received = 0

    def __enter__(self) -> "Victim":
        with contextlib.ExitStack() as stack:
            # A slave and a master cannot share a socket's name, so the second interface of a slave has its own.
            same = self.options["role"] == "master"
            patience = 0.25 if "timed out" in self.case.reason else 5.0
            self.socket = stack.enter_context(memif.Socket(self.path, handshake_timeout=patience))
            self.beside = self.socket if same else stack.enter_context(memif.Socket(self.second))
            self.other = self.beside.interface(role="master", id=1)
            self.friend = stack.enter_context(memif.Socket(self.path if same else self.second))
            self.good = self.friend.interface(id=1)
            pump(self.beside, self.friend, until=lambda: self.good.up and self.other.up)
            self.peer = stack.enter_context(HostilePeer(self.path, self.case.role, idle=self.drive))
            self.under = self.socket.interface(id=0, **{"ring_size": 16, **self.options, **self.case.options})
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def drive(self) -> None:
        """What a program does: look after the sockets, receive everything, send something."""
        self.socket.poll(0)
        try:
            for queue in self.under.rx:
                with queue.recv(256, timeout=0) as burst:
                    self.received += len(burst.tobytes())
            for queue in self.under.tx:
                queue.send(PACKETS[:3])
        except (memif.MemifDisconnectedError, memif.MemifValueError):
            pass  # the latter: what a master may send depends on the buffers that its slave offers

    def counter(self, name: str) -> int:
        """The sum of a counter, "rx.dropped_bad", over all queues."""
        side, _, key = name.partition(".")
        return sum(queue[key] for queue in self.under.stats[side])

    def refused(self) -> int:
        """How many handshakes were refused, before or after the interface was known."""
        return int(self.under.stats["refused"]) + self.socket.stats["refused"]

    def settle(self, what: Any) -> None:
        """Drive until `what` is so, for a second at most."""
        with contextlib.suppress(memif.MemifTimeoutError):
            pump(self.socket, until=lambda: self.drive() or what(), timeout=1.0)

    def others_work(self) -> None:
        """The second interface carries packets both ways."""
        for sender, receiver in ((self.other, self.good), (self.good, self.other)):
            assert sender.tx[0].send(PACKETS) == len(PACKETS)
            with receiver.rx[0].recv(timeout=2.0) as burst:
                assert burst.tobytes() == PACKETS
