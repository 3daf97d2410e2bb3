"""``memif sniff`` between two other processes or interfaces: what it records, and that it is in nobody's way."""

import json
import os
import signal
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import memif as library
from ends import pump, receive, send_all
from memif.capture import CaptureReader, Packet
from patience import within
from peers.testpmd import Testpmd
from tools.frames import checksum, ethernet, numbered, udp
from tools.process import Running, master, memif, running


@contextmanager
def tapped(
    path: str, *args: object, slave: dict[str, object] | None = None, **options: object
) -> Iterator[tuple[library.Interface, library.Interface, Running]]:
    """A master and a slave in this process, linked through ``memif sniff``, which keeps what is unsure too."""
    with (
        library.listen(path, name="the-master", **options) as server,
        running("sniff", "--unsure", *args, path + "t", path) as tool,
    ):
        with library.Socket(path + "t", app_name="the slave's app") as sock:
            client = sock.interface(name="the-slave", **options, **(slave or {}))
            pump(server, client, until=lambda: server.up and client.up, timeout=30)
            time.sleep(0.2)
            yield server, client, tool


def packets_of(path: Path) -> tuple[list[Packet], list[Packet]]:
    """The packets of a whole file: slave to master, and back."""
    with CaptureReader(path, strict=True) as reader:
        packets = [packet for packet in reader if packet.linktype != 147]
    return ([p for p in packets if p.direction == "out"], [p for p in packets if p.direction == "in"])


def exchange(server: library.Interface, client: library.Interface, frames: list[bytes]) -> None:
    """Send the frames both ways, slowly enough to be seen."""
    for at in range(0, len(frames), 100):
        for sender, receiver in ((client, server), (server, client)):
            send_all(sender.tx[0], frames[at : at + 100])
            assert receive(receiver.rx[0], len(frames[at : at + 100])) == frames[at : at + 100]
        time.sleep(0.02)


@pytest.mark.parametrize("mode", ["ethernet", "ip"])
def test_both_directions_are_recorded(socket_path: str, tmp_path: Path, mode: str) -> None:
    frames = [frame[14 * (mode == "ip") :] for frame in numbered(1000)]
    file = tmp_path / "s.pcapng"
    with tapped(socket_path, "-w", file, "--json", mode=mode) as (server, client, tool):
        exchange(server, client, frames)
        time.sleep(0.3)
        end = tool.stop()
        assert client.up
    result = end.json
    assert end.code == 0, end.err
    there, back = packets_of(file)
    assert [packet.data for packet in there] == frames
    assert [packet.data for packet in back] == frames
    s2m, m2s = result["links"][0]["rings"]
    assert (s2m["passed"], s2m["seen"], s2m["missed"]) == (1000, 1000, 0)
    assert (m2s["passed"], m2s["seen"], m2s["missed"]) == (1000, 1000, 0)
    assert (result["links"][0]["slave"], result["links"][0]["master"]) == ("the-slave", "the-master")


@pytest.mark.parametrize("layout", ["single", "split"])
def test_chained_packets_are_whole(socket_path: str, tmp_path: Path, layout: str) -> None:
    frames = [ethernet(udp(bytes([i]) * (40 + 400 * i))) for i in range(20)]
    file = tmp_path / "s.pcapng"
    with tapped(socket_path, "-w", file, slave={"layout": layout}) as (server, client, tool):
        for frame in frames:
            for sender, receiver in ((client, server), (server, client)):
                send_all(sender.tx[0], [frame])
                assert receive(receiver.rx[0], 1) == [frame]
            time.sleep(0.005)
        time.sleep(0.3)
        tool.stop()
    there, back = packets_of(file)
    assert [packet.data for packet in there] == frames
    assert [packet.data for packet in back] == frames


