"""Every wrong argument of an array of buffers is named, with its value and what is allowed."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from arguments.refusals import MATRIX, NUMBER, refused
from libmemif.rig import pair
from memif import libmemif as c

COUNTS = (*NUMBER, -1, 4)
#: int8 is taken as it is: bytes.
NO_MATRIX = tuple(each for each in MATRIX if getattr(each, "dtype", None) != np.int8)
#: What is no packet of up to 2048 bytes.
NO_PACKET = ("text", 5, None, [1], np.zeros((2, 4), np.uint8)[:, ::2])


@pytest.fixture(scope="module")
def bufs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[c.memif_buffers]:
    with pair(str(tmp_path_factory.mktemp("bufs") / "m.sock")) as (_, slave):
        made = c.memif_buffers(3)
        assert c.memif_buffer_alloc(slave.conn, 0, made, 3) == (c.MEMIF_ERR_SUCCESS, 3)
        yield made


CALLS: dict[str, tuple[Any, str, tuple[Any, ...]]] = {
    "count": (lambda b, v: c.memif_buffers(v), "count", (*NUMBER, None, -1, 65536)),
    "gather-width": (lambda b, v: b.gather(v), "width", (*NUMBER, None, 0, 65537)),
    "gather-count": (lambda b, v: b.gather(64, v), "count", COUNTS),
    "gather-out": (lambda b, v: b.gather(64, 3, v), "out", (b"abc", [[1]], np.zeros((3, 32), np.uint8))),
    "scatter-array": (lambda b, v: b.scatter(v), "array", NO_MATRIX),
    "scatter-count": (lambda b, v: b.scatter(np.zeros((3, 4), np.uint8), v), "count", COUNTS),
    "tobytes-count": (lambda b, v: b.tobytes(v), "count", COUNTS),
    "copy_from-packets": (lambda b, v: b.copy_from(v), "packets", (None, 5, b"one packet", "text", bytearray(3))),
    "copy_from-packet": (lambda b, v: b.copy_from([b"good", v]), "packets", NO_PACKET),
    "copy_from-data": (lambda b, v: b[0].copy_from(v), "data", NO_PACKET),
}


@pytest.mark.parametrize(("call", "argument", "values"), CALLS.values(), ids=CALLS)
def test_the_argument_is_named(bufs: c.memif_buffers, call: Any, argument: str, values: tuple[Any, ...]) -> None:
    for value in values:
        with refused(argument, value):
            call(bufs, value)
    assert bufs.copy_from([b"a", b"b", b"c", b"d"]) == 3
