"""Result codes, structs, enums, flags and callback types under their C names.

Structs are mutable and have the fields of both 2.0 and 4.0. They start like zeroed C structs: zero or None means the
library's default.
"""

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from memif.errors import ErrorCode, MemifError

__all__ = [
    "LIBMEMIF_VERSION",
    "MEMIF_BUFFER_FLAG_NEXT",
    "MEMIF_BUFFER_FLAG_RX",
    "MEMIF_DEFAULT_APP_NAME",
    "MEMIF_DEFAULT_BUFFER_SIZE",
    "MEMIF_DEFAULT_LOG2_RING_SIZE",
    "MEMIF_DEFAULT_RECONNECT_PERIOD_SEC",
    "MEMIF_DEFAULT_RING_SIZE",
    "MEMIF_DEFAULT_RX_QUEUES",
    "MEMIF_DEFAULT_SOCKET_PATH",
    "MEMIF_DEFAULT_TX_QUEUES",
    "MEMIF_ERR_ACCES",
    "MEMIF_ERR_ACCSLAVE",
    "MEMIF_ERR_AGAIN",
    "MEMIF_ERR_ALRCONN",
    "MEMIF_ERR_ALREADY",
    "MEMIF_ERR_BAD_FD",
    "MEMIF_ERR_CB_FDUPDATE",
    "MEMIF_ERR_CONN",
    "MEMIF_ERR_CONNREFUSED",
    "MEMIF_ERR_COOKIE",
    "MEMIF_ERR_DISCONNECT",
    "MEMIF_ERR_DISCONNECTED",
    "MEMIF_ERR_FILE_LIMIT",
    "MEMIF_ERR_FILE_NOT_SOCK",
    "MEMIF_ERR_ID",
    "MEMIF_ERR_INT_WRITE",
    "MEMIF_ERR_INVAL_ARG",
    "MEMIF_ERR_MAXREG",
    "MEMIF_ERR_MAXRING",
    "MEMIF_ERR_MAX_RING",
    "MEMIF_ERR_MFMSG",
    "MEMIF_ERR_MODE",
    "MEMIF_ERR_NOBUF",
    "MEMIF_ERR_NOBUF_DET",
    "MEMIF_ERR_NOBUF_RING",
    "MEMIF_ERR_NOCONN",
    "MEMIF_ERR_NOMEM",
    "MEMIF_ERR_NOSECRET",
    "MEMIF_ERR_NO_FILE",
    "MEMIF_ERR_NO_INTFD",
    "MEMIF_ERR_NO_SHMFD",
    "MEMIF_ERR_POLL_CANCEL",
    "MEMIF_ERR_PRIVHDR",
    "MEMIF_ERR_PROC_FILE_LIMIT",
    "MEMIF_ERR_PROTO",
    "MEMIF_ERR_QID",
    "MEMIF_ERR_SECRET",
    "MEMIF_ERR_SUCCESS",
    "MEMIF_ERR_SYSCALL",
    "MEMIF_ERR_UNKNOWN_MSG",
    "MEMIF_FD_EVENT_DEL",
    "MEMIF_FD_EVENT_ERROR",
    "MEMIF_FD_EVENT_MOD",
    "MEMIF_FD_EVENT_READ",
    "MEMIF_FD_EVENT_WRITE",
    "MEMIF_HAVE_CANCEL_POLL_EVENT",
    "MEMIF_INTERFACE_MODE_ETHERNET",
    "MEMIF_INTERFACE_MODE_IP",
    "MEMIF_INTERFACE_MODE_PUNT_INJECT",
    "MEMIF_MAX_LOG2_RING_SIZE",
    "MEMIF_QUEUE_FLAG_POLLING",
    "MEMIF_RX_MODE_INTERRUPT",
    "MEMIF_RX_MODE_POLLING",
    "itimerspec",
    "memif_add_external_region_t",
    "memif_alloc_t",
    "memif_control_fd_update_t",
    "memif_del_external_region_t",
    "memif_details_t",
    "memif_err_t",
    "memif_fd_event_t",
    "memif_fd_event_type_t",
    "memif_free_t",
    "memif_get_external_buffer_offset_t",
    "memif_get_external_region_addr_t",
    "memif_interface_mode_t",
    "memif_queue_details_t",
    "memif_realloc_t",
    "memif_region_details_t",
    "memif_result_t",
    "memif_rx_mode_t",
    "memif_socket_args_t",
    "timespec",
]


