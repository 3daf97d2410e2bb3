"""--secret-file and MEMIF_SECRET: they work, and the secret is to be seen nowhere."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import memif as library
from ends import pump
from memif.tools.bridge import parse_endpoint
from patience import within
from tools.process import Running, memif, running

SECRET = "kept-very-quiet"


@pytest.fixture(params=["file", "environment"])
def secret(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Options that say it."""
    if request.param == "file":
        file = tmp_path / "secret"
        file.write_text(SECRET + "\nnot this\n")
        return ["--secret-file", str(file)]
    monkeypatch.setenv("MEMIF_SECRET", SECRET)
    return []


@contextlib.contextmanager
def accepted(path: str, *args: object) -> Iterator[Running]:
    """The tool as a slave of a master that wants the secret."""
    with library.listen(path, secret=SECRET) as master:
        assert SECRET not in repr(master) + repr(master.config) + str(master.details())
        with running(*args) as tool:
            pump(master, until=lambda: master.up, timeout=30)
            line = Path(f"/proc/{tool.process.pid}/cmdline").read_text()
            assert SECRET not in line
            yield tool


@pytest.mark.parametrize("verb", ["capture", "icmp-responder"])
def test_a_verb(socket_path: str, secret: list[str], tmp_path: Path, verb: str) -> None:
    more = ["--write", str(tmp_path / "c.pcapng")] if verb == "capture" else []
    with accepted(socket_path, verb, "--socket", socket_path, *secret, *more) as tool:
        time.sleep(0.1)
        end = tool.stop()
    assert SECRET not in end.out + end.err
    assert all(SECRET.encode() not in file.read_bytes() for file in tmp_path.glob("*.pcapng"))


def test_an_end_of_a_bridge(socket_path: str, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET + "\n")
    other = library.listen(socket_path + "2")
    with (
        other,
        accepted(socket_path, "bridge", f"memif:{socket_path},secret-file={file}", f"memif:{socket_path}2") as tool,
    ):
        pump(other, until=lambda: other.up, timeout=30)
        end = tool.stop()
    assert SECRET not in end.out + end.err


def test_the_environment_is_not_for_the_ends_of_a_bridge(monkeypatch: pytest.MonkeyPatch) -> None:
    """One secret for two peers would tell each that of the other."""
    monkeypatch.setenv("MEMIF_SECRET", SECRET)
    assert "secret" not in parse_endpoint("memif:/run/m.sock", "A").options


def test_an_end_shows_none(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET + "\n")
    for text in (f"memif:/run/m.sock,secret={SECRET}", f"memif:/run/m.sock,secret-file={file}"):
        assert SECRET not in repr(parse_endpoint(text, "A"))
        assert str(parse_endpoint(text, "A").options["secret"]).count(SECRET) == 1


def test_wireshark(socket_path: str, secret: list[str], tmp_path: Path) -> None:
    """What the dialog hands to the program, and what the capture file keeps."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    words = ["--capture", "--extcap-interface", "memif", "--fifo", fifo, "--socket", socket_path, *secret]
    try:
        with accepted(socket_path, "extcap", *words) as tool:
            end = tool.stop(signal.SIGTERM)
        assert end.code == 0, end
        written = os.read(reader, 1 << 16)
    finally:
        os.close(reader)
    assert written[:4] == b"\x0a\x0d\x0d\x0a"
    assert SECRET.encode() not in written
    assert SECRET not in end.out + end.err


@pytest.mark.parametrize("wrong", ["missing", "long"])
def test_a_file_that_cannot_be(socket_path: str, tmp_path: Path, wrong: str) -> None:
    file = tmp_path / "secret"
    if wrong == "long":
        file.write_text("x" * 24 + "\n")
    end = memif("sink", "--secret-file", str(file), "--socket", socket_path, timeout=within(20))
    assert end.code != 0
    assert "Traceback" not in end.err
    assert "x" * 24 not in end.err
