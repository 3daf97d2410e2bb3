"""The library as a whole: versions, messages, set-up, events. The functions of 2.0 take the forms of 4.0 as well."""

import threading
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

from memif.config import check_callback
from memif.errors import MemifError, MemifValueError, error_text
from memif.libmemif.handles import FdContext, Main, memif_socket_handle_t, result_of
from memif.libmemif.shell import ControlSocket
from memif.libmemif.types import (
    MEMIF_ERR_ALREADY,
    MEMIF_ERR_BAD_FD,
    MEMIF_ERR_INVAL_ARG,
    MEMIF_ERR_SUCCESS,
    MEMIF_ERR_SYSCALL,
)
from memif.protocol import wire

__all__ = [
    "memif_cancel_poll_event",
    "memif_cleanup",
    "memif_control_fd_handler",
    "memif_get_version",
    "memif_get_version_str",
    "memif_init",
    "memif_poll_event",
    "memif_strerror",
]


_P = ParamSpec("_P")

_global: Main | None = None
_global_lock = threading.Lock()


def coded(function: Callable[_P, int]) -> Callable[_P, int]:
    """Make a function return the C library's codes instead of raising the package's exceptions."""

    @wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> int:
        try:
            return function(*args, **kwargs)
        except (MemifError, OSError, MemoryError) as error:
            return result_of(error)

    return call


def global_main() -> Main | None:
    """Return the main that `memif_init` set up, or None."""
    return _global


def memif_strerror(err_code: int) -> str:
    """Return the C library's message for a result code.

    Any thread may call it, and the text stays valid (C uses one static buffer). For a `MEMIF_ERR_SYSCALL` returned by a
    function of this module the message also says what failed.

    Args:
        err_code: The code.

    Returns:
        The message; "undefined error" for an unknown code.
    """
    try:
        code = int(err_code)
    except Exception:  # infinity, or an object whose __int__ raises
        return error_text(-1)
    detail = getattr(err_code, "detail", "")
    return f"{error_text(code)} {detail}" if detail and code == MEMIF_ERR_SYSCALL else error_text(code)


def memif_get_version() -> int:
    """Return the protocol version as a number, ``major << 8 | minor``: 512."""
    return wire.VERSION


def memif_get_version_str() -> str:
    """Return the protocol version as text: "2.0"."""
    return wire.version_text(wire.VERSION)


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
    check_callback("memif_realloc", realloc)
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
    """Set up polling or the callback for descriptors, and open the first socket. Closes everything on failure."""
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


def memif_poll_event(sock: memif_socket_handle_t | int = -1, timeout: int | None = None) -> int:
    """Wait for an event and handle it.

    2.0: ``(timeout)``. 4.0: ``(sock, timeout)``. Callbacks run inside this call. Several threads may poll.

    A signal ends the wait: after its handler has returned, the code is MEMIF_ERR_SYSCALL with errno EINTR. Signals that
    the thread has blocked are delivered while it waits.

    Args:
        sock: 4.0: the socket. 2.0: the timeout.
        timeout: Milliseconds; 0 does not wait, -1 (default) waits for ever.

    Returns:
        The code: MEMIF_ERR_SUCCESS also when the time is over; MEMIF_ERR_POLL_CANCEL after `memif_cancel_poll_event`;
        MEMIF_ERR_BAD_FD when the library does not poll (it was given a callback for descriptors, or there was no
        `memif_init`); MEMIF_ERR_INVAL_ARG; what a callback returned.
    """
    main: Main | None
    limit: object
    if isinstance(sock, memif_socket_handle_t):
        if not sock:
            return MEMIF_ERR_INVAL_ARG
        main, limit = sock.main, -1 if timeout is None else timeout
    else:
        main, limit = _global, sock if timeout is None else None
        if main is None:
            return MEMIF_ERR_BAD_FD
    try:
        return main.poll(limit)
    except (MemifError, OSError, MemoryError) as error:
        return result_of(error)


@coded
def memif_cancel_poll_event(sock: memif_socket_handle_t | None = None) -> int:
    """Make a `memif_poll_event` that waits, or the next one, return MEMIF_ERR_POLL_CANCEL.

    Any thread and signal handlers may call it.

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