#: The version of the C API whose arguments are followed where 2.0 and 4.0 do not differ.
LIBMEMIF_VERSION = "4.0"
#: The name that peers see if no application name is given.
MEMIF_DEFAULT_APP_NAME = "libmemif-app"
#: The socket used if none is named.
MEMIF_DEFAULT_SOCKET_PATH = "/run/vpp/memif.sock"
MEMIF_DEFAULT_RING_SIZE = 1024
MEMIF_DEFAULT_LOG2_RING_SIZE = 10
MEMIF_DEFAULT_RX_QUEUES = 1
MEMIF_DEFAULT_TX_QUEUES = 1
MEMIF_DEFAULT_BUFFER_SIZE = 2048
#: Seconds between two attempts of a slave to connect (2.0).
MEMIF_DEFAULT_RECONNECT_PERIOD_SEC = 2
MEMIF_MAX_LOG2_RING_SIZE = 14
#: `memif_cancel_poll_event` exists.
MEMIF_HAVE_CANCEL_POLL_EVENT = 1

#: Bits: what to watch a control descriptor for, and what happened on it.
MEMIF_FD_EVENT_READ = 1
MEMIF_FD_EVENT_WRITE = 2
MEMIF_FD_EVENT_ERROR = 4
#: The descriptor will be closed: stop watching it.
MEMIF_FD_EVENT_DEL = 8
#: The events of a watched descriptor have changed.
MEMIF_FD_EVENT_MOD = 16

#: The packet continues in the next buffer.
MEMIF_BUFFER_FLAG_NEXT = 1
#: The buffer was received (2.0).
MEMIF_BUFFER_FLAG_RX = 2

#: The ring's consumer polls and wants no interrupts.
MEMIF_QUEUE_FLAG_POLLING = 1

#: The enum of result codes. The numbers are those of 2.0. `MEMIF_ERR_CONNREFUSED`, which 4.0 inserted as number 2, is
#: the last one here, so that no other number changes. Compare with names.
memif_err_t = ErrorCode

MEMIF_ERR_SUCCESS = ErrorCode.SUCCESS
MEMIF_ERR_SYSCALL = ErrorCode.SYSCALL
MEMIF_ERR_ACCES = ErrorCode.ACCES
MEMIF_ERR_NO_FILE = ErrorCode.NO_FILE
MEMIF_ERR_FILE_LIMIT = ErrorCode.FILE_LIMIT
MEMIF_ERR_PROC_FILE_LIMIT = ErrorCode.PROC_FILE_LIMIT
MEMIF_ERR_ALREADY = ErrorCode.ALREADY
MEMIF_ERR_AGAIN = ErrorCode.AGAIN
MEMIF_ERR_BAD_FD = ErrorCode.BAD_FD
MEMIF_ERR_NOMEM = ErrorCode.NOMEM
MEMIF_ERR_INVAL_ARG = ErrorCode.INVAL_ARG
MEMIF_ERR_NOCONN = ErrorCode.NOCONN
MEMIF_ERR_CONN = ErrorCode.CONN
MEMIF_ERR_CB_FDUPDATE = ErrorCode.CB_FDUPDATE
MEMIF_ERR_FILE_NOT_SOCK = ErrorCode.FILE_NOT_SOCK
MEMIF_ERR_NO_SHMFD = ErrorCode.NO_SHMFD
MEMIF_ERR_COOKIE = ErrorCode.COOKIE
MEMIF_ERR_NOBUF_RING = ErrorCode.NOBUF_RING
MEMIF_ERR_NOBUF = ErrorCode.NOBUF
MEMIF_ERR_NOBUF_DET = ErrorCode.NOBUF_DET
MEMIF_ERR_INT_WRITE = ErrorCode.INT_WRITE
MEMIF_ERR_MFMSG = ErrorCode.MFMSG
MEMIF_ERR_QID = ErrorCode.QID
MEMIF_ERR_PROTO = ErrorCode.PROTO
MEMIF_ERR_ID = ErrorCode.ID
MEMIF_ERR_ACCSLAVE = ErrorCode.ACCSLAVE
MEMIF_ERR_ALRCONN = ErrorCode.ALRCONN
MEMIF_ERR_MODE = ErrorCode.MODE
MEMIF_ERR_SECRET = ErrorCode.SECRET
MEMIF_ERR_NOSECRET = ErrorCode.NOSECRET
MEMIF_ERR_MAXREG = ErrorCode.MAXREG
MEMIF_ERR_MAXRING = ErrorCode.MAXRING
MEMIF_ERR_NO_INTFD = ErrorCode.NO_INTFD
MEMIF_ERR_DISCONNECT = ErrorCode.DISCONNECT
MEMIF_ERR_DISCONNECTED = ErrorCode.DISCONNECTED
MEMIF_ERR_UNKNOWN_MSG = ErrorCode.UNKNOWN_MSG
MEMIF_ERR_POLL_CANCEL = ErrorCode.POLL_CANCEL
MEMIF_ERR_MAX_RING = ErrorCode.MAX_RING
MEMIF_ERR_PRIVHDR = ErrorCode.PRIVHDR
MEMIF_ERR_CONNREFUSED = ErrorCode.CONNREFUSED


