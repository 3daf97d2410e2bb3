"""``memif icmp-responder`` and ``memif ping``: against each other, odd packets, and the ping of the kernel."""

import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Callable

import pytest

import memif as library
from ends import receive
from patience import within
from peers.settings import missing
from tools.frames import MAC_A, checksum, echo, ethernet, ipv4
from tools.process import master, memif, running

SIZES = [0, 1, 56, 1400, 9000, 65494]


@pytest.mark.parametrize("responder", ["master", "slave"])
@pytest.mark.parametrize("mode", ["ethernet", "ip"])
def test_ping_is_answered_in_all_roles_and_modes(socket_path: str, responder: str, mode: str) -> None:
    pinger = {"master": "slave", "slave": "master"}[responder]
    common = ("--socket", socket_path, "--mode", mode)
    with running("icmp-responder", "--role", responder, *common, until="answering"):
        result = memif("ping", "--role", pinger, *common, "-c", 5, "-i", 0.01, "--timeout", 20, "192.168.1.2")
    assert result.code == 0, result.err
    assert "5 packets transmitted, 5 received, 0% packet loss" in result.out
    assert result.out.count("bytes from 192.168.1.2") == 5


@pytest.mark.parametrize("mode", ["ethernet", "ip"])
def test_all_sizes_come_back_through_chains(socket_path: str, mode: str) -> None:
    with master(socket_path, "icmp-responder", "--mode", mode):
        for size in SIZES:
            result = memif(
                "ping",
                "--mode",
                mode,
                "--socket",
                socket_path,
                "-s",
                size,
                "-c",
                2,
                "-i",
                0.01,
                "--json",
                "-W",
                10,
                "192.168.1.2",
            )
            assert (result.code, result.json["received"]) == (0, 2), (size, result)


def test_the_summary_for_programs(socket_path: str) -> None:
    with master(socket_path, "icmp-responder", "--json") as responder:
        summary = memif("ping", "--socket", socket_path, "-c", 3, "-i", 0.01, "--json", "192.168.1.2").json
        end = responder.stop()
    assert (summary["transmitted"], summary["received"], summary["duplicates"]) == (3, 3, 0)
    assert 0 < summary["rtt_ms"]["min"] <= summary["rtt_ms"]["avg"] <= summary["rtt_ms"]["max"]
    assert end.code == 0
    assert end.json["answered"]["echo"] == 3
    assert end.json["answered"]["arp"] == 1


def test_nobody_answers(socket_path: str) -> None:
    with master(socket_path, "icmp-responder"):
        result = memif("ping", "--socket", socket_path, "-c", 2, "-i", 0.01, "-W", 0.2, "192.168.1.77")
    assert result.code == 1
    assert "2 packets transmitted, 0 received, +2 errors, 100% packet loss" in result.out


def test_there_is_no_master(socket_path: str) -> None:
    result = memif("ping", "--socket", socket_path, "--timeout", 0.3, "192.168.1.2")
    assert (result.code, result.out) == (1, "")
    assert socket_path in result.err
    assert len(result.err.splitlines()) == 1


@pytest.mark.parametrize(("secret", "word"), [("wrong", "ncorrect secret"), (None, "ecret")])
def test_a_wrong_secret_is_told_at_once(socket_path: str, secret: str | None, word: str) -> None:
    with master(socket_path, "icmp-responder", "--secret", "s3cret"):
        began = time.monotonic()
        option = ("--secret", secret) if secret else ()
        result = memif("ping", "--socket", socket_path, *option, "--timeout", 20, "192.168.1.2")
        assert time.monotonic() - began < within(15)
        assert memif("ping", "--socket", socket_path, "--secret", "s3cret", "-c", 1, "192.168.1.2").code == 0
    assert result.code == 1
    assert word in result.err
    assert len(result.err.splitlines()) == 1
    assert "s3cret" not in result.err


@pytest.mark.parametrize(
    "args",
    [
        (),
        ("nonsense",),
        ("--count", "-1", "192.168.1.2"),
        ("--mac", "02:fe", "192.168.1.2"),
        ("--ring-size", "1000", "192.168.1.2"),
        ("--buffer-size", "10", "192.168.1.2"),
        ("--mode", "x", "192.168.1.2"),
        ("--secret", "x" * 24, "192.168.1.2"),
        ("--id", "-1", "192.168.1.2"),
        ("--socket", "", "192.168.1.2"),
    ],
)
def test_wrong_usage(args: tuple[str, ...]) -> None:
    result = memif("ping", *args)
    assert result.code == 2
    assert "Usage:" in result.err
    assert "Traceback" not in result.err


