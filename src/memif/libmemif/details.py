"""memif_get_details: everything about a connection in C's structs."""

from typing import Any

from memif.config import MODES
from memif.libmemif.codes import MEMIF_ERR_INVAL_ARG, MEMIF_ERR_NOBUF_DET, MEMIF_ERR_NOCONN, MEMIF_ERR_SUCCESS
from memif.libmemif.handles import memif_conn_handle_t
from memif.libmemif.shell import ManualEndpoint
from memif.libmemif.types import (
    memif_details_t,
    memif_interface_mode_t,
    memif_queue_details_t,
    memif_region_details_t,
)
from memif.types import Details, QueueDetails

__all__ = [
    "memif_get_details",
]


_STRINGS = ("if_name", "inst_name", "remote_if_name", "remote_inst_name", "secret", "socket_filename", "error")


def memif_get_details(conn: memif_conn_handle_t, *args: Any) -> tuple[int, memif_details_t]:
    """Return (code, details) of a connection: ``memif_get_details(conn)``, or with C's further arguments.

    Those are ``[md,] buf, buflen``: a `memif_details_t` md is filled in and returned instead of a new one; buf, a
    bytearray or the like, gets the strings as in C, each with a NUL; buflen limits them, as the length of buf does.
    Strings that do not fit are "" in the result. Without these arguments there is no limit. For a connection that
    is down there are no queues, no regions, empty remote names, and `error` says why.

    Results: MEMIF_ERR_SUCCESS, MEMIF_ERR_NOBUF_DET (not all strings fit; everything else is there), MEMIF_ERR_NOCONN,
    MEMIF_ERR_INVAL_ARG. Any thread.
    """
    rest = list(args)
    md = rest.pop(0) if rest and isinstance(rest[0], memif_details_t) else memif_details_t()
    live = conn.live if isinstance(conn, memif_conn_handle_t) else None  # once: another thread can delete it
    if live is None:
        return MEMIF_ERR_NOCONN, md
    try:
        buf, room = _buffer(rest)
    except (TypeError, ValueError, BufferError):
        return MEMIF_ERR_INVAL_ARG, md
    _fill(md, live)
    return _place_strings(md, buf, room), md


def _buffer(rest: list[Any]) -> tuple[memoryview | None, int | None]:
    """The buffer and the limit that the arguments amount to."""
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
    # A master's descriptors show packets; what the buffers hold stood there when the link came up.
    size = sizes.get(q.qid) or q.buffer_size
    return memif_queue_details_t(q.region, q.qid, q.ring_size, q.flags, q.head, q.tail, size)


def _place_strings(md: memif_details_t, buf: memoryview | None, room: int | None) -> int:
    """Write the strings one behind the other, as far as there is room; drop the others."""
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
