"""RotatingWriter: size and age limits, whole files, and only the newest kept."""

import re
from pathlib import Path

import pytest

from capture.tools import capinfos, tshark
from memif.capture import CaptureReader, RotatingWriter
from memif.errors import MemifValueError


class Clock:
    """Seconds that pass only when a test says so."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def numbers(path: Path) -> list[int]:
    """Return the serial numbers that the test put into the packets of one file."""
    with CaptureReader(path, strict=True) as reader:
        return [int.from_bytes(packet.data[:4], "big") for packet in reader]


def packets(first: int, count: int) -> list[bytes]:
    """Make packets that start with their serial number."""
    return [number.to_bytes(4, "big") + bytes(60 + number % 3) for number in range(first, first + count)]


@pytest.mark.parametrize("burst", [1, 7, 256])
def test_files_stay_below_the_limit_and_lose_nothing(tmp_path: Path, burst: int) -> None:
    with RotatingWriter(tmp_path / "cap.pcapng", max_bytes=4000) as writer:
        writer.add_interface("memif1/0")
        for start in range(0, 512, burst):
            writer.write_packets(packets(start, min(burst, 512 - start)), 1, 0, "in")
    files = sorted(tmp_path.iterdir())
    assert list(writer.paths) == files
    assert len(files) > 10
    assert all(3700 < file.stat().st_size <= 4000 for file in files[:-1])
    assert [n for file in files for n in numbers(file)] == list(range(512))


def test_every_file_is_complete_in_itself(tmp_path: Path) -> None:
    with RotatingWriter(tmp_path / "cap.pcapng", max_bytes=3000, comment="ring") as writer:
        writer.add_interface("left")
        writer.add_interface("right")
        writer.set_statistics(1, dropped=5)
        writer.write_packets(packets(0, 90), 1, 1, "out")
    files = sorted(tmp_path.iterdir())
    for index, file in enumerate(files, 1):
        assert re.fullmatch(rf"cap_{index:05d}_\d{{14}}\.pcapng", file.name)
        assert "Name = right" in capinfos(file)
        assert {row[0] for row in tshark(file, "frame.interface_name")} == {"right"}
        with CaptureReader(file) as reader:
            list(reader)
        assert reader.statistics[1].dropped == 5
    assert sum(len(tshark(file, "frame.len")) for file in files) == 90


def test_only_the_newest_files_stay(tmp_path: Path) -> None:
    (tmp_path / "cap_other.pcapng").touch()
    with RotatingWriter(tmp_path / "cap.pcapng", max_bytes=1000, files=3) as writer:
        for start in range(0, 200, 10):
            writer.write_packets(packets(start, 10), 1)
            assert len(list(tmp_path.iterdir())) <= 4
    files = sorted(set(tmp_path.iterdir()) - {tmp_path / "cap_other.pcapng"})
    assert files == list(writer.paths)
    kept = [n for file in files for n in numbers(file)]
    assert kept == list(range(kept[0], 200))
    assert kept[0] > 150


def test_age_starts_a_new_file_with_the_next_packet(tmp_path: Path) -> None:
    clock = Clock()
    with RotatingWriter(tmp_path / "cap.pcapng", max_seconds=10, clock=clock) as writer:
        clock.now += 60  # no packet yet, so the empty file is not replaced
        writer.write_packets(packets(0, 2), 1)
        clock.now += 10
        writer.write_packets(packets(2, 1), 1)
        clock.now += 9.9
        writer.write_packets(packets(3, 1), 1)
        clock.now += 10
        writer.write_packets(packets(4, 1), 1)
    assert [numbers(file) for file in sorted(tmp_path.iterdir())] == [[0, 1], [2, 3], [4]]


def test_a_packet_beyond_the_limit_gets_a_file_of_its_own(tmp_path: Path) -> None:
    with RotatingWriter(tmp_path / "cap.pcapng", max_bytes=500) as writer:
        writer.add_interface()
        writer.write_packets([b"\0\0\0\1", b"\0\0\0\2" + bytes(2000), b"\0\0\0\3"], 1)
    assert [numbers(file) for file in sorted(tmp_path.iterdir())] == [[1], [2], [3]]


@pytest.mark.parametrize("bad", [{}, {"max_bytes": -1}, {"max_seconds": -0.5}, {"max_bytes": 9, "files": -1}])
def test_nonsense_limits_are_refused(tmp_path: Path, bad: dict[str, int]) -> None:
    with pytest.raises(MemifValueError):
        RotatingWriter(tmp_path / "cap.pcapng", **bad)
    assert not list(tmp_path.iterdir())
