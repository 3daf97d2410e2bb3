"""One-line texts: known packets, cut packets, and any bytes at all."""

import pytest
from hypothesis import given, settings, strategies as st

from capture.tools import need
from memif.capture import LinkType, packet_line, summary

MACS = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"}


def frames() -> list[tuple[bytes, str]]:
    """Pairs of a packet built by scapy and the text that it should give."""
    s = need("scapy.all")
    ether = s.Ether(**MACS)
    ip, ip6 = s.IP(src="10.0.0.1", dst="10.0.0.2"), s.IPv6(src="fe80::1", dst="ff02::1")
    return [
        (
            ether / s.ARP(op=1, psrc="10.0.0.1", pdst="10.0.0.2"),
            "ARP, request who-has 10.0.0.2 tell 10.0.0.1",
        ),
        (
            ether / s.ARP(op=2, psrc="10.0.0.1", hwsrc="02:00:00:00:00:01", pdst="10.0.0.2"),
            "ARP, reply 10.0.0.1 is-at 02:00:00:00:00:01",
        ),
        (
            ether / ip / s.ICMP(id=9, seq=3) / bytes(56),
            "IP 10.0.0.1 > 10.0.0.2: ICMP echo request, id 9, seq 3, length 64",
        ),
        (
            ether / ip / s.ICMP(type=3, code=1) / bytes(28),
            "IP 10.0.0.1 > 10.0.0.2: ICMP unreachable, code 1, length 36",
        ),
        (
            ether / s.Dot1Q(vlan=100) / ip / s.UDP(sport=53, dport=1024) / b"abc" / s.Padding(bytes(20)),
            "vlan 100, IP 10.0.0.1.53 > 10.0.0.2.1024: UDP, length 3",
        ),
        (
            ether / ip / s.TCP(sport=80, dport=1025, flags="SA", seq=7, ack=8),
            "IP 10.0.0.1.80 > 10.0.0.2.1025: Flags [S.], seq 7, ack 8, length 0",
        ),
        (
            ether / ip6 / s.ICMPv6EchoRequest(id=1, seq=2, data=b"xx"),
            "IP6 fe80::1 > ff02::1: ICMP6 echo request, id 1, seq 2, length 10",
        ),
        (
            ether / ip6 / s.IPv6ExtHdrHopByHop() / s.UDP(sport=1, dport=2) / b"hello",
            "IP6 fe80::1.1 > ff02::1.2: UDP, length 5",
        ),
        (
            ether / s.IP(src="1.1.1.1", dst="2.2.2.2", frag=100, proto=17) / b"x",
            "IP 1.1.1.1 > 2.2.2.2: proto 17, fragment at 800",
        ),
        (ether / ip / s.GRE(), "IP 10.0.0.1 > 10.0.0.2: gre, length 4"),
        (s.Ether(type=0x88CC, **MACS) / b"x", "02:00:00:00:00:01 > 02:00:00:00:00:02, LLDP"),
        (s.Ether(type=0x9999, **MACS) / b"x", "02:00:00:00:00:01 > 02:00:00:00:00:02, ethertype 0x9999"),
    ]


def test_known_packets() -> None:
    for packet, text in frames():
        assert summary(bytes(packet)) == text
        assert summary(memoryview(bytes(packet))) == text
        if text.startswith("IP"):
            assert summary(bytes(packet)[14:], LinkType.RAW) == text


def test_every_prefix_of_known_packets_gives_some_line() -> None:
    for packet, _ in frames():
        for end in range(len(bytes(packet))):
            assert summary(bytes(packet)[:end]).isprintable()


@pytest.mark.parametrize(
    ("data", "linktype", "text"),
    [
        (b"", 1, "[|ether]"),
        (b"\x01\x02", 1, "[|ether] 01 02"),
        (b"", 101, "[|ip]"),
        (b"\x45\0", 101, "[|ip]"),
        (b"\x60", 101, "[|ip6]"),
        (b"\x05\0", 147, "linktype 147: 05 00"),
    ],
)
def test_cut_and_foreign_packets(data: bytes, linktype: int, text: str) -> None:
    assert summary(data, linktype) == text


def test_line_has_time_direction_and_length() -> None:
    line = packet_line(1_700_000_000_123_456_789, bytes(14), direction="in", length=1500)
    assert line[2] == ":"
    assert line[8:].startswith(".123456 <  1500 00:00:00:00:00:00 > ")


@settings(max_examples=500, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=80),
        st.tuples(st.sampled_from([b"\x08\0", b"\x08\x06", b"\x86\xdd", b"\x81\0"]), st.binary(max_size=80)).map(
            lambda pair: bytes(12) + pair[0] + pair[1]
        ),
        st.tuples(st.sampled_from([1, 2, 6, 17, 58]), st.binary(max_size=60)).map(
            lambda pair: b"\x45\0\0\x40\0\0\0\0\0" + bytes([pair[0]]) + bytes(10) + pair[1]
        ),
    ),
    st.sampled_from([1, 101, 228, 229, 147, 9]),
    st.integers(-(2**80), 2**80),
)
def test_any_bytes_give_one_printable_line(data: bytes, linktype: int, time_ns: int) -> None:
    assert summary(data, linktype).isprintable()
    assert packet_line(time_ns, data, linktype=linktype).isprintable()
    assert packet_line(time_ns, data, linktype=linktype, link_level=True, verbose=True).isprintable()
