"""Rewritten headers: the fields are as asked, nothing else changes, checksums stay as right or wrong as they were."""

from ipaddress import IPv4Address, IPv6Address
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrRouting

from memif import packet
from memif.packet import classify, decrement_ttl, rewrite_addresses, rewrite_macs, rewrite_ports
from packet import reference
from packet.frames import matrix_of, random_frames

FRAMES = {mode: [frame.raw for frame in random_frames(2000, 13, mode)] for mode in ("ethernet", "ip")}
WIDTH = 512


def burst(mode: str, width: int = WIDTH, frames: list[bytes] | None = None) -> tuple[np.ndarray, np.ndarray, Any]:
    matrix, lengths = matrix_of(FRAMES[mode] if frames is None else frames, width)
    return matrix, lengths, classify(matrix, lengths, mode)


def states(matrix: np.ndarray, layers: packet.Layers) -> list[Any]:
    """What must not change: which checksums are right."""
    return [reference.verify_ipv4(matrix, layers).tolist(), reference.verify_l4(matrix, layers).tolist()]


def only(before: np.ndarray, after: np.ndarray, done: np.ndarray, *places: tuple[np.ndarray, int]) -> None:
    """Nothing else has changed than the fields at these offsets and of these sizes, in the rows that are marked."""
    allowed = np.zeros(before.shape, np.bool_)
    columns = np.arange(before.shape[1])
    for start, size in places:
        allowed |= done[:, None] & (columns >= start[:, None]) & (columns < (start + size)[:, None])
    assert ((before == after) | allowed).all()


def checksum_place(layers: packet.Layers) -> np.ndarray:
    return layers.l4_offset + np.select([layers.tcp, layers.udp], [16, 6], 2)


@pytest.mark.parametrize("mode", ["ethernet", "ip"])
@pytest.mark.parametrize("spoiled", [False, True])
@pytest.mark.parametrize("version", [4, 6])
def test_addresses(mode: str, spoiled: bool, version: int) -> None:
    matrix, _, layers = burst(mode)
    at = layers.l3_offset
    if spoiled:  # checksums that are wrong are still wrong after
        rows = (layers.ipv4 | layers.icmp6 | layers.udp | layers.tcp).nonzero()[0]
        matrix[rows, checksum_place(layers)[rows]] ^= 0x10
        rows = layers.ipv4.nonzero()[0]
        matrix[rows, at[rows] + 10] ^= 0x10
    before, right = matrix.copy(), states(matrix, layers)
    src, dst = ("192.0.2.1", IPv4Address("10.9.8.7")) if version == 4 else ("2001:db8::1", IPv6Address("::ffff:0:1"))
    done = rewrite_addresses(matrix, layers, src=src, dst=dst)
    mask = layers.ipv4 if version == 4 else layers.ipv6
    short = layers.starts_l4 & np.isin(layers.protocol, (6, 17, 58)) & ~(layers.udp | layers.tcp | layers.icmp6)
    if version == 4:
        short &= layers.protocol != 58
    assert (done == (mask & ~short)).all()
    assert states(matrix, layers) == right
    first, size = (12, 4) if version == 4 else (8, 16)
    wanted = (IPv4Address(src) if version == 4 else IPv6Address(src)).packed + dst.packed
    for row in done.nonzero()[0]:
        assert matrix[row, at[row] + first :][: 2 * size].tobytes() == wanted
    checksums = [(checksum_place(layers), 2)] + ([(at + 10, 2)] if version == 4 else [])
    only(before, matrix, done, (at + first, 2 * size), *checksums)


@pytest.mark.parametrize("mode", ["ethernet", "ip"])
def test_ports_and_hops(mode: str) -> None:
    matrix, _, layers = burst(mode)
    right = states(matrix, layers)
    before = matrix.copy()
    ports = np.arange(len(matrix)) % 65536
    done = rewrite_ports(matrix, layers, src=ports, dst=4789)
    assert (done == (layers.udp | layers.tcp)).all()
    for row in done.nonzero()[0]:
        start = layers.l4_offset[row]
        wanted = int(ports[row]).to_bytes(2, "big") + (4789).to_bytes(2, "big")
        assert matrix[row, start : start + 4].tobytes() == wanted
    only(before, matrix, done, (layers.l4_offset, 4), (checksum_place(layers), 2))
    before = matrix.copy()
    done = decrement_ttl(matrix, layers)
    place = layers.l3_offset + np.where(layers.ipv4, 8, 7)
    rows = (layers.ipv4 | layers.ipv6).nonzero()[0]
    assert (done[rows] == (before[rows, place[rows]] > 1)).all()
    assert done.sum() == done[rows].sum()
    rows = done.nonzero()[0]
    assert (matrix[rows, place[rows]] == before[rows, place[rows]] - 1).all()
    only(before, matrix, done, (place, 1), (layers.l3_offset + np.where(layers.ipv4, 10, 7), 2 * layers.ipv4 + 0))
    assert states(matrix, layers) == right


