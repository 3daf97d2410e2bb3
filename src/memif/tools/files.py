"""Capture files and filters: the options of what is written, link types, and expressions for libpcap."""

import ctypes
import ctypes.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from memif.errors import MemifError
from memif.tools.options import Command, complete_file
from memif.tools.terminal import Stop
from memif.tools.values import FILE_SIZE

if TYPE_CHECKING:
    from memif.capture import PcapngWriter

#: Link type of a capture file for an interface's mode. LinkType's numbers, without loading memif.capture.
LINKTYPES: Final = {"ethernet": 1, "ip": 101}
#: Link types of capture files whose packets an interface in this mode can send.
_SENDABLE: Final = {"ethernet": {1}, "ip": {101, 228, 229, 12, 14}}
#: libpcap's own number for "starts at the IP header" on Linux; in files it is 101.
_DLT_RAW: Final = 12


def matches_mode(linktype: int, mode: str) -> bool:
    """Return whether packets of this link type of a capture file can be sent in this mode."""
    return linktype in _SENDABLE.get(mode, set())


@dataclass(frozen=True, slots=True)
class Files:
    """Where to write: the options -w, --rotate-size, --rotate-time, --files and --snaplen.

    Attributes:
        path: The file, "-" for standard output; None: no file.
        rotate_size: Bytes after which a new file is started; None: never.
        rotate_time: Seconds after which a new file is started; None: never.
        files: How many files to keep; 0: all.
        snaplen: The most bytes to keep of each packet.
    """

    path: str | None
    rotate_size: int | None
    rotate_time: float | None
    files: int
    snaplen: int

    @contextmanager
    def open(self, application: str, stop: Stop) -> Iterator["PcapngWriter | None"]:
        """Open the writer; it is closed at the end of the context.

        Args:
            application: The program's name, for the file.
            stop: A FIFO is waited for until this is set.

        Yields:
            The writer; None without -w.

        Raises:
            click.UsageError: The options contradict each other.
        """
        from memif.capture import PcapngWriter, RotatingWriter

        if self.path is None:
            if self.rotate_size or self.rotate_time or self.files:
                raise click.UsageError("--rotate-size, --rotate-time and --files need -w")
            yield None
        elif self.rotate_size or self.rotate_time:
            if self.path == "-":
                raise click.UsageError("standard output cannot be rotated: give -w a file name")
            with RotatingWriter(
                self.path,
                max_bytes=self.rotate_size or 0,
                max_seconds=self.rotate_time or 0.0,
                files=self.files,
                snaplen=self.snaplen,
                application=application,
            ) as writer:
                yield writer
        elif self.files:
            raise click.UsageError("--files needs --rotate-size or --rotate-time")
        else:
            if self.path == "-" and sys.stdout.isatty():
                raise click.UsageError("a capture is not for a terminal: redirect standard output, or name a file")
            with PcapngWriter(self.path, snaplen=self.snaplen, application=application, stop=stop.__bool__) as single:
                yield single

    def names(self, writer: "PcapngWriter | None") -> list[str]:
        """Return the files that were written and are still there."""
        paths = getattr(writer, "paths", None)
        return [str(name) for name in paths] if paths is not None else [self.path] if self.path else []


def file_options(command: Command) -> Command:
    """Decorator: adds the options of `Files`, which arrive as separate arguments; see `take_files`."""
    for option in reversed(
        (
            click.option(
                "-w",
                "--write",
                "path",
                metavar="FILE",
                shell_complete=complete_file,
                help="Write a pcapng file; - for standard output, a FIFO for Wireshark.",
            ),
            click.option(
                "--rotate-size", type=FILE_SIZE, metavar="BYTES", help="Start a new file at this size, as 10M."
            ),
            click.option(
                "--rotate-time",
                type=click.FloatRange(0, min_open=True),
                metavar="SECONDS",
                help="Start a new file after this time.",
            ),
            click.option(
                "--files", type=click.IntRange(0), default=0, metavar="N", help="Keep only the newest N files."
            ),
            click.option(
                "-s",
                "--snaplen",
                type=click.IntRange(1, 262144),
                default=262144,
                metavar="BYTES",
                help="Keep so many bytes of each packet (default: all).",
            ),
        )
    ):
        command = option(command)
    return command


def take_files(options: dict[str, Any]) -> Files:
    """Take the arguments of `file_options` out of a command's arguments."""
    return Files(**{name: options.pop(name) for name in Files.__dataclass_fields__})


def summarise_files(names: list[str], *, to_stderr: bool) -> None:
    """Print a line for each file, except standard output."""
    for name in names:
        if name != "-":
            click.echo(f"  {name}", err=to_stderr)


def make_filter(words: tuple[str, ...], mode: str) -> "Filter | None":
    """Compile the filter in the words of a command line; None for no words."""
    if not words:
        return None
    return Filter(" ".join(words), mode=mode)


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
    """A compiled filter expression, as tcpdump takes it: call it with a packet. One thread at a time."""

    def __init__(self, expression: str, *, mode: str = "ethernet") -> None:
        """Compile an expression.

        Args:
            expression: In the language of pcap-filter(7).
            mode: Of the interface: what packets start with.

        Raises:
            MemifError: libpcap is not installed.
            click.UsageError: The expression is wrong.
        """
        pcap = _library()
        self._program = _Instructions()
        handle = pcap.pcap_open_dead(_DLT_RAW if mode == "ip" else 1, 262144)
        if pcap.pcap_compile(handle, ctypes.byref(self._program), expression.encode(), 1, 0xFFFFFFFF):
            text = pcap.pcap_geterr(handle).decode(errors="replace")
            pcap.pcap_close(handle)
            raise click.UsageError(f"filter {expression!r}: {text}")
        pcap.pcap_close(handle)
        self._run: Callable[..., int] = pcap.pcap_offline_filter
        self._header = _Header()
        self._references = ctypes.byref(self._program), ctypes.byref(self._header)

    def __call__(self, data: bytes, length: int | None = None) -> bool:
        """Return whether a packet passes: its first bytes, and its length if that is more."""
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
