"""Sockets, the timer and external regions of 4.0, and the per-thread forms of 3.1: databases with their own sockets."""

import os
from collections.abc import Callable
from typing import Any

from memif.config import check_callback
from memif.errors import MemifError, MemifValueError
from memif.libmemif.handles import (
    Main,
    memif_conn_handle_t,
    memif_per_thread_main_handle_t,
    memif_socket_handle_t,
    result_of,
    text,
)
from memif.libmemif.library import coded, global_main, start_main
from memif.libmemif.shell import ManualEndpoint
from memif.libmemif.supply import ExternalRegion
from memif.libmemif.types import (
    MEMIF_ERR_BAD_FD,
    MEMIF_ERR_INVAL_ARG,
    MEMIF_ERR_SUCCESS,
    itimerspec,
    memif_socket_args_t,
    timespec,
)

__all__ = [
    "memif_create_socket",
    "memif_delete_socket",
    "memif_get_listener_fd",
    "memif_get_socket_filename",
    "memif_get_socket_handle",
    "memif_get_socket_path",
    "memif_per_thread_cancel_poll_event",
    "memif_per_thread_cleanup",
    "memif_per_thread_control_fd_handler",
    "memif_per_thread_create_socket",
    "memif_per_thread_init",
    "memif_per_thread_poll_event",
    "memif_per_thread_register_external_region",
    "memif_per_thread_set_connection_request_timer",
    "memif_register_external_region",
    "memif_set_connection_request_timer",
    "memif_set_listener_fd",
]


_PATH_BYTES = 107


def memif_create_socket(
    args: memif_socket_args_t | str | bytes, private_ctx: Any = None
) -> tuple[int, memif_socket_handle_t | None]:
    """Create a socket.

    Nothing is opened before the first `memif_create`.

    Args:
        args: 4.0: a `memif_socket_args_t`. The socket has its own event loop, timer and allocator (`memif_init`
            explains the callbacks; the one for descriptors is ``f(fde, private_ctx) -> 0``). 3.1: the file name; the
            socket belongs to what `memif_init` has set up.
        private_ctx: 4.0: passed to the callback for descriptors.

    Returns:
        The code, and the socket's handle, None unless the code is 0. Codes: MEMIF_ERR_INVAL_ARG for a wrong argument
        or, in 3.1's form, without `memif_init`; MEMIF_ERR_CB_FDUPDATE; system errors.
    """
    try:
        if isinstance(args, memif_socket_args_t):
            return MEMIF_ERR_SUCCESS, _socket_of_its_own(args, private_ctx)
        main = global_main()
        if main is None:
            return MEMIF_ERR_INVAL_ARG, None
        return MEMIF_ERR_SUCCESS, memif_socket_handle_t(main, main.socket(_named(args)), private_ctx)
    except (MemifError, OSError, MemoryError) as error:
        return result_of(error), None


def _named(path: object) -> str:
    name = text("path", path)
    if not name or len(os.fsencode(name)) > _PATH_BYTES:
        raise MemifValueError.argument("path", path, f"1 to {_PATH_BYTES} bytes")
    return name


def _socket_of_its_own(args: memif_socket_args_t, private_ctx: Any) -> memif_socket_handle_t:
    path = _named(args.path)
    check_callback("realloc", args.realloc)
    main = Main(args.app_name, args.alloc, args.free, private_ctx)
    _, main.period = _times(args.connection_request_timer)
    socket = start_main(main, args.on_control_fd_update, "4.0", path)
    return memif_socket_handle_t(main, socket, private_ctx, owns_main=True)


