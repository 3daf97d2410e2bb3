"""ARP and echo, one frame at a time, checked against scapy."""

import pytest
from hypothesis import given, settings, strategies as st

from memif import icmp

scapy = pytest.importorskip("scapy.all", reason="scapy is missing: pip install memif[scapy]")

IP, MAC = bytes((192, 168, 1, 2)), b"aaaaaa"
THEIRS = "02:fe:00:00:00:09"


def echo(payload: bytes = b"", **fields: object) -> object:
    packet = scapy.IP(src="192.168.1.1", dst="192.168.1.2", **fields) / scapy.ICMP(id=7, seq=9) / payload
    return scapy.Ether(src=THEIRS, dst="61:61:61:61:61:61") / packet


@given(st.binary(max_size=200), st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))
@settings(max_examples=40, deadline=None)
def test_reply_has_right_checksums(payload: bytes, identifier: int, sequence: int) -> None:
    request = echo(payload)
    request[scapy.ICMP].id, request[scapy.ICMP].seq = identifier, sequence
    frame = bytearray(bytes(request))
    assert icmp.answer(frame, IP, MAC)
    reply = scapy.Ether(bytes(frame))
    assert (reply.src, reply.dst, reply[scapy.IP].src, reply[scapy.IP].dst) == (
        "61:61:61:61:61:61",
        THEIRS,
        "192.168.1.2",
        "192.168.1.1",
    )
    assert (reply[scapy.ICMP].type, reply[scapy.ICMP].id, reply[scapy.ICMP].seq) == (0, identifier, sequence)
    assert bytes(frame)[42:] == payload
    assert scapy.checksum(bytes(frame)[14:34]) == 0
    assert scapy.checksum(bytes(frame)[34:]) == 0


def test_options_are_stepped_over() -> None:
    frame = bytearray(bytes(echo(b"data", options=[scapy.IPOption_NOP()] * 4)))
    assert icmp.answer(frame, IP, MAC)
    assert scapy.Ether(bytes(frame))[scapy.ICMP].type == 0


def test_arp() -> None:
    ask = scapy.Ether(src=THEIRS, dst="ff:ff:ff:ff:ff:ff") / scapy.ARP(
        op=1, hwsrc=THEIRS, psrc="192.168.1.1", pdst="192.168.1.2"
    )
    frame = bytearray(bytes(ask))
    assert icmp.answer(frame, IP, MAC, arp_only=True)
    reply = scapy.Ether(bytes(frame))
    assert (reply.src, reply.dst, reply.op) == ("61:61:61:61:61:61", THEIRS, 2)
    assert (reply.hwsrc, reply.psrc, reply.hwdst, reply.pdst) == (
        "61:61:61:61:61:61",
        "192.168.1.2",
        THEIRS,
        "192.168.1.1",
    )


def others() -> list[bytes]:
    arp = scapy.Ether(src=THEIRS) / scapy.ARP(op=1, hwsrc=THEIRS, psrc="192.168.1.1", pdst="192.168.1.3")
    reply = scapy.Ether(src=THEIRS) / scapy.IP(dst="192.168.1.2") / scapy.ICMP(type=0)
    udp = scapy.Ether(src=THEIRS) / scapy.IP(dst="192.168.1.2") / scapy.UDP()
    group = scapy.Ether(src=THEIRS) / scapy.IP(src="192.168.1.1", dst="224.0.0.1") / scapy.ICMP()
    fragment = echo(b"x" * 64, flags="MF")
    return [bytes(p) for p in (arp, reply, udp, group, fragment)] + [b"", b"\0" * 13, bytes(echo())[:41]]


def test_leaves_others_alone() -> None:
    for frame in others():
        copy = bytearray(frame)
        assert not icmp.answer(copy, IP, MAC)
        assert bytes(copy) == frame


@given(st.binary(max_size=80))
def test_survives_any_frame(data: bytes) -> None:
    for head in (b"", b"\0" * 12 + b"\x08\x00\x45", b"\0" * 12 + b"\x08\x06\x00\x01\x08\x00\x06\x04\x00\x01"):
        frame = bytearray(head + data)
        icmp.answer(memoryview(frame), IP, MAC)
        assert len(frame) == len(head) + len(data)


def test_requests() -> None:
    make = icmp.echo_requests(IP, MAC, bytes((10, 0, 0, 1)), bytes((2, 0, 0, 0, 0, 1)))
    for sequence in (0, 1, 0x10005):
        raw = make(sequence)
        assert len(raw) == 42
        packet = scapy.Ether(raw)
        assert (packet.dst, packet[scapy.IP].dst, packet[scapy.ICMP].type) == ("02:00:00:00:00:01", "10.0.0.1", 8)
        assert packet[scapy.ICMP].seq == sequence & 0xFFFF
        del packet[scapy.IP].chksum, packet[scapy.ICMP].chksum
        assert bytes(packet) == raw
    bare = icmp.echo_requests(IP, MAC, bytes((10, 0, 0, 1)), None)
    assert bare(5) == make(5)[14:]
