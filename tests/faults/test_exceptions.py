"""An exception at any moment (a signal handler that raises, Ctrl-C that is caught) breaks off one call, no more."""

import contextlib
import copy
import gc
import linecache
import logging
import os
import pickle
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
from ends import linked, pump
from patience import within

HOME = str(Path(memif.__file__).parent)


class Stop(BaseException):
    """Not an Exception: nothing in the package may catch it on the way."""


class Pair:
    """A master and a slave that find each other again quickly."""

    def __init__(self, path: str, events: list[str]) -> None:
        self.sockets = (memif.Socket(path), memif.Socket(path))
        on = {name: lambda iface, name=name: events.append(f"{name} {iface.role}") for name in ("on_connect",)}
        self.master = self.sockets[0].interface(role="master", **on)
        self.slave = self.sockets[1].interface(ring_size=16, reconnect=0.005, **on)
        self.settle()

    def settle(self) -> None:
        """Both are up; AssertionError when they cannot."""
        pump(*self.sockets, until=lambda: self.master.up and self.slave.up)

    def round(self, end: memif.Interface) -> None:
        """Take the link down from one end; it comes up again."""
        end.disconnect("again")
        for _ in range(20):
            for sock in self.sockets:
                sock.poll(0)
            if self.master.up and self.slave.up:
                return
            time.sleep(0.001)

    def works(self) -> None:
        """Packets pass both ways."""
        self.settle()
        for sender, receiver in ((self.master, self.slave), (self.slave, self.master)):
            pump(*self.sockets, until=lambda sender=sender: sender.tx[0].send([b"x" * 60]))
            assert receiver.rx[0].recv(timeout=1.0).tobytes() == [b"x" * 60]

    def close(self) -> None:
        """The end."""
        for sock in self.sockets:
            sock.close()


@pytest.fixture
def pair(socket_path: str) -> Iterator[Pair]:
    logging.disable(logging.CRITICAL)
    one = Pair(socket_path, [])
    yield one
    one.close()
    logging.disable(logging.NOTSET)


def descriptors() -> list[str]:
    """What they are, sorted; numbers change."""
    gc.collect()
    names = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    return sorted(os.readlink(name).split(":[")[0] for name in names if os.path.lexists(name))


@contextlib.contextmanager
def stop_at(line: int) -> Iterator[None]:
    """Raise at the `line`-th line of the package that runs in the context."""
    left = line

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal left
        if not frame.f_code.co_filename.startswith(HOME) or "ring" in frame.f_code.co_filename:
            return None
        # A tracer gets to see "with" again before its exit, where no signal handler runs.
        text = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
        if event == "line" and not text.lstrip().startswith("with "):
            left -= 1
            if not left:
                sys.settrace(None)
                raise Stop
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


@pytest.mark.parametrize("end", ["master", "slave"])
def test_at_each_line(pair: Pair, end: str) -> None:
    """Of a disconnect and the reconnect after it."""
    before, hits, line, past = descriptors(), 0, 1, 0
    deadline = time.monotonic() + 30
    step = random.Random(end)
    while time.monotonic() < deadline and past < 5:
        try:
            with stop_at(line):
                pair.round(getattr(pair, end))
            past += 1  # its last line; how many there are varies
        except Stop:
            hits += 1
        pair.settle()
        line += step.randint(1, 12)
    assert hits > 50
    pair.works()
    assert descriptors() == before


def test_from_a_signal_handler(pair: Pair) -> None:
    """Also between a system call and the line's end."""

    def stop(*_: object) -> None:
        raise Stop

    before, handler, rnd, hits = descriptors(), signal.signal(signal.SIGALRM, stop), random.Random(1), 0
    deadline = time.monotonic() + 3.0
    try:
        while time.monotonic() < deadline:
            try:
                signal.setitimer(signal.ITIMER_REAL, rnd.uniform(2e-5, 3e-3))
                pair.round(rnd.choice([pair.master, pair.slave]))
            except Stop:
                hits += 1
            finally:
                while True:
                    try:
                        signal.setitimer(signal.ITIMER_REAL, 0)
                        break
                    except Stop:
                        hits += 1
            pair.settle()
    finally:
        signal.signal(signal.SIGALRM, handler)
    assert hits > 10
    pair.works()
    assert descriptors() == before


@pytest.mark.parametrize("what", ["close", "socket"])
def test_closing_is_finished_by_the_second_call(socket_path: str, what: str) -> None:
    """Wherever the first one was broken off. The leak check of every test sees to the rest."""
    logging.disable(logging.CRITICAL)
    line, done = 1, False
    while not done:
        pair = Pair(socket_path, [])
        end: Callable[[], None] = pair.master.close if what == "close" else pair.sockets[0].close
        try:
            with stop_at(line):
                end()
            done = True
        except Stop:
            pass
        end()
        assert pair.master.closed
        assert not os.path.exists(socket_path)
        pump(pair.sockets[1], until=lambda pair=pair: not pair.slave.up)
        pair.close()
        line += 9
    logging.disable(logging.NOTSET)
    assert line > 30


def test_poll_inside_of_on_interrupt(socket_path: str) -> None:
    """Handles what else there is, keeps its timeout, and does not call on_interrupt again."""
    depth, deepest, calls = 0, 0, 0

    def called(iface: memif.Interface, qid: int) -> None:
        nonlocal depth, deepest, calls
        depth, calls = depth + 1, calls + 1
        deepest = max(deepest, depth)
        start = time.monotonic()
        iface.socket.poll(0)
        iface.socket.poll(0.05)
        assert time.monotonic() - start < within(2.0)
        iface.rx[qid].recv(timeout=0).release()
        depth -= 1

    with memif.Socket(socket_path) as one, memif.Socket(socket_path) as other:
        master = one.interface(role="master", on_interrupt=called)
        slave = other.interface()
        pump(one, other, until=lambda: master.up and slave.up)
        slave.tx[0].send([b"x"])
        pump(one, other, until=lambda: calls)
        slave.tx[0].send([b"x"])
        pump(one, other, until=lambda: calls > 1)
    assert deepest == 1


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, pickle.dumps])
def test_no_copies(socket_path: str, how: Callable[[object], object]) -> None:
    """A copy would close the descriptors of the original."""
    with linked(socket_path) as (master, slave):
        for thing in (master, master.socket, master.rx[0], master.tx[0], master.rx[0].ring):
            with pytest.raises(TypeError, match="cannot"):
                how(thing)
        slave.tx[0].send([b"x"])
        assert len(master.rx[0].recv(timeout=1.0)) == 1
