"""Hostile control messages, from slaves and from masters: size, type, order, versions, secrets, silence."""

import ctypes
import fcntl
import os
from collections.abc import Callable, Iterator

from memif.protocol.wire import Ack, AddRegion, AddRing, Connect, Connected, Disconnect, Hello, Init, Message, encode
from memif.testing.cases import Case, Outcome
from memif.testing.hostile import HUNG_UP, SILENT, HostilePeer, Step

Script = dict[str, Step]
Change = Callable[[HostilePeer, Script], object]

_LONG = b"x" * 31 + b"\x1b"


def altered(change: Change) -> Callable[[HostilePeer], str | None]:
    """Return an attack that changes the honest script and plays it."""

    def attack(peer: HostilePeer) -> str | None:
        script = peer.script()
        change(peer, script)
        return peer.play(script)

    return attack


def _first(message: Message | bytes) -> Change:
    def change(peer: HostilePeer, script: Script) -> None:
        script["init"] = Step(message)

    return change


def _extra(after: str, message: Message | bytes) -> Change:
    """Send one more message after a step of the script."""

    def change(peer: HostilePeer, script: Script) -> None:
        steps = list(script.items())
        script.clear()
        for name, step in steps:
            script[name] = step
            if name == after:
                script["extra"] = Step(message)

    return change


def _without_waiting(peer: HostilePeer, script: Script) -> None:
    for step in list(script.values())[:-1]:
        step.answer = False


def _before_hello(peer: HostilePeer) -> str | None:
    script = peer.script()
    _without_waiting(peer, script)
    reason = peer.say(script)
    return reason or (None if any(isinstance(peer.recv(), Connected) for _ in range(6)) else HUNG_UP)


def _leave_after(name: str) -> Callable[[HostilePeer], str | None]:
    def attack(peer: HostilePeer) -> str | None:
        script = peer.script()
        kept = list(script)[: list(script).index(name) + 1]
        peer.play({key: script[key] for key in kept})
        peer.close()
        return HUNG_UP

    return attack


def _stop_after(count: int) -> Callable[[HostilePeer], str | None]:
    def attack(peer: HostilePeer) -> str | None:
        script = peer.script()
        for name in list(script)[count:]:
            del script[name]
        return peer.play(script) or peer.farewell()

    return attack


_SLAVE_REFUSED: tuple[tuple[str, str, str, Change], ...] = (
    ("datagram-1-byte", "sends a datagram of 1 byte", "malformed message received", _first(b"\x03")),
    ("datagram-127-bytes", "sends a datagram of 127 bytes", "malformed message received", _first(bytes(127))),
    ("datagram-129-bytes", "sends a datagram of 129 bytes", "malformed message received", _first(bytes(129))),
    ("datagram-60000-bytes", "sends a datagram of 60000 bytes", "malformed message received", _first(bytes(60000))),
    ("type-0", "sends a message of type 0", r"unknown message type \(0x0\)", _first(bytes(128))),
    ("type-9", "sends a message of type 9", r"unknown message type \(0x9\)", _first(b"\x09" + bytes(127))),
    ("type-65535", "sends a message of type 65535", r"unknown message type \(0xffff\)", _first(b"\xff" * 128)),
    ("version-1", "speaks version 1.0", "unsupported version", _first(Init(0, version=0x0100))),
    ("version-65535", "speaks version 255.255", "unsupported version", _first(Init(0, version=0xFFFF))),
    ("unknown-id", "asks for an interface that does not exist", "unmatched interface id", _first(Init(0xFFFFFFFF))),
    ("wrong-mode", "asks for another mode", "mode mismatch", _first(Init(0, mode=1))),
    ("mode-255", "asks for a mode that does not exist", "mode mismatch", _first(Init(0, mode=255))),
    (
        "region-first",
        "starts with ADD_REGION",
        r"unexpected message received \(ADD_REGION\)",
        _first(AddRegion(0, 4096)),
    ),
    (
        "ring-first",
        "starts with ADD_RING",
        r"unexpected message received \(ADD_RING\)",
        _first(AddRing(True, 0, 0, 0, 4)),
    ),
    ("connect-first", "starts with CONNECT", r"unexpected message received \(CONNECT\)", _first(Connect())),
    (
        "connected-from-slave",
        "starts with CONNECTED",
        r"unexpected message received \(CONNECTED\)",
        _first(Connected()),
    ),
    ("hello-from-slave", "answers HELLO with HELLO", r"unexpected message received \(HELLO\)", _first(Hello())),
    ("ack-from-slave", "starts with ACK", r"unexpected message received \(ACK\)", _first(Ack())),
    ("init-twice", "sends INIT twice", r"unexpected message received \(INIT\)", _extra("init", Init(0))),
    ("ack-in-between", "sends ACK between its offers", r"unexpected message received \(ACK\)", _extra("s2m", Ack())),
    ("connect-without-memory", "sends CONNECT right after INIT", "no rings", _extra("init", Connect())),
    ("connect-before-rings", "sends CONNECT before its rings", "no rings", _extra("region", Connect())),
)

