"""``memif replay``: of a pipe packet by packet; gaps, and packets without a time."""

import contextlib
import gzip
import os
import signal
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

import pytest

import memif as library
from ends import receive
from memif.tools.player import Pace
from patience import within
from tools.frames import numbered, pcap
from tools.process import Result, memif, running, words

FRAMES = numbered(12)


def block(kind: int, body: bytes) -> bytes:
    """One pcapng block."""
    body += bytes(-len(body) % 4)
    return struct.pack("<II", kind, len(body) + 12) + body + struct.pack("<I", len(body) + 12)


HEAD = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)) + block(1, struct.pack("<HHI", 1, 0, 0))


def timed(frame: bytes, us: int) -> bytes:
    """A packet with a time."""
    return block(6, struct.pack("<IIIII", 0, us >> 32, us & 0xFFFFFFFF, len(frame), len(frame)) + frame)


def simple(frame: bytes) -> bytes:
    """A packet without."""
    return block(3, struct.pack("<I", len(frame)) + frame)


@contextlib.contextmanager
def replaying(
    path: str, source: str, *args: object, fifo: Path | None = None
) -> Iterator[tuple[subprocess.Popen[bytes], FileIO]]:
    """Context: replay of a pipe, and the end to write to."""
    if source == "fifo":
        assert fifo is not None
        os.mkfifo(fifo)
        process = subprocess.Popen(
            words("replay", "--socket", path, *args, fifo), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        end = os.open(fifo, os.O_WRONLY)
    else:
        reading, end = os.pipe()
        process = subprocess.Popen(
            words("replay", "--socket", path, *args, "-"),
            stdin=reading,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        os.close(reading)
    with open(end, "wb", buffering=0) as writing:
        try:
            yield process, writing
        finally:
            process.kill()
            process.communicate()


@pytest.mark.parametrize("source", ["stdin", "fifo"])
@pytest.mark.parametrize("speed", [["-t"], []])
def test_each_packet_is_sent_as_it_comes(socket_path: str, tmp_path: Path, source: str, speed: list[str]) -> None:
    """The next is written only when the one before has arrived; also in two pieces; then the pipe's end is the end."""
    with (
        library.listen(socket_path) as iface,
        replaying(socket_path, source, *speed, fifo=tmp_path / "fifo") as (process, writing),
    ):
        writing.write(HEAD)
        iface.wait_up(30)
        for frame in FRAMES:
            data = timed(frame, time.time_ns() // 1000)
            writing.write(data[:30])
            time.sleep(0.02)
            writing.write(data[30:])
            assert receive(iface.rx[0], 1, timeout=10) == [frame]
        writing.close()
        out = process.communicate(timeout=20)[0].decode()
    assert process.returncode == 0, out
    assert "12 packets" in out


def test_a_compressed_pipe(socket_path: str, tmp_path: Path) -> None:
    """What was flushed is sent."""
    with library.listen(socket_path) as iface, replaying(socket_path, "stdin", "-t") as (_, writing):
        with gzip.GzipFile(fileobj=writing, mode="wb") as out:
            out.write(HEAD)
            out.flush()
            iface.wait_up(30)
            for frame in FRAMES:
                out.write(timed(frame, 1))
                out.flush()
                assert receive(iface.rx[0], 1, timeout=10) == [frame]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("when", ["nobody writes", "in the middle of a packet", "idle"])
def test_a_signal_while_the_pipe_is_silent(socket_path: str, when: str, number: signal.Signals) -> None:
    """It ends, and says what it sent."""
    with library.listen(socket_path) as iface, replaying(socket_path, "stdin") as (process, writing):
        if when != "nobody writes":
            writing.write(HEAD + timed(FRAMES[0], 5) + (timed(FRAMES[1], 6)[:40] if "middle" in when else b""))
        iface.wait_up(30)
        assert receive(iface.rx[0], 1, timeout=0 if when == "nobody writes" else 10) == (
            [] if when == "nobody writes" else FRAMES[:1]
        )
        time.sleep(0.5)
        process.send_signal(number)
        out = process.communicate(timeout=10)[0].decode()
    assert process.returncode == 0, out
    assert "packets" in out
    assert "Traceback" not in out
    assert "Fatal" not in out


def test_the_peer_leaves_while_the_pipe_is_silent(socket_path: str) -> None:
    """The end of the link is noticed, and is the end."""
    with library.listen(socket_path) as iface, replaying(socket_path, "stdin") as (process, writing):
        writing.write(HEAD)
        iface.wait_up(30)
        iface.disconnect("bye")
        out = process.communicate(timeout=10)[0].decode()
    assert process.returncode == 1
    assert "bye" in out


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "empty"),
        (b"no capture at all", "neither pcapng nor pcap"),
        (pcap([], linktype=101), "no packets for mode ethernet"),
    ],
)
def test_pipes_that_bring_no_capture(data: bytes, word: str) -> None:
    """Said before anybody is asked for a link."""
    result = memif("replay", "--socket", "@nobody-is-here", "-", stdin=data)
    assert (result.code, result.out) == (1, "")
    assert word in result.err
    assert len(result.err.splitlines()) == 1


