"""``memif bridge``: between two memifs, to the kernel by TAP, TUN and a network interface."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import memif as library
from ends import pump, receive, send_all
from memif.capture import CaptureReader
from patience import within
from peers.settings import missing
from peers.tap import PingResult, run_in
from tools.frames import MAC_A, MAC_B, checksum, ethernet, numbered, udp
from tools.process import Running, master, memif, running, words


@contextlib.contextmanager
def namespace() -> Iterator[str]:
    """A network namespace of its own."""
    if os.geteuid() != 0 or not os.path.exists("/dev/net/tun"):
        missing("network namespaces and TAP need root and /dev/net/tun")
    name = f"memif-br-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True, timeout=10)
    try:
        run_in(name, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", check=False)
        yield name
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=False, timeout=10)


def ping(netns: str, target: str, *options: str) -> PingResult:
    """The kernel's ping, from the namespace."""
    return PingResult.parse(
        run_in(netns, "ping", "-n", "-q", "-i", "0.02", "-W", "5", *options, target, timeout=60, check=False)
    )


def test_two_memifs_both_ways(socket_path: str, tmp_path: Path) -> None:
    a, b, file = socket_path, socket_path + "2", tmp_path / "b.pcapng"
    frames = [frame.ljust(60 + 300 * (i % 9), b".") for i, frame in enumerate(numbered(3000))]
    with running(
        "bridge",
        "-w",
        file,
        "--json",
        "--patience",
        3000,
        f"memif:{a},role=master,id=1",
        f"memif:{b},role=master,ring-size=256",
    ) as bridge:
        with library.connect(a, id=1, timeout=30) as left, library.connect(b, timeout=30) as right:
            time.sleep(0.2)
            got: dict[str, list[bytes]] = {"there": [], "back": []}
            for at in range(0, 3000, 250):
                send_all(left.tx[0], frames[at : at + 250])
                send_all(right.tx[0], frames[at : at + 250])
                got["there"] += receive(right.rx[0], 250)
                got["back"] += receive(left.rx[0], 250)
        result = bridge.stop().json
    assert got == {"there": frames, "back": frames}
    for way in ("a_to_b", "b_to_a"):
        assert result[way] == {"packets": 3000, "bytes": sum(map(len, frames)), "sent": 3000, "dropped": 0}
    with CaptureReader(file, strict=True) as reader:
        packets = list(reader)
        assert [interface.name for interface in reader.interfaces] == [f"memif:{a}", f"memif:{b}"]
    assert [packet.data for packet in packets if packet.interface == 0] == frames
    assert [packet.data for packet in packets if packet.interface == 1] == frames


def test_a_filter_chooses_what_is_written_and_not_what_is_passed_on(socket_path: str, tmp_path: Path) -> None:
    a, b, file = socket_path, socket_path + "2", tmp_path / "b.pcapng"
    frames = [ethernet(udp(bytes([i]) * 5000, 1, 53 + i % 3)) for i in range(60)]
    with running("bridge", "-w", file, f"memif:{a},role=master", f"memif:{b},role=master", "udp", "port 54") as bridge:
        with library.connect(a, timeout=30) as left, library.connect(b, timeout=30) as right:
            send_all(left.tx[0], frames)
            assert receive(right.rx[0], 60) == frames
        bridge.stop()
    with CaptureReader(file, strict=True) as reader:
        assert [packet.data for packet in reader] == frames[1::3]
    end = memif("bridge", f"memif:{a}", f"memif:{b}", "udp")
    assert (end.code, "-w" in end.err) == (2, True)


def test_what_a_missing_peer_misses_is_counted(socket_path: str) -> None:
    with running("bridge", "--json", f"memif:{socket_path},role=master", f"memif:{socket_path}x") as bridge:
        with library.connect(socket_path, timeout=30) as iface:
            send_all(iface.tx[0], numbered(100))
            time.sleep(0.5)
        result = bridge.stop(signal.SIGTERM).json
    assert (result["a_to_b"]["packets"], result["a_to_b"]["dropped"]) == (100, 100)