_AFTER: tuple[tuple[str, str, Message | bytes, str], ...] = (
    ("init-when-up", "sends INIT on a link that is up", Init(0), r"unexpected message received \(INIT\)"),
    ("connect-when-up", "sends CONNECT on a link that is up", Connect(), r"unexpected message received \(CONNECT\)"),
    (
        "region-when-up",
        "sends ADD_REGION on a link that is up",
        AddRegion(1, 4096),
        r"unexpected message received \(ADD_REGION\)",
    ),
    (
        "ring-when-up",
        "sends ADD_RING on a link that is up",
        AddRing(True, 1, 0, 0, 4),
        r"unexpected message received \(ADD_RING\)",
    ),
    (
        "garbage-when-up",
        "sends 128 random bytes on a link that is up",
        b"\xa7" * 128,
        r"unknown message type \(0xa7a7\)",
    ),
)


def _say(message: Message | bytes) -> Callable[[HostilePeer], str | None]:
    def attack(peer: HostilePeer) -> str | None:
        peer.send(message)
        return peer.farewell()

    return attack


def say_on(message: Message | bytes, times: int = 1) -> Callable[[HostilePeer], str | None]:
    """Return an attack that sends this and stays."""

    def attack(peer: HostilePeer) -> str | None:
        for _ in range(times):
            peer.send(message)
        return None

    return attack


def _names(peer: HostilePeer, script: Script) -> None:
    raw = bytearray(encode(Init(peer.id)))
    raw[33:65] = _LONG
    script["init"] = Step(bytes(raw))
    script["connect"] = Step(b"\x06\x00" + b"\xff\xfe\x1b[2J" + b"y" * 26 + bytes(94))


def _vanish(peer: HostilePeer) -> str | None:
    peer.close()
    return None


def slave_cases() -> Iterator[Case]:
    """What a hostile slave says."""
    for name, about, reason, change in _SLAVE_REFUSED:
        yield Case(name, "slave", False, about, altered(change), Outcome.REFUSED, reason)
    for name, about, message, reason in _AFTER:
        yield Case(name, "slave", True, about, _say(message), Outcome.DISCONNECTED, reason)
    yield Case(
        "secret-missing",
        "slave",
        False,
        "does not know the secret",
        altered(_first(Init(0))),
        Outcome.REFUSED,
        "secret required",
        options={"secret": b"s3cret"},
    )
    for name, guess in (("secret-wrong", b"guess"), ("secret-prefix", b"s3cre"), ("secret-full-field", b"s" * 24)):
        yield Case(
            name,
            "slave",
            False,
            f"sends a wrong secret of {len(guess)} bytes",
            altered(_first(Init(0, secret=guess))),
            Outcome.REFUSED,
            "incorrect secret",
            options={"secret": b"s3cret"},
        )
    yield Case(
        "not-authorized",
        "slave",
        False,
        "is not who authorize() lets in",
        altered(lambda peer, script: None),
        Outcome.REFUSED,
        "not authorized",
        options={"authorize": lambda who: False},
    )
    for name in ("init", "region", "s2m", "m2s"):
        yield Case(
            f"leaves-after-{name}",
            "slave",
            False,
            f"hangs up after the ACK of {name.upper()}",
            _leave_after(name),
            Outcome.REFUSED,
            r"\(hung up\)",
        )
    for count in range(5):
        said = f"says nothing after {count} messages" if count else "connects and says nothing"
        yield Case(
            f"silent-after-{count}", "slave", False, said, _stop_after(count), Outcome.REFUSED, "handshake timed out"
        )
    yield Case(
        "does-not-wait-for-acks",
        "slave",
        False,
        "sends all its messages without waiting for answers",
        _before_hello,
        Outcome.HARMLESS,
    )
    yield Case(
        "names-without-end",
        "slave",
        False,
        "fills names to the last byte, with terminal escapes",
        altered(_names),
        Outcome.HARMLESS,
    )
    yield Case(
        "goodbye-with-escapes",
        "slave",
        True,
        "leaves with a text of terminal escapes and no end",
        _say(b"\x08\x00\xff\xff\xff\xff" + b"\x1b]0;" + b"z" * 118),
        Outcome.DISCONNECTED,
        r"\?\]0;z+",
    )
    yield Case(
        "leaves-when-up", "slave", True, "vanishes from a link that is up", _vanish, Outcome.DISCONNECTED, "hung up"
    )
    yield Case(
        "goodbye-twice",
        "slave",
        True,
        "says DISCONNECT twice",
        say_on(Disconnect(0, "bye"), 2),
        Outcome.DISCONNECTED,
        "bye",
    )


