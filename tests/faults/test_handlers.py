"""A signal handler that closes everything, at any line of any call: all is closed once, nothing of others' touched."""

import contextlib
import errno
import linecache
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import memif
from ends import all_up
from patience import within

HOME = str(Path(memif.__file__).parent)
Sockets = tuple[memif.Socket, memif.Socket]
SPARE = 8


def both(path: str) -> Sockets:
    listening, connecting = memif.Socket(path), memif.Socket(path)
    all_up(listening.interface(role="master"), connecting.interface(role="slave"))
    return listening, connecting


def close(sockets: Sockets) -> None:
    for sock in sockets:
        sock.close()


def of_interfaces(sockets: Sockets) -> None:
    for sock in sockets:
        for iface in sock.interfaces:
            iface.close()
        sock.close()


def polled(sockets: Sockets) -> None:
    for sock in sockets:
        sock.cancel_poll()
        sock.poll(0)
        sock.poll(0)


def disconnected(sockets: Sockets) -> None:
    sockets[1].interfaces[0].disconnect("again")
    polled(sockets)


def received(sockets: Sockets) -> None:
    sockets[1].interfaces[0].tx[0].send([b"x" * 60])
    sockets[0].interfaces[0].rx[0].recv(timeout=0.0)


def added(sockets: Sockets) -> None:
    sockets[0].interface(role="master", id=1)
    sockets[0].poll(0)


@contextlib.contextmanager
def interrupted_at(line: int, number: signal.Signals) -> Iterator[Callable[[], bool]]:
    """Send the signal before the `line`-th line of the package that runs in the context. -> whether it was sent"""
    left = line

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal left
        if not frame.f_code.co_filename.startswith(HOME):
            return None
        if event == "line" and linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip():
            left -= 1
            if left == 0:
                sys.settrace(None)
                signal.raise_signal(number)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield lambda: left <= 0
    finally:
        sys.settrace(before)


@pytest.mark.parametrize("call", [close, of_interfaces, polled, disconnected, received, added])
def test_a_handler_that_closes(socket_path: str, call: Callable[[Sockets], None]) -> None:
    others: list[int] = []
    sockets = both(socket_path)

    def handler(number: int, frame: FrameType | None) -> None:
        close(sockets)
        # These get the numbers that became free.
        others.extend(os.eventfd(0, os.EFD_NONBLOCK) for _ in range(SPARE))

    before = signal.signal(signal.SIGUSR1, handler)
    step, line, sent = random.Random(call.__name__), 1, True
    deadline = time.monotonic() + within(6)
    try:
        while sent and time.monotonic() < deadline:
            with interrupted_at(line, signal.SIGUSR1) as was_sent:
                try:
                    call(sockets)
                except (memif.MemifError, IndexError):  # of closed ones; no interfaces left to ask
                    assert call not in (close, of_interfaces)
                sent = was_sent()
            check(others)
            close(sockets)
            assert not os.path.lexists(socket_path)
            sockets = both(socket_path)
            line += step.randint(1, 3)
        assert line > 3
    finally:
        signal.signal(signal.SIGUSR1, before)
        close(sockets)


def check(others: list[int]) -> None:
    """Nobody wrote to them or closed them."""
    while others:
        fd = others.pop()
        with pytest.raises(BlockingIOError):
            os.eventfd_read(fd)
        os.close(fd)


@pytest.mark.parametrize("count", [300])
def test_a_timer_whose_handler_closes(socket_path: str, count: int) -> None:
    sockets = both(socket_path)
    before = signal.signal(signal.SIGALRM, lambda *_: close(sockets))
    try:
        deadline = time.monotonic() + within(3)
        for _ in range(count):
            signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 4e-4))
            close(sockets)
            signal.setitimer(signal.ITIMER_REAL, 0)
            sockets = both(socket_path)
            if time.monotonic() > deadline:
                break
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        close(sockets)
    with pytest.raises(OSError) as caught:
        os.fstat(sockets[0]._engine.poller._wake)
    assert caught.value.errno == errno.EBADF
