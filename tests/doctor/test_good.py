"""No alarm where nothing is wrong: a hundred links of all kinds, and those of DPDK's testpmd and VPP's stand-in."""

import itertools
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import memif
from doctor.serving import serving
from memif.doctor import Finding, diagnose
from memif.testing import pump
from memif.tools.doctor import lines_of
from patience import within
from peers.testpmd import poll_until
from tools.process import memif as tool, running
from vpp.server import ApiServer
from vpp.standin import StandIn

PACKETS = [bytes([n]) * 60 for n in range(16)]
#: Sizes, queues, modes of packets and of waiting, and what goes over the link.
SLAVES: list[dict[str, Any]] = [
    {"ring_size": 2},
    {"ring_size": 8},
    {"ring_size": 16, "layout": "split"},
    {"rx_queues": 2, "tx_queues": 2},
    {"rx_queues": 1, "tx_queues": 3, "ring_size": 64},
    {"rx_queues": 4, "tx_queues": 1, "cache_line": 128},
    {"buffer_size": 512, "mode": "ip"},
    {"rx_mode": "polling"},
    {"rx_mode": "adaptive", "secret": "s3cret"},
    {"id": 7, "headroom": 128},
]
TRAFFIC = [
    "idle",
    "to the master",
    "to the slave",
    "both",
    "echo",
    "chains",
    "was busy",
    "full rings",
    "seldom",
    "queues",
]


def traffic(kind: str, master: memif.Interface, slave: memif.Interface) -> Callable[[], object]:
    """One turn of the traffic; whatever arrives is taken."""
    turns = itertools.count()

    def take() -> None:
        for end in (master, slave):
            for queue in end.rx:
                with queue.recv(64, timeout=0) as burst:
                    if kind == "echo" and end is master and burst:
                        master.tx[0].forward(burst)

    def turn() -> None:
        number = next(turns)
        if kind in ("to the master", "both", "echo") or (kind == "was busy" and number < 5):
            slave.tx[0].send(PACKETS)
        if kind in ("to the slave", "both"):
            master.tx[0].send(PACKETS)
        if kind == "chains" and slave.tx[0].size > 8:
            slave.tx[0].send([bytes(3000)])
            master.tx[0].send([bytes(3000)])
        if kind == "full rings":
            for queue in (*slave.tx, *master.tx):
                queue.send([bytes(60)] * queue.size)
        if kind == "seldom" and number % 50 == 0:
            slave.tx[-1].send(PACKETS[:1])
        if kind == "queues":
            for end in (slave, master):
                end.tx[number % len(end.tx)].send(PACKETS[:1])
        take()

    return turn


def alarms(found: list[Finding]) -> list[Finding]:
    return [finding for finding in found if finding.state == "fault"]


@pytest.mark.parametrize("number", range(len(SLAVES)))
def test_ten_links_each(number: int, socket_path: str) -> None:
    options = SLAVES[number]
    both = {key: options[key] for key in ("mode", "secret", "id") if key in options}
    for kind in TRAFFIC:
        with memif.listen(socket_path, **both) as master, memif.Socket(socket_path) as sock:
            slave = sock.interface(**options)
            pump(master.socket, sock, until=lambda: master.up and slave.up, timeout=within(5))  # noqa: B023
            with serving(master, slave, work=traffic(kind, master, slave)):
                found = diagnose(socket_path, id=options.get("id", 0), watch=0.05, timeout=within(5))
        assert alarms(found) == [], kind
        rings = [finding for finding in found if finding.check.startswith("ring ")]
        ways = [finding.text for finding in found if finding.check == "traffic"]
        if kind in ("to the master", "to the slave"):
            way = "slave to the master" if kind == "to the master" else "master to the slave"
            assert ways == [f"packets go from the {way} only"]
        elif kind in ("idle", "both", "full rings"):
            assert ways == []
        assert len(rings) == options.get("rx_queues", 1) + options.get("tx_queues", 1), kind


def test_free_master_is_joined(socket_path: str) -> None:
    for options in ({}, {"mode": "ip"}, {"secret": "s3cret"}):
        with memif.listen(socket_path, **options) as master:
            taken = serving(master, work=lambda: master.rx and master.up and master.rx[0].recv(8, timeout=0).release())
            with taken:
                found = diagnose(socket_path, join=True, timeout=within(5), **options)
        assert alarms(found) == []
        assert [finding.check for finding in found] == ["socket", "listener", "rings", "link", "probe"]


@pytest.mark.parametrize("slave", [False, True])
def test_vpp(slave: bool, socket_path: str) -> None:
    folder = str(Path(socket_path).parent)
    with ApiServer(f"{folder}/api.sock", StandIn(folder, retry=0.2)), memif.vpp.Vpp(f"{folder}/api.sock") as vpp:
        role = "master" if slave else "slave"
        options: dict[str, Any] = {"role": role, "address": "192.168.1.1/24", "vpp_rx_mode": "adaptive"}
        with vpp.link(socket_path, timeout=within(10), **options) as iface, serving(iface):
            iface.tx[0].send(PACKETS)
            assert poll_until(lambda: "rx packets" in vpp.cli("show interface"), 5)
            found = diagnose(socket_path, vpp=f"{folder}/api.sock", watch=0.1, timeout=within(5))
        assert alarms(found) == []
        checks = [finding.check for finding in found if finding.state == "ok"]
        assert checks[-4:] == ["VPP", "VPP's memif", "VPP's link", "VPP's errors"]
        notes = [finding.text for finding in found if finding.state == "note"]
        assert "receives by adaptive on queue 0" in notes
        assert f"rx packets {len(PACKETS)}, rx bytes {60 * len(PACKETS)}" in notes
        if not slave:
            assert any("administratively down" in note for note in notes), "the quirks of VPP"


