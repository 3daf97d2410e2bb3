"""Options of ``memif replay`` mean what they mean to tcpreplay."""

from pathlib import Path

import pytest

import memif as library
from ends import receive
from patience import within
from tools.frames import numbered, pcap
from tools.process import Result, memif, running

FRAMES = numbered(60)
SIZE = len(FRAMES[0])


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Two captures, of 40 and of 20 packets, whose times are seconds apart."""
    one, two = tmp_path / "one.pcap", tmp_path / "two.pcap"
    one.write_bytes(pcap(FRAMES[:40], step=3.0))
    two.write_bytes(pcap(FRAMES[40:], step=3.0))
    return one, two


def replayed(path: str, count: int, *words: object) -> tuple[list[bytes], Result]:
    """What arrives, and how it ended."""
    with library.listen(path) as iface:
        with running("replay", "--socket", path, "--json", *words) as tool:
            iface.wait_up(30)
            frames = receive(iface.rx[0], count, timeout=within(20))
            while tool.process.poll() is None:
                iface.socket.poll(0.02)
            return frames, tool.ended()


def test_several_files_in_their_order(socket_path: str, files: tuple[Path, Path]) -> None:
    got, end = replayed(socket_path, 60, "-t", *files)
    assert got == FRAMES
    assert (end.code, end.json["packets"], end.json["bytes"]) == (0, 60, 60 * SIZE)
    got, end = replayed(socket_path, 150, "-t", "-l", 3, "-L", 150, *files)
    assert got == (FRAMES * 3)[:150]
    assert end.json["packets"] == 150


@pytest.mark.parametrize("stdin", [False, True])
def test_packets_a_second(socket_path: str, files: tuple[Path, Path], stdin: bool) -> None:
    """Through the seams of files and turns, and of a pipe."""
    if stdin:
        data = pcap(FRAMES * 4, step=3.0)
        with running("sink", "--role", "master", "--socket", socket_path) as sink:
            sink.until("listening")
            result = memif("replay", "--socket", socket_path, "--json", "-p", 120, "-", stdin=data)
    else:
        _, result = replayed(socket_path, 240, "-p", 120, "-l", 4, *files)
    assert result.code == 0, result.err
    assert result.json["packets"] == 240
    assert 1.9 < result.json["seconds"] < within(10)


def test_megabits_a_second(socket_path: str, files: tuple[Path, Path]) -> None:
    bits = 240 * 8 * SIZE
    _, result = replayed(socket_path, 240, "-M", bits / 2e6, "-l", 4, *files)
    assert result.json["packets"] == 240
    assert 1.8 < result.json["seconds"] < within(10)


def test_a_longest_sleep_is_in_milliseconds(socket_path: str, files: tuple[Path, Path]) -> None:
    _, result = replayed(socket_path, 60, "--maxsleep", 20, *files)
    assert 1.0 < result.json["seconds"] < within(10)


@pytest.mark.parametrize("options", [("-t", "-p", 5), ("-x", 2, "-M", 1), ("--pps", 1, "--mbps", 1)])
def test_one_speed_only(files: tuple[Path, Path], options: tuple[object, ...]) -> None:
    result = memif("replay", *options, files[0])
    assert result.code == 2
    assert "only one of --multiplier, --pps, --mbps and --topspeed" in result.err


@pytest.mark.parametrize("options", [("-p", 0), ("-M", "fast"), ("-c", 5), ("-s", 1), ("-i", "eth0"), ()])
def test_wrong_usage(files: tuple[Path, Path], options: tuple[object, ...]) -> None:
    result = memif("replay", *options, *(files[:1] if options else ()))
    assert result.code == 2
    assert ("0.0 is out of range: more than 0" in result.err) == (options == ("-p", 0))


def test_a_later_file_that_is_no_capture_is_told_before_the_start(files: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"prose and no capture at all")
    result = memif("replay", "--socket", "@nobody-is-here", files[0], tmp_path / "x")
    assert (result.code, result.out) == (1, "")
    assert "neither pcapng nor pcap" in result.err
    assert len(result.err.splitlines()) == 1
