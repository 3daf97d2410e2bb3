"""Tap: the kernel's stack as the other end, in a network namespace of its own; as root only."""

import errno
import itertools
import os
import select
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from memif.errors import MemifClosedError, MemifQueueError, MemifValueError
from memif.tap import Tap, TapError, TapPermissionError
from peers.settings import missing
from peers.tap import PingResult, run_in

_serial = itertools.count()


@pytest.fixture
def netns() -> Iterator[str]:
    """A network namespace without IPv6 chatter; removed afterwards."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces and TAP need root")
    for tool, package in (("ip", "iproute2"), ("ping", "iputils-ping")):
        if shutil.which(tool) is None:
            missing(f"{tool} is missing: apt-get install {package}")
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        missing("/dev/net/tun is missing: mkdir -p /dev/net && mknod /dev/net/tun c 10 200")
    name = f"memif-tap-{os.getpid()}-{next(_serial)}"
    subprocess.run(["ip", "netns", "add", name], check=True, timeout=10)
    try:
        run_in(name, "sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1", check=False)
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True, timeout=10)


def checksum(data: bytes) -> bytes:
    """Return the Internet checksum of `data`, of even length."""
    total = sum(int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return (~total & 0xFFFF).to_bytes(2, "big")


def answer_ip(packet: bytes) -> bytes | None:
    """Turn an ICMP echo request into its reply; None for everything else."""
    if packet[0] != 0x45 or packet[9] != 1 or packet[20] != 8:
        return None
    icmp = b"\0" + packet[21:22] + b"\0\0" + packet[24:]
    icmp = icmp[:2] + checksum(icmp + bytes(len(icmp) % 2)) + icmp[4:]
    return packet[:12] + packet[16:20] + packet[12:16] + icmp


def answer_frame(frame: bytes) -> bytes | None:
    """Answer an ARP or ICMP echo request to any address, as a host with the MAC 02:00:00:00:00:99."""
    mac = bytes.fromhex("020000000099")
    if frame[12:14] == b"\x08\x06" and frame[21] == 1:
        return frame[6:12] + mac + frame[12:21] + b"\2" + mac + frame[38:42] + frame[22:32]
    packet = answer_ip(frame[14:]) if frame[12:14] == b"\x08\0" else None
    return None if packet is None else frame[6:12] + mac + b"\x08\0" + packet


class Responder(threading.Thread):
    """Answers what comes out of a Tap until `stop`; its error, if any, is in `failure`."""

    def __init__(self, tap: Tap, queues: int = 1) -> None:
        super().__init__(name="responder")
        self.tap, self.queues = tap, queues
        self.seen: list[bytes] = []
        self.failure: BaseException | None = None
        self._stopped = threading.Event()

    def run(self) -> None:
        answer = answer_frame if self.tap.mode == "tap" else answer_ip
        poller = select.poll()
        for queue in range(self.queues):
            poller.register(self.tap.fileno(queue), select.POLLIN)
        try:
            while not self._stopped.is_set():
                poller.poll(50)
                for queue in range(self.queues):
                    packets = self.tap.recv(64, queue)
                    self.seen += packets
                    replies = [reply for reply in map(answer, packets) if reply is not None]
                    assert self.tap.send(replies, queue) == len(replies)
        except BaseException as error:
            self.failure = error

    def __enter__(self) -> "Responder":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self.join(10)
        assert self.failure is None, repr(self.failure)


def ping(netns: str, *options: str) -> PingResult:
    """Let the kernel in the namespace ping 10.99.0.2."""
    command = ["ping", "-n", "-c", "5", "-i", "0.02", "-W", "2", *options, "10.99.0.2"]
    return PingResult.parse(run_in(netns, *command, timeout=20, check=False))


@pytest.mark.parametrize("mode", ["tap", "tun"])
@pytest.mark.parametrize("queues", [1, 2])
def test_the_kernel_pings_us(netns: str, mode: str, queues: int) -> None:
    with Tap("mtest0", mode=mode, netns=netns, queues=queues) as tap:
        tap.set(address="10.99.0.1/24", mtu=9000, up=True)
        with Responder(tap, queues) as responder:
            small, large = ping(netns), ping(netns, "-s", "8900")
    for result in (small, large):
        assert (result.sent, result.received, result.corrupted) == (5, 5, False), result.output
    assert max(map(len, responder.seen)) == 8928 + (14 if mode == "tap" else 0)


def test_addresses_of_both_families_mtu_and_link(netns: str) -> None:
    with Tap(netns=netns) as tap:
        assert tap.name.startswith("tap")
        run_in(netns, "sysctl", "-qw", f"net.ipv6.conf.{tap.name}.disable_ipv6=0", check=False)
        tap.set(address=["10.99.0.1/24", "fd00::1/64"], mtu=1400)
        shown = run_in(netns, "ip", "addr", "show", "dev", tap.name)
        assert "mtu 1400" in shown
        assert "inet 10.99.0.1/24" in shown
        assert "inet6 fd00::1/64" in shown
        assert ",UP" not in shown
        tap.set(up=True)
        assert ",UP" in run_in(netns, "ip", "link", "show", "dev", tap.name)
        tap.set(up=False)
        assert ",UP" not in run_in(netns, "ip", "link", "show", "dev", tap.name)


def test_the_device_is_in_its_namespace_only_and_goes_with_close(netns: str) -> None:
    with Tap("mtest1", netns=netns) as tap:
        assert "mtest1" in run_in(netns, "ip", "link")
        assert not Path("/sys/class/net/mtest1").exists()
        with pytest.raises(TapError, match="make mtest1: the name is in use"):
            Tap("mtest1", netns=f"/var/run/netns/{netns}")
    assert "mtest1" not in run_in(netns, "ip", "link")
    tap.close()
    for use in (tap.fileno, tap.recv, lambda: tap.send([b"x"]), lambda: tap.set(up=True)):
        with pytest.raises(MemifClosedError):
            use()


def test_nothing_waits_and_bursts_are_bounded(netns: str) -> None:
    with Tap(netns=netns, mode="tun") as tap:
        tap.set(address="10.99.0.1/24", up=True)
        assert tap.recv() == []
        ping(netns, "-c", "4", "-W", "0.1")
        assert [len(tap.recv(3)), len(tap.recv(3)), len(tap.recv(3))] == [3, 1, 0]


def test_malformed_packets_are_counted_and_the_others_go_on(netns: str) -> None:
    with Tap(netns=netns, mode="tun") as tap:
        tap.set(address="10.99.0.1/24", up=True)
        header = bytes.fromhex("45000014000000004001") + bytes(10)
        assert tap.send([b"\xff" * 30, header, b"", memoryview(header)]) == 4
        assert tap.rejected == 2


def test_sending_with_the_link_down_is_one_clear_line(netns: str) -> None:
    with Tap("mtest2", netns=netns) as tap:
        with pytest.raises(TapError) as caught:
            tap.send([bytes(60)])
    assert caught.value.errno == errno.EIO
    assert str(caught.value) == "send to mtest2: the link is down, bring it up first"


def test_what_the_kernel_refuses_is_one_clear_line(netns: str) -> None:
    with Tap("mtest3", netns=netns) as tap:
        with pytest.raises(TapError, match=r"^configure mtest3: [^\n]+$"):
            tap.set(mtu=65535)  # more than a TAP can have beside its header
    with pytest.raises(TapError, match=r"^open network namespace /var/run/netns/nowhere: No such file[^\n]+$"):
        Tap(netns="nowhere")


@pytest.mark.parametrize(
    "arguments",
    [
        {"name": "sixteen-letters!"},
        {"name": "a/b"},
        {"name": "a%d"},
        {"mode": "tip"},
        {"queues": 0},
        {"queues": 257},
    ],
)
def test_misuse_is_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(MemifValueError):
        Tap(**arguments)  # type: ignore[arg-type]


def test_wrong_queues_and_addresses_are_refused(netns: str) -> None:
    with Tap(netns=netns) as tap:
        with pytest.raises(MemifQueueError):
            tap.recv(1, 1)
        with pytest.raises(MemifValueError):
            tap.set(address="10.0.0.256/24")


WITHOUT_RIGHTS = """
import os, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
from memif.tap import Tap, TapPermissionError
try:
    Tap("mtest5")
except TapPermissionError as error:
    print(error)
"""


def test_without_rights_one_clear_line() -> None:
    if os.geteuid() != 0:
        with pytest.raises(TapPermissionError):
            Tap("mtest5")
        return
    code = "import memif.errors, memif.tap\n" + WITHOUT_RIGHTS  # imported while files may still be read
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(": needs CAP_NET_ADMIN (run as root)\n")


def test_without_pyroute2_one_clear_line(netns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyroute2", None)
    with Tap("mtest6", netns=netns) as tap, pytest.raises(TapError) as caught:
        tap.set(up=True)
    assert str(caught.value).startswith(
        "configure mtest6: pyroute2 is not installed; it comes with pip install 'memif[tap]'"
    )


def test_threads_of_the_process_stay_in_its_own_namespace(netns: str) -> None:
    before = os.readlink("/proc/thread-self/ns/net")
    with Tap(netns=netns) as tap:
        tap.set(up=True)
        assert os.readlink("/proc/thread-self/ns/net") == before
