"""The command line tool as processes, looked at from outside: arguments in, output and exit code out."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from patience import within

_LIMIT = 40.0  # seconds; this machine may be busy


@dataclass(frozen=True)
class Result:
    """How a run of the tool ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The document on the last line of standard output."""
        return json.loads(self.out.strip().splitlines()[-1])


def words(*args: object) -> list[str]:
    """The command line of ``memif`` with these arguments."""
    return [sys.executable, "-m", "memif", *map(str, args)]


def memif(*args: object, stdin: bytes | None = None, timeout: float = _LIMIT) -> Result:
    """Run the tool to its end."""
    done = subprocess.run(
        words(*args),
        input=stdin,
        stdin=None if stdin is not None else subprocess.DEVNULL,
        capture_output=True,
        timeout=timeout,
        check=False,
    )
    return Result(done.returncode, done.stdout.decode(), done.stderr.decode())


class Running:
    """A tool that runs. Its output goes to files, so that it never blocks."""

    def __init__(self, *args: object, stdout: int | None = None) -> None:
        """stdout: a descriptor for its standard output instead of a file."""
        self._files = [tempfile.TemporaryFile("w+b") for _ in range(2)]  # noqa: SIM115  closed by close()
        out, err = self._files
        self.process = subprocess.Popen(
            words(*args), stdin=subprocess.DEVNULL, stdout=out if stdout is None else stdout, stderr=err
        )

    @property
    def out(self) -> str:
        """Standard output so far."""
        return self._read(0)

    @property
    def err(self) -> str:
        """Standard error so far."""
        return self._read(1)

    def _read(self, which: int) -> str:
        file = self._files[which]
        return os.pread(file.fileno(), 1 << 24, 0).decode()

    def until(self, text: str, timeout: float = _LIMIT) -> None:
        """Wait until it has printed `text`."""
        deadline = time.monotonic() + within(timeout)
        while text not in self.out + self.err:
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.out}{self.err}"
            assert time.monotonic() < deadline, f"no {text!r} in: {self.out}{self.err}"
            time.sleep(0.01)

    def ended(self, timeout: float = _LIMIT) -> Result:
        """Wait for its end."""
        self.process.wait(timeout)
        return Result(self.process.returncode, self.out, self.err)

    def stop(self, number: int = signal.SIGINT, timeout: float = _LIMIT) -> Result:
        """Send it a signal, as Ctrl-C does, and wait for its end."""
        self.process.send_signal(number)
        return self.ended(timeout)

    def close(self) -> None:
        """Kill it if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for file in self._files:
            file.close()


@contextlib.contextmanager
def running(*args: object, until: str | None = None, stdout: int | None = None) -> Iterator[Running]:
    """Context: the tool in the background, once it has printed `until`."""
    tool = Running(*args, stdout=stdout)
    try:
        if until is not None:
            tool.until(until)
        yield tool
    finally:
        tool.close()


def wait_for(path: str, timeout: float = _LIMIT) -> None:
    """Wait until a file exists: the socket of a master that has just been started."""
    deadline = time.monotonic() + within(timeout)
    while not os.path.exists(path):
        assert time.monotonic() < deadline, f"no {path}"
        time.sleep(0.01)


@contextlib.contextmanager
def master(path: str, *args: object, stdout: int | None = None) -> Iterator[Running]:
    """Context: a verb with ``--role master`` on `path`, once it listens."""
    verb, *rest = args
    with running(verb, "--role", "master", "--socket", path, *rest, stdout=stdout) as tool:
        deadline = time.monotonic() + within(_LIMIT)
        while not os.path.exists(path):
            assert tool.process.poll() is None, tool.err
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield tool
