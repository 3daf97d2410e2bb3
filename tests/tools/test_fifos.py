"""Verbs that write to a FIFO, and what ends them there: a signal in every phase, and a reader that goes."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import memif as library
from patience import within
from tools.frames import numbered
from tools.process import Running, running

VERBS = ["capture", "bridge", "sniff"]


@contextmanager
def writing(verb: str, path: str, fifo: Path) -> Iterator[Running]:
    """Context: the verb, writing to `fifo`."""
    words = {
        "capture": ("--role", "master", "--socket", path),
        "bridge": (f"memif:{path},role=master", f"memif:{path}2,role=master"),
        "sniff": (path, path + "2"),
    }
    with running(verb, "-w", fifo, *words[verb]) as tool:
        yield tool


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    """A new one."""
    os.mkfifo(tmp_path / "fifo")
    return tmp_path / "fifo"


def until_listening(tool: Running, path: str) -> None:
    """Wait for the control socket."""
    deadline = time.monotonic() + within(30)
    while not os.path.exists(path):
        assert tool.process.poll() is None, tool.err
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("verb", VERBS)
def test_a_signal_before_anybody_reads(socket_path: str, fifo: Path, verb: str, number: signal.Signals) -> None:
    """It ends at once."""
    with writing(verb, socket_path, fifo) as tool:
        time.sleep(3.0)
        assert tool.process.poll() is None
        end = tool.stop(number, timeout=10)
    assert end.code != 0
    assert "Traceback" not in end.err


@pytest.mark.parametrize("verb", VERBS)
def test_the_reader_goes_while_nothing_happens(socket_path: str, fifo: Path, verb: str) -> None:
    """Without any packet to write, it is noticed."""
    with writing(verb, socket_path, fifo) as tool:
        with open(fifo, "rb"):
            until_listening(tool, socket_path)
            time.sleep(0.5)
            assert tool.process.poll() is None
        end = tool.ended(15)
    assert end.code == 1
    assert len([line for line in end.err.splitlines() if "reader of the pipe has gone" in line]) == 1
    assert "Traceback" not in end.err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("verb", ["capture", "bridge"])
def test_a_signal_while_the_reader_is_stuck(socket_path: str, fifo: Path, verb: str, number: signal.Signals) -> None:
    """The pipe is full, and stays so."""
    with writing(verb, socket_path, fifo) as tool, open(fifo, "rb"):
        until_listening(tool, socket_path)
        with library.connect(socket_path, timeout=30) as iface:
            deadline, moved, frames = time.monotonic() + 30, time.monotonic(), numbered(256)
            while time.monotonic() - moved < 2.0:
                if iface.tx[0].send(frames):
                    moved = time.monotonic()
                assert moved < deadline
                time.sleep(0.005)
            end = tool.stop(number, timeout=15)
    assert end.code == 1
    assert "its reader has stopped reading" in end.err
    assert "Traceback" not in end.err


def test_the_time_is_over_before_anybody_reads(fifo: Path) -> None:
    """--duration counts from the start."""
    with running("capture", "--role", "master", "--socket", "@fifo-d", "-w", fifo, "--duration", "0.5") as tool:
        end = tool.ended(20)
    assert end.code == 1
    assert "nobody has opened it for reading" in end.err
