"""The porting table: each call of the C library, the call here, and what differs. docs/porting.md is made from it.

``python -m memif.libmemif.porting`` prints that page; the tests compare it with the file, and every call with the
signature of its function.
"""

from typing import NamedTuple


class Row(NamedTuple):
    """One function: C's call (with the versions it is from), the calls here, and what differs."""

    c: str
    here: tuple[str, ...]
    differs: str


#: What holds for all functions.
RULES = (
    "What C returns through pointers is returned beside the code; functions without such results return the code "
    "alone.",
    "Codes equal the members of `memif_err_t` and print as numbers. A failed system call keeps its `errno` and a "
    "text in the result (`err.errno`, `err.detail`), where C loses them.",
    "Use names of codes, not numbers: they are those of 2.0; `MEMIF_ERR_CONNREFUSED`, 4.0's number 2, is 39 here.",
    "Nothing crashes: wrong handles, deleted connections, bad queue numbers and foreign buffers give codes. Of two "
    "threads on one queue the second gets `MEMIF_ERR_AGAIN`.",
    "Where C writes `bufs + n`, write `bufs[n:]`. `bufs` is a list of `memif_buffer_t`, made once and used again.",
    "Callbacks return 0 or None. Another code of on_connect, on_disconnect or on_interrupt becomes the result of "
    "the function that called it (what is no code gives `MEMIF_ERR_INVAL_ARG` with a text); an exception comes out of "
    "that function.",
    "The end of a link goes in C's order: interrupts for what the peer had sent, on_disconnect with the connection, "
    "its queues, details and descriptors still in place, then all of it goes. Of the descriptors the control "
    "channel's is "
    "closed, and announced with `MEMIF_FD_EVENT_DEL`, before on_disconnect when the peer has ended the link; C does "
    "that after it.",
    "Callbacks run without a lock, so they may call any function. One that polls is not called again from in there; in "
    "C it is, without end.",
    "Names that are too long are refused, where C cuts them or writes past the field.",
)

