"""Wrong arguments of `memif.packet`: other kinds of arrays, shapes that do not match, offsets outside."""

from typing import Any

import numpy as np
import pytest

from arguments.refusals import HUGE, MATRIX, NAN, NUMBER, TEXT, WORD, cells, refused
from memif import packet

WIDTH = 64
ROWS = 2


def matrix() -> Any:
    """Two IPv4 packets of UDP."""
    made = np.zeros((ROWS, WIDTH), np.uint8)
    made[:, 12:16] = (0x08, 0x00, 0x45, 0x00)
    packet.view(made, packet.IPV4, 14)["total_length"] = 46
    packet.view(made, packet.IPV4, 14)["protocol"] = 17
    return made


def lengths() -> Any:
    return np.full(ROWS, 60, np.uint32)


def layers() -> Any:
    return packet.classify(matrix(), lengths())


def locked() -> Any:
    made = matrix()
    made.flags.writeable = False
    return made


LENGTHS = (None, 60, [60, 60], "60", lengths()[:1], lengths().reshape(2, 1), lengths().astype(np.float64), b"ab")
OFFSETS = (
    None,
    5,
    [14, 14],
    "14",
    np.array([14]),
    np.array([14, 14, 14]),
    np.array([14.0, 14.0]),
    np.array([NAN, 14]),
    np.array([-1, 14]),
    np.array([14, 45]),
    np.array([14, 2**40]),
    np.array([[14], [14]]),
    np.array([True, False]),
)
DTYPES = (None, "u2", 5, np.uint16, np.dtype("O"), np.dtype("V0"), np.dtype("V65"))
ROWS_WRONG = ("a", np.array([2]), np.array([-3]), np.array([True]), np.array([0.0]), np.array([[0]]), 0, NAN)
OFFSET = (*NUMBER, None, -1, WIDTH - 19)
START = (*NUMBER, None, -1, WIDTH + 1, np.array([0.0, 1.0]), np.array([0]), np.array([-1, 0]), np.array([0, WIDTH + 1]))
WORDS = (None, "1", 1.5, NAN, -1, 0x10000, HUGE, np.array([1.0]), np.array([-1]), np.array([0x10000]), [None])
PORTS_WRONG = (*NUMBER, -1, 0x10000, np.array([1.0, 2.0]), np.array([1]), np.array([-1, 1]), np.array([1, 0x10000]))
MACS_WRONG = (
    5,
    "02:fe:00:00:00:01",
    b"",
    b"12345",
    np.zeros((2, 5), np.uint8),
    np.zeros((3, 6), np.uint8),
    np.zeros(6),
)
ADDRESSES_WRONG = (
    5,
    b"abcd",
    "",
    "10.0.0",
    np.array([1.0, 2.0]),
    np.array([1]),
    np.array([1, 2**32]),
    np.zeros((2, 15)),
)
NO_LAYERS = (None, 5, {}, np.zeros(2))


def gather(**changed: Any) -> None:
    packet.gather(**{"matrix": matrix(), "dtype": packet.IPV4, "offsets": np.array([14, 14]), **changed})


def scatter(**changed: Any) -> None:
    records = np.zeros(ROWS, packet.IPV4)
    packet.scatter(**{"matrix": matrix(), "records": records, "offsets": np.array([14, 14]), **changed})


def of_layers(function: Any) -> Any:
    return lambda **changed: function(**{"matrix": matrix(), "layers": layers(), **changed})


def answer(**changed: Any) -> None:
    packet.Responder("10.0.0.1").answer(**{"matrix": matrix(), "lengths": lengths(), **changed})


def locked_lengths() -> Any:
    made = lengths()
    made.flags.writeable = False
    return made


