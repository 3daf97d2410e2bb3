"""Accepting clients when there are more of them than one wants, or no descriptors left for them.

Half-open clients, those in their handshake, are limited in number. When one more comes, room is made by dropping the
oldest of the process that has most of them, as the kernel names it: so a crowd of one hostile process pushes out only
itself, and a client that means it, which needs milliseconds, gets through.

Without a free descriptor the kernel keeps a client waiting and the listener readable, which would keep every event loop
awake for nothing. One descriptor is held back for this: it makes room to accept the client and to hang up on it.
"""

import contextlib
import errno
import logging
import socket
import time
from collections import Counter
from collections.abc import Collection, Iterable

from memif.control import transport
from memif.control.connection import Connection
from memif.logs import get_logger
from memif.protocol.wire import MAX_RING
from memif.system._steady import Descriptor, accept, eventfd

_log = get_logger("memif.socket")
_OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)


class Gate:
    """The listener's accept, with a descriptor held back. Use from one thread at a time."""

    def __init__(self) -> None:
        self._spare: Descriptor | None = None
        self._told = False
        self._hold_back()

    def _hold_back(self) -> None:
        with contextlib.suppress(OSError):
            self._spare = eventfd()

    def accept(self, listener: socket.socket) -> socket.SocketType | None:
        """Return the next client, non-blocking; None when none waits. Raises `OSError` after hanging up on one for lack
        of descriptors, or for a failure of another kind."""
        try:
            client = accept(listener.fileno())
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno in _OUT_OF_DESCRIPTORS:
                self._turn_away(listener)
                self._tell(error)
            raise
        self._told = False
        if self._spare is None:
            self._hold_back()
        return client

    def _turn_away(self, listener: socket.socket) -> None:
        self.close()
        with contextlib.suppress(OSError):
            transport.hang_up(accept(listener.fileno()))
        self._hold_back()

    def _tell(self, error: OSError) -> None:
        """Once, not for each client of a crowd."""
        if not self._told:
            self._told = True
            _log.error("clients are turned away: %s", error)

    def close(self) -> None:
        """Give the held-back descriptor up."""
        if self._spare is not None:
            self._spare.close()
            self._spare = None


class Seldom:
    """The level to log one of many like events at: a warning once a second, so that a crowd does not fill the disk."""

    def __init__(self) -> None:
        self._warned = -1e9

    def level(self) -> int:
        """`logging.WARNING`, or `logging.DEBUG` within a second of the last warning."""
        now = time.monotonic()
        if now - self._warned < 1.0:
            return logging.DEBUG
        self._warned = now
        return logging.WARNING


def whom_to_drop(half_open: Collection[Connection]) -> Connection:
    """Return the client that makes room for another: the oldest one of the process that has most of them."""
    crowd = Counter(client.credentials.pid for client in half_open)
    return max(half_open, key=lambda client: (crowd[client.credentials.pid], -(client.handshake.deadline or 0.0)))


def widest(limits: Iterable[int | None]) -> int:
    """Return the rings that HELLO announces for all interfaces together: the protocol's limit when one has none."""
    return max([1, *(MAX_RING + 1 if limit is None else limit for limit in limits)])
