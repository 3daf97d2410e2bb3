from typing import Any, Protocol, Self

from typing_extensions import disjoint_base

from memif.ring._ring import Ring, Stats
from memif.types import QueueStats

__pyx_capi__: dict[str, object]

class _Owner(Protocol):
    def serve(self) -> object: ...
    def broken(self, ring: Ring, text: str) -> object: ...
    def down(self) -> BaseException: ...

@disjoint_base
class Queue:
    """One queue of an interface, in one direction, through all its connections. Made by an `Interface`.

    Attributes:
        owner: The interface.
        index: Number of the queue, from 0 on.
        counters: The counters, as an object.
        control_fd: Descriptor of the interface's socket, which calls that wait watch too.
    """

    def __new__(cls, owner: _Owner | None = None, index: int = 0, control_fd: int = -1) -> Self: ...
    @property
    def owner(self) -> Any: ...
    @property
    def index(self) -> int: ...
    @property
    def counters(self) -> Stats: ...
    @property
    def control_fd(self) -> int: ...
    @property
    def size(self) -> int:
        """Slots of the present connection's ring, which the slave has chosen; 0 while the link is down."""
    @property
    def stats(self) -> QueueStats:
        """Counters by name: ``packets``, ``bytes``, ``bursts``, what was dropped, and why. They outlive reconnects."""
    @property
    def ring(self) -> Ring | None:
        """The ring of the present connection; None while the link is down."""
    def attach(self, ring: Any) -> None:
        """For the interface: the link is up, and calls work on `ring` from now on.

        Args:
            ring: A new ring. It counts in this queue's counters.
        """
    def detach(self, keep: bool = False, telling: bool = False) -> None:
        """For the interface: the link is down. Calls under way end, later ones raise.

        Args:
            keep: The peer has ended the link: what it had sent can still be received before calls raise.
            telling: on_disconnect is yet to be called: `fileno` works until `told`, so that it can be unregistered.
        """
    def told(self) -> None:
        """For the interface: on_disconnect has returned."""
    def fileno(self) -> int:
        """The ring's event fd, for select, epoll or an event loop.

        It belongs to the connection: after a reconnect there is another one.

        Returns:
            The descriptor. Do not close it.

        Raises:
            MemifDisconnectedError: The link is down.
        """
