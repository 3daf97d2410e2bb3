"""Connections: creating and deleting them, the descriptors and modes of their queues, and their details."""

import threading
from collections.abc import Callable
from typing import Any

from memif.config import MODE_NAMES, MODES, check_callback
from memif.errors import ErrorCode, MemifError, MemifValueError
from memif.libmemif.handles import (
    Main,
    code_of,
    memif_conn_args_t,
    memif_conn_handle_t,
    memif_socket_handle_t,
    result_of,
    text,
)
from memif.libmemif.library import coded, global_main
from memif.libmemif.shell import ControlSocket, ManualEndpoint
from memif.libmemif.types import (
    MEMIF_DEFAULT_BUFFER_SIZE,
    MEMIF_DEFAULT_LOG2_RING_SIZE,
    MEMIF_DEFAULT_RX_QUEUES,
    MEMIF_DEFAULT_TX_QUEUES,
    MEMIF_ERR_ALRCONN,
    MEMIF_ERR_CONN,
    MEMIF_ERR_DISCONNECTED,
    MEMIF_ERR_INVAL_ARG,
    MEMIF_ERR_MAX_RING,
    MEMIF_ERR_NOBUF_DET,
    MEMIF_ERR_NOCONN,
    MEMIF_ERR_QID,
    MEMIF_ERR_SUCCESS,
    MEMIF_MAX_LOG2_RING_SIZE,
    memif_details_t,
    memif_interface_mode_t,
    memif_queue_details_t,
    memif_region_details_t,
)
from memif.ring import RxQueue
from memif.types import Details, QueueDetails

__all__ = [
    "memif_create",
    "memif_delete",
    "memif_get_details",
    "memif_get_queue_efd",
    "memif_request_connection",
    "memif_set_rx_mode",
]


#: Errors after which another attempt to connect cannot succeed.
_FINAL = {ErrorCode.ACCES, ErrorCode.FILE_NOT_SOCK, ErrorCode.CB_FDUPDATE, ErrorCode.INVAL_ARG}
#: Seconds until the second attempt to connect, because the master may be starting.
_FIRST_RETRY = 0.05
_STRINGS = ("if_name", "inst_name", "remote_if_name", "remote_inst_name", "secret", "socket_filename", "error")


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
    main = global_main()
    if main is None:
        raise MemifValueError("memif_create without memif_init and without a socket")
    return memif_socket_handle_t(main, main.socket(args.socket_filename))


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
        # As in C, a master accepts as many rings as the slave offers.
        "tx_queues": None if args.is_master else args.num_s2m_rings,
        "rx_queues": None if args.is_master else args.num_m2s_rings,
    }


def _callbacks(handle: memif_conn_handle_t, on_connect: Any, on_disconnect: Any, on_interrupt: Any) -> dict[str, Any]:
    named = {"on_connect": on_connect, "on_disconnect": on_disconnect, "on_interrupt": on_interrupt}
    return {
        name: _calling(handle, name, call) for name, call in named.items() if check_callback(name, call) is not None
    }


def _calling(handle: memif_conn_handle_t, name: str, callback: Callable[..., int | None]) -> Callable[..., None]:
    """Wrap a callback in C's form for the endpoint. A callback that polls is not called again from that poll."""
    inside: set[tuple[int, ...]] = set()

    def call(_: object, *qid: int) -> None:
        here = (threading.get_ident(), *qid)
        if here in inside:
            return
        inside.add(here)
        try:
            result = callback(handle, handle.private_ctx, *qid)
        finally:
            inside.discard(here)
        if result is None or (result.__class__ is int and not result):  # as nearly always
            return
        code = code_of(name, result)
        if code:
            handle.main.remember(code)

    return call


def _open(handle: memif_conn_handle_t, owner: memif_socket_handle_t, options: dict[str, Any]) -> None:
    assert owner.socket is not None
    socket, main = owner.socket, owner.main
    on_disconnect = options.pop("on_disconnect", None)
    try:
        # It starts idle, so that the handle is set before the first event, and is then told to connect.
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
    if main is global_main():
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
    live = conn.live if isinstance(conn, memif_conn_handle_t) else None  # read once: another thread can delete it
    at_home = conn.main.at_home if live else False  # else this is a forked child, where the lock may stay held
    if live is None or (at_home and not live.leave()):
        return MEMIF_ERR_NOCONN
    try:
        if at_home:
            live.farewell()
    finally:
        _drop(conn, live.engine, conn.main)
    return conn.main.collect() or MEMIF_ERR_SUCCESS


@coded
def memif_request_connection(conn: memif_conn_handle_t) -> int:
    """Slave: try to connect now, for sockets whose timer is off.

    Args:
        conn: The connection.

    Returns:
        The code: MEMIF_ERR_SUCCESS when the attempt is under way; MEMIF_ERR_NOCONN; MEMIF_ERR_INVAL_ARG for a master;
        MEMIF_ERR_ALRCONN when connected or connecting already; MEMIF_ERR_CONNREFUSED when nobody listens;
        MEMIF_ERR_NO_FILE, MEMIF_ERR_ACCES, MEMIF_ERR_FILE_NOT_SOCK, MEMIF_ERR_CB_FDUPDATE, system errors.
    """
    interface = conn.live if isinstance(conn, memif_conn_handle_t) else None  # read once: another thread can delete it
    if interface is None:
        return MEMIF_ERR_NOCONN
    if interface.role == "master":
        return MEMIF_ERR_INVAL_ARG
    if interface.connecting:
        return MEMIF_ERR_ALRCONN
    interface.connect()
    return MEMIF_ERR_SUCCESS


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


