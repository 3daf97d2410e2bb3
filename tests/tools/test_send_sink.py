"""``memif send`` and ``memif sink``: against each other, the library, and testpmd."""

import re
import signal
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import memif as library
from ends import linked, receive
from memif import icmp
from patience import within
from peers.testpmd import Testpmd
from tools.frames import checksum, ethernet, numbered, pcap, udp
from tools.process import Result, master, memif, running

ADDRESS = bytes([10, 0, 0, 9])


def sent_frames(socket_path: str, count: int, *args: object) -> tuple[list[bytes], Result]:
    """What a master in this process receives from ``memif send``, and how that ended."""
    with (
        library.listen(socket_path) as iface,
        running("send", "--socket", socket_path, "-k", count, "--json", *args) as tool,
    ):
        iface.wait_up(30)
        frames = receive(iface.rx[0], count, timeout=20)
        while tool.process.poll() is None:
            iface.socket.poll(0.05)
        return frames, tool.ended()


@pytest.mark.parametrize("mode", ["ethernet", "ip"])
@pytest.mark.parametrize("sink_role", ["master", "slave"])
def test_everything_sent_arrives_in_order(socket_path: str, mode: str, sink_role: str) -> None:
    sender = {"master": "slave", "slave": "master"}[sink_role]
    common = ("--socket", socket_path, "--mode", mode, "--json")
    with running("sink", "--role", sink_role, *common, "--count", 20000, "--duration", 50) as sink:
        sent = memif("send", "--role", sender, *common, "-k", 20000, "--size", "64,300,1500", "--timeout", 20)
        received = sink.ended()
    assert (sent.code, received.code) == (0, 0), (sent, received)
    assert sent.json["packets"] == received.json["packets"] == received.json["stamped"] == 20000
    assert sent.json["bytes"] == received.json["bytes"]
    assert (received.json["lost"], received.json["reordered"], received.json["duplicates"]) == (0, 0, 0)
    latency = received.json["latency"]
    assert 0 < latency["min"] <= latency["p50"] <= latency["p99"] <= latency["max"] < within(30)
    assert sum(row["packets"] for row in received.json["histogram"]) == 20000


def test_two_queues_have_their_own_numbers(socket_path: str) -> None:
    with master(socket_path, "sink", "--json", "--wait", 0.5) as sink:
        memif("send", "--socket", socket_path, "-k", 9999, "--tx-queues", 2, "--rx-queues", 2)
        received = sink.ended().json
    assert (received["stamped"], received["lost"], received["reordered"]) == (9999, 0, 0)


def test_loss_and_reordering_are_found(socket_path: str) -> None:
    frames, _ = sent_frames(socket_path, 100)
    odd = frames[:10] + frames[13:50] + [frames[51], frames[50]] + frames[52:]
    with master(socket_path, "sink", "--json", "--wait", 0.5) as sink:
        with library.connect(socket_path, timeout=20) as iface:
            assert iface.tx[0].send([*odd, b"not one of ours" * 5]) == 98
            time.sleep(1.0)
        received = sink.ended().json
    assert (received["packets"], received["stamped"]) == (98, 97)
    assert (received["lost"], received["reordered"]) == (3, 1)


def test_packets_are_sound_and_numbered(socket_path: str) -> None:
    frames, result = sent_frames(
        socket_path,
        600,
        "--size",
        100,
        "--src-ip",
        "10.1.1.1",
        "--dst-ip",
        "10.2.2.2",
        "--dst-port",
        4000,
        "--dst-mac",
        "02:00:00:00:00:99",
    )
    assert result.json["packets"] == 600
    for i, frame in enumerate(frames):
        assert len(frame) == 100
        assert frame[:6] == bytes.fromhex("020000000099")
        assert checksum(frame[14:34]) == 0
        assert frame[26:34] == bytes([10, 1, 1, 1, 10, 2, 2, 2])
        assert struct.unpack("!HHHH", frame[34:42]) == (1024, 4000, 66, 0)
        mark, word, _ = struct.unpack("<HQQ", frame[42:60])
        assert (mark, word & (1 << 56) - 1) == (0x694D, i)


def test_imix_has_seven_to_four_to_one(socket_path: str) -> None:
    frames, _ = sent_frames(socket_path, 1200, "--size", "imix")
    sizes = [len(frame) for frame in frames]
    assert (sizes.count(60), sizes.count(590), sizes.count(1514)) == (700, 400, 100)
    assert all(1514 in sizes[at : at + 12] for at in range(1188))  # spread, not in blocks


