"""The reasons for which one side refuses the other: their text on the wire and their error codes.

Our own texts are those of VPP, which users know and search for. The texts of the other implementations serve to find
the error code of a refusal that we receive, because the number in a DISCONNECT message means nothing.
"""

from dataclasses import dataclass

from memif.errors import ErrorCode, MemifProtocolError, error_text
from memif.protocol.wire import Mode


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a client is refused.

    Attributes:
        text: Sent to the client, at most 95 bytes.
        code: Error code for our side.
    """

    text: str
    code: ErrorCode


UNKNOWN_ID = Refusal("unmatched interface id", ErrorCode.ID)
IS_SLAVE = Refusal("cannot connect to slave", ErrorCode.ACCSLAVE)
ALREADY_CONNECTED = Refusal("already connected", ErrorCode.ALRCONN)
SECRET_REQUIRED = Refusal("secret required", ErrorCode.NOSECRET)
INCORRECT_SECRET = Refusal("incorrect secret", ErrorCode.SECRET)

# The rest are breaches of the protocol.
UNSUPPORTED_VERSION = Refusal("unsupported version", ErrorCode.PROTO)
INCOMPATIBLE_VERSION = Refusal("incompatible protocol version", ErrorCode.PROTO)
MALFORMED = Refusal("malformed message received", ErrorCode.MFMSG)
UNEXPECTED = Refusal("unexpected message received", ErrorCode.MFMSG)
SPARE_FD = Refusal("more than one file descriptor in a message", ErrorCode.MFMSG)
NO_REGION_FD = Refusal("missing memory region fd", ErrorCode.NO_SHMFD)
REGION_INDEX = Refusal("unexpected region index", ErrorCode.MAXREG)
TOO_MANY_REGIONS = Refusal("too many regions", ErrorCode.MAXREG)
REGION_SIZE = Refusal("memory region size out of range", ErrorCode.MAXREG)
NO_RING_FD = Refusal("missing ring interrupt fd", ErrorCode.NO_INTFD)
RING_INDEX = Refusal("unexpected ring index", ErrorCode.MAXRING)
TOO_MANY_RINGS = Refusal("too many rings", ErrorCode.MAXRING)
PRIVATE_HEADER = Refusal("private headers not supported", ErrorCode.PRIVHDR)
RING_SIZE = Refusal("ring size out of range", ErrorCode.MAX_RING)
NO_RINGS = Refusal("no rings", ErrorCode.MAXRING)


def mode_mismatch(master: int, slave: int) -> Refusal:
    """Build the refusal of a client that wants another mode than the master's; the text names both."""
    return Refusal(f"mode mismatch: the master is {_word(master)}, the slave {_word(slave)}", ErrorCode.MODE)


def _word(mode: int) -> str:
    known = {int(each): each.name.lower().replace("_", "/") for each in Mode}
    return known.get(mode, f"in mode {mode}")


def broken(refusal: Refusal, where: str = "") -> MemifProtocolError:
    """Build the error for a breach of protocol. `where` is appended to the text."""
    return MemifProtocolError(f"{refusal.text} {where}".rstrip(), code=refusal.code)


_FOREIGN: dict[ErrorCode, tuple[str, ...]] = {
    ErrorCode.PROTO: (
        "unsupported version",
        "incompatible version",
        "incompatible protocol version",
        "incompatible memif version",
        "incompatible memif driver version",
    ),
    ErrorCode.ID: ("unmatched interface id", "id not found", "invalid interface id"),
    ErrorCode.ACCSLAVE: ("cannot connect to slave", "cannot connect to salve"),  # libmemif's spelling
    ErrorCode.ALRCONN: ("already connected",),
    ErrorCode.MODE: ("mode mismatch", "only ethernet mode supported"),
    ErrorCode.NOSECRET: ("secret required",),
    ErrorCode.SECRET: ("incorrect secret", "invalid secret"),
    ErrorCode.NO_SHMFD: ("missing memory region fd", "missing region fd", "no memory region fd"),
    ErrorCode.MAXREG: (
        "unexpected region index",
        "invalid region index",
        "invalid memory region index",
        "too many regions",
    ),
    ErrorCode.NO_INTFD: ("missing ring interrupt fd", "missing interrupt fd"),
    ErrorCode.MAXRING: ("unexpected ring index", "invalid ring index", "too many rings"),
    ErrorCode.PRIVHDR: ("private headers not supported",),
    ErrorCode.COOKIE: ("wrong cookie",),
    ErrorCode.MFMSG: ("malformed message", "invalid message size", "unexpected message"),
    ErrorCode.UNKNOWN_MSG: ("unknown message",),
}


def code_of(text: str) -> ErrorCode:
    """Return the error code for a DISCONNECT text of any known peer, or `ErrorCode.DISCONNECT`."""
    lowered = text.lower()
    for code, beginnings in _FOREIGN.items():
        if lowered.startswith((*beginnings, error_text(code).lower())):
            return code
    return ErrorCode.DISCONNECT
