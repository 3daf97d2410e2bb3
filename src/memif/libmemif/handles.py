"""The handles of the C library and the objects behind them: a main with its sockets, a socket, a connection.

`memif_init` sets up one `Main` for the process; each `memif_per_thread_init` and each `memif_create_socket` of 4.0 sets
up another. A `Main` polls for all its sockets, or tells the user which descriptors to poll.
"""

import contextlib
import logging
import operator
import os
import reprlib
import select
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from memif.config import check_callback
from memif.control.engine import Interrupt
from memif.errors import ErrorCode, MemifError, MemifValueError, from_os_error
from memif.libmemif._receive import RawRx
from memif.libmemif._transmit import RawTx
from memif.libmemif.shell import ControlSocket, ManualEndpoint
from memif.libmemif.supply import ExternalRegion
from memif.libmemif.types import (
    MEMIF_DEFAULT_APP_NAME,
    MEMIF_DEFAULT_RECONNECT_PERIOD_SEC,
    MEMIF_ERR_INVAL_ARG,
    MEMIF_ERR_SUCCESS,
    MEMIF_FD_EVENT_DEL,
    MEMIF_FD_EVENT_READ,
    MEMIF_INTERFACE_MODE_ETHERNET,
    memif_fd_event_t,
    memif_fd_event_type_t,
    memif_result_t,
)
from memif.system import Single
from memif.system._steady import Count, wait_unblocked

__all__ = [
    "memif_conn_args_t",
    "memif_conn_handle_t",
    "memif_connection_update_t",
    "memif_interrupt_t",
    "memif_on_interrupt_t",
    "memif_per_thread_main_handle_t",
    "memif_socket_handle_t",
]


_log = logging.getLogger("memif.libmemif")
#: The longest timeout that the kernel accepts, in milliseconds.
_LONGEST = 0x7FFFFFFF
_NONE_RX: dict[int, RawRx] = {}
_NONE_TX: dict[int, RawTx] = {}


class FdContext:
    """The ``fde.private_ctx`` of 4.0's callback for descriptors: identifies the descriptor and its owner."""

    __slots__ = ("fd", "main")

    def __init__(self, main: "Main", fd: int) -> None:
        """For `Main` only."""
        self.main: Main = main
        self.fd: int = fd


class _Direct:
    """The event fds of one socket's queues, which wait in the epoll of `memif_poll_event`: one look is enough."""

    def __init__(self, main: "Main", socket: ControlSocket, epoll: select.epoll, known: dict[int, Interrupt]) -> None:
        self._main = main
        self._socket = socket
        self._epoll = epoll
        self._known = known

    def add(self, fd: int, watcher: Interrupt) -> None:
        """See `memif.control.engine.Descriptors`."""
        self._main.announce(self._socket, fd, MEMIF_FD_EVENT_READ)
        self._known[fd] = watcher
        try:
            self._epoll.register(fd, select.EPOLLIN)
        except (OSError, ValueError) as error:
            self.remove(fd, watcher)
            raise from_os_error(error, "polling") if isinstance(error, OSError) else MemifError("closed") from error

    def remove(self, fd: int, watcher: Interrupt) -> None:
        """See `memif.control.engine.Descriptors`."""
        if self._known.get(fd) is watcher:
            self._main.retire(fd)
            # A forked child shares the epoll with its parent, who still uses it.
            if self._main.at_home:
                with contextlib.suppress(OSError, ValueError):  # not registered, or the epoll is closed
                    self._epoll.unregister(fd)
            self._known.pop(fd, None)  # a signal handler may have done all of this meanwhile


class _Local(threading.local):
    """The first error of a callback in the call that runs in this thread."""

    code: int = 0


