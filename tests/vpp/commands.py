"""The lines of VPP's command line that the stand-in knows."""

import ipaddress
import re
import time
from collections.abc import Callable

import memif
from vpp.standin import INVALID, VERSION, Face, Refused, StandIn
from vpp.zero_copy import ZeroCopySlave


def _number(words: str, name: str, default: int) -> int:
    found = re.search(rf"\b{name} (\d+)", words)
    return int(found[1]) if found else default


def _create(vpp: StandIn, words: str) -> str:
    numbers = r"(?:id|socket-id|ring-size|buffer-size|rx-queues|tx-queues) \d+"
    known = rf"(?:{numbers}|secret \S+|hw-addr \S+|mode ip|no-zero-copy|master|slave)"
    if not re.fullmatch(rf"(?: ?{known})*", words.strip()):
        raise Refused(-1, f"unknown input `{words}'")
    secret, mac = re.search(r"secret (\S+)", words), re.search(r"hw-addr (\S+)", words)
    vpp.create(
        _number(words, "socket-id", 0),
        _number(re.sub(r"socket-id \d+", "", words), "id", 0),
        slave="master" not in words.split(),
        mode=int("mode ip" in words),
        zero_copy="no-zero-copy" not in words,
        mac=bytes.fromhex(mac[1].replace(":", "")) if mac else bytes(6),
        secret=secret[1].encode()[:24] if secret else b"",
        ring_size=_number(words, "ring-size", 1024),
        buffer_size=_number(words, "buffer-size", 2048),
        rx_queues=_number(words, "rx-queues", 1),
        tx_queues=_number(words, "tx-queues", 1),
    )
    return ""


def _create_socket(vpp: StandIn, words: str) -> str:
    found = re.fullmatch(r"id (\d+) filename ([\w./:@-]+)", words.strip())
    if not found or int(found[1]) == 0:
        raise Refused(-1, "Invalid socket id")
    vpp.add_socket(int(found[1]), found[2])
    return ""


def _state(vpp: StandIn, words: str) -> str:
    name, state = words.split()
    vpp.set_state(vpp.face(name), up=state == "up")
    return ""


def _address(vpp: StandIn, words: str) -> str:
    name, address = words.split()
    vpp.add_address(vpp.face(name), ipaddress.ip_interface(address))
    return ""


def _mtu(vpp: StandIn, words: str) -> str:
    *kind, mtu, name = words.split()
    face = vpp.face(name)
    if not kind and face.mode:
        raise Refused(-1, "not supported")
    face.mtu = int(mtu)
    return ""


def _rx_mode(vpp: StandIn, words: str) -> str:
    name, mode = words.split()
    face = vpp.face(name)
    face.rx_mode = mode if face.up else face.rx_mode  # without a link: no word, no effect
    return ""


def _ping(vpp: StandIn, words: str) -> str:
    target = ipaddress.IPv4Address(words.split()[0])
    face = next((f for f in vpp.faces.values() if any(target in a.network for a in f.addresses)), None)
    if face is None or not face.up:
        return "Failed: no egress interface\n"
    count, size = _number(words, "repeat", 5), _number(words, "size", 56)
    to, lines, before = bytes(6), [], face.answers.total()
    if not face.mode:  # the first packet is lost to ARP
        to = vpp.resolve(face, target.packed) or b""
    for sequence in range(1, count + 1):
        sent = face.answers.total()
        if (sequence > 1 or face.mode) and to:
            vpp.ping(face, target.packed, size, sequence, to)
        end = time.monotonic() + 1.0
        while face.answers.total() == sent and time.monotonic() < end and (sequence > 1 or face.mode) and to:
            vpp.turn()
        if face.answers.total() > sent:
            lines.append(f"{size + 8} bytes from {target}: icmp_seq={sequence} ttl=64 time=.1 ms")
    got = face.answers.total() - before
    lines += ["", f"Statistics: {count} sent, {got} received, {100 * (count - got) // count}% packet loss"]
    return "\n".join(lines) + "\n"


