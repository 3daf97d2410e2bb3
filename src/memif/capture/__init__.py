"""Captures: pcapng writing, pcapng and pcap reading, one-line packet summaries, decoding of control messages.

The names are loaded on first use, so importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .decode import ControlRecord as ControlRecord, describe as describe, parse_dump as parse_dump
    from .packet import (
        CaptureFormatError as CaptureFormatError,
        CaptureInterface as CaptureInterface,
        CaptureOSError as CaptureOSError,
        CapturePipeClosedError as CapturePipeClosedError,
        CaptureTruncatedError as CaptureTruncatedError,
        Direction as Direction,
        InterfaceStatistics as InterfaceStatistics,
        LinkType as LinkType,
        Packet as Packet,
    )
    from .reader import CaptureReader as CaptureReader
    from .text import packet_line as packet_line, summary as summary
    from .writer import PcapngWriter as PcapngWriter, RotatingWriter as RotatingWriter

_HOMES = {
    "CaptureFormatError": "packet",
    "CaptureInterface": "packet",
    "CaptureOSError": "packet",
    "CapturePipeClosedError": "packet",
    "CaptureReader": "reader",
    "CaptureTruncatedError": "packet",
    "ControlRecord": "decode",
    "Direction": "packet",
    "InterfaceStatistics": "packet",
    "LinkType": "packet",
    "Packet": "packet",
    "PcapngWriter": "writer",
    "RotatingWriter": "writer",
    "describe": "decode",
    "packet_line": "text",
    "parse_dump": "decode",
    "summary": "text",
}

__all__ = list(_HOMES)


if not TYPE_CHECKING:  # so that an unknown name is an error for type checkers

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
