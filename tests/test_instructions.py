"""The price of a packet in instructions: figures that a busy machine does not change."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from peers.settings import missing

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "instructions.py"


@pytest.mark.nosanitizer
@pytest.mark.timeout(400)
def test_no_path_has_become_much_dearer() -> None:
    if shutil.which("valgrind") is None:
        missing("valgrind is missing: apt-get install valgrind")
    done = subprocess.run([sys.executable, str(SCRIPT), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
