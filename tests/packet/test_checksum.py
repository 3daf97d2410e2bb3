"""Checksums against scapy's and against a plain loop over words."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scapy.layers import inet, inet6

from memif.packet import (
    UDP,
    Layers,
    classify,
    fill_ipv4,
    fill_l4,
    internet_checksum,
    ipv4_checksum,
    l4_checksum,
    scatter,
    update,
    verify_ipv4,
    verify_l4,
)
from packet.frames import Frame, matrix_of, parse_vlan_free, random_frames

WIDTH = 512
FIELD = {"icmp": (inet.ICMP, "chksum", 2), "icmp6": (inet6.ICMPv6EchoRequest, "cksum", 2)}
FIELD |= {"udp": (inet.UDP, "chksum", 6), "tcp": (inet.TCP, "chksum", 16)}
Burst = tuple[list[Frame], np.ndarray, Layers]


@pytest.fixture(params=["ethernet", "ip"])
def burst(request: pytest.FixtureRequest) -> Burst:
    frames = random_frames(2000, seed=3, mode=request.param)
    matrix, lengths = matrix_of([frame.raw for frame in frames], WIDTH)
    return frames, matrix, classify(matrix, lengths, request.param)


def whole(frame: Frame) -> bool:
    return frame.valid and not frame.fragment and frame.transport in FIELD


def stored(frame: Frame) -> int:
    """The layer 4 checksum that scapy computed."""
    at = frame.l3_offset + frame.l3_header_length + FIELD[frame.transport][2]
    return int.from_bytes(frame.raw[at : at + 2], "big")


def reference(data: bytes) -> int:
    """RFC 1071, word by word."""
    total = sum(int.from_bytes(data[at : at + 2].ljust(2, b"\0"), "big") for at in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def test_scapy_computes_the_same(burst: Burst) -> None:
    frames, matrix, layers = burst
    headers, transports = ipv4_checksum(matrix, layers), l4_checksum(matrix, layers)
    assert sum(map(whole, frames)) > 500
    for row, frame in enumerate(frames):
        at = frame.l3_offset + 10
        valid4 = frame.valid and frame.network == "ipv4"
        assert headers[row] == (int.from_bytes(frame.raw[at : at + 2], "big") if valid4 else 0), frame
        assert transports[row] == (stored(frame) if whole(frame) else 0), frame


def test_right_checksums_verify_and_one_bit_spoils_them(burst: Burst) -> None:
    frames, matrix, layers = burst
    assert (verify_ipv4(matrix, layers) == layers.ipv4).all()
    expected = np.array([whole(frame) for frame in frames])
    assert (verify_l4(matrix, layers) == expected).all()
    rng = np.random.default_rng(4)
    # The last byte of the payload, which is the odd one in half of the packets.
    ends = (layers.l3_offset + layers.l3_length - 1)[expected]
    matrix[expected.nonzero()[0], ends] ^= (1 << rng.integers(0, 8, len(ends))).astype(np.uint8)
    assert not verify_l4(matrix, layers).any()
    rows = layers.ipv4.nonzero()[0]
    matrix[rows, layers.l3_offset[rows] + 8] ^= 0x40  # time to live
    assert not verify_ipv4(matrix, layers).any()


def test_bytes_behind_the_ip_packet_do_not_count(burst: Burst) -> None:
    frames, matrix, layers = burst
    before = l4_checksum(matrix, layers)
    for row, frame in enumerate(frames):
        if frame.valid:
            matrix[row, frame.l3_offset + frame.l3_length :] = 0xA5
    assert (l4_checksum(matrix, layers) == before).all()


def test_fill_restores_what_scapy_wrote(burst: Burst) -> None:
    frames, matrix, layers = burst
    original = matrix.copy()
    for row, frame in enumerate(frames):
        if whole(frame):
            at = frame.l3_offset + frame.l3_header_length + FIELD[frame.transport][2]
            matrix[row, at : at + 2] = 0xBE
        if frame.valid and frame.network == "ipv4":
            matrix[row, frame.l3_offset + 10 : frame.l3_offset + 12] = 0xEF
    assert (matrix != original).any()
    fill_ipv4(matrix, layers)
    fill_l4(matrix, layers)
    assert (matrix == original).all()


def test_a_matrix_that_holds_part_of_the_payload_verifies_nothing(burst: Burst) -> None:
    _frames, matrix, layers = burst
    mode = "ip" if layers.uniform == 0 else "ethernet"
    lengths = np.where(layers.valid, layers.l3_offset + layers.l3_length, 0)
    narrow = classify(matrix[:, :100].copy(), lengths, mode)
    verified = verify_l4(matrix[:, :100].copy(), narrow)
    assert verified.any()
    assert (verified <= (lengths <= 100)).all()


@pytest.mark.parametrize("ip", [inet.IP(src="192.0.2.1", dst="192.0.2.2"), inet6.IPv6(src="::1", dst="::2")])
def test_a_udp_checksum_of_zero(ip) -> None:
    """Computed zero is sent as 0xFFFF; a zero on the wire means none over IPv4 and is an error over IPv6."""
    probe = type(ip)(bytes(ip / inet.UDP(sport=1, dport=2) / b"\0\0"))
    payload = probe[inet.UDP].chksum.to_bytes(2, "big")
    raw = bytes(ip / inet.UDP(sport=1, dport=2) / payload)
    matrix, lengths = matrix_of([raw] * 2, 64)
    layers = classify(matrix, lengths, "ip")
    udp_at = int(layers.l4_offset[0])
    assert l4_checksum(matrix, layers).tolist() == [0xFFFF, 0xFFFF]
    assert type(ip)(raw)[inet.UDP].chksum == 0xFFFF
    assert verify_l4(matrix, layers).all()
    matrix[:, udp_at + 6 : udp_at + 8] = 0
    assert verify_l4(matrix, layers).tolist() == [ip.version == 4] * 2


def test_udp_that_is_shorter_than_ip_says() -> None:
    """The UDP length bounds the sum; one beyond the IP packet, or below its own header, cannot be right."""
    packets = [inet.IP() / inet.UDP(len=8 + size) / b"abcd" for size in (4, 3, 0, -1, 5)]
    matrix, lengths = matrix_of([bytes(packet) for packet in packets], 64)
    layers = classify(matrix, lengths, "ip")
    fill_l4(matrix, layers)
    assert verify_l4(matrix, layers).tolist() == [True, True, True, False, False]
    matrix[:, 31] ^= 1  # the last byte, outside of all sums but the first
    assert verify_l4(matrix, layers).tolist() == [False, True, True, False, False]


def test_all_zero_data() -> None:
    """The checksum of nothing but zeros is 0xFFFF, with and without a checksum in place."""
    matrix = np.zeros((1, 8), np.uint8)
    assert internet_checksum(matrix, 0, 8).tolist() == [0xFFFF]
    raw = bytes(inet.IP(src="0.0.0.0", dst="0.0.0.0") / inet.ICMP(type=0, id=0, seq=0))
    matrix, lengths = matrix_of([raw], 64)
    layers = classify(matrix, lengths, "ip")
    assert l4_checksum(matrix, layers).tolist() == [0xFFFF]
    assert verify_l4(matrix, layers).all()


@settings(max_examples=200, deadline=None)
@given(data=st.data(), width=st.integers(1, 200), count=st.integers(1, 6))
def test_any_range_of_any_row(data: st.DataObject, width: int, count: int) -> None:
    rows = data.draw(st.lists(st.binary(min_size=width, max_size=width), min_size=count, max_size=count))
    bounds = [sorted(data.draw(st.tuples(st.integers(0, width), st.integers(0, width)))) for _ in rows]
    matrix, _ = matrix_of(rows, width)
    got = internet_checksum(matrix, np.array([low for low, _ in bounds]), np.array([high for _, high in bounds]))
    assert got.tolist() == [reference(row[low:high]) for row, (low, high) in zip(rows, bounds, strict=True)]
    low, high = bounds[0]
    assert internet_checksum(matrix, low, high).tolist() == [reference(row[low:high]) for row in rows]


def test_the_largest_packet_of_ones() -> None:
    matrix = np.full((3, 65535), 255, np.uint8)
    assert internet_checksum(matrix, 0, 65535).tolist() == [reference(b"\xff" * 65535)] * 3


def test_a_range_beyond_the_row_is_refused() -> None:
    with pytest.raises(ValueError, match=r"argument stop\[1\]: got 21, allowed: 0 to 20"):
        internet_checksum(np.zeros((2, 20), np.uint8), 0, np.array([20, 21]))


WORD = st.integers(0, 65535)


@settings(max_examples=300, deadline=None)
@given(words=st.lists(WORD, min_size=2, max_size=12), new=WORD)
def test_an_update_equals_a_recomputation(words: list[int], new: int) -> None:
    """But for data of only zeros, where one's complement has two zeros to choose from (RFC 1624, 3)."""
    before = reference(b"".join(word.to_bytes(2, "big") for word in words))
    after = reference(b"".join(word.to_bytes(2, "big") for word in [new, *words[1:]]))
    as_numbers = update(np.array([before], np.uint16), words[0], new)
    as_arrays = update(np.array([before], ">u2"), np.array([words[0]], ">u2"), np.array([new], np.uint16))
    swapped = update(np.array([before], np.uint16).byteswap(), swap(words[0]), swap(new)).byteswap()
    assert as_numbers.dtype == np.uint16
    assert as_numbers.tolist() == as_arrays.tolist() == swapped.tolist()
    assert as_numbers[0] == after or (as_numbers[0] % 65535 == after % 65535 and not any([new, *words[1:]]))