def test_links_come_and_go(socket_path: str) -> None:
    a, b = socket_path, socket_path + "2"
    with running("bridge", f"memif:{a},role=master", f"memif:{b},role=master"):
        for _ in range(3):
            with library.connect(a, timeout=30) as left, library.connect(b, timeout=30) as right:
                deadline = time.monotonic() + within(10)
                got: list[bytes] = []
                while not got and time.monotonic() < deadline:
                    left.tx[0].send([b"through" * 10])
                    got = receive(right.rx[0], 1, timeout=0.2)
                assert got[0] == b"through" * 10


@pytest.mark.parametrize("mode", ["ethernet", "ip"])
def test_the_kernel_pings_through_a_tap(socket_path: str, mode: str) -> None:
    kind = "tap" if mode == "ethernet" else "tun"
    with (
        namespace() as netns,
        master(socket_path, "icmp-responder", "--ip", "10.77.0.2", "--mode", mode),
        running(
            "bridge",
            "--json",
            f"memif:{socket_path},mode={mode}",
            f"{kind}:mt0,netns={netns},address=10.77.0.1/24,mtu=9000",
        ) as bridge,
    ):
        _until_address(netns, "mt0")
        for size in ("56", "1400", "8900"):
            result = ping(netns, "10.77.0.2", "-c", "10", "-s", size, "-M", "do")
            assert result.received >= 9, result.output  # the first may come while the link is not up yet
            assert not result.corrupted
        summary = bridge.stop().json
    assert summary["a_to_b"]["packets"] >= 28
    assert summary["a_to_b"]["dropped"] == 0


def _until_address(netns: str, device: str) -> None:
    deadline = time.monotonic() + within(30)
    while "10.77.0.1" not in run_in(netns, "ip", "addr", "show", "dev", device, check=False):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.3)


def test_the_kernel_pings_through_a_network_interface(socket_path: str) -> None:
    port = f"mv{os.getpid() % 100000}"
    with namespace() as netns:
        subprocess.run(["ip", "link", "add", port, "type", "veth", "peer", "name", "mt0", "netns", netns], check=True)
        try:
            subprocess.run(["ip", "link", "set", port, "up"], check=True)
            run_in(netns, "ip", "link", "set", "mt0", "up")
            run_in(netns, "ip", "addr", "add", "10.77.0.1/24", "dev", "mt0")
            with (
                master(socket_path, "icmp-responder", "--ip", "10.77.0.2"),
                running("bridge", f"memif:{socket_path}", f"packet:{port}", until="bridging") as bridge,
            ):
                time.sleep(0.5)
                result = ping(netns, "10.77.0.2", "-c", "10")
                assert result.received >= 9, result.output
                end = bridge.stop()
        finally:
            subprocess.run(["ip", "link", "delete", port], check=False)
    assert end.code == 0
    assert "A to B: " in end.out


def test_checksums_left_to_the_card_and_vlan_tags_arrive_whole(socket_path: str) -> None:
    """UDP over veth: the kernel leaves the checksum to a card that is not there; and takes VLAN tags out."""
    port = f"mv{os.getpid() % 100000}"
    with namespace() as netns:
        subprocess.run(["ip", "link", "add", port, "type", "veth", "peer", "name", "mt0", "netns", netns], check=True)
        try:
            subprocess.run(["ip", "link", "set", port, "up"], check=True)
            for command in (
                ("link", "set", "mt0", "up"),
                ("addr", "add", "10.77.0.1/24", "dev", "mt0"),
                ("neigh", "add", "10.77.0.2", "lladdr", "02:fe:00:00:00:02", "dev", "mt0"),
            ):
                run_in(netns, "ip", *command)
            with running("bridge", f"memif:{socket_path},role=master", f"packet:{port}", until="bridging"):
                with library.connect(socket_path, timeout=30) as iface:
                    time.sleep(0.3)
                    tagged_frame = MAC_B + MAC_A + b"\x81\x00\x00\x05\x08\x00" + udp(b"tagged, odd")
                    program = (
                        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM);"
                        "s.sendto(b'odd', ('10.77.0.2', 9));"
                        "s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW);"
                        f"s.bind(('mt0', 0)); s.send({tagged_frame!r})"
                    )
                    run_in(netns, "python3", "-c", program)
                    frames = [f for f in receive(iface.rx[0], 2, timeout=10) if b"odd" in f]
        finally:
            subprocess.run(["ip", "link", "delete", port], check=False)
    plain, tagged = sorted(frames, key=len)
    assert tagged == tagged_frame
    assert udp_checksum_is_right(plain[14 : 14 + 31])