@coded
def memif_delete_socket(sock: memif_socket_handle_t) -> int:
    """Delete a socket.

    Args:
        sock: The handle, which is invalid afterwards.

    Returns:
        The code: MEMIF_ERR_INVAL_ARG for an invalid handle, or while there are interfaces on the socket.
    """
    if not isinstance(sock, memif_socket_handle_t) or not sock:
        return MEMIF_ERR_INVAL_ARG
    socket = sock.socket
    if socket is None or socket.members:
        return MEMIF_ERR_INVAL_ARG
    sock.socket = None
    socket.close()
    if sock.owns_main:
        sock.main.close()
    return sock.main.collect() or MEMIF_ERR_SUCCESS


def memif_get_socket_handle(conn: memif_conn_handle_t) -> memif_socket_handle_t | None:
    """Return the socket that a connection was created on; None for an invalid handle."""
    return conn.owner if isinstance(conn, memif_conn_handle_t) and conn else None


def memif_get_socket_path(sock: memif_socket_handle_t) -> str | None:
    """Return a socket's path, with ``@`` before an abstract name; None for an invalid handle."""
    if not isinstance(sock, memif_socket_handle_t) or not sock or sock.socket is None:
        return None
    return str(sock.socket.address)


def memif_get_socket_filename(sock: memif_socket_handle_t) -> str | None:
    """Return a socket's path: 3.1's name of `memif_get_socket_path`."""
    return memif_get_socket_path(sock)


def memif_get_listener_fd(sock: memif_socket_handle_t) -> int:
    """Return the descriptor that a socket listens on; -1 if it has no master, or for an invalid handle."""
    if not isinstance(sock, memif_socket_handle_t) or not sock or sock.socket is None:
        return -1
    return sock.socket.acceptor.fd


@coded
def memif_set_listener_fd(sock: memif_socket_handle_t, fd: int) -> int:
    """Let a socket listen on a descriptor that is bound and listening already, for instance by a parent process.

    Args:
        sock: The socket. It owns the descriptor from then on, and closes it when it is deleted, not earlier. The
            descriptor's file, if there is one, is not removed then.
        fd: The descriptor of a listening socket of type SOCK_SEQPACKET.

    Returns:
        The code: MEMIF_ERR_INVAL_ARG for an invalid handle, MEMIF_ERR_BAD_FD if `fd` is no listening socket.
    """
    if not isinstance(sock, memif_socket_handle_t) or not sock or sock.socket is None:
        return MEMIF_ERR_INVAL_ARG
    if not isinstance(fd, int) or not _listens(fd):
        return MEMIF_ERR_BAD_FD
    with sock.socket.locked():
        sock.socket.acceptor.adopt(fd)
    return MEMIF_ERR_SUCCESS


