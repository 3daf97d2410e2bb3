"""PcapngWriter: its files are judged by tshark, capinfos, scapy and python-pcapng, not only by our reader."""

import errno
import io
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from capture.tools import capinfos, need, tshark
from ends import linked as pair
from memif.capture import CaptureOSError, CapturePipeClosedError, CaptureReader, LinkType, PcapngWriter
from memif.capture.blocks import STATISTICS_SIZE
from memif.errors import MemifClosedError, MemifError, MemifValueError
from patience import within

UDP = bytes.fromhex(
    "020000000001020000000002080045000020000100004011"  # Ethernet, IPv4
    "b6c90a0000010a00000230390035000c0000deadbeef"
)
PING6 = bytes.fromhex("6000000000083a40" + "fe80" + "00" * 13 + "01" + "fe80" + "00" * 13 + "02" + "8000000000010002")
BASE = 1_700_000_000_123_456_789


def write_sample(path: Path) -> None:
    with PcapngWriter(path, comment="two links", hardware="test bench", application="memif test") as writer:
        assert writer.add_interface("memif1/0", description="left") == 0
        assert writer.add_interface("ip0", linktype=LinkType.RAW, snaplen=48) == 1
        writer.write_packets([UDP, UDP + b"\0", bytearray(UDP), memoryview(UDP)], BASE, 0, "in")
        writer.write_packet(PING6, BASE + 1000, interface=1, direction="out", comment="six")
        writer.write_packet(PING6 + bytes(100), BASE + 2000, interface=1)
        writer.set_statistics(0, dropped=17)


def test_tshark_reads_every_field(tmp_path: Path) -> None:
    write_sample(tmp_path / "a.pcapng")
    fields = [
        "frame.interface_name",
        "frame.time_epoch",
        "frame.len",
        "frame.cap_len",
        "frame.packet_flags_direction",
    ]
    rows = tshark(tmp_path / "a.pcapng", *fields, "ip.src", "udp.dstport", "icmpv6.type", "frame.comment")
    assert rows == [
        ["memif1/0", "1700000000.123456789", "46", "46", "0x00000001", "10.0.0.1", "53", "", ""],
        ["memif1/0", "1700000000.123456789", "47", "47", "0x00000001", "10.0.0.1", "53", "", ""],
        ["memif1/0", "1700000000.123456789", "46", "46", "0x00000001", "10.0.0.1", "53", "", ""],
        ["memif1/0", "1700000000.123456789", "46", "46", "0x00000001", "10.0.0.1", "53", "", ""],
        ["ip0", "1700000000.123457789", "48", "48", "0x00000002", "", "", "128", "six"],
        ["ip0", "1700000000.123458789", "148", "48", "", "", "", "128", ""],
    ]


def test_capinfos_finds_a_proper_file_with_drops(tmp_path: Path) -> None:
    write_sample(tmp_path / "a.pcapng")
    text = capinfos(tmp_path / "a.pcapng")
    for expected in (
        "Number of interfaces in file: 2",
        "Capture comment:     two links",
        "Capture application: memif test",
        "Capture hardware:    test bench",
        "Name = memif1/0",
        "Description = left",
        "Time resolution = 0x09",
        "Number of stat entries = 1",
        "Number of packets = 4",
        "Number of packets = 2",
    ):
        assert expected in text, f"{expected!r} not in:\n{text}"


def test_other_libraries_read_it(tmp_path: Path) -> None:
    write_sample(tmp_path / "a.pcapng")
    scapy_utils = need("scapy.utils")
    with scapy_utils.RawPcapNgReader(str(tmp_path / "a.pcapng")) as reader:
        packets = [(data, meta.wirelen, (meta.tshigh << 32) + meta.tslow) for data, meta in reader]
    assert [data for data, _, _ in packets] == [UDP, UDP + b"\0", UDP, UDP, PING6, (PING6 + bytes(100))[:48]]
    assert packets[5][1:] == (148, BASE + 2000)
    pcapng = need("pcapng")
    with open(tmp_path / "a.pcapng", "rb") as file:
        found = list(pcapng.FileScanner(file))
    kinds = [type(block).__name__ for block in found]
    assert (
        kinds == ["SectionHeader"] + ["InterfaceDescription"] * 2 + ["EnhancedPacket"] * 6 + ["InterfaceStatistics"] * 2
    )
    assert found[3].packet_data == UDP
    assert found[-2].options["isb_ifdrop"] == 17
    assert found[-2].options["isb_ifrecv"] == 21


