"""What the C library keeps behind its handles: a main with its sockets, a socket, a connection.

A `Main` is what `memif_init` sets up (one for the process), `memif_per_thread_init` (any number) and, in 4.0, each
`memif_create_socket`. It polls for all of its sockets, or tells the user which descriptors to poll.
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

from memif.errors import ErrorCode, MemifError, MemifValueError, from_os_error
from memif.libmemif._epoll import wait
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
    MEMIF_INTERFACE_MODE_ETHERNET,
    memif_fd_event_t,
    memif_fd_event_type_t,
    memif_result_t,
)
from memif.system import Single

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
#: Milliseconds; what the kernel can take.
_LONGEST = 0x7FFFFFFF
_NONE_RX: dict[int, RawRx] = {}
_NONE_TX: dict[int, RawTx] = {}


class FdContext:
    """What 4.0's descriptor callback gets as ``fde.private_ctx``: says whose descriptor it is."""

    __slots__ = ("fd", "main")

    def __init__(self, main: "Main", fd: int) -> None:
        """Made by `Main.announce`."""
        self.main: Main = main
        self.fd: int = fd


class _Local(threading.local):
    """The first error that callbacks had in the call that runs in this thread."""

    code: int = 0


class Main(Single):
    """One data base of the library: application name, callbacks, allocator, timer, sockets. Any thread may call."""

    def __init__(
        self,
        app_name: object = None,
        alloc: Callable[[int], Any] | None = None,
        free: Callable[[Any], object] | None = None,
        private_ctx: Any = None,
    ) -> None:
        """Raises `MemifValueError` for a bad name."""
        self.app_name: str = text("app_name", app_name) or MEMIF_DEFAULT_APP_NAME
        self.alloc: Callable[..., Any] | None = check_call("alloc", alloc)
        self.free: Callable[..., Any] | None = check_call("free", free)
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
        self._pollers = 0
        self._lock = threading.Lock()

    @property
    def usable(self) -> bool:
        """False once closed, and in a forked child, whose parent goes on with it."""
        return not self.closed and self.at_home

    @property
    def at_home(self) -> bool:
        """False in a forked child."""
        return self.pid == os.getpid()

    # -- who watches the descriptors

    def poll_here(self) -> None:
        """The library polls by itself: `memif_poll_event`."""
        try:
            self._epoll = select.epoll()
            self._cancel = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        except OSError as error:
            raise from_os_error(error, "polling") from error
        self._epoll.register(self._cancel, select.EPOLLIN)

    def tell(self, callback: object, form: str) -> None:
        """The user polls: `callback` hears of every descriptor, in the form of "2.0", "3.1" or "4.0"."""
        call: Any = check_call("on_control_fd_update", callback)
        forms: dict[str, Callable[[int, int], int | None]] = {
            "2.0": call,
            "3.1": lambda fd, events: call(fd, events, self.private_ctx),
            "4.0": lambda fd, events: call(
                memif_fd_event_t(fd, memif_fd_event_type_t(events), FdContext(self, fd)), self.private_ctx
            ),
        }
        self._tell = forms[form]

    def announce(self, owner: ControlSocket, fd: int, events: int) -> None:
        """Tell the user of a descriptor; raises `MemifError` with `ErrorCode.CB_FDUPDATE` when the callback fails."""
        self._owners[fd] = owner
        if not self._call_back(fd, events):
            self._owners.pop(fd, None)
            raise MemifError(f"for descriptor {fd}", code=ErrorCode.CB_FDUPDATE)

    def knows(self, fd: int) -> bool:
        """Whether the user was told of a descriptor."""
        return fd in self._owners

    def retire(self, fd: int) -> None:
        """A descriptor will be closed."""
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
        """A callback failed: the function of the API that runs in this thread will return `code`."""
        self._local.code = self._local.code or code

    def collect(self) -> int:
        """The code of the first callback that failed since the last call, in this thread."""
        code, self._local.code = self._local.code, 0
        return code

    # -- sockets

    def socket(self, path: object) -> ControlSocket:
        """The socket of this name, made if need be."""
        name = text("path", path)
        found = self.sockets.get(name)
        if found is None:
            found = ControlSocket(name or None, self)
            self.sockets[name] = found
            if self._epoll is not None:
                self._epoll.register(found.poller.fileno(), select.EPOLLIN)
        return found

    def forget(self, socket: ControlSocket) -> None:
        """A socket is closed."""
        for name, known in list(self.sockets.items()):
            if known is socket:
                del self.sockets[name]
                # A forked child shares the epoll with its parent, who goes on with it.
                if self._epoll is not None and self.at_home and not self._epoll.closed:
                    self._epoll.unregister(socket.poller.fileno())

    def drop_unused(self, socket: ControlSocket, keep: str | None) -> None:
        """Close a socket whose last interface went, unless it is the one called `keep`."""
        if not socket.members and keep is not None and self.sockets.get(keep) is not socket:
            socket.close()

    # -- events

    def handle(self, fd: object) -> int:
        """The user's loop saw events on `fd`. -> result."""
        owner = self._owners.get(fd) if isinstance(fd, int) else None
        if owner is None or not self.usable:
            return ErrorCode.BAD_FD
        self.collect()
        owner.poll(0)
        return self.collect()

    def poll(self, timeout: object) -> int:
        """Wait up to `timeout` ms (-1: for ever) for an event and handle it. -> result."""
        epoll = self._epoll
        if epoll is None or not self.usable:
            return ErrorCode.BAD_FD
        if not isinstance(timeout, int) or timeout < -1:
            return ErrorCode.INVAL_ARG
        self.collect()
        ready = self._wait(epoll, min(timeout, _LONGEST))
        if ready is None:
            return ErrorCode.POLL_CANCEL
        for owner in list(self.sockets.values()):
            if not owner.closed and owner.poller.fileno() in ready:
                owner.poll(0)
        return self.collect()

    def _wait(self, epoll: select.epoll, milliseconds: int) -> list[int] | None:
        """What is ready; None when the wait was cancelled, or the data base closed. InterruptedError after a signal."""
        with self._lock:
            if epoll.closed:
                return None
            self._pollers += 1
        try:
            ready = wait(epoll.fileno(), milliseconds)
            if self._cancel not in ready and not self.closed:
                return ready
            if not self.closed:  # else it is for all threads in here
                with contextlib.suppress(OSError):  # another thread may have taken it
                    os.eventfd_read(self._cancel)
            return None
        finally:
            with self._lock:
                self._pollers -= 1
            self._release()

    def _release(self) -> None:
        """Close the descriptors that threads in `poll` need, once there is none any more."""
        with self._lock:
            epoll = self._epoll
            if epoll is not None and self.closed and not (self._pollers and self.at_home):
                self._epoll = None
                epoll.close()
                os.close(self._cancel)

    def cancel(self) -> int:
        """End a `poll` that waits, or the next one. -> result."""
        if self._epoll is None or not self.usable:
            return ErrorCode.BAD_FD
        os.eventfd_write(self._cancel, 1)
        return ErrorCode.SUCCESS

    def close(self) -> None:
        """Delete all connections and close everything. Their on_disconnect is called first, while all is there."""
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
                os.eventfd_write(self._cancel, 1)  # threads that wait in here leave
            self._release()


