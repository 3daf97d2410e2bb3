"""pcap as old programs wrote it, and compressed files: read as Wireshark's programs read them."""

import bz2
import gzip
import io
import lzma
import os
import re
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from capture.tools import run
from memif.capture import CaptureFormatError, CaptureReader, CaptureTruncatedError, PcapngWriter

FRAME = bytes(range(12)) + b"\x88\xb5" + bytes(range(46))
#: Seconds, fraction, bytes kept, bytes on the wire.
RECORDS = [(1, 5, 60, 60), (2, 999_999, 20, 60), (1_700_000_000, 0, 60, 1500), (1_700_000_001, 7, 14, 14)]


def pcap(order: str, magic: int = 0xA1B2C3D4, minor: int = 4, *, swapped: bool = False) -> bytes:
    """A file with RECORDS."""
    parts = [struct.pack(order + "IHHiIII", magic, 2, minor, 0, 0, 65535, 1)]
    for seconds, fraction, kept, length in RECORDS:
        sizes = (length, kept) if swapped else (kept, length)
        parts.append(struct.pack(order + "IIII", seconds, fraction, *sizes))
        if magic == 0xA1B2CD34:
            parts.append(struct.pack(order + "IHBB", 1, 0x800, 0, 0))
        parts.append(FRAME[:kept])
    return b"".join(parts)


VARIANTS = {
    "2.4": {},
    "nanoseconds": {"magic": 0xA1B23C4D},
    "modified": {"magic": 0xA1B2CD34},
    "2.2, swapped": {"minor": 2, "swapped": True},
    "2.1, swapped": {"minor": 1, "swapped": True},
    "2.3, swapped": {"minor": 3, "swapped": True},
    "2.3, in order": {"minor": 3},
}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("how", ["file", "slow pipe"])
def test_every_pcap(tmp_path: Path, variant: str, order: str, how: str) -> None:
    """As recorded, and as tshark says."""
    data = pcap(order, **VARIANTS[variant])  # type: ignore[arg-type]
    unit = 1 if variant == "nanoseconds" else 1000
    expected = [(s * 10**9 + f * unit, FRAME[:kept], length) for s, f, kept, length in RECORDS]
    if how == "slow pipe":

        class Slow(io.RawIOBase):
            """A byte at a time."""

            source = io.BytesIO(data)

            def readable(self) -> bool:
                return True

            def read(self, count: int = -1) -> bytes:
                return self.source.read(1)

        packets = list(CaptureReader(Slow(), strict=True))  # type: ignore[arg-type]
    else:
        (tmp_path / "a.pcap").write_bytes(data)
        packets = list(CaptureReader(tmp_path / "a.pcap", strict=True))
        fields = ("-T", "fields", "-e", "frame.time_epoch", "-e", "frame.cap_len", "-e", "frame.len")
        lines = run("tshark", "-r", tmp_path / "a.pcap", *fields).decode().splitlines()
        told = [(round(float(t) * 10**6), int(kept), int(n)) for t, kept, n in (line.split() for line in lines)]
        assert [(round(p.timestamp_ns / 1000), len(p.data), p.original_length) for p in packets] == told
    assert [(p.timestamp_ns, p.data, p.original_length) for p in packets] == expected


PACKERS: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}
if sys.version_info >= (3, 14):
    from compression import zstd

    PACKERS["zst"] = zstd.compress


def captures(tmp_path: Path) -> dict[str, bytes]:
    """The same packets as pcapng and as pcap."""
    with PcapngWriter(tmp_path / "a.pcapng") as writer:
        writer.add_interface("memif0")
        for seconds, fraction, kept, length in RECORDS:
            writer.write_packet(FRAME[:kept], seconds * 10**9 + fraction * 1000, original_length=length)
    return {"pcapng": (tmp_path / "a.pcapng").read_bytes(), "pcap": pcap("<")}


