"""Two connected interfaces in one process, and a check that a test leaves no descriptors, memory or threads behind."""

import contextlib
import gc
import itertools
import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

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
            raise MemifTimeoutError(f"the condition was not met within {timeout:g} s")
        if not sum(socket.poll(0) for socket in sockets):
            select.select(sockets, [], [], 0.01)


class Resources(NamedTuple):
    """What a process can leak, each kind as a set of lines of text.

    Attributes:
        descriptors: Open descriptors.
        mappings: Mapped shared memory.
        threads: Threads of Python.
    """

    descriptors: frozenset[str]
    mappings: frozenset[str]
    threads: frozenset[str]

    @classmethod
    def now(cls) -> "Resources":
        """Return what this process has now."""
        threads = frozenset(f"{thread.name} ({thread.ident})" for thread in threading.enumerate())
        return cls(frozenset(_descriptors()), frozenset(_mappings()), threads)

    def beyond(self, before: "Resources") -> list[str]:
        """Return lines that name what is here now and was not there `before`."""
        kinds = ("descriptor", "mapping", "thread")
        pairs = zip(kinds, self, before, strict=True)
        return [f"{kind} {line}" for kind, here, there in pairs for line in sorted(here - there)]


def _descriptors() -> Iterator[str]:
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the directory's own descriptor is gone by now
            yield f"{name} -> {os.readlink(f'/proc/self/fd/{name}')}"


def _mappings() -> Iterator[str]:
    with open("/proc/self/maps") as maps:
        for line in maps:
            if "/memfd:" in line or "anon_hugepage" in line:
                yield line.strip()


@contextlib.contextmanager
def leak_check(grace: float = 1.0) -> Iterator[None]:
    """Context: fail if there are more descriptors, shared memory or threads at its end than at its start.

    An exception inside passes through without a check, because its traceback keeps objects alive. One thread at a time:
    it looks at the whole process.

    Args:
        grace: Seconds to wait for what is going away at that moment.

    Raises:
        AssertionError: when something was left behind.
    """
    gc.collect()
    before = Resources.now()
    yield
    left = leaked(before, grace)
    if left:
        raise AssertionError("leaked:\n  " + "\n  ".join(left))


def leaked(before: Resources, grace: float = 1.0) -> list[str]:
    """Return what is here now and was not there `before`, after at most `grace` seconds of waiting for it to go."""
    deadline = time.monotonic() + grace
    while True:
        gc.collect()
        left = Resources.now().beyond(before)
        if not left or time.monotonic() >= deadline:
            return left
        time.sleep(0.02)
