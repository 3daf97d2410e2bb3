"""CaptureReader: files of Wireshark's programs and of scapy, both byte orders, cut files, any bytes at
all."""

import io
import os
import struct
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given, settings, strategies as st

from capture.tools import need, run
from memif.capture import CaptureFormatError, CaptureReader, CaptureTruncatedError, Packet, PcapngWriter
from memif.errors import MemifClosedError, MemifError

FRAMES = [bytes(range(n)) + bytes(60 - n) for n in (1, 20, 33)]
BASE = 1_700_000_000_123_456_789


def read(data: bytes, *, strict: bool = True) -> list[Packet]:
    """Read a whole capture from memory."""
    return list(CaptureReader(io.BytesIO(data), strict=strict))


def write(path: Path) -> Path:
    """Write the sample of three frames with our writer."""
    with PcapngWriter(path) as writer:
        writer.add_interface("memif1/0")
        writer.write_packets(FRAMES, [BASE, BASE + 1, BASE + 10**9])
    return path


def blk(order: str, kind: int, body: bytes) -> bytes:
    """Build one pcapng block by hand."""
    body += bytes(-len(body) % 4)
    return struct.pack(order + "II", kind, len(body) + 12) + body + struct.pack(order + "I", len(body) + 12)


def shb(order: str, major: int = 1) -> bytes:
    """Build a section header by hand."""
    return blk(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, major, 0, -1))


def idb(order: str, options: bytes = b"", linktype: int = 1, snaplen: int = 0) -> bytes:
    """Build an interface description by hand."""
    return blk(order, 1, struct.pack(order + "HHI", linktype, 0, snaplen) + options)


def epb(order: str, ticks: int, data: bytes, interface: int = 0, options: bytes = b"") -> bytes:
    """Build an enhanced packet by hand."""
    head = struct.pack(order + "IIIII", interface, ticks >> 32, ticks & 0xFFFFFFFF, len(data), len(data))
    return blk(order, 6, head + data + bytes(-len(data) % 4) + options)


