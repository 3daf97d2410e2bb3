"""What the tools say of their links: for whom they wait, and why; who came. They go on when a peer is back."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import memif as library
from children import NOBODY
from ends import receive
from memif.control import connection
from patience import within
from tools.frames import numbered, pcap
from tools.process import Running, master, running, wait_for, words as command_line

NO_SOCKET = "waiting for a master on {}, id 0: no such socket yet: one side needs --role master"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A capture of 500 packets."""
    path = tmp_path / "x.pcap"
    path.write_bytes(pcap(numbered(500)))
    return path


def words(verb: str, file: Path) -> list[str]:
    """A verb and what it cannot do without."""
    return [verb, *{"ping": ["192.168.1.2"], "replay": [str(file)]}.get(verb, [])]


WAITING = ["ping", "send", "replay", "sink", "capture", "icmp-responder", "show"]


@pytest.mark.parametrize("verb", WAITING)
def test_a_slave_says_for_whom_it_waits_and_who_came(socket_path: str, file: Path, verb: str) -> None:
    with running(*words(verb, file), "--socket", socket_path) as tool:
        tool.until(NO_SOCKET.format(socket_path))
        with library.listen(socket_path, name="the-master", app_name="the-app") as iface:
            iface.wait_up(20)
            tool.until("connected to the-master (the-app)")
        if verb in ("sink", "capture", "icmp-responder", "show"):
            tool.until("disconnected: interface deleted")
        assert tool.err.count("waiting for a master") <= 2


@pytest.mark.parametrize("verb", WAITING)
def test_a_master_says_that_it_listens(socket_path: str, file: Path, verb: str) -> None:
    with running(*words(verb, file), "--role", "master", "--socket", socket_path) as tool:
        tool.until(f"listening on {socket_path}, id 0, as master: waiting for a slave")
        with library.connect(socket_path, name="the-slave", app_name="the-app", timeout=20):
            tool.until("connected to the-slave (the-app)")


def test_for_programs_too(socket_path: str) -> None:
    """Results go to standard output, this does not."""
    with running("sink", "--json", "--socket", socket_path) as tool:
        tool.until(NO_SOCKET.format(socket_path))
        end = tool.stop()
    assert end.json["packets"] == 0


