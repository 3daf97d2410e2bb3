"""The control sockets of this machine: what `memif list` shows."""

import errno
import os
import select
import socket
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, Literal

from memif.address import Address, SocketName, parse_address
from memif.config import one_of, seconds
from memif.control.transport import peer_credentials, short_name
from memif.discovery.kernel import UnixSocket, unix_sockets
from memif.discovery.processes import Process, folder_of, holders, look_up, speaks_memif
from memif.errors import MemifError, MemifProtocolError
from memif.protocol import wire

#: Listeners that are never memif's: the system's own, some of which start a program for each connection, and DPDK's
#: telemetry.
_OF_THE_SYSTEM: Final = (b"/run/systemd/", b"/run/udev/")
_TELEMETRY: Final = (b"/dpdk_telemetry.v2", b"/telemetry")

State = Literal["listening", "dead", "unreachable", "elsewhere", "other", "denied", "missing"]
Ask = Literal["known", "all", "none"]


@dataclass(frozen=True, slots=True)
class FoundSocket:
    """A control socket that somebody listens on, or the file of one.

    Attributes:
        name: Its name, as `memif.connect` takes it.
        state: "listening". "dead": the file of a program that has ended. "unreachable": somebody listens, but the file
            was removed or replaced. "elsewhere": somebody in another network namespace has it open. "other": no
            socket for control channels, or it does not listen yet. "denied": this user may not find out. "missing":
            nothing.
        memif: Whether it speaks memif; None if that is not known.
        app_name: What the listener calls itself in HELLO, such as "VPP 25.06"; None without a HELLO.
        version: The highest version of the protocol in HELLO, such as "2.0"; None without a HELLO.
        listeners: The processes that have it open; empty if this user may not know.
        uid: User id of its owner; None if not known.
        clients: For each connection, the processes at its other end; empty if this user may not know them.
        waiting: Connections that are not accepted yet.
    """

    name: str
    state: State
    memif: bool | None = None
    app_name: str | None = None
    version: str | None = None
    listeners: tuple[Process, ...] = ()
    uid: int | None = None
    clients: tuple[tuple[Process, ...], ...] = ()
    waiting: int = 0


def find_sockets(names: Iterable[SocketName] = (), *, ask: Ask = "known", timeout: float = 1.0) -> list[FoundSocket]:
    """Find the control sockets of this machine, of all programs in this network namespace.

    The kernel lists the sockets, but does not know which of them are memif's. That is told by HELLO, for which a master
    is asked by connecting to it and hanging up. No client loses its place by that: an interface is taken by the
    client's answer to HELLO, which is not given. A master that still has a connection to accept is not asked.

    Args:
        names: Sockets and folders to look at. The result has each socket, and each that listens or is dead in a folder.
            Without names it has all that speak memif, or may do so: those of programs that this user may not look into.
        ask: Whom to ask: "known" is programs that have an implementation of memif loaded or linked in. "all" is whoever
            listens on a socket of that type, which other programs may take amiss. "none".
        timeout: Seconds that each has for its HELLO.

    Returns:
        The sockets, by name.

    Raises:
        OSError: The sockets of this machine cannot be listed.
        MemifValueError: An argument is not allowed.
    """
    one_of("ask", ask, ("known", "all", "none"))
    seconds("timeout", timeout, none=False)
    wanted = [parse_address(name, argument="names") for name in names]
    found = _listening()
    if wanted:
        found = [each for name in wanted for each in _of_name(name, found)]
    asked = [_asked(each, timeout) if each.may_be_asked(ask) else each for each in found]
    shown = [each.shown for each in asked if wanted or each.is_likely()]
    return sorted(shown, key=lambda each: each.name)


def say_hello(name: SocketName, timeout: float = 1.0) -> tuple[wire.Hello, Process | None]:
    """Connect to a master, read its HELLO, and hang up.

    Args:
        name: Its control socket.
        timeout: Seconds to wait for HELLO.

    Returns:
        HELLO, and the process that listens, as the kernel names it.

    Raises:
        OSError: Nobody listens there, this user may not connect, or there is no HELLO in time.
        MemifProtocolError: What came is not HELLO.
    """
    address = parse_address(name, argument="name")
    wait = seconds("timeout", timeout, none=False)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK) as client:
        with short_name(address) as short:
            client.connect(short)
        pid = peer_credentials(client).pid
        ready, _, _ = select.select([client], [], [], wait)
        if not ready:
            raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
        message = wire.decode(client.recv(2 * wire.MESSAGE_SIZE))
    if not isinstance(message, wire.Hello):
        raise MemifProtocolError(f"{address} does not say HELLO")
    return message, look_up(pid) if pid else None


@dataclass(frozen=True, slots=True)
class _Entry:
    """What is shown of a socket, and what is known of it beside that."""

    shown: FoundSocket
    file: int | None = None
    implementation: bool = False  # its program has one of memif
    foreign: bool = False

    def may_be_asked(self, ask: Ask) -> bool:
        # This process could not answer itself while it waits.
        own = any(each.pid == os.getpid() for each in self.shown.listeners)
        if self.shown.state != "listening" or self.shown.waiting or self.foreign or own:
            return False
        return ask == "all" or (ask == "known" and self.implementation)

    def is_likely(self) -> bool:
        if self.shown.memif is not None:
            return self.shown.memif
        return not self.foreign and (self.implementation or not self.shown.listeners)