def _greets(*messages: Message | bytes) -> Callable[[HostilePeer], str | None]:
    """Return an attack that sends these right after accepting, then listens."""

    def attack(peer: HostilePeer) -> str | None:
        peer.accept()
        for message in messages:
            peer.send(message)
        return peer.farewell()

    return attack


def _instead(of: type[Message], *messages: Message | bytes) -> Callable[[HostilePeer], str | None]:
    """Return an attack that is honest until a message of type `of` comes, and answers that with these."""

    def attack(peer: HostilePeer) -> str | None:
        peer.serve(until=of)
        for message in messages:
            peer.send(message)
        return peer.farewell()

    return attack


def _hello(**changes: int) -> Hello:
    return Hello("hostile", **changes)


def _leaves(of: type[Message]) -> Callable[[HostilePeer], str | None]:
    def attack(peer: HostilePeer) -> str | None:
        peer.serve(until=of)
        assert peer.sock is not None
        peer.sock.close()
        return HUNG_UP

    return attack


_UNEXPECTED = r"unexpected message received \({}\)"

_MASTER_REFUSED: tuple[tuple[str, str, str, Callable[[HostilePeer], str | None]], ...] = (
    (
        "hello-version-1",
        "speaks version 1.0 only",
        "incompatible protocol version",
        _greets(_hello(min_version=0x0100, max_version=0x0100)),
    ),
    (
        "hello-version-3",
        "speaks version 3.0 only",
        "incompatible protocol version",
        _greets(_hello(min_version=0x0300, max_version=0x0300)),
    ),
    (
        "hello-version-empty",
        "announces a range of versions that is empty",
        "incompatible protocol version",
        _greets(_hello(min_version=0xFFFF, max_version=0)),
    ),
    (
        "hello-rings-of-one-slot",
        "allows rings of one slot only",
        "ring size out of range",
        _greets(_hello(max_log2_ring_size=0)),
    ),
    ("hello-short", "sends a HELLO of 45 bytes", "malformed message received", _greets(b"\x02\x00" + bytes(43))),
    ("hello-type-0", "starts with 128 zeros", r"unknown message type \(0x0\)", _greets(bytes(128))),
    ("ack-before-hello", "starts with ACK", _UNEXPECTED.format("ACK"), _greets(Ack())),
    ("connected-before-hello", "starts with CONNECTED", _UNEXPECTED.format("CONNECTED"), _greets(Connected())),
    ("init-from-master", "starts with INIT", _UNEXPECTED.format("INIT"), _greets(Init(0))),
    ("hello-twice", "sends HELLO twice", _UNEXPECTED.format("HELLO"), _greets(_hello(), _hello())),
    (
        "region-from-master",
        "offers a region",
        _UNEXPECTED.format("ADD_REGION"),
        _instead(AddRegion, AddRegion(0, 4096)),
    ),
    (
        "connected-too-early",
        "sends CONNECTED in answer to INIT",
        _UNEXPECTED.format("CONNECTED"),
        _instead(Init, Connected()),
    ),
    ("ack-for-connect", "answers CONNECT with ACK", _UNEXPECTED.format("ACK"), _instead(Connect, Ack())),
    ("one-ack-too-many", "acknowledges everything twice", _UNEXPECTED.format("ACK"), _instead(Init, *[Ack()] * 8)),
    ("long-answer", "answers with 4000 bytes", "malformed message received", _instead(AddRing, bytes(4000))),
)


