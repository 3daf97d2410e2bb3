"""The options of interfaces and sockets, and their checks, which all run before anything is opened."""

import operator
import platform
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Final, TypedDict, cast, get_args

from memif.errors import MemifTypeError, MemifValueError
from memif.memory.allocator import Allocator, MemfdAllocator
from memif.memory.region import DEFAULT_REGION_LIMIT
from memif.protocol import Mode, Role
from memif.protocol.wire import MAX_REGION, check_text
from memif.types import CacheLine, Layout, ModeName, Peer, RoleName, RxMode, SealPolicy

ROLES: Final[dict[RoleName, Role]] = {
    "slave": Role.SLAVE,
    "client": Role.SLAVE,
    "master": Role.MASTER,
    "server": Role.MASTER,
}
MODES: Final[dict[ModeName, Mode]] = {"ethernet": Mode.ETHERNET, "ip": Mode.IP, "punt/inject": Mode.PUNT_INJECT}
#: The words for the protocol's numbers.
MODE_NAMES: Final[dict[int, ModeName]] = {number: name for name, number in MODES.items()}
#: Queues of one direction; some peers cannot express more.
MAX_QUEUES: Final = 255
#: Bytes; about what one process can map.
LARGEST_REGION_LIMIT: Final = 1 << 46
_BUFFER_SIZE: Final = 2048

#: Arguments of `memif.connect` and `memif.listen` that do not belong to an interface.
_OF_OPENING: Final = ("profile", "timeout", "app_name", "handshake_timeout", "socket_mode", "socket_owner", "path")

# Peers on AArch64 are usually built for cache lines of 128 bytes.
DEFAULT_CACHE_LINE: Final = 128 if platform.machine() == "aarch64" else 64


class CommonOptions(TypedDict, total=False):
    """The options that the sync API and the asyncio API share."""

    id: int
    """Number of the interface, 0 to 2**32 - 1; the same at both ends. Default: 0."""
    role: RoleName
    """"slave" (or "client") connects and owns the memory, "master" (or "server") listens. Default: "slave"."""
    mode: ModeName
    """What the packets are; the same at both ends. Default: "ethernet"."""
    name: str | None
    """Name that the peer sees, at most 31 bytes. Default: "memif<id>"."""
    secret: bytes | str | None
    """At most 23 bytes; a master with a secret refuses clients that do not know it. Default: None."""
    rx_queues: int | None
    """Slave: receive queues to offer, 0 to 255 (default: 1). Master: the most to accept (default: no limit)."""
    tx_queues: int | None
    """The same for transmit queues."""
    ring_size: int
    """Slave: slots of each ring, a power of two from 2 to 16384. Default: 1024."""
    buffer_size: int
    """Slave: bytes of each buffer, 64 to 65535; for DPDK at least the size of its mbufs. Default: 2048."""
    headroom: int
    """Slave: bytes left free in front of received packets, see `memif.Burst.prepend`. Default: 0."""
    rx_mode: RxMode
    """The initial mode of the receive queues, see `memif.RxQueue`. Default: "interrupt"."""
    layout: Layout
    """Slave: "single" has one region for rings and buffers, which every peer accepts; "split" has one for each.
    Default: "single"."""
    cache_line: CacheLine | None
    """Bytes of a cache line of the peer's machine. Default: None: a slave takes the usual size of this machine, a
    master detects it."""
    allocator: Allocator | None
    """Slave: provides the shared memory, see `memif.memory.allocator`. Default: None, which is ordinary memory."""
    seal: SealPolicy
    """With "add" a master accepts memory whose pages the peer can take away (unsealed, on huge pages, or in a file)
    and logs a warning. "require" refuses such memory; in a slave, an allocator of it. Default: "add"."""
    max_regions: int
    """Master: the most memory regions to accept. Default: 64."""
    max_region_bytes: int
    """Master: the most bytes to accept in all regions together. Default: 64 GiB, because zero-copy peers offer all
    their packet memory."""
    reconnect: float | None
    """Slave: seconds between attempts to connect; with None only `memif.Interface.connect` connects. Default: 2.0."""
    authorize: Callable[[Peer], object] | None
    """Master: called with the `memif.Peer` of a client before it is accepted; a false result refuses it.
    Default: None."""


class SocketOptions(TypedDict, total=False):
    """Keyword arguments of `memif.Socket`."""

    app_name: str
    """Name of this program that peers see, at most 31 bytes. Default: "memif for Python"."""
    mode: int | None
    """Permissions of the socket file, for masters; None leaves them to the umask. Default: 0o600."""
    owner: tuple[int, int] | None
    """User id and group id of the socket file, for masters; -1 leaves one unchanged. Default: None."""
    handshake_timeout: float
    """Seconds that a handshake may take, of a client or with a server. Default: 5.0."""
    max_pending: int
    """The most clients in their handshake at the same time, 1 to 4096. Default: 64."""