FUNCTIONS = (
    Row("memif_get_version ()", ("memif_ver = memif_get_version()",), ""),
    Row("memif_get_version_str () [4.0]", ("text = memif_get_version_str()",), ""),
    Row(
        "memif_strerror (err)",
        ("text = memif_strerror(err)",),
        "A text of its own each time, so any thread may call it. With `MEMIF_ERR_SYSCALL` it says what failed.",
    ),
    Row(
        "memif_init (cb, app_name, alloc, free) [2.0]; (cb, app_name, alloc, realloc, free) [3.1]",
        (
            "err = memif_init(cb, app_name, memif_alloc, memif_free)",
            "err = memif_init(cb, app_name, memif_alloc, memif_realloc, memif_free)",
        ),
        "alloc and free supply the shared memory of packets, by descriptor, not the library's own objects; realloc "
        "is not used. A second call gives `MEMIF_ERR_ALREADY` until `memif_cleanup`.",
    ),
    Row("memif_cleanup () [2.0]", ("err = memif_cleanup()",), "Deletes the connections that are left."),
    Row(
        "memif_create (&conn, &args, on_connect, on_disconnect, on_interrupt, ctx)",
        ("err, conn = memif_create(args, on_connect, on_disconnect, on_interrupt, ctx)",),
        "A slave tries at once in 2.0's form too. A master accepts as many rings as the slave offers. One process "
        "may use any number of sockets, and both roles on one. A second interface of an id and role on a socket gives "
        "`MEMIF_ERR_INVAL_ARG`; C makes one that never connects. What cannot work, a path or a right, fails here and "
        "not later. `buffer_size` is at least 64.",
    ),
    Row(
        "memif_delete (&conn)",
        ("err = memif_delete(conn)",),
        "The handle cannot be set to NULL: it becomes false, and all functions return `MEMIF_ERR_NOCONN` for it. "
        "The peer is told. on_disconnect is called also when the link is down, as in 4.0. The listener closes with the "
        "last master on it; 4.0's stays until its socket is deleted.",
    ),
    Row(
        "memif_control_fd_handler (fd, events) [2.0]; (ptr, events) [4.0]",
        ("err = memif_control_fd_handler(fd, events)", "err = memif_control_fd_handler(fde.private_ctx, events)"),
        "All that is pending on the socket is handled, whatever `events` says.",
    ),
    Row(
        "memif_poll_event (timeout) [2.0]; (sock, timeout) [4.0]",
        ("err = memif_poll_event(timeout)", "err = memif_poll_event(sock, timeout)"),
        "Milliseconds in both. Handles all that is pending, not one event. As in C a signal ends it, with "
        "`MEMIF_ERR_SYSCALL` and `err.errno == EINTR`, after Python's handler has run (in the main thread; what it "
        "raises comes out), and signals that are blocked are let in meanwhile. A Python program needs no handler for "
        "Ctrl-C: KeyboardInterrupt comes out.",
    ),
    Row(
        "memif_cancel_poll_event () [2.0]; (sock) [4.0]",
        ("err = memif_cancel_poll_event()", "err = memif_cancel_poll_event(sock)"),
        "",
    ),
    Row("memif_get_queue_efd (conn, qid, &fd)", ("err, fd = memif_get_queue_efd(conn, qid)",), ""),
    Row(
        "memif_set_rx_mode (conn, mode, qid)",
        ("err = memif_set_rx_mode(conn, mode, qid)",),
        "The mode outlives a reconnect. Back at interrupts, packets that wait are told of.",
    ),
    Row(
        "memif_get_details (conn, &md, buf, buflen)",
        ("err, md = memif_get_details(conn)", "err, md = memif_get_details(conn, md, buf, buflen)"),
        "Strings are Python's; without buf nothing is too small. buflen limits the strings alone, not the arrays.",
    ),
    Row(
        "memif_rx_burst (conn, qid, bufs, count, &rx)",
        ("err, rx = memif_rx_burst(conn, qid, bufs, count)",),
        "Bad descriptors are dropped. A chain cut at `count` goes on in the next call. The event descriptor is "
        "readable afterwards if something is left, and else not. `flags` has `MEMIF_BUFFER_FLAG_RX` as in 2.0; 4.0 "
        "does not set "
        "it.",
    ),
    Row(
        "memif_refill_queue (conn, qid, count, headroom)",
        ("err = memif_refill_queue(conn, qid, count, headroom)", "err = memif_refill_queue(conn, qid, count)"),
        "`(uint16_t) -1` may be written -1. Headroom takes room from the buffer (2.0 lets the peer write past its "
        "end); as large as the buffer it is refused. Right also where 16 bit indices wrap.",
    ),
    Row(
        "memif_buffer_alloc (conn, qid, bufs, count, &n, size)",
        (
            "err, n = memif_buffer_alloc(conn, qid, bufs, count, size)",
            "err, n = memif_buffer_alloc(conn, qid, bufs, count)",
        ),
        "Without size, or 0: whole buffers. A chain that does not fit is not begun; bufs has to be long enough for "
        "chains. May be called again before `memif_tx_burst`. An allocation that was forgotten, its `memif_buffer_t` "
        "given to another call or gone, is free again, with all after it; 4.0 sends what stands there, and 2.0 loses "
        "count.",
    ),
    Row(
        "memif_tx_burst (conn, qid, bufs, count, &tx)",
        ("err, tx = memif_tx_burst(conn, qid, bufs, count)",),
        "Checks the order as 4.0 does, and lengths against the buffer; a length of 0 is refused. A chain is never "
        "cut. An interrupt that cannot be sent is no error (`MEMIF_ERR_INT_WRITE` does not occur).",
    ),
    Row(
        "memif_buffer_enq_tx (conn, qid, bufs, count, &n)",
        ("err, n = memif_buffer_enq_tx(conn, qid, bufs, count)",),
        "Stops at the first buffer that was not received, with `MEMIF_ERR_INVAL_ARG` (2.0 skips it wrongly).",
    ),
    Row("memif_buffer_requeue (conn, a, b) [4.0]", ("err = memif_buffer_requeue(conn, buf_a, buf_b)",), ""),
    Row("memif_set_next_free_buffer (conn, qid, buf) [4.0]", ("err = memif_set_next_free_buffer(conn, qid, buf)",), ""),
    Row(
        "memif_request_connection (conn) [2.1]",
        ("err = memif_request_connection(conn)",),
        "Refused for a master; in 4.0 that starts listening, which `memif_create` has done here.",
    ),
    Row(
        "memif_set_connection_request_timer (timer) [2.1]; (sock, timer) [4.0]",
        ("err = memif_set_connection_request_timer(timer)", "err = memif_set_connection_request_timer(sock, timer)"),
        "`timer` may be a number of seconds; nanoseconds from 10^9 on are refused. After a failure the first attempts "
        "come sooner than the period. The timer's descriptor is announced when the socket is made, also while the "
        "timer is off, and is there for handshakes that take too long, too.",
    ),
    Row(
        "memif_create_socket (&sock, &args, ctx) [4.0]; (&sock, filename, ctx) [3.1]",
        ("err, sock = memif_create_socket(args, ctx)", "err, sock = memif_create_socket(filename, ctx)"),
        "",
    ),
    Row(
        "memif_delete_socket (&sock) [3.1]",
        ("err = memif_delete_socket(sock)",),
        "`MEMIF_ERR_INVAL_ARG` while there are interfaces on it.",
    ),
    Row("memif_get_socket_handle (conn) [4.0]", ("sock = memif_get_socket_handle(conn)",), ""),
    Row("memif_get_socket_path (sock) [4.0]", ("path = memif_get_socket_path(sock)",), ""),
    Row("memif_get_socket_filename (sock) [3.1]", ("path = memif_get_socket_filename(sock)",), ""),
    Row("memif_get_listener_fd (sock) [4.0]", ("fd = memif_get_listener_fd(sock)",), ""),
    Row(
        "memif_set_listener_fd (sock, fd) [4.0]",
        ("err = memif_set_listener_fd(sock, fd)",),
        "The descriptor is checked: a listening AF_UNIX socket of type SOCK_SEQPACKET. It stays open until its "
        "socket is deleted.",
    ),
    Row(
        "memif_register_external_region (ar, gr, dr, go) [2.0 to 3.1]; (sock, ar, gr, dr, go) [4.0]",
        ("memif_register_external_region(ar, gr, dr, go)", "memif_register_external_region(sock, ar, gr, dr, go)"),
        "`ar(size, ctx)` returns `(err, addr, fd)`; addr is a writable buffer (`mmap`), or None to have it mapped. "
        "`go(ctx)` is asked once a slot, when connecting. `dr` comes when the last view is gone. A master's `gr` is "
        "asked for all regions of the slave but region 0; its fd is a copy.",
    ),
    Row(
        "memif_per_thread_init (&pt, ctx, cb, app_name, alloc, realloc, free) [3.1]",
        ("err, pt = memif_per_thread_init(ctx, cb, app_name, memif_alloc, memif_realloc, memif_free)",),
        "A data base of its own, with sockets of its own; it need not stay in one thread.",
    ),
    Row("memif_per_thread_cleanup (&pt) [3.1]", ("err = memif_per_thread_cleanup(pt)",), "Deletes the connections."),
    Row(
        "memif_per_thread_control_fd_handler (pt, fd, events) [3.1]",
        ("err = memif_per_thread_control_fd_handler(pt, fd, events)",),
        "",
    ),
    Row("memif_per_thread_poll_event (pt, timeout) [3.1]", ("err = memif_per_thread_poll_event(pt, timeout)",), ""),
    Row("memif_per_thread_cancel_poll_event (pt) [3.1]", ("err = memif_per_thread_cancel_poll_event(pt)",), ""),
    Row(
        "memif_per_thread_set_connection_request_timer (pt, timer) [3.1]",
        ("err = memif_per_thread_set_connection_request_timer(pt, timer)",),
        "",
    ),
    Row(
        "memif_per_thread_create_socket (pt, &sock, filename, ctx) [3.1]",
        ("err, sock = memif_per_thread_create_socket(pt, filename, ctx)",),
        "",
    ),
    Row(
        "memif_per_thread_register_external_region (pt, ar, gr, dr, go) [3.1]",
        ("memif_per_thread_register_external_region(pt, ar, gr, dr, go)",),
        "",
    ),
)

