"""Initialise, create, delete, poll: the functions of 2.0, which take the forms of 3.1 and 4.0 as well."""

import threading
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from memif.config import MODE_NAMES
from memif.errors import ErrorCode, MemifError, MemifValueError
from memif.libmemif.codes import (
    MEMIF_ERR_ALREADY,
    MEMIF_ERR_BAD_FD,
    MEMIF_ERR_CONN,
    MEMIF_ERR_DISCONNECTED,
    MEMIF_ERR_INVAL_ARG,
    MEMIF_ERR_MAX_RING,
    MEMIF_ERR_NOCONN,
    MEMIF_ERR_QID,
    MEMIF_ERR_SUCCESS,
)
from memif.libmemif.handles import (
    FdContext,
    Main,
    check_call,
    code_of,
    memif_conn_args_t,
    memif_conn_handle_t,
    memif_socket_handle_t,
    result_of,
    text,
)
from memif.libmemif.shell import ControlSocket, ManualEndpoint
from memif.libmemif.types import (
    MEMIF_DEFAULT_BUFFER_SIZE,
    MEMIF_DEFAULT_LOG2_RING_SIZE,
    MEMIF_DEFAULT_RX_QUEUES,
    MEMIF_DEFAULT_TX_QUEUES,
    MEMIF_MAX_LOG2_RING_SIZE,
)
from memif.ring import RxQueue

__all__ = [
    "memif_cancel_poll_event",
    "memif_cleanup",
    "memif_control_fd_handler",
    "memif_create",
    "memif_delete",
    "memif_get_queue_efd",
    "memif_init",
    "memif_poll_event",
    "memif_set_rx_mode",
]


_P = ParamSpec("_P")
_R = TypeVar("_R")
#: Attempts that failed for these reasons would fail for ever.
_FINAL = {ErrorCode.ACCES, ErrorCode.FILE_NOT_SOCK, ErrorCode.CB_FDUPDATE, ErrorCode.INVAL_ARG}
#: Seconds until a second attempt to connect; the master may be just starting.
_FIRST_RETRY = 0.05

_global: Main | None = None
_global_lock = threading.Lock()


def coded(function: Callable[_P, int]) -> Callable[_P, int]:
    """Turn the core's exceptions into the C library's codes."""

    @wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> int:
        try:
            return function(*args, **kwargs)
        except (MemifError, OSError, MemoryError) as error:
            return result_of(error)

    return call


def global_main() -> Main | None:
    """What `memif_init` made."""
    return _global


@coded
def memif_init(
    on_control_fd_update: Callable[..., int | None] | None = None,
    app_name: str | bytes | None = None,
    *memory: Callable[..., Any] | None,
    memif_alloc: Callable[[int], Any] | None = None,
    memif_realloc: Callable[[Any, int], Any] | None = None,
    memif_free: Callable[[Any], object] | None = None,
) -> int:
    """Set the library up: ``memif_init(on_control_fd_update, app_name, memif_alloc, memif_free)``.

    With five arguments, as in 3.1, the fourth is memif_realloc, which is never called, because nothing here grows. The
    callback for descriptors is then called as ``f(fd, events, None)``. One call serves a process; the library and all
    connections belong to any thread.

    Args:
        on_control_fd_update: ``f(fd, events) -> 0``: the user polls. It is called for each descriptor that is new
            (MEMIF_FD_EVENT_READ, or READ | WRITE), has changed (with MOD) or is about to be closed (DEL). The user
            passes events to `memif_control_fd_handler`. With None `memif_poll_event` polls.
        app_name: Name that peers see, at most 31 bytes ("libmemif-app"); a longer one is refused, not truncated.
        memif_alloc: ``alloc(size)`` provides the shared memory for packets. It returns a descriptor (memfd) of at least
            `size` bytes, zeroed; or ``(descriptor, buffer)`` if it is mapped already; or an object with ``fileno()``;
            or None if there is no memory. Default: the library's own.
        memif_free: ``free(memory)`` gets the memory back when the last buffer and view of the connection is gone.

    Returns:
        The code: MEMIF_ERR_ALREADY when the library is set up already (see `memif_cleanup`), MEMIF_ERR_CB_FDUPDATE when
        the callback fails for the timer's descriptor, MEMIF_ERR_INVAL_ARG, MEMIF_ERR_PROC_FILE_LIMIT and other system
        errors.
    """
    global _global
    alloc, realloc, free = _memory(memory, memif_alloc, memif_realloc, memif_free)
    check_call("memif_realloc", realloc)
    with _global_lock:
        if _global is not None and _global.usable:
            return MEMIF_ERR_ALREADY
        main = Main(app_name, alloc, free)
        start_main(main, on_control_fd_update, "3.1" if len(memory) == 3 else "2.0")
        _global = main
    return MEMIF_ERR_SUCCESS