def _listens(fd: int) -> bool:
    import socket

    try:
        # A duplicate, because the object closes its descriptor.
        with socket.socket(fileno=os.dup(fd)) as probe:
            return (
                probe.family == socket.AF_UNIX
                and probe.type == socket.SOCK_SEQPACKET
                and bool(probe.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
            )
    except (OSError, OverflowError, ValueError):
        return False


@coded
def memif_set_connection_request_timer(
    sock: "memif_socket_handle_t | itimerspec | float", timer: "itimerspec | float | None" = None
) -> int:
    """Set when slaves that are down try to connect.

    4.0: ``(sock, timer)``. 2.1 to 3.1: ``(timer)``.

    Args:
        sock: 4.0: the socket. 2.1 to 3.1: the timer.
        timer: An `itimerspec` (first attempt after it_value, then every it_interval), or a number of seconds for both.
            Zero turns the timer off; then only `memif_request_connection` connects.

    Returns:
        The code: MEMIF_ERR_INVAL_ARG.
    """
    if isinstance(sock, memif_socket_handle_t):
        if not sock or timer is None:
            return MEMIF_ERR_INVAL_ARG
        return _set_timer(sock.main, timer)
    main = global_main()
    return MEMIF_ERR_INVAL_ARG if main is None or timer is not None else _set_timer(main, sock)


def _set_timer(main: Main, timer: object) -> int:
    first, main.period = _times(timer)
    for socket in list(main.sockets.values()):
        for endpoint in socket.all_members():
            if isinstance(endpoint, ManualEndpoint):
                endpoint.set_period(main.period, first)
    return MEMIF_ERR_SUCCESS


def _times(timer: object) -> tuple[float | None, float | None]:
    """First expiry and period in seconds; None and None for off."""
    try:
        if isinstance(timer, itimerspec):
            first, period = _seconds(timer.it_value), _seconds(timer.it_interval)
        else:
            first = period = float(timer)  # type: ignore[arg-type]
    except (TypeError, ValueError, AttributeError, OverflowError):
        first = period = -1.0
    if not (0 <= first < 1e9 and 0 <= period < 1e9):
        allowed = "an itimerspec of 0 to 999999999 s and ns, or seconds from 0 on"
        raise MemifValueError.argument("timer", timer, allowed)
    return (first, period or first) if first else (None, None)


def _seconds(time: timespec) -> float:
    """Return a time in seconds; -1, which is refused, for nanoseconds that the kernel would refuse."""
    return time.tv_sec + time.tv_nsec / 1e9 if 0 <= time.tv_nsec < 1_000_000_000 else -1.0


def memif_register_external_region(*args: Any) -> None:
    """Let the user provide the memory for a slave's buffers, or map it for a master.

    4.0: ``(sock, add, get_addr, del, get_offset)``; 2.0 to 3.1 without sock, for all sockets of `memif_init`.

    Takes effect with the next connection. The rings stay in region 0, which is the library's; region 1 has the
    buffers. A master's `get_addr` is asked for all regions of its slave except region 0, and `del` is called when they
    are no longer in use. An error of a callback ends the attempt to connect. As in C, nothing is returned; arguments
    that cannot be called and invalid handles change nothing.

    Args:
        sock: 4.0: the socket that it is for.
        add: ``add(size, private_ctx) -> (err, addr, fd)``; fd: a descriptor of at least `size` bytes of zeroed shared
            memory, which stays open until `del`; addr: a writable buffer over it, or None. None for `add` ends the
            registration. `private_ctx` is that of `memif_create`.
        get_addr: ``get_addr(size, fd, private_ctx) -> addr``, called if `add` gave no addr. With None, or if it returns
            None, the library maps the memory.
        del: ``del(addr, size, fd, private_ctx) -> 0``, called when the last buffer or view of the region is gone.
        get_offset: ``get_offset(private_ctx) -> offset``, optional: where in the region the next buffer starts, called
            for every slot of every ring when connecting (C calls it at each alloc and refill).
    """
    if args and (isinstance(args[0], memif_socket_handle_t) or len(args) == 5):
        sock, callbacks = args[0], args[1:]
        sockets = [sock.socket] if isinstance(sock, memif_socket_handle_t) and sock.socket is not None else []
        _register_region(None, sockets, callbacks)
        return
    main = global_main()
    if main is not None:
        _register_region(main, list(main.sockets.values()), args)


def _register_region(main: Main | None, sockets: list[Any], callbacks: tuple[Any, ...]) -> None:
    given = (*callbacks, None, None, None, None)[:4]
    if len(callbacks) > 4 or any(call is not None and not callable(call) for call in given):
        return
    region = None if given[0] is None else ExternalRegion(*given)
    if main is not None:
        main.external = region
    for socket in sockets:
        socket.external = region


# The per-thread forms of 3.1: a database for each thread.


def memif_per_thread_init(
    private_ctx: Any,
    on_control_fd_update: Callable[..., int | None] | None = None,
    app_name: str | bytes | None = None,
    memif_alloc: Callable[[int], Any] | None = None,
    memif_realloc: Callable[[Any, int], Any] | None = None,
    memif_free: Callable[[Any], object] | None = None,
) -> tuple[int, memif_per_thread_main_handle_t | None]:
    """3.1: set up a separate database, usually one for each thread.

    Its sockets come from `memif_per_thread_create_socket`; there is no default socket.

    Args:
        private_ctx: Passed to the callback for descriptors, ``f(fd, events, private_ctx)``.
        on_control_fd_update: See `memif_init`, as for the other arguments.

    Returns:
        The code as for `memif_init`, and the handle, None unless the code is 0.
    """
    try:
        check_callback("memif_realloc", memif_realloc)
        main = Main(app_name, memif_alloc, memif_free, private_ctx)
        if on_control_fd_update is None:
            main.poll_here()
        else:
            main.tell(on_control_fd_update, "3.1")
    except (MemifError, OSError, MemoryError) as error:
        return result_of(error), None
    return MEMIF_ERR_SUCCESS, memif_per_thread_main_handle_t(main)


def _main_of(pt_main: object) -> Main | None:
    return pt_main.main if isinstance(pt_main, memif_per_thread_main_handle_t) else None


@coded
def memif_per_thread_cleanup(pt_main: memif_per_thread_main_handle_t) -> int:
    """3.1: delete all connections and sockets of a database.

    Returns:
        The code: MEMIF_ERR_INVAL_ARG for an invalid handle.
    """
    main = _main_of(pt_main)
    if main is None:
        return MEMIF_ERR_INVAL_ARG
    pt_main.main = None
    main.close()
    return MEMIF_ERR_SUCCESS


@coded
def memif_per_thread_control_fd_handler(pt_main: memif_per_thread_main_handle_t, fd: int, events: int = 0) -> int:
    """3.1: handle events on a descriptor of a database, as `memif_control_fd_handler` does."""
    main = _main_of(pt_main)
    return MEMIF_ERR_INVAL_ARG if main is None else main.handle(fd) or MEMIF_ERR_SUCCESS


@coded
def memif_per_thread_poll_event(pt_main: memif_per_thread_main_handle_t, timeout: int = -1) -> int:
    """3.1: wait for an event of a database and handle it, as `memif_poll_event` does."""
    main = _main_of(pt_main)
    return MEMIF_ERR_INVAL_ARG if main is None else main.poll(timeout) or MEMIF_ERR_SUCCESS


@coded
def memif_per_thread_cancel_poll_event(pt_main: memif_per_thread_main_handle_t) -> int:
    """3.1: end a poll of a database, from any thread, as `memif_cancel_poll_event` does."""
    main = _main_of(pt_main)
    return MEMIF_ERR_INVAL_ARG if main is None else main.cancel()


@coded
def memif_per_thread_set_connection_request_timer(
    pt_main: memif_per_thread_main_handle_t, timer: "itimerspec | float"
) -> int:
    """3.1: set when the slaves of a database try to connect, as `memif_set_connection_request_timer` does."""
    main = _main_of(pt_main)
    return MEMIF_ERR_INVAL_ARG if main is None else _set_timer(main, timer)


def memif_per_thread_create_socket(
    pt_main: memif_per_thread_main_handle_t, filename: str | bytes, private_ctx: Any = None
) -> tuple[int, memif_socket_handle_t | None]:
    """3.1: create a socket in a database.

    Returns:
        The code, and the socket's handle, None unless the code is 0.
    """
    main = _main_of(pt_main)
    try:
        if main is None:
            return MEMIF_ERR_INVAL_ARG, None
        return MEMIF_ERR_SUCCESS, memif_socket_handle_t(main, main.socket(_named(filename)), private_ctx)
    except (MemifError, OSError, MemoryError) as error:
        return result_of(error), None


def memif_per_thread_register_external_region(
    pt_main: memif_per_thread_main_handle_t,
    add: Any = None,
    get_addr: Any = None,
    delete: Any = None,
    get_offset: Any = None,
) -> None:
    """3.1: let the user provide the memory for all sockets of a database, as `memif_register_external_region` does."""
    main = _main_of(pt_main)
    if main is not None:
        _register_region(main, list(main.sockets.values()), (add, get_addr, delete, get_offset))
