"""Every command of the VPP pages is typed into the stand-in, page by page, and into VPP where one is at hand."""

import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

from docs.pages import ROOT, blocks
from patience import within
from vpp.commands import run
from vpp.server import ApiServer
from vpp.standin import StandIn

HOWTO, GUIDE = ROOT / "docs" / "howto" / "vpp.md", ROOT / "docs" / "guide.md"


def typed(page: Path) -> Iterator[str]:
    """What follows VPP's prompt."""
    for block in blocks(page):
        for line in block.text.splitlines():
            if line.startswith("vpp# "):
                yield line.removeprefix("vpp# ")


def tables(page: Path) -> Iterator[list[str]]:
    """The commands for today's VPP in each table: they stand in the first column that has any."""
    for part in page.read_text().split("\n\n"):
        rows = re.findall(r"^\|(?: [\w ]+ \|)? `([a-z][^`]+)` \|", part, re.MULTILINE)
        if any(row.startswith("create interface memif") for row in rows):
            yield rows


*_together, _PER_THREAD = tables(GUIDE)
#: What is typed into one VPP, page by page; the guide's last set-up is one of its own.
SETUPS = {"howto": list(typed(HOWTO)), "guide": [*chain(*_together)], "guide, per thread": _PER_THREAD}


@pytest.mark.parametrize("name", SETUPS)
def test_commands_are_accepted(name: str, socket_path: str) -> None:
    folder = str(Path(socket_path).parent)
    vpp = StandIn(folder)
    try:
        for line in SETUPS[name]:
            if not line.startswith("ping"):  # nobody is at the other end
                retval, said = run(vpp, line.replace("/run/vpp", folder))
                assert retval == 0, f"{line}: {said}"
    finally:
        vpp.close()


def test_there_are_setups() -> None:
    assert min(map(len, SETUPS.values())) > 7


def test_page_of_older_guides_would_be_noticed(socket_path: str) -> None:
    vpp = StandIn(str(Path(socket_path).parent))
    assert run(vpp, "create memif id 0 master")[0] == -1
    assert run(vpp, "create interface memif id 0 master")[0] == 0
    retval, said = run(vpp, "create interface memif id 0 slave")
    assert (retval < 0, "both master and slave" in said) == (True, True)
    vpp.close()


def test_example(socket_path: str) -> None:
    folder = str(Path(socket_path).parent)
    with ApiServer(f"{folder}/api.sock", StandIn(folder)) as server:
        words = [sys.executable, "-W", "error", str(ROOT / "examples" / "howto_vpp.py"), f"{folder}/api.sock"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=within(40), check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout == "linked to memif1/0\nStatistics: 3 sent, 2 received, 33% packet loss\n"
        assert (server.vpp.faces, list(server.vpp.sockets)) == ({}, [0])