@pytest.mark.parametrize("direction", ["unknown", "in", "out"])
@pytest.mark.parametrize("ragged", [False, True])
def test_array_writes_the_same_bytes_as_a_list(direction: str, ragged: bool) -> None:
    np = need("numpy")
    matrix = np.arange(5 * 64, dtype=np.uint8).reshape(5, 64)
    lengths = np.array([60, 61, 62, 63, 64] if ragged else [61] * 5, np.uint32)
    times = np.arange(5, dtype=np.uint64) + BASE
    files = []
    for write in (
        lambda w: w.write_packets((matrix, lengths), times, 0, direction),
        lambda w: w.write_packets([r[:n] for r, n in zip(matrix, lengths, strict=True)], times.tolist(), 0, direction),
    ):
        sink = io.BytesIO()
        writer = PcapngWriter(sink)
        writer.add_interface("x")
        assert write(writer) == 5
        files.append(sink.getvalue())
    assert files[0] == files[1]
    packets = list(CaptureReader(io.BytesIO(files[0])))
    assert [p.data for p in packets] == [m[:n].tobytes() for m, n in zip(matrix, lengths, strict=True)]
    assert [p.timestamp_ns for p in packets] == times.tolist()
    assert {p.direction for p in packets} == {direction}


def test_gathered_rows_keep_the_length_on_the_wire() -> None:
    np = need("numpy")
    sink = io.BytesIO()
    with PcapngWriter(sink, snaplen=40) as writer:
        writer.write_array(np.zeros((2, 64), np.uint8), np.array([1500, 30]), BASE)
        writer.write_array(np.zeros((2, 64), np.uint8), np.array([1500, 1600]), BASE)
        writer.write_array(np.zeros((0, 64), np.uint8), np.array([], np.uint32), BASE)
    got = [(len(p.data), p.original_length) for p in CaptureReader(io.BytesIO(sink.getvalue()))]
    assert got == [(40, 1500), (30, 30), (40, 1500), (40, 1600)]


def test_odd_buffers_are_written_by_their_bytes() -> None:
    np = need("numpy")
    odd = [np.arange(4, dtype=">u2"), np.arange(8, dtype=np.uint8)[::2], memoryview(b"ab").cast("B"), b""]
    sink = io.BytesIO()
    with PcapngWriter(sink) as writer:
        writer.write_packets(odd, 1)
        for one in odd:
            writer.write_packet(one, 1)
    expected = [b"\0\0\0\1\0\2\0\3", b"\0\2\4\6", b"ab", b""]
    assert [p.data for p in CaptureReader(io.BytesIO(sink.getvalue()))] == expected * 2


@pytest.mark.parametrize(
    "misuse",
    [
        lambda w: w.write_packets([b"x"], -1),
        lambda w: w.write_packets([b"x"], 1 << 64),
        lambda w: w.write_packets([b"x", b"y"], [1]),
        lambda w: w.write_packets(["text"], 1),
        lambda w: w.write_packets([b"x"], 1, 3),
        lambda w: w.write_packets([b"x"], 1, 0, "sideways"),
        lambda w: w.write_packet(b"x", -5),
        lambda w: w.write_packet("text"),
        lambda w: w.add_interface(linktype=70000),
        lambda w: w.add_interface(snaplen=0),
    ],
)
def test_misuse_is_refused_and_writes_nothing(misuse: object) -> None:
    sink = io.BytesIO()
    writer = PcapngWriter(sink)
    writer.add_interface()
    before = sink.getvalue()
    with pytest.raises(MemifValueError):
        misuse(writer)  # type: ignore[operator]
    assert sink.getvalue() == before


def test_misuse_of_arrays_is_refused() -> None:
    np = need("numpy")
    writer = PcapngWriter(io.BytesIO())
    rows, lengths = np.zeros((3, 64), np.uint8), np.full(3, 64)
    for bad in (
        (rows, lengths[:2], 1),
        (rows.astype(np.uint16), lengths, 1),
        (rows, lengths, np.array([1, 2])),
        (rows, lengths, np.array([-1, 2, 3])),
        (rows, lengths, -1),
        (rows, lengths, 1 << 64),
    ):
        with pytest.raises(MemifValueError):
            writer.write_array(*bad)


def test_closed_writer_refuses_and_close_repeats(tmp_path: Path) -> None:
    writer = PcapngWriter(tmp_path / "a.pcapng")
    writer.close()
    writer.close()
    with pytest.raises(MemifClosedError):
        writer.write_packet(b"x")


def test_unwritable_path_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        PcapngWriter(tmp_path / "none" / "a.pcapng")
    assert isinstance(caught.value, MemifError)
    assert str(caught.value) == f"open {tmp_path}/none/a.pcapng: No such file or directory"


def test_only_the_owner_may_read_the_file(tmp_path: Path) -> None:
    PcapngWriter(tmp_path / "a.pcapng").close()
    assert (tmp_path / "a.pcapng").stat().st_mode & 0o777 == 0o600


def fill(writer: PcapngWriter, packet: bytes) -> None:
    """Write until an error comes, for ten seconds at most."""
    deadline = time.monotonic() + within(10)
    while time.monotonic() < deadline:
        writer.write_packets([packet] * 10, 1)


FULL_DISK = """
import resource, sys
from memif.capture import PcapngWriter
writer = PcapngWriter(sys.argv[1])
writer.add_interface("x")
resource.setrlimit(resource.RLIMIT_FSIZE, (20_001, 20_001))
try:
    while True:
        writer.write_packets([bytes(100)] * 7, 1)
except OSError as error:
    print(type(error).__name__, error.errno, error)
writer.close()
"""