def _memory(given: tuple[Any, ...], alloc: Any, realloc: Any, free: Any) -> tuple[Any, Any, Any]:
    if len(given) > 3:
        raise MemifValueError(f"memif_init: {len(given) + 2} arguments, allowed: at most 5")
    if len(given) == 3:
        return given
    return (given[0] if given else alloc), realloc, (given[1] if len(given) == 2 else free)


def start_main(main: Main, on_control_fd_update: object, form: str, path: object = None) -> ControlSocket:
    """Let `main` poll, or tell, and open its first socket; everything is closed again if that fails."""
    try:
        if on_control_fd_update is None:
            main.poll_here()
        else:
            main.tell(on_control_fd_update, form)
        return main.socket(path)
    except BaseException:
        main.close()
        raise


@coded
def memif_cleanup() -> int:
    """Undo `memif_init`: delete all of its connections, as `memif_delete` does.

    Does nothing without a `memif_init` before. 4.0 has `memif_delete_socket` instead.

    Returns:
        MEMIF_ERR_SUCCESS.
    """
    global _global
    with _global_lock:
        main, _global = _global, None
    if main is not None:
        main.close()
    return MEMIF_ERR_SUCCESS


def memif_create(
    args: memif_conn_args_t,
    on_connect: Callable[..., int | None] | None = None,
    on_disconnect: Callable[..., int | None] | None = None,
    on_interrupt: Callable[..., int | None] | None = None,
    private_ctx: Any = None,
    *,
    conn: memif_conn_handle_t | None = None,
) -> tuple[int, memif_conn_handle_t | None]:
    """Create an interface.

    A slave tries to connect at once and then every two seconds (see `memif_set_connection_request_timer`); it is no
    error if nobody listens yet. A master listens from here on. Callbacks run inside the call that noticed the event
    (`memif_poll_event`, `memif_control_fd_handler`, `memif_delete`). That call returns the first code other than 0 that
    a callback returned, and raises the exceptions of callbacks.

    Args:
        args: See `memif_conn_args_t`: with `socket` as in 4.0 and 3.1, or with `socket_filename` as in 2.0. As in C,
            sizes and numbers that are 0 stand for the defaults.
        on_connect: ``f(conn, private_ctx)``, called when the link is up. A slave refills its receive queues there.
        on_disconnect: The same, called when the link is down, when an attempt to connect was refused, and by
            `memif_delete`. The connection's queues, details and descriptors are removed afterwards.
        on_interrupt: ``f(conn, private_ctx, qid)``, called while packets wait on a receive queue, also those that the
            peer had sent before it left. With None nothing is called, and the user polls the event descriptors, see
            `memif_get_queue_efd`.
        private_ctx: Passed to the callbacks.
        conn: Where C passes the place of the handle: an existing connection gives MEMIF_ERR_CONN.

    Returns:
        The code, and the connection's handle, None unless the code is 0. Codes: MEMIF_ERR_INVAL_ARG (an argument, a
        second interface with that id, neither `memif_init` nor a socket), MEMIF_ERR_MAX_RING, MEMIF_ERR_ACCES,
        MEMIF_ERR_NO_FILE (master: no such directory), MEMIF_ERR_FILE_NOT_SOCK, MEMIF_ERR_ALREADY (master: another
        program listens there), MEMIF_ERR_CB_FDUPDATE, MEMIF_ERR_CONN, system errors.
    """
    try:
        if conn is not None and conn:
            return MEMIF_ERR_CONN, None
        owner = _owner(args)
        handle = memif_conn_handle_t(owner.main, owner, private_ctx)
        options = _options(args) | _callbacks(handle, on_connect, on_disconnect, on_interrupt)
        _open(handle, owner, options)
    except (MemifError, OSError, MemoryError) as error:
        return result_of(error), None
    handle.main.collect()
    return MEMIF_ERR_SUCCESS, handle