class memif_socket_handle_t:
    """A socket. Made by `memif_create_socket`; of no more use, and false, once deleted."""

    __slots__ = ("main", "owns_main", "private_ctx", "socket")

    def __init__(self, main: Main, socket: ControlSocket, private_ctx: Any = None, *, owns_main: bool = False) -> None:
        """For the functions of this package."""
        self.main: Main = main
        self.socket: ControlSocket | None = socket
        self.private_ctx: Any = private_ctx
        self.owns_main: bool = owns_main

    def __bool__(self) -> bool:
        return self.socket is not None and not self.socket.closed

    def __repr__(self) -> str:
        return f"<memif_socket_handle_t {self.socket.address if self.socket else 'deleted'}>"


class memif_per_thread_main_handle_t:
    """A data base of 3.1, with sockets of its own. Made by `memif_per_thread_init`; false once cleaned up."""

    __slots__ = ("main",)

    def __init__(self, main: Main) -> None:
        """For the functions of this package."""
        self.main: Main | None = main

    def __bool__(self) -> bool:
        return self.main is not None


class memif_conn_handle_t:
    """A connection. Made by `memif_create`; of no more use, and false, once deleted.

    private_ctx is what was given to `memif_create`.
    """

    __slots__ = ("__weakref__", "interface", "main", "owner", "private_ctx")

    def __init__(self, main: Main, owner: memif_socket_handle_t, private_ctx: Any) -> None:
        """For `memif_create`."""
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
        """The interface, None once it was deleted (or its data base cleaned up)."""
        return None if self.interface is None or self.interface.closed else self.interface

    def __bool__(self) -> bool:
        return self.live is not None

    def __repr__(self) -> str:
        return f"<memif_conn_handle_t {'deleted' if self.interface is None else repr(self.interface)}>"


@dataclass(slots=True)
class memif_conn_args_t:
    """What `memif_create` wants to know. Zero, None and "" mean the default.

    socket (4.0 and 3.1) or socket_filename (2.0, default /run/vpp/memif.sock) say where; num_s2m_rings and
    num_m2s_rings (1) how many rings to offer as slave or to accept as master, with 0 for "as many as the slave
    wants" there; buffer_size is in bytes (2048), log2_ring_size at most 14 (10); secret has at most 23 bytes,
    interface_name at most 31.
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
    """A C string: str, or bytes up to the first NUL."""
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


def check_call(name: str, value: Any) -> Any:
    """A callback, or None."""
    if value is not None and not callable(value):
        raise MemifValueError.argument(name, value, "None or something to call")
    return value


def code_of(name: str, value: object) -> int:
    """What a callback returned, as a code."""
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
    """The code for an exception that came out of the core."""
    if isinstance(error, MemifError):
        return memif_result_t.of(error)
    if isinstance(error, OSError):
        return memif_result_t.of(from_os_error(error))
    if isinstance(error, MemoryError):
        return ErrorCode.NOMEM
    raise error
