"""Wrong arguments of `memif.capture`: readers, writers, texts."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arguments.refusals import CALLBACK, HUGE, MATRIX, NUMBER, SECONDS, TEXT, WORD, cells, refused
from memif import capture

FILE = (None, 1.5, b"/tmp/x", object(), -1, HUGE, io.StringIO(), "", "a\0b", ["a"])
SIZE = (*NUMBER, 0, -1, 2**32, True)
TIME = (*NUMBER, -1, 2**64)
TIMES = ("1", 1.5, [1], [1, 2, 3], [1, None], [1, 1.5], [1, -1], [1, 2**64], -1, 2**64, object())
LENGTHS = (None, 5, [64], [1.5, 2.0], np.array([64, 64, 64]), np.array([-1, 5]), np.array([5, 2**32]), "ab")
COUNT = (*NUMBER, -1, 2**64)
DATA = (None, 5, "text", [1], object())
HEADER = {"snaplen": (*SIZE, None), "application": (*TEXT, None), "comment": (*TEXT, None), "hardware": (*TEXT, None)}


def written(call: str) -> Any:
    """A method of a writer of two packets."""

    def run(**arguments: Any) -> None:
        with capture.PcapngWriter(io.BytesIO()) as writer:
            writer.add_interface()
            getattr(writer, call)(**arguments)

    return run


def write_packets(**changed: Any) -> None:
    written("write_packets")(**{"packets": [b"a", b"b"], **changed})


def write_same(**changed: Any) -> None:
    arrays = {"matrix": np.zeros((2, 64), np.uint8), "lengths": np.array([64, 64])}
    written("write_array")(**{**arrays, **changed})


def write_different(**changed: Any) -> None:
    write_same(**{"lengths": np.array([60, 64]), **changed})


def write_packet(**changed: Any) -> None:
    written("write_packet")(**{"data": b"a", **changed})


def writer(**changed: Any) -> None:
    capture.PcapngWriter(**{"target": io.BytesIO(), **changed}).close()


def reader(source: Any) -> None:
    capture.CaptureReader(source)


def line(**changed: Any) -> None:
    capture.packet_line(**{"timestamp_ns": 0, "data": b"", **changed})


INTERFACE = (None, "0", 1.5, -1, 1, HUGE, [])
BURST = {"interface": INTERFACE, "direction": (*WORD, 0)}
TABLE = {
    "PcapngWriter": (writer, {"target": FILE, **HEADER, "os_name": TEXT, "stop": CALLBACK}),
    "add_interface": (
        written("add_interface"),
        {
            "name": (*TEXT, None),
            "description": (*TEXT, None),
            "linktype": (*NUMBER, None, -1, 65536),
            "snaplen": SIZE,
        },
    ),
    "write_packet": (
        write_packet,
        {"data": DATA, **BURST, "timestamp_ns": TIME, "original_length": (*TIME, 2**32), "comment": (*TEXT, None)},
    ),
    "write_packets": (
        write_packets,
        {"packets": (None, 5, "text", [b"a", "b"], [b"a", None]), **BURST, "timestamps_ns": TIMES},
    ),
    "write_array of one length": (write_same, {"matrix": MATRIX, "lengths": LENGTHS, **BURST, "timestamps_ns": TIMES}),
    "write_array": (write_different, {"matrix": MATRIX, "lengths": LENGTHS, **BURST, "timestamps_ns": TIMES}),
    "set_statistics": (
        written("set_statistics"),
        {"interface": INTERFACE, "received": COUNT, "dropped": (*COUNT, None)},
    ),
    "CaptureReader": (reader, {"source": FILE}),
    "describe": (capture.describe, {"message": DATA}),
    "parse_dump": (capture.parse_dump, {"text": (*TEXT, None)}),
    "packet_line": (
        line,
        {
            "timestamp_ns": (None, "1", 1.5),
            "data": DATA,
            "direction": (*WORD, 0),
            "linktype": (None, "1", 1.5),
            "length": ("1", 1.5, []),
        },
    ),
    "summary": (lambda **a: capture.summary(**{"data": b"", **a}), {"data": DATA, "linktype": (None, "1", 1.5)}),
}


@pytest.mark.parametrize(("call", "argument", "values"), cells(TABLE))
def test_capture(call: Any, argument: str, values: Any) -> None:
    for value in values:
        with refused(argument, value):
            call(**{argument: value})


ROTATING = {
    "path": (None, 5, b"/tmp/x", "", "a\0b", io.BytesIO()),
    "max_bytes": (*NUMBER, None, -1, True),
    "max_seconds": (*SECONDS, None, True),
    "files": (*NUMBER, None, -1, True),
    **HEADER,
    "os_name": TEXT,
    "clock": (*CALLBACK, None),
}


@pytest.mark.parametrize("argument", ROTATING)
def test_rotating(argument: str, tmp_path: Path) -> None:
    for value in ROTATING[argument]:
        with refused(argument, value):
            capture.RotatingWriter(**{"path": tmp_path / "a.pcapng", "max_bytes": 1000, argument: value})
    assert list(tmp_path.iterdir()) == []


def test_rotating_without_a_limit(tmp_path: Path) -> None:
    with refused("max_bytes", 0):
        capture.RotatingWriter(tmp_path / "a.pcapng")


def test_nothing_is_written_of_what_is_refused() -> None:
    """Not half of a burst either."""
    file = io.BytesIO()
    with capture.PcapngWriter(file) as writer:
        writer.add_interface()
        before = file.getvalue()
        for packets in ([b"a", "b"], [b"a", None]):
            with refused("packets", packets):
                writer.write_packets(packets)  # type: ignore[arg-type]
        with refused("timestamps_ns", [1, -1]):
            writer.write_packets([b"a", b"b"], [1, -1])
        assert file.getvalue() == before
