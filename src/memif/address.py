r"""Names of control sockets: paths in the file system, or abstract ones that live as long as their listener.

=======================  ===============================================================================
``/run/vpp/memif.sock``  a path of at most 107 bytes; `os.PathLike` objects are always paths
``memif.sock``           a relative path, taken from the current directory whenever it is used (VPP would
                         put it below ``/run/vpp``)
``@name``                abstract, as written by libmemif, and by VPP 21.10 to 22.10
``abstract:name``        abstract, as written by VPP since 23.02
``"\0name"``             abstract, as the kernel has it, where every byte counts: for DPDK before 21.08,
                         which fills abstract names up to 107 bytes with NULs
=======================  ===============================================================================

DPDK takes its ``socket=`` for an abstract name unless ``socket-abstract=no`` is given with it.

An abstract name belongs to a network namespace and has no permissions: every process in there may connect.
"""

import os
from dataclasses import dataclass
from typing import Final, Literal

from memif.errors import MemifValueError

#: The name of VPP's socket 0, and what libmemif uses when it is given none.
DEFAULT_SOCKET: Final = "/run/vpp/memif.sock"
#: Bytes of the longest name: a path needs one more for its NUL, an abstract name for the NUL in front.
MAX_NAME_BYTES: Final = 107

_VPP_PREFIX = b"abstract:"
_NAMESPACE_OPTIONS = (b",netns_name=", b",netns_pid=")


@dataclass(frozen=True, slots=True)
class Address:
    """A socket name, understood: what `parse_address` returns."""

    #: "path" for a file, "abstract" for a name without one.
    kind: Literal["path", "abstract"]
    #: What ``bind`` and ``connect`` take.
    sockaddr: bytes
    #: The name for people and logs, which `parse_address` takes again unless it ends with NULs.
    display: str

    def __str__(self) -> str:
        return self.display


SocketName = str | bytes | os.PathLike[str] | os.PathLike[bytes] | Address


def parse_address(name: SocketName | None = None) -> Address:
    """Return what `name` stands for; the default is `DEFAULT_SOCKET`. An `Address` comes back as it is.

    Looks at the name only: whether such a socket exists shows when it is used. Raises `MemifValueError` for a
    name that can not be one: empty, too long, a NUL within a path, VPP's options for another network
    namespace (entering one needs root and a thread of its own: start the program with ``ip netns exec``
    instead).
    """
    if isinstance(name, Address):
        return name
    raw = _encode(DEFAULT_SOCKET if name is None else name)
    if isinstance(name, (str, bytes)):
        if raw.startswith(b"\0"):
            return _abstract(raw[1:], name)
        if raw.startswith(b"@"):
            return _abstract(_without_nul(raw[1:], name), name)
        if raw.startswith(_VPP_PREFIX):
            return _abstract(_without_options(_without_nul(raw[len(_VPP_PREFIX) :], name), name), name)
        if raw.startswith(b"unix:"):
            raise MemifValueError.argument("socket", name, "a path, without 'unix:' before it")
    return _path(_without_nul(raw, name), name)


def _encode(name: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> bytes:
    try:
        return os.fsencode(name)
    except (TypeError, UnicodeError) as error:
        raise MemifValueError.argument("socket", name, "a name as str, bytes or PathLike") from error


def _path(raw: bytes, name: object) -> Address:
    _check_length(raw, name)
    # Without "./" a path object with such a name would not be shown as a path.
    ambiguous = raw.startswith((b"@", b"unix:", _VPP_PREFIX))
    return Address("path", raw, ("./" if ambiguous else "") + os.fsdecode(raw))


def _abstract(raw: bytes, name: object) -> Address:
    _check_length(raw, name)
    return Address("abstract", b"\0" + raw, "@" + os.fsdecode(raw.rstrip(b"\0")))


def _check_length(raw: bytes, name: object) -> None:
    if not 1 <= len(raw) <= MAX_NAME_BYTES:
        raise MemifValueError.argument("socket", name, f"1 to {MAX_NAME_BYTES} bytes, not {len(raw)}")


def _without_nul(raw: bytes, name: object) -> bytes:
    if b"\0" in raw:
        raise MemifValueError.argument("socket", name, "no NUL after the first byte")
    return raw


def _without_options(raw: bytes, name: object) -> bytes:
    if any(option in raw for option in _NAMESPACE_OPTIONS):
        raise MemifValueError.argument(
            "socket", name, "no network namespace here; start the program inside the namespace, with 'ip netns exec'"
        )
    return raw