@pytest.mark.dpdk
def test_testpmd(testpmd: Callable[..., Any], socket_path: str) -> None:
    peer = testpmd("server", forward="macswap")
    with memif.connect(socket_path, timeout=within(5)) as iface:
        with peer.forwarding():
            done = threading.Event()

            def work() -> None:
                iface.tx[0].send(PACKETS)
                iface.rx[0].recv(64, timeout=0).release()

            with serving(iface, work=work):
                found = diagnose(socket_path, watch=0.2, timeout=within(5))
            done.set()
    assert alarms(found) == []
    notes = [finding.text for finding in found if finding.state == "note"]
    assert any("same number of queues" in note for note in notes)
    assert len([finding for finding in found if finding.check.startswith("ring ")]) == 2


@pytest.mark.dpdk
def test_testpmd_that_does_not_forward(testpmd: Callable[..., Any], socket_path: str) -> None:
    testpmd("server", forward="macswap")
    with memif.connect(socket_path, timeout=within(5)) as iface:
        assert iface.tx[0].send(PACKETS) == len(PACKETS)
        found = diagnose(socket_path, watch=0.2, timeout=within(5))
    assert [finding.fault for finding in alarms(found)] == ["not-emptied"]
    assert "16 wait in 1024 slots; the master polls" in alarms(found)[0].text


def test_frames_that_nobody_answers(socket_path: str) -> None:
    mine, theirs, nobody = (bytes((2, 0, 0, 0, 0, n)) for n in (1, 2, 3))
    for target, expected in ((theirs, []), (nobody, [nobody])):
        with memif.listen(socket_path) as master, memif.Socket(socket_path) as sock:
            slave = sock.interface(ring_size=64)
            pump(master.socket, sock, until=lambda: master.up and slave.up, timeout=within(5))  # noqa: B023
            slave.tx[0].send([target + mine + b"\x08\x00" + bytes(50)] * 40)
            master.rx[0].recv(64, timeout=0).release()
            master.tx[0].send([mine + theirs + b"\x08\x00" + bytes(50)] * 40)
            slave.rx[0].recv(64, timeout=0).release()
            with serving(master, slave):
                found = diagnose(socket_path, watch=0.05, timeout=within(5))
        assert alarms(found) == []
        notes = [finding.text for finding in found if finding.check == "frames"]
        assert notes == [f"most frames go to {mac.hex(':')}, and none comes from there" for mac in expected]


# -- the tool


def test_tool(socket_path: str) -> None:
    none = tool("doctor", socket_path)
    assert none.code == 1
    assert none.out.splitlines()[0].startswith(f"FAULT  socket: there is no socket {socket_path}")
    assert none.out.splitlines()[1].startswith("       -> Start the master first")
    assert none.out.splitlines()[-1] == "1 fault"
    with running("icmp-responder", "--role", "master", "--socket", socket_path, until="answering"):
        good = tool("doctor", socket_path, "--join", "--timeout", within(5))
        assert (good.code, good.out.splitlines()[-1]) == (0, "nothing is wrong"), good.out
        data = tool("doctor", "--json", "--join", "--id", 3, "--timeout", within(5), socket_path)
        assert data.code == 1
        assert data.json["healthy"] is False
        assert data.json["findings"][-1]["fault"] == "unknown-id"
    assert tool("doctor", socket_path, "--mode", "raw").code == 2


def test_lines_fit_the_terminal() -> None:
    finding = Finding("socket", "fault", "a long text " * 12, "stale", "some advice " * 8)
    lines = lines_of(finding, 60).splitlines()
    assert max(map(len, lines)) <= 60
    assert lines[0].startswith("FAULT  socket: a long text")
    assert lines[1].startswith("       ")
    assert [line[:10] for line in lines if "->" in line] == ["       -> "]
    assert len(lines_of(finding, None).splitlines()) == 2


def test_rings_of_others_are_skipped_without_rights(socket_path: str) -> None:
    from children import text_of_child

    if os.geteuid() != 0:
        pytest.skip("needs root, to be another user")
    with memif.listen(socket_path, socket_mode=0o666) as master, memif.Socket(socket_path) as sock:
        os.chmod(os.path.dirname(socket_path), 0o755)
        slave = sock.interface()
        pump(master.socket, sock, until=lambda: master.up and slave.up, timeout=within(5))
        with running("icmp-responder", "--role", "master", "--socket", socket_path + ".2", until="answering"):
            os.chmod(socket_path + ".2", 0o666)
            said = text_of_child(lambda: str([(f.check, f.state) for f in diagnose(socket_path + ".2", watch=0.05)]))
    assert "('listener', 'ok')" in said
    assert "('rings', 'skipped')" in said


@pytest.mark.parametrize(
    ("name", "options"),
    [("id", {"id": -1}), ("watch", {"watch": "1"}), ("timeout", {"timeout": -1}), ("join", {"join": "no"})],
)
def test_arguments(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(memif.MemifValueError, match=f"argument {name}"):
        diagnose("/tmp/m.sock", **options)
