"""What the commands `show` and `sh-count` print.

Labels, their order and indents are the C program's: scripts read them.
"""

from collections.abc import Iterable, Iterator

from memif.config import MODE_NAMES
from memif.console.connection import MemifConnection
from memif.libmemif import (
    MEMIF_ERR_NOCONN,
    MEMIF_ERR_SUCCESS,
    MEMIF_QUEUE_FLAG_POLLING,
    memif_details_t,
    memif_get_details,
    memif_queue_details_t,
    memif_strerror,
)


def show(connections: Iterable[MemifConnection]) -> Iterator[str]:
    """The lines of `show`."""
    yield "MEMIF DETAILS"
    yield "=" * 30
    for c in connections:
        yield from interface(c)


def interface(c: MemifConnection) -> Iterator[str]:
    """The lines for one interface."""
    err, md = memif_get_details(c.conn)  # type: ignore[arg-type]
    if err != MEMIF_ERR_SUCCESS:
        if err != MEMIF_ERR_NOCONN:
            yield f"INFO: {memif_strerror(err)}"
        return
    yield f"interface index: {c.index}"
    yield from (f"\t{line}" for line in details(c, md))


def details(c: MemifConnection, md: memif_details_t) -> Iterator[str]:
    """The lines for one interface, without their indent."""
    yield f"interface ip: {dotted(c.ip)}"
    yield f"interface name: {md.if_name}"
    yield f"app name: {md.inst_name}"
    yield f"remote interface name: {md.remote_if_name}"
    yield f"remote app name: {md.remote_inst_name}"
    yield f"id: {md.id}"
    yield f"secret: {'(null)' if md.secret is None else '(hidden)'}"
    yield f"role: {'slave' if md.role else 'master'}"
    yield f"mode: {MODE_NAMES.get(md.mode, 'unknown')}"
    yield f"socket filename: {md.socket_filename}"
    yield from c.region_lines(md)
    yield "rx queues:"
    for q in md.rx_queues:
        yield from queue(q)
        yield from (f"\t{line}" for line in c.queue_lines(q.qid))
    yield "tx queues:"
    for q in md.tx_queues:
        yield from queue(q)
    yield f"link: {'up' if md.link_up_down else 'down'}"
    if not md.link_up_down and md.error:
        yield f"reason: {md.error}"


def queue(q: memif_queue_details_t) -> Iterator[str]:
    """The lines for one queue."""
    yield f"\tqueue id: {q.qid}"
    yield f"\tring size: {q.ring_size}"
    yield f"\tring rx mode: {'polling' if q.flags & MEMIF_QUEUE_FLAG_POLLING else 'interrupt'}"
    yield f"\tring head: {q.head}"
    yield f"\tring tail: {q.tail}"
    yield f"\tbuffer size: {q.buffer_size}"


def regions(md: memif_details_t) -> Iterator[str]:
    """The lines for the memory regions, which only icmp_responder-eb shows."""
    yield "regions:"
    for r in md.regions:
        yield f"\tindex: {r.index}"
        yield f"\taddress: {address(r.addr):#x}"
        yield f"\tsize: {r.size}"
        yield f"\tfd: {r.fd}"
        if r.is_external:
            yield "\texternal"


def address(memory: memoryview | None) -> int:
    """Where memory is mapped in this process."""
    if memory is None:
        return 0
    import ctypes

    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


def counters(connections: Iterable[MemifConnection]) -> Iterator[str]:
    """The lines of `sh-count`."""
    for c in connections:
        yield "=" * 31
        yield f"interface index: {c.index}"
        yield f"\trx: {c.rx}"
        yield f"\ttx: {c.tx}"
        yield f"\ttx_err: {c.tx_err}"
        yield f"\tts: {c.ts // 10**9}s {c.ts % 10**9}ns"


def dotted(ip: bytes) -> str:
    """An IPv4 address as text."""
    return ".".join(map(str, ip))
