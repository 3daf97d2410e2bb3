"""The exceptions with cause and cure, and the C library's numbers."""

import inspect

from memif import errors
from memif.errors import ErrorCode, MemifError
from text import first_paragraph, table

#: What to do about each. A class without a line here breaks the build.
CURES = {
    "MemifError": "Base of all errors of this package; `code` and `str()` say what happened.",
    "MemifValueError": "Correct the argument that the message names; it also says what is allowed.",
    "MemifTypeError": "As for `MemifValueError`.",
    "MemifQueueError": "Check `len(iface.rx)` and `len(iface.tx)`: the slave decides how many queues a link has.",
    "MemifStateError": "Use the object in the order its documentation gives, a queue or burst in one thread at a time.",
    "MemifClosedError": "Open a new object; a closed one stays closed.",
    "MemifBufferError": "Release bursts that you no longer need; to send, wait with `wait_free`. Then call again.",
    "MemifCancelledError": "Not an error: another thread called `cancel_poll`.",
    "MemifMemoryError": "Use fewer or smaller rings and buffers, raise the limits of the process or container "
    "(memory, `/dev/shm`, hugepages).",
    "MemifOSError": "See `errno`. EADDRINUSE: another program listens there. EMFILE: raise `ulimit -n`.",
    "MemifPermissionError": "Join the group that owns the socket, or have the master set the socket's mode and owner; "
    "see [permissions](../howto/kubernetes.md).",
    "MemifFileNotFoundError": "Start the master first, or wait for it (`timeout`); a listener needs the directory to "
    "exist.",
    "MemifTimeoutError": "The message and `__cause__` name the last failure: nobody listens, the id is unknown, "
    "the master has no client.",
    "MemifConnectionError": "Call `wait_up` and go on. What the peer sent before it left can be received first.",
    "MemifDisconnectedError": "Call `wait_up` and go on: a slave connects again by itself. `disconnect_reason` "
    "has the peer's text.",
    "MemifRefusedError": "`reason` has the peer's text. Use the same id, secret and mode at both ends.",
    "MemifPeerError": "The peer is broken or hostile. Report it to its author; the link comes up again if it behaves.",
    "MemifProtocolError": "As for `MemifPeerError`; `memif decode` explains the messages.",
}


def classes() -> list[type[MemifError]]:
    """All exceptions, in the order of the module."""
    found = [c for c in vars(errors).values() if inspect.isclass(c) and issubclass(c, MemifError)]
    return sorted(found, key=lambda c: inspect.getsourcelines(c)[1])


def _who(kind: type[MemifError]) -> str:
    """The exception, what it is as well, and the usual code."""
    also = ", ".join(f"`{base.__name__}`" for base in kind.__bases__ if base is not MemifError)
    return f"{{py:exc}}`~memif.errors.{kind.__name__}`<br>is {also or '`MemifError`'}<br>{kind.default_code.name}"


def exceptions() -> str:
    """One row a class. KeyError for a class without a cure."""
    rows = [(_who(k), first_paragraph(k.__doc__), CURES[k.__name__]) for k in classes()]
    return table(("exception, usual code", "cause", "cure"), rows)


def codes() -> str:
    """All numbers with their messages."""
    rows = [(int(code), f"`{code.name}`", errors.error_text(code)) for code in ErrorCode]
    return table(("number", "`memif.ErrorCode`", "message of `memif_strerror`"), rows)