class Main(Single):
    """One database of the library: application name, callbacks, allocator, timer, sockets.

    Any thread may call any method.

    Args:
        app_name: The name that peers see; None or "" for `MEMIF_DEFAULT_APP_NAME`.
        alloc: See `memif_init`.
        free: See `memif_init`.
        private_ctx: Passed to the callback for descriptors, in the forms that have it.

    Raises:
        MemifValueError: An argument is invalid.
    """

    def __init__(
        self,
        app_name: object = None,
        alloc: Callable[[int], Any] | None = None,
        free: Callable[[Any], object] | None = None,
        private_ctx: Any = None,
    ) -> None:
        self.app_name: str = text("app_name", app_name) or MEMIF_DEFAULT_APP_NAME
        self.alloc: Callable[..., Any] | None = check_callback("alloc", alloc)
        self.free: Callable[..., Any] | None = check_callback("free", free)
        self.private_ctx = private_ctx
        self.external: ExternalRegion | None = None
        self.period: float | None = MEMIF_DEFAULT_RECONNECT_PERIOD_SEC
        self.sockets: dict[str, ControlSocket] = {}
        self.closed: bool = False
        self.pid: int = os.getpid()
        self._owners: dict[int, ControlSocket] = {}
        self._tell: Callable[[int, int], int | None] | None = None
        self._local = _Local()
        self._epoll: select.epoll | None = None
        self._cancel = -1
        self._pollers = Count()
        self._polled: dict[int, ControlSocket] = {}
        self._interrupts: dict[int, Interrupt] = {}
        self._lock = threading.Lock()

    @property
    def usable(self) -> bool:
        """False once closed, and in a forked child, because the parent owns it."""
        return not self.closed and self.pid == os.getpid()

    @property
    def at_home(self) -> bool:
        """False in a forked child."""
        return self.pid == os.getpid()

    # Descriptors: polled here, or by the user.

    def poll_here(self) -> None:
        """Let `memif_poll_event` poll."""
        try:
            self._epoll = select.epoll()
            self._cancel = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        except OSError as error:
            raise from_os_error(error, "polling") from error
        self._epoll.register(self._cancel, select.EPOLLIN)

    def tell(self, callback: Any, form: str) -> None:
        """Let the user poll: `callback` is told of every descriptor, in the form of "2.0", "3.1" or "4.0"."""
        call: Any = check_callback("on_control_fd_update", callback)
        forms: dict[str, Callable[[int, int], int | None]] = {
            "2.0": call,
            "3.1": lambda fd, events: call(fd, events, self.private_ctx),
            "4.0": lambda fd, events: call(
                memif_fd_event_t(fd, memif_fd_event_type_t(events), FdContext(self, fd)), self.private_ctx
            ),
        }
        self._tell = forms[form]

    def announce(self, owner: ControlSocket, fd: int, events: int) -> None:
        """Tell the user of a descriptor, or of a change of its events.

        Args:
            owner: The socket that it belongs to.
            fd: The descriptor.
            events: ``MEMIF_FD_EVENT_...`` bits.

        Raises:
            MemifError: The callback failed; the code is `ErrorCode.CB_FDUPDATE`.
        """
        self._owners[fd] = owner
        if not self._call_back(fd, events):
            self._owners.pop(fd, None)
            raise MemifError(f"the callback for descriptor {fd} returned an error", code=ErrorCode.CB_FDUPDATE)

    def knows(self, fd: int) -> bool:
        """Return whether the user was told of a descriptor."""
        return fd in self._owners

    def retire(self, fd: int) -> None:
        """Tell the user that a descriptor will be closed."""
        if self._owners.pop(fd, None) is not None and not self._call_back(fd, MEMIF_FD_EVENT_DEL):
            self.remember(ErrorCode.CB_FDUPDATE)

    def _call_back(self, fd: int, events: int) -> bool:
        if self._tell is None:
            return True
        try:
            return not self._tell(fd, events)
        except Exception:
            _log.exception("memif_control_fd_update_t")
            return False

    def remember(self, code: int) -> None:
        """Record a callback's error: the API function that runs in this thread will return `code`."""
        self._local.code = self._local.code or code

    def collect(self) -> int:
        """Return the code of the first callback that failed in this thread since the last call."""
        code, self._local.code = self._local.code, 0
        return code

    # Sockets.

    def socket(self, path: object) -> ControlSocket:
        """Return the socket of this name, created if necessary."""
        name = text("path", path)
        found = self.sockets.get(name)
        if found is None:
            found = ControlSocket(name or None, self)
            self.sockets[name] = found
            if self._epoll is not None:
                self._polled[found.poller.fileno()] = found
                self._epoll.register(found.poller.fileno(), select.EPOLLIN)
        return found

    def forget(self, socket: ControlSocket) -> None:
        """Remove a socket that is being closed."""
        for name, known in list(self.sockets.items()):
            if known is socket:
                del self.sockets[name]
                self._polled = {fd: other for fd, other in self._polled.items() if other is not socket}
                # A forked child shares the epoll with its parent, who still uses it.
                if self._epoll is not None and self.at_home and not self._epoll.closed:
                    self._epoll.unregister(socket.poller.fileno())

    def drop_unused(self, socket: ControlSocket, keep: str | None) -> None:
        """Close a socket without interfaces, unless it is the one named `keep`."""
        if not socket.members and keep is not None and self.sockets.get(keep) is not socket:
            socket.close()

    def interrupts_of(self, socket: ControlSocket) -> _Direct | None:
        """Return what waits for the event fds of a socket's queues; None: its own poller."""
        return None if self._epoll is None else _Direct(self, socket, self._epoll, self._interrupts)

    # Events.

    def handle(self, fd: object) -> int:
        """Handle events that the user's loop saw on `fd`, and return the code."""
        owner = self._owners.get(fd) if isinstance(fd, int) else None
        if owner is None or not self.usable:
            return ErrorCode.BAD_FD
        if self._epoll is not None:
            return self.poll(0)
        self.collect()
        owner.poll(0)
        return self.collect()

    def poll(self, timeout: object) -> int:
        """Wait up to `timeout` milliseconds (-1: for ever) for events, handle them, and return the code.

        Raises InterruptedError after a signal.
        """
        epoll = self._epoll
        if epoll is None or self.closed or self.pid != os.getpid():
            return ErrorCode.BAD_FD
        if not isinstance(timeout, int) or timeout < -1:
            return ErrorCode.INVAL_ARG
        local = self._local
        local.code = 0
        try:
            with self._pollers:  # from here on the descriptors stay open, unless the main was closed before
                if self.closed:
                    return ErrorCode.POLL_CANCEL
                ready = wait_unblocked(epoll.fileno(), timeout if timeout < _LONGEST else _LONGEST)
                if self._cancel in ready or self.closed:
                    return self._cancelled()
        finally:
            if self.closed:
                self._release()
        for fd in ready:
            interrupt = self._interrupts.get(fd)  # each time: a callback can delete connections and sockets
            if interrupt is None:
                owner = self._polled.get(fd)
                if owner is not None:
                    owner.poll(0)
            elif not interrupt.running:  # a callback can poll
                interrupt.run()
                if interrupt.engine.calls:
                    interrupt.engine.run_calls()
        return self.collect() if local.code else MEMIF_ERR_SUCCESS

    def _cancelled(self) -> int:
        if not self.closed:  # else the event is for all threads that wait
            with contextlib.suppress(OSError):  # another thread may have taken it
                os.eventfd_read(self._cancel)
        return ErrorCode.POLL_CANCEL

    def _release(self) -> None:
        """Close the descriptors that `poll` uses, once no thread is in it."""
        with self._lock:
            epoll = self._epoll
            if epoll is not None and self.closed and not (self._pollers and self.at_home):
                self._epoll = None
                epoll.close()
                os.close(self._cancel)

    def cancel(self) -> int:
        """End a `poll` that waits, or else the next one, and return the code."""
        if self._epoll is None or not self.usable:
            return ErrorCode.BAD_FD
        os.eventfd_write(self._cancel, 1)
        return ErrorCode.SUCCESS

    def close(self) -> None:
        """Delete all connections and close everything. Each on_disconnect is called first."""
        with contextlib.ExitStack() as calls:
            calls.callback(self._close)
            for owner in self.sockets.values() if self.at_home else ():
                for endpoint in owner.all_members():
                    if isinstance(endpoint, ManualEndpoint) and endpoint.leave():
                        calls.callback(endpoint.farewell)

    def _close(self) -> None:
        self.closed = True
        for owner in list(self.sockets.values()):
            owner.close()
        if self._epoll is not None:
            if self.at_home:
                os.eventfd_write(self._cancel, 1)  # wakes the threads that wait
            self._release()