def test_control_messages_are_told_and_secrets_are_not(socket_path: str, tmp_path: Path) -> None:
    file = tmp_path / "s.pcapng"
    with tapped(socket_path, "--no-control", secret=b"s3cret", id=5) as (_, client, tool):
        client.disconnect("enough of this")
        tool.until("link down")
        assert "HELLO" not in tool.stop().out
    with tapped(socket_path, secret=b"s3cret", id=5) as (_, client, tool):
        client.disconnect("enough of this")
        tool.until("link down")
        end = tool.stop()
    for word in (
        "< control HELLO",
        "> control INIT",
        "set (hidden)",
        "> control ADD_RING",
        "1 descriptor beside it",
        "< control CONNECTED",
        "link up, id 5: the-slave - the-master",
        '"enough of this"',
    ):
        assert word in end.out, word
    assert "s3cret" not in end.out
    with tapped(socket_path, "-w", file, "--control", secret=b"s3cret") as (_, client, tool):
        tool.until("link up")
        tool.stop()
    assert b"s3cret" not in file.read_bytes()
    decoded = memif("decode", file)
    assert decoded.code == 0
    assert "INIT (from slave)" in decoded.out
    assert decoded.out.count("ACK (from master)") == 4


def test_lines_filter_count_and_snaplen(socket_path: str) -> None:
    frames = [ethernet(udp(b"x" * 100, 1, 53)), ethernet(udp(b"y" * 100, 1, 54))]
    with tapped(socket_path, "-c", 3, "--no-control", "-s", 60, "--json", slave=None) as (server, client, tool):
        for _ in range(4):
            exchange(server, client, frames)
        end = tool.ended()
    lines = [json.loads(line) for line in end.out.splitlines() if '"summary"' in line]
    assert len(lines) == 3
    assert {(line["length"], len(line["data"])) for line in lines} == {(142, 120)}
    assert {line["from"] for line in lines} <= {"slave", "master"}


def test_a_filter(socket_path: str) -> None:
    frames = [ethernet(udp(b"x" * 100, 1, 53)), ethernet(udp(b"y" * 100, 1, 54))] * 10
    with (
        library.listen(socket_path) as server,
        running("sniff", "--unsure", socket_path + "t", socket_path, "udp", "port", "54", "--no-control") as tool,
        library.Socket(socket_path + "t") as sock,
    ):
        client = sock.interface()
        pump(server, client, until=lambda: server.up and client.up, timeout=30)
        exchange(server, client, frames)
        time.sleep(0.3)
        end = tool.stop()
    assert end.out.count("UDP, length 100") == 20
    assert end.out.count("10.0.0.2.54: UDP") == 20


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_its_end_does_not_stop_the_traffic(socket_path: str, tmp_path: Path, number: int) -> None:
    with tapped(socket_path, "-w", tmp_path / "s.pcapng") as (server, client, tool):
        exchange(server, client, numbered(200))
        end = tool.stop(number)
        relays = _relays(socket_path)
        assert len(relays) == 1
        if number == signal.SIGINT:
            assert f"process {relays[0]} passes its control messages on" in end.out
        for _ in range(5):
            exchange(server, client, numbered(100))
            server.socket.poll(0)
            client.socket.poll(0)
        assert server.up
        assert client.up
        assert server.stats["disconnects"] == client.stats["disconnects"] == 0
        client.disconnect("goodbye")
        pump(server, client, until=lambda: not server.up)
        assert server.disconnect_reason == "goodbye"  # the control channel works still
    deadline = time.monotonic() + within(10)
    while _relays(socket_path):
        assert time.monotonic() < deadline, "the relay is left over"
        time.sleep(0.05)
    assert not os.path.exists(socket_path + "t")


def _relays(path: str) -> list[int]:
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if b"memif.sniff.relay" in command and path.encode() in command:
            found.append(int(pid))
    return found


