"""VPP's end of a link, and both ends in one call.

`Vpp.link` makes a memif in VPP and its other end here, and takes both away again. `Vpp.create` and `Vpp.delete` are for
VPP's end alone. It needs VPP from 18.10 on, and the right to use its API socket (root, or the group that
``startup.conf`` names). `memif.vpp.wire` and `memif.vpp.api` say what is on that socket.
"""

import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from types import TracebackType
from typing import Final, Unpack

from memif.address import SocketName
from memif.config import MODE_NAMES, InterfaceConfig, each, one_of, whole, yes_or_no
from memif.errors import MemifError, MemifValueError
from memif.interface import Interface, Options
from memif.protocol import Role
from memif.socket import open_interface
from memif.types import ModeName, RoleName, RxMode
from memif.vpp.api import Api, VppInterface, remove_file
from memif.vpp.wire import API_SOCKET, VppError

#: Slots that rings of VPP's zero-copy slaves need: VPP hands out 32 buffers at once, beside those of one packet.
_LEAST_RING: Final = 64

__all__ = ["API_SOCKET", "Vpp", "VppError", "VppInterface"]


class Vpp(Api):
    """A connection to VPP's API. Context manager; closing it leaves in VPP what `create` made. One thread.

    Args:
        path: VPP's API socket.
        timeout: Seconds to wait for each of VPP's answers.

    Attributes:
        path: The API socket.
        version: What VPP calls itself, as "26.10-rc0".

    Raises:
        MemifOSError: Nobody listens there, or this process may not connect.
        VppError: It is no VPP, or one before 18.10.
    """

    path: str
    version: str

    def __init__(self, path: str | os.PathLike[str] = API_SOCKET, *, timeout: float = 5.0) -> None:
        super().__init__(path, timeout=timeout)
        try:
            self.version = self.show_version()
        except BaseException:
            self.close()
            raise

    def create(
        self,
        socket: SocketName | None = None,
        *,
        id: int = 0,
        role: RoleName = "master",
        mode: ModeName = "ethernet",
        secret: bytes | str | None = None,
        rx_queues: int = 1,
        tx_queues: int = 1,
        ring_size: int = 1024,
        buffer_size: int = 2048,
        zero_copy: bool = True,
        mac: bytes | None = None,
        address: str | Iterable[str] = (),
        mtu: int | None = None,
        admin_up: bool = True,
    ) -> VppInterface:
        """Create a memif in VPP, and its control socket if VPP does not have it.

        Args:
            socket: The control socket, see `memif.Socket`; None for VPP's own, number 0.
            id: Number of the interface on the socket.
            role: VPP's role.
            mode: What the packets are.
            secret: At most 23 bytes.
            rx_queues: VPP's receive queues. As master VPP takes the queues, rings and buffers that the slave offers.
            tx_queues: VPP's transmit queues.
            ring_size: Slots of each ring.
            buffer_size: Bytes of each buffer.
            zero_copy: Let a VPP slave share its own buffers. Its rings then need 64 slots or more.
            mac: MAC address of VPP's end, six bytes; None: VPP makes one.
            address: IP addresses of VPP's end, as "192.168.1.1/24".
            mtu: Bytes of the largest IP packet; None: VPP's default.
            admin_up: Whether VPP's end is administratively up.

        Returns:
            What was made.

        Raises:
            VppError: VPP refused. Nothing is left behind.
            MemifValueError: An argument is not allowed. Nothing was changed.
        """
        config = InterfaceConfig.make(
            id=id, role=role, mode=mode, secret=secret, rx_queues=rx_queues, tx_queues=tx_queues,
            ring_size=ring_size, buffer_size=buffer_size,
        )  # fmt: skip
        mac = _check_mac(mac)
        addresses, size = _check_addresses(address), None if mtu is None else whole("mtu", mtu, 64, 65535)
        name, zero_copy = self.name_of(socket), yes_or_no("zero_copy", zero_copy)
        admin_up = yes_or_no("admin_up", admin_up)
        if config.role is Role.SLAVE and zero_copy and config.ring_size < _LEAST_RING:
            raise MemifValueError.argument("ring_size", ring_size, f"{_LEAST_RING} or more, or zero_copy=False")
        new = self._claim(name, config.id)
        try:
            self.create_memif(self.number_of(name), config, mac, zero_copy=zero_copy)
            interface = self._made(name, config.id)
            if size is not None:
                self.set_mtu(interface, size)
            for one in addresses:
                self.add_address(interface, one)
            self.set_admin(interface, up=admin_up)
        except BaseException:
            with suppress(MemifError):
                self._remove(name, config.id, with_socket=new)
            raise
        return self._made(name, config.id)

    def delete(self, interface: VppInterface, *, keep_socket: bool = False) -> None:
        """Delete a memif of VPP, and its control socket unless another memif uses it.

        Args:
            interface: One of `interfaces`.
            keep_socket: Keep the control socket. VPP's own, number 0, always stays.

        Raises:
            VppError: VPP refused.
        """
        self.delete_memif(interface)
        number = interface.socket_id
        if number and not keep_socket and all(other.socket_id != number for other in self.interfaces()):
            name = self.sockets().get(number, "")
            self.remove_socket(number)
            remove_file(name)

    @contextmanager
    def link(
        self,
        socket: SocketName | None = None,
        *,
        timeout: float | None = 10.0,
        address: str | Iterable[str] = (),
        mtu: int | None = None,
        mac: bytes | None = None,
        zero_copy: bool = True,
        vpp_rx_mode: RxMode | None = None,
        **ours: Unpack[Options],
    ) -> Iterator[Interface]:
        """Context: a memif in VPP and its other end here, linked. Both are gone at its end, whatever happened.

        Args:
            socket: The control socket; None for one of its own, beside VPP's API socket.
            timeout: Seconds for the link to come up. As slave, VPP tries every three seconds.
            address: IP addresses of VPP's end, see `create`; so are `mtu`, `mac` and `zero_copy`.
            mtu: Bytes of the largest IP packet.
            mac: MAC address of VPP's end.
            zero_copy: Let a VPP slave share its own buffers.
            vpp_rx_mode: How VPP receives; None leaves VPP's default, "polling". VPP forgets it when the link ends.
            **ours: Options of our end, as for `memif.Socket.interface`. VPP's end gets those that it needs too: the
                other role, the same id, mode and secret; as slave, the queues, rings and buffers.

        Yields:
            Our end, with its link up.

        Raises:
            VppError: VPP refused.
            MemifTimeoutError: The link did not come up in time.
            MemifValueError: An argument is not allowed. Nothing was changed.
        """
        config = InterfaceConfig.make(**ours)
        if vpp_rx_mode is not None:
            one_of("vpp_rx_mode", vpp_rx_mode, ("interrupt", "polling", "adaptive"))
        if socket is None:
            socket = f"{os.path.dirname(self.path) or '.'}/memif-{os.getpid()}-{secrets.token_hex(4)}.sock"
        name, master = self.name_of(socket), config.role is Role.MASTER
        new = self._claim(name, config.id)
        with ExitStack() as stack:
            if master:
                iface = stack.enter_context(open_interface(socket, ours))

            def undo(
                kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
            ) -> None:
                with suppress(*() if kind is None else (MemifError,)):  # what went wrong first is told
                    self._remove(name, config.id, with_socket=new)

            stack.push(undo)
            interface = self.create(
                socket, id=config.id, role="slave" if master else "master", mode=MODE_NAMES[config.mode],
                secret=config.secret, rx_queues=config.tx_queues or 1, tx_queues=config.rx_queues or 1,
                ring_size=config.ring_size, buffer_size=config.buffer_size, zero_copy=zero_copy,
                mac=mac, address=address, mtu=mtu,
            )  # fmt: skip
            if not master:
                iface = stack.enter_context(open_interface(socket, ours))
            iface.wait_up(timeout)
            if vpp_rx_mode is not None:
                self.cli(f"set interface rx-mode {interface.name} {vpp_rx_mode}")
            yield iface

    def _claim(self, name: str, id: int) -> bool:
        """Refuse what exists already; return whether the control socket is new."""
        there = self.find(name, id)
        if there is not None:
            raise MemifValueError.argument("id", id, f"an id that is free: VPP has {there.name} on {name}")
        return name not in self.sockets().values()

    def _made(self, name: str, id: int) -> VppInterface:
        interface = self.find(name, id)
        if interface is None:
            raise VppError(f"VPP has not made the memif with id {id} on {name}")
        return interface

    def _remove(self, name: str, id: int, *, with_socket: bool) -> None:
        """Delete what is there of a memif and its control socket."""
        interface = self.find(name, id)
        if interface is not None:
            self.delete_memif(interface)
        for number, known in self.sockets().items():
            if known == name and with_socket:
                self.remove_socket(number)
                remove_file(name)


def _check_mac(mac: bytes | None) -> bytes:
    if mac is not None and (not isinstance(mac, bytes) or len(mac) != 6):
        raise MemifValueError.argument("mac", mac, "six bytes, or None")
    return mac or bytes(6)


def _check_addresses(address: str | Iterable[str]) -> list[IPv4Interface | IPv6Interface]:
    found = []
    for text in [address] if isinstance(address, str) else each("address", address, "addresses"):
        try:
            found.append(ip_interface(text))
        except ValueError as error:
            raise MemifValueError.argument("address", text, 'IP addresses such as "192.168.1.1/24"') from error
    return found
