"""memif control messages for people: `describe` shows one, `parse_dump` finds them in output of strace, xxd or hexdump.

Secrets are not shown unless asked for.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from memif.config import MODE_NAMES, text_of
from memif.errors import MemifError
from memif.protocol import wire

from .blocks import plain
from .packet import CaptureFormatError, Direction

_SENDERS: Final = {
    "Ack": "master",
    "Hello": "master",
    "Init": "slave",
    "AddRegion": "slave",
    "AddRing": "slave",
    "Connect": "slave",
    "Connected": "master",
    "Disconnect": "either side",
}


class ControlRecord(NamedTuple):
    """A control message found in a dump.

    Attributes:
        direction: "in", "out" or "unknown", as the traced process saw it.
        message: A dataclass of `memif.protocol.wire`, or the 128 bytes if they are not a message.
        fds: Numbers of the descriptors that were sent with it.
    """

    direction: Direction
    message: wire.Message | bytes
    fds: tuple[int, ...]


def describe(
    message: "wire.Message | bytes | bytearray | memoryview",
    *,
    fds: Sequence[int] = (),
    show_secret: bool = False,
) -> str:
    """Return a message as text: a line with its name, then a line for each field with its byte offset.

    Bytes that are not a message give one line that says so. Never raises for any bytes.

    Args:
        message: A dataclass of `memif.protocol.wire`, or the bytes of a datagram.
        fds: Numbers of the descriptors that were sent with it.
        show_secret: Show the secret instead of masking it.
    """
    if not isinstance(message, wire.Message):
        raw = bytes(plain(message, "message"))
        try:
            message = wire.decode(raw)
        except MemifError as error:
            return f"not a memif message: {error}"
    else:
        raw = wire.encode(message)
    lines, end = [f"{message.TYPE.name} (from {_SENDERS[type(message).__name__]})"], message.LAYOUT.struct.size
    for name, offset in message.LAYOUT.offsets.items():
        lines.append(f"  @{offset:<3} {name:<18} {_value(name, getattr(message, name), show_secret)}")
    if any(raw[end:]):
        lines.append(f"  @{end:<3} {'unused bytes':<18} not zero")
    lines.extend(f"       {'descriptor':<18} {fd}" for fd in fds)
    return "\n".join(lines)


def _value(name: str, value: object, show_secret: bool) -> str:
    if name == "secret" and isinstance(value, bytes):
        if not value:
            return "none"
        return ascii(value.decode("latin-1")) if show_secret else "set (hidden)"
    if isinstance(value, bool):
        return "1 (S2M, slave to master)" if value else "0 (M2S, master to slave)"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, int):
        return f"{value}{_meaning(name, value)}"
    return str(value)


def _meaning(name: str, value: int) -> str:
    if name.endswith("version"):
        return f" ({wire.version_text(value)})"
    if name == "mode":
        return f" ({MODE_NAMES.get(value, 'unknown')})"
    if name == "log2_ring_size" and value < 32:
        return f" ({1 << value} descriptors)"
    if name in ("size", "offset"):
        return f" (0x{value:x})"
    return ""


_CALL: Final = re.compile(r"(?:\b(sendmsg|recvmsg)\(|<\.\.\. (sendmsg|recvmsg) resumed>)")
# Linear in the length of a line. Possessive quantifiers (++, *+) do not try again what they have matched. A missing end
# does not make the match fail, otherwise the rest of the line would be searched again from each beginning.
_IOVEC: Final = re.compile(r'iov_base="((?:[^"\\]++|\\.)*+)("?)(\.\.\.)?')
_RIGHTS: Final = re.compile(r"SCM_RIGHTS, cmsg_data=\[((?:[^\]<]++|<[^>]*+>)*+)(\]?)")
_FD: Final = re.compile(r"(\d++)(?:<[^>]*+>)?")
_ESCAPE: Final = re.compile(r"\\(x[0-9a-fA-F]{2}|[0-7]{1,3}|.)", re.DOTALL)
_LETTERS: Final = {"n": "\n", "t": "\t", "r": "\r", "v": "\v", "f": "\f", "a": "\a", "b": "\b"}


def parse_dump(text: str) -> list[ControlRecord]:
    """Find the control messages in a dump, in order.

    Args:
        text: Output of ``strace -s 256 -e trace=sendmsg,recvmsg`` (with -x, -xx or neither; -f and -y are understood),
            or a hex dump by xxd, ``xxd -p`` or ``hexdump -C`` of one or more whole messages. Calls in strace output
            that move anything but 128 bytes belong to other sockets and are skipped.

    Raises:
        CaptureFormatError: when a line is not understood. The error names the first one.
    """
    if _CALL.search(text_of("text", text)):
        return list(_from_strace(text))
    data = _from_hex(text)
    if not data or len(data) % wire.MESSAGE_SIZE:
        raise CaptureFormatError(f"hex dump of {len(data)} bytes: messages have {wire.MESSAGE_SIZE} bytes each")
    messages = [data[at : at + wire.MESSAGE_SIZE] for at in range(0, len(data), wire.MESSAGE_SIZE)]
    return [_record("unknown", raw, ()) for raw in messages]


def _record(direction: Direction, raw: bytes, fds: tuple[int, ...]) -> ControlRecord:
    try:
        return ControlRecord(direction, wire.decode(raw), fds)
    except MemifError:
        return ControlRecord(direction, raw, fds)


def _from_strace(text: str) -> Iterator[ControlRecord]:
    for number, line in enumerate(text.splitlines(), 1):
        call = _CALL.search(line)
        pieces = [(body, cut) for body, end, cut in _IOVEC.findall(line) if end] if call else []
        if call is None or not pieces:
            continue
        raw = b"".join(_unescape(body) for body, _ in pieces)
        if len(raw) < wire.MESSAGE_SIZE and any(cut for _, cut in pieces):
            raise CaptureFormatError(f"line {number}: strace cut the data; run it with -s 256")
        if len(raw) == wire.MESSAGE_SIZE:
            rights = _RIGHTS.search(line)
            fds = tuple(map(int, _FD.findall(rights[1]))) if rights and rights[2] else ()
            yield _record("out" if "sendmsg" in call[0] else "in", raw, fds)


def _unescape(body: str) -> bytes:
    """Turn the C escapes of a string literal into bytes."""

    def one(match: re.Match[str]) -> str:
        code = match[1]
        if code[0] == "x" and len(code) == 3:
            return chr(int(code[1:], 16))
        if code[0] in "01234567":
            return chr(int(code, 8) & 0xFF)
        return _LETTERS.get(code, code)

    return _ESCAPE.sub(one, body).encode("latin-1", "replace")


_OFFSET: Final = re.compile(r"\s*([0-9a-fA-F]{4,16})(:\s|\s\s)")
_LAST_OFFSET: Final = re.compile(r"\s*([0-9a-fA-F]{4,16})()\s*$")


def _from_hex(text: str) -> bytes:
    data, repeated, with_offsets = bytearray(), False, False
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() == "*":  # hexdump: the line before, up to the next offset
            repeated = True
            continue
        # The lone offset at the end of "hexdump -C" looks like the short last line of "xxd -p".
        offset = _OFFSET.match(line) or (_LAST_OFFSET.match(line) if with_offsets else None)
        with_offsets = offset is not None
        if offset and repeated:
            _repeat(data, int(offset[1], 16), number)
        repeated = False
        data += _hex_line(line, offset, number)
    return bytes(data)


def _repeat(data: bytearray, end: int, number: int) -> None:
    if not data or not len(data) <= end <= 1 << 20:
        raise CaptureFormatError(f"line {number}: offset 0x{end:x} does not follow the data before it")
    last = bytes(data[-16:])
    while len(data) < end:
        data += last[: end - len(data)]


def _hex_line(line: str, offset: re.Match[str] | None, number: int) -> bytes:
    digits = line.split("|", 1)[0]
    if offset:
        digits = digits[offset.end() :]
        if offset[2].startswith(":"):  # xxd: two spaces before the text column
            digits = digits.split("  ", 1)[0]
    try:
        return bytes.fromhex(digits)
    except ValueError:
        raise CaptureFormatError(f"line {number}: neither strace output nor a hex dump") from None
