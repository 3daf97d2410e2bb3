"""Receiving, sending and bursts: wrong arguments of the compiled part, and of what is built on it."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from arguments.refusals import HUGE, MATRIX, NAN, NUMBER, WORD, refused
from memif import Burst, MemifTypeError
from memif.testing import pair

ROWS = np.zeros((4, 64), np.uint8)
#: What packets are received into.
ROOM, SIZES = np.zeros((4, 64), np.uint8), np.zeros(4, np.uint32)
#: What is no sequence of packets.
NO_PACKETS = (None, 5, b"one packet", "text", bytearray(3))
#: What is no packet.
NO_PACKET = ("text", 5, None, [1], b"", np.zeros((2, 4), np.uint8)[:, ::2])
COUNTS = (*NUMBER, None, -1)
TIMES = (-1, NAN, "1", b"1", [1.0], {})
#: Wrong choices out of a burst of three packets.
CHOICES = (
    [True] * 3,
    b"abcd",
    "text",
    np.zeros(2, bool),
    np.zeros((3, 1), bool),
    np.zeros(3, np.int64),
    np.zeros(3, "V0"),
)
#: int8 is taken as it is: bytes.
NO_MATRIX = tuple(each for each in MATRIX if getattr(each, "dtype", None) != np.int8)
LENGTHS = ("text", [1.5] * 4, [1, 2], [0] * 4, [65] * 4, [-1] * 4, [HUGE] * 4, object())


class World:
    """Both ends, and a burst of three packets."""

    def __init__(self, master: Any, slave: Any) -> None:
        self.rx, self.tx = slave.rx[0], slave.tx[0]
        assert master.tx[0].send([b"x" * 60] * 3) == 3
        self.burst: Burst = self.rx.recv(16, 1.0)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with pair() as (master, slave):
        made = World(master, slave)
        yield made
        made.burst.release()


CALLS: dict[str, tuple[Any, str, tuple[Any, ...]]] = {
    "recv-count": (lambda w, v: w.rx.recv(v, 0), "count", COUNTS),
    "recv-timeout": (lambda w, v: w.rx.recv(1, v), "timeout", TIMES),
    "recv_packet-timeout": (lambda w, v: w.rx.recv_packet(v), "timeout", TIMES),
    "recv_list-count": (lambda w, v: w.rx.recv_list(v, 0), "count", COUNTS),
    "recv_list-timeout": (lambda w, v: w.rx.recv_list(1, v), "timeout", TIMES),
    "recv_array-width": (lambda w, v: w.rx.recv_array(v, 1, 0), "width", (*COUNTS, 0, 65537)),
    "recv_array-count": (lambda w, v: w.rx.recv_array(64, v, 0), "count", COUNTS),
    "recv_array-timeout": (lambda w, v: w.rx.recv_array(64, 1, v), "timeout", TIMES),
    "recv_into-matrix": (lambda w, v: w.rx.recv_into(v, SIZES, 0), "matrix", (*NO_MATRIX, bytes(4))),
    "recv_into-lengths": (lambda w, v: w.rx.recv_into(ROOM, v, 0), "lengths", (*LENGTHS, np.zeros(3, np.uint32))),
    "recv_into-timeout": (lambda w, v: w.rx.recv_into(ROOM, SIZES, v), "timeout", TIMES),
    "wait-timeout": (lambda w, v: w.rx.wait(v), "timeout", TIMES),
    "mode": (lambda w, v: setattr(w.rx, "mode", v), "mode", WORD),
    "send-packets": (lambda w, v: w.tx.send(v), "packets", NO_PACKETS),
    "send-packet": (lambda w, v: w.tx.send([b"good", v]), "packets", NO_PACKET),
    "send_packet-data": (lambda w, v: w.tx.send_packet(v), "data", NO_PACKET),
    "send_array-matrix": (lambda w, v: w.tx.send_array(v), "matrix", NO_MATRIX),
    "send_array-lengths": (lambda w, v: w.tx.send_array(ROWS, v), "lengths", LENGTHS),
    "alloc-count": (lambda w, v: w.tx.alloc(v), "count", COUNTS),
    "alloc-size": (lambda w, v: w.tx.alloc(1, v), "size", (*NUMBER, 0, 65537)),
    "wait_free-count": (lambda w, v: w.tx.wait_free(v, 0), "count", (*NUMBER, None, 0, 1025)),
    "wait_free-timeout": (lambda w, v: w.tx.wait_free(1, v), "timeout", TIMES),
    "forward-start": (lambda w, v: w.tx.forward(w.burst, start=v), "start, stop", ("1", 1.5)),
    "forward-stop": (lambda w, v: w.tx.forward(w.burst, stop=v), "start, stop", ("1", 1.5)),
    "forward-select": (lambda w, v: w.tx.forward(w.burst, select=v), "select", CHOICES),
    "gather-width": (lambda w, v: w.burst.gather(v), "width", (*COUNTS, 0, 65537)),
    "gather-out": (lambda w, v: w.burst.gather(64, v), "out", (b"abc", [[1]], np.zeros((3, 32), np.uint8))),
    "scatter-array": (lambda w, v: w.burst.scatter(v), "array", (None, [[1]], np.zeros((2, 60), np.uint8))),
    "prepend-count": (lambda w, v: w.burst.prepend(v), "count", COUNTS),
    "send_all-packets": (lambda w, v: w.tx.send_all(v, timeout=0), "packets", (None, 5)),
    "send_all-lengths": (lambda w, v: w.tx.send_all([b"a"], v, timeout=0), "lengths", ([1], "text")),
}


@pytest.mark.parametrize(("call", "argument", "values"), CALLS.values(), ids=CALLS)
def test_the_argument_is_named(world: World, call: Any, argument: str, values: tuple[Any, ...]) -> None:
    for value in values:
        with refused(argument, value):
            call(world, value)


def test_a_wrong_kind_is_a_type_error(world: World) -> None:
    for call in (lambda: world.rx.recv("1"), lambda: world.tx.send(b"one"), lambda: world.tx.send(["text"])):
        with pytest.raises(MemifTypeError):
            call()


@pytest.mark.parametrize("number", [0, 44, 255, 256, 300, 599])
def test_send_all_numbers_packets_as_its_caller_does(number: int) -> None:
    packets: list[Any] = [b"good"] * 600
    packets[number] = "text"
    with pair(ring_size=1024) as (_, slave):
        with pytest.raises(MemifTypeError, match=rf"^argument packets\[{number}\]: got 'text'"):
            slave.tx[0].send_all(iter(packets), timeout=5)


def test_send_all_of_a_matrix_speaks_of_packets() -> None:
    with pair() as (_, slave), refused("lengths", 65):
        slave.tx[0].send_all(ROWS, [64, 64, 65, 64], timeout=0)
