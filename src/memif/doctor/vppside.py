"""VPP's own view of a link, over its API."""

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from memif.address import Address
from memif.doctor.findings import Finding, fault
from memif.errors import MemifError
from memif.vpp import Vpp, VppInterface

_REASON: Final = re.compile(r'(local|remote)-disc-reason "([^"]*)"')
#: Words of refusals; others tell that a link has ended.
_REFUSAL: Final = re.compile("secret|mode|unmatched|already|size|range|ring|version|cookie", re.IGNORECASE)
_COUNTER: Final = re.compile(
    r"\b([rt]x packets|[rt]x bytes|drops|punt|ip[46]|[rt]x-error|[rt]x-miss|rx-no-buf) +(\d+) *$", re.MULTILINE
)
_ERROR: Final = re.compile(r"^\s*(\d+)\s+(\S+)\s+(.*?)\s+(?:error|warn)\S*\s*$", re.MULTILINE)


def look(api: str, address: Address, id: int, *, reached: bool, timeout: float) -> Iterator[Finding]:
    """Ask VPP about the memif `id` on a control socket; `reached`: somebody listens there."""
    try:
        with Vpp(api, timeout=timeout) as vpp:
            yield Finding("VPP", "ok", f"VPP {vpp.version}")
            yield from _ask(vpp, address, id, reached=reached)
    except MemifError as error:
        yield fault("VPP", "vpp-unreachable", f"{error.detail}.")


def _ask(vpp: Vpp, address: Address, id: int, *, reached: bool) -> Iterator[Finding]:
    name = vpp.name_of(address)
    sockets = vpp.sockets()
    if name not in sockets.values():
        yield fault("VPP's socket", "vpp-no-socket", f"It has {', '.join(sockets.values())}.")
        return
    found = vpp.find(name, id)
    if found is None:
        others = [str(one.id) for one in vpp.interfaces() if sockets.get(one.socket_id) == name]
        there = f"id {', '.join(others)}" if others else "none"
        yield fault("VPP's memif", "vpp-no-memif", f"It has {there} there.")
        return
    yield Finding("VPP's memif", "ok", f"{found.name}, {'slave' if found.slave else 'master'} on {name}, id {id}")
    for count in _counters(vpp, found):
        yield Finding("VPP's counters", "note", count)
    if not found.admin_up:
        yield fault("VPP's state", "vpp-down", f"{found.name} is down.")
    yield from _link(vpp, found, reached=reached)
    yield from _errors(vpp, found)


def _counters(vpp: Vpp, found: VppInterface) -> Iterator[str]:
    """How VPP receives, by queue, and what it has counted."""
    with suppress(MemifError):
        modes = re.findall(rf"{re.escape(found.name)} queue (\d+) \((\w+)\)", vpp.cli("show interface rx-placement"))
        if modes:
            yield "receives by " + ", ".join(f"{mode} on queue {queue}" for queue, mode in modes)
    with suppress(MemifError):
        counted = _COUNTER.findall(vpp.cli(f"show interface {found.name}"))
        if counted:
            yield ", ".join(f"{' '.join(what.split())} {count}" for what, count in counted)


def _link(vpp: Vpp, found: VppInterface, *, reached: bool) -> Iterator[Finding]:
    if found.connected:
        yield Finding("VPP's link", "ok", f"{found.name} is connected")
        return
    if found.slave and not reached:
        yield fault("VPP's link", "vpp-slave", f"{found.name} tries every three seconds.")
        return
    reasons = [f"{side}: {text}" for side, text in _REASON.findall(vpp.cli(f"show memif {found.name}"))]
    if any(_REFUSAL.search(reason) for reason in reasons):
        yield fault("VPP's link", "vpp-refused", f"{'; '.join(reasons)}.")
    else:
        yield Finding("VPP's link", "note", "; ".join([f"{found.name} has no peer", *reasons]))


def _errors(vpp: Vpp, found: VppInterface) -> Iterator[Finding]:
    text = ""
    with suppress(MemifError):
        text = vpp.cli("show errors")
    counted = [(count, reason) for count, node, reason in _ERROR.findall(text) if found.name in node]
    if counted:
        yield fault("VPP's errors", "vpp-errors", f"{', '.join(f'{count} {reason}' for count, reason in counted)}.")
    else:
        yield Finding("VPP's errors", "ok", f"none at {found.name}")