def test_file_size_limit_leaves_whole_packets(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, timeout=30, check=True
    )
    size = path.stat().st_size
    kept = f"({size - STATISTICS_SIZE} bytes kept, whole packets)"
    assert done.stdout == f"CaptureOSError {errno.EFBIG} write {path} {kept}: File too large\n"
    assert done.stderr == ""
    assert 20_001 - 132 < size <= 20_001
    reader = CaptureReader(path, strict=True)
    count = len(list(reader))
    reader.close()
    assert count > 100
    assert len(tshark(path, "frame.len")) == count


def test_full_disk_leaves_whole_packets(tmp_path: Path) -> None:
    """A real file system that runs full, also freed again: the capture goes on."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, timeout=10).returncode != 0:
        pytest.skip("mounting a tmpfs is not permitted here")
    try:
        filler = tmp_path / "filler"
        filler.write_bytes(bytes(32 << 10))
        writer = PcapngWriter(tmp_path / "a.pcapng")
        with pytest.raises(CaptureOSError) as caught:
            fill(writer, bytes(997))
        assert caught.value.errno == errno.ENOSPC
        assert "\n" not in str(caught.value)
        first = len(tshark(tmp_path / "a.pcapng", "frame.len"))
        assert first > 20
        filler.unlink()
        writer.write_packets([bytes(997)] * 3, 1)
        writer.close()
        assert len(tshark(tmp_path / "a.pcapng", "frame.len")) == first + 3
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True, timeout=10)


def test_interrupt_in_the_middle_of_a_write_leaves_whole_packets(tmp_path: Path) -> None:
    """Ctrl-C while a pipe's reader is slow: the exception comes through and the writer is marked broken."""
    reading, writing = os.pipe()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    old = signal.signal(signal.SIGALRM, interrupt)
    try:
        writer = PcapngWriter(writing)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(KeyboardInterrupt):
            writer.write_packets([bytes(1000)] * 1000, 1)  # more than a pipe holds
        assert writer.broken
        with pytest.raises(CapturePipeClosedError):
            writer.write_packet(b"x")
        writer.close()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
        os.close(reading)
        os.close(writing)


def test_fifo_whose_reader_leaves_is_a_clean_end(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    got: list[int] = []

    def read_some() -> None:
        with CaptureReader(fifo) as reader:
            got.extend(len(next(reader).data) for _ in range(3))

    thread = threading.Thread(target=read_some)
    thread.start()
    writer = PcapngWriter(fifo)
    with pytest.raises(CapturePipeClosedError) as caught:
        fill(writer, b"abc")
    thread.join(10)
    assert isinstance(caught.value, BrokenPipeError)
    assert writer.broken
    assert got == [3, 3, 3]
    writer.close()


def test_nonblocking_pipe_is_waited_for() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    thread_got = bytearray()

    def slowly() -> None:
        time.sleep(0.05)
        while chunk := os.read(reading, 65536):
            thread_got.extend(chunk)

    thread = threading.Thread(target=slowly)
    thread.start()
    with PcapngWriter(writing) as writer:
        writer.write_packets([bytes(1000)] * 500, 1)
    os.close(writing)
    thread.join(10)
    os.close(reading)
    assert len(list(CaptureReader(io.BytesIO(bytes(thread_got)), strict=True))) == 500


def test_fast_enough_for_a_busy_ring() -> None:
    """A generous bound: measured is about half a microsecond a packet, so only a blunder fails here."""
    packets = [bytes(60)] * 256
    best = float("inf")
    with PcapngWriter("/dev/null") as writer:
        for _ in range(50):
            start = time.perf_counter()
            writer.write_packets(packets, BASE, 0, "in")
            best = min(best, (time.perf_counter() - start) / 256)
    assert best < within(3e-6), f"{best * 1e9:.0f} ns a packet"


@pytest.mark.parametrize("snaplen", [262144, 100, 1])
@pytest.mark.parametrize(
    "sizes",
    [[60] * 40, [512] * 40, [513] * 40, [1500] * 40, [60, 61] * 20, [1, 2048, 5000] * 5, [7], [150, 100, 101], []],
    ids=str,
)
def test_a_burst_is_the_same_file_however_it_is_written(socket_path: str, sizes: list[int], snaplen: int) -> None:
    """In every form, received or not; by any size, chained, cut to a snap length."""
    packets = [bytes([i + 1]) * size for i, size in enumerate(sizes)]
    files = [io.BytesIO() for _ in range(3)]
    with pair(socket_path) as (server, client):
        server.tx[0].send(packets)
        with client.rx[0].recv(64, timeout=0.1 if not sizes else 5) as burst:
            assert len(burst) == len(sizes)
            for file, form in zip(files, (burst, packets, iter(packets)), strict=True):
                writer = PcapngWriter(file, snaplen=snaplen)
                writer.add_interface("x")
                assert writer.write_packets(form, 5, direction="in") == len(sizes)
    first, *others = [file.getvalue() for file in files]
    assert others == [first, first]
    found = list(CaptureReader(io.BytesIO(first), strict=True))
    assert [(p.data, p.original_length) for p in found] == [(packet[:snaplen], len(packet)) for packet in packets]