class memif_socket_handle_t:
    """A socket, created by `memif_create_socket`. False once deleted.

    Attributes:
        private_ctx: The argument of `memif_create_socket`.
    """

    __slots__ = ("main", "owns_main", "private_ctx", "socket")

    def __init__(self, main: Main, socket: ControlSocket, private_ctx: Any = None, *, owns_main: bool = False) -> None:
        """For the functions of this package only."""
        self.main: Main = main
        self.socket: ControlSocket | None = socket
        self.private_ctx: Any = private_ctx
        self.owns_main: bool = owns_main

    def __bool__(self) -> bool:
        return self.socket is not None and not self.socket.closed

    def __repr__(self) -> str:
        return f"<memif_socket_handle_t {self.socket.address if self.socket else 'deleted'}>"


class memif_per_thread_main_handle_t:
    """A database of 3.1 with its own sockets, created by `memif_per_thread_init`. False once cleaned up."""

    __slots__ = ("main",)

    def __init__(self, main: Main) -> None:
        """For the functions of this package only."""
        self.main: Main | None = main

    def __bool__(self) -> bool:
        return self.main is not None


class memif_conn_handle_t:
    """A connection, created by `memif_create`. False once deleted.

    Attributes:
        private_ctx: The argument of `memif_create`.
    """

    __slots__ = ("__weakref__", "interface", "main", "owner", "private_ctx")

    def __init__(self, main: Main, owner: memif_socket_handle_t, private_ctx: Any) -> None:
        """For `memif_create` only."""
        self.main: Main = main
        self.owner: memif_socket_handle_t = owner
        self.private_ctx: Any = private_ctx
        self.interface: ManualEndpoint | None = None

    @property
    def rx(self) -> dict[int, RawRx]:
        """Receive rings by queue id; empty while the link is down."""
        return _NONE_RX if self.interface is None else self.interface.raw_rx

    @property
    def tx(self) -> dict[int, RawTx]:
        """Transmit rings by queue id; empty while the link is down."""
        return _NONE_TX if self.interface is None else self.interface.raw_tx

    @property
    def live(self) -> ManualEndpoint | None:
        """The interface; None once it was deleted or its main cleaned up."""
        return None if self.interface is None or self.interface.closed else self.interface

    def __bool__(self) -> bool:
        return self.live is not None

    def __repr__(self) -> str:
        return f"<memif_conn_handle_t {'deleted' if self.interface is None else repr(self.interface)}>"