def test_the_memory_is_mapped_read_only_and_event_fds_are_not_kept(socket_path: str) -> None:
    with tapped(socket_path) as (_, _, tool):
        tool.until("link up")
        pid = tool.process.pid
        maps = [line for line in Path(f"/proc/{pid}/maps").read_text().splitlines() if "memfd:" in line]
        assert maps
        assert {line.split()[1] for line in maps} == {"r--s"}
        names = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        assert not [name for name in names if "memfd" in name]
        tool.stop()


def test_a_master_that_is_not_there(socket_path: str) -> None:
    with running("sniff", socket_path + "t", socket_path) as tool:
        with library.Socket(socket_path + "t") as sock:
            client = sock.interface(reconnect=0.1)
            pump(client, until=lambda: "the master cannot be reached" in tool.err, timeout=30)
            # Once the master is there it works.
            with library.listen(socket_path) as server:
                pump(server, client, until=lambda: server.up and client.up, timeout=30)
        end = tool.stop()
    assert end.code == 0
    assert "Traceback" not in end.err


def test_several_links_and_one_of_them(socket_path: str, tmp_path: Path) -> None:
    with (
        library.Socket(socket_path) as masters,
        running(
            "sniff", "--unsure", "--id", 2, "-w", tmp_path / "s.pcapng", "--json", socket_path + "t", socket_path
        ) as tool,
        library.Socket(socket_path + "t") as slaves,
    ):
        servers = [masters.interface(role="master", id=i) for i in (1, 2)]
        clients = [slaves.interface(id=i) for i in (1, 2)]
        pump(masters, slaves, until=lambda: all(end.up for end in (*servers, *clients)), timeout=30)
        time.sleep(0.2)
        for i, (server, client) in enumerate(zip(servers, clients, strict=True)):
            exchange(server, client, numbered(100, 100 + 100 * i))
        time.sleep(0.3)
        result = tool.stop().json
    assert [link["id"] for link in result["links"]] == [2]
    there, back = packets_of(tmp_path / "s.pcapng")
    assert [packet.data for packet in there] == [packet.data for packet in back] == numbered(100, 200)


def test_a_link_that_comes_back_is_recorded_again(socket_path: str, tmp_path: Path) -> None:
    again = {"reconnect": 0.05}
    with tapped(socket_path, "-w", tmp_path / "s.pcapng", "--json", slave=again) as (server, client, tool):
        for _ in range(3):
            exchange(server, client, numbered(100))
            time.sleep(0.1)
            client.disconnect("once more")
            pump(server, client, until=lambda: server.up and client.up and server.stats["connects"] > 1)
            time.sleep(0.2)
        maps = Path(f"/proc/{tool.process.pid}/maps").read_text()
        assert maps.count("memfd:") == 1  # that of the present link
        assert len(tool.stop().json["links"]) == 4
    there, _ = packets_of(tmp_path / "s.pcapng")
    assert [packet.data for packet in there] == numbered(100) * 3


def test_every_recorded_packet_of_a_fast_link_is_whole_and_all_are_counted(socket_path: str, tmp_path: Path) -> None:
    file = tmp_path / "s.pcapng"
    with (
        master(socket_path, "sink", "--json", "--wait", 1.0) as sink,
        running("sniff", "--unsure", "-w", file, "--json", socket_path + "t", socket_path) as tool,
    ):
        sent = memif(
            "send", "--socket", socket_path + "t", "--duration", 2, "--size", "60,590,1514", "--json", "--timeout", 20
        )
        received = sink.ended().json
        result = tool.stop().json
    count = sent.json["packets"]
    assert received["packets"] == count
    assert received["lost"] == 0
    ring = result["links"][0]["rings"][0]
    assert ring["seen"] + ring["missed"] == ring["passed"]
    if not ring["estimated"]:
        assert ring["passed"] == count
    there, _ = packets_of(file)
    assert len(there) == ring["seen"] > 500
    last = -1
    for packet in there:
        frame = packet.data
        assert len(frame) == packet.original_length == int.from_bytes(frame[16:18]) + 14
        assert checksum(frame[14:34]) == 0
        mark, word, _ = struct.unpack("<HQQ", frame[42:60])
        assert mark == 0x694D
        assert (word & (1 << 56) - 1) > last
        last = word & (1 << 56) - 1
        assert not any(frame[60:])


