"""The nine requests of VPP's API that a memif takes, field by field.

The layouts are those of VPP from 21.06 to 26.10, in their newest form where VPP has it. A VPP that has neither form
(18.10 to 21.01) is told the same by its command line.
"""

import os
import re
import socket
import stat
import struct
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface
from itertools import count
from typing import Final

from memif.address import DEFAULT_SOCKET, SocketName, parse_address
from memif.config import InterfaceConfig, text_of, whole
from memif.errors import MemifValueError
from memif.protocol import Role
from memif.vpp.wire import VERSION, Connection, VppError

_DETAILS: Final = struct.Struct(">I6sIII?IIHI64s")
_DUMP: Final = "memif_dump_51077d14"
_ANY_ID: Final = 0xFFFFFFFF
_SOCKET_LINE: Final = re.compile(r"^ +(\d+) +(?:yes \(\d+\)|no) +(\S+)", re.MULTILINE)
_MEMIF_LINES: Final = re.compile(
    r"^interface (\S+)\n(?: .*\n)*? +socket-id (\d+) id (\d+) mode (\S+)\n +flags(.*)", re.MULTILINE
)
#: What VPP's return values mean in replies to these requests.
_WORDS: Final = {
    -1: "it does not say why",
    -2: "no such interface",
    -7: "invalid value",
    -9: "not implemented",
    -11: "the folder of the socket cannot be made",
    -12: "it has no such mode of interfaces",
    -14: "the socket cannot be opened; does another program listen there?",
    -59: "wrong length of the address",
    -60: "the interface does not have this address",
    -61: "IPv6 is not enabled there",
    -68: "the id is taken, or the socket serves the other role: one socket serves masters or slaves",
    -73: "invalid argument",
    -74: "it is still in use",
    -105: "the address is in use",
    -114: "the interface has this address already",
    -116: "it exists already",
    -126: "not supported",
    -127: "another interface has an address in this subnet",
    -151: "only for Ethernet interfaces",
    -171: "invalid length of the prefix",
}


@dataclass(frozen=True, slots=True)
class VppInterface:
    """A memif of VPP, as VPP tells.

    Attributes:
        name: VPP's name for it, as "memif1/0".
        index: VPP's number for it (sw_if_index); -1 where VPP is too old to tell.
        socket_id: VPP's number of its control socket.
        id: Number of the interface on that socket.
        slave: Whether VPP is the slave.
        admin_up: Whether it is administratively up. A master that is down accepts clients, and moves no packet.
        connected: Whether its link is up.
    """

    name: str
    index: int
    socket_id: int
    id: int
    slave: bool
    admin_up: bool
    connected: bool


