"""What is wrong with a link, in words: `diagnose` looks at a control socket, its listener, its rings, and at VPP.

It looks without taking a client's place: it connects, reads HELLO and hangs up, and reads the rings of links that are
up through /proc, which needs the rights of their user or root. Only with `join` it asks for the link itself.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from memif.address import SocketName, parse_address
from memif.config import seconds, whole, yes_or_no
from memif.discovery import find_sockets
from memif.doctor import control, rings
from memif.doctor.findings import FAULTS, Finding, State, fault
from memif.doctor.quirks import QUIRKS, Quirk, quirks_of
from memif.errors import MemifValueError

if TYPE_CHECKING:
    from memif.address import Address
    from memif.interface import Options

__all__ = ["FAULTS", "QUIRKS", "Finding", "Quirk", "State", "diagnose", "quirks_of"]


def diagnose(
    socket: SocketName,
    *,
    id: int = 0,
    vpp: str | None = None,
    join: bool = False,
    secret: bytes | str | None = None,
    mode: str = "ethernet",
    watch: float = 1.0,
    timeout: float = 2.0,
) -> list[Finding]:
    """Look at a link, and say what is wrong with it.

    Args:
        socket: The control socket.
        id: Number of the interface.
        vpp: VPP's API socket; None: do not ask VPP.
        join: Connect as a client, too. That takes the client's place for a moment.
        secret: For `join`.
        mode: For `join`: "ethernet" or "ip".
        watch: Seconds to look at the rings of links that are up.
        timeout: Seconds to wait for each answer.

    Returns:
        One or more findings for each check, in order. Faults have the state "fault".

    Raises:
        MemifValueError: An argument is not allowed. What cannot name a socket is a finding.
    """
    whole("id", id, 0, 0xFFFFFFFF)
    seconds("watch", watch, none=False)
    seconds("timeout", timeout, none=False)
    yes_or_no("join", join)
    try:
        address = parse_address(socket, argument="socket")
    except MemifValueError as error:
        return [fault("socket", "name", f"{error.detail}.")]
    options: Options = {"id": id, "secret": secret, "mode": mode}  # type: ignore[typeddict-item]
    found = list(_control(address, timeout, watch))
    healthy = not any(finding.state == "fault" for finding in found)
    if join and healthy:
        found += control.join(address, options, timeout)
    if vpp is not None:
        from memif.doctor import vppside

        reached = found[0].state == "ok"
        theirs = list(vppside.look(vpp, address, id, reached=reached, timeout=timeout))
        if any(finding.fault == "vpp-slave" for finding in theirs):
            # That nobody listens is what this means.
            found[0] = replace(found[0], state="note", fault="", advice="")
        found += theirs
    return found


def _control(address: "Address", timeout: float, watch: float) -> Iterator[Finding]:
    first, sock = control.reach(address)
    yield first
    if sock is None:
        return
    with sock:
        findings, pid, name = control.listener(sock, timeout)
    yield from findings
    if name and pid:
        try:
            known = find_sockets([address], ask="none")
            clients = {process.pid for each in known for client in each.clients for process in client}
            yield from rings.watch(pid, clients, watch)
        except OSError as error:  # a process has ended meanwhile, or /proc is not to be read
            yield Finding("rings", "skipped", f"they cannot be read: {error.strerror}")
