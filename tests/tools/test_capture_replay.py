"""``memif capture`` and ``memif replay``: read and written by tshark, by our own reader, and by nobody."""

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

import memif as library
from ends import send_all
from memif.capture import CaptureReader
from patience import within
from peers.settings import missing
from tools.frames import echo, ethernet, numbered, pcap, udp
from tools.process import Result, Running, master, memif, running, wait_for, words


def feed(socket_path: str, tool: Running, frames: list[bytes], *, mode: str = "ethernet", timeout: float = 30) -> None:
    """Send frames to a tool that is master; wait until it has taken them, or has seen enough."""
    with (
        contextlib.suppress(library.MemifDisconnectedError),
        library.connect(socket_path, timeout=timeout, mode=mode) as iface,
    ):
        send_all(iface.tx[0], frames)
        deadline = time.monotonic() + within(20)
        while iface.tx[0].free() < 1024 and tool.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)


def captured(path: Path) -> list[bytes]:
    """The packets of a file, which has to be whole."""
    with CaptureReader(path, strict=True) as reader:
        return [packet.data for packet in reader]


def tshark(*args: object) -> str:
    """What tshark prints."""
    if shutil.which("tshark") is None:
        missing("tshark is missing: apt-get install tshark")
    return subprocess.run(["tshark", *map(str, args)], capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.mark.parametrize("mode", ["ethernet", "ip"])
def test_a_capture_has_every_packet(socket_path: str, tmp_path: Path, mode: str) -> None:
    frames = [frame[14 * (mode == "ip") :] for frame in numbered(3000)]
    frames[1000] = frames[1000].ljust(9000, b"x")
    file = tmp_path / "c.pcapng"
    with master(socket_path, "capture", "--mode", mode, "-w", file, "--json") as tool:
        feed(socket_path, tool, frames, mode=mode)
        end = tool.stop()
    assert end.code == 0
    assert (end.json["captured"], end.json["files"]) == (3000, [str(file)])
    assert captured(file) == frames
    lines = tshark("-r", file, "-T", "fields", "-e", "frame.len", "-e", "ip.dst").splitlines()
    assert len(lines) == 3000
    assert lines[0] == f"{len(frames[0])}\t10.0.0.2"


def test_count_snaplen_and_filter(socket_path: str, tmp_path: Path) -> None:
    frames = [ethernet(udp(b"x" * 300, 1, 53)), ethernet(echo()), ethernet(udp(b"y" * 300, 1, 54))] * 100
    file = tmp_path / "c.pcapng"
    with master(socket_path, "capture", "-w", file, "-c", 150, "-s", 60, "--json", "udp", "or", "arp") as tool:
        feed(socket_path, tool, frames)
        end = tool.ended()
    assert (end.code, end.json["captured"]) == (0, 150)
    assert end.json["filtered_out"] >= 75
    with CaptureReader(file) as reader:
        packets = list(reader)
    assert [packet.data for packet in packets] == [f[:60] for f in frames if f[23] == 17][:150]
    assert {packet.original_length for packet in packets} == {342}


def test_files_rotate_by_size(socket_path: str, tmp_path: Path) -> None:
    frames = numbered(2000, 500)
    with master(
        socket_path, "capture", "-w", tmp_path / "r.pcapng", "--rotate-size", "100k", "--files", 3, "--json"
    ) as tool:
        feed(socket_path, tool, frames)
        end = tool.stop()
    files = sorted(tmp_path.iterdir())
    assert end.json["files"] == [str(file) for file in files]
    assert len(files) == 3
    assert all(file.stat().st_size <= 100_000 for file in files)
    packets = [packet for file in files for packet in captured(file)]
    assert packets == frames[-len(packets) :]
    assert len(packets) > 300


def test_lines_of_text(socket_path: str) -> None:
    frames = [ethernet(echo(3)), ethernet(udp(b"abc", 5000, 53))]
    with master(socket_path, "capture", "-XX", "-c", 2) as tool:
        feed(socket_path, tool, frames)
        end = tool.ended()
    lines = end.out.splitlines()
    assert end.code == 0
    assert "IP 10.0.0.1 > 10.0.0.2: ICMP echo request, id 7, seq 3, length 64" in lines[0]
    assert lines[1] == "\t0x0000:  02fe 0000 0002 02fe 0000 0001 0800 4500  ..............E."
    assert any("10.0.0.1.5000 > 10.0.0.2.53: UDP, length 3" in line for line in lines)
    assert max(map(len, lines)) <= 100
    assert "2 packets" in end.err


def tcpdump(*args: object) -> list[str]:
    """The lines that tcpdump prints."""
    if shutil.which("tcpdump") is None:
        missing("tcpdump is missing: apt-get install tcpdump")
    line = ["tcpdump", *map(str, args)]
    return subprocess.run(line, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()


@pytest.fixture
def kinds(tmp_path: Path) -> Path:
    """A capture with one packet of each kind: ICMP, UDP with a wrong IP checksum, ARP, in a VLAN, not known."""
    wrong = bytearray(ethernet(udp(b"abc", 5000, 53)))
    wrong[24] ^= 1
    tagged = ethernet(echo(5))
    frames = [
        ethernet(echo(3)),
        bytes(wrong),
        ethernet(bytes.fromhex("0001080006040001") + bytes(20), 0x0806),
        tagged[:12] + bytes.fromhex("81000005") + tagged[12:],
        ethernet(b"?" * 46, 0x88B5),
    ]
    file = tmp_path / "kinds.pcap"
    file.write_bytes(pcap(frames))
    return file


@pytest.mark.parametrize("option", ["-x", "-xx", "-X", "-XX"])
def test_bytes_are_printed_as_tcpdump_prints_them(kinds: Path, option: str) -> None:
    ours = memif("capture", "-r", kinds, option).out.splitlines()
    theirs = tcpdump("-n", "-r", kinds, option)

    def rows(lines: list[str]) -> list[str]:
        return [line.rstrip() for line in lines if line.startswith("\t0x")]

    assert rows(ours) == rows(theirs)
    assert rows(ours)


def test_a_file_is_read_as_tcpdump_reads_it(kinds: Path, tmp_path: Path) -> None:
    for expression in ("icmp", "udp port 53 or arp", "vlan and icmp", "ether[12:2] = 0x88b5", "greater 60"):
        end = memif("capture", "-r", kinds, "--json", expression)
        result = json.loads(end.err)
        assert (end.code, result["filtered_out"]) == (0, 5 - result["captured"])
        theirs = [line for line in tcpdump("-n", "-r", kinds, expression) if not line.startswith("\t")]
        assert result["captured"] == len(end.out.splitlines()) == len(theirs)
    lines = memif("capture", "-n", "-l", "-e", "-v", "-r", kinds).out.splitlines()
    assert "02:fe:00:00:00:01 > 02:fe:00:00:00:02, ethertype IPv4 (0x0800): IP (tos 0x0, ttl 64, id 1, " in lines[0]
    assert "flags [none], proto ICMP (1), length 84) 10.0.0.1 > 10.0.0.2: ICMP echo request" in lines[0]
    assert "bad cksum" in lines[1]
    assert all("bad cksum" not in line for line in lines[:1] + lines[2:])
    assert "ethertype 802.1Q (0x8100): vlan 5, IP (" in lines[3]
    assert "10.0.0.1 > 10.0.0.2" in memif("capture", "-r", kinds, "-A").out
    again = tmp_path / "again.pcapng"
    end = memif("capture", "-r", "-", "-w", again, "-c", 2, "-s", 40, "ip", stdin=kinds.read_bytes())
    assert end.code == 0, end
    with CaptureReader(kinds) as old, CaptureReader(again, strict=True) as new:
        first, second, *_ = old
        assert list(new) == [packet._replace(data=packet.data[:40]) for packet in (first, second)]


def test_a_file_that_cannot_be_read(kinds: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.pcap"
    cut.write_bytes(kinds.read_bytes()[:-3])
    end = memif("capture", "-r", cut)
    assert (end.code, len(end.out.splitlines())) == (0, 4)
    assert "ends in the middle of a packet" in end.err
    for args, code, word in (
        (("-r", tmp_path / "none"), 1, "No such file"),
        (("-r", __file__), 1, "neither pcapng nor pcap"),
        (("-r", kinds, "-w", kinds), 2, "overwrite"),
        (("-r", kinds, "udp", "and", "and"), 2, "syntax error"),
    ):
        end = memif("capture", *args)
        assert (end.code, word in end.err, "Traceback" in end.err) == (code, True, False), end


def test_ctrl_c_ends_the_wait_for_a_pipe() -> None:
    reader, writer = os.pipe()
    with open(reader, "rb") as pipe, open(writer, "wb") as feeding:
        feeding.write(pcap([ethernet(echo(3))]))
        feeding.flush()
        process = subprocess.Popen(
            words("capture", "-r", "-"), stdin=pipe, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert "ICMP echo request" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=within(20))
    assert "1 packets" in err
    assert process.returncode == 0


def test_json_lines(socket_path: str) -> None:
    with master(socket_path, "capture", "--json", "-c", 1) as tool:
        feed(socket_path, tool, [ethernet(echo(3))])
        end = tool.ended()
    assert end.json["length"] == 98
    assert "echo request" in end.json["summary"]


def test_standard_output_is_for_tshark(socket_path: str) -> None:
    reader, writer = os.pipe()
    with master(socket_path, "capture", "-w", "-", stdout=writer) as tool:
        os.close(writer)
        lines = subprocess.Popen(
            ["tshark", "-r", "-", "-c", "3"], stdin=reader, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        os.close(reader)
        feed(socket_path, tool, numbered(10))
        deadline = time.monotonic() + within(30)
        with (
            library.connect(socket_path, timeout=30) as iface,
            contextlib.suppress(library.MemifDisconnectedError),
        ):
            while tool.process.poll() is None and time.monotonic() < deadline:
                iface.tx[0].send(numbered(10))  # until it has noticed that tshark has seen enough
                iface.socket.poll(0.05)
        out = lines.communicate(timeout=30)[0]
        end = tool.ended()
    assert len(out.splitlines()) == 3
    assert end.code == 1
    # It met the end in a write, or in a moment without packets.
    last = end.err.splitlines()[-1]
    assert last.startswith("memif: write standard output")
    assert "Broken pipe" in last or "the reader of the pipe has gone" in last
    assert "Traceback" not in end.err


def test_a_full_disk_keeps_what_was_captured(socket_path: str, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small file system")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", disk], check=True)
    try:
        with master(socket_path, "capture", "-w", disk / "c.pcapng") as tool:
            feed(socket_path, tool, numbered(3000, 200))
            end = tool.ended()
        assert end.code == 1
        assert "No space left on device" in end.err
        assert len([line for line in end.err.splitlines() if line.startswith("memif: ")]) == 1
        packets = captured(disk / "c.pcapng")
        assert packets == numbered(3000, 200)[: len(packets)]
        assert len(packets) > 500
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_leave_a_whole_file(socket_path: str, tmp_path: Path, number: int) -> None:
    file = tmp_path / "c.pcapng"
    with master(socket_path, "capture", "-w", file) as tool:
        feed(socket_path, tool, numbered(500))
        end = tool.stop(number)
    assert end.code == 0
    assert "500 packets" in end.out
    assert len(captured(file)) == 500


@pytest.mark.parametrize(
    ("args", "code", "word"),
    [
        (("udp", "and", "and"), 2, "syntax error"),
        (("-w", "/nonexistent/x.pcapng"), 1, "No such file"),
        (("--rotate-size", "1M"), 2, "need -w"),
        (("-w", "-", "--rotate-time", "3"), 2, "standard output"),
        (("-w", "/tmp", "-c", "1"), 1, "s a directory"),
        (("-s", "-1"), 2, "snaplen"),
        (("-W", "3", "-G", "5", "-w", "/tmp/x"), 2, "-C"),
        (("-C", "3", "--rotate-size", "5M", "-w", "/tmp/x"), 2, "the same"),
        (("-r", "/tmp/x"), 2, "not a link: --socket"),
        (("--files", "3", "-w", "/tmp/x"), 2, "--files"),
    ],
)
def test_what_can_not_be(args: tuple[str, ...], code: int, word: str) -> None:
    result = memif("capture", "--role", "master", "--socket", "@memif-never", *args)
    assert result.code == code
    assert word in result.err
    assert "Traceback" not in result.err
    assert not result.out


def received(socket_path: str, file: Path, count: int, *args: object) -> tuple[list[bytes], list[float], Result]:
    """What arrives when a file is replayed, and when."""
    times: list[float] = []
    frames: list[bytes] = []
    with (
        library.listen(socket_path) as iface,
        running("replay", "--socket", socket_path, "--json", *args, file) as tool,
    ):
        iface.wait_up(30)
        with contextlib.suppress(library.MemifDisconnectedError):
            while len(frames) < count:
                with iface.rx[0].recv(256, timeout=10) as burst:
                    times += [time.monotonic()] * len(burst)
                    frames += burst.tobytes()
        while tool.process.poll() is None:
            iface.socket.poll(0.05)
        return frames, times, tool.ended()


def test_a_replay_is_exact(socket_path: str, tmp_path: Path) -> None:
    frames = [frame[: 60 + i % 1000].ljust(60 + i % 1000, b".") for i, frame in enumerate(numbered(5000))]
    file = tmp_path / "r.pcap"
    file.write_bytes(pcap(frames, step=0.00001))
    got, _, end = received(socket_path, file, 5000, "--topspeed")
    assert got == frames
    assert end.code == 0


def test_a_replay_keeps_the_times(socket_path: str, tmp_path: Path) -> None:
    file = tmp_path / "r.pcap"
    file.write_bytes(pcap(numbered(11), step=0.1))
    _, times, _ = received(socket_path, file, 11)
    assert 0.85 < times[-1] - times[0] < within(1.6)
    gaps = sorted(after - before for before, after in itertools.pairwise(times))
    assert 0.05 < gaps[len(gaps) // 2] < within(0.2)
    _, times, _ = received(socket_path, file, 11, "-x", 10)
    assert 0.05 < times[-1] - times[0] < within(0.6)


def test_a_replay_loops(socket_path: str, tmp_path: Path) -> None:
    file = tmp_path / "r.pcap"
    file.write_bytes(pcap(numbered(40)))
    got, _, end = received(socket_path, file, 100, "--topspeed", "--loop", 0, "-L", 100)
    assert got == (numbered(40) * 3)[:100]
    assert end.json["packets"] == 100


def test_capture_and_replay_through_standard_input(socket_path: str, tmp_path: Path) -> None:
    file = tmp_path / "c.pcapng"
    with master(socket_path, "capture", "-w", file, "-c", 50) as tool:
        result = memif("replay", "--socket", socket_path, "-t", "-", stdin=pcap(numbered(50)))
        assert result.code == 0, result.err
        tool.ended()
    assert captured(file) == numbered(50)


@pytest.mark.parametrize(
    ("content", "code", "word"),
    [
        (None, 1, "No such file"),
        (b"", 1, "empty"),
        (b"plain text, no capture at all", 1, "neither pcapng nor pcap"),
        (b"\x1f\x8b\x08" + bytes(30), 1, "damaged gzip data"),
        (pcap([b"E" * 40], linktype=101), 1, "no packets for mode ethernet"),
    ],
)
def test_files_that_are_no_captures(tmp_path: Path, content: bytes | None, code: int, word: str) -> None:
    file = tmp_path / "x"
    if content is not None:
        file.write_bytes(content)
    result = memif("replay", file)
    assert (result.code, result.out) == (code, "")
    assert word in result.err
    assert len(result.err.splitlines()) == 1


def test_a_truncated_file_is_sent_as_far_as_it_goes(socket_path: str, tmp_path: Path) -> None:
    file = tmp_path / "t.pcap"
    file.write_bytes(pcap(numbered(20))[:-30])
    with master(socket_path, "sink", "--json", "-k", 19) as sink:
        result = memif("replay", "-t", "--socket", socket_path, file)
        assert sink.ended().json["packets"] == 19
    assert result.code == 1
    assert "19 packets" in result.out
    assert [line for line in result.err.splitlines() if "ends in the middle of a packet" in line]


def test_a_directory_is_no_capture(tmp_path: Path) -> None:
    result = memif("replay", tmp_path)
    assert result.code == 1
    assert len(result.err.splitlines()) == 1


def test_a_fifo_whose_reader_leaves(socket_path: str, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with running("capture", "--role", "master", "--socket", socket_path, "-w", fifo) as tool:
        with open(fifo, "rb") as reader:
            wait_for(socket_path)
            feed(socket_path, tool, numbered(5))
            assert reader.read(4) == b"\x0a\x0d\x0d\x0a"
        deadline = time.monotonic() + within(30)
        while tool.process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(library.MemifTimeoutError):
                feed(socket_path, tool, numbered(5), timeout=0.5)
        end = tool.ended()
    assert end.code == 1
    assert len([line for line in end.err.splitlines() if line.startswith("memif: ")]) == 1
    assert "Traceback" not in end.err