def _owner(args: object) -> memif_socket_handle_t:
    if not isinstance(args, memif_conn_args_t):
        raise MemifValueError.argument("args", args, "a memif_conn_args_t")
    if args.socket is not None:
        if not isinstance(args.socket, memif_socket_handle_t) or not args.socket:
            raise MemifValueError.argument("args.socket", args.socket, "a socket that was not deleted")
        return args.socket
    if _global is None:
        raise MemifValueError("memif_create without memif_init and without a socket")
    return memif_socket_handle_t(_global, _global.socket(args.socket_filename))


def _options(args: memif_conn_args_t) -> dict[str, Any]:
    if not isinstance(args.log2_ring_size, int) or args.log2_ring_size > MEMIF_MAX_LOG2_RING_SIZE:
        raise MemifValueError.argument("log2_ring_size", args.log2_ring_size, "0 to 14", code=MEMIF_ERR_MAX_RING)
    if args.log2_ring_size < 0 or not isinstance(args.mode, int) or args.mode not in MODE_NAMES:
        raise MemifValueError.argument("log2_ring_size, mode", (args.log2_ring_size, args.mode), "from 0 on; 0 to 2")
    args.log2_ring_size = args.log2_ring_size or MEMIF_DEFAULT_LOG2_RING_SIZE
    args.buffer_size = args.buffer_size or MEMIF_DEFAULT_BUFFER_SIZE
    args.num_s2m_rings = args.num_s2m_rings or MEMIF_DEFAULT_TX_QUEUES
    args.num_m2s_rings = args.num_m2s_rings or MEMIF_DEFAULT_RX_QUEUES
    return {
        "id": args.interface_id,
        "role": "master" if args.is_master else "slave",
        "mode": MODE_NAMES[args.mode],
        "name": text("interface_name", args.interface_name) or None,
        "secret": text("secret", args.secret).encode(errors="surrogateescape"),
        "ring_size": 1 << args.log2_ring_size,
        "buffer_size": args.buffer_size,
        # As in C a master takes as many rings as the slave offers.
        "tx_queues": None if args.is_master else args.num_s2m_rings,
        "rx_queues": None if args.is_master else args.num_m2s_rings,
    }


def _callbacks(handle: memif_conn_handle_t, on_connect: Any, on_disconnect: Any, on_interrupt: Any) -> dict[str, Any]:
    named = {"on_connect": on_connect, "on_disconnect": on_disconnect, "on_interrupt": on_interrupt}
    return {name: _calling(handle, name, call) for name, call in named.items() if check_call(name, call) is not None}


def _calling(handle: memif_conn_handle_t, name: str, callback: Callable[..., int | None]) -> Callable[..., None]:
    """A callback of C's kind as one of the core's. One that polls is not called again from in there."""
    inside: set[tuple[int, ...]] = set()

    def call(_: object, *qid: int) -> None:
        here = (threading.get_ident(), *qid)
        if here in inside:
            return
        inside.add(here)
        try:
            code = code_of(name, callback(handle, handle.private_ctx, *qid))
        finally:
            inside.discard(here)
        if code:
            handle.main.remember(code)

    return call