class memif_result_t(int):
    """A result code, equal to the plain code, with errno and a text.

    Functions return it for failures with a specific cause. The C library loses errno when it translates errors of
    system calls; here it is kept.

    Attributes:
        errno: errno of the failed system call; 0 if none failed.
        detail: What happened; "" if the code says it all.
    """

    errno: int
    detail: str

    def __new__(cls, code: int, errno: int = 0, detail: str = "") -> "memif_result_t":
        """Create the result `code`."""
        self = super().__new__(cls, code)
        self.errno = errno
        self.detail = detail
        return self

    @classmethod
    def of(cls, error: MemifError) -> "memif_result_t":
        """Return the result for an exception of this package."""
        return cls(error.code, getattr(error, "errno", None) or 0, error.detail)

    def __repr__(self) -> str:
        return f"<MEMIF_ERR_{ErrorCode(self).name}: {self.detail}>" if self.detail else repr(ErrorCode(self))

    def __str__(self) -> str:
        return int.__repr__(self)


class memif_fd_event_type_t(enum.IntFlag):
    """Events of a descriptor, as an enum (4.0)."""

    READ = 1
    WRITE = 2
    ERROR = 4
    DEL = 8
    MOD = 16


class memif_rx_mode_t(enum.IntEnum):
    """How a receive queue learns of packets: by interrupts from the peer, or by polling."""

    INTERRUPT = 0
    POLLING = 1


MEMIF_RX_MODE_INTERRUPT = memif_rx_mode_t.INTERRUPT
MEMIF_RX_MODE_POLLING = memif_rx_mode_t.POLLING


class memif_interface_mode_t(enum.IntEnum):
    """The kind of packets: Ethernet frames, IP packets, or VPP's internal form."""

    ETHERNET = 0
    IP = 1
    PUNT_INJECT = 2


MEMIF_INTERFACE_MODE_ETHERNET = memif_interface_mode_t.ETHERNET
MEMIF_INTERFACE_MODE_IP = memif_interface_mode_t.IP
MEMIF_INTERFACE_MODE_PUNT_INJECT = memif_interface_mode_t.PUNT_INJECT


@dataclass(slots=True)
class timespec:
    """A time.

    Attributes:
        tv_sec: Seconds.
        tv_nsec: Nanoseconds, below 1 000 000 000.
    """

    tv_sec: int = 0
    tv_nsec: int = 0


@dataclass(slots=True)
class itimerspec:
    """The setting of a timer.

    Attributes:
        it_interval: The period.
        it_value: The time to the first expiry; zero turns the timer off.
    """

    it_interval: timespec = field(default_factory=timespec)
    it_value: timespec = field(default_factory=timespec)


@dataclass(slots=True)
class memif_fd_event_t:
    """What the callback for descriptors gets (4.0).

    Attributes:
        fd: The descriptor.
        type: The events to watch it for, or `memif_fd_event_type_t.DEL`.
        private_ctx: Passed to `memif_control_fd_handler`, with the events that happened.
    """

    fd: int = -1
    type: memif_fd_event_type_t = memif_fd_event_type_t.READ
    private_ctx: Any = None


