"""In VPP's place where there is none: its memifs, its command line and its API socket, as VPP 26.10 was seen to act.

It refuses what VPP refuses, with VPP's return values. Its ``ping`` uses queue 0 only. Slaves try every three seconds,
and only while they are up; masters that are down accept clients and move nothing. Zero-copy slaves: `vpp.zero_copy`.
"""

import contextlib
import ipaddress
import os
import socket
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import memif
from memif.icmp import ECHO_REPLY, ETHERNET, answer, answer_ip, arp, echo_request, encapsulate, parse, parse_arp
from memif.types import RoleName
from vpp.zero_copy import ZeroCopySlave

VERSION: Final = "26.10-stand-in"
INVALID, IN_USE, TAKEN, EXISTS, NO_INTERFACE, BAD_MODE, CONFLICT = -73, -74, -68, -116, -2, -12, -127


class Refused(Exception):
    """VPP's return value and its words."""

    def __init__(self, retval: int, words: str) -> None:
        super().__init__(words)
        self.retval = retval


@dataclass
class Face:
    """A memif of VPP. `end` is our own interface, or a `ZeroCopySlave`; None while a slave is down."""

    index: int
    socket_id: int
    id: int
    slave: bool
    mode: int
    options: dict[str, Any]
    zero_copy: bool
    mac: bytes
    admin_up: bool = False
    mtu: int = 9000
    rx_mode: str = "polling"
    addresses: list[ipaddress.IPv4Interface | ipaddress.IPv6Interface] = field(default_factory=list)
    end: memif.Interface | ZeroCopySlave | None = None
    answers: Counter[int] = field(default_factory=Counter)  # to our ping, by queue
    full: int = 0  # "no free tx slots"
    counters: Counter[str] = field(default_factory=Counter)

    @property
    def name(self) -> str:
        return f"memif{self.socket_id}/{self.id}"

    @property
    def up(self) -> bool:
        return self.end is not None and self.end.up

    def queues(self) -> int:
        if isinstance(self.end, ZeroCopySlave):
            return self.end.counts[False]
        return len(self.end.rx) if self.end else 0

    def receive(self, queue: int) -> list[bytes]:
        if isinstance(self.end, ZeroCopySlave):
            packets = self.end.receive(queue)
        else:
            assert self.end is not None
            with self.end.rx[queue].recv(256, timeout=0) as burst:
                packets = burst.tobytes()
        self.counters["rx packets"] += len(packets)
        self.counters["rx bytes"] += sum(map(len, packets))
        return packets

    def send(self, queue: int, packet: bytes) -> None:
        if isinstance(self.end, ZeroCopySlave):
            sent = self.end.send(queue, packet)
        else:
            assert self.end is not None
            sent = bool(self.end.tx[queue].send([packet]))
        self.full += not sent
        self.counters["tx packets"] += sent
        self.counters["tx bytes"] += sent * len(packet)
        self.counters["tx-error"] += not sent