@pytest.mark.parametrize("width", [20, 34, 42, 60, 96])
def test_a_narrow_matrix_gets_the_same(width: int) -> None:
    """The payload is not needed. What cannot be kept right stays as it is."""
    wide, lengths, whole = burst("ethernet")
    narrow = np.ascontiguousarray(wide[:, :width])
    layers = classify(narrow, lengths)
    before = narrow.copy()
    for call in (
        lambda m, of, rows: rewrite_addresses(m, of, src="192.0.2.1", dst="192.0.2.2", rows=rows),
        lambda m, of, rows: rewrite_addresses(m, of, dst="2001:db8::7", rows=rows),
        lambda m, of, rows: rewrite_ports(m, of, src=5, rows=rows),
        lambda m, of, rows: decrement_ttl(m, of, rows=rows),
    ):
        done = call(narrow, layers, None)
        assert (call(wide, whole, done) == done).all()
        assert (call(wide, whole, np.zeros(0, np.intp)) == 0).all()
    assert (wide[:, :width] == narrow).all()
    assert width < 34 or (narrow != before).any()


def test_a_udp_checksum_of_zero_stays_and_none_becomes_zero() -> None:
    probe = IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=0, dport=9) / b"ab"
    zero = IP(bytes(probe))
    zero[UDP].chksum = 0
    packets = [bytes(zero)] + [bytes(probe)] * 65536
    matrix, _, layers = burst("ip", 40, packets)
    rewrite_ports(matrix, layers, src=np.arange(65537) % 65536)
    assert matrix[0, 26:28].tolist() == [0, 0]
    assert (matrix[1:, 26:28] != 0).any(axis=1).all()
    assert packet.verify_l4(matrix, layers).all()


def test_the_final_destination_is_what_counts() -> None:
    """On the way to the last address of a routing header, the checksum does not cover the next one."""
    ip = IPv6(src="2001:db8::1", dst="2001:db8::2") / IPv6ExtHdrRouting(addresses=["2001:db8::3"], segleft=1)
    matrix, _, layers = burst("ip", 120, [bytes(ip / UDP(sport=1, dport=2) / b"abc")])
    packet.fill_l4(matrix, layers)
    assert rewrite_addresses(matrix, layers, dst="2001:db8::77", src="2001:db8::66").all()
    assert packet.verify_l4(matrix, layers).all()


def test_macs() -> None:
    matrix, _, layers = burst("ethernet")
    before = matrix.copy()
    done = rewrite_macs(matrix, layers, src=matrix[:, :6], dst=matrix[:, 6:12])
    assert (done == layers.valid).all()
    assert (matrix[done, :6] == before[done, 6:12]).all()
    assert (matrix[done, 6:12] == before[done, :6]).all()
    assert (matrix[~done] == before[~done]).all()
    assert (matrix[:, 12:] == before[:, 12:]).all()
    rewrite_macs(matrix, layers, dst=b"\x02abcde", rows=np.array([0]))
    assert (matrix[0, :6].tobytes() == b"\x02abcde") == layers.valid[0]
    matrix, _, layers = burst("ip")
    assert not rewrite_macs(matrix, layers, dst=b"\x02abcde").any()


def test_scapy_agrees() -> None:
    old = IP(src="10.0.0.1", dst="10.0.0.2", ttl=9) / TCP(sport=1, dport=2) / b"hello"
    new = IP(src="192.0.2.7", dst="10.0.0.2", ttl=8) / TCP(sport=1, dport=443) / b"hello"
    matrix, _, layers = burst("ip", 64, [bytes(old)])
    rewrite_addresses(matrix, layers, src=np.array([int(IPv4Address("192.0.2.7"))]))
    rewrite_ports(matrix, layers, dst=443)
    decrement_ttl(matrix, layers)
    assert matrix[0, : len(old)].tobytes() == bytes(new)


@settings(max_examples=300, deadline=None)
@given(data=st.data(), width=st.integers(0, 90), tci=st.integers(0, 65535))
def test_tags(data: st.DataObject, width: int, tci: int) -> None:
    heads = st.sampled_from([b"", bytes(12) + b"\x81\0", bytes(12) + b"\x88\xa8", bytes(12) + b"\x91\0"])
    packets = data.draw(st.lists(st.builds(lambda a, b: a + b, heads, st.binary(max_size=90)), max_size=6))
    matrix, lengths = matrix_of(packets, width)
    chosen = np.array(data.draw(st.lists(st.booleans(), min_size=len(packets), max_size=len(packets))), np.bool_)
    tag = b"\x88\xa8" + tci.to_bytes(2, "big")

    def check(after: np.ndarray, wanted: list[bytes]) -> None:
        assert after.tolist() == [len(one) for one in wanted]
        expected, _ = matrix_of(wanted, width)
        assert (matrix == expected).all()

    wanted = [reference.push_vlan(one, tag, width) if use else one for one, use in zip(packets, chosen, strict=True)]
    after = packet.push_vlan(matrix, lengths, tci, ethertype=packet.EtherType.QINQ, rows=chosen)
    check(after, wanted)
    wanted = [reference.pop_vlan(one, width) if use else one for one, use in zip(wanted, ~chosen, strict=True)]
    after = packet.pop_vlan(matrix, after, rows=(~chosen).nonzero()[0])
    check(after, wanted)
    check(packet.pop_vlan(matrix, after), [reference.pop_vlan(one, width) for one in wanted])


def test_push_and_pop_give_back_the_packet() -> None:
    matrix, lengths, _ = burst("ethernet")
    before = matrix.copy()
    after = packet.push_vlan(matrix, lengths, np.arange(len(matrix)) % 4096)
    assert (after[lengths >= 14] == lengths[lengths >= 14] + 4).all()
    assert (packet.pop_vlan(matrix, after, rows=after != lengths) == lengths).all()
    assert (matrix == before).all()
