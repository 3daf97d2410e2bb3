"""The example programs as processes: on a pipe or on a pseudo-terminal, their output read as it comes."""

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from patience import within

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "libmemif"
#: Seconds for anything to happen; machines are shared.
PATIENCE = 20.0


def example(name: str, *arguments: str) -> list[str]:
    """Words that start an example."""
    return [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), *arguments]


def console(*arguments: str) -> list[str]:
    """Words that start ``memif console``."""
    return [sys.executable, "-W", "error", "-m", "memif", "console", *arguments]


class Program:
    """A running program. Context manager; killed at its end if it still runs."""

    def __init__(self, words: list[str], *, terminal: bool = False, home: Path | None = None) -> None:
        """terminal: on a pseudo-terminal of 24 lines and 200 columns, without echo of control sequences' effects."""
        self._environment = os.environ | {"TERM": "dumb", "PYTHONUNBUFFERED": "1"}
        if home is not None:
            self._environment["HOME"] = str(home)
        self.output = ""
        self._read = 0
        self._fd, theirs = pty.openpty() if terminal else (-1, -1)
        if terminal:
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 200, 0, 0))
            # A session of its own whose terminal it is, so that Ctrl-C means something.
            self.process = self._spawn(["setsid", "--ctty", *words], theirs, theirs)
            os.close(theirs)
        else:
            self._fd, theirs = os.pipe()
            self.process = self._spawn(words, subprocess.PIPE, theirs)
            os.close(theirs)
        os.set_blocking(self._fd, False)
        self._terminal = terminal

    def _spawn(self, words: list[str], stdin: int, output: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(words, stdin=stdin, stdout=output, stderr=output, env=self._environment)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
        self._fill(0)
        os.close(self._fd)
        if error is not None:
            error.add_note(f"output of {self.process.args}:\n{self.output}")

    def type(self, text: str | bytes) -> None:
        """Type `text` as it is."""
        data = text.encode() if isinstance(text, str) else text
        if self._terminal:
            os.write(self._fd, data)
            return
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def tell(self, *lines: str) -> None:
        """Type whole lines."""
        self.type("".join(f"{line}\n" for line in lines))

    def end_of_input(self) -> None:
        """Close its standard input, or type Ctrl-D."""
        if self._terminal:
            self.insist(b"\x04")
            return
        assert self.process.stdin is not None
        self.process.stdin.close()

    def insist(self, key: bytes) -> None:
        """Press a key until the program ends: one that is typed before it reads would be lost."""
        deadline = time.monotonic() + within(PATIENCE)
        while self.process.poll() is None and time.monotonic() < deadline:
            os.write(self._fd, key)
            self.silent(0.3)

    def _fill(self, timeout: float) -> bool:
        """Read what it printed. -> False at the end of its output."""
        if not select.select([self._fd], [], [], timeout)[0]:
            return True
        try:
            data = os.read(self._fd, 65536)
        except BlockingIOError:
            return True
        except OSError:  # a pseudo-terminal whose other end is closed
            data = b""
        self.output += data.decode(errors="replace").replace("\r\n", "\n")
        return bool(data)

    def expect(self, pattern: str, timeout: float = PATIENCE) -> re.Match[str]:
        """Wait for output that matches `pattern`, behind what an earlier call matched."""
        deadline = time.monotonic() + within(timeout)
        alive = True
        while True:
            match = re.compile(pattern, re.MULTILINE).search(self.output, self._read)
            if match is not None:
                self._read = match.end()
                return match
            rest = self.output[self._read :]
            assert alive, f"ended without {pattern!r}: {rest}"
            assert time.monotonic() < deadline, f"no {pattern!r} after {timeout} s: {rest}"
            alive = self._fill(0.05)

    def silent(self, seconds: float) -> str:
        """Return what it prints within that time."""
        deadline = time.monotonic() + seconds
        start = len(self.output)
        while self.process.poll() is None and time.monotonic() < deadline and self._fill(0.02):
            pass
        return self.output[start:]

    def ended(self, status: int = 0, timeout: float = PATIENCE) -> str:
        """Wait for its end; return all that it printed."""
        deadline = time.monotonic() + within(timeout)
        while self.process.poll() is None and time.monotonic() < deadline:
            self._fill(0.02)
        while self._fill(0) and select.select([self._fd], [], [], 0)[0]:
            pass
        assert self.process.poll() == status, f"status {self.process.poll()}: {self.output}"
        return self.output

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def counters(self, index: int = 0) -> dict[str, int]:
        """Ask a console for its counters of one interface."""
        self.tell("sh-count")
        match = self.expect(rf"interface index: {index}\n\trx: (\d+)\n\ttx: (\d+)\n\ttx_err: (\d+)\n\tts: \d+s \d+ns\n")
        return dict(zip(("rx", "tx", "tx_err"), map(int, match.groups()), strict=True))


def until(ready: Callable[[], bool], timeout: float = PATIENCE) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + within(timeout)
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextlib.contextmanager
def two_consoles(path: str, first: str = "conn 0 1", second: str = "conn 0 0") -> Iterator[tuple[Program, Program]]:
    """Context: two consoles whose interfaces are connected; `first` is the master."""
    with Program(console("--socket", path)) as one, Program(console("--socket", path)) as two:
        one.tell(first)
        until(lambda: Path(path).exists())
        two.tell(second)
        for program in (one, two):
            program.expect("^INFO: memif connected!$")
        yield one, two