def _shrink(peer: HostilePeer) -> str | None:
    for change in (
        lambda fd: os.ftruncate(fd, 0),
        lambda fd: os.ftruncate(fd, 1 << 40),
        lambda fd: fcntl.fcntl(fd, fcntl.F_ADD_SEALS, 0x10),
    ):
        try:
            change(peer.memory_fds[0])
        except PermissionError:
            continue
        raise AssertionError("the slave's memory is not sealed")
    return None


def _punch(peer: HostilePeer) -> str | None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate(peer.memory_fds[0], 3, ctypes.c_long(0), ctypes.c_long(len(peer.memory[0])))
    return None


def _wipe(peer: HostilePeer) -> str | None:
    peer.memory[0][:] = b"\xff" * len(peer.memory[0])
    return None


def master_cases() -> Iterator[Case]:
    """What a hostile master says, and what it does to the memory of the slave."""
    for name, about, reason, attack in _MASTER_REFUSED:
        yield Case(f"master-{name}", "master", False, about, attack, Outcome.REFUSED, reason)
    for kind in (Init, AddRegion, AddRing, Connect):
        name = kind.TYPE.name.lower().replace("_", "-")
        yield Case(
            f"master-leaves-at-{name}",
            "master",
            False,
            f"hangs up instead of answering {kind.TYPE.name}",
            _leaves(kind),
            Outcome.REFUSED,
            r"\(hung up\)",
        )
        yield Case(
            f"master-silent-at-{name}",
            "master",
            False,
            f"never answers {kind.TYPE.name}",
            _instead(kind),
            Outcome.REFUSED,
            "handshake timed out",
        )
    yield Case(
        "master-silent", "master", False, "accepts and says nothing", _greets(), Outcome.REFUSED, "handshake timed out"
    )
    yield Case(
        "master-refuses-with-escapes",
        "master",
        False,
        "refuses with a text of terminal escapes and no end",
        _greets(b"\x08\x00\xff\xff\xff\xff" + b"\x1b]0;" + b"z" * 118),
        Outcome.REFUSED,
        r"\(hung up\)",
    )
    yield Case(
        "master-hello-huge-limits",
        "master",
        False,
        "announces limits of 65535 and rings of 2**255 slots",
        lambda peer: (
            None
            if isinstance(
                peer.serve(_hello(max_region=0xFFFF, max_m2s_ring=0xFFFF, max_s2m_ring=0xFFFF, max_log2_ring_size=255)),
                Connect,
            )
            else SILENT
        ),
        Outcome.HARMLESS,
    )
    yield Case(
        "master-hello-no-limits",
        "master",
        False,
        "allows one ring of two slots and one region",
        lambda peer: (
            None
            if isinstance(
                peer.serve(_hello(max_region=0, max_m2s_ring=0, max_s2m_ring=0, max_log2_ring_size=1)), Connect
            )
            else SILENT
        ),
        Outcome.HARMLESS,
    )
    for name, about, change in (
        ("resizes-memory", "tries to shrink, grow and seal the slave's memory", _shrink),
        ("holes", "punches the slave's memory full of holes", _punch),
    ):
        yield Case(f"master-{name}", "master", True, about, change, Outcome.HARMLESS)
    yield Case(
        "master-fills-memory",
        "master",
        True,
        "fills all of the slave's memory with ones",
        _wipe,
        Outcome.DISCONNECTED,
        "peer broke the ring's indices",
    )
    yield Case(
        "master-goodbye",
        "master",
        True,
        "says DISCONNECT and stays connected",
        say_on(Disconnect(1, "go away")),
        Outcome.DISCONNECTED,
        "go away",
    )
    yield Case(
        "master-hello-when-up",
        "master",
        True,
        "sends HELLO on a link that is up",
        say_on(_hello()),
        Outcome.DISCONNECTED,
        _UNEXPECTED.format("HELLO"),
    )