def _show_face(vpp: StandIn, face: Face) -> str:
    flags = (" admin-up" if face.admin_up else "") + (" slave" if face.slave else "")
    flags += (" connected" if face.up else "") + (" zero-copy" if face.zero_copy and face.slave else "")
    lines = [f"interface {face.name}"]
    if face.up:
        lines.append('  remote-name "x"')
    lines += [f"  socket-id {face.socket_id} id {face.id} mode {('ethernet', 'ip')[face.mode]}", f"  flags{flags}"]
    if isinstance(face.end, ZeroCopySlave) and face.end.reason and not face.up:
        lines.append(f'  remote-disc-reason "{face.end.reason}"')
    elif not face.up and isinstance(face.end, memif.Interface) and face.end.disconnect_reason:
        lines.append(f'  local-disc-reason "{face.end.disconnect_reason}"')
    return "\n".join(lines) + "\n"


def _show_memif(vpp: StandIn, words: str) -> str:
    text = "sockets\n  id  listener    filename\n"
    for number, name in vpp.sockets.items():
        users = [face for face in vpp.faces.values() if face.socket_id == number and not face.slave]
        text += f"  {number:<3} {f'yes ({len(users)})' if users else 'no':<11} {name}\n"
    faces = [vpp.face(words)] if words else list(vpp.faces.values())
    return text + "\n" + "".join(_show_face(vpp, face) for face in faces)


def _show_errors(vpp: StandIn, words: str) -> str:
    lines = ["   Count                  Node                              Reason               Severity "]
    for face in vpp.faces.values():
        if face.full:
            lines.append(f"{face.full:>10} {face.name + '-tx':>24} {'no free tx slots':>40}     error")
    return "\n".join(lines) + "\n"


def _show_interface(vpp: StandIn, words: str) -> str:
    lines = [f"{'Name':>14}{'Idx':>12}{'State':>7}  MTU (L3/IP4/IP6/MPLS){'Counter':>20}{'Count':>18}"]
    for face in [vpp.face(words)] if words else vpp.faces.values():
        counters = {name: count for name, count in face.counters.items() if count}
        first = f"{face.name:<20}{face.index:>6}{'up' if face.admin_up else 'down':>8}{face.mtu:>14}/0/0/0     "
        rows = [f"{name:<30}{count:>8}" for name, count in counters.items()] or [""]
        lines += [first + rows[0], *(" " * len(first) + row for row in rows[1:])]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _show_placement(vpp: StandIn, words: str) -> str:
    faces = [face for face in vpp.faces.values() if face.up]
    return "Thread 0 (vpp_main):\n  node memif-input:\n" + "".join(
        f"    {face.name} queue {queue} ({face.rx_mode})\n" for face in faces for queue in range(face.queues())
    )


COMMANDS: dict[str, Callable[[StandIn, str], str]] = {
    "create memif socket": _create_socket,
    "delete memif socket": lambda vpp, words: vpp.remove_socket(_number(words, "id", -1)) or "",
    "create interface memif": _create,
    "delete interface memif": lambda vpp, words: vpp.delete(vpp.face(words)) or "",
    "set interface state": _state,
    "set interface ip address": _address,
    "set interface mtu": _mtu,
    "set interface rx-mode": _rx_mode,
    "show interface rx-placement": _show_placement,
    "show interface": _show_interface,
    "show memif descriptors": lambda vpp, words: _show_memif(vpp, ""),
    "show memif": _show_memif,
    "show errors": _show_errors,
    "show version": lambda vpp, words: f"vpp v{VERSION} built by root on here at 2026-11-26T00:00:00\n",
    "show trace": lambda vpp, words: "No packets in trace buffer\n",
    "trace add": lambda vpp, words: "",
    "clear trace": lambda vpp, words: "",
    "ping": _ping,
}


def run(vpp: StandIn, line: str) -> tuple[int, str]:
    """Run a line; return VPP's return value and what it prints."""
    vpp.commands.append(line)
    words = " ".join(line.split())
    for path, command in COMMANDS.items():
        if words == path or words.startswith(path + " "):
            try:
                return 0, command(vpp, words[len(path) :].strip())
            except Refused as error:
                return (error.retval if error.retval != INVALID else -73), f"{path}: {error}\n"
    return -1, f"unknown input `{words}'\n"