def swap(word: int) -> int:
    return int.from_bytes(word.to_bytes(2, "big"), "little")


def test_the_example_of_rfc_1624() -> None:
    assert update(np.array([0xDD2F]), 0x5555, 0x3285).tolist() == [0x0000]


def test_an_update_keeps_what_was_wrong_wrong(burst: Burst) -> None:
    _frames, matrix, layers = burst
    udp = layers.udp & verify_l4(matrix, layers)
    from memif.packet import gather

    records = gather(matrix, UDP, layers.l4_offset, udp)
    records["checksum"] ^= np.resize(np.array([0, 0x0100], np.uint16), len(records))
    records["checksum"] = update(records["checksum"], records["dport"], 4789)
    records["dport"] = 4789
    scatter(matrix, records, layers.l4_offset, udp)
    assert verify_l4(matrix, layers)[udp].tolist() == [row % 2 == 0 for row in range(len(records))]


def test_scapy_agrees_after_a_rewrite(burst: Burst) -> None:
    """New addresses, then `fill_*`: scapy, asked to compute again, writes the same bytes."""
    frames, matrix, layers = burst
    rows = [row for row, frame in enumerate(frames) if whole(frame) and frame.network == "ipv4"]
    for row in rows:
        matrix[row, frames[row].l3_offset + 12 : frames[row].l3_offset + 20] = (10, 0, 0, 1, 10, 0, 0, 2)
    fill_ipv4(matrix, layers)
    fill_l4(matrix, layers)
    for row in rows[:300]:
        frame = frames[row]
        raw = matrix[row, : len(frame.raw)].tobytes()
        packet = parse_vlan_free(raw) if layers.uniform is None else inet.IP(raw)
        name, field, _ = FIELD[frame.transport]
        got = (packet[inet.IP].chksum, getattr(packet[name], field))
        del packet[inet.IP].chksum, packet[name].chksum
        again = type(packet)(bytes(packet))
        assert got == (again[inet.IP].chksum, getattr(again[name], field)), frame


@pytest.mark.parametrize(
    "call",
    [fill_ipv4, fill_l4, ipv4_checksum, l4_checksum, verify_ipv4, verify_l4],
    ids=lambda call: str(call.__name__),
)
def test_wrong_arguments_are_named(call: Callable[..., object]) -> None:
    matrix, lengths = np.zeros((2, 64), np.uint8), np.array([60, 60], np.uint32)
    layers = classify(matrix, lengths)
    for wrong in (None, 1.5, b"x", [], matrix.astype(np.uint16)):
        with pytest.raises(TypeError, match="argument matrix"):
            call(wrong, layers)
        with pytest.raises(TypeError, match="argument layers"):
            call(matrix, wrong)
    for other in (matrix[:1], matrix[:, :63], matrix[0]):
        with pytest.raises(ValueError, match="argument matrix"):
            call(other, layers)