@dataclass(slots=True)
class memif_socket_args_t:
    """The arguments of `memif_create_socket` (4.0).

    Attributes:
        path: A file, or ``@name`` for an abstract socket; at most 107 bytes.
        app_name: The name that peers see, at most 31 bytes; a longer one is refused, not truncated.
        connection_request_timer: When slaves try to connect: an `itimerspec`, or seconds. Zero leaves it to
            `memif_request_connection`.
        on_control_fd_update: The callback for descriptors, see `memif_control_fd_update_t`; None if `memif_poll_event`
            polls.
        alloc: See `memif_init`.
        realloc: Never called.
        free: See `memif_init`.
    """

    path: str = ""
    app_name: str = ""
    connection_request_timer: "itimerspec | float" = field(default_factory=itimerspec)
    on_control_fd_update: "Callable[[memif_fd_event_t, Any], int | None] | None" = None
    alloc: "Callable[[int], Any] | None" = None
    realloc: "Callable[[Any, int], Any] | None" = None
    free: "Callable[[Any], object] | None" = None


@dataclass(slots=True)
class memif_queue_details_t:
    """The details of one ring.

    Attributes:
        region: The number of the region that holds it.
        qid: The queue's number.
        ring_size: Slots.
        flags: `MEMIF_QUEUE_FLAG_POLLING` or 0.
        head: The ring's head, a 16-bit index that is not masked.
        tail: The ring's tail, likewise.
        buffer_size: Bytes of a buffer.
    """

    region: int = 0
    qid: int = 0
    ring_size: int = 0
    flags: int = 0
    head: int = 0
    tail: int = 0
    buffer_size: int = 0


@dataclass(slots=True)
class memif_region_details_t:
    """The details of one memory region.

    Attributes:
        index: The region's number.
        addr: A memoryview of it.
        size: Bytes.
        fd: Its descriptor.
        is_external: 1 if a callback of the user provided it.
    """

    index: int = 0
    addr: memoryview | None = None
    size: int = 0
    fd: int = -1
    is_external: int = 0


@dataclass(slots=True)
class memif_details_t:
    """The details of a connection, see `memif_get_details`.

    Attributes:
        if_name: The interface's name.
        inst_name: This program's name.
        remote_if_name: The name of the peer's interface.
        remote_inst_name: The peer's program name.
        id: The interface's number.
        secret: The secret; None without one.
        role: 0 for a master, 1 for a slave.
        mode: A `memif_interface_mode_t`.
        socket_filename: The control socket (2.0).
        socket_path: The same (4.0).
        regions_num: The number of regions.
        regions: The regions.
        rx_queues_num: The number of receive queues.
        tx_queues_num: The number of transmit queues.
        rx_queues: The receive queues' rings.
        tx_queues: The transmit queues' rings.
        error: Why the last connection ended; "" while the link is up.
        link_up_down: 1 while the link is up, else 0.
    """

    if_name: str = ""
    inst_name: str = ""
    remote_if_name: str = ""
    remote_inst_name: str = ""
    id: int = 0
    secret: str | None = None
    role: int = 0
    mode: int = 0
    socket_filename: str = ""
    socket_path: str = ""
    regions_num: int = 0
    regions: list[memif_region_details_t] = field(default_factory=list)
    rx_queues_num: int = 0
    tx_queues_num: int = 0
    rx_queues: list[memif_queue_details_t] = field(default_factory=list)
    tx_queues: list[memif_queue_details_t] = field(default_factory=list)
    error: str = ""
    link_up_down: int = 0


# Callbacks return 0 or None for success, anything else for an error.

#: 2.0: ``f(fd, events)``; 3.1: ``f(fd, events, private_ctx)``; 4.0: ``f(fde, private_ctx)``.
memif_control_fd_update_t = Callable[..., int | None]
#: ``f(size)``: shared memory for packets, see `memif_init`.
memif_alloc_t = Callable[[int], Any]
#: ``f(memory, size)``: never called, because no memory grows.
memif_realloc_t = Callable[[Any, int], Any]
#: ``f(memory)``: takes back what `memif_alloc_t` gave.
memif_free_t = Callable[[Any], object]
#: ``f(size, private_ctx) -> (err, addr, fd)``: provides the slave's region for buffers. addr may be None, see the next.
memif_add_external_region_t = Callable[[int, Any], tuple[int, Any, int]]
#: ``f(size, fd, private_ctx) -> addr``: maps a region; addr is a writable buffer of at least `size` bytes.
memif_get_external_region_addr_t = Callable[[int, int, Any], Any]
#: ``f(addr, size, fd, private_ctx)``: the region is no longer used.
memif_del_external_region_t = Callable[[Any, int, int, Any], int | None]
#: ``f(private_ctx) -> offset``: where in the external region the next buffer starts.
memif_get_external_buffer_offset_t = Callable[[Any], int]