#: Struct or field in C, what stands for it here.
DATA = (
    (
        "`b->data`",
        "`b.data`, a memoryview: of `len` bytes in a received buffer, of the whole room in one to be sent. "
        "`bytes(b)` is a copy of `len` bytes",
    ),
    ("`memcpy (b->data, p, n); b->len = n;`", "`b.data[:n] = p; b.len = n`"),
    ("`b->data -= n; b->len += n;`", "`b.prepend(n)`, checked against the headroom"),
    (
        "`b->queue` [4.0], `b->ring` [2.0]",
        "`b.queue`, `b.ring`: an object to compare, the same for all of a ring's buffers",
    ),
    ("`memif_buffer_t bufs[256]`", "`bufs = [memif_buffer_t() for _ in range(256)]`"),
    ("`memif_conn_args_t args = { 0 }`", "`args = memif_conn_args_t()`; strings are `str` or `bytes`"),
    ("`args.socket` [4.0], `args.socket_filename` [2.0]", "both fields are there: set one"),
    ("`md.regions[i].addr`", "a memoryview of the region"),
    ("`struct itimerspec`", "`itimerspec(it_interval=timespec(2), it_value=timespec(2))`, or seconds"),
    (
        "fd callback `f (fd, events)` [2.0], `f (fd, events, ctx)` [3.1], `f (fde, ctx)` [4.0]",
        "the same, by the form of the function that it is given to",
    ),
    ("memory after a disconnect", "stays mapped while a buffer, or a view of one, looks at it"),
)


def _versions(c: str) -> str:
    """The calls of one function, each in code, its version behind it."""
    name, _, forms = c.partition(" ")
    return "; ".join(
        f"`{name} {form.split(' [')[0]}`" + (f" ({form.split(' [')[1][:-1]})" if " [" in form else "")
        for form in forms.split("; ")
    )


def _codes(calls: tuple[str, ...]) -> str:
    return "<br>".join(f"`{call}`" for call in calls)


def page() -> str:
    """The page, in Markdown."""
    lines = [
        "# Porting from libmemif",
        "",
        "Each call of the C library, the call in {mod}`memif.libmemif`, and what differs. C's calls stand as in "
        "2.0 (VPP "
        "18.07) where no version is named; where versions differ, both forms are taken here.",
        "",
        "<!-- Made by `python -m memif.libmemif.porting > docs/porting.md`; the tests compare. -->",
        "",
        "## Rules",
        "",
        *(f"- {rule}" for rule in RULES),
        "",
        "## Functions",
        "",
        "| C | here | what differs |",
        "|---|---|---|",
        *(f"| {_versions(row.c)} | {_codes(row.here)} | {row.differs} |" for row in FUNCTIONS),
        "",
        "## Data",
        "",
        "| C | here |",
        "|---|---|",
        *(f"| {c} | {here} |" for c, here in DATA),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