def test_why_it_waits(socket_path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
        dead.bind(socket_path)
    with running("sink", "--socket", socket_path) as tool:
        tool.until("nobody listens: one side needs --role master")
        with library.listen(socket_path, id=7, secret=b"s3cret") as iface, _serving(iface, tool):
            tool.until("has no interface with id 0")
    with library.listen(socket_path, secret=b"s3cret") as iface:
        with running("capture", "--socket", socket_path, "--secret", "wrong") as tool, _serving(iface, tool):
            tool.until(f"waiting for a master on {socket_path}, id 0: incorrect secret")


@contextlib.contextmanager
def _serving(iface: library.Interface, tool: Running) -> Iterator[None]:
    """Context: `tool.until` serves the interface meanwhile."""
    until = tool.until

    def serve(text: str, timeout: float = 40.0) -> None:
        deadline = time.monotonic() + within(timeout)
        while text not in tool.out + tool.err:
            assert time.monotonic() < deadline, tool.out + tool.err
            iface.socket.poll(0.05)

    tool.until = serve  # type: ignore[method-assign]
    try:
        yield
    finally:
        tool.until = until  # type: ignore[method-assign]


def test_a_bridge_names_its_ends(socket_path: str) -> None:
    other = socket_path + "2"
    with running("bridge", f"memif:{socket_path},role=master", f"memif:{other},id=3") as tool:
        tool.until(f"bridging A: memif:{socket_path} id 0 and B: memif:{other} id 3")
        tool.until(f"A: listening on {socket_path}, id 0, as master: waiting for a slave")
        tool.until(f"B: waiting for a master on {other}, id 3: no such socket yet")
        with library.connect(socket_path, name="the-slave", app_name="the-app", timeout=20):
            tool.until("A: connected to the-slave (the-app)")
        tool.until("A: disconnected: interface deleted")


def test_sniff_names_both_sockets(socket_path: str) -> None:
    with running("sniff", socket_path, socket_path + "2") as tool:
        tool.until(f"listening on {socket_path} for a slave, whose master is on {socket_path}2")
        assert tool.out == ""


def test_ping_goes_on_when_its_peer_was_killed(socket_path: str) -> None:
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(master(socket_path, "icmp-responder"))
        ping = stack.enter_context(running("ping", "--socket", socket_path, "-i", 0.1, "192.168.1.2"))
        ping.until("icmp_seq=3 ")
        first.process.kill()
        ping.until("disconnected: ")
        time.sleep(0.5)
        stack.enter_context(master(socket_path, "icmp-responder", "--mac", "02:fe:00:00:00:99"))
        ping.until("connected to icmp-responder (memif for Python)\ndisconnected")
        before = ping.out.count("bytes from")
        while ping.out.count("bytes from") < before + 5:
            assert ping.process.poll() is None, ping.err
            time.sleep(0.05)
        end = ping.stop()
    assert end.code == 0
    assert end.err.count("connected to icmp-responder") == 2
    sent, received = map(int, re.findall(r"(\d+) packets transmitted, (\d+) received", end.out)[0])
    assert 5 <= received < sent


@pytest.mark.parametrize("verb", ["send", "replay"])
def test_senders_go_on_when_their_peer_was_killed(socket_path: str, file: Path, verb: str) -> None:
    options = {"send": ["--rate", 500, "-k", 1500], "replay": [file, "--pps", 500, "--loop", 3]}[verb]
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(master(socket_path, "sink", "--interval", 0.1))
        sender = stack.enter_context(running(verb, *options, "--socket", socket_path, "--timeout", 30, "--json"))
        first.until("kbit/s")
        first.process.kill()
        sender.until("disconnected: ")
        time.sleep(0.7)
        second = stack.enter_context(master(socket_path, "sink", "--json"))
        result = sender.ended()
        received = second.stop().json["packets"]
    assert (result.code, result.json["packets"]) == (0, 1500)
    assert result.err.count("connected to sink") == 2
    assert 100 < received < 1500
    # What was due while nobody was there did not come in one burst: the rate is that before.
    assert result.json["seconds"] > 3.2


def test_a_peer_that_does_not_come_back(socket_path: str, file: Path) -> None:
    with library.listen(socket_path) as iface:
        with running("replay", file, "--pps", 100, "--socket", socket_path, "--timeout", 0.5) as tool:
            iface.wait_up(20)
            receive(iface.rx[0], 5)
            iface.close()
            end = tool.ended()
    assert end.code == 1
    assert "packets" in end.out
    assert "memif: gave up after 0.5 s" in end.err.splitlines()[-1]


@pytest.mark.parametrize("verb", ["sink", "ping", "send"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_while_it_waits(socket_path: str, file: Path, verb: str, number: signal.Signals) -> None:
    with running(*words(verb, file), "--socket", socket_path) as tool:
        tool.until("waiting for a master")
        end = tool.stop(number)
    assert "Traceback" not in end.err
    assert end.code == (1 if verb == "sink" else 130)  # nothing came; ended before it began


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")
def test_no_permission_is_told_at_once(socket_path: str) -> None:
    with master(socket_path, "sink"):
        line = command_line("ping", "--socket", socket_path, "192.168.1.2")
        # Nobody may not write what a traced run measures either.
        env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
        env["HOME"] = "/nonexistent"
        as_nobody = ["setpriv", "--reuid", str(NOBODY), "--clear-groups", *line]
        done = subprocess.run(as_nobody, capture_output=True, text=True, timeout=60, check=False, env=env)
    assert done.returncode == 1
    assert "cannot be entered by user nobody" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_names_of_peers_are_harmless(socket_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer whose names and reason clear the screen, begin lines and turn the direction of writing."""
    evil = b"\x1b[2J\n\rX\xe2\x80\xaeZ\x07\x9b1"
    plain = "N" * len(evil)
    real = connection.encode
    monkeypatch.setattr(connection, "encode", lambda message: real(message).replace(plain.encode(), evil))
    with running("sink", "--role", "master", "--socket", socket_path) as tool:
        wait_for(socket_path)
        with library.connect(socket_path, name=plain, app_name=plain, timeout=20) as iface:
            tool.until("connected to ")
            iface.disconnect(plain)
            tool.until("disconnected: ")
            end = tool.stop()
    said = end.out + end.err
    assert said.count("[2J") == 5  # name and program, twice, and the reason
    assert all(line.isprintable() for line in said.splitlines())
    assert not [line for line in said.splitlines() if line.startswith("X")]
