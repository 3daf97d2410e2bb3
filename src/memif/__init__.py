"""memif: the shared memory packet interface of FD.io VPP, spoken from Python.

`connect` and `listen` open an interface. `Interface.rx` and `Interface.tx` are its queues. Packets arrive in a `Burst`.
`Socket` is for several interfaces on one control socket, for callbacks and for event loops.

Every name is loaded on first use.
"""

from importlib import import_module
from os import environ as _environ
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

#: The module of each public name.
_HOME = {
    "connect": "socket",
    "listen": "socket",
    "Socket": "socket",
    "Interface": "interface",
    "Details": "types",
    "QueueDetails": "types",
    "RegionDetails": "types",
    "Peer": "types",
    "wait": "waiting",
    "Burst": "ring",
    "RxQueue": "ring",
    "TxQueue": "ring",
    "HANDLER_SIGNATURE": "ring",
    "MemfdAllocator": "memory.allocator",
    "HugepageAllocator": "memory.allocator",
    "Allocator": "memory.allocator",
    "ErrorCode": "errors",
    "MemifError": "errors",
    "MemifValueError": "errors",
    "MemifTypeError": "errors",
    "MemifQueueError": "errors",
    "MemifStateError": "errors",
    "MemifClosedError": "errors",
    "MemifBufferError": "errors",
    "MemifCancelledError": "errors",
    "MemifMemoryError": "errors",
    "MemifOSError": "errors",
    "MemifPermissionError": "errors",
    "MemifFileNotFoundError": "errors",
    "MemifTimeoutError": "errors",
    "MemifConnectionError": "errors",
    "MemifDisconnectedError": "errors",
    "MemifRefusedError": "errors",
    "MemifPeerError": "errors",
    "MemifProtocolError": "errors",
}
_MODULES = ("aio", "capture", "debug", "discovery", "extcap", "libmemif", "tap", "testing", "vpp")
# Importing these needs the package of an extra, so a star import leaves them out, and `dir` where it is missing.
_EXTRAS = {"metrics": "prometheus_client", "packet": "numpy", "scapy": "scapy"}

__all__ = ["__version__", *_HOME, *_MODULES]

if TYPE_CHECKING:
    from memif.errors import (
        ErrorCode as ErrorCode,
        MemifBufferError as MemifBufferError,
        MemifCancelledError as MemifCancelledError,
        MemifClosedError as MemifClosedError,
        MemifConnectionError as MemifConnectionError,
        MemifDisconnectedError as MemifDisconnectedError,
        MemifError as MemifError,
        MemifFileNotFoundError as MemifFileNotFoundError,
        MemifMemoryError as MemifMemoryError,
        MemifOSError as MemifOSError,
        MemifPeerError as MemifPeerError,
        MemifPermissionError as MemifPermissionError,
        MemifProtocolError as MemifProtocolError,
        MemifQueueError as MemifQueueError,
        MemifRefusedError as MemifRefusedError,
        MemifStateError as MemifStateError,
        MemifTimeoutError as MemifTimeoutError,
        MemifTypeError as MemifTypeError,
        MemifValueError as MemifValueError,
    )
    from memif.interface import Interface as Interface
    from memif.memory.allocator import (
        Allocator as Allocator,
        HugepageAllocator as HugepageAllocator,
        MemfdAllocator as MemfdAllocator,
    )
    from memif.ring import (
        HANDLER_SIGNATURE as HANDLER_SIGNATURE,
        Burst as Burst,
        RxQueue as RxQueue,
        TxQueue as TxQueue,
    )
    from memif.socket import Socket as Socket, connect as connect, listen as listen
    from memif.types import (
        Details as Details,
        Peer as Peer,
        QueueDetails as QueueDetails,
        RegionDetails as RegionDetails,
    )
    from memif.waiting import wait as wait


if not TYPE_CHECKING:  # type checkers see all names above, and must report others

    def __getattr__(name: str) -> Any:
        if name in _MODULES or name in _EXTRAS:
            return import_module(f"memif.{name}")
        home = _HOME.get(name)
        if home is None:
            raise AttributeError(f"module 'memif' has no attribute {name!r}")
        value = getattr(import_module(f"memif.{home}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    from memif.extras import is_there

    return sorted((*__all__, *(name for name, package in _EXTRAS.items() if is_there(package))))


if _environ.get("MEMIF_DEBUG", "0") not in ("", "0"):
    import_module("memif.debug")
