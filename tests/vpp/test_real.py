"""VPP itself at the other end, where MEMIF_VPP names one; and the same with the stand-in, which tries these tests.

``MEMIF_VPP=/path/vpp:/path/vpp_plugins python -m pytest tests/vpp``
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import memif
from docs.pages import ROOT
from memif.icmp import ECHO_REPLY, ETHERNET, arp, echo_request, encapsulate, parse, parse_arp
from memif.testing import VppProcess, vpp as start_vpp
from memif.testing.fdio import VARIABLE
from memif.vpp import Vpp, VppError
from patience import within
from peers.testpmd import poll_until
from vpp.test_link import MAC, OURS, answering, received
from vpp.test_pages import SETUPS

THEIRS = bytes((192, 168, 1, 1))
BOTH = pytest.mark.parametrize("role", ["slave", "master"])


@pytest.fixture(params=["stand-in", "VPP"])
def program(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """What to start; skips without VPP."""
    if request.param == "VPP":
        named = os.environ.get(VARIABLE)
        if not named:
            pytest.skip(f"{VARIABLE} names no VPP; Debian has none")
        return named
    script = tmp_path / "vpp"
    script.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT}/tests exec {sys.executable} -m vpp.program "$@"\n')
    script.chmod(0o755)
    return str(script)


@pytest.fixture
def process(program: str) -> Iterator[VppProcess]:
    with start_vpp(program, timeout=within(30)) as running:
        yield running


@pytest.fixture
def vpp(process: VppProcess) -> Iterator[Vpp]:
    with process.connect() as connection:
        yield connection
        assert connection.interfaces() == []


def ask(iface: memif.Interface, size: int, count: int = 3) -> int:
    """Ping VPP from our end; return how many answers came."""
    mac = b"\xff" * 6
    if iface.mode == "ethernet":
        iface.tx[0].send([arp(1, MAC, OURS, bytes(6), THEIRS)])
        with iface.rx[0].recv(1, timeout=within(5)) as burst:
            found = parse_arp(bytes(burst[0])[ETHERNET:]) if len(burst) else None
        assert found, "VPP does not answer ARP"
        mac = found[1]
    got = 0
    for sequence in range(count):
        packet = echo_request(OURS, THEIRS, 7, sequence, size)
        assert iface.tx[0].send([packet if iface.mode == "ip" else encapsulate(MAC, mac) + packet]) == 1
        with iface.rx[0].recv(1, timeout=within(5)) as burst:
            for answer in burst:
                reply = parse(bytes(answer)[0 if iface.mode == "ip" else ETHERNET :], OURS)
                got += reply is not None and (reply.kind, reply.sequence) == (ECHO_REPLY, sequence)
    return got


LINKS: dict[str, dict[str, Any]] = {
    "ethernet": {},
    "copying": {"zero_copy": False},
    "ip": {"mode": "ip"},
    "queues": {"rx_queues": 2, "tx_queues": 2},
    "secret": {"secret": "s3cret"},
    "id": {"id": 77},
    "interrupt": {"vpp_rx_mode": "interrupt"},
    "adaptive": {"vpp_rx_mode": "adaptive"},
    "small": {"ring_size": 64},
}


@BOTH
@pytest.mark.parametrize("name", LINKS)
def test_ping_both_ways(name: str, role: Any, vpp: Vpp) -> None:
    options = LINKS[name]
    with vpp.link(role=role, address="192.168.1.1/24", mtu=9000, timeout=within(15), **options) as iface:
        for size in (56, 1400, 3000, 6000, 8900):
            assert ask(iface, size) == 3, size
        with answering(iface):
            for size in (56, 1400, 8900):
                lost = 0 if iface.mode == "ip" else 1
                assert received(vpp.cli(f"ping 192.168.1.2 repeat 4 interval .01 size {size}")) >= 4 - lost


@BOTH
def test_down_and_up_twenty_times(role: Any, vpp: Vpp) -> None:
    for _ in range(20):
        with vpp.link(role=role, address="192.168.1.1/24", timeout=within(15)) as iface:
            assert ask(iface, 56, 1) == 1


@BOTH
def test_wrong_secret_and_wrong_id(role: Any, vpp: Vpp, process: VppProcess) -> None:
    path = str(process.folder / "own.sock")
    theirs = vpp.create(path, role="slave" if role == "master" else "master", secret="right")
    try:
        if role == "slave":
            with pytest.raises(memif.MemifRefusedError):
                memif.connect(path, secret="wrong", timeout=within(5))
            with pytest.raises((memif.MemifTimeoutError, memif.MemifRefusedError)):
                memif.connect(path, id=9, secret="right", timeout=0.5)
        else:
            with memif.listen(path, secret="wrong") as iface:
                with pytest.raises(memif.MemifError):
                    iface.wait_up(4.0)
                assert iface.stats["refused"] > 0
    finally:
        vpp.delete(theirs)


@BOTH
def test_vpp_starts_again(role: Any, process: VppProcess) -> None:
    path = str(process.folder / "own.sock")

    def make() -> None:
        with process.connect() as vpp:
            vpp.create(path, role="slave" if role == "master" else "master", address="192.168.1.1/24")

    if role == "slave":
        make()
    opened = memif.listen(path) if role == "master" else memif.connect(path, timeout=within(15), reconnect=0.2)
    with opened as iface:
        if role == "master":
            make()
        iface.wait_up(within(15))
        assert ask(iface, 56) == 3
        process.kill9()
        assert poll_until(lambda: iface.socket.poll(0.01) and not iface.up, 10)
        process.start()
        make()
        iface.wait_up(within(15))
        assert ask(iface, 56) == 3


@BOTH
def test_we_start_again(role: Any, vpp: Vpp, process: VppProcess) -> None:
    path = str(process.folder / "own.sock")
    made = vpp.create(path, role="slave" if role == "master" else "master", address="192.168.1.1/24")
    for _ in range(3):
        with (memif.listen if role == "master" else memif.connect)(path) as iface:
            iface.wait_up(within(15))
            assert ask(iface, 56) == 3
    vpp.delete(made)


@pytest.mark.parametrize("name", SETUPS)
def test_commands_of_the_pages(name: str, vpp: Vpp, process: VppProcess) -> None:
    for line in SETUPS[name]:
        if not line.startswith("ping"):
            vpp.cli(line.replace("/run/vpp", str(process.folder)))
    for interface in vpp.interfaces():
        vpp.delete(interface)


def test_end_leaves_nothing(program: str) -> None:
    with start_vpp(program, timeout=within(30)) as process:
        assert "vpp v" in process.cli("show version")
        folder = process.folder
    assert not folder.exists()
    process.stop()


def test_bad_configuration_is_told(program: str) -> None:
    with pytest.raises(VppError, match="VPP has ended with status"), start_vpp(program, config="bad-section { }"):
        pass


def test_no_vpp(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(memif.MemifFileNotFoundError, match=VARIABLE):
        VppProcess()
    with pytest.raises(memif.MemifFileNotFoundError, match="no VPP at '/nowhere/vpp'"):
        VppProcess("/nowhere/vpp:/nowhere/plugins")
