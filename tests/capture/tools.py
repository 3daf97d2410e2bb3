"""Wireshark's programs and third-party libraries as judges of our files."""

import importlib
import shutil
import subprocess
from pathlib import Path
from typing import Any

from peers.settings import missing


def need(module: str) -> Any:
    """Import `module`, or skip (fail where the environment asks for it) naming what is missing."""
    try:
        return importlib.import_module(module)
    except ImportError:
        return missing(f"Python module {module} is missing: pip install --group test")


def run(tool: str, *arguments: str | Path, stdin: bytes | None = None) -> bytes:
    """Return what `tool` prints; AssertionError with its messages if it fails."""
    if shutil.which(tool) is None:
        missing(f"{tool} is missing: apt-get install tshark tcpdump xxd bsdextrautils strace")
    done = subprocess.run([tool, *map(str, arguments)], input=stdin, capture_output=True, timeout=30, check=False)
    assert done.returncode == 0, f"{tool}: {done.stderr.decode(errors='replace')}"
    return done.stdout


def tshark(path: Path, *fields: str) -> list[list[str]]:
    """Return one row of `fields` for each packet that tshark finds in the file; complaints of tshark fail."""
    wanted = [part for field in fields for part in ("-e", field)]
    text = run("tshark", "-n", "-r", path, "-T", "fields", *wanted).decode()
    return [line.split("\t") for line in text.splitlines()]


def capinfos(path: Path) -> str:
    """Return capinfos' report about the file."""
    return run("capinfos", path).decode()
