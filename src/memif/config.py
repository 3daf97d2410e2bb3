"""What a user asks of an interface and of a socket, checked once, before anything is opened."""

import operator
import platform
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any, Final, Literal, cast

from memif.errors import MemifTypeError, MemifValueError
from memif.memory.allocator import Allocator, MemfdAllocator
from memif.memory.region import DEFAULT_REGION_LIMIT, SealPolicy
from memif.protocol import Mode, Role
from memif.protocol.wire import MAX_REGION, check_text

RoleName = Literal["slave", "master", "client", "server"]
ModeName = Literal["ethernet", "ip", "punt/inject"]
RxMode = Literal["interrupt", "polling", "adaptive"]

#: DPDK says client and server where everyone else says slave and master.
ROLES: Final = {"slave": Role.SLAVE, "client": Role.SLAVE, "master": Role.MASTER, "server": Role.MASTER}
MODES: Final = {"ethernet": Mode.ETHERNET, "ip": Mode.IP, "punt/inject": Mode.PUNT_INJECT}
RX_MODES: Final = ("interrupt", "polling", "adaptive")
#: Queues of one direction; more do not fit into the protocol of all peers.
MAX_QUEUES: Final = 255
#: Bytes; about what one process can map.
LARGEST_REGION_LIMIT: Final = 1 << 46

#: Arguments of `memif.connect` and `memif.listen` beside those of an interface.
_OF_OPENING: Final = ("timeout", "app_name", "handshake_timeout", "socket_mode", "socket_owner", "path")

# Peers on AArch64 are usually built for lines of 128 bytes.
DEFAULT_CACHE_LINE: Final = 128 if platform.machine() == "aarch64" else 64


def one_of(name: str, value: object, words: Collection[str]) -> Any:
    """Return `value` if it is one of the words; the error for any other names all of them."""
    if isinstance(value, str) and value in words:
        return value
    raise MemifValueError.argument(name, value, "one of " + ", ".join(map(repr, words)))


def choose(name: str, value: object, allowed: dict[str, Any]) -> Any:
    """Look a word up."""
    return allowed[one_of(name, value, allowed)]


def whole(name: str, value: object, low: int, high: int) -> int:
    """Return `value` if it is an integer between the bounds."""
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
    """Return a time in seconds, from 0 on; None where that is allowed."""
    if value is None and none:
        return None
    try:
        # A text that is a number, or a yes that was meant to be one, is most likely a slip.
        number = -1.0 if isinstance(value, str | bytes | bytearray | bool) else float(cast(float, value))
    except (TypeError, ValueError, OverflowError):
        number = -1.0
    if not 0 <= number < 1e9:
        raise MemifValueError.argument(name, value, f"{'None or ' if none else ''}seconds, 0 to 1e9")
    return number


def log2_of(name: str, size: object) -> int:
    """Return the binary logarithm of a ring size."""
    number = whole(name, size, 2, 1 << 14)
    if number & (number - 1):
        raise MemifValueError.argument(name, size, "a power of two from 2 to 16384")
    return number.bit_length() - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceConfig:
    """One interface. Every argument of `Socket.interface` stands here with its default; see there."""

    id: int = 0
    role: Role = Role.SLAVE
    mode: Mode = Mode.ETHERNET
    name: str = ""
    secret: bytes = field(default=b"", repr=False)
    rx_queues: int | None = None
    tx_queues: int | None = None
    log2_ring_size: int = 10
    buffer_size: int = 2048
    headroom: int = 0
    rx_mode: RxMode = "interrupt"
    layout: Literal["single", "split"] = "single"
    cache_line: int | None = None
    allocator: Allocator = field(default_factory=MemfdAllocator)
    seal: SealPolicy = "add"
    max_regions: int = 64
    max_region_bytes: int = DEFAULT_REGION_LIMIT
    reconnect: float | None = 2.0
    on_connect: Callable[..., object] | None = None
    on_disconnect: Callable[..., object] | None = None
    on_interrupt: Callable[..., object] | None = None
    authorize: Callable[..., object] | None = None

    @classmethod
    def make(
        cls,
        *,
        id: int = 0,
        role: str = "slave",
        mode: str = "ethernet",
        name: str | None = None,
        secret: bytes | str | None = None,
        rx_queues: int | None = None,
        tx_queues: int | None = None,
        ring_size: int = 1024,
        buffer_size: int = 2048,
        headroom: int = 0,
        rx_mode: str = "interrupt",
        layout: str = "single",
        cache_line: int | None = None,
        allocator: Allocator | None = None,
        seal: str = "add",
        max_regions: int = 64,
        max_region_bytes: int = DEFAULT_REGION_LIMIT,
        reconnect: float | None = 2.0,
        on_connect: Callable[..., object] | None = None,
        on_disconnect: Callable[..., object] | None = None,
        on_interrupt: Callable[..., object] | None = None,
        authorize: Callable[..., object] | None = None,
        **unknown: object,
    ) -> "InterfaceConfig":
        """Check what a user wrote; raises `MemifValueError` that names the argument, TypeError for an unknown one."""
        for name_of_it, value in unknown.items():
            raise unknown_argument(name_of_it, value)
        number = whole("id", id, 0, 0xFFFFFFFF)
        size = whole("buffer_size", buffer_size, 64, 0xFFFF)
        if rx_queues == tx_queues == 0:
            raise MemifValueError.argument("tx_queues", 0, "1 to 255, for rx_queues is 0 too")
        return cls(
            id=number,
            role=choose("role", role, ROLES),
            mode=choose("mode", mode, MODES),
            name=check_name("name", f"memif{number}" if name is None else name, 31),
            secret=check_secret(secret),
            rx_queues=None if rx_queues is None else whole("rx_queues", rx_queues, 0, MAX_QUEUES),
            tx_queues=None if tx_queues is None else whole("tx_queues", tx_queues, 0, MAX_QUEUES),
            log2_ring_size=log2_of("ring_size", ring_size),
            buffer_size=size,
            headroom=whole("headroom", headroom, 0, size - 1),
            rx_mode=one_of("rx_mode", rx_mode, RX_MODES),
            layout=one_of("layout", layout, ("single", "split")),
            cache_line=None if cache_line is None else choose_line(cache_line),
            allocator=check_allocator(allocator),
            seal=one_of("seal", seal, ("add", "require")),
            max_regions=whole("max_regions", max_regions, 1, MAX_REGION + 1),
            max_region_bytes=whole("max_region_bytes", max_region_bytes, 1, LARGEST_REGION_LIMIT),
            reconnect=seconds("reconnect", reconnect),
            on_connect=check_callback("on_connect", on_connect),
            on_disconnect=check_callback("on_disconnect", on_disconnect),
            on_interrupt=check_callback("on_interrupt", on_interrupt),
            authorize=check_callback("authorize", authorize),
        )


