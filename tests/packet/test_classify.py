"""`classify` and the header dtypes against frames that scapy built."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scapy.layers import inet, inet6, l2

from memif.packet import (
    ARP,
    ETHERNET,
    ICMP,
    IPV4,
    IPV6,
    TCP,
    UDP,
    VLAN,
    EtherType,
    classify,
    gather,
    scatter,
    view,
)
from packet.frames import Frame, matrix_of, parse_vlan_free, random_frames

WIDTH = 512
L4 = ("icmp", "icmp6", "udp", "tcp")


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return random_frames(4000, seed=1)


@pytest.mark.parametrize(("mode", "seed"), [("ethernet", 1), ("ip", 2)])
def test_layers_of_random_frames(mode: str, seed: int) -> None:
    frames = random_frames(3000, seed, mode)
    layers = classify(*matrix_of([frame.raw for frame in frames], WIDTH), mode)
    for row, frame in enumerate(frames):
        assert layers.valid[row] == frame.valid, frame
        for name in ("arp", "ipv4", "ipv6"):
            assert getattr(layers, name)[row] == (frame.valid and frame.network == name), frame
        for name in L4:
            assert getattr(layers, name)[row] == frame.has(name), (name, frame)
        if frame.valid:
            check_offsets(layers, row, frame)


def check_offsets(layers, row: int, frame: Frame) -> None:
    assert layers.l3_offset[row] == frame.l3_offset, frame
    assert layers.ethertype[row] == frame.ethertype, frame
    assert layers.l3_header_length[row] == frame.l3_header_length, frame
    assert layers.l3_length[row] == frame.l3_length, frame
    assert layers.l4_offset[row] == frame.l3_offset + frame.l3_header_length, frame
    assert layers.l4_length[row] == frame.l3_length - frame.l3_header_length, frame
    assert layers.is_fragment[row] == frame.fragment, frame
    assert layers.has_options[row] == frame.options, frame


def test_one_row_at_a_time_gives_the_same(frames: list[Frame]) -> None:
    """A burst of one kind takes the short cuts, a mixed one does not."""
    sample = frames[:400]
    matrix, lengths = matrix_of([frame.raw for frame in sample], WIDTH)
    whole = classify(matrix, lengths)
    for row in range(len(sample)):
        single = classify(matrix[row : row + 1], lengths[row : row + 1])
        for name in ("l3_offset", "ethertype", "valid", "arp", "ipv4", "ipv6", *L4):
            assert getattr(single, name)[0] == getattr(whole, name)[row], (name, sample[row])
        if whole.valid[row]:
            check_offsets(single, 0, sample[row])


@pytest.mark.parametrize("width", [0, 13, 14, 33, 34, 42, 60, 64, 96])
def test_a_narrow_matrix_hides_headers(frames: list[Frame], width: int) -> None:
    layers = classify(*matrix_of([frame.raw for frame in frames], width))
    for row, frame in enumerate(frames):
        end = frame.l3_offset + frame.l3_header_length
        assert layers.valid[row] == (frame.valid and end <= width), frame
        for name in L4:
            size = 20 if name == "tcp" else 8
            assert getattr(layers, name)[row] == (frame.has(name) and end + size <= width), (name, frame)
        assert layers.whole[row] == (layers.valid[row] and frame.l3_offset + frame.l3_length <= width)


def test_fields_read_as_scapy_reads_them(frames: list[Frame]) -> None:
    matrix, lengths = matrix_of([frame.raw for frame in frames], WIDTH)
    layers = classify(matrix, lengths)
    parsed = [parse_vlan_free(frame.raw) if frame.valid else None for frame in frames]
    assert all(len(getattr(layers, name).nonzero()[0]) > 100 for name in ("arp", "ipv4", "ipv6", *L4))

    def compare(mask, dtype, offsets, layer, fields: dict[str, str]) -> None:
        rows = mask.nonzero()[0]
        records = gather(matrix, dtype, offsets, rows)
        for record, row in zip(records, rows, strict=True):
            for ours, theirs in fields.items():
                assert plain(record[ours]) == plain(getattr(parsed[row][layer], theirs)), (ours, frames[row])

    compare(
        layers.ipv4,
        IPV4,
        layers.l3_offset,
        inet.IP,
        {"tos": "tos", "total_length": "len", "identification": "id", "ttl": "ttl", "protocol": "proto"}
        | {"checksum": "chksum", "src": "src", "dst": "dst"},
    )
    compare(
        layers.ipv6,
        IPV6,
        layers.l3_offset,
        inet6.IPv6,
        {"payload_length": "plen", "next_header": "nh", "hop_limit": "hlim", "src": "src", "dst": "dst"},
    )
    compare(
        layers.arp,
        ARP,
        layers.l3_offset,
        l2.ARP,
        {"hardware": "hwtype", "protocol": "ptype", "hardware_size": "hwlen", "protocol_size": "plen"}
        | {"operation": "op", "sender_mac": "hwsrc", "sender_ip": "psrc", "target_ip": "pdst"},
    )
    echo = {"type": "type", "code": "code", "identifier": "id", "sequence": "seq"}
    unsplit = ~layers.is_fragment
    compare(layers.icmp & unsplit, ICMP, layers.l4_offset, inet.ICMP, echo | {"checksum": "chksum"})
    compare(
        layers.icmp6 & unsplit,
        ICMP,
        layers.l4_offset,
        inet6.ICMPv6EchoRequest,
        echo | {"checksum": "cksum"},
    )
    ports = {"sport": "sport", "dport": "dport", "checksum": "chksum"}
    compare(layers.udp & unsplit, UDP, layers.l4_offset, inet.UDP, ports | {"length": "len"})
    compare(
        layers.tcp & unsplit,
        TCP,
        layers.l4_offset,
        inet.TCP,
        ports | {"sequence": "seq", "acknowledgement": "ack", "window": "window", "urgent": "urgptr"},
    )


def plain(value):
    """Numbers and addresses of both sides in one form."""
    if isinstance(value, str):
        kind = "mac" if value.count(":") == 5 and "::" not in value and len(value) == 17 else "ip"
        return bytes.fromhex(value.replace(":", "")) if kind == "mac" else address(value)
    return value.tobytes() if getattr(value, "ndim", 0) else int(value)


def address(text: str):
    from ipaddress import ip_address

    parsed = ip_address(text)
    return int(parsed) if parsed.version == 4 else parsed.packed


def test_a_view_writes_into_the_matrix() -> None:
    raw = bytes(l2.Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:02") / l2.Dot1Q(vlan=7, prio=5) / inet.IP())
    matrix, _ = matrix_of([raw] * 3, 64)
    assert view(matrix, VLAN, 14)["tci"].tolist() == [5 << 13 | 7] * 3
    assert view(matrix, VLAN, 14)["ethertype"].tolist() == [EtherType.IPV4] * 3
    ethernet = view(matrix, ETHERNET, 0)
    assert ethernet["ethertype"].tolist() == [EtherType.VLAN] * 3
    assert np.shares_memory(ethernet, matrix)
    ethernet["src"][1] = (2, 0, 0, 0, 0, 9)
    view(matrix, IPV4, 18)["ttl"] -= 1
    parsed = [l2.Ether(row.tobytes()) for row in matrix]
    assert [frame.src for frame in parsed] == ["02:00:00:00:00:02", "02:00:00:00:00:09", "02:00:00:00:00:02"]
    assert [frame[inet.IP].ttl for frame in parsed] == [63] * 3


def test_a_third_tag_is_not_looked_behind() -> None:
    packet = l2.Ether() / l2.Dot1Q() / l2.Dot1Q() / l2.Dot1Q() / inet.IP() / inet.UDP()
    layers = classify(*matrix_of([bytes(packet), bytes(packet)[:22], bytes(packet)[:21]], 96))
    assert layers.l3_offset.tolist() == [22] * 3
    assert layers.ethertype.tolist() == [EtherType.VLAN] * 3
    assert layers.valid.tolist() == [True, True, False]
    assert not (layers.ipv4 | layers.udp).any()


def test_gather_and_scatter_undo_each_other(frames: list[Frame]) -> None:
    matrix, lengths = matrix_of([frame.raw for frame in frames[:500]], WIDTH)
    layers = classify(matrix, lengths)
    before = matrix.copy()
    records = gather(matrix, UDP, layers.l4_offset, layers.udp)
    records["dport"] = 4789
    scatter(matrix, records, layers.l4_offset, layers.udp)
    changed = (matrix != before).any(axis=1)
    assert (changed == layers.udp).all()
    assert (gather(matrix, UDP, layers.l4_offset, layers.udp)["dport"] == 4789).all()
    records["dport"] = 9
    scatter(matrix, records, layers.l4_offset, layers.udp)
    assert (matrix == before).all()


def test_what_lies_outside_is_refused() -> None:
    matrix = np.zeros((2, 64), np.uint8)
    with pytest.raises(ValueError, match=r"argument offsets?: got .*, allowed: 0 to "):
        view(matrix, IPV4, 45)
    with pytest.raises(ValueError, match=r"argument offsets?: got .*, allowed: 0 to "):
        view(matrix, IPV4, -1)
    with pytest.raises(ValueError, match=r"argument offsets?: got .*, allowed: 0 to "):
        gather(matrix, IPV4, np.array([0, 45]))
    with pytest.raises(ValueError, match="offsets"):
        gather(matrix, IPV4, np.array([0]))
    with pytest.raises(ValueError, match="mode"):
        classify(matrix, np.array([1, 2]), "token-ring")
    with pytest.raises(ValueError, match=r"argument lengths: got .* of shape"):
        classify(matrix, np.array([1, 2, 3]))
    with pytest.raises(TypeError, match="uint8"):
        classify(matrix.astype(np.uint16), np.array([1, 2]))


def test_no_packets() -> None:
    layers = classify(np.zeros((0, 64), np.uint8), np.zeros(0, np.uint32))
    assert layers.icmp.shape == layers.l4_offset.shape == (0,)


@settings(max_examples=150, deadline=None)
@given(
    data=st.data(),
    width=st.integers(0, 130),
    count=st.integers(1, 12),
    mode=st.sampled_from(["ethernet", "ip"]),
)
def test_hostile_bytes_never_lead_outside(data: st.DataObject, width: int, count: int, mode: str) -> None:
    """Random bytes behind plausible beginnings: a set mask always means a header that can be read."""
    starts = [
        b"",
        bytes(12) + b"\x08\x00E",
        bytes(12) + b"\x81\x00\0\0\x86\xdd`",
        bytes(12) + b"\x86\xdd`",
        b"E",
        b"`",
    ]
    row = st.builds(lambda head, rest: (head + rest)[:width].ljust(width, b"\0"), st.sampled_from(starts), st.binary())
    rows = data.draw(st.lists(row, min_size=count, max_size=count))
    matrix, _ = matrix_of(rows, width)
    sizes = st.one_of(st.integers(0, 200), st.integers(0, 2**32 - 1))
    lengths = np.array(data.draw(st.lists(sizes, min_size=count, max_size=count)), np.uint32)
    layers = classify(matrix, lengths, mode)
    for mask, dtype in ((layers.icmp, ICMP), (layers.icmp6, ICMP), (layers.udp, UDP), (layers.tcp, TCP)):
        assert len(gather(matrix, dtype, layers.l4_offset, mask)) == np.count_nonzero(mask)
    end = layers.l3_offset.astype(np.int64) + layers.l3_length
    assert (end[layers.valid] <= lengths[layers.valid]).all()
    assert (end[layers.whole] <= width).all()