def udp_checksum_is_right(packet: bytes) -> bool:
    """RFC 768, pseudo header included; a checksum has to be there."""
    datagram = packet[20:]
    pseudo = packet[12:20] + bytes([0, 17]) + len(datagram).to_bytes(2)
    return datagram[6:8] != b"\0\0" and checksum(pseudo + datagram) == 0


def test_frames_from_memif_reach_the_kernel(socket_path: str) -> None:
    with (
        namespace() as netns,
        running(
            "bridge",
            f"memif:{socket_path},role=master",
            f"tap:mt0,netns={netns},address=10.77.0.1/24",
            until="bridging",
        ),
    ):
        _until_address(netns, "mt0")
        with library.connect(socket_path, timeout=30) as iface:
            time.sleep(0.3)
            before = int(run_in(netns, "cat", "/sys/class/net/mt0/statistics/rx_packets"))
            send_all(iface.tx[0], [ethernet(udp(b"x" * 100))] * 500)
            deadline = time.monotonic() + within(10)
            while int(run_in(netns, "cat", "/sys/class/net/mt0/statistics/rx_packets")) - before < 500:
                assert time.monotonic() < deadline
                time.sleep(0.05)


@contextlib.contextmanager
def bridged(kind: str, path: str) -> Iterator[tuple[Running, library.Interface, Callable[..., None], str]]:
    """Context: a bridge from a memif, whose other end we are, to a device of the kernel. -> the bridge, the memif, `ip`
    where the device is, and its name."""
    with namespace() as netns, contextlib.ExitStack() as stack:
        if kind == "packet":
            port, inside = f"mv{os.getpid() % 100000}", ()
            words = ["ip", "link", "add", port, "type", "veth", "peer", "name", "mt0", "netns", netns]
            subprocess.run(words, check=True)
            stack.callback(subprocess.run, ["ip", "link", "delete", port], check=False, stderr=subprocess.DEVNULL)
            subprocess.run(["ip", "link", "set", port, "up"], check=True)
            run_in(netns, "ip", "link", "set", "mt0", "up")
            end = f"packet:{port}"
        else:
            port, inside = "mt0", ("ip", "netns", "exec", netns)
            end = f"{kind}:{port},netns={netns}"

        def ip(*command: str) -> None:
            subprocess.run([*inside, "ip", *command], check=True, timeout=10)

        mode = "ip" if kind == "tun" else "ethernet"
        bridge = stack.enter_context(running("bridge", f"memif:{path},role=master,mode={mode}", end, until="bridging"))
        iface = stack.enter_context(library.connect(path, mode=mode, timeout=30))
        yield bridge, iface, ip, port


def until_said(bridge: Running, word: str, iface: library.Interface, frame: bytes) -> None:
    """Send until the bridge says that its device has changed."""
    deadline = time.monotonic() + within(20)
    while not re.search(word, bridge.err):
        assert bridge.process.poll() is None, bridge.err
        assert time.monotonic() < deadline, bridge.err
        iface.tx[0].send([frame] * 3)
        time.sleep(0.02)


@pytest.mark.parametrize("kind", ["tap", "tun", "packet"])
def test_an_interface_that_is_set_down(socket_path: str, kind: str) -> None:
    """The bridge counts, waits and goes on, twice; the TAP stays."""
    frame = udp(b"x" * 50) if kind == "tun" else ethernet(udp(b"x" * 50))
    with bridged(kind, socket_path) as (bridge, iface, ip, port):
        for turn in (1, 2):
            for state in ("down", "up"):
                ip("link", "set", port, state)
                until_said(bridge, rf"(?s)({port} is {state}.*){{{turn}}}", iface, frame)
        end = bridge.stop()
    assert end.code == 0
    assert f"{port} is down, packets for it are dropped" in end.err
    assert re.search(r"A to B: .* (\d+) dropped", end.out)[1] != "0"  # type: ignore[index]


