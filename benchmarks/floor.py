"""What the machine itself allows, measured by small C programs.

On a virtual machine the two cores can be two threads of one core, share a cache, or be far apart, and that changes
from second to second; every rate over shared memory changes with it. So each figure is taken only where the cores
were as far apart before and after it, and compared only with figures of the same distance.
"""

import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from memif.bench import cores

HERE = Path(__file__).resolve().parent
#: How often to try a program whose two sides did not meet.
_TRIES = 3
Result = TypeVar("Result")


class Floor:
    """The C programs, compiled once; use as a context manager.

    Without a compiler every figure is None, on a busy machine some are.
    """

    def __init__(self, attempts: int = 4) -> None:
        first, last = cores()
        self._cores = (str(first), str(last))
        self._attempts = attempts
        self._folder = tempfile.TemporaryDirectory(prefix="memif-bench-")
        self.line: tuple[str, str] | None = None
        """For `memif.bench.measure`: the library, and the file that two processes share."""
        self.usual: float | None = None
        """Nanoseconds that a cache line mostly takes there and back."""

    def __enter__(self) -> "Floor":
        compiler = shutil.which("cc")
        for name in ("cache_line", "eventfd_pingpong") if compiler else ():
            subprocess.run([str(compiler), "-O2", "-o", f"{self._folder.name}/{name}", HERE / f"{name}.c"], check=True)
        if compiler:
            library, page = (f"{self._folder.name}/{name}" for name in ("cache_line.so", "page"))
            command = [compiler, "-O2", "-shared", "-fPIC", "-o", library, str(HERE / "cache_line.c")]
            subprocess.run(command, check=True)
            Path(page).write_bytes(bytes(4096))
            self.line = library, page
        samples = []
        for _ in range(15):
            samples.append(self.apart())
            time.sleep(0.1)
        known = [s for s in samples if s is not None]
        self.usual = statistics.median_high(known) if known else None
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def _run(self, name: str, *arguments: str) -> float | None:
        """What a program prints; None without a compiler, or where its two sides do not meet: on a busy machine."""
        program = f"{self._folder.name}/{name}"
        for _ in range(_TRIES if os.path.exists(program) else 0):
            done = subprocess.run([program, *self._cores, *arguments], check=False, capture_output=True, text=True)
            if done.returncode == 0:
                return float(done.stdout)
        return None

    def apart(self) -> float | None:
        """Nanoseconds that a cache line takes from one core to the other and back, now."""
        return self._run("cache_line")

    def eventfd(self) -> float | None:
        """Round trip by eventfd between two loops in C, seconds: median of five runs."""
        results = [self._run("eventfd_pingpong", "0.4") for _ in range(5)]
        known = [r for r in results if r is not None]
        return statistics.median(known) if known else None

    def steady(self, measure: Callable[[], Result]) -> tuple[Result, float | None]:
        """The result of a measurement during which the cores stayed where they mostly are, and how far that is.

        After some attempts: of one during which they stayed elsewhere, or at last of any, with None.
        """
        elsewhere: tuple[Result, float] | None = None
        for _ in range(self._attempts):
            before, result, after = self.apart(), measure(), self.apart()
            if before is None or after is None:
                return result, None
            if same(before, after):
                if same(before, self.usual):
                    return result, (before + after) / 2
                elsewhere = elsewhere or (result, (before + after) / 2)
        return elsewhere or (result, None)


def same(a: float | None, b: float | None) -> bool:
    """Whether two distances are the same place: within a factor of 1.5, or both unknown for want of a compiler."""
    if a is None or b is None:
        return a is b
    return max(a, b) < 1.5 * min(a, b)
