"""The compiled loops against the same work done with numpy: any frame, cut anywhere, in a matrix of any shape."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from memif import packet
from packet import reference
from packet.frames import matrix_of, random_frames

FIELDS = (
    "l3_offset",
    "ethertype",
    "l3_header_length",
    "l3_length",
    "protocol",
    "is_fragment",
    "has_options",
    "starts_l4",
    "valid",
    "routing_offset",
)
FRAMES = {mode: [frame.raw for frame in random_frames(3000, 11, mode)] for mode in ("ethernet", "ip")}
# An IPv6 packet with a routing header of two addresses, one of them left, and an IPv4 packet with a source route.
ROUTED = b"\x60\0\0\0\0\x30\x2b\x40" + bytes(range(32)) + b"\x11\x04\x00\x01" + bytes(36) + b"\0\1\0\2\0\x08\0\0"
LOOSE = b"\x47\0\0\x24\0\0\0\0\x40\x11\0\0" + bytes(range(8)) + b"\x83\x07\x04\xc0\0\2\1\0" + b"\0\1\0\2\0\x08\0\0"
EXTRA = {"ip": [ROUTED, LOOSE], "ethernet": [bytes(12) + b"\x86\xdd" + ROUTED, bytes(12) + b"\x08\0" + LOOSE]}


@st.composite
def bursts(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, str]:
    """Frames with some bytes changed, and lengths that may be wrong, in a matrix of any width and any strides."""
    mode = draw(st.sampled_from(["ethernet", "ip"]))
    frames = draw(st.lists(st.sampled_from(FRAMES[mode] + 100 * EXTRA[mode]), min_size=0, max_size=8))
    width = draw(st.one_of(st.integers(0, 130), st.just(400)))
    matrix, lengths = matrix_of(frames, width)
    if matrix.size:
        for _ in range(draw(st.integers(0, 4))):
            row, at = draw(st.integers(0, len(frames) - 1)), draw(st.integers(0, min(width, 80) - 1))
            matrix[row, at] = draw(st.integers(0, 255))
    if draw(st.booleans()) and len(frames):
        lengths[draw(st.integers(0, len(frames) - 1))] = draw(st.integers(0, 2**31 - 1))
    return shaped(matrix, draw(st.sampled_from(["plain", "columns", "gaps", "backwards"]))), lengths, mode


def shaped(matrix: np.ndarray, shape: str) -> np.ndarray:
    """The same bytes with other strides. Next to each row are bytes that must not be touched or read."""
    count, width = matrix.shape
    if shape == "columns":
        return np.asfortranarray(matrix)
    if shape == "plain":
        return matrix
    space = np.full((count, width + 16), 0xEE, np.uint8)
    space[:, 8 : 8 + width] = matrix
    return space[:, 8 : 8 + width] if shape == "gaps" else space[::-1][:, 8 : 8 + width]


def same_layers(ours: packet.Layers, theirs: packet.Layers) -> None:
    assert ours.uniform == theirs.uniform
    for name in FIELDS:
        got, wanted = getattr(ours, name), getattr(theirs, name)
        assert got.dtype == wanted.dtype
        assert got.tolist() == wanted.tolist(), name


def intact(matrix: np.ndarray) -> bool:
    """The bytes beside the rows are as they were."""
    base: Any = matrix.base
    if base is None or base.ndim != 2 or base.shape[1] != matrix.shape[1] + 16:
        return True
    return bool((base[:, :8] == 0xEE).all() and (base[:, -8:] == 0xEE).all())


@settings(max_examples=600, deadline=None)
@given(bursts())
def test_layers_and_checksums(burst: tuple[np.ndarray, np.ndarray, str]) -> None:
    matrix, lengths, mode = burst
    layers = packet.classify(matrix, lengths, mode)
    plain = np.array(matrix, order="C")
    same_layers(layers, reference.classify(plain, lengths, mode))
    for name in ("ipv4_checksum", "l4_checksum", "verify_ipv4", "verify_l4"):
        got, wanted = getattr(packet, name)(matrix, layers), getattr(reference, name)(plain, layers)
        assert got.dtype == wanted.dtype
        assert got.tolist() == wanted.tolist(), name
    for name in ("fill_ipv4", "fill_l4"):
        getattr(reference, name)(plain, layers)
        getattr(packet, name)(matrix, layers)
        assert (matrix == plain).all(), name
        assert intact(matrix)


@pytest.mark.parametrize("mode", ["ethernet", "ip"])
@pytest.mark.parametrize("width", [60, 128, 512])
def test_a_large_burst(mode: str, width: int) -> None:
    """Large enough that the loops run without the interpreter lock."""
    matrix, lengths = matrix_of(FRAMES[mode], width)
    layers = packet.classify(matrix, lengths, mode)
    same_layers(layers, reference.classify(matrix, lengths, mode))
    wanted = matrix.copy()
    for module, target in ((packet, matrix), (reference, wanted)):
        module.fill_ipv4(target, layers)
        module.fill_l4(target, layers)
    assert (matrix == wanted).all()
    assert packet.verify_l4(matrix, layers).tolist() == reference.verify_l4(matrix, layers).tolist()


@settings(max_examples=300, deadline=None)
@given(data=st.data(), width=st.integers(0, 90), count=st.integers(1, 4))
def test_layers_that_lie_stay_inside_the_rows(data: st.DataObject, width: int, count: int) -> None:
    """Arrays that are not what `classify` returned: the loops read and write inside the rows all the same."""
    number = st.sampled_from([0, 1, 14, 20, 40, 60, 62, width, width - 8, -1, -20, 2**31 - 1, -(2**31)])

    def column(values: st.SearchStrategy[Any], dtype: Any) -> np.ndarray:
        return np.array(data.draw(st.lists(values, min_size=count, max_size=count)), dtype)

    flags = st.booleans()
    layers = packet.Layers(
        data.draw(st.integers(0, width)),
        column(number, np.int32),
        column(st.sampled_from([0x800, 0x86DD, 0x806]), np.uint16),
        column(number, np.int32),
        column(number, np.int32),
        column(st.sampled_from([1, 6, 17, 58]), np.uint8),
        column(flags, np.bool_),
        column(flags, np.bool_),
        column(flags, np.bool_),
        column(flags, np.bool_),
        column(number, np.int32),
        None,
    )
    size = count * width
    rows = np.frombuffer(bytearray(data.draw(st.binary(min_size=size, max_size=size))), np.uint8).reshape(count, width)
    matrix = shaped(rows, data.draw(st.sampled_from(["plain", "columns", "gaps", "backwards"])))
    for call in LOOPS:
        call(matrix, layers)
        assert intact(matrix)


LOOPS: list[Callable[..., object]] = [
    packet.ipv4_checksum,
    packet.l4_checksum,
    packet.verify_ipv4,
    packet.verify_l4,
    packet.fill_ipv4,
    packet.fill_l4,
    packet.flow_hash,
    packet.toeplitz_hash,
    packet.decrement_ttl,
    lambda matrix, layers: packet.rewrite_ports(matrix, layers, src=1, dst=2),
    lambda matrix, layers: packet.rewrite_addresses(matrix, layers, src="10.0.0.1", dst="10.0.0.2"),
    lambda matrix, layers: packet.rewrite_addresses(matrix, layers, src="::1", dst="::2"),
    lambda matrix, layers: packet.rewrite_macs(matrix, layers, src=b"abcdef", dst=b"ghijkl"),
]
