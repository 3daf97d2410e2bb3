"""memif: the shared memory packet interface of FD.io VPP, spoken from Python.

`connect` and `listen` open an interface; `Interface.rx` and `Interface.tx` are its queues; packets come in `Burst`s.
Several interfaces on one control socket, callbacks and event loops: `Socket`. Everything is loaded on first use.
"""

from importlib import import_module
from os import environ as _environ
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

#: Where each public name lives.
_HOME = {
    "connect": "socket", "listen": "socket", "Socket": "socket",
    "Interface": "interface", "Details": "interface", "QueueDetails": "interface", "RegionDetails": "interface",
    "Peer": "interface",
    "Burst": "ring", "RxQueue": "ring", "TxQueue": "ring",
    "MemfdAllocator": "memory.allocator", "HugepageAllocator": "memory.allocator", "Allocator": "memory.allocator",
    "ErrorCode": "errors", "MemifError": "errors", "MemifValueError": "errors", "MemifQueueError": "errors",
    "MemifStateError": "errors", "MemifClosedError": "errors", "MemifBufferError": "errors",
    "MemifCancelledError": "errors", "MemifMemoryError": "errors", "MemifOSError": "errors",
    "MemifPermissionError": "errors", "MemifFileNotFoundError": "errors", "MemifTimeoutError": "errors",
    "MemifConnectionError": "errors", "MemifDisconnectedError": "errors", "MemifRefusedError": "errors",
    "MemifPeerError": "errors", "MemifProtocolError": "errors",
}
_MODULES = ("capture", "debug", "packet", "tap", "testing")

__all__ = ["__version__", *_HOME, *_MODULES]

if TYPE_CHECKING:
    from memif.errors import (
        ErrorCode,
        MemifBufferError,
        MemifCancelledError,
        MemifClosedError,
        MemifConnectionError,
        MemifDisconnectedError,
        MemifError,
        MemifFileNotFoundError,
        MemifMemoryError,
        MemifOSError,
        MemifPeerError,
        MemifPermissionError,
        MemifProtocolError,
        MemifQueueError,
        MemifRefusedError,
        MemifStateError,
        MemifTimeoutError,
        MemifValueError,
    )
    from memif.interface import Details, Interface, Peer, QueueDetails, RegionDetails
    from memif.memory.allocator import Allocator, HugepageAllocator, MemfdAllocator
    from memif.ring import Burst, RxQueue, TxQueue
    from memif.socket import Socket, connect, listen


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"memif.{name}")
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'memif' has no attribute {name!r}")
    value = getattr(import_module(f"memif.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


if _environ.get("MEMIF_DEBUG", "0") not in ("", "0"):
    import_module("memif.debug")