def _open(handle: memif_conn_handle_t, owner: memif_socket_handle_t, options: dict[str, Any]) -> None:
    assert owner.socket is not None
    socket, main = owner.socket, owner.main
    on_disconnect = options.pop("on_disconnect", None)
    try:
        # Created idle, so that the handle is there before the first event; then told to connect.
        with socket.locked():
            interface = socket.interface(options)
            interface.handle, handle.interface = handle, interface
            interface.on_disconnect = on_disconnect
            if interface.role == "slave":
                _first_attempt(interface, main.period)
    except BaseException:
        _drop(handle, socket, main)
        raise


def _first_attempt(interface: ManualEndpoint, period: float | None) -> None:
    try:
        interface.connect()
    except MemifError as error:
        if error.code in _FINAL:
            raise
    interface.set_period(period, first=_FIRST_RETRY)


def _drop(handle: memif_conn_handle_t, socket: ControlSocket, main: Main) -> None:
    interface, handle.interface = handle.interface, None
    if interface is not None:
        if main.at_home:
            interface.leave()
        interface.close()
    if main is _global:
        main.drop_unused(socket, "")


@coded
def memif_delete(conn: memif_conn_handle_t) -> int:
    """Disconnect and delete an interface: call on_disconnect, even if the link is down, then tell the peer.

    In on_disconnect the connection is still complete. Memory stays mapped while a buffer or a view of it is alive. For
    any thread; what other threads do on the connection ends with a code.

    Args:
        conn: The handle. Afterwards all functions return MEMIF_ERR_NOCONN for it.

    Returns:
        The code; MEMIF_ERR_NOCONN for a second delete.
    """
    live = conn.live if isinstance(conn, memif_conn_handle_t) else None  # once: another thread can delete it
    at_home = conn.main.at_home if live else False  # else in a forked child, where the lock may be held for ever
    if live is None or (at_home and not live.leave()):
        return MEMIF_ERR_NOCONN
    try:
        if at_home:
            live.farewell()
    finally:
        _drop(conn, live.engine, conn.main)
    return conn.main.collect() or MEMIF_ERR_SUCCESS


@coded
def memif_control_fd_handler(fd: int | FdContext, events: int = 0) -> int:
    """Handle events on a descriptor that the callback of `memif_init` was called for.

    2.0: ``(fd, events)``. 4.0: ``(ptr, events)`` with the `private_ctx` of the event as ptr.

    For the timer, slaves that are down try to connect; for listener and connections, messages are handled; for
    interrupts, on_interrupt is called. Callbacks run inside this call.

    Args:
        fd: The descriptor, or 4.0's context.
        events: MEMIF_FD_EVENT_READ, WRITE and ERROR; any value will do, because pending events are looked up.

    Returns:
        The code that a callback returned; MEMIF_ERR_BAD_FD for a descriptor that is not, or no longer, the library's.
    """
    if isinstance(fd, FdContext):
        return fd.main.handle(fd.fd) or MEMIF_ERR_SUCCESS
    if not isinstance(fd, int):
        return MEMIF_ERR_INVAL_ARG
    return MEMIF_ERR_BAD_FD if _global is None else _global.handle(fd) or MEMIF_ERR_SUCCESS


@coded
def memif_poll_event(sock: memif_socket_handle_t | int = -1, timeout: int | None = None) -> int:
    """Wait for an event and handle it.

    2.0: ``(timeout)``. 4.0: ``(sock, timeout)``. Callbacks run inside this call. Several threads may poll.

    A signal ends the wait: after its handler has returned, the code is MEMIF_ERR_SYSCALL with errno EINTR. Signals that
    the thread has blocked are let in while it waits.

    Args:
        sock: 4.0: the socket. 2.0: the timeout.
        timeout: Milliseconds; 0 does not wait, -1 (default) waits for ever.

    Returns:
        The code: MEMIF_ERR_SUCCESS also when the time is over; MEMIF_ERR_POLL_CANCEL after `memif_cancel_poll_event`;
        MEMIF_ERR_BAD_FD when the library does not poll (it was given a callback for descriptors, or there was no
        `memif_init`); MEMIF_ERR_INVAL_ARG; what a callback returned.
    """
    main, limit = _polled(sock, timeout)
    if main is None:
        return MEMIF_ERR_INVAL_ARG if isinstance(sock, memif_socket_handle_t) else MEMIF_ERR_BAD_FD
    return main.poll(limit) or MEMIF_ERR_SUCCESS


