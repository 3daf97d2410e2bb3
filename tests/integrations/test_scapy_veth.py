"""A MemifSocket beside Scapy's sockets on real network interfaces, in one call and in any order."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from peers.settings import missing

PROGRAM = Path(__file__).with_name("beside_veth.py")


@pytest.mark.parametrize("what", ["bridge_memif_first", "bridge_memif_second", "sniff_both", "pipes", "tshark"])
def test_beside_a_network_interface(socket_path: str, what: str) -> None:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        missing("a network namespace needs root and unshare: apt-get install util-linux")
    if what == "tshark" and shutil.which("tshark") is None:
        missing("tshark is missing: apt-get install tshark")
    done = subprocess.run(
        ["unshare", "--net", sys.executable, PROGRAM, what, socket_path],
        capture_output=True,
        text=True,
        timeout=50,
        env=os.environ | {"PYTHONPATH": str(PROGRAM.parent.parent)},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{what} done" in done.stdout
    assert "Traceback" not in done.stderr
    if what == "tshark":
        assert done.stdout.count("0x88b5") + done.stdout.count("Local Experimental") >= 5, done.stdout