def test_fragments_and_options_are_left_alone_and_counted(socket_path: str) -> None:
    ip = {"target": "192.168.1.2"}
    odd = [
        ethernet(echo(1, **ip, fragment=0x2000)),
        ethernet(echo(2, **ip, fragment=185)),
        ethernet(echo(3, **ip, options=b"\x94\x04\0\0")),
    ]
    with master(socket_path, "icmp-responder", "--json") as responder:
        with library.connect(socket_path, timeout=20) as iface:
            assert iface.tx[0].send([*odd, ethernet(echo(4, **ip))]) == 4
            replies = receive(iface.rx[0], 2, timeout=1.0)
        answered = responder.stop().json["answered"]
    assert len(replies) == 1
    assert struct.unpack("!H", replies[0][40:42]) == (4,)
    assert (answered["echo"], answered["fragments"], answered["options"]) == (1, 2, 1), answered


def test_damaged_requests_get_no_valid_answer(socket_path: str) -> None:
    good = ethernet(echo(1, target="192.168.1.2"))
    bad_data, bad_header = bytearray(good), bytearray(good)
    bad_data[50] ^= 0xFF
    bad_header[24] ^= 0xFF
    with master(socket_path, "icmp-responder"), library.connect(socket_path, timeout=20) as iface:
        empty = ethernet(ipv4(b"", target="192.168.1.2"))
        iface.tx[0].send([bytes(bad_data), bytes(bad_header), good[:30], empty, good])
        replies = receive(iface.rx[0], 3, timeout=1.0)
    # The checksum is updated for what was changed, not made anew: damaged data stays visible as such.
    valid = [reply for reply in replies if checksum(reply[34:]) == 0]
    assert len(valid) == 1
    assert valid[0][:6] == MAC_A
    assert len(replies) <= 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_both_with_a_summary(socket_path: str, number: int) -> None:
    with master(socket_path, "icmp-responder") as responder:
        with running("ping", "--socket", socket_path, "-i", 0.05, "192.168.1.2", until="icmp_seq=3") as ping:
            end = ping.stop(number)
        assert end.code == 0
        assert "packets transmitted" in end.out
        end = responder.stop(number)
    assert end.code == 0
    assert "packets received" in end.out


@pytest.mark.dpdk
@pytest.mark.parametrize("role", ["master", "slave"])
def test_the_kernel_pings_the_responder_and_finds_no_bad_checksum(
    socket_path: str, kernel_port: Callable[..., object], role: str, tmp_path: object
) -> None:
    if shutil.which("tshark") is None or shutil.which("tcpdump") is None:
        missing("tshark or tcpdump is missing: apt-get install tshark tcpdump")
    options = ("--socket", socket_path, "--ip", "192.168.1.2", "--role", role, "--json")
    trace = f"{tmp_path}/kernel.pcap"
    if role == "master":
        with master(socket_path, "icmp-responder", "--ip", "192.168.1.2", "--json") as responder:
            _ping_from_kernel(kernel_port("client"), trace)
            end = responder.stop()
    else:
        port = kernel_port("server")
        with running("icmp-responder", *options) as responder:
            port.testpmd.wait_link(20)  # type: ignore[attr-defined]
            _ping_from_kernel(port, trace)
            end = responder.stop()
    assert end.json["answered"]["echo"] >= 60
    broken = subprocess.run(
        [
            "tshark",
            "-r",
            trace,
            "-o",
            "ip.check_checksum:TRUE",
            "-Y",
            "ip.checksum.status == 0 || icmp.checksum.status == 0 || icmp.checksum_bad || _ws.malformed",
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert broken.stdout == ""
    replies = subprocess.run(
        ["tshark", "-r", trace, "-Y", "icmp.type == 0"], capture_output=True, check=True, timeout=60
    )
    assert len(replies.stdout.splitlines()) == 60


def _ping_from_kernel(port: object, trace: str) -> None:
    netns = port.netns  # type: ignore[attr-defined]
    words = ["ip", "netns", "exec", netns, "tcpdump", "-i", "dtap0", "--immediate-mode", "-U", "-Z", "root", "-w"]
    sniffer = subprocess.Popen([*words, trace], stderr=subprocess.PIPE)
    try:
        assert sniffer.stderr is not None
        while b"listening" not in (line := sniffer.stderr.readline()):
            assert line, "tcpdump has ended"
        for size in (16, 56, 1400):  # below 16 ping measures no times and does not wait for late answers
            result = port.ping("192.168.1.2", 20, size=size, interval=0.01)  # type: ignore[attr-defined]
            assert result.received == result.sent == 20, result.output
            assert not result.corrupted
        time.sleep(0.5)
        port.testpmd.stop()  # type: ignore[attr-defined]  # it may crash when its peer leaves while it forwards
    finally:
        sniffer.terminate()
        sniffer.communicate(timeout=10)
