"""Waiting for a link: for whom, why it is not there yet, who it is then. The same words in all tools."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from memif.errors import (
    ErrorCode,
    MemifError,
    MemifFileNotFoundError,
    MemifRefusedError,
    MemifStateError,
    MemifTimeoutError,
)
from memif.interface import Interface
from memif.tools.screen import say
from memif.tools.terminal import Stop

#: Seconds until a slave's wait is worth a line.
_SOON = 0.5
_STEP = 0.1


class Waiting:
    """Says for whom an interface waits, who came, and why they left: call `tick` while it runs. One thread.

    Attributes:
        name: Put in front of each line, for a tool with several interfaces; may be empty.
        links: How many peers have come.
        peer: The last of them.
    """

    name: str
    links: int
    peer: str

    def __init__(self, interface: Interface, name: str = "") -> None:
        self.name = f"{name}: " if name else ""
        self._interface = interface
        self.links, self.peer = 0, "a peer that left at once"
        self._up = False
        self._begin()

    def _begin(self) -> None:
        self._since, self._told = time.monotonic(), ""

    def tick(self) -> None:
        """Say what has changed since the last call."""
        if self._interface.up:
            if not self._up:
                self._up = True
                self.links += 1
                self._came()
            return
        self.lost()
        if self._interface.role == "master" or time.monotonic() - self._since >= _SOON:
            self._waits()

    def lost(self) -> None:
        """The link has ended, whether or not there is another one by now: say why."""
        if self._up:
            self._up = False
            say(f"{self.name}disconnected: {self._interface.disconnect_reason}")
            self._begin()

    def _came(self) -> None:
        if (peer := self._interface.peer) is not None:
            self.peer = f"{peer.name or 'a peer without a name'} ({peer.app_name})"
            say(f"{self.name}connected to {self.peer}")

    def _waits(self) -> None:
        if (text := waits_for(self._interface)) != self._told:
            self._told = text
            say(self.name + text)


def waits_for(interface: Interface) -> str:
    """Say for whom an interface waits, where, and what is in the way."""
    where = f"{interface.socket.address}, id {interface.id}"
    if interface.role == "master":
        return f"listening on {where}, as master: {why_down(interface)}"
    return f"waiting for a master on {where}: {why_down(interface)}"


def why_down(interface: Interface) -> str:
    """Say why the link of an interface is down, and what to do."""
    if interface.role == "master":
        return "waiting for the next slave" if interface.stats["connects"] else "waiting for a slave"
    error, _ = obstacle(interface)
    if error is None:
        return "it does not answer"
    if isinstance(error, MemifFileNotFoundError):
        return "no such socket yet: one side needs --role master"
    if isinstance(error, MemifRefusedError) and error.code is ErrorCode.CONNREFUSED and not error.reason:
        return "nobody listens: one side needs --role master"
    return str(error).removeprefix(f"{interface.socket.address}: ")


def obstacle(interface: Interface) -> tuple[MemifError | None, bool]:
    """Return what keeps a link down, None if that is not known, and whether there is hope for another attempt."""
    try:
        interface.wait_up(0)
    except MemifTimeoutError as error:
        cause = error.__cause__
        return (cause if isinstance(cause, MemifError) else None), True
    except MemifError as error:
        return error, False
    return None, True


@contextmanager
def in_own_words() -> Iterator[None]:
    """Context in which the library does not log failed attempts of a slave, since `Waiting` says them."""
    log = logging.getLogger("memif.interface")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def come_up(interface: Interface, timeout: float, waiting: Waiting, stop: Stop | None = None) -> bool:
    """Wait until the link is up and can take packets: a slave hands out its buffers only after it is up.

    Args:
        interface: The interface.
        timeout: Seconds.
        waiting: Says what is waited for.
        stop: Ends it early.

    Returns:
        False when `stop` was set.

    Raises:
        MemifTimeoutError: The link did not come up in time.
        MemifError: Something that waiting does not change: see `Interface.wait_up`.
        MemifStateError: The link has no transmit queues, which both ends are free to choose.
    """
    deadline = time.monotonic() + timeout
    with in_own_words():
        while not interface.up:
            if stop:
                return False
            error, hope = obstacle(interface)
            if error is not None and not hope:
                raise error
            if (left := deadline - time.monotonic()) <= 0:
                raise MemifTimeoutError(f"gave up after {timeout:g} s {waits_for(interface)}") from error
            waiting.tick()
            interface.socket.poll(min(left, _STEP))
        with suppress(MemifError):
            interface.wait_up(_STEP)  # until a slave has offered buffers
    if not interface.tx:
        raise MemifStateError("this link has no queue to send on", code=ErrorCode.QID)
    for queue in interface.tx:
        queue.wait_free(1, 1.0)
    waiting.tick()
    return True
