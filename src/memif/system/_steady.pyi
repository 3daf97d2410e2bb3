import _socket
from collections.abc import Callable
from typing import Any, TypeVar, final

from typing_extensions import disjoint_base

_A = TypeVar("_A")
_T = TypeVar("_T")

@final
class Owner:
    """Keeps one descriptor: closes it with `close`, or when nobody knows it any more.

    Attributes:
        fd: Its number, -1 once it is closed or released.
    """

    @property
    def fd(self) -> int: ...
    def close(self) -> None:
        """Close it now. A second call does nothing."""
    def release(self) -> int:
        """Return its number; somebody else owns it from here on."""

@disjoint_base
class Descriptor(int):
    """The number of a descriptor, which is closed with the last reference to this object, or by `close`."""

    owner: Owner
    def close(self) -> None:
        """Close it now. A second call does nothing."""

def owned(fd: int) -> Descriptor:
    """Return a `Descriptor` for `fd`, never 0, 1 or 2: those are moved. Raises OSError when no other is free."""

def discard(fd: int) -> None:
    """Close a descriptor of whatever kind, a `Descriptor` or a number, without being held by one that hangs."""

def close_elsewhere(fd: int) -> None:
    """Have a descriptor closed by a thread of its own."""

def eventfd() -> Descriptor:
    """Return a new event fd, non-blocking and close-on-exec. Raises OSError without a free descriptor."""

def notify(event: Descriptor) -> None:
    """Add one to an event fd (a `Descriptor`), unless it is closed. No other thread and no signal handler, which could
    close it, comes between the look and the write.
    """

def memfd(name: bytes, flags: int) -> Descriptor:
    """Return new memory, as os.memfd_create makes it. Raises OSError without a free descriptor."""

def timerfd() -> Descriptor:
    """Return a new timer on the clock of `time.monotonic`, non-blocking and close-on-exec. Raises OSError."""

def timer_set(fd: int, nanoseconds: int) -> None:
    """Make a timer readable at that time; 0: never."""

def bind(sock: int, path: bytes, mode: int) -> None:
    """Bind a UNIX socket to ``path``; its file has ``mode`` from its first moment, whatever the umask. Raises what
    bind does.
    """

def bound_file(sock: int) -> Descriptor:
    """Open, with O_PATH, the file that a UNIX socket was bound to, whatever its name leads to by now. Raises OSError,
    also without CAP_NET_ADMIN.
    """

def rename_new(folder: int, before: bytes, after: bytes) -> None:
    """Rename within a directory; FileExistsError if there is such a file, OSError if the file system cannot do it."""

def accept(listener: int) -> _socket.socket:
    """Return the next client's socket, non-blocking and close-on-exec. Raises what ``accept`` does."""

def receive(sock: int, size: int) -> tuple[bytes, list[Descriptor], bool, bool]:
    """Receive one datagram, with room for as many descriptors as one message can have.

    Args:
        sock: The socket.
        size: The most bytes to return.

    Returns:
        The bytes; the descriptors, which are close-on-exec, above 2 and owned; whether any of the two was cut off; and
        whether there was a message at all, which is False at the end of the connection (needs SO_PASSCRED).

    Raises:
        BlockingIOError: No message is there.
        OSError: Receiving failed.
    """

@final
class Count:
    """How many are inside of ``with count:``.

    Attributes:
        inside: The number.
    """

    @property
    def inside(self) -> int: ...
    def __enter__(self) -> Count: ...
    def __exit__(self, *_: object) -> None: ...
    def __bool__(self) -> bool: ...

@final
class Guard:
    """A reentrant lock which cannot be taken without being given back.

    Attributes:
        depth: How often the thread that has it has taken it.
    """

    def __init__(self, lock: Any) -> None: ...
    @property
    def depth(self) -> int: ...
    def run(self, work: Callable[[_A], _T], argument: _A, *, blocking: bool) -> _T | None:
        """Return ``work(argument)``, done with the lock; None if another thread has it and `blocking` is false."""
    def hold(self, leave: Callable[[], object], after: Callable[[], object]) -> Hold:
        """Return a context that has the lock. At its end comes ``leave()``, and ``after()`` once the lock is free."""

@final
class Hold:
    """What `Guard.hold` gives."""

    def __init__(self, guard: Guard, leave: Callable[[], object], after: Callable[[], object]) -> None: ...
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...

def wait_unblocked(epfd: int, timeout: int) -> list[int]:
    """Wait for events on an epoll descriptor as a C program does: with no signal blocked, and ended by a signal.

    `select.epoll.poll` continues after a signal whose handler returned (PEP 475), and leaves blocked signals blocked.

    Args:
        epfd: The epoll descriptor.
        timeout: Milliseconds to wait; -1 waits for ever.

    Returns:
        The descriptors that are ready, 64 at most.

    Raises:
        InterruptedError: A signal handler has returned. An exception of a handler is raised as it is.
        OSError: epoll failed.
    """
