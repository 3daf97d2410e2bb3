"""What make says while it works."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(shutil.which("make") is None, reason="make is missing: apt-get install make")
def test_demo_says_each_step_before_it_takes_it(tmp_path: Path) -> None:
    command = ["make", "--dry-run", f"S={tmp_path}/stamps", f"VENV={tmp_path}/venv", "demo"]
    lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    steps = [line.split('"')[1] for line in lines if line.startswith('echo "---')]
    assert [step.split()[1] for step in steps] == ["making", "compiling", "installing", "fetching", "two"]
    slow = [i for i, line in enumerate(lines) if " venv " in line or " pip " in line or "demo.py" in line]
    assert len(slow) == 5
    assert all(any("echo" in line for line in lines[i - 2 : i]) for i in slow)