@pytest.mark.parametrize("kind", PACKERS)
def test_compressed(tmp_path: Path, kind: str) -> None:
    """By path, descriptor and file object; in several members; the reader says what is inside."""
    for name, data in captures(tmp_path).items():
        plain = list(CaptureReader(io.BytesIO(data), strict=True))
        assert len(plain) == 4
        for packed in (PACKERS[kind](data), PACKERS[kind](data[:33]) + PACKERS[kind](data[33:])):
            file = tmp_path / f"{name}.{kind}"
            file.write_bytes(packed)
            for source in (file, io.BytesIO(packed), fd := os.open(file, os.O_RDONLY)):
                with CaptureReader(source, strict=True) as reader:
                    assert reader.format == name
                    assert list(reader) == plain
            os.close(fd)
        if kind == "gz":
            assert re.search(r"packets: +4$", run("capinfos", "-c", "-M", file).decode(), re.MULTILINE)


@pytest.mark.parametrize("kind", PACKERS)
def test_compressed_and_cut(tmp_path: Path, kind: str) -> None:
    """Every cut is noticed; what came before it is read."""
    data = captures(tmp_path)["pcap"]
    packed = PACKERS[kind](data)
    for size in range(5, len(packed) - 1):
        try:
            reader = CaptureReader(io.BytesIO(packed[:size]))
        except CaptureFormatError:
            continue  # not even the file's header is there
        got = list(reader)
        assert reader.truncated or len(got) == 4
        if reader.truncated:
            with pytest.raises(CaptureTruncatedError):
                list(CaptureReader(io.BytesIO(packed[:size]), strict=True))


@pytest.mark.parametrize("kind", PACKERS)
def test_compressed_and_damaged(tmp_path: Path, kind: str) -> None:
    """An error of ours, or packets: never another exception."""
    packed, errors = PACKERS[kind](captures(tmp_path)["pcapng"]), set()
    for at in range(4, len(packed), 3):
        bad = bytearray(packed)
        bad[at] ^= 0x55
        try:
            list(CaptureReader(io.BytesIO(bytes(bad))))
        except CaptureFormatError as error:
            errors.add(str(error).split(":")[1].split()[0])
    assert "damaged" in errors


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"\x04\x22\x4d\x18", "compressed by lz4, which this Python cannot read; decompress it first"),
        (b"\x1f\x9d\x90\x00", "compressed by compress, which this Python cannot read; decompress it first"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (gzip.compress(gzip.compress(b"x" * 100, mtime=0), mtime=0), "neither pcapng nor pcap"),
        (gzip.compress(b"hello, this is text", mtime=0), "neither pcapng nor pcap"),
        (gzip.compress(b"", mtime=0), "empty"),
    ],
)
def test_what_is_not_read(start: bytes, words: str) -> None:
    with pytest.raises(CaptureFormatError, match=words):
        list(CaptureReader(io.BytesIO(start + bytes(100 if len(start) == 4 else 0))))


@pytest.mark.parametrize("kind", ["plain", "gz"])
def test_a_pipe_gives_what_was_flushed(kind: str) -> None:
    """Packets come out of a pipe before its writer ends, compressed or not."""
    reading, writing = os.pipe()
    data, head = pcap("<"), 24 + 16 + 60
    sink = open(writing, "wb", buffering=0)  # noqa: SIM115
    out = gzip.GzipFile(fileobj=sink, mode="wb") if kind == "gz" else sink
    times: list[float] = []

    def write() -> None:
        out.write(data[:head])
        out.flush()
        time.sleep(1.0)
        times.append(time.monotonic())
        out.write(data[head:])
        if kind == "gz":
            out.close()
        sink.close()

    thread = threading.Thread(target=write)
    thread.start()
    with open(reading, "rb", buffering=0) as raw, CaptureReader(raw, strict=True) as reader:
        first = next(reader)
        seen = time.monotonic()
        assert first.data == FRAME
        assert len(list(reader)) == 3
    thread.join()
    assert seen < times[0]
