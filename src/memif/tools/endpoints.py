"""What `memif bridge` joins, written as ``kind:name,option=value,...``."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import click

from memif.errors import MemifValueError
from memif.tools.options import read_secret

if TYPE_CHECKING:
    from memif.bridge import DevicePort, MemifPort

_MEMIF: Final = (
    "id",
    "role",
    "mode",
    "secret",
    "secret-file",
    "name",
    "rx-queues",
    "tx-queues",
    "ring-size",
    "buffer-size",
    "rx-mode",
)
_DEVICE: Final = ("address", "mtu", "netns")
_KINDS: Final = {"memif": _MEMIF, "tap": _DEVICE, "tun": _DEVICE, "packet": ()}
_NUMBERS: Final = ("id", "rx-queues", "tx-queues", "ring-size", "buffer-size", "mtu")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One side of a bridge, not opened yet."""

    text: str
    kind: str
    name: str
    #: Not shown: there may be a secret among them.
    options: dict[str, str | int | bytes] = field(default_factory=dict, repr=False)

    @property
    def linktype(self) -> int:
        """Of captures: 1 Ethernet, 101 IP."""
        return 101 if self.kind == "tun" or self.options.get("mode") == "ip" else 1

    def open(self, patience: float) -> "MemifPort | DevicePort":
        """The port; usage error for an option that can not be."""
        try:
            if self.kind == "memif":
                return self._open_memif(patience)
            return self._open_packet() if self.kind == "packet" else self._open_tap()
        except MemifValueError as error:
            raise click.BadParameter(error.detail, param_hint=self.text) from error

    def _open_memif(self, patience: float) -> "MemifPort":
        from memif.bridge import MemifPort
        from memif.socket import Socket

        options: dict[str, Any] = {"name": "bridge"} | {
            key.replace("-", "_"): value for key, value in self.options.items()
        }
        socket = Socket(self.name)
        try:
            return MemifPort(socket.only_interface(**options), patience)
        except BaseException:
            socket.close()
            raise

    def _open_tap(self) -> "DevicePort":
        from memif.bridge import DevicePort
        from memif.tap import Tap

        netns = self.options.get("netns")
        tap = Tap(self.name, mode="tun" if self.kind == "tun" else "tap", netns=None if netns is None else str(netns))
        try:
            mtu, address = self.options.get("mtu"), self.options.get("address")
            tap.set(address=None if address is None else str(address), mtu=None if mtu is None else int(mtu), up=True)
        except BaseException:
            tap.close()
            raise
        return DevicePort(tap, tap.close)

    def _open_packet(self) -> "DevicePort":
        from memif.bridge import DevicePort
        from memif.packet_socket import PacketSocket

        device = PacketSocket(self.name)
        return DevicePort(device, device.close)


def parse_endpoint(text: str, where: str) -> Endpoint:
    """Read ``kind:name,option=value,...``; usage error naming what is wrong."""
    kind, colon, rest = text.partition(":")
    if not colon or kind not in _KINDS:
        raise click.BadParameter(f"{text!r} begins with none of memif:, tap:, tun:, packet:", param_hint=where)
    name, *pairs = rest.split(",")
    if not name:
        raise click.BadParameter(f"{text!r} has no name after {kind}:", param_hint=where)
    options: dict[str, str | int | bytes] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        key = key.replace("_", "-")
        if key not in _KINDS[kind] or not equals:
            allowed = ", ".join(_KINDS[kind]) or "none"
            raise click.BadParameter(f"{pair!r} is no option of {kind}: ({allowed})", param_hint=where)
        if key in _NUMBERS and not value.isdigit():
            raise click.BadParameter(f"{key}: {value!r} is not a number", param_hint=where)
        if key == "secret-file":
            options["secret"] = read_secret(value)
        else:
            options[key] = int(value) if key in _NUMBERS else value
    return Endpoint(f"{kind}:{name}", kind, name, options)
