"""``memif decode``: control messages, explained."""

import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import click

from memif.errors import MemifError
from memif.tools.options import complete_file, examples, json_option
from memif.tools.terminal import print_json
from memif.tools.verb import Verb

_ARROWS = {"in": "received", "out": "sent", "unknown": ""}
_PCAPNG = b"\x0a\x0d\x0d\x0a"


@click.command(
    "decode",
    cls=Verb,
    epilog=examples("decode trace.txt", "decode control.pcapng")
    + "\n  strace -f -s 256 -xx -e trace=sendmsg,recvmsg -p PID 2>&1 "
    "| memif decode",
)
@click.argument("file", default="-", shell_complete=complete_file)
@click.option("--show-secret", is_flag=True, help="Print secrets, which are hidden otherwise.")
@json_option
def command(file: str, show_secret: bool, as_json: bool) -> None:
    """Explain the control messages in FILE (default: standard input), field by field.

    FILE is the output of strace with -s 256, a hex dump by xxd or hexdump -C, or a capture by memif sniff --control.
    """
    from memif.capture import describe

    found = 0
    for found, (direction, message, fds) in enumerate(records(file), 1):
        if as_json:
            print_json(as_dict(direction, message, fds, show_secret))
            continue
        if found > 1:
            click.echo()
        said = _ARROWS[direction]
        click.echo(f"{found}. {said + ' ' if said else ''}{describe(message, fds=fds, show_secret=show_secret)}")
    if not found:
        raise MemifError(f"{file}: no control messages in there")


def records(file: str) -> Iterator[tuple[Any, Any, tuple[int, ...]]]:
    """Yield direction, message and descriptors of every message in a text or a capture."""
    from memif.capture import parse_dump

    if file == "-":
        data = sys.stdin.buffer.read()
    else:
        with open(file, "rb") as source:
            data = source.read()
    if data[:4] == _PCAPNG:
        yield from from_capture(data)
        return
    for record in parse_dump(data.decode(errors="replace")):
        yield record.direction, record.message, record.fds


def from_capture(data: bytes) -> Iterator[tuple[Any, Any, tuple[int, ...]]]:
    """Yield the control messages of a capture by ``memif sniff``."""
    import io

    from memif.capture import CaptureReader, LinkType

    with CaptureReader(io.BytesIO(data), strict=True) as reader:
        for packet in reader:
            if packet.linktype == LinkType.USER0:
                yield packet.direction, packet.data, ()


def as_dict(direction: str, message: Any, fds: tuple[int, ...], show_secret: bool) -> dict[str, Any]:
    """Return a message for a program."""
    from memif.protocol import wire

    if isinstance(message, bytes):
        try:
            message = wire.decode(message)
        except MemifError as error:
            return {"direction": direction, "type": None, "error": error.detail, "raw": message.hex(), "fds": fds}
    fields = asdict(message)
    if "secret" in fields:
        secret = fields["secret"]
        fields["secret"] = secret.decode("latin-1") if show_secret else bool(secret)
    return {"direction": direction, "type": message.TYPE.name, **fields, "fds": fds}