@dataclass(slots=True)
class memif_conn_args_t:
    """The arguments of `memif_create`. Zero, None and "" mean the default.

    Attributes:
        socket: The socket (4.0 and 3.1).
        socket_filename: The socket's file instead (2.0). Default: /run/vpp/memif.sock.
        secret: The secret, at most 23 bytes. Default: none.
        num_s2m_rings: Slave: the rings to offer in the direction slave to master. Default: 1. A master accepts as many
            as the slave offers.
        num_m2s_rings: The same for the direction master to slave.
        buffer_size: Bytes of a buffer, at least 64. Default: 2048.
        log2_ring_size: The logarithm of a ring's size, at most 14. Default: 10.
        is_master: 1 for a master, 0 for a slave.
        interface_id: The interface's number; the peer uses the same.
        interface_name: The name that the peer sees, at most 31 bytes.
        mode: A `memif_interface_mode_t`; the peer uses the same.
    """

    socket: memif_socket_handle_t | None = None
    socket_filename: str | None = None
    secret: bytes | str = b""
    num_s2m_rings: int = 0
    num_m2s_rings: int = 0
    buffer_size: int = 0
    log2_ring_size: int = 0
    is_master: int = 0
    interface_id: int = 0
    interface_name: str = ""
    mode: int = MEMIF_INTERFACE_MODE_ETHERNET


#: ``f(conn, private_ctx)``: the link came up or went down.
memif_connection_update_t = Callable[[memif_conn_handle_t, Any], int | None]
#: ``f(conn, private_ctx, qid)``: packets wait on a receive queue.
memif_on_interrupt_t = Callable[[memif_conn_handle_t, Any, int], int | None]
#: The same under its name in 2.0.
memif_interrupt_t = memif_on_interrupt_t


def text(name: str, value: object) -> str:
    """Return a C string as str: a str, or bytes up to the first NUL."""
    if value is None:
        return ""
    if isinstance(value, (bytes, bytearray)):
        value = bytes(value).split(b"\0")[0]
    if isinstance(value, (bytes, str, os.PathLike)):
        try:
            return os.fsencode(value).decode(errors="surrogateescape")
        except (UnicodeError, TypeError):
            pass
    raise MemifValueError.argument(name, value, "text")


def code_of(name: str, value: object) -> int:
    """Return the code for what a callback returned."""
    if value is None:
        return MEMIF_ERR_SUCCESS
    try:
        code = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        code = _LONGEST + 1
    if -_LONGEST - 1 <= code <= _LONGEST:
        return value if isinstance(value, memif_result_t) else code
    return memif_result_t(MEMIF_ERR_INVAL_ARG, 0, f"{name} returned {reprlib.repr(value)}, allowed: None or a code")


def result_of(error: Exception) -> int:
    """Return the code for an exception; one that has no code is raised again."""
    if isinstance(error, MemifError):
        return memif_result_t.of(error)
    if isinstance(error, OSError):
        return memif_result_t.of(from_os_error(error))
    if isinstance(error, MemoryError):
        return ErrorCode.NOMEM
    raise error