def test_fields_are_counted_up(socket_path: str) -> None:
    frames, _ = sent_frames(
        socket_path, 700, "--increment", "dst-ip:250", "--increment", "src-port:3", "--increment", "src-mac:2"
    )
    for i, frame in enumerate(frames):
        assert frame[30:34] == (int.from_bytes(bytes([198, 19, 0, 1])) + i % 250).to_bytes(4)
        assert int.from_bytes(frame[34:36]) == 1024 + i % 3
        assert frame[11] == 1 + i % 2
        assert checksum(frame[14:34]) == 0
    assert len({frame[:38] for frame in frames}) == 700


def test_a_template_is_sent_as_it_is(socket_path: str) -> None:
    packet = ethernet(udp(b"hello, template"))
    frames, result = sent_frames(socket_path, 5, "--hex", packet.hex(":"))
    assert frames == [packet] * 5
    assert result.json["stamped"] is False


def test_the_destination_is_asked_for(socket_path: str) -> None:
    """Again, where the first request is lost; what is no answer, or another's, is passed over."""
    mac, other = bytes.fromhex("02fe0000beef"), bytes.fromhex("02fe0000dead")
    command = ("send", "--socket", socket_path, "-k", 3, "--dst-mac", "auto", "--dst-ip", "10.0.0.9")
    with library.listen(socket_path) as iface, running(*command, "--src-ip", "10.0.0.1", "--json") as tool:
        iface.wait_up(30)
        first, second = receive(iface.rx[0], 2)
        assert first == second == icmp.arp(1, bytes.fromhex("02fe00000001"), bytes([10, 0, 0, 1]), b"", ADDRESS)
        strangers = [icmp.arp(2, other, bytes([10, 0, 0, 8]), first[6:12], ADDRESS), bytes(60), b"\x08" * 13]
        assert iface.tx[0].send([*strangers, icmp.arp(2, mac, ADDRESS, first[6:12], bytes([10, 0, 0, 1]))]) == 4
        assert {frame[:6] for frame in receive(iface.rx[0], 3) if frame[12:14] == b"\x08\x00"} == {mac}
        while tool.process.poll() is None:
            iface.socket.poll(0.05)
        assert tool.ended().json["packets"] == 3


def test_a_destination_that_does_not_answer(socket_path: str) -> None:
    with master(socket_path, "sink"):
        result = memif("send", "--socket", socket_path, "--dst-mac", "auto", "--timeout", 0.5)
    assert result.code == 1
    assert "nobody answers ARP for 198.19.0.1" in result.err
    for words in (("--mode", "ip"), ("--hex", "00" * 60)):
        wrong = memif("send", "--socket", socket_path, "--dst-mac", "auto", *words)
        assert wrong.code == 2
        assert "nothing to ask for" in wrong.err


def test_the_packets_of_a_capture_take_turns(socket_path: str, tmp_path: Path) -> None:
    packets = [frame[: 60 + i] for i, frame in enumerate(numbered(7))]
    (tmp_path / "t.pcap").write_bytes(pcap(packets))
    frames, _ = sent_frames(socket_path, 21, "--pcap", tmp_path / "t.pcap")
    assert frames == packets * 3


def test_a_rate_is_kept(socket_path: str) -> None:
    with master(socket_path, "sink", "--duration", 50):
        by_packets = memif("send", "--socket", socket_path, "--rate", "2k", "-k", 2000, "--json").json
        by_bits = memif(
            "send", "--socket", socket_path, "--rate", "8Mbit", "--size", 1000, "--duration", 1, "--json"
        ).json
    assert 1500 < by_packets["pps"] <= 2100
    assert 6e6 < by_bits["bps"] <= 8.4e6


def test_a_full_ring_waits_or_drops(socket_path: str) -> None:
    with library.listen(socket_path) as iface:
        with running("send", "--socket", socket_path, "--ring-size", 64, "--duration", 0.5, "--json") as waits:
            iface.wait_up(30)
            _serve_until_end(iface, waits)
            result = waits.ended().json
        assert (result["packets"], result["dropped"]) == (64, 0)
        with running("send", "--socket", socket_path, "--ring-size", 64, "-k", 1000, "--drop", "--json") as drops:
            iface.wait_up(30)
            _serve_until_end(iface, drops)
            result = drops.ended().json
        assert (result["packets"], result["dropped"]) == (64, 936)