def _listening() -> list[_Entry]:
    """All listeners with sockets of that type."""
    table = [each for each in unix_sockets() if each.type == socket.SOCK_SEQPACKET and each.name]
    listeners = [each for each in table if each.listening]
    # The master's end of a connection has the name and the file of the listener.
    accepted: dict[tuple[bytes, int | None], list[UnixSocket]] = {}
    for each in table:
        if not each.listening and each.peer is not None:
            accepted.setdefault((each.name, each.file), []).append(each)
    ends = {(each.name, each.file): accepted.get((each.name, each.file), []) for each in listeners}
    peers = {one.peer for some in ends.values() for one in some if one.peer is not None}
    processes = holders({each.inode for each in listeners} | peers)
    return [_entry(each, ends[each.name, each.file], processes) for each in listeners]


def _entry(listener: UnixSocket, accepted: Sequence[UnixSocket], processes: Mapping[int, list[Process]]) -> _Entry:
    owners = tuple(processes.get(listener.inode, ()))
    name = _readable(listener.name, owners)
    reachable = listener.name[:1] == b"\0" or _leads_to(name, listener.file)
    shown = FoundSocket(
        name,
        "listening" if reachable else "unreachable",
        listeners=owners,
        uid=listener.uid,
        clients=tuple(tuple(processes.get(one.peer or 0, ())) for one in accepted),
        waiting=listener.waiting,
    )
    known = any(speaks_memif(owner.pid) for owner in owners)
    foreign = listener.name.startswith(_OF_THE_SYSTEM) or listener.name.endswith(_TELEMETRY)
    return _Entry(shown, listener.file, known, foreign)


def _readable(name: bytes, owners: Sequence[Process]) -> str:
    """The name as `parse_address` takes it: absolute, also where the listener has bound it from its own directory."""
    if name[:1] == b"\0":
        return parse_address(name).display
    text = os.fsdecode(name)
    for owner in owners:
        if text.startswith("/proc/self/fd/"):  # bound through a directory's descriptor
            number, _, rest = text.removeprefix("/proc/self/fd/").partition("/")
            with suppress(OSError):
                return os.path.join(os.readlink(f"/proc/{owner.pid}/fd/{number}"), rest)
        folder = folder_of(owner.pid)
        if folder is not None:
            return os.path.normpath(os.path.join(folder, text))
    return text


def _leads_to(name: str, file: int | None) -> bool:
    """Whether a path leads to the file of that number, or may do so as far as this user can see."""
    try:
        return file is None or os.stat(name).st_ino == file
    except PermissionError:
        return True
    except OSError:
        return False


def _of_name(address: Address, found: Sequence[_Entry]) -> Iterator[_Entry]:
    """The entries for a name that was asked for."""
    if address.kind == "abstract":
        same = [each for each in found if each.shown.name == address.display]
        yield from same or [_Entry(FoundSocket(address.display, "missing"))]
        return
    path = os.path.abspath(address.display)
    if not os.path.isdir(path):
        yield _of_file(path, found)
        return
    for name in sorted(os.listdir(path)):
        entry = _of_file(os.path.join(path, name), found)
        if entry.shown.state in ("listening", "dead"):
            yield entry


def _of_file(path: str, found: Sequence[_Entry]) -> _Entry:
    try:
        info = os.stat(path)
    except OSError as error:
        return _Entry(FoundSocket(path, "denied" if isinstance(error, PermissionError) else "missing"))
    real = os.path.basename(os.path.realpath(path))
    for each in found:
        same_file = each.file == info.st_ino and os.path.basename(each.shown.name) == real
        if same_file or (each.file is None and each.shown.name == path):
            return replace(each, shown=replace(each.shown, name=path))
    state = _state(path) if stat.S_ISSOCK(info.st_mode) else "other"
    return _Entry(FoundSocket(path, state, memif=False if state == "other" else None, uid=info.st_uid))


def _state(path: str) -> State:
    """What becomes of a connection to a socket file that is not among the listeners.

    A datagram socket gets another answer from a living socket of another type than from none, and does not disturb it.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as probe:
        try:
            with short_name(parse_address(path)) as short:
                answer = probe.connect_ex(short)
        except MemifError:  # too long a name
            return "denied"
    if answer == errno.ECONNREFUSED:
        return "dead"
    if answer in (errno.EACCES, errno.EPERM):
        return "denied"
    file = os.stat(path).st_ino
    return "other" if any(each.file == file for each in unix_sockets()) else "elsewhere"


def _asked(entry: _Entry, timeout: float) -> _Entry:
    """The entry with what HELLO says."""
    shown = entry.shown
    try:
        hello, process = say_hello(shown.name, timeout)
    except MemifError:
        return replace(entry, shown=replace(shown, memif=False))
    except OSError:
        return entry
    version = wire.version_text(hello.max_version)
    owners = shown.listeners or ((process,) if process is not None else ())
    return replace(entry, shown=replace(shown, memif=True, app_name=hello.name, version=version, listeners=owners))
