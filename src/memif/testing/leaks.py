"""A check that nothing was left behind: descriptors, shared memory, threads."""

import contextlib
import gc
import os
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple


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
