r"""Names of control sockets: paths in the file system, or abstract names that exist as long as their listener.

=======================  ===============================================================================
``/run/vpp/memif.sock``  a path; `os.PathLike` objects are always paths. In one of more than 107 bytes,
                         which is more than a socket address holds, the file's name has at most 85
``memif.sock``           a path relative to the current directory at the time of use (VPP takes it relative
                         to ``/run/vpp``)
``@name``                abstract, as written by libmemif, and by VPP 21.10 to 22.10
``abstract:name``        abstract, as written by VPP since 23.02
``"\0name"``             abstract, as the kernel has it, where every byte counts: for DPDK before 21.08,
                         which pads abstract names with NULs to 107 bytes
=======================  ===============================================================================

DPDK takes its ``socket=`` as an abstract name unless ``socket-abstract=no`` is given too.

An abstract name belongs to a network namespace and has no permissions: every process in that namespace may connect.
"""

import os
from dataclasses import dataclass
from typing import Final, Literal

from memif.errors import MemifValueError

#: The name of VPP's socket 0, and libmemif's default.
DEFAULT_SOCKET: Final = "/run/vpp/memif.sock"
#: Bytes of the longest name in a socket address: a path has a NUL behind it, an abstract name one in front of it.
MAX_NAME_BYTES: Final = 107
#: Bytes of the longest path, which is the kernel's limit.
MAX_PATH_BYTES: Final = 4095
#: Bytes of the file's name in a path that goes through its directory's descriptor: "/proc/self/fd/1234567/name".
MAX_FILE_BYTES: Final = MAX_NAME_BYTES - len("/proc/self/fd/1234567/")

_VPP_PREFIX = b"abstract:"
_NAMESPACE_OPTIONS = (b",netns_name=", b",netns_pid=")


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed socket name, as `parse_address` returns it."""

    #: "path" for a file, "abstract" for a name without one.
    kind: Literal["path", "abstract"]
    #: What ``bind`` and ``connect`` take; a path may be too long for them (`is_long`).
    sockaddr: bytes
    #: The name for people and logs; `parse_address` accepts it unless the name ends with NULs.
    display: str

    @property
    def is_long(self) -> bool:
        """Whether it is a path that no socket address holds."""
        return self.kind == "path" and len(self.sockaddr) > MAX_NAME_BYTES

    def __str__(self) -> str:
        return self.display


SocketName = str | bytes | os.PathLike[str] | os.PathLike[bytes] | Address


class _NotAName(ValueError):
    """The text says what would be allowed."""


def parse_address(name: SocketName | None = None, *, argument: str = "path") -> Address:
    """Parse the name of a control socket.

    Looks only at the name, not at whether such a socket exists.

    Args:
        name: The name; None stands for `DEFAULT_SOCKET`. An `Address` is returned unchanged.
        argument: What errors call the name.

    Returns:
        The parsed name.

    Raises:
        MemifValueError: when the name is empty or too long, or contains a NUL where none may be, or one of VPP's
            options for another network namespace. To use one, start the program with ``ip netns exec``.
    """
    try:
        return name if isinstance(name, Address) else _parse(DEFAULT_SOCKET if name is None else name)
    except _NotAName as error:
        raise MemifValueError.argument(argument, name, str(error)) from error.__cause__


def _parse(name: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> Address:
    raw = _encode(name)
    if isinstance(name, (str, bytes)):
        if raw.startswith(b"\0"):
            return _abstract(raw[1:])
        if raw.startswith(b"@"):
            return _abstract(_without_nul(raw[1:]))
        if raw.startswith(_VPP_PREFIX):
            return _abstract(_without_options(_without_nul(raw[len(_VPP_PREFIX) :])))
        if raw.startswith(b"unix:"):
            raise _NotAName("a path, without 'unix:' before it")
    return _path(_without_nul(raw))


def _encode(name: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> bytes:
    try:
        return os.fsencode(name)
    except (TypeError, UnicodeError) as error:
        raise _NotAName("a name as str, bytes or PathLike") from error


def _path(raw: bytes) -> Address:
    if len(raw) <= MAX_NAME_BYTES:
        _check_length(raw)
    elif len(raw) > MAX_PATH_BYTES or len(os.path.basename(raw)) > MAX_FILE_BYTES:
        raise _NotAName(
            f"1 to {MAX_NAME_BYTES} bytes, or a path of at most {MAX_PATH_BYTES} whose file has a name of at most "
            f"{MAX_FILE_BYTES}"
        )
    # Without "./" a path object with such a name would not be shown as a path.
    ambiguous = raw.startswith((b"@", b"unix:", _VPP_PREFIX))
    return Address("path", raw, ("./" if ambiguous else "") + os.fsdecode(raw))


def _abstract(raw: bytes) -> Address:
    _check_length(raw)
    return Address("abstract", b"\0" + raw, "@" + os.fsdecode(raw.rstrip(b"\0")))


def _check_length(raw: bytes) -> None:
    if not 1 <= len(raw) <= MAX_NAME_BYTES:
        raise _NotAName(f"1 to {MAX_NAME_BYTES} bytes, not {len(raw)}")


def _without_nul(raw: bytes) -> bytes:
    if b"\0" in raw:
        raise _NotAName("no NUL after the first byte")
    return raw


def _without_options(raw: bytes) -> bytes:
    if any(option in raw for option in _NAMESPACE_OPTIONS):
        raise _NotAName("no network namespace here; start the program inside the namespace, with 'ip netns exec'")
    return raw
