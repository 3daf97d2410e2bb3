"""What people see: the tools on a terminal of 80 columns."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from patience import within
from tools.process import master, running, words

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A tool on a pseudo-terminal of 80 by 24."""

    def __init__(self, *args: object) -> None:
        self._fd, child = pty.openpty()
        fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80"}
        self.process = subprocess.Popen(
            words(*args), stdin=child, stdout=child, stderr=child, env=environment, start_new_session=True
        )
        os.close(child)
        self.raw = ""

    def read(self, duration: float) -> None:
        """Read for so many seconds."""
        deadline = time.monotonic() + duration
        while (left := deadline - time.monotonic()) > 0:
            if not select.select([self._fd], [], [], left)[0]:
                continue
            try:
                self.raw += os.read(self._fd, 65536).decode(errors="replace")
            except OSError:  # the tool has ended
                return

    def until(self, text: str) -> None:
        """Read until it has printed `text`."""
        deadline = time.monotonic() + within(40)
        while text not in self.raw:
            assert time.monotonic() < deadline, self.raw
            self.read(0.1)

    @property
    def lines(self) -> list[str]:
        """All lines, without what positions and colours them."""
        return [line.rstrip() for line in re.split(r"[\r\n]+", _ESCAPE.sub("", self.raw))]

    def close(self) -> None:
        """End it."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._fd)


@contextmanager
def terminal(*args: object) -> Iterator[Terminal]:
    """Context: a tool on a terminal."""
    tool = Terminal(*args)
    try:
        yield tool
    finally:
        tool.close()


def test_show_draws_one_picture_again_and_again(socket_path: str) -> None:
    with terminal("show", "--role", "master", "--socket", socket_path, "--interval", 0.2) as tool:
        tool.until("link")
        with running("send", "--socket", socket_path, "--rate", "5k", "--timeout", 30):
            tool.until("rx 0")
            tool.read(1.0)
        tool.process.terminate()
        tool.read(1.0)
    assert "\x1b[" in tool.raw
    assert max(map(len, tool.lines)) <= 80
    assert any(line.startswith("rate") and "pps" in line and set("▁▂▃▄▅▆▇█") & set(line) for line in tool.lines)
    assert any(re.match(r" ?queue +slots +used", line) for line in tool.lines)
    assert any(line.startswith("peer") and "send" in line for line in tool.lines)


@pytest.mark.parametrize("verb", ["send", "sink"])
def test_progress_fits_the_line_and_gives_way_to_the_summary(socket_path: str, verb: str) -> None:
    if verb == "sink":
        with terminal("sink", "--role", "master", "--socket", socket_path, "--duration", 3, "--interval", 0.2) as tool:
            tool.until("sink")
            with running("send", "--socket", socket_path, "--duration", 1, "--timeout", 30) as send:
                send.ended()
            tool.until("received in")
    else:
        with (
            master(socket_path, "sink"),
            terminal("send", "--socket", socket_path, "--duration", 1.5, "--interval", 0.2) as tool,
        ):
            tool.until("sent in")
    assert max(map(len, tool.lines)) <= 80
    assert any(line.startswith(verb) and "pps" in line and "bit/s" in line for line in tool.lines)


def test_a_capture_is_not_written_to_a_terminal(socket_path: str) -> None:
    with terminal("capture", "--role", "master", "--socket", socket_path, "-w", "-") as tool:
        tool.until("not for a terminal")
        assert tool.process.wait(10) == 2
