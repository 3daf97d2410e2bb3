"""The control socket: can it be reached, who listens, what does HELLO say, and does a client get its link."""

import contextlib
import select
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from memif.address import Address
from memif.config import Deadline
from memif.control.transport import connect_socket, peer_credentials
from memif.discovery.processes import look_up
from memif.doctor.findings import FAULTS, Finding, fault
from memif.doctor.quirks import quirks_of
from memif.errors import (
    ErrorCode,
    MemifConnectionError,
    MemifError,
    MemifFileNotFoundError,
    MemifPermissionError,
    MemifProtocolError,
    MemifRefusedError,
    MemifTimeoutError,
)
from memif.icmp import checksum
from memif.protocol import wire

if TYPE_CHECKING:
    from memif.interface import Interface, Options

_REFUSALS: Final = {
    ErrorCode.ID: "unknown-id",
    ErrorCode.ACCSLAVE: "same-role",
    ErrorCode.NOSECRET: "secret-missing",
    ErrorCode.SECRET: "secret-wrong",
    ErrorCode.MODE: "mode",
    ErrorCode.ALRCONN: "taken",
}


def reach(address: Address) -> tuple[Finding, socket.socket | None]:
    """Connect, and say what is in the way if that fails."""
    try:
        sock = connect_socket(address)
    except MemifError as error:
        name = _unreachable(error, address)
        return Finding("socket", "fault", f"{error.detail}.", name, FAULTS[name][1]), None
    return Finding("socket", "ok", f"{address} accepts connections"), sock


def _unreachable(error: MemifError, address: Address) -> str:
    path = Path(address.display)
    if isinstance(error, MemifFileNotFoundError):
        if path.is_symlink():
            return "broken-link"
        return "no-socket" if path.absolute().parent.is_dir() else "no-folder"
    if isinstance(error, MemifPermissionError):
        return "closed-folder" if "cannot be entered" in error.detail else "no-right"
    if error.code is ErrorCode.FILE_NOT_SOCK:
        return "not-a-socket"
    if isinstance(error, MemifRefusedError):
        if "SOCK_SEQPACKET" in error.detail:
            return "wrong-type"
        return "no-abstract" if address.kind == "abstract" else "stale"
    if isinstance(error, MemifConnectionError) and error.code is ErrorCode.AGAIN:
        return "not-accepted"
    return "no-folder" if isinstance(error.__cause__, NotADirectoryError) else "refused"


def listener(sock: socket.socket, timeout: float) -> tuple[list[Finding], int, str]:
    """Read HELLO; return findings, the process that listens (0: unknown), and what it calls itself ("": no HELLO)."""
    pid = peer_credentials(sock).pid
    process = look_up(pid) if pid else None
    who = f"{process.program} (process {pid})" if process else "a process that cannot be seen from here"
    ready, _, _ = select.select([sock], [], [], timeout)
    if not ready:
        stopped = _state(pid) in ("T", "t")
        return [fault("listener", "stopped" if stopped else "silent", f"It is {who}.")], pid, ""
    try:
        data = sock.recv(2 * wire.MESSAGE_SIZE)
    except OSError:
        data = b""
    if not data:
        return [fault("listener", "hangs-up", f"It is {who}.")], pid, ""
    try:
        hello = wire.decode(data)
    except MemifProtocolError as error:
        return [fault("listener", "not-memif", f"It is {who}: {error.detail}.")], pid, ""
    if isinstance(hello, wire.Disconnect):
        return [fault("listener", "hangs-up", f"It is {who}, and says {hello.reason!r}.")], pid, ""
    if not isinstance(hello, wire.Hello):
        return (
            [fault("listener", "not-memif", f"It is {who}, and begins with {type(hello).__name__.upper()}.")],
            pid,
            "",
        )
    low, high = map(wire.version_text, (hello.min_version, hello.max_version))
    if not hello.min_version <= wire.VERSION <= hello.max_version:
        return [fault("listener", "version", f"{hello.name!r}, {who}, speaks {low} to {high}.")], pid, ""
    found = [Finding("listener", "ok", f"{hello.name!r}, {who}, memif {high}")]
    name, quirks = quirks_of(hello.name)
    found += [Finding("peer", "note", f"{name}: {quirk.text}") for quirk in quirks]
    return found, pid, hello.name


def _state(pid: int) -> str:
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return ""


def join(address: Address, options: "Options", timeout: float) -> Iterator[Finding]:
    """Take the place of a client, send one frame that means nothing, and leave."""
    from memif.socket import open_interface

    config = {**options, "role": "slave", "reconnect": None, "name": "doctor"}
    with open_interface(address, config, app_name="memif doctor") as iface:  # type: ignore[arg-type]
        try:
            iface.connect()
            iface.wait_up(timeout)
        except MemifTimeoutError as error:
            yield fault("link", "no-link", f"{error.detail}.")
            return
        except MemifError as error:
            yield fault("link", _REFUSALS.get(error.code, "refused"), f"{error.detail}.")
            return
        peer = iface.peer
        yield Finding("link", "ok", f"up with {peer.name!r} of {peer.app_name!r}" if peer else "up")
        yield _probe(iface, timeout)


def _probe(iface: "Interface", timeout: float) -> Finding:
    """Whether the other side takes what is sent."""
    deadline = Deadline(timeout)
    iface.tx[0].send([_frame(iface)])
    if iface.drain(deadline.rest()):
        return Finding("probe", "ok", "a frame that was sent has been taken")
    if not iface.up:
        return fault("probe", "refused", f"The link has ended: {iface.disconnect_reason}.")
    return fault("probe", "takes-nothing", f"A frame has waited for {timeout:g} s.")


def _frame(iface: "Interface") -> bytes:
    """A frame that no host answers or forwards: of the type for experiments, or an IP packet with a TTL of 1."""
    if iface.mode != "ip":
        return (b"\xff" * 6 + b"\x02\xfe\x00\x00\x00\x02\x88\xb5" + b"memif doctor").ljust(60, b"\0")
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 32, 0, 0, 1, 253, 0, bytes((192, 0, 2, 2)), bytes((192, 0, 2, 1)))
    return header[:10] + checksum(header).to_bytes(2, "big") + header[12:] + b"memif doctor"