def memif_get_details(conn: memif_conn_handle_t, *args: Any) -> tuple[int, memif_details_t]:
    """Return the details of a connection: ``memif_get_details(conn)``, or ``memif_get_details(conn, md, buf, buflen)``.

    While the connection is down there are no queues and no regions, the remote names are empty, and `error` says why.
    Any thread may call it.

    Args:
        conn: The connection.
        md: Optional: a `memif_details_t` to fill in. Default: a new one.
        buf: Optional: a bytearray or other writable buffer for the strings, each with a NUL, as in C.
        buflen: Optional: the limit for the strings, besides the length of buf. Strings that do not fit are "" in the
            result. Without buf and buflen there is no limit.

    Returns:
        The code, and the details. Codes: MEMIF_ERR_SUCCESS, MEMIF_ERR_NOBUF_DET (some strings do not fit; everything
        else is valid), MEMIF_ERR_NOCONN, MEMIF_ERR_INVAL_ARG.
    """
    rest = list(args)
    md = rest.pop(0) if rest and isinstance(rest[0], memif_details_t) else memif_details_t()
    live = conn.live if isinstance(conn, memif_conn_handle_t) else None  # read once: another thread can delete it
    if live is None:
        return MEMIF_ERR_NOCONN, md
    try:
        buf, room = _buffer(rest)
    except (TypeError, ValueError, BufferError):
        return MEMIF_ERR_INVAL_ARG, md
    _fill(md, live)
    return _place_strings(md, buf, room), md


def _buffer(rest: list[Any]) -> tuple[memoryview | None, int | None]:
    """Return the buffer and the limit that the arguments give."""
    if len(rest) > 2 or any(not isinstance(value, int | None) for value in rest[1:]):
        raise TypeError("not C's arguments")
    view = None
    if rest and rest[0] is not None and not isinstance(rest[0], int):
        view = memoryview(rest[0]).cast("B")
        if view.readonly:
            raise TypeError("buf cannot be written to")
    limits = [] if view is None else [len(view)]
    limits += [int(value) for value in rest if isinstance(value, int)]
    if any(limit < 0 for limit in limits):
        raise ValueError("negative length")
    return view, min(limits, default=None)


def _fill(md: memif_details_t, interface: ManualEndpoint) -> None:
    details = interface.details()
    _fill_names(md, details, ending=interface.ending)
    mapped = interface.mapped
    views = () if mapped is None else mapped.regions
    md.regions = [
        memif_region_details_t(r.index, memoryview(view), r.size, r.fd, int(r.index in interface.external_regions))
        for r, view in zip(details.regions, views, strict=False)
    ]
    md.regions_num = len(md.regions)
    md.rx_queues = [_queue(q, interface.rx_sizes) for q in details.rx_queues]
    md.tx_queues = [_queue(q, interface.tx_sizes) for q in details.tx_queues]
    md.rx_queues_num, md.tx_queues_num = len(md.rx_queues), len(md.tx_queues)
    md.link_up_down = int(details.link_up)


def _fill_names(md: memif_details_t, details: Details, *, ending: bool) -> None:
    md.if_name, md.inst_name = details.name, details.app_name
    peer = details.peer
    md.remote_if_name, md.remote_inst_name = (peer.name, peer.app_name) if peer else ("", "")
    md.id = details.id
    md.secret = details.secret.decode(errors="surrogateescape") if details.secret else None
    md.role = int(details.role == "slave")
    md.mode = memif_interface_mode_t(MODES[details.mode])
    md.socket_filename = md.socket_path = details.socket
    md.error = "" if details.link_up and not ending else details.disconnect_reason or ""


def _queue(q: QueueDetails, sizes: dict[int, int]) -> memif_queue_details_t:
    # A master's descriptors hold packet lengths now; the buffer sizes were read when the link came up.
    size = sizes.get(q.qid) or q.buffer_size
    return memif_queue_details_t(q.region, q.qid, q.ring_size, q.flags, q.head, q.tail, size)


def _place_strings(md: memif_details_t, buf: memoryview | None, room: int | None) -> int:
    """Write the strings one after the other; those that do not fit become ""."""
    code, at = MEMIF_ERR_SUCCESS, 0
    for name in _STRINGS:
        value = getattr(md, name)
        if value is None:
            continue
        raw = value.encode(errors="surrogateescape") + b"\0"
        if room is not None and at + len(raw) > room:
            code = MEMIF_ERR_NOBUF_DET
            setattr(md, name, "")
            continue
        if buf is not None:
            buf[at : at + len(raw)] = raw
        at += len(raw)
    md.socket_path = md.socket_filename
    return code