class Api(Connection):
    """A connection to VPP whose methods are the requests; each waits for its reply. One thread."""

    def _do(self, command: str, *forms: tuple[str, bytes]) -> None:
        """Send the first of the requests that this VPP has; without any, run the command that does the same."""
        for name, fields in forms:
            if name in self.numbers:
                retval = self.ask(name, fields)[0]
                if retval:
                    said = _WORDS.get(retval, "see vnet/error.h of VPP")
                    raise VppError(f"VPP refused {_public(command)!r}: {said} ({retval})", retval)
                return
        if not command.isascii() or not command.isprintable():
            raise MemifValueError.argument("command", _public(command), "printable ASCII for this old VPP")
        if said := self.cli(command).strip():
            raise VppError(f"VPP refused {_public(command)!r}: {said}")

    def show_version(self) -> str:
        """Return what VPP calls itself, as "26.10-rc0"."""
        program_and_version = self.ask(VERSION)[1] if VERSION in self.numbers else b""
        version = program_and_version[32:64].partition(b"\0")[0].decode(errors="replace")
        return (version or [*self.cli("show version").split(), "?", "?"][1]).removeprefix("v")

    def cli(self, command: str) -> str:
        """Run a line of VPP's command line, as "show errors", and return what VPP prints.

        Raises:
            VppError: VPP says that it failed. Before 20.01 VPP never says so: the text is all there is.
        """
        text = text_of("command", command).encode()
        name = next((name for name in self.numbers if re.fullmatch("cli_inband_[0-9a-f]{8}", name)), None)
        if name is None:
            raise VppError(f"{self.path}: this VPP takes no commands over its API")
        retval, rest, _ = self.ask(name, struct.pack(">I", len(text)) + text)
        said = rest[4 : 4 + int.from_bytes(rest[:4])].rstrip(b"\0").decode(errors="replace")
        if retval:
            raise VppError(f"VPP refused {_public(command)!r}: {said.strip()}", retval)
        return said

    def interfaces(self) -> list[VppInterface]:
        """Return all memifs of VPP."""
        if {_DUMP, VERSION, "memif_details_da34feb9"} <= self.numbers.keys():
            found = self.ask(_DUMP, details="memif_details")[2]
            return [_from_details(data) for data in found if len(data) == _DETAILS.size]
        return [
            VppInterface(
                name, -1, int(sock), int(id), *(f in flags.split() for f in ("slave", "admin-up", "connected"))
            )
            for name, sock, id, _, flags in _MEMIF_LINES.findall(self.cli("show memif"))
        ]

    def sockets(self) -> dict[int, str]:
        """Return the control sockets that VPP knows, by VPP's number for them. 0 is its default."""
        return {int(number): name for number, name in _SOCKET_LINE.findall(self.cli("show memif"))}

    def name_of(self, socket: SocketName | None) -> str:
        """Return VPP's name for a control socket; None is VPP's own, number 0."""
        if socket is None:
            return self.sockets().get(0, DEFAULT_SOCKET)
        address = parse_address(socket, argument="socket")
        name = os.path.abspath(address.display) if address.kind == "path" else address.display
        if not re.fullmatch(r"[\w./@-]+", name, re.ASCII):
            raise MemifValueError.argument("socket", name, "a name of letters, digits and / . _ - for VPP")
        modern = [int(part) for part in re.findall(r"\d+", self.show_version())[:2]] >= [23, 2]
        return f"abstract:{name[1:]}" if modern and name.startswith("@") else name

    def find(self, name: str, id: int) -> VppInterface | None:
        """Return the memif with this id on the control socket of this name, as VPP writes it; None if there is none."""
        numbers = [number for number, known in self.sockets().items() if known == name]
        return next((one for one in self.interfaces() if one.id == id and one.socket_id in numbers), None)

    def number_of(self, name: str) -> int:
        """Return VPP's number of a control socket, which is added if VPP does not have it."""
        known = self.sockets()
        if name not in known.values():
            self.add_socket(next(number for number in count(1) if number not in known), name)
            known = self.sockets()
        return next((number for number, other in known.items() if other == name), 0)

    def add_socket(self, number: int, name: str) -> None:
        """Make a control socket known under an unused number; VPP may choose another one."""
        whole("number", number, 0, _ANY_ID)
        raw = name.encode()
        self._do(
            f"create memif socket id {number} filename {name}",
            (
                "memif_socket_filename_add_del_v2_34223bdf",
                struct.pack(f">?II{len(raw)}s", True, _ANY_ID, len(raw), raw),
            ),
            ("memif_socket_filename_add_del_a2ce1a10", struct.pack(">?I108s", True, number, raw)),
        )

    def remove_socket(self, number: int) -> None:
        """Remove a control socket that no memif uses. VPP leaves its file behind, see `remove_file`."""
        whole("number", number, 0, _ANY_ID)
        self._do(
            f"delete memif socket id {number}",
            ("memif_socket_filename_add_del_v2_34223bdf", struct.pack(">?II", False, number, 0)),
            ("memif_socket_filename_add_del_a2ce1a10", struct.pack(">?I108s", False, number, b"")),
        )

    def create_memif(self, number: int, config: InterfaceConfig, mac: bytes, *, zero_copy: bool) -> None:
        """Create a memif on the control socket `number`; `config` is VPP's side. Six zero bytes: VPP makes a MAC."""
        whole("number", number, 0, _ANY_ID)
        slave, mode = config.role is Role.SLAVE, int(config.mode)
        rx, tx = config.rx_queues or 1, config.tx_queues or 1
        head = struct.pack(">IIBBII", slave, mode, rx, tx, config.id, number)
        head += struct.pack(">IH?", config.ring_size, config.buffer_size, not zero_copy)
        tail = struct.pack("6s24s", mac, config.secret)
        command = f"create interface memif id {config.id} socket-id {number} {'slave' if slave else 'master'}"
        if slave:
            command += f" rx-queues {rx} tx-queues {tx} ring-size {config.ring_size} buffer-size {config.buffer_size}"
        command += " mode ip" if mode else ""
        command += "" if zero_copy else " no-zero-copy"
        command += f" hw-addr {mac.hex(':')}" if any(mac) else ""
        command += f" secret {config.secret.decode(errors='replace')}" if config.secret else ""
        self._do(
            command,
            ("memif_create_v2_8c7de5f7", head + b"\0" + tail),  # one field more, for copying by DMA
            ("memif_create_b1b25061", head + tail),
        )

    def delete_memif(self, interface: VppInterface) -> None:
        """Delete a memif; its control socket stays."""
        index = struct.pack(">I", interface.index & _ANY_ID)
        self._do(f"delete interface memif {interface.name}", ("memif_delete_f9e6675e", index))

    def set_admin(self, interface: VppInterface, *, up: bool) -> None:
        """Set a memif administratively up or down."""
        fields = struct.pack(">II", interface.index & _ANY_ID, up)
        command = f"set interface state {interface.name} {'up' if up else 'down'}"
        self._do(command, ("sw_interface_set_flags_f5aec1b8", fields))

    def add_address(self, interface: VppInterface, address: IPv4Interface | IPv6Interface) -> None:
        """Give a memif an IP address."""
        fields = struct.pack(">I??B", interface.index & _ANY_ID, True, False, address.version == 6)
        fields += struct.pack("16sB", address.ip.packed, address.network.prefixlen)
        command = f"set interface ip address {interface.name} {address}"
        self._do(command, ("sw_interface_add_del_address_5463d73b", fields))

    def set_mtu(self, interface: VppInterface, mtu: int) -> None:
        """Set the bytes of the largest IP packet."""
        fields = struct.pack(">I4I", interface.index & _ANY_ID, mtu, 0, 0, 0)
        command = f"set interface mtu packet {mtu} {interface.name}"
        self._do(command, ("sw_interface_set_mtu_5cbe85e5", fields))


def _from_details(data: bytes) -> VppInterface:
    index, _, id, slave, _, _, number, _, _, flags, raw = _DETAILS.unpack(data)
    name = raw.partition(b"\0")[0].decode(errors="replace")
    return VppInterface(name, index, number, id, bool(slave), bool(flags & 1), bool(flags & 2))


def _public(command: str) -> str:
    return command.partition(" secret ")[0]


def remove_file(name: str) -> None:
    """Remove the file of a control socket if nobody listens there."""
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        try:
            probe.connect(name)
        except ConnectionRefusedError:
            if stat.S_ISSOCK(os.lstat(name).st_mode):
                os.unlink(name)
