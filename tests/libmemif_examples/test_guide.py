"""The guide: its code blocks are one program, run here in order with a process in VPP's place."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from docs.pages import ROOT, Block, blocks
from libmemif_examples.programs import Program

GUIDE = ROOT / "docs" / "guide.md"
CODE = [block for block in blocks(GUIDE) if block.language == "python"]
#: What the program prints, apart from numbers.
PRINTED = [
    "connected",
    "packets wait on queue 0",
    "packets, the first has 42 bytes",
    "answers sent",
    "answered in place",
    "protocol 512 = 2.0",
    "guide0 is slave and up",
    "connected to memif0/0 of ",
    "ring of 1024 head ",
    "Invalid queue id",
    "the threads have answered",
    "a master's threads have answered",
]


def program(parts: list[Block]) -> str:
    """The blocks at the lines where they stand in the page, so that tracebacks point there."""
    lines: list[str] = []
    for block in parts:
        lines += [""] * (block.line - len(lines)) + block.text.splitlines()
    return "\n".join(lines) + "\n"


def test_blocks_make_a_program_that_answers(socket_path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "guide.md.py"
    script.write_text(program(CODE))
    stand_in = [sys.executable, "-m", "vpp.pinger", socket_path]
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))
    with Program(stand_in) as vpp:
        vpp.expect("^ready$")
        done = subprocess.run(
            [sys.executable, "-W", "error", str(script)],
            env=os.environ | {"MEMIF_SOCKET": socket_path},
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        vpp.tell("")
        answers = json.loads(vpp.ended().splitlines()[-1])
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    at = 0
    for line in PRINTED:
        found = done.stdout.find(line, at)
        assert found >= 0, f"{line!r} is not in what follows:\n{done.stdout[at:]}"
        at = found
    # The guide sent ten or more everywhere; those that lay in a ring when it deleted the interface are lost.
    assert answers["master 0"]["0"] > 0
    for name in ("master 1", "slave 0"):
        assert min(answers[name].get(queue, 0) for queue in ("0", "1")) > 0, answers


HEADINGS = (
    "Initialise",
    "Create an interface",
    "Connect",
    "Interrupts",
    "Buffers",
    "Receive",
    "Transmit",
    "Helper functions",
    "Several threads",
)


def test_every_step_has_code() -> None:
    lines = GUIDE.read_text().splitlines()
    for heading in HEADINGS:
        start = lines.index(f"## {heading}")
        end = next((n for n in range(start + 1, len(lines)) if lines[n].startswith("## ")), len(lines))
        assert any(start < block.line < end for block in CODE), heading
