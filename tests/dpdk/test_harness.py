"""The harness itself, testpmd against testpmd: it must tell the truth before it may judge this package."""

import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from peers.pcap import read_pcap, write_pcap
from peers.settings import available_cpus
from peers.tap import KernelPort, PingResult
from peers.testpmd import Testpmd, TestpmdError, poll_until

pytestmark = pytest.mark.dpdk

Factory = Callable[..., Testpmd]
FRAMES = 20_000


@pytest.mark.parametrize("zero_copy", [False, True])
def test_exactly_n_packets(testpmd: Factory, zero_copy: bool) -> None:
    server = testpmd("server", forward="rxonly", cpu=available_cpus()[0])
    client = testpmd("client", forward="rxonly", zero_copy=zero_copy, burst=7, txpkts=100)
    client.wait_link()
    server.wait_link()
    server.start()
    client.start(tx_first=5)
    assert server.wait_stats("ipackets", 35) == 35
    assert "TX-packets: 35" in client.stop()
    assert (client.stats()["opackets"], client.stats()["obytes"]) == (35, 3500)
    assert server.stats()["ibytes"] == 3500


def random_frames(seed: int) -> list[bytes]:
    source = random.Random(seed)
    return [source.randbytes(source.randint(60, 1514)) for _ in range(FRAMES)]


def pcap_port(folder: Path, name: str, frames: list[bytes]) -> tuple[str, Path]:
    """A net_pcap port that sends `frames` and records what it is given: the vdev and the record."""
    sent, received = folder / f"{name}-in.pcap", folder / f"{name}-out.pcap"
    write_pcap(sent, frames)
    return f"net_pcap0,rx_pcap={sent},tx_pcap={received}", received


def test_byte_exact_both_ways(testpmd: Factory, tmp_path: Path) -> None:
    to_client, to_server = random_frames(1), random_frames(2)
    server_vdev, at_server = pcap_port(tmp_path, "server", to_client)
    client_vdev, at_client = pcap_port(tmp_path, "client", to_server)
    server = testpmd("server", forward="io retry", vdevs=[server_vdev], cpu=available_cpus()[0])
    client = testpmd("client", forward="io retry", vdevs=[client_vdev])
    client.wait_link()
    client.start()
    server.start()
    for peer in (server, client):
        peer.wait_stats("opackets", FRAMES, port=1, timeout=20.0)
    for peer in (server, client):
        peer.stop()
        peer.quit()  # which flushes its record
    assert read_pcap(at_client) == to_client
    assert read_pcap(at_server) == to_server


def test_kernel_ping(testpmd: Factory, kernel_port: Callable[..., KernelPort]) -> None:
    testpmd("server", forward="icmpecho", cpu=available_cpus()[0]).start()
    port = kernel_port("client", address="192.168.7.1/24")
    port.testpmd.wait_link()
    result = port.ping("192.168.7.2", count=200)
    assert (result.sent, result.received, result.duplicates, result.corrupted) == (200, 200, 0, False)
    assert result.rtt_avg is not None
    assert 0 < result.rtt_avg < 100_000
    full = port.ping("192.168.7.2", count=20, size=1472)
    assert (full.received, full.corrupted) == (20, False)


def test_ping_tells_of_loss(testpmd: Factory, kernel_port: Callable[..., KernelPort]) -> None:
    testpmd("server", forward="rxonly", cpu=available_cpus()[0]).start()
    port = kernel_port("client", address="192.168.7.1/24")
    port.testpmd.wait_link()
    port.run("ip", "neigh", "add", "192.168.7.2", "lladdr", "02:00:00:00:00:02", "dev", "dtap0")
    result = port.ping("192.168.7.2", count=5, wait=0.5)
    assert (result.sent, result.received, result.rtt_avg) == (5, 0, None)


def namespaces() -> str:
    return subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout


def test_namespace_goes_away(testpmd: Factory, socket_path: str) -> None:
    testpmd("server")
    with KernelPort(socket_path) as port:
        assert port.netns in namespaces()
    assert port.netns not in namespaces()


def test_parse_ping() -> None:
    text = (
        "wrong data byte #16 should be 0x10 but was 0x11\n"
        "5 packets transmitted, 4 received, +1 duplicates, 20% packet loss, time 4ms\n"
        "rtt min/avg/max/mdev = 0.008/0.028/0.101/0.003 ms\n"
    )
    result = PingResult.parse(text)
    assert (result.sent, result.received, result.duplicates, result.corrupted) == (5, 4, 1, True)
    assert (result.rtt_min, result.rtt_max) == pytest.approx((8, 101))


def test_wrong_secret_gives_no_link(testpmd: Factory) -> None:
    testpmd("server", secret="right")
    client = testpmd("client", secret="wrong", tolerate_crash=True)
    with pytest.raises(TestpmdError, match="link not up"):
        client.wait_link(0.3)


def test_secret(testpmd: Factory) -> None:
    testpmd("server", secret="right", id=3)
    testpmd("client", secret="right", id=3).wait_link()


def test_unknown_option_is_noticed(testpmd: Factory) -> None:
    with pytest.raises(TestpmdError, match="Invalid buffer size: much"):
        testpmd("server", bsize="much")
    with pytest.raises(TestpmdError, match="ended during start"):
        testpmd("server", args=["--no-such-option"])


def test_unknown_command_is_noticed(testpmd: Factory) -> None:
    with pytest.raises(TestpmdError, match="does not understand"):
        testpmd("server").command("fly away")


def test_kill9_is_seen_by_the_peer(testpmd: Factory) -> None:
    server = testpmd("server")
    client = testpmd("client")
    server.wait_link()
    client.kill9()
    assert (client.alive, client.returncode) == (False, -9)
    server.wait_link(up=False)
    again = testpmd("client")
    again.wait_link()
    server.wait_link()


def test_client_reconnects(testpmd: Factory) -> None:
    first = testpmd("server")
    client = testpmd("client")
    client.wait_link()
    first.quit()
    client.wait_link(up=False)
    testpmd("server")
    client.reconnect()
    client.wait_link()


def test_crash_fails_unless_tolerated(testpmd: Factory, socket_path: str) -> None:
    tolerant = testpmd("server", tolerate_crash=True)
    os.kill(tolerant.pid, 11)
    assert poll_until(lambda: not tolerant.alive, 5)
    with Testpmd(socket_path) as strict:
        os.kill(strict.pid, 11)
        assert poll_until(lambda: not strict.alive, 5)
        with pytest.raises(TestpmdError, match="ended by itself with status -11"):
            strict.quit()


def test_two_queues(testpmd: Factory) -> None:
    server = testpmd("server", queues=2, forward="rxonly", cpu=available_cpus()[0])
    client = testpmd("client", queues=2, forward="txonly", burst=4)
    client.wait_link()
    server.start()
    client.start(tx_first=1)
    server.wait_stats("ipackets", 1000)
    client.stop()
    counters = server.telemetry("/ethdev/xstats,0")
    assert counters["rx_q0_packets"] > 0
    assert counters["rx_q1_packets"] > 0


def test_leaves_nothing_in_the_runtime_folder(testpmd: Factory) -> None:
    peer = testpmd("server")
    folder = Path("/var/run/dpdk") / peer.prefix
    assert folder.is_dir()
    peer.quit()
    assert not folder.exists()
    assert peer.returncode == 0
