"""Starts children quickly: one process imports everything, and forks for each job."""

import contextlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

TESTS = str(Path(__file__).parent.parent)
#: What a child may not say, whatever its exit status.
_BAD = (
    "FAULT",
    "Fatal Python error",
    "Traceback",
    "Exception ignored",
    "AddressSanitizer",
    "runtime error:",
    "ResourceWarning",
    "never awaited",
    "never retrieved",
    "was destroyed but it is pending",
    "without exception set",
    "SystemError",
)


class Spawner:
    """Context manager: runs jobs of `misuse.jobs`, one after the other."""

    def __init__(self) -> None:
        path = os.pathsep.join(filter(None, [TESTS, os.environ.get("PYTHONPATH")]))
        self._output = tempfile.NamedTemporaryFile(prefix="memif")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-m", "misuse.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(20)
        self._output.close()

    def run(self, *words: str) -> str:
        """Run one job to its end. -> what was wrong, "" if nothing."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\t".join((self._output.name, *words)) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        said = Path(self._output.name).read_text(errors="replace")
        if not answer:
            return f"{' / '.join(words)}: the process that forks has ended\n{said}"
        status = int(answer)
        if status == 0 and not any(word in said for word in _BAD):
            return ""
        how = f"signal {status & 127}" if status & 127 else f"exit status {status >> 8}"
        return f"{' / '.join(words)}: {how}\n{said[-6000:]}"