def _serve_until_end(iface: library.Interface, tool: object) -> None:
    deadline = time.monotonic() + within(30)
    while tool.process.poll() is None and time.monotonic() < deadline:  # type: ignore[attr-defined]
        iface.socket.poll(0.02)


def test_the_peer_leaves_while_sending(socket_path: str) -> None:
    with (
        library.listen(socket_path) as iface,
        running("send", "--socket", socket_path, "--rate", "1k", "--timeout", 1) as tool,
    ):
        iface.wait_up(30)
        receive(iface.rx[0], 10)
        iface.close()
        end = tool.ended()
    assert end.code == 1
    assert "packets" in end.out
    assert "disconnected: interface deleted" in end.err
    assert [line for line in end.err.splitlines() if line.startswith("memif: gave up after 1 s")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_with_a_summary(socket_path: str, number: int) -> None:
    with master(socket_path, "sink") as sink:
        with running("send", "--socket", socket_path, "--rate", "1k", "--interval", 0.1, until="pps") as send:
            sent = send.stop(number)
        received = sink.stop(number)
    assert (sent.code, received.code) == (0, 0)
    assert "sent in" in sent.out
    assert "received in" in received.out
    assert "lost (0 %)" in received.out


INTERVAL = re.compile(r"(TX|RX|  )  (\d+\.\d\d)-(\d+\.\d\d) s +(.*)")


def test_a_line_for_each_interval(socket_path: str) -> None:
    """As iperf3's, with the counts of that interval."""
    with master(socket_path, "sink", "-i", 0.2) as sink:
        sent = memif("send", "--socket", socket_path, "--rate", "5k", "-t", 2.1, "-i", 0.2)
        sink.until("received in")
        received = sink.stop()
    count = int(re.findall(r"^(\d+) packets", sent.out, re.M)[0])
    for out in (sent.out, received.out):
        rows = [match for line in out.splitlines() if (match := INTERVAL.match(line))]
        assert len(rows) >= 3, out
        assert [row[2] for row in rows[1:]] == [row[3] for row in rows[:-1]]
        assert out.startswith("    Interval        Transfer      Bitrate  Packets/s   Jitter  Lost/Total\n")
        totals = [tuple(map(int, re.findall(r"(\d+)/(\d+) \(", row[4])[0])) for row in rows]
        assert {lost for lost, _ in totals} == {0}
        assert 0.8 * count < sum(total for _, total in totals) <= count
    assert re.search(r"jitter \d", received.out)


def test_one_result_for_each_client(socket_path: str) -> None:
    with master(socket_path, "sink", "--interval", 0) as sink:
        for count in (100, 200):
            assert memif("send", "--socket", socket_path, "-k", count).code == 0
            sink.until(f"{count} packets, ")
        end = sink.stop()
    assert re.findall(r"^(\d+) packets, ", end.out, re.M) == ["100", "200", "300"]
    assert end.out.count("from send (memif for Python):") == 2


def test_results_of_clients_for_programs(socket_path: str) -> None:
    with master(socket_path, "sink", "--json") as sink:
        for count in (100, 200):
            assert memif("send", "--socket", socket_path, "-k", count).code == 0
        result = sink.stop().json
    assert [client["packets"] for client in result["clients"]] == [100, 200]
    assert [client["lost"] for client in result["clients"]] == [0, 0]
    assert (result["packets"], result["lost"], result["stamped"]) == (300, 0, 300)


@pytest.mark.parametrize("mode", ["ethernet", "ip"])
def test_both_directions(socket_path: str, mode: str) -> None:
    common = ("--socket", socket_path, "--mode", mode, "--bidir", "--rx-queues", 2, "--tx-queues", 2)
    with running("sink", "--role", "master", *common, "-i", 0.2) as sink:
        sink.until("listening")
        sent = memif("send", *common, "-k", 4000, "--rate", "4k", "--size", "64,1500", "--json").json
        shown = memif("send", *common, "-t", 0.6, "-i", 0.2)
        sink.until("received in")
        out = sink.stop().out
    back = sent["back"]
    assert sent["packets"] == back["packets"] == back["stamped"] == 4000
    assert sent["bytes"] == back["bytes"]
    assert (back["lost"], back["reordered"], back["duplicates"]) == (0, 0, 0)
    assert 0 < back["latency"]["min"] <= back["latency"]["max"]
    for text in (out, shown.out):
        assert {match[1] for line in text.splitlines() if (match := INTERVAL.match(line))} == {"TX", "RX"}
    assert "4000 sent back" in out


def test_nothing_comes_back(socket_path: str) -> None:
    with master(socket_path, "sink"):
        end = memif("send", "--socket", socket_path, "--bidir", "-k", 10)
    assert "is the other end memif sink --bidir?" in end.out


def test_without_wishes_it_sends_for_ten_seconds_at_a_rate_for_every_peer(socket_path: str) -> None:
    with master(socket_path, "sink"):
        result = memif("send", "--socket", socket_path, "--json").json
    assert 10 <= result["seconds"] < within(12)
    assert 50_000 < result["packets"] <= 100_001


def test_a_rate_can_be_without_limit(socket_path: str) -> None:
    with master(socket_path, "sink"):
        result = memif("send", "--socket", socket_path, "--rate", "max", "-k", 200_000, "--json").json
    assert result["packets"] == 200_000
    assert result["seconds"] < within(15)  # at the usual rate it takes twenty


def test_nothing_comes(socket_path: str) -> None:
    result = memif("sink", "--role", "master", "--socket", socket_path, "--duration", 0.3)
    assert result.code == 1
    assert result.out.startswith("nobody came\n0 packets")


@pytest.mark.parametrize(
    "args",
    [
        ("--size", "0"),
        ("--size", "abc"),
        ("--size", "20"),
        ("--size", "70000"),
        ("--size", "64:0"),
        ("--rate", "fast"),
        ("--hex", "zz"),
        ("--hex", ""),
        ("--hex", "00", "--size", "64"),
        ("--increment", "foo:3"),
        ("--increment", "dst-ip"),
        ("--increment", "dst-ip:0"),
        ("--src-ip", "1.2.3"),
        ("--count", "-1"),
        ("--count", "1.5"),
        ("--hex", "0011223344556677", "--increment", "dst-ip:3"),
        ("--hex", "00", "--stamp"),
        ("surplus",),
        ("--size", "9000", "--increment", "src-ip:65536", "--increment", "dst-port:65535"),
    ],
)
def test_wrong_usage(args: tuple[str, ...]) -> None:
    result = memif("send", *args)
    assert result.code == 2
    assert "Traceback" not in result.err
    assert result.err.splitlines()[-1].startswith("Error: ")


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "empty"),
        (b"hello, I am no capture", "neither pcapng nor pcap"),
        (pcap([], linktype=1), "no packets"),
        (pcap([b"E" * 40], linktype=101), "no packets for mode ethernet"),
        (pcap(numbered(3))[:-5], "in the middle"),
    ],
)
def test_a_bad_template_file(tmp_path: Path, content: bytes, word: str) -> None:
    (tmp_path / "x").write_bytes(content)
    result = memif("send", "--pcap", tmp_path / "x")
    assert (result.code, result.out) == (1, "")
    assert word in result.err
    assert len(result.err.splitlines()) == 1