def one_of(name: str, value: object, words: Collection[str]) -> Any:
    """Return `value` if it is one of the words; otherwise raise an error that lists them."""
    if isinstance(value, str) and value in words:
        return value
    raise MemifValueError.argument(name, value, "one of " + ", ".join(map(repr, words)))


def choose(name: str, value: object, allowed: Mapping[Any, Any]) -> Any:
    """Return what a word stands for."""
    return allowed[one_of(name, value, allowed)]


def whole(name: str, value: object, low: int, high: int) -> int:
    """Return `value` as an int if it is an integer within the bounds, which are included."""
    try:
        number = operator.index(cast(int, value))
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise MemifValueError.argument(name, value, f"a whole number from {low} to {high}")
    if not low <= number <= high:
        raise MemifValueError.argument(name, value, f"{low} to {high}")
    return number


def seconds(name: str, value: object, *, none: bool = True) -> float | None:
    """Return a time in seconds, 0 or more; with `none`, None too."""
    if value is None and none:
        return None
    try:
        # float() would accept text and bool, which are most likely mistakes.
        number = -1.0 if isinstance(value, str | bytes | bytearray | bool) else float(cast(float, value))
    except (TypeError, ValueError, OverflowError):
        number = -1.0
    if not 0 <= number < 1e9:
        raise MemifValueError.argument(name, value, f"{'None or ' if none else ''}seconds, 0 to 1e9")
    return number


class Deadline:
    """The end of a time that is given in seconds; None never ends. By `time.monotonic`."""

    __slots__ = ("_end", "timeout")

    def __init__(self, timeout: float | None) -> None:
        """Raises `MemifValueError` for what is no time."""
        self.timeout: float | None = seconds("timeout", timeout)
        self._end = None if self.timeout is None else time.monotonic() + self.timeout

    def left(self, longest: float) -> float:
        """Seconds to sleep now: until the end, `longest` at most; 0 or less once it has passed."""
        return longest if self._end is None else min(self._end - time.monotonic(), longest)

    def rest(self) -> float | None:
        """Seconds until the end, 0 once it has passed; None if it never ends. A timeout for another call."""
        return None if self._end is None else max(self._end - time.monotonic(), 0.0)


def check_ring_size(name: str, size: object) -> int:
    """Return a number of slots if a ring can have it."""
    number = whole(name, size, 2, 1 << 14)
    if number & (number - 1):
        raise MemifValueError.argument(name, size, "a power of two from 2 to 16384")
    return number


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceConfig:
    """The checked options of one interface; every option has a default."""

    id: int = 0
    role: Role = Role.SLAVE
    mode: Mode = Mode.ETHERNET
    name: str = ""
    secret: bytes = field(default=b"", repr=False)
    rx_queues: int | None = None
    tx_queues: int | None = None
    ring_size: int = 1024
    buffer_size: int = _BUFFER_SIZE
    headroom: int = 0
    rx_mode: RxMode = "interrupt"
    layout: Layout = "single"
    cache_line: int | None = None
    allocator: Allocator = field(default_factory=MemfdAllocator)
    seal: SealPolicy = "add"
    max_regions: int = 64
    max_region_bytes: int = DEFAULT_REGION_LIMIT
    reconnect: float | None = 2.0
    authorize: Callable[..., object] | None = None
    on_connect: Callable[..., object] | None = None
    on_disconnect: Callable[..., object] | None = None
    on_interrupt: Callable[..., object] | None = None

    @property
    def log2_ring_size(self) -> int:
        """The ring's size as the protocol encodes it."""
        return self.ring_size.bit_length() - 1

    @classmethod
    def make(cls, **options: Any) -> "InterfaceConfig":
        """Check the options that a user passed.

        Args:
            **options: As for `memif.Socket.interface`.

        Returns:
            The checked options, with the defaults for the others.

        Raises:
            MemifValueError: when an option has a value that is not allowed; the error names it.
            MemifTypeError: when there is no such option; the error names the one that was probably meant.
        """
        checked: dict[str, Any] = {}
        for name, value in options.items():
            if name not in _CHECKS:
                raise unknown_argument(name, value)
            checked[name] = _CHECKS[name](name, value)
        if checked.get("name") is None:
            checked["name"] = f"memif{checked.get('id', 0)}"
        if "headroom" in checked:
            room = checked.get("buffer_size", _BUFFER_SIZE)
            checked["headroom"] = whole("headroom", checked["headroom"], 0, room - 1)
        if checked.get("rx_queues") == checked.get("tx_queues") == 0:
            raise MemifValueError.argument("tx_queues", 0, "1 to 255, for rx_queues is 0 too")
        return cls(**checked)