@pytest.mark.parametrize("kind", ["pcap", "nsecpcap", "pcapng"])
@pytest.mark.parametrize("tool", ["tshark", "editcap"])
def test_reads_what_wiresharks_programs_write(tmp_path: Path, tool: str, kind: str) -> None:
    source, target = write(tmp_path / "a.pcapng"), tmp_path / f"b.{kind}"
    run(
        *(
            ("tshark", "-r", source, "-F", kind, "-w", target)
            if tool == "tshark"
            else ("editcap", "-F", kind, source, target)
        )
    )
    with CaptureReader(target, strict=True) as reader:
        packets = list(reader)
    assert reader.format == ("pcapng" if kind == "pcapng" else "pcap")
    assert [p.data for p in packets] == FRAMES
    unit = 1000 if kind == "pcap" else 1
    assert [p.timestamp_ns for p in packets] == [t // unit * unit for t in (BASE, BASE + 1, BASE + 10**9)]
    if kind == "pcapng":
        assert reader.interfaces[0].name == "memif1/0"


def test_reads_editcaps_snaplen_and_comments(tmp_path: Path) -> None:
    run("editcap", "-s", "10", "-a", "2:hello", write(tmp_path / "a.pcapng"), tmp_path / "b.pcapng")
    packets = list(CaptureReader(tmp_path / "b.pcapng", strict=True))
    assert [(p.data, p.original_length) for p in packets] == [(f[:10], 60) for f in FRAMES]


@pytest.mark.parametrize("nano", [False, True])
@pytest.mark.parametrize("endianness", ["<", ">"])
def test_reads_scapys_pcap(tmp_path: Path, endianness: str, nano: bool) -> None:
    utils = need("scapy.utils")
    with utils.RawPcapWriter(str(tmp_path / "a.pcap"), linktype=1, endianness=endianness, nano=nano) as writer:
        writer.write_header(None)
        for number, frame in enumerate(FRAMES):
            writer.write_packet(frame, sec=5, usec=number + 7)
    packets = list(CaptureReader(str(tmp_path / "a.pcap"), strict=True))
    assert [p.data for p in packets] == FRAMES
    assert [p.timestamp_ns for p in packets] == [5 * 10**9 + (n + 7) * (1 if nano else 1000) for n in range(3)]


def test_reads_scapys_pcapng(tmp_path: Path) -> None:
    utils, layers = need("scapy.utils"), need("scapy.layers.l2")
    utils.PcapNgWriter(str(tmp_path / "a.pcapng")).write([layers.Ether(f) for f in FRAMES])
    assert [p.data for p in CaptureReader(tmp_path / "a.pcapng")] == FRAMES


def test_scapy_reads_ours(tmp_path: Path) -> None:
    packets = need("scapy.utils").rdpcap(str(write(tmp_path / "a.pcapng")))
    assert [bytes(p) for p in packets] == FRAMES
    assert int(packets[0].time * 10**9) == BASE


@pytest.mark.parametrize("order", ["<", ">"])
def test_every_packet_block_in_both_byte_orders(order: str) -> None:
    out = struct.pack(order + "HHIHH", 2, 4, 2, 0, 0)
    file = (
        shb(order)
        + idb(order, snaplen=5)
        + blk(order, 0x0BAD, b"private")
        + epb(order, 3, b"abc", 0, out)
        + blk(order, 3, struct.pack(order + "I", 9) + b"12345")
        + blk(order, 2, struct.pack(order + "HHIIII", 0, 0xFFFF, 0, 4, 2, 7) + b"xy")
        + blk(order, 5, struct.pack(order + "III", 0, 0, 6) + struct.pack(order + "HHQHHQ", 4, 8, 30, 5, 8, 3))
    )
    reader = CaptureReader(io.BytesIO(file), strict=True)
    assert list(reader) == [
        Packet(3000, b"abc", 3, 0, 1, "out"),
        Packet(0, b"12345", 9, 0, 1, "unknown"),
        Packet(4000, b"xy", 7, 0, 1, "unknown"),
    ]
    counters = reader.statistics[0]
    assert (counters.timestamp_ns, counters.received, counters.dropped) == (6000, 30, 3)


@pytest.mark.parametrize(
    ("options", "ticks", "nanoseconds"),
    [
        (b"", 5, 5000),
        (b"\x09\0\1\0\x09\0\0\0", 5, 5),
        (b"\x09\0\1\0\x00\0\0\0", 5, 5 * 10**9),
        (b"\x09\0\1\0\x0c\0\0\0", 5999, 5),
        (b"\x09\0\1\0\x8a\0\0\0", 512, 5 * 10**8),
        (b"\x09\0\1\0\x7f\0\0\0", 2**64 - 1, 0),
        (b"\x0e\0\x08\0" + struct.pack("<q", 100), 5, 100 * 10**9 + 5000),
        (b"\x0e\0\x08\0" + struct.pack("<q", -1), 0, -(10**9)),
    ],
)
def test_time_resolutions(options: bytes, ticks: int, nanoseconds: int) -> None:
    assert read(shb("<") + idb("<", options) + epb("<", ticks, b""))[0].timestamp_ns == nanoseconds


def test_sections_of_different_byte_order_number_interfaces_on() -> None:
    one = shb("<") + idb("<") + idb("<", linktype=101) + epb("<", 1, b"a", 1)
    two = shb(">") + idb(">", linktype=147) + epb(">", 1, b"b", 0)
    reader = CaptureReader(io.BytesIO(one + two + one), strict=True)
    assert [(p.data, p.interface, p.linktype) for p in reader] == [
        (b"a", 1, 101),
        (b"b", 2, 147),
        (b"a", 4, 101),
    ]
    assert len(reader.interfaces) == 5


@pytest.mark.parametrize("kind", ["pcap", "pcapng"])
def test_a_cut_anywhere_gives_the_whole_packets_before_it(tmp_path: Path, kind: str) -> None:
    run("editcap", "-F", kind, write(tmp_path / "a.pcapng"), tmp_path / "b")
    whole = (tmp_path / "b").read_bytes()
    counts = []
    for end in range(4, len(whole) + 1):
        reader = CaptureReader(io.BytesIO(whole[:end]))
        counts.append(len(list(reader)))
        strict = CaptureReader(io.BytesIO(whole[:end]), strict=True)
        if reader.truncated:
            with pytest.raises(CaptureTruncatedError, match="middle of a block"):
                list(strict)
        else:
            assert len(list(strict)) == counts[-1]
    assert all(b - a in (0, 1) for a, b in pairwise(counts))
    assert counts[-1] == 3


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "empty"),
        (b"\n\r", "too short"),
        (b"GET / HTTP/1.1\r\n", "neither pcapng nor pcap (starts with 47 45 54 20)"),
        (b"\x1f\x8b\x08\0", "too short"),
        (b"\x1f\x8b\x08" + bytes(30), "damaged gzip"),
        (shb("<", 2), "pcapng version 2"),
        (b"\x0a\x0d\x0d\x0a" + bytes(24), "byte-order magic"),
        (b"\xd4\xc3\xb2\xa1" + struct.pack("<HHIIII", 3, 0, 0, 0, 0, 1), "pcap version 3"),
        (
            b"\xd4\xc3\xb2\xa1" + struct.pack("<HHIIII", 2, 4, 0, 0, 0, 1) + struct.pack("<4I", 0, 0, 1 << 31, 9),
            "packet of",
        ),
        (shb("<") + struct.pack("<II", 6, 0xFFFFFFF0), "not a block"),
        (shb("<") + struct.pack("<III", 6, 0, 0), "not a block"),
        (shb("<") + struct.pack("<IIII", 6, 16, 0, 20), "lengths of a block differ"),
        (shb("<") + epb("<", 0, b"x"), "interface 0 was not declared"),
        (
            shb("<") + idb("<") + blk("<", 6, struct.pack("<IIIII", 0, 0, 0, 0xFFFFFFFF, 1)),
            "packet of 4294967295",
        ),
        (shb("<") + idb("<") + blk("<", 6, b""), "too short"),
        (shb("<") + blk("<", 1, b""), "too short"),
        (shb("<") + idb("<") * 65537, "more than 65536 interfaces"),
    ],
)
def test_damage_is_told_in_one_line(data: bytes, text: str) -> None:
    with pytest.raises(CaptureFormatError) as caught:
        read(data)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_and_directory_and_text_mode(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        CaptureReader(tmp_path / "none")
    assert str(missing.value) == f"open {tmp_path}/none: No such file or directory"
    with pytest.raises(MemifError, match="Is a directory"):
        CaptureReader(tmp_path)
    with pytest.raises(MemifError, match="binary file object"):
        CaptureReader(io.StringIO("text, not bytes"))  # type: ignore[arg-type]


def test_descriptors_stay_open_and_a_closed_reader_says_so(tmp_path: Path) -> None:
    fd = os.open(write(tmp_path / "a.pcapng"), os.O_RDONLY)
    with CaptureReader(fd) as reader:
        next(reader)
    with pytest.raises(MemifClosedError):
        next(reader)
    os.close(fd)


def test_slow_pipe_delivers_packets_as_they_come(tmp_path: Path) -> None:
    data = write(tmp_path / "a.pcapng").read_bytes()
    reading, writing = os.pipe()
    with open(reading, "rb", buffering=0) as source:
        os.write(writing, data[:-200])
        reader = CaptureReader(source)
        assert next(reader).data == FRAMES[0]
        os.write(writing, data[-200:])
        os.close(writing)
        assert [p.data for p in reader] == FRAMES[1:]


SEEDS = [
    shb("<") + idb("<") + epb("<", 1, b"abc", 0, struct.pack("<HHIHH", 2, 4, 1, 0, 0)),
    shb(">") + idb(">", b"\0\2\0\1x\0\0\0") + blk(">", 3, bytes(8)) + blk(">", 2, bytes(24)),
    b"\xd4\xc3\xb2\xa1" + struct.pack("<HHIIII", 2, 4, 0, 0, 0, 1) + struct.pack("<4I", 0, 0, 4, 4) + b"abcd",
    b"\xa1\xb2\x3c\x4d" + struct.pack(">HHIIII", 2, 4, 0, 0, 0, 1) + struct.pack(">4I", 0, 0, 4, 4) + b"abcd",
]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A valid file with some bytes replaced, removed or added."""
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 4))] = draw(st.binary(max_size=8))
    return bytes(data)


@settings(max_examples=600, deadline=None)
@given(st.one_of(damaged(), st.binary(max_size=200), st.binary(max_size=200).map(lambda b: shb("<") + idb("<") + b)))
@example(shb("<") + idb("<", b"\x09\0\xff\xff") + epb("<", 0, b""))
def test_any_bytes_give_packets_or_our_error(data: bytes) -> None:
    for strict in (False, True):
        try:
            packets = read(data, strict=strict)
        except MemifError:
            continue
        assert sum(len(p.data) for p in packets) <= len(data)


def test_a_loop_can_be_left_and_taken_up_again(tmp_path: Path) -> None:
    with CaptureReader(write(tmp_path / "a.pcapng")) as reader:
        for packet in reader:
            assert packet.data == FRAMES[0]
            break
        assert [packet.data for packet in reader] == FRAMES[1:]
        assert list(reader) == []
        assert reader.statistics[0].received == 3
