"""Two connected interfaces in one process."""

import contextlib
import itertools
import os
import select
import time
from collections.abc import Callable, Iterator
from typing import Any

from memif.config import seconds
from memif.errors import MemifTimeoutError, MemifTypeError
from memif.interface import Interface
from memif.socket import Socket

_names = itertools.count()


def unused_name() -> str:
    """Return the name of an abstract socket that nobody uses. It leaves no file."""
    return f"@memif-testing-{os.getpid()}-{next(_names)}"


@contextlib.contextmanager
def pair(
    path: str | None = None,
    *,
    master: dict[str, Any] | None = None,
    slave: dict[str, Any] | None = None,
    timeout: float = 5.0,
    **both: Any,
) -> Iterator[tuple[Interface, Interface]]:
    """Context: a connected master and slave in this process: ``with pair() as (master, slave): ...``.

    What one end sends on ``tx[0]`` the other receives on ``rx[0]``. Both are closed at the end.

    Args:
        path: Control socket. None for an abstract name of its own, which leaves no file.
        master: Options of the master.
        slave: Options of the slave.
        timeout: Seconds for the link to come up.
        **both: Options of both ends, see `Socket.interface`.

    Raises:
        MemifTimeoutError: when the link is not up in time.
        MemifError: what `Socket.interface` raises.
    """
    name = unused_name() if path is None else path
    for which, options in (("master", master), ("slave", slave)):
        if options is not None and not isinstance(options, dict):
            raise MemifTypeError.argument(which, options, "a dict of options")
    seconds("timeout", timeout, none=False)
    with Socket(name, app_name="master") as listening, Socket(name, app_name="slave") as connecting:
        server = listening.interface(role="master", **{**both, **(master or {})})
        client = connecting.interface(role="slave", **{**both, **(slave or {})})
        pump(listening, connecting, until=lambda: server.up and client.up, timeout=timeout)
        yield server, client


def pump(*sockets: Socket, until: Callable[[], object], timeout: float = 5.0) -> None:
    """Poll several sockets of this process until `until` returns something true.

    Raises:
        MemifTimeoutError: after `timeout` seconds.
    """
    deadline = time.monotonic() + (seconds("timeout", timeout, none=False) or 0.0)
    while not until():
        if time.monotonic() > deadline:
            raise MemifTimeoutError(f"it did not happen within {timeout:g} s")
        if not sum(socket.poll(0) for socket in sockets):
            select.select(sockets, [], [], 0.01)