class StandIn:
    """VPP's state. One thread: `turn` does what is due."""

    def __init__(self, folder: str, *, retry: float = 3.0) -> None:
        self.sockets = {0: f"{folder}/memif.sock"}
        self.faces: dict[int, Face] = {}
        self.retry = retry
        self._listening: dict[str, memif.Socket] = {}
        self._count = 0
        self.commands: list[str] = []

    def close(self) -> None:
        for face in list(self.faces.values()):
            self.delete(face)

    # -- what the API and the command line do

    def add_socket(self, number: int, name: str) -> int:
        if number == 0xFFFFFFFF:
            number = next(n for n in range(1, 1 << 16) if n not in self.sockets)
        name = name if name.startswith(("/", "@", "abstract:")) else f"{os.path.dirname(self.sockets[0])}/{name}"
        if self.sockets.get(number, name) != name:
            raise Refused(EXISTS, "entry already exists")
        self.sockets[number] = name
        return number

    def remove_socket(self, number: int) -> None:
        if number == 0 or number not in self.sockets:
            raise Refused(INVALID, f"socket file with id {number} does not exist")
        if any(face.socket_id == number for face in self.faces.values()):
            raise Refused(IN_USE, f"socket file '{self.sockets[number]}' is in use")
        del self.sockets[number]

    def create(
        self, number: int, id: int, *, slave: bool, mode: int, zero_copy: bool, mac: bytes, **options: Any
    ) -> Face:
        if number not in self.sockets:
            raise Refused(INVALID, "unknown socket id")
        others = [face for face in self.faces.values() if face.socket_id == number]
        if any(face.slave != slave for face in others):
            raise Refused(TAKEN, "socket file cannot be used by both master and slave")
        if any(face.id == id for face in others):
            raise Refused(TAKEN, "interface already exists")
        size = options["ring_size"]
        if size & (size - 1) or not size:
            raise Refused(INVALID, "ring size must be power of 2")
        if mode > 1:
            raise Refused(BAD_MODE, "unsupported interface mode")
        self._count += 1
        face = Face(
            self._count, number, id, slave, mode, options, zero_copy, mac if any(mac) else b"\2\xfe" + os.urandom(4)
        )
        self.faces[face.index] = face
        if not slave:
            face.end = self._open(face, "master")
        return face

    def _open(self, face: Face, role: RoleName) -> memif.Interface:
        name = self.sockets[face.socket_id]
        if name not in self._listening:
            self._listening[name] = memif.Socket(name, app_name=f"VPP {VERSION}", mode=0o660)
        slaves = {key: face.options[key] for key in ("rx_queues", "tx_queues", "ring_size", "buffer_size")}
        return self._listening[name].interface(
            id=face.id,
            role=role,
            name=face.name,
            mode="ip" if face.mode else "ethernet",
            secret=face.options["secret"],
            rx_mode="polling",
            reconnect=self.retry,
            **(slaves if face.slave else {}),
        )

    def delete(self, face: Face) -> None:
        del self.faces[face.index]
        self._end(face, "interface deleted")
        name = self.sockets[face.socket_id]
        if name in self._listening and not self._listening[name].interfaces:
            self._listening.pop(name).close()
            if name.startswith("/") and not face.slave:  # VPP leaves its file behind
                with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
                    dead.bind(name)

    def _end(self, face: Face, reason: str) -> None:
        if isinstance(face.end, ZeroCopySlave):
            face.end.close(reason)
        elif face.end is not None:
            face.end.disconnect(reason)
            face.end.close()
        face.end = None

    def set_state(self, face: Face, *, up: bool) -> None:
        face.admin_up = up
        if isinstance(face.end, ZeroCopySlave):
            face.end.admin_up = up
        elif face.slave and up and face.end is None:
            face.end = self._slave(face)

    def _slave(self, face: Face) -> memif.Interface | ZeroCopySlave:
        if not face.zero_copy:
            return self._open(face, "slave")
        options = {key: value for key, value in face.options.items() if key != "buffer_size"}
        path = self.sockets[face.socket_id].replace("abstract:", "@")
        return ZeroCopySlave(path, id=face.id, name=face.name, mode=face.mode, retry=self.retry, **options)

    def add_address(self, face: Face, address: ipaddress.IPv4Interface | ipaddress.IPv6Interface) -> None:
        for other in self.faces.values():
            if other is not face and any(address.network.overlaps(a.network) for a in other.addresses):
                raise Refused(CONFLICT, f"failed to add {address}: conflicts with {address} for interface {other.name}")
        face.addresses.append(address)

    def face(self, key: str | int) -> Face:
        for face in self.faces.values():
            if key in (face.index, face.name):
                return face
        raise Refused(NO_INTERFACE, f"unknown interface `{key}'")

    # -- packets

    def turn(self) -> bool:
        """Serve the links. True when something moved."""
        moved = False
        for sock in list(self._listening.values()):
            with contextlib.suppress(memif.MemifError):
                moved |= sock.poll(0)
        for face in list(self.faces.values()):
            if isinstance(face.end, ZeroCopySlave):
                face.end.poll()
            if face.up and face.admin_up:
                with contextlib.suppress(memif.MemifError, OSError):
                    moved |= sum(self._serve(face, queue) for queue in range(face.queues())) > 0
        return moved

    def _serve(self, face: Face, queue: int) -> bool:
        packets = face.receive(queue)
        for packet in packets:
            frame = bytearray(packet)
            own = [a.ip.packed for a in face.addresses if a.version == 4]
            at = 0 if face.mode else ETHERNET
            if own and ((face.mode and answer_ip(frame)) or (not face.mode and answer(frame, own[0], face.mac))):
                face.send(0, bytes(frame))  # the one thread that works
            elif own and (reply := parse(bytes(frame[at:]), own[0])) and reply.kind == ECHO_REPLY:
                face.answers[queue] += 1
        return bool(packets)

    def ping(self, face: Face, target: bytes, size: int, sequence: int, to: bytes, queue: int = 0) -> None:
        """Send one request, by VPP's own queue 0 unless another thread sends it."""
        own = next(a.ip.packed for a in face.addresses if a.version == 4)
        request = echo_request(own, target, 0x5650, sequence, size)
        face.send(queue, request if face.mode else encapsulate(face.mac, to) + request)

    def resolve(self, face: Face, target: bytes, wait: float = 1.0) -> bytes | None:
        """The MAC address of a neighbour, by ARP."""
        own = next(a.ip.packed for a in face.addresses if a.version == 4)
        face.send(0, arp(1, face.mac, own, bytes(6), target))
        end = time.monotonic() + wait
        while time.monotonic() < end:
            for sock in self._listening.values():
                sock.poll(0)
            for queue in range(face.queues()):
                for packet in face.receive(queue):
                    found = parse_arp(packet[ETHERNET:]) if packet[12:14] == b"\x08\x06" else None
                    if found and found[0] == 2 and found[2] == target:
                        return found[1]
            time.sleep(0.001)
        return None