def unknown_argument(name: str, value: object) -> TypeError:
    """Make the error for an unknown option; it suggests the one that was probably meant."""
    known = list(_CHECKS)
    near = get_close_matches(name, [*known, *_OF_OPENING], 1)
    hint = f"did you mean {near[0]}?" if near and near[0] != name else "there are " + ", ".join(known)
    shown = "(hidden)" if "secret" in name else repr(value)
    return MemifTypeError(f"unknown argument {name}={shown}: {hint}")


def check_name(name: str, value: object, limit: int) -> str:
    """Return a text if it fits into a field of the protocol of `limit` bytes."""
    check_text(name, cast(str, value), limit)
    return cast(str, value)


def check_secret(value: object) -> bytes:
    """Return a secret as bytes; errors do not show it."""
    raw = b"" if value is None else value.encode() if isinstance(value, str) else value
    if not isinstance(raw, bytes) or len(raw) > 23 or b"\0" in raw:
        raise MemifValueError.argument("secret", "(hidden)", "at most 23 bytes without a NUL, as bytes or str")
    return raw


def choose_line(value: object) -> int:
    """Return the size of a cache line."""
    if not isinstance(value, int) or value not in (64, 128):
        raise MemifValueError.argument("cache_line", value, "64 or 128")
    return value


def check_mode(name: str, value: object) -> int | None:
    """Return the permissions of a file, or None for those that the umask gives."""
    return None if value is None else whole(name, value, 0, 0o777)


def check_owner(name: str, value: object) -> tuple[int, int] | None:
    """Return the user id and group id of a file; -1 leaves one unchanged."""
    if value is None:
        return None
    try:
        user, group = cast(tuple[object, object], value)
        return whole("user", user, -1, 0xFFFFFFFE), whole("group", group, -1, 0xFFFFFFFE)
    except (TypeError, ValueError) as error:
        raise MemifValueError.argument(name, value, "None or (user number, group number), -1 to keep one") from error


def check_allocator(value: object) -> Allocator:
    """Return the allocator, for None that of ordinary memory."""
    if value is None:
        return MemfdAllocator()
    if not isinstance(value, Allocator):
        raise MemifValueError.argument("allocator", value, "an object with allocate(size) and free(fd, buffer)")
    return value


def text_of(name: str, value: object) -> str:
    """Return a text of any length."""
    if not isinstance(value, str):
        raise MemifTypeError.argument(name, value, "text, as str")
    return value


def each(name: str, values: object, of: str = "bytes-like objects") -> Iterator[Any]:
    """Return an iterator; a single text or packet is refused, as it is most likely a mistake."""
    if isinstance(values, str | bytes | bytearray | memoryview) or not isinstance(values, Iterable):
        raise MemifTypeError.argument(name, values, f"an iterable of {of}")
    return iter(values)


def yes_or_no(name: str, value: object) -> bool:
    """Return a bool; other types are refused, because words such as "down" would count as true."""
    if not isinstance(value, bool):
        raise MemifTypeError.argument(name, value, "True or False")
    return value


def check_callback(name: str, value: Callable[..., object] | None) -> Callable[..., object] | None:
    """Return a callback, or None."""
    if value is not None and not callable(value):
        raise MemifValueError.argument(name, value, "None or something to call")
    return value


def _within(low: int, high: int) -> "_Check":
    return lambda name, value: whole(name, value, low, high)


def _word(allowed: tuple[str, ...]) -> "_Check":
    return lambda name, value: one_of(name, value, allowed)


def _or_none(check: "_Check") -> "_Check":
    return lambda name, value: None if value is None else check(name, value)


_Check = Callable[[str, Any], Any]

#: What each option has to be.
_CHECKS: Final[dict[str, _Check]] = {
    "id": _within(0, 0xFFFFFFFF),
    "role": lambda name, value: choose(name, value, ROLES),
    "mode": lambda name, value: choose(name, value, MODES),
    "name": _or_none(lambda name, value: check_name(name, value, 31)),
    "secret": lambda name, value: check_secret(value),
    "rx_queues": _or_none(_within(0, MAX_QUEUES)),
    "tx_queues": _or_none(_within(0, MAX_QUEUES)),
    "ring_size": check_ring_size,
    "buffer_size": _within(64, 0xFFFF),
    "headroom": lambda name, value: value,  # checked against buffer_size
    "rx_mode": _word(get_args(RxMode)),
    "layout": _word(get_args(Layout)),
    "cache_line": _or_none(lambda name, value: choose_line(value)),
    "allocator": lambda name, value: check_allocator(value),
    "seal": _word(get_args(SealPolicy)),
    "max_regions": _within(1, MAX_REGION + 1),
    "max_region_bytes": _within(1, LARGEST_REGION_LIMIT),
    "reconnect": seconds,
    "authorize": check_callback,
    "on_connect": check_callback,
    "on_disconnect": check_callback,
    "on_interrupt": check_callback,
}