READ = {"matrix": (*MATRIX, matrix()[:1], matrix()[:, :40]), "layers": NO_LAYERS}
WRITTEN = {**READ, "matrix": (*READ["matrix"], locked())}
TABLE = {
    "view": (
        lambda **a: packet.view(**{"matrix": matrix(), "dtype": packet.IPV4, "offset": 14, **a}),
        {
            "matrix": (*MATRIX, np.zeros((2, 128), np.uint8)[:, ::2], np.asfortranarray(matrix())),
            "dtype": DTYPES,
            "offset": OFFSET,
        },
    ),
    "gather": (gather, {"matrix": MATRIX, "dtype": DTYPES, "offsets": OFFSETS, "rows": ROWS_WRONG}),
    "scatter": (
        scatter,
        {
            "matrix": (*MATRIX, locked()),
            "records": (None, 5, b"ab", [1], np.zeros(1, packet.IPV4), np.zeros(3, packet.IPV4), np.zeros(2, "V65")),
            "offsets": OFFSETS,
            "rows": ROWS_WRONG,
        },
    ),
    "internet_checksum": (
        lambda **a: packet.internet_checksum(**{"matrix": matrix(), "start": 0, "stop": WIDTH, **a}),
        {"matrix": MATRIX, "start": START, "stop": START},
    ),
    "update": (
        lambda **a: packet.update(**{"old_checksum": 1, "old": 2, "new": 3, **a}),
        {"old_checksum": WORDS, "old": WORDS, "new": WORDS},
    ),
    "classify": (
        lambda **a: packet.classify(**{"matrix": matrix(), "lengths": lengths(), **a}),
        {"matrix": MATRIX, "lengths": LENGTHS, "mode": (*WORD, np.array([1, 2]))},
    ),
    "Filter": (
        lambda **a: packet.Filter(**{"expression": "udp", **a}),
        {"expression": (*TEXT, None, "no such word", "udp\0port 53"), "mode": WORD},
    ),
    "from_instructions": (
        lambda **a: packet.Filter.from_instructions(**{"instructions": [(6, 0, 0, 1)], **a}),
        {
            "instructions": (None, 5, b"ab", "text", [], [5], [(6, 0, 0)], [(6, 0, 0, "1")], [(6, 0, 0, HUGE)]),
            "mode": WORD,
        },
    ),
    "match": (
        lambda **a: packet.Filter("udp").match(**{"packets": matrix(), "lengths": lengths(), **a}),
        {
            "packets": (*MATRIX[:2], "text", 5, [1, 2], np.zeros((2, 64), np.int8), np.zeros(64, np.uint8)),
            "lengths": (*LENGTHS, np.array([-1, 5]), np.array([5, 1 << 32])),
        },
    ),
    "ipv4_checksum": (of_layers(packet.ipv4_checksum), READ),
    "verify_ipv4": (of_layers(packet.verify_ipv4), READ),
    "fill_ipv4": (of_layers(packet.fill_ipv4), WRITTEN),
    "l4_checksum": (of_layers(packet.l4_checksum), READ),
    "verify_l4": (of_layers(packet.verify_l4), READ),
    "fill_l4": (of_layers(packet.fill_l4), WRITTEN),
    "flow_hash": (of_layers(packet.flow_hash), READ),
    "toeplitz_hash": (of_layers(packet.toeplitz_hash), {**READ, "key": (None, 5, "k" * 40, b"", bytes(39))}),
    "decrement_ttl": (of_layers(packet.decrement_ttl), {**WRITTEN, "rows": ROWS_WRONG}),
    "rewrite_macs": (
        of_layers(packet.rewrite_macs),
        {**WRITTEN, "src": MACS_WRONG, "dst": MACS_WRONG, "rows": ROWS_WRONG},
    ),
    "rewrite_addresses": (
        of_layers(packet.rewrite_addresses),
        {**WRITTEN, "src": ADDRESSES_WRONG, "dst": ADDRESSES_WRONG, "rows": ROWS_WRONG},
    ),
    "rewrite_ports": (
        of_layers(packet.rewrite_ports),
        {**WRITTEN, "src": PORTS_WRONG, "dst": PORTS_WRONG, "rows": ROWS_WRONG},
    ),
    "push_vlan": (
        lambda **a: packet.push_vlan(**{"matrix": matrix(), "lengths": lengths(), "tci": 5, **a}),
        {
            "matrix": (*MATRIX, locked()),
            "lengths": LENGTHS,
            "tci": (None, *PORTS_WRONG),
            "ethertype": (*NUMBER, None, 0x0800),
            "rows": ROWS_WRONG,
        },
    ),
    "pop_vlan": (
        lambda **a: packet.pop_vlan(**{"matrix": matrix(), "lengths": lengths(), **a}),
        {"matrix": (*MATRIX, locked()), "lengths": LENGTHS, "rows": ROWS_WRONG},
    ),
    "Responder": (
        packet.Responder,
        {
            "ipv4": (5, b"10.0.0.1", "", "10.0.0", "10.0.0.1/24", "255.255.255.255", "fe80::1"),
            "ipv6": (5, b"fe80::1", "", "10.0.0.1", "::1", "ff02::1"),
            "mac": (None, 5, "02:fe:00:00:00:01", b"", b"12345", b"1234567", b"\xff" * 6),
            "mode": WORD,
        },
    ),
    "answer": (
        answer,
        {
            "matrix": (*MATRIX, locked(), matrix()[:, ::2]),
            "lengths": LENGTHS,
            "new_lengths": (*LENGTHS[1:], locked_lengths()),
        },
    ),
}


@pytest.mark.parametrize(("call", "argument", "values"), cells(TABLE))
def test_packet(call: Any, argument: str, values: Any) -> None:
    call()  # the rest of the arguments is right
    for value in values:
        with refused(argument, value):
            call(**{argument: value})


def test_a_range_that_ends_before_it_starts() -> None:
    with refused("stop", 3):
        packet.internet_checksum(matrix(), 4, 3)
    for start, stop in ((np.array([0, 4]), 3), (np.array([0, 4]), np.array([0, 3]))):
        with refused("stop", 3):
            packet.internet_checksum(matrix(), start, stop)


def test_words_that_do_not_fit_each_other() -> None:
    with refused("new", np.zeros(3, np.uint16)):
        packet.update(np.zeros(2, np.uint16), 1, np.zeros(3, np.uint16))


def test_addresses_of_two_versions() -> None:
    with refused("dst", "::1"):
        packet.rewrite_addresses(matrix(), layers(), src="10.0.0.1", dst="::1")