@pytest.mark.parametrize("kind", ["tap", "tun", "packet"])
@pytest.mark.parametrize("before", ["up", "down", "down, seen"])
def test_an_interface_that_is_deleted(socket_path: str, kind: str, before: str) -> None:
    """The bridge ends, says why, and says what it moved until then."""
    frame = udp(b"x" * 50) if kind == "tun" else ethernet(udp(b"x" * 50))
    with bridged(kind, socket_path) as (bridge, iface, ip, port):
        if before != "up":
            ip("link", "set", port, "down")
        if before == "down, seen":
            until_said(bridge, f"{port} is down", iface, frame)
        ip("link", "delete", port)
        end = bridge.ended(20)
    assert end.code == 1
    assert re.search(rf"memif: .*{port}: the interface (is gone|was deleted)", end.err.splitlines()[-1])
    assert "A to B" in end.out
    assert "Traceback" not in end.err


@pytest.mark.parametrize(
    ("a", "b", "code", "word"),
    [
        ("foo:x", "tap:y", 2, "none of memif:"),
        ("memif:", "tap:y", 2, "no name"),
        ("memif:/tmp/x,rol=1", "tap:y", 2, "no option"),
        ("memif:/tmp/x,id=one", "tap:y", 2, "not a number"),
        ("memif:/tmp/x,role=boss", "tap:y", 2, "role"),
        ("memif:/tmp/x,mode=ip", "tap:y", 2, "Ethernet"),
        ("packet:no-such-if0", "memif:/tmp/x", 1, "no such interface"),
        ("memif:@never,role=master", "tap:name/with/slash", 2, "name"),
        ("memif:/nonexistent/m.sock,role=master", "memif:/tmp/x", 1, "does not exist"),
    ],
)
def test_what_can_not_be_joined(a: str, b: str, code: int, word: str) -> None:
    result = memif("bridge", a, b)
    assert (result.code, result.out) == (code, "")
    assert word in result.err
    assert "Traceback" not in result.err


def test_without_permission_for_tap(socket_path: str) -> None:
    if os.geteuid() != 0:
        result = memif("bridge", f"memif:{socket_path},role=master", "tap:mt0")
        code, err = result.code, result.err
    else:
        if shutil.which("setpriv") is None:
            missing("setpriv is missing, which takes root's rights away: apt-get install util-linux")
        rights = ["setpriv", "--bounding-set=-net_admin,-net_raw", "--inh-caps=-net_admin,-net_raw"]
        run = subprocess.run(
            [*rights, *words("bridge", f"memif:{socket_path},role=master", "tap:mt0")],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        code, err = run.returncode, run.stderr
    assert code == 1
    assert "CAP_NET_ADMIN" in err
    assert len(err.splitlines()) == 1


def test_an_end_by_its_profile(socket_path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its options hold, those behind it go before them, and nothing of the environment does."""
    (tmp_path / "lab.secret").write_text("hush")
    (tmp_path / "memif.toml").write_text(f"[lab]\nsocket = {socket_path!r}\nid = 4\nsecret-file = 'lab.secret'\n")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("MEMIF_RING_SIZE", "2")
    monkeypatch.setenv("MEMIF_SECRET", "another")
    other = library.listen(f"{socket_path}2")
    with other, library.listen(socket_path, id=5, secret="hush") as master:
        with running("bridge", "profile:lab,id=5", f"memif:{socket_path}2") as tool:
            pump(other, master, until=lambda: other.up and master.up, timeout=30)
            assert master.tx[0].size == 1024
            assert tool.stop().code == 0
    result = memif("bridge", "profile:lba", "tap:tap0")
    assert result.code == 2
    assert "memif.toml: 'lab', did you mean 'lab'?" in " ".join(result.err.split())
