"""Capture files and filters: the options of what is written, link types, and expressions for libpcap."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from memif.errors import MemifValueError
from memif.tools.options import Command, complete_file
from memif.tools.terminal import Stop
from memif.tools.values import FILE_SIZE

if TYPE_CHECKING:
    from memif.capture import PcapngWriter
    from memif.packet import Filter

#: Link type of a capture file for an interface's mode. LinkType's numbers, without loading memif.capture.
LINKTYPES: Final = {"ethernet": 1, "ip": 101}
_ALL: Final = 262144  # bytes: no packet is longer
#: Link types of capture files whose packets an interface in this mode can send.
_SENDABLE: Final = {"ethernet": {1}, "ip": {101, 228, 229, 12, 14}}


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
                raise click.UsageError("--rotate-size (-C), --rotate-time (-G) and --files (-W) need -w")
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
                "-C",
                "millions",
                type=click.FloatRange(0, 1e9, min_open=True),
                metavar="MILLIONS",
                help="The same in millions of bytes, as tcpdump.",
            ),
            click.option(
                "-G",
                "--rotate-time",
                type=click.FloatRange(0, min_open=True),
                metavar="SECONDS",
                help="Start a new file after this time.",
            ),
            click.option(
                "--files", type=click.IntRange(0), default=0, metavar="N", help="Keep only the newest N files."
            ),
            click.option("-W", "ring", type=click.IntRange(1), metavar="N", help="The same, with -C, as tcpdump."),
            click.option(
                "-s",
                "--snaplen",
                type=click.IntRange(0, 262144),
                default=0,
                metavar="BYTES",
                help="Keep so many bytes of each packet (default, and 0: all).",
            ),
        )
    ):
        command = option(command)
    return command


def take_files(options: dict[str, Any]) -> Files:
    """Take the arguments of `file_options` out of a command's arguments."""
    millions, ring = options.pop("millions"), options.pop("ring")
    if ring and not millions:
        raise click.UsageError("-W goes with -C, as a ring of files; by time, --files keeps the newest")
    options["files"] = ring or options["files"]
    if millions and options["rotate_size"]:
        raise click.UsageError("-C and --rotate-size are the same: give one")
    if millions:
        options["rotate_size"] = max(round(millions * 1_000_000), 1)
    options["snaplen"] = options["snaplen"] or _ALL
    return Files(**{name: options.pop(name) for name in Files.__dataclass_fields__})


def summarise_files(names: list[str], *, to_stderr: bool) -> None:
    """Print a line for each file, except standard output."""
    for name in names:
        if name != "-":
            click.echo(f"  {name}", err=to_stderr)


def make_filter(words: tuple[str, ...], mode: str) -> "Filter | None":
    """Compile the filter in the words of a command line; None for no words.

    Raises:
        click.UsageError: libpcap does not understand it.
        MemifError: libpcap is not installed.
    """
    if not words:
        return None
    from memif.packet import Filter

    try:
        return Filter(" ".join(words), mode="ip" if mode == "ip" else "ethernet")
    except MemifValueError as error:
        raise click.UsageError(f"filter {' '.join(words)!r}: {error.detail.partition('allowed: ')[2]}") from error
