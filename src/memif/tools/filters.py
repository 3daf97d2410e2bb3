"""Which packets to keep: link types, and filter expressions by libpcap."""

import ctypes
import ctypes.util
from collections.abc import Callable
from typing import Any, Final

import click

from memif.errors import MemifError

#: Link types of capture files that a mode can send. LinkType's numbers, which this table does without.
_LINKS: Final = {"ethernet": {1}, "ip": {101, 228, 229, 12, 14}}
#: libpcap's own number for "starts at the IP header" on Linux; in files it is 101.
_DLT_RAW: Final = 12


def matches_mode(linktype: int, mode: str) -> bool:
    """Whether packets of this link type of a capture file can be sent in this mode."""
    return linktype in _LINKS.get(mode, set())


class _Instructions(ctypes.Structure):
    _fields_ = [("count", ctypes.c_uint), ("code", ctypes.c_void_p)]


class _Header(ctypes.Structure):
    _fields_ = [
        ("seconds", ctypes.c_long),
        ("fraction", ctypes.c_long),
        ("kept", ctypes.c_uint32),
        ("length", ctypes.c_uint32),
    ]


class Filter:
    """A compiled filter expression, as in tcpdump: call it with a packet's bytes and its length.

    `MemifError` without libpcap, usage error for a wrong expression. One thread at a time.
    """

    def __init__(self, expression: str, *, mode: str = "ethernet", snaplen: int = 262144) -> None:
        pcap = _library()
        self._program = _Instructions()
        handle = pcap.pcap_open_dead(_DLT_RAW if mode == "ip" else 1, snaplen)
        if pcap.pcap_compile(handle, ctypes.byref(self._program), expression.encode(), 1, 0xFFFFFFFF):
            text = pcap.pcap_geterr(handle).decode(errors="replace")
            pcap.pcap_close(handle)
            raise click.UsageError(f"filter {expression!r}: {text}")
        pcap.pcap_close(handle)
        self._run: Callable[..., int] = pcap.pcap_offline_filter
        self._header = _Header()
        self._references = ctypes.byref(self._program), ctypes.byref(self._header)

    def __call__(self, data: bytes, length: int | None = None) -> bool:
        """Whether the packet passes."""
        header = self._header
        header.kept = len(data)
        header.length = len(data) if length is None else length
        return self._run(*self._references, data) != 0


def _library() -> Any:
    name = ctypes.util.find_library("pcap") or "libpcap.so.0.8"
    try:
        pcap = ctypes.CDLL(name)
    except OSError as error:
        raise MemifError(f"a filter needs libpcap, which is not installed (Debian: libpcap0.8; {error})") from error
    pcap.pcap_open_dead.restype = ctypes.c_void_p
    pcap.pcap_open_dead.argtypes = [ctypes.c_int, ctypes.c_int]
    pcap.pcap_compile.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint32]
    pcap.pcap_geterr.restype = ctypes.c_char_p
    pcap.pcap_geterr.argtypes = [ctypes.c_void_p]
    pcap.pcap_close.argtypes = [ctypes.c_void_p]
    pcap.pcap_offline_filter.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p]
    return pcap
