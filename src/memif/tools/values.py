"""What people type and read: numbers with units ("10k" in, "12.3 µs" out), addresses, packets in hex."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any, Final

import click

from memif import icmp

_FACTORS: Final = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}
_NUMBER: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([kmg]i?)?(.*)", re.IGNORECASE)
_BARS: Final = "▁▂▃▄▅▆▇█"


def _split(text: str) -> tuple[float, str] | None:
    match = _NUMBER.fullmatch(text.strip())
    if match is None:
        return None
    return float(match[1]) * _FACTORS[(match[2] or "").lower()], match[3].strip().lower()


if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]  # generic for type checkers, not in every click at run time
else:
    _ParamType = click.ParamType


class Count(_ParamType):
    """A whole number, also written as 10k, 1.5M or 64Ki.

    Attributes:
        least: The smallest number that is accepted.
        suffixes: Units that may follow the number, in lower case.
    """

    least: int
    suffixes: Sequence[str]

    name = "number"

    def __init__(self, least: int = 0, suffixes: Sequence[str] = ("",)) -> None:
        self.least, self.suffixes = least, suffixes

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Text to int; usage error for anything else."""
        if isinstance(value, int):
            return value
        parts = _split(value)
        if parts is None or parts[1] not in self.suffixes or parts[0] != int(parts[0]) or parts[0] < self.least:
            self.fail(f"{value!r} is not a whole number from {self.least} on, as 500, 10k or 2M", param, ctx)
        return int(parts[0])


#: Bytes of a file.
FILE_SIZE: Final = Count(1, ("", "b"))


@dataclass(frozen=True, slots=True)
class Rate:
    """How fast to send.

    Attributes:
        amount: Packets or bits per second.
        bits: Whether it is bits.
    """

    amount: float
    bits: bool

    def packets(self, mean_size: float) -> float:
        """Return packets per second, for packets of `mean_size` bytes on average."""
        return self.amount / (8 * mean_size) if self.bits else self.amount


class RateType(_ParamType):
    """Packets a second (100k, 1.5Mpps), bits a second (10Mbit, 1Gbps), or max: no limit."""

    name = "rate"
    _BITS = ("bit", "bits", "bit/s", "bps")
    _PACKETS = ("", "p", "pps", "p/s")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Rate:
        """Text to `Rate`; usage error for anything else."""
        if isinstance(value, Rate):
            return value
        if value == "max":
            return Rate(float("inf"), False)
        parts = _split(value)
        if parts is None or parts[1] not in self._BITS + self._PACKETS or parts[0] <= 0:
            self.fail(f"{value!r} is not a rate, as 100k (packets a second), 10Mbit or max", param, ctx)
        return Rate(parts[0], parts[1] in self._BITS)


def si(value: float, unit: str = "") -> str:
    """Format a number with three digits and a prefix: ``si(1234567, "pps")`` is "1.23 Mpps"."""
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * factor:
            return f"{value / factor:#.3g}".rstrip(".") + f" {prefix}{unit}"
    text = f"{value:.0f}" if value == int(value) or value >= 100 else f"{value:.3g}"
    return f"{text} {unit}".rstrip()


def seconds(value: float) -> str:
    """Format a time in seconds: "12.3 µs", "4.56 ms", "7.8 s"."""
    for factor, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if value >= factor:
            return f"{value / factor:.3g} {unit}"
    return f"{value * 1e9:.0f} ns"


def sparkline(values: Sequence[float]) -> str:
    """Draw one block character for each value; the largest value fills its block."""
    top = max(values, default=0)
    if top <= 0:
        return _BARS[0] * len(values)
    return "".join(_BARS[min(int(value / top * len(_BARS)), len(_BARS) - 1)] for value in values)


def parse_mac(text: str, where: str = "--mac") -> bytes:
    """Read a MAC address; usage error, which names the option `where`, for anything else."""
    raw = icmp.parse_mac(text)
    if raw is None:
        raise click.BadParameter(f"{text!r} is not six bytes like 02:fe:00:00:00:02", param_hint=where)
    return raw


def parse_host(text: str, where: str) -> bytes:
    """Read the IPv4 address of a host.

    Args:
        text: "192.168.1.2"; a prefix length behind it is ignored.
        where: The option, for the error.

    Returns:
        Four bytes.

    Raises:
        click.BadParameter: It is not an address, or not one that a host can have.
    """
    try:
        found = IPv4Address(text.partition("/")[0])
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not an IPv4 address", param_hint=where) from error
    if found.is_multicast or found.is_unspecified or found.packed == b"\xff" * 4:
        raise click.BadParameter(f"{text!r} is not the address of a host", param_hint=where)
    return found.packed


def parse_hex(text: str, where: str) -> bytes:
    """Read a packet of 1 to 65536 bytes in hex, with or without blanks and colons; usage error for anything else."""
    try:
        packet = bytes.fromhex(text.replace(":", ""))
    except ValueError as error:
        raise click.BadParameter(f"not hex: {error}", param_hint=where) from error
    if not 0 < len(packet) <= 65536:
        raise click.BadParameter(f"{len(packet)} bytes, a packet has 1 to 65536", param_hint=where)
    return packet
