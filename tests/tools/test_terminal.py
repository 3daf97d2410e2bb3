"""What people see: the tools on terminals of several widths, with other encodings, and when the terminal goes away."""

import fcntl
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import memif as library
from ends import send_all
from patience import within
from peers.settings import missing
from tools.frames import numbered, pcap
from tools.process import master, memif, running, words

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_UTF8 = {"LANG": "C.UTF-8", "LC_ALL": ""}


class Terminal:
    """A tool on a pseudo-terminal."""

    def __init__(self, *args: object, width: int = 80, **environment: str) -> None:
        self._fd, child = pty.openpty()
        fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
        env = {**os.environ, "TERM": "xterm-256color", **_UTF8, **environment}
        env.pop("COLUMNS", None)
        self.process = subprocess.Popen(
            words(*args), stdin=child, stdout=child, stderr=child, env=env, preexec_fn=_take_terminal
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

    def hang_up(self) -> None:
        """Close the window."""
        os.close(self._fd)
        self._fd = -1

    def close(self) -> None:
        """End it."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self._fd >= 0:
            self.hang_up()


def _take_terminal() -> None:
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@contextmanager
def terminal(*args: object, width: int = 80, **environment: str) -> Iterator[Terminal]:
    """Context: a tool on a terminal."""
    tool = Terminal(*args, width=width, **environment)
    try:
        yield tool
    finally:
        tool.close()


@pytest.mark.parametrize("width", [60, 80, 120])
def test_show_draws_one_picture_again_and_again(socket_path: str, width: int) -> None:
    with terminal("show", "--role", "master", "--socket", socket_path, "--interval", 0.2, width=width) as tool:
        tool.until("link")
        with running("send", "--socket", socket_path, "--rate", "5k", "--timeout", 30):
            tool.until("rx 0")
            tool.read(1.0)
        tool.until("last end")
        tool.read(0.5)
        tool.process.terminate()
        tool.read(1.0)
    assert "\x1b[" in tool.raw
    assert max(map(len, tool.lines)) <= width
    assert "…" not in tool.raw
    assert any(line.startswith("rate") and "pps" in line and set("▁▂▃▄▅▆▇█") & set(line) for line in tool.lines)
    heading = next(line.split() for line in tool.lines if line.split()[:1] == ["queue"])
    assert heading[-1] == "drops"
    assert ("slots" in heading) == (width >= 80)
    assert {"packets", "pps", "bit/s"} <= set(heading)
    assert any(line.startswith("peer") and "send" in line for line in tool.lines)
    # The link has ended, the counters are still there.
    last = [line.split() for line in tool.lines if line.split()[:2] == ["rx", "0"]][-1]
    assert "-" in last
    assert last[1 + heading.index("packets")] != "0"


@pytest.mark.parametrize("width", [60, 80])
@pytest.mark.parametrize("verb", ["send", "sink"])
def test_lines_of_intervals_fit(socket_path: str, verb: str, width: int) -> None:
    if verb == "sink":
        words = ("sink", "--role", "master", "--socket", socket_path, "-t", 3, "-i", 0.2)
        with terminal(*words, width=width) as tool:
            tool.until("listening")
            with running("send", "--socket", socket_path, "-t", 1, "--timeout", 30) as send:
                send.ended()
            tool.until("received in")
    else:
        words = ("send", "--socket", socket_path, "-t", 1.5, "-i", 0.2)
        with master(socket_path, "sink"), terminal(*words, width=width) as tool:
            tool.until("sent in")
    rows = [line for line in tool.lines if re.match(r" +\d+\.\d\d-\d+\.\d\d s ", line)]
    assert len(rows) >= 3
    assert max(map(len, rows)) <= width
    assert all("pps" in row and "bit/s" in row and row.endswith("(0%)") for row in rows)
    assert any("Transfer" in line for line in tool.lines) == (width >= 80)


@pytest.mark.parametrize("width", [40, 60, 80])
def test_progress_fits_the_line_and_gives_way_to_the_summary(socket_path: str, tmp_path: Path, width: int) -> None:
    (tmp_path / "x.pcap").write_bytes(pcap(numbered(500)))
    words = ("replay", "--socket", socket_path, "--pps", 2000, "-l", 4, "--interval", 0.1, tmp_path / "x.pcap")
    with master(socket_path, "sink"), terminal(*words, width=width) as tool:
        tool.until("sent in")
    rows = [line for line in tool.lines if "pps" in line and "bit/s" in line][:-1]
    assert len(rows) >= 3
    assert max(map(len, rows)) <= width
    assert any(line.startswith("replay") for line in rows) == (width >= 60)


def test_messages_do_not_tear_the_picture(socket_path: str) -> None:
    """On a real terminal: a warning of the library stands above the picture, which says the same."""
    if shutil.which("tmux") is None:
        missing("tmux is missing: apt-get install tmux")
    tmux = ("tmux", "-L", f"memif-{os.getpid()}", "-f", os.devnull)
    options = ("--role", "master", "--socket", socket_path, "--secret", "s3cret", "--interval", 0.1)
    line = " ".join(words("show", *options))

    def screen() -> list[str]:
        done = subprocess.run([*tmux, "capture-pane", "-p"], capture_output=True, text=True, check=True, timeout=20)
        return [row.rstrip() for row in done.stdout.splitlines()]

    environment = {**os.environ, **_UTF8}
    size = ("-x", "100", "-y", "24")
    subprocess.run([*tmux, "new-session", "-d", *size, line], check=True, timeout=20, env=environment)
    try:
        deadline = time.monotonic() + within(20)
        while not any(row.startswith("connects") for row in screen()):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        with pytest.raises(library.MemifError, match="secret"):
            library.connect(socket_path, secret=b"wrong", timeout=10)
        while not any("refused 1, last: incorrect secret" in row for row in screen()):
            assert time.monotonic() < deadline, screen()
            time.sleep(0.1)
        time.sleep(0.5)
        rows = screen()
    finally:
        subprocess.run([*tmux, "kill-server"], check=False, timeout=20)
    picture = next(i for i, row in enumerate(rows) if row.startswith("interface"))
    assert [row.split()[0] for row in rows[picture : picture + 5]] == [
        "interface",
        "socket",
        "link",
        "connects",
        "rate",
    ]
    assert sum(row.startswith("interface") for row in rows) == 1
    assert any("client refused: incorrect secret" in row for row in rows[:picture])
    assert not any(rows[picture + 5 :])


def test_a_capture_is_not_written_to_a_terminal(socket_path: str) -> None:
    with terminal("capture", "--role", "master", "--socket", socket_path, "-w", "-") as tool:
        tool.until("not for a terminal")
        assert tool.process.wait(10) == 2


@pytest.mark.parametrize("how", ["window", "signal"])
def test_the_terminal_goes_away(socket_path: str, tmp_path: Path, how: str) -> None:
    """As with SIGTERM the file is complete."""
    file = tmp_path / "x.pcapng"
    with terminal("capture", "--role", "master", "--socket", socket_path, "-w", file, "--interval", 0.1) as tool:
        tool.until("listening")
        with library.connect(socket_path, timeout=20) as iface:
            send_all(iface.tx[0], numbered(50))
            tool.until("50 packets")
            tool.hang_up() if how == "window" else tool.process.send_signal(signal.SIGHUP)
            code = tool.process.wait(within(20))
    from memif.capture import CaptureReader

    assert code == (1 if how == "window" else 0)
    with CaptureReader(file, strict=True) as reader:
        assert len(list(reader)) == 50


def test_nohup_is_heeded(socket_path: str) -> None:
    tool = subprocess.Popen(
        ["nohup", *words("sink", "--role", "master", "--socket", socket_path, "-t", 60)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert tool.stdout is not None
        while "listening" not in (line := tool.stdout.readline()):
            assert line
        tool.send_signal(signal.SIGHUP)
        with library.connect(socket_path, timeout=20):
            assert tool.poll() is None
        tool.send_signal(signal.SIGTERM)
        assert "0 packets" in tool.communicate(timeout=within(20))[0]
    finally:
        tool.kill()
        tool.wait()


@pytest.mark.parametrize(
    "environment", [{"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"}]
)
def test_without_utf_8_there_is_ascii(socket_path: str, environment: dict[str, str]) -> None:
    show = terminal("show", "--role", "master", "--socket", socket_path, "--interval", 0.1, **environment)
    with show as tool:
        tool.until("connects")
        with running("send", "--socket", socket_path, "-k", 1000):
            tool.until("rx 0")
            tool.read(0.5)
    assert tool.raw.isascii()
    assert "\\u" not in tool.raw
    assert any(line.startswith("rate") and "#" in line for line in tool.lines)
    sink = subprocess.Popen(
        words("sink", "--role", "master", "--socket", socket_path, "-k", 1000),
        stdout=subprocess.PIPE,
        env={**os.environ, **_UTF8, **environment},
    )
    assert memif("send", "--socket", socket_path, "-k", 1000, "--timeout", 20).code == 0
    out = sink.communicate(timeout=within(20))[0].decode("ascii")
    assert " us" in out
    assert "###" in out
    assert "\\u" not in out
