"""Numbers with units, for people: "10k" and "1.5M" in, "1.25 Mpps" and "12.3 µs" out."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

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
    """A whole number, also written as 10k, 1.5M or 64Ki."""

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
    """How fast to send: packets a second, or bits a second."""

    amount: float
    bits: bool

    def packets(self, mean_size: float) -> float:
        """Packets a second where packets have `mean_size` bytes on average."""
        return self.amount / (8 * mean_size) if self.bits else self.amount


class RateType(_ParamType):
    """Packets a second (100k, 1.5Mpps) or bits a second (10Mbit, 1Gbps)."""

    name = "rate"
    _BITS = ("bit", "bits", "bit/s", "bps")
    _PACKETS = ("", "p", "pps", "p/s")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Rate:
        """Text to `Rate`; usage error for anything else."""
        if isinstance(value, Rate):
            return value
        parts = _split(value)
        if parts is None or parts[1] not in self._BITS + self._PACKETS or parts[0] <= 0:
            self.fail(f"{value!r} is not a rate, as 100k (packets a second) or 10Mbit", param, ctx)
        return Rate(parts[0], parts[1] in self._BITS)


def si(value: float, unit: str = "") -> str:
    """Three figures and a prefix: si(1234567, "pps") is "1.23 Mpps"."""
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * factor:
            return f"{value / factor:#.3g}".rstrip(".") + f" {prefix}{unit}"
    text = f"{value:.0f}" if value == int(value) or value >= 100 else f"{value:.3g}"
    return f"{text} {unit}".rstrip()


def seconds(value: float) -> str:
    """A time: "12.3 µs", "4.56 ms", "7.8 s"."""
    for factor, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if value >= factor:
            return f"{value / factor:.3g} {unit}"
    return f"{value * 1e9:.0f} ns"


def sparkline(values: Sequence[float]) -> str:
    """One block character a value, the largest full."""
    top = max(values, default=0)
    if top <= 0:
        return _BARS[0] * len(values)
    return "".join(_BARS[min(int(value / top * len(_BARS)), len(_BARS) - 1)] for value in values)
