"""The recipes that carry packets beyond memif, run as they stand in the documentation."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from peers.settings import missing, require_testpmd

RECIPES = Path(__file__).parents[2] / "examples" / "recipes"


def run(name: str, timeout: float = 45.0) -> str:
    """Run one script with this interpreter's programs; return what it printed, AssertionError unless it ends with 0."""
    folder = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "PYTHONUNBUFFERED": "1"}
    script = subprocess.Popen(
        [str(RECIPES / name)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = script.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(script.pid, signal.SIGTERM)  # the script cleans up; what it waits for ends as well
        output, _ = script.communicate(timeout=10)
        raise AssertionError(f"{name}: not done after {timeout} s:\n{output}") from None
    assert script.returncode == 0, output
    return output


def require_namespaces() -> None:
    """Skip (or fail, see `peers.settings.missing`) where namespaces and TAP cannot be had."""
    if os.geteuid() != 0:
        missing("needs root: network namespaces")
    if shutil.which("ip") is None or shutil.which("ping") is None:
        missing("ip or ping is missing: apt-get install iproute2 iputils-ping")
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        missing("/dev/net/tun is missing: mkdir -p /dev/net && mknod /dev/net/tun c 10 200")


def test_every_recipe_is_tested() -> None:
    assert {path.name for path in RECIPES.iterdir()} == {"testpmd_switch.sh", "two_namespaces.sh", "vxlan.sh"}


def test_two_namespaces_ping_each_other() -> None:
    require_namespaces()
    output = run("two_namespaces.sh")
    assert output.count("3 packets transmitted, 3 received") == 2, output


def test_two_hosts_over_vxlan() -> None:
    require_namespaces()
    output = run("vxlan.sh")
    assert "5 packets transmitted, 5 received" in output, output
    assert "2 packets transmitted, 2 received" in output, output


@pytest.mark.dpdk
def test_testpmd_as_a_switch() -> None:
    require_testpmd()
    output = run("testpmd_switch.sh")
    assert "5 packets transmitted, 5 received" in output, output


@pytest.mark.parametrize("script", sorted(RECIPES.iterdir()), ids=lambda path: path.name)
def test_is_a_plain_shell_script(script: Path) -> None:
    subprocess.run(["sh", "-n", str(script)], check=True, timeout=10)
    assert os.access(script, os.X_OK)
