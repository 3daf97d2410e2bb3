"""Flow hashes: Microsoft's vectors, both directions of a flow, fragments, and a plain computation."""

from ipaddress import ip_address

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6

from memif.packet import RSS_KEY, SYMMETRIC_RSS_KEY, Layers, classify, flow_hash, toeplitz_hash
from packet import reference
from packet.frames import matrix_of, random_frames

# "Verifying the RSS Hash Calculation": destination, source, hash of the addresses alone, hash with TCP's ports.
VECTORS = [
    ("161.142.100.80", 1766, "66.9.149.187", 2794, 0x323E8FC2, 0x51CCC178),
    ("65.69.140.83", 4739, "199.92.111.2", 14230, 0xD718262A, 0xC626B0EA),
    ("12.22.207.184", 38024, "24.19.198.95", 12898, 0xD2D0A5DE, 0x5C2B394A),
    ("209.142.163.6", 2217, "38.27.205.30", 48228, 0x82989176, 0xAFC7327F),
    ("202.188.127.2", 1303, "153.39.163.191", 44251, 0x5D1809C5, 0x10E828A2),
    ("3ffe:2501:200:3::1", 1766, "3ffe:2501:200:1fff::7", 2794, 0x2CC18CD5, 0x40207D3D),
    ("ff02::1", 4739, "3ffe:501:8::260:97ff:fe40:efab", 14230, 0x0F0C461C, 0xDDE51BBF),
    (
        "fe80::200:f8ff:fe21:67cf",
        38024,
        "3ffe:1900:4545:3:200:f8ff:fe21:67cf",
        44251,
        0x4B61E985,
        0x02D1FEEF,
    ),
]


def burst_of(*packets: object) -> tuple[np.ndarray, Layers]:
    matrix, lengths = matrix_of([bytes(packet) for packet in packets], 128)  # type: ignore[call-overload]
    return matrix, classify(matrix, lengths, "ip")


@pytest.mark.parametrize(("dst", "dport", "src", "sport", "addresses", "ports"), VECTORS)
def test_the_published_vectors(dst: str, dport: int, src: str, sport: int, addresses: int, ports: int) -> None:
    ip = IP(src=src, dst=dst) if ip_address(src).version == 4 else IPv6(src=src, dst=dst)
    other = ip.copy()
    setattr(other, "proto" if ip.version == 4 else "nh", 132)
    matrix, layers = burst_of(
        ip / TCP(sport=sport, dport=dport), ip / UDP(sport=sport, dport=dport), other / (b"\0" * 30)
    )
    assert layers.valid.all()
    assert toeplitz_hash(matrix, layers).tolist() == [ports, ports, addresses]


@pytest.mark.parametrize("mode", ["ethernet", "ip"])
@pytest.mark.parametrize("key", [RSS_KEY, SYMMETRIC_RSS_KEY, bytes(range(7, 59))])
def test_random_frames(mode: str, key: bytes) -> None:
    matrix, lengths = matrix_of([frame.raw for frame in random_frames(600, 12, mode)], 200)
    layers = classify(matrix, lengths, mode)
    hashes = toeplitz_hash(matrix, layers, key)
    assert hashes.dtype == np.uint32
    for row in range(len(matrix)):
        assert hashes[row] == reference.toeplitz(reference.flow_of(matrix, layers, row), key[:40]), row
    assert ((flow_hash(matrix, layers) != 0) == (layers.ipv4 | layers.ipv6)).all()


def turned(packet: bytes) -> bytes:
    """The packet of the other direction; the checksums do not matter."""
    at, size = (12, 4) if packet[0] >> 4 == 4 else (8, 16)
    end = at + 2 * size
    ports = packet[end + 2 : end + 4] + packet[end : end + 2]
    return packet[:at] + packet[at + size : end] + packet[at : at + size] + ports + packet[end + 4 :]


ADDRESS4, ADDRESS6, PORT = st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map(str), st.integers(0, 65535)


@settings(max_examples=100, deadline=None)
@given(data=st.data(), version=st.sampled_from([4, 6]), kind=st.sampled_from([TCP, UDP]), sport=PORT, dport=PORT)
def test_both_directions(data: st.DataObject, version: int, kind: type, sport: int, dport: int) -> None:
    src, dst = data.draw(st.tuples(*[ADDRESS4 if version == 4 else ADDRESS6] * 2))
    ip = IP(src=src, dst=dst) if version == 4 else IPv6(src=src, dst=dst)
    there = bytes(ip / kind(sport=sport, dport=dport))
    matrix, layers = burst_of(there, turned(there))
    for hashes in (flow_hash(matrix, layers), toeplitz_hash(matrix, layers, SYMMETRIC_RSS_KEY)):
        assert hashes[0] == hashes[1]


def test_all_fragments_of_a_packet_have_one_hash() -> None:
    for more, offset in ((1, 0), (1, 100), (0, 200)):
        first = IP(src="10.0.0.1", dst="10.0.0.2", flags=more, frag=offset, proto=17) / UDP(sport=1, dport=2)
        other = IP(src="10.0.0.1", dst="10.0.0.2", flags=1, proto=17) / UDP(sport=77, dport=88)
        matrix, layers = burst_of(first, other)
        for hashes in (flow_hash(matrix, layers), toeplitz_hash(matrix, layers)):
            assert hashes[0] == hashes[1]


def test_flows_spread_over_few_queues() -> None:
    packets = [bytes(IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=port, dport=53)) for port in range(4096)]
    matrix, layers = burst_of(*packets)
    for hashes in (flow_hash(matrix, layers), toeplitz_hash(matrix, layers)):
        assert np.bincount(hashes % 8, minlength=8).min() > 400
    assert len(set(flow_hash(matrix, layers).tolist())) > 4090


def test_the_protocol_counts() -> None:
    matrix, layers = burst_of(IP() / UDP(sport=1, dport=2), IP() / TCP(sport=1, dport=2))
    assert len(set(flow_hash(matrix, layers).tolist())) == 2
