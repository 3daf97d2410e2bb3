"""Packets on the terminal: a line for each, and their bytes below it, as tcpdump prints them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from memif.tools.options import Command
from memif.tools.terminal import print_json

if TYPE_CHECKING:
    from memif.capture import Direction


@dataclass(frozen=True, slots=True)
class Printing:
    """The options -e, -v, -x, -X and -A.

    Attributes:
        link_level: Print the Ethernet header on each line.
        verbose: Print the fields of the IP header.
        hex: Print the bytes in hex: 1 without the link header, 2 with it.
        both: Print them in hex and as text; likewise.
        text: Print them as text; likewise.
    """

    link_level: bool = False
    verbose: int = 0
    hex: int = 0
    both: int = 0
    text: int = 0

    def print(
        self,
        data: bytes,
        ns: int,
        *,
        length: int,
        direction: "Direction",
        linktype: int,
        snaplen: int,
        as_json: bool,
    ) -> None:
        """Print a packet that came at `ns` nanoseconds since 1970, with `length` bytes on the wire."""
        from memif.capture import packet_line, summary
        from memif.capture.text import link_header_length

        look = {"link_level": self.link_level, "verbose": self.verbose > 0}
        if as_json:
            text = summary(data, linktype, **look)
            print_json({"time_ns": ns, "length": length, "summary": text, "data": data[:snaplen].hex()})
            return
        click.echo(packet_line(ns, data, direction=direction, linktype=linktype, length=length, **look))
        start = link_header_length(data, linktype)
        for count, lines in self._forms():
            if count:
                click.echo(lines(data[0 if count > 1 else start : snaplen]))

    def _forms(self) -> list[tuple[int, Callable[[bytes], str]]]:
        return [(self.hex, hex_lines), (self.both, hex_and_text_lines), (self.text, text_lines)]


def printing_options(command: Command) -> Command:
    """Decorator: adds the options of `Printing`, which arrive as separate arguments; see `take_printing`."""
    for option in reversed(
        (
            click.option("-e", "link_level", is_flag=True, help="Print the Ethernet header on each line."),
            click.option("-v", "verbose", count=True, help="Print the fields of the IP header."),
            click.option("-x", "hex", count=True, help="Print the bytes below each line; -xx with the link header."),
            click.option("-X", "both", count=True, help="The same in hex and as text; -XX with the link header."),
            click.option("-A", "text", count=True, help="The same as text; -AA with the link header."),
            click.option("-n", "numbers", is_flag=True, help="As always: addresses and ports are numbers."),
            click.option("-l", "lines", is_flag=True, help="As always: each line is written at once."),
        )
    ):
        command = option(command)
    return command


def take_printing(options: dict[str, Any]) -> Printing:
    """Take the arguments of `printing_options` out of a command's arguments."""
    del options["numbers"], options["lines"]
    return Printing(**{name: options.pop(name) for name in Printing.__dataclass_fields__})


def hex_lines(data: bytes) -> str:
    """Format sixteen bytes per line, in words of two."""
    return "\n".join(f"\t0x{at:04x}:  {_words(data[at : at + 16])}" for at in range(0, len(data), 16))


def hex_and_text_lines(data: bytes) -> str:
    """Format sixteen bytes per line, in words of two and as text."""
    rows = ((at, data[at : at + 16]) for at in range(0, len(data), 16))
    return "\n".join(f"\t0x{at:04x}:  {_words(row):<39}  {_printable(row)}" for at, row in rows)


def text_lines(data: bytes) -> str:
    """Format bytes as text; line ends stay, and what cannot be printed is a dot."""
    return _printable(data, " \t\n")


def _words(row: bytes) -> str:
    return " ".join(row[at : at + 2].hex() for at in range(0, len(row), 2))


def _printable(data: bytes, also: str = "") -> str:
    return "".join(chr(byte) if 32 < byte < 127 or chr(byte) in also else "." for byte in data)
