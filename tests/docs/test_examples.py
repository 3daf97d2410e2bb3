"""Every example program is run here, by the command that its docstring gives."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import memif
from ends import pump, receive
from memif.packet import classify, fill_l4, verify_ipv4, verify_l4
from peers.tap import run_in
from peers.testpmd import poll_until
from recipes.test_recipes import require_namespaces

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
#: Programs that end by themselves: their arguments.
COMPLETE: dict[str, list[str]] = {
    "hello": [],
    "tutorial_two_ends": [],
    "howto_access": [],
    "howto_capture": ["{tmp}/memif.pcapng"],
    "howto_doctor": [],
    "howto_events": [],
    "howto_handlers": ["0.05"],
    "howto_logging": [],
    "howto_memory": [],
    "howto_metrics": [],
    "howto_profiles": [],
    "howto_reconnect": [],
    "howto_scapy": [],
    "howto_threads": [],
    "howto_waiting": [],
}
#: Programs with a test of their own, here or elsewhere.
ELSEWHERE = {
    "demo",
    "quickstart",
    "howto_serve",
    "howto_tap",
    "howto_testing",
    "howto_vpp",
    "tutorial_bridge",
    "tutorial_counter",
    "tutorial_responder",
}


def run(name: str, *arguments: str, timeout: float = 40.0) -> str:
    """Run one example to its end and return what it printed; AssertionError unless it exits with 0."""
    words = [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), *arguments]
    environment = os.environ | {"XDG_CONFIG_HOME": str(EXAMPLES / "profiles")}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def program(name: str, *arguments: str) -> subprocess.Popen[str]:
    """Start one example."""
    words = [sys.executable, "-u", str(EXAMPLES / f"{name}.py"), *arguments]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def interrupt(process: subprocess.Popen[str]) -> str:
    """Ctrl-C, and all that it printed; AssertionError unless it ends with 0."""
    process.send_signal(signal.SIGINT)
    try:
        output, _ = process.communicate(timeout=10)
    finally:
        process.kill()
    assert process.returncode == 0, output
    return output


def test_every_example_is_tested() -> None:
    found = {path.stem for path in EXAMPLES.glob("*.py") if not path.stem.startswith("aio_")}  # tests/aio
    assert found == COMPLETE.keys() | ELSEWHERE


@pytest.mark.parametrize("name", COMPLETE)
def test_prints_what_the_page_shows(name: str, tmp_path: Path) -> None:
    output = run(name, *(argument.format(tmp=tmp_path) for argument in COMPLETE[name]))
    shown = EXAMPLES / "output" / f"{name}.txt"
    if shown.exists():
        assert output == shown.read_text()
    assert output


def test_handlers_of_three_styles_do_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import howto_handlers as handlers

    results = []
    with memif.listen("@styles", id=0) as master, memif.Socket("@styles") as socket:
        slave = socket.interface(id=0)
        pump(master, slave, until=lambda: master.up and slave.up)
        for handler in (handlers.route_loop, handlers.route_numpy, handlers.route_numba):
            slave.tx[0].send_array(handlers.frames(50))
            slave.tx[0].send([b"short", bytes(60), handlers.frames(1).tobytes()[:33]])
            with master.rx[0].recv(64, timeout=1.0) as burst:
                assert handler(burst) == 50
                results.append(burst.tobytes())
    assert results[0] == results[1] == results[2]
    heads = np.frombuffer(b"".join(results[0][:50]), np.uint8).reshape(50, 64)
    layers = classify(heads, np.full(50, 64, np.uint32))
    assert verify_ipv4(heads, layers).all()


@pytest.mark.parametrize("role", ["slave", "master"])
def test_macs_are_exchanged(role: str, socket_path: str) -> None:
    arguments = (socket_path, role, "swap")
    if role == "master":
        serving = program("howto_serve", *arguments)
        iface = memif.connect(socket_path, id=0, timeout=20)
    else:
        iface = memif.listen(socket_path, id=0)
        serving = program("howto_serve", *arguments)
        iface.wait_up(timeout=20)
    with iface:
        frames = [bytes(range(12)) + bytes([n]) * (2 + 50 * n) for n in range(50)]
        assert iface.tx[0].send([*frames, b"short"]) == 51
        assert receive(iface.rx[0], 50) == [frame[6:12] + frame[:6] + frame[12:] for frame in frames]
        assert "received 51, sent 50" in interrupt(serving)


def test_translation_keeps_checksums_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import howto_handlers as handlers

    sent = handlers.frames(50)
    sent[:, 38:40] = 0, 30  # the length in the UDP header
    layers = classify(sent, np.full(50, 64, np.uint32))
    fill_l4(sent, layers)
    with memif.listen("@translate", id=0) as master, memif.Socket("@translate") as socket:
        slave = socket.interface(id=0)
        pump(master, slave, until=lambda: master.up and slave.up)
        slave.tx[0].send_array(sent)
        with master.rx[0].recv(64, timeout=1.0) as burst:
            assert handlers.translate(burst) == 50
            got = burst.gather(64)
    assert verify_ipv4(got, layers).all()
    assert verify_l4(got, layers).all()
    assert (got[:, 26:30] == (192, 0, 2, 1)).all()
    assert (got[:, 22] == sent[:, 22] - 1).all()
    assert (got[:, 42:] == sent[:, 42:]).all()


def test_quickstart_sends_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    answering = program("quickstart")
    try:
        with memif.connect("demo.sock", timeout=20.0) as iface:
            assert iface.tx[0].send([b"x" * 60] * 3) == 3
            with iface.rx[0].recv(256, timeout=5.0) as burst:
                assert burst.tobytes()[0] == b"x" * 60
        output, _ = answering.communicate(timeout=10)
    finally:
        answering.kill()
    assert answering.returncode == 0, output
    assert output.endswith("the link is down: interface deleted\n")


def test_bridge_joins_two_clients(socket_path: str) -> None:
    bridge = program("tutorial_bridge", f"{socket_path}.left", f"{socket_path}.right")
    try:
        with memif.Socket(f"{socket_path}.left") as one, memif.Socket(f"{socket_path}.right") as two:
            left, right = one.interface(id=0, reconnect=0.05), two.interface(id=0, reconnect=0.05)
            pump(left, right, until=lambda: left.up and right.up, timeout=10)
            for source, target in ((left, right), (right, left)):
                packets = [bytes([n]) * 60 for n in range(200)]
                assert source.tx[0].send(packets) == 200
                got: list[bytes] = []
                while len(got) < 200:
                    with target.rx[0].recv(256, timeout=5.0) as burst:
                        assert burst, f"{len(got)} of 200 came through"
                        got += burst.tobytes()
                assert got == packets
    finally:
        output = interrupt(bridge)
    assert output.endswith("done\n")


def test_tap_reaches_a_responder(socket_path: str) -> None:
    require_namespaces()
    netns = f"memif-tap-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", netns], check=True, timeout=10)
    responder = [sys.executable, "-m", "memif", "icmp-responder", "--socket", socket_path, "--duration", "40"]
    programs = [program("howto_tap", socket_path, "master", "tap0", "192.168.1.1/24", netns)]
    try:
        programs.append(subprocess.Popen(responder, stdout=subprocess.DEVNULL))
        once = ("ping", "-c", "1", "-W", "1", "192.168.1.2")
        assert poll_until(lambda: "1 received" in run_in(netns, *once, check=False), 20, 0.1), "not up"
        assert "5 received" in run_in(netns, "ping", "-c", "5", "-i", "0.05", "192.168.1.2")
        assert "linked to icmp-responder" in interrupt(programs[0])
    finally:
        for process in programs:
            process.kill()
            process.communicate()
        subprocess.run(["ip", "netns", "del", netns], check=True, timeout=10)


def test_testing_tools_as_the_page_shows_them() -> None:
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", "examples"]
    done = subprocess.run(
        [*words, "-c", os.devnull, "examples/howto_testing.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


@pytest.mark.dpdk
def test_counter_counts_what_testpmd_sends(testpmd, socket_path: str) -> None:
    counter = program("tutorial_counter", socket_path, "1")
    try:
        assert counter.stdout is not None
        assert counter.stdout.readline() == f"waiting for a client on {socket_path}\n"
        peer = testpmd("client", forward="txonly")
        peer.wait_link()
        peer.start()
        lines = [counter.stdout.readline() for _ in range(3)]
        peer.stop()
        assert counter.wait(10) == 0
    finally:
        counter.kill()
        counter.communicate()
    assert lines[0].startswith("linked to 'net_memif0' of 'DPDK")
    assert "UDP, length 22" in lines[1]
    count = re.fullmatch(r"([\d,]+) packets in this second\n", lines[2])
    assert count is not None, lines
    assert int(count[1].replace(",", "")) > 1000


@pytest.mark.dpdk
@pytest.mark.parametrize("role", ["slave", "master"])
@pytest.mark.parametrize(
    ("name", "summary"), [("tutorial_responder", "'echo': 5"), ("howto_serve", "ARP requests and 5 pings")]
)
def test_responder_answers_the_kernel(name: str, summary: str, role: str, kernel_port, socket_path: str) -> None:
    arguments = (socket_path, role, "192.168.1.2")
    if role == "master":
        responder = program(name, *arguments)
        while not Path(socket_path).exists():
            assert responder.poll() is None
        port = kernel_port("client")
    else:
        port = kernel_port("server")
        responder = program(name, *arguments)
    try:
        port.testpmd.wait_link(30.0)  # compiles first
        port.testpmd.start()
        result = port.ping("192.168.1.2", count=5, interval=0.05)
        port.testpmd.stop()
    finally:
        output = interrupt(responder)
    assert result.received == 5, result.output
    assert summary in output


@pytest.mark.dpdk
@pytest.mark.parametrize("script", ["testpmd_client.sh", "testpmd_server.sh"])
def test_testpmd_scripts(script: str, socket_path: str) -> None:
    if shutil.which("dpdk-testpmd") is None:
        from peers.settings import require_testpmd

        require_testpmd()
    listening = memif.listen(socket_path, id=0) if "client" in script else None
    log = Path(socket_path).with_suffix(".log")
    with log.open("w") as output:
        words = [str(EXAMPLES / script), socket_path]
        peer = subprocess.Popen(words, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
    iface = None
    try:
        iface = listening or memif.connect(socket_path, id=0, timeout=15.0)
        iface.wait_up(15.0)
        if listening:
            with iface.rx[0].recv(32, timeout=10.0) as burst:
                assert set(burst.lengths.tolist()) == {64}
    finally:
        peer.send_signal(signal.SIGINT)
        peer.wait(15)
        if iface or listening:
            (iface or listening).close()
    assert peer.returncode == 0, log.read_text()