def test_a_link_without_a_queue_to_send_on(socket_path: str) -> None:
    with linked(socket_path + "x"):
        pass
    with master(socket_path, "sink"):
        result = memif("send", "--socket", socket_path, "--tx-queues", 0, "-k", 1)
    assert result.code == 1
    assert "no queue to send on" in result.err


@pytest.mark.dpdk
def test_testpmd_counts_what_was_sent(socket_path: str, testpmd: Callable[..., Testpmd]) -> None:
    peer = testpmd("server", forward="rxonly")
    peer.start()
    with running("send", "--socket", socket_path, "--size", "imix", "--rate", "20k", "--json") as send:
        peer.wait_stats("ipackets", 20000, timeout=30)
        send.process.send_signal(signal.SIGSTOP)  # so that it is still there when its peer stops
        time.sleep(0.2)
        counted = peer.stats()["ipackets"]
        peer.stop()
        send.process.send_signal(signal.SIGCONT)
        result = send.stop()
    assert result.code == 0, result.err
    assert counted <= result.json["packets"] < counted + 2000


@pytest.mark.dpdk
def test_sink_counts_what_testpmd_sends(socket_path: str, testpmd: Callable[..., Testpmd]) -> None:
    peer = testpmd("server", forward="txonly", txpkts=128, tolerate_crash=True)  # the sink leaves first
    with running("sink", "--socket", socket_path, "--json", "--count", 100000) as sink:
        peer.wait_link(20)
        peer.start()
        received = sink.ended()
        peer.stop()
    assert received.code == 0
    assert received.json["packets"] >= 100000
    assert received.json["bytes"] == 128 * received.json["packets"]
    assert received.json["stamped"] == 0