def unknown_argument(name: str, value: object) -> TypeError:
    """The error for an argument of an interface that there is not, with the one that may have been meant."""
    known = [field.name for field in fields(InterfaceConfig) if field.name != "log2_ring_size"] + ["ring_size"]
    near = get_close_matches(name, [*known, *_OF_OPENING], 1)
    hint = f"did you mean {near[0]}?" if near and near[0] != name else "there are " + ", ".join(known)
    shown = "(hidden)" if "secret" in name else repr(value)
    return MemifTypeError(f"unknown argument {name}={shown}: {hint}")


def check_name(name: str, value: object, limit: int) -> str:
    """Return a text that fits into a field of the protocol."""
    check_text(name, cast(str, value), limit)
    return cast(str, value)


def check_secret(value: object) -> bytes:
    """Return a secret as bytes; it never appears in an error."""
    raw = b"" if value is None else value.encode() if isinstance(value, str) else value
    if not isinstance(raw, bytes) or len(raw) > 23 or b"\0" in raw:
        raise MemifValueError.argument("secret", "(hidden)", "at most 23 bytes without a NUL, as bytes or str")
    return raw


def choose_line(value: object) -> int:
    """Return a cache line size."""
    if not isinstance(value, int) or value not in (64, 128):
        raise MemifValueError.argument("cache_line", value, "64 or 128")
    return value


def check_mode(name: str, value: object) -> int | None:
    """Return the mode of a file, None to leave it to the umask."""
    return None if value is None else whole(name, value, 0, 0o777)


def check_owner(name: str, value: object) -> tuple[int, int] | None:
    """Return user and group number for a file; -1 keeps what it has."""
    if value is None:
        return None
    try:
        user, group = cast(tuple[object, object], value)
        return whole("user", user, -1, 0xFFFFFFFE), whole("group", group, -1, 0xFFFFFFFE)
    except (TypeError, ValueError) as error:
        raise MemifValueError.argument(name, value, "None or (user number, group number), -1 to keep one") from error


def check_allocator(value: object) -> Allocator:
    """Return the object that brings the memory."""
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
    """Return an iterator; one text or packet in the place of many is most likely a slip."""
    if isinstance(values, str | bytes | bytearray | memoryview) or not isinstance(values, Iterable):
        raise MemifTypeError.argument(name, values, f"an iterable of {of}")
    return iter(values)


def yes_or_no(name: str, value: object) -> bool:
    """Return a choice: words like "down" would all mean yes."""
    if not isinstance(value, bool):
        raise MemifTypeError.argument(name, value, "True or False")
    return value


def check_callback(name: str, value: Callable[..., object] | None) -> Callable[..., object] | None:
    """Return a callback, or None."""
    if value is not None and not callable(value):
        raise MemifValueError.argument(name, value, "None or something to call")
    return value