@pytest.mark.dpdk
@pytest.mark.parametrize("zero_copy", [False, True], ids=["copy", "zero-copy"])
def test_between_two_testpmds(
    socket_path: str, testpmd: Callable[..., Testpmd], tmp_path: Path, zero_copy: bool
) -> None:
    """One bounces what the other sends; counts agree with theirs, and tshark can read what was recorded."""
    file = tmp_path / "s.pcapng"
    server = testpmd("server", forward="macswap")
    with running("sniff", "--unsure", "-w", file, "--json", socket_path + "t", socket_path) as tool:
        until_exists(socket_path + "t")
        client = testpmd("client", path=socket_path + "t", forward="rxonly", txpkts=128, zero_copy=zero_copy)
        client.wait_link(20)
        server.start()
        client.command("set fwd flowgen")
        client.start()
        time.sleep(2)
        client.stop()
        time.sleep(0.3)
        server.stop()
        sent, bounced = client.stats()["opackets"], server.stats()["opackets"]
        time.sleep(0.2)
        end = tool.stop()
        result = end.json
    assert end.code == 0, end.err
    s2m, m2s = result["links"][0]["rings"]
    for ring, count in ((s2m, sent), (m2s, bounced)):
        assert ring["seen"] > 200
        assert ring["seen"] + ring["missed"] + ring["malformed"] == ring["passed"]
        assert ring["malformed"] == 0
        if not zero_copy:
            assert ring["unsure"] == 0  # DPDK copies
        elif ring is m2s:
            assert ring["unsure"] == ring["seen"]  # a zero-copy client uses the buffers in place
        if not ring["estimated"]:
            assert ring["passed"] == count
    there, back = packets_of(file)
    assert len(there) == s2m["seen"]
    assert len(back) == m2s["seen"]
    if not zero_copy:
        assert {len(packet.data) for packet in there} == {124}  # flowgen counts the frame check sequence in
    done = subprocess.run(
        [
            "tshark",
            "-r",
            file,
            "-c",
            "2000",
            "-o",
            "ip.check_checksum:TRUE",
            "-Y",
            "ip.checksum.status == 0 || _ws.malformed",
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    if not zero_copy:
        assert done.stdout == ""


def until_exists(path: str) -> None:
    """Wait for a socket file."""
    deadline = time.monotonic() + within(30)
    while not os.path.exists(path):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("args", "code", "word"),
    [
        (("/nonexistent/a", "/tmp/b"), 1, "does not exist"),
        (("/tmp/x",), 2, "CONNECT"),
        (("", "/tmp/b"), 1, "listen"),
        (("@a", "@b", "udp", "port", "x"), 2, "filter"),
        (("--load", "0", "@a", "@b"), 2, "load"),
        (("-w", "/nonexistent/f", "@memif-a", "@memif-b"), 1, "No such file"),
    ],
)
def test_what_can_not_be(args: tuple[str, ...], code: int, word: str) -> None:
    result = memif("sniff", *args)
    assert result.code == code, result
    assert word in result.err
    assert "Traceback" not in result.err


def test_stepping_in_front_of_a_master_by_renaming_its_socket(socket_path: str) -> None:
    with library.listen(socket_path) as server:
        os.rename(socket_path, socket_path + ".real")
        with running("sniff", "--unsure", socket_path, socket_path + ".real", "--no-control") as tool:
            until_exists(socket_path)
            with library.Socket(socket_path) as sock:
                client = sock.interface()
                pump(server, client, until=lambda: server.up and client.up, timeout=30)
                exchange(server, client, [ethernet(udp(b"hello"))])
                tool.until("UDP, length 5")
            tool.stop()
        os.rename(socket_path + ".real", socket_path)