def sent_to(path: str, count: int, *args: object, stdin: bytes) -> tuple[list[bytes], Result]:
    """What arrives of a replay of standard input, and how it ended."""
    got: list[bytes] = []
    with library.listen(path) as iface:

        def receiver() -> None:
            iface.wait_up(30)
            got.extend(receive(iface.rx[0], count, timeout=20))

        thread = threading.Thread(target=receiver)
        thread.start()
        result = memif("replay", "-t", "--socket", path, *args, "-", stdin=stdin)
        thread.join()
    return got, result


@pytest.mark.parametrize(
    ("rest", "word"), [(timed(b"x" * 60, 1)[:50], "ends in the middle"), (b"\xff" * 64, "a block")]
)
def test_a_pipe_that_breaks_off(socket_path: str, rest: bytes, word: str) -> None:
    """What was whole is sent; then the error, and exit code 1."""
    data = HEAD + b"".join(timed(frame, 1) for frame in FRAMES)
    got, result = sent_to(socket_path, 12, stdin=data + rest)
    assert got == FRAMES
    assert result.code == 1
    assert word in result.err
    assert "12 packets" in result.out


def test_a_pipe_can_be_looped(socket_path: str) -> None:
    """Then it is read to its end first."""
    got, result = sent_to(socket_path, 36, "--loop", 3, stdin=pcap(FRAMES))
    assert got == FRAMES * 3
    assert result.code == 0


T = 1_700_000_000_000_000


@pytest.mark.parametrize("pipe", [False, True])
@pytest.mark.parametrize(
    ("what", "options", "parts"),
    [
        ("no time, then times", [], [simple(FRAMES[0]), timed(FRAMES[1], T), timed(FRAMES[2], T + 300_000)]),
        ("time 0, then times", [], [timed(FRAMES[0], 0), timed(FRAMES[1], T), timed(FRAMES[2], T + 300_000)]),
        ("no time in between", [], [timed(FRAMES[0], T), simple(FRAMES[1]), timed(FRAMES[2], T + 300_000)]),
        ("clock from 0", [], [timed(FRAMES[0], 0), timed(FRAMES[1], 150_000), timed(FRAMES[2], 300_000)]),
        ("three years", ["--maxsleep", "300"], [timed(FRAMES[0], T - 10**14), timed(FRAMES[1], T), simple(FRAMES[2])]),
        ("set back", [], [timed(FRAMES[0], T), timed(FRAMES[1], T - 10**10), timed(FRAMES[2], T - 10**10 + 300_000)]),
    ],
)
def test_times(socket_path: str, tmp_path: Path, pipe: bool, what: str, options: list[str], parts: list[bytes]) -> None:
    """0.3 seconds for all three packets, not the 53 years since the clock's beginning."""
    file = tmp_path / "x.pcapng"
    file.write_bytes(HEAD + b"".join(parts))
    del what
    with contextlib.ExitStack() as stack:
        iface = stack.enter_context(library.listen(socket_path))
        if pipe:
            process, writing = stack.enter_context(replaying(socket_path, "stdin", *options))
            writing.write(file.read_bytes())
            writing.close()
        else:
            process = stack.enter_context(running("replay", "--socket", socket_path, *options, file)).process
        iface.wait_up(30)
        start, got = time.monotonic(), receive(iface.rx[0], 3, timeout=10)
        took = time.monotonic() - start
        assert process.wait(20) == 0
    assert got == FRAMES[:3]
    assert 0.15 < took < within(5)


def test_a_long_wait_is_told(socket_path: str, tmp_path: Path) -> None:
    """How long, and what bounds it; Ctrl-C ends it."""
    file = tmp_path / "x.pcapng"
    file.write_bytes(HEAD + timed(FRAMES[0], T) + timed(FRAMES[1], T + 10**14))
    with library.listen(socket_path) as iface, running("replay", "--socket", socket_path, file) as tool:
        iface.wait_up(30)
        tool.until("the next packet is due in 3.17 years, as recorded; --maxsleep")
        assert tool.stop().code == 0


def test_pace() -> None:
    """Alone: speed, bounds, order."""

    def dues(times: list[float], **options: float | None) -> list[float]:
        pace = Pace(options.pop("speed", 1.0), **options)  # type: ignore[arg-type]
        return [round(pace.due(round(t * 1e9)), 6) for t in times]

    assert dues([100, 101, 103]) == [0, 1, 3]
    assert dues([100, 101, 103], speed=2.0) == [0, 0.5, 1.5]
    assert dues([100, 101, 103], speed=None) == [0, 0, 0]
    assert dues([100, 101, 103], max_gap=1.5) == [0, 1, 2.5]
    assert dues([100, 108, 116], speed=4.0, max_gap=1.5) == [0, 1.5, 3.0]
    assert dues([100, 101, 103], max_gap=0) == [0, 0, 0]
    assert dues([100, 100.5, 100.2, 101]) == [0, 0.5, 0.5, 1]  # a little out of order
    assert dues([0, 0, 0]) == [0, 0, 0]
    assert dues([1e9, 0, 1e9 + 1]) == [0, 0, 1]
    assert dues([1e9, 5, 6]) == [0, 0, 1]  # a clock that was set back