def _polled(sock: object, timeout: object) -> tuple[Main | None, object]:
    if isinstance(sock, memif_socket_handle_t):
        return (sock.main if sock else None), -1 if timeout is None else timeout
    return _global, sock if timeout is None else None


@coded
def memif_cancel_poll_event(sock: memif_socket_handle_t | None = None) -> int:
    """Make a `memif_poll_event` that waits, or the next one, return MEMIF_ERR_POLL_CANCEL.

    For any thread, and for signal handlers.

    Args:
        sock: 4.0: the socket.

    Returns:
        The code: MEMIF_ERR_BAD_FD when the library does not poll, MEMIF_ERR_INVAL_ARG for a socket that was deleted.
    """
    if sock is None:
        return MEMIF_ERR_BAD_FD if _global is None else _global.cancel()
    if not isinstance(sock, memif_socket_handle_t) or not sock:
        return MEMIF_ERR_INVAL_ARG
    return sock.main.cancel()


def no_ring(conn: object, *, rx: bool) -> int:
    """The code for a queue that cannot be used: no such connection, link down, or no such queue."""
    interface = conn.live if isinstance(conn, memif_conn_handle_t) else None
    if interface is None:
        return MEMIF_ERR_NOCONN
    return MEMIF_ERR_QID if (interface.raw_rx if rx else interface.raw_tx) or interface.up else MEMIF_ERR_DISCONNECTED


def memif_get_queue_efd(conn: memif_conn_handle_t, qid: int) -> tuple[int, int]:
    """Return the event descriptor of a receive queue, which is readable while packets wait in interrupt mode.

    Poll it, but do not read it: `memif_rx_burst` does that when the ring is empty. It belongs to the connection; the
    next connection has another one.

    Args:
        conn: The connection.
        qid: The receive queue.

    Returns:
        The code, and the descriptor, -1 unless the code is 0. Codes: MEMIF_ERR_NOCONN, MEMIF_ERR_DISCONNECTED,
        MEMIF_ERR_QID.
    """
    queue = _rx_queue(conn, qid)
    if queue is None:
        return no_ring(conn, rx=True), -1
    try:
        return MEMIF_ERR_SUCCESS, queue.fileno()
    except MemifError as error:
        return result_of(error), -1


@coded
def memif_set_rx_mode(conn: memif_conn_handle_t, rx_mode: int, qid: int) -> int:
    """Set the mode of a receive queue.

    While polling, the peer is asked not to signal, so on_interrupt is not called and the event descriptor is not
    readable. The mode survives a reconnect.

    Args:
        conn: The connection.
        rx_mode: MEMIF_RX_MODE_INTERRUPT (0, the initial mode) or MEMIF_RX_MODE_POLLING (1).
        qid: The receive queue.

    Returns:
        The code: MEMIF_ERR_NOCONN, MEMIF_ERR_DISCONNECTED, MEMIF_ERR_QID, MEMIF_ERR_INVAL_ARG.
    """
    queue = _rx_queue(conn, qid)
    if queue is None:
        return no_ring(conn, rx=True)
    if rx_mode not in (0, 1):
        return MEMIF_ERR_INVAL_ARG
    queue.mode = "polling" if rx_mode else "interrupt"
    return MEMIF_ERR_SUCCESS


def _rx_queue(conn: object, qid: object) -> RxQueue | None:
    if not isinstance(conn, memif_conn_handle_t) or not isinstance(qid, int) or qid not in conn.rx:
        return None
    interface = conn.live
    return None if interface is None or qid >= len(interface.rx) else interface.rx[qid]
