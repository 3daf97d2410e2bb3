"""The porting table: each call of the C library, the call here, and what differs. docs/porting.md is made from it.

``python docs/_ext/porting.py`` prints that page; the tests compare it with the file, and every call with the
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
    "What C returns through pointers is returned after the code. Functions without such results return the code alone.",
    "Codes equal the members of `memif_err_t` and print as numbers. A failed system call keeps its `errno` and a "
    "text in the result (`err.errno`, `err.detail`), where C loses them.",
    "Use names of codes, not numbers: they are those of 2.0; `MEMIF_ERR_CONNREFUSED`, 4.0's number 2, is 39 here.",
    "Nothing crashes: wrong handles, deleted connections, wrong queue numbers and foreign buffers give codes. If "
    "two threads use one queue, the second gets `MEMIF_ERR_AGAIN`.",
    "Where C writes `bufs + n`, write `bufs[n:]`. `bufs` is a `memif_buffers` or a list of "
    "`memif_buffer_t`, created once and reused.",
    "Callbacks return 0 or None. Any other code from on_connect, on_disconnect or on_interrupt becomes the result "
    "of the function that called the callback (a value that is not a code gives `MEMIF_ERR_INVAL_ARG` with a text)."
    " An exception is raised by that function.",
    "A link ends in C's order: interrupts for what the peer had sent, then on_disconnect with the connection, its "
    "queues, details and descriptors still in place, then all of it is removed. One thing differs: if the peer has "
    "ended the link, the control channel's descriptor is closed, and announced with `MEMIF_FD_EVENT_DEL`, before "
    "on_disconnect; C does that after it.",
    "Callbacks run without a lock, so they may call any function. A callback that polls is not called again from "
    "that poll; in C it is, endlessly.",
    "Names that are too long are refused. C truncates them or writes past the field.",
)

FUNCTIONS = (
    Row("memif_get_version ()", ("memif_ver = memif_get_version()",), ""),
    Row("memif_get_version_str () [4.0]", ("text = memif_get_version_str()",), ""),
    Row(
        "memif_strerror (err)",
        ("text = memif_strerror(err)",),
        "Returns a new text each time, so any thread may call it. For `MEMIF_ERR_SYSCALL` it says what failed.",
    ),
    Row(
        "memif_init (cb, app_name, alloc, free) [2.0]; (cb, app_name, alloc, realloc, free) [3.1]",
        (
            "err = memif_init(cb, app_name, memif_alloc, memif_free)",
            "err = memif_init(cb, app_name, memif_alloc, memif_realloc, memif_free)",
        ),
        "alloc and free supply the shared memory for packets, by descriptor, not the library's own objects; realloc"
        " is not used. A second call gives `MEMIF_ERR_ALREADY` until `memif_cleanup`.",
    ),
    Row("memif_cleanup () [2.0]", ("err = memif_cleanup()",), "Deletes the remaining connections."),
    Row(
        "memif_create (&conn, &args, on_connect, on_disconnect, on_interrupt, ctx)",
        ("err, conn = memif_create(args, on_connect, on_disconnect, on_interrupt, ctx)",),
        "A slave tries to connect at once, in 2.0's form too. A master accepts as many rings as the slave offers. "
        "One process may use any number of sockets, and both roles on one. A second interface with the same id and "
        "role on a socket gives `MEMIF_ERR_INVAL_ARG`; C creates one that never connects. A wrong path or a missing"
        " permission fails here, not later. `buffer_size` is at least 64.",
    ),
    Row(
        "memif_delete (&conn)",
        ("err = memif_delete(conn)",),
        "The handle cannot be set to NULL: it becomes false, and all functions return `MEMIF_ERR_NOCONN` for it. "
        "The peer gets a DISCONNECT. on_disconnect is also called if the link is down, as in 4.0. The listener "
        "closes with its last master; in 4.0 it stays until its socket is deleted.",
    ),
    Row(
        "memif_control_fd_handler (fd, events) [2.0]; (ptr, events) [4.0]",
        ("err = memif_control_fd_handler(fd, events)", "err = memif_control_fd_handler(fde.private_ctx, events)"),
        "Handles everything that is pending on the socket, whatever `events` says.",
    ),
    Row(
        "memif_poll_event (timeout) [2.0]; (sock, timeout) [4.0]",
        ("err = memif_poll_event(timeout)", "err = memif_poll_event(sock, timeout)"),
        "Milliseconds in both. Handles everything that is pending, not one event. As in C a signal ends it, with "
        "`MEMIF_ERR_SYSCALL` and `err.errno == EINTR`, after Python's handler has run (in the main thread; its "
        "exceptions are raised here). Blocked signals are let in while it waits. A Python program needs no handler "
        "for Ctrl-C: KeyboardInterrupt is raised.",
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
        "The mode survives a reconnect. After a change back to interrupts, waiting packets are signalled.",
    ),
    Row(
        "memif_get_details (conn, &md, buf, buflen)",
        ("err, md = memif_get_details(conn)", "err, md = memif_get_details(conn, md, buf, buflen)"),
        "Strings are Python strings; without buf nothing can be too small. buflen limits only the strings, not the "
        "arrays.",
    ),
    Row(
        "memif_rx_burst (conn, qid, bufs, count, &rx)",
        ("err, rx = memif_rx_burst(conn, qid, bufs, count)",),
        "Invalid descriptors are dropped. A chain cut at `count` continues in the next call. Afterwards the event "
        "descriptor is readable only if packets are left. `flags` has `MEMIF_BUFFER_FLAG_RX` as in 2.0; 4.0 does "
        "not set it.",
    ),
    Row(
        "memif_refill_queue (conn, qid, count, headroom)",
        ("err = memif_refill_queue(conn, qid, count, headroom)", "err = memif_refill_queue(conn, qid, count)"),
        "`(uint16_t) -1` may be written -1. Headroom is taken from the buffer (2.0 lets the peer write past its "
        "end); headroom as large as the buffer is refused. Also correct where the 16 bit indices wrap.",
    ),
    Row(
        "memif_buffer_alloc (conn, qid, bufs, count, &n, size)",
        (
            "err, n = memif_buffer_alloc(conn, qid, bufs, count, size)",
            "err, n = memif_buffer_alloc(conn, qid, bufs, count)",
        ),
        "Without size, or with 0: whole buffers. A chain that does not fit is not started; bufs has to be long "
        "enough for chains. May be called again before `memif_tx_burst`. An allocation is abandoned when its "
        "`memif_buffer_t` is passed to another call or deleted; it is then free again, with all later ones. 4.0 "
        "sends whatever the buffers contain, and 2.0 miscounts.",
    ),
    Row(
        "memif_tx_burst (conn, qid, bufs, count, &tx)",
        ("err, tx = memif_tx_burst(conn, qid, bufs, count)",),
        "Checks the order as 4.0 does, and lengths against the buffer; a length of 0 is refused. A chain is never "
        "cut. An interrupt that cannot be sent is not an error (`MEMIF_ERR_INT_WRITE` does not occur).",
    ),
    Row(
        "memif_buffer_enq_tx (conn, qid, bufs, count, &n)",
        ("err, n = memif_buffer_enq_tx(conn, qid, bufs, count)",),
        "Stops at the first buffer that was not received, with `MEMIF_ERR_INVAL_ARG` (2.0 skips it, which is wrong).",
    ),
    Row("memif_buffer_requeue (conn, a, b) [4.0]", ("err = memif_buffer_requeue(conn, buf_a, buf_b)",), ""),
    Row("memif_set_next_free_buffer (conn, qid, buf) [4.0]", ("err = memif_set_next_free_buffer(conn, qid, buf)",), ""),
    Row(
        "memif_request_connection (conn) [2.1]",
        ("err = memif_request_connection(conn)",),
        "Refused for a master. In 4.0 it starts listening there; here `memif_create` has done that.",
    ),
    Row(
        "memif_set_connection_request_timer (timer) [2.1]; (sock, timer) [4.0]",
        ("err = memif_set_connection_request_timer(timer)", "err = memif_set_connection_request_timer(sock, timer)"),
        "`timer` may be a number of seconds; 10^9 or more nanoseconds are refused. After a failure the first "
        "retries come sooner than the period. The timer's descriptor is announced when the socket is created, even "
        "while the timer is off; it also limits the time of handshakes.",
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
        "`go(ctx)` is called once for each slot, when connecting. `dr` is called when the last view is gone. A "
        "master's `gr` is called for all regions of the slave except region 0; its fd is a copy.",
    ),
    Row(
        "memif_per_thread_init (&pt, ctx, cb, app_name, alloc, realloc, free) [3.1]",
        ("err, pt = memif_per_thread_init(ctx, cb, app_name, memif_alloc, memif_realloc, memif_free)",),
        "A separate database with its own sockets; it need not stay in one thread.",
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
        "`b.data`, a memoryview: `len` bytes of a received buffer, all the room of a buffer to send. `bytes(b)` is "
        "a copy of `len` bytes",
    ),
    ("`memcpy (b->data, p, n); b->len = n;`", "`b.data[:n] = p; b.len = n`, or `b.copy_from(p)`"),
    ("`b->data -= n; b->len += n;`", "`b.prepend(n)`, checked against the headroom"),
    (
        "`b->queue` [4.0], `b->ring` [2.0]",
        "`b.queue`, `b.ring`: an object to compare; the same for all buffers of a ring",
    ),
    ("`memif_buffer_t bufs[256]`", "`bufs = memif_buffers(256)`"),
    (
        "a loop over `bufs` that copies",
        "the same loop, or for all in one call: `bufs.gather(width, n)`, `bufs.tobytes(n)`; `bufs.copy_from(packets)`, "
        "`bufs.scatter(rows, n)`; `bufs.lengths` is the column of all `len`",
    ),
    ("`memif_conn_args_t args = { 0 }`", "`args = memif_conn_args_t()`; strings are `str` or `bytes`"),
    ("`args.socket` [4.0], `args.socket_filename` [2.0]", "both fields exist: set one"),
    ("`md.regions[i].addr`", "a memoryview of the region"),
    ("`struct itimerspec`", "`itimerspec(it_interval=timespec(2), it_value=timespec(2))`, or seconds"),
    (
        "fd callback `f (fd, events)` [2.0], `f (fd, events, ctx)` [3.1], `f (fde, ctx)` [4.0]",
        "the same; the form depends on the function it is passed to",
    ),
    ("memory after a disconnect", "stays mapped while a buffer, or a view of one, refers to it"),
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
        "Each call of the C library, the call in {mod}`memif.libmemif`, and what differs. C's calls are those of "
        "2.0 (VPP 18.07) unless a version is named. Where versions differ, both forms work here.",
        "",
        "<!-- Made by `python docs/_ext/porting.py > docs/porting.md`; the tests compare. -->",
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
