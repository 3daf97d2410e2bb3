"""Layer 4 checksums of packets on their way to another address than their header's, against scapy and tshark."""

import ipaddress
import itertools
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    IPv6ExtHdrSegmentRouting,
    PadN,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw
from scapy.utils import wrpcap

from memif.packet import classify, fill_l4, l4_checksum, verify_l4
from packet.frames import matrix_of
from packet.test_checksum import reference
from peers.settings import missing

SOURCE, FIRST, SECOND, LAST = (f"2001:db8::{n}" for n in (1, 2, 3, 4))
MACS = {"dst": "02:00:00:00:00:02", "src": "02:00:00:00:00:01"}  # else scapy asks the network for them
LINK, LINK4 = Ether(**MACS), bytes(Ether(**MACS, type=0x0800))
TRANSPORTS = (UDP(dport=9), TCP(dport=9), ICMPv6EchoRequest(id=1))
PAD = PadN(optdata=bytes(4))
HOP, DESTINATION, ATOMIC = IPv6ExtHdrHopByHop(options=[PAD]), IPv6ExtHdrDestOpt(options=[PAD]), IPv6ExtHdrFragment()


def packed(*addresses: str) -> bytes:
    return b"".join(ipaddress.ip_address(address).packed for address in addresses)


def routing(kind: int, left: int, body: bytes, length: int | None = None) -> Packet:
    """A routing header of any type; scapy is not asked what it means."""
    return Raw(struct.pack("!BBBB", 17, (len(body) - 4) // 8 if length is None else length, kind, left) + body)


def summed(final: str, *headers: Packet, at: int = 43, source: str = SOURCE) -> bytes:
    """A UDP packet to FIRST whose checksum covers `final`, behind extension headers of raw bytes."""
    udp = struct.pack("!HHHH", 1, 9, 12, 0) + b"data"
    right = reference(packed(source, final) + struct.pack("!II", 12, 17) + udp)
    udp = udp[:6] + struct.pack("!H", right) + udp[8:]
    rest = b"".join(bytes(header) for header in headers) + udp
    return bytes(LINK / IPv6(src=source, dst=FIRST, nh=at, plen=len(rest))) + rest


def segment_list(*addresses: str, last: int | None = None, tlv: bytes = b"") -> bytes:
    return struct.pack("!BBH", len(addresses) - 1 if last is None else last, 0, 0) + packed(*addresses) + tlv


RIGHT = {
    "type 0": summed(LAST, routing(0, 2, bytes(4) + packed(SECOND, LAST))),
    "type 0 at its last": summed(LAST, routing(0, 1, bytes(4) + packed(SECOND, LAST))),
    "type 0 used up": summed(FIRST, routing(0, 0, bytes(4) + packed(SECOND, LAST))),
    "type 2": summed(LAST, routing(2, 1, bytes(4) + packed(LAST))),
    "segments": summed(LAST, routing(4, 1, segment_list(LAST, FIRST))),
    "segments, the third next": summed(LAST, routing(4, 2, segment_list(LAST, SECOND, FIRST))),
    "segments, a reduced list": summed(LAST, routing(4, 2, segment_list(LAST, SECOND))),
    "segments, one": summed(LAST, routing(4, 1, segment_list(LAST))),
    "segments with a TLV": summed(LAST, routing(4, 1, segment_list(LAST, FIRST, tlv=bytes([4, 6]) + bytes(6)))),
    "segments used up": summed(FIRST, routing(4, 0, segment_list(FIRST, SECOND))),
    "unknown type used up": summed(FIRST, routing(9, 0, bytes(4) + packed(LAST))),
}
WRONG_TYPES = {
    "unknown type": routing(9, 1, bytes(4) + packed(LAST)),
    "type 3 (RPL)": routing(3, 1, bytes(4) + packed(LAST)),
    "type 0, odd length": routing(0, 1, bytes(4) + packed(LAST) + bytes(8)),
    "type 0, more left than there are": routing(0, 2, bytes(4) + packed(LAST)),
    "type 2 of two": routing(2, 1, bytes(4) + packed(SECOND, LAST)),
    "type 2, two left": routing(2, 2, bytes(4) + packed(LAST)),
    "segments, last entry outside": routing(4, 1, segment_list(LAST, last=1)),
    "segments, more left than there are": routing(4, 3, segment_list(LAST, SECOND)),
    "segments without a list": routing(4, 1, segment_list(last=0) + bytes(0)),
}


def check(raw: bytes, mode: str = "ethernet") -> tuple[bool, int, bytes]:
    """Verified, the checksum to be, and the packet after filling it in."""
    matrix, lengths = matrix_of([raw], 256)
    layers = classify(matrix, lengths, mode)
    found = bool(verify_l4(matrix, layers)[0]), int(l4_checksum(matrix, layers)[0])
    fill_l4(matrix, layers)
    return *found, matrix[0, : len(raw)].tobytes()


@pytest.mark.parametrize("name", RIGHT)
def test_the_final_destination_is_covered(name: str) -> None:
    raw = RIGHT[name]
    assert check(raw) == (True, int.from_bytes(raw[-6:-4], "big"), raw)
    spoiled = raw[:-6] + b"\x12\x34" + raw[-4:]
    assert check(spoiled)[::2] == (False, raw)


@pytest.mark.parametrize("name", WRONG_TYPES)
def test_what_is_not_known_has_no_checksum(name: str) -> None:
    raw = summed(FIRST, WRONG_TYPES[name])
    assert check(raw) == (False, 0, raw)


@pytest.mark.parametrize("transport", TRANSPORTS, ids=["udp", "tcp", "icmp6"])
def test_scapy_computes_the_same(transport: Packet) -> None:
    """Among other extension headers, in any order."""
    places = ([], [HOP], [DESTINATION], [HOP, DESTINATION]), ([], [ATOMIC], [DESTINATION], [ATOMIC, DESTINATION])
    for before, behind in itertools.product(*places):
        _compare(before, behind, transport)


def _compare(before: list[Packet], behind: list[Packet], transport: Packet) -> None:
    for route in (
        IPv6ExtHdrRouting(addresses=[SECOND, LAST], segleft=2),
        IPv6ExtHdrRouting(addresses=[SECOND, LAST], segleft=0),
        IPv6ExtHdrSegmentRouting(addresses=[LAST, SECOND, FIRST], segleft=2, lastentry=2),
        IPv6ExtHdrSegmentRouting(addresses=[FIRST, SECOND], segleft=0, lastentry=1),
    ):
        packet = LINK / IPv6(src=SOURCE, dst=FIRST)
        for header in (*before, route, *behind, transport):
            packet = packet / header
        raw = bytes(packet / b"payload")
        assert check(raw)[::2] == (True, raw)


def test_a_fragment_has_none() -> None:
    raw = summed(LAST, routing(0, 1, bytes(4) + packed(LAST)))
    parts = bytearray(raw[:54] + b"\x2c" + raw[55:78] + struct.pack("!BBHI", 17, 0, 1, 7) + raw[78:])
    parts[18:20] = (len(parts) - 54).to_bytes(2, "big")
    assert check(bytes(parts)) == (False, 0, bytes(parts))


HOST, GATE, FAR = "192.0.2.1", "192.0.2.2", "198.51.100.99"


def optioned(final: str, options: list[int]) -> bytes:
    """A UDP packet to GATE with these bytes of IPv4 options, its checksum covers `final`."""
    udp = struct.pack("!HHHH", 1, 9, 12, 0) + b"data"
    right = reference(packed(HOST, final) + struct.pack("!HH", 17, 12) + udp)
    padded = bytes(options).ljust(-(-len(options) // 4) * 4, b"\0")
    words = 5 + len(padded) // 4
    head = struct.pack("!BBHHHBBH", 0x40 | words, 0, 4 * words + 12, 1, 0, 64, 17, 0) + packed(HOST, GATE) + padded
    return head[:10] + struct.pack("!H", reference(head)) + head[12:] + udp[:6] + struct.pack("!H", right) + udp[8:]


HOPS = [*packed(HOST), *packed(FAR)]
FOUR = {
    "loose": (FAR, [131, 11, 4, *HOPS]),
    "strict": (FAR, [137, 11, 8, *HOPS]),
    "behind others": (FAR, [1, 1, 148, 4, 0, 0, 131, 7, 4, *packed(FAR)]),
    "used up": (GATE, [131, 11, 12, *HOPS]),
    "none": (GATE, [7, 7, 4, 0, 0, 0, 0]),
    "behind the end": (GATE, [0, 131, 7, 4, *packed(FAR)]),
    "behind an option of length 0": (GATE, [68, 0, 131, 7, 4, *packed(FAR)]),
}
BAD_FOUR = {
    "no pointer": [131, 2],
    "half an address": [131, 9, 4, *packed(FAR), 1, 2],
    "pointer inside": [131, 11, 5, *HOPS],
    "pointer before": [131, 11, 0, *HOPS],
}


@pytest.mark.parametrize("name", FOUR)
def test_ipv4_source_routes(name: str) -> None:
    raw = optioned(*FOUR[name])
    assert check(raw, "ip") == (True, int.from_bytes(raw[-6:-4], "big"), raw)


@pytest.mark.parametrize("name", BAD_FOUR)
def test_malformed_ipv4_source_routes(name: str) -> None:
    raw = optioned(GATE, BAD_FOUR[name])
    assert check(raw, "ip") == (False, 0, raw)


def test_tshark_agrees(tmp_path: Path) -> None:
    """It calls every checksum right that we call so, and wrong what a bit has changed."""
    if shutil.which("tshark") is None:
        missing("tshark is missing: apt-get install tshark")
    right = [*RIGHT.values(), *(LINK4 + optioned(*FOUR[name]) for name in FOUR)]
    wrong = [raw[:-1] + bytes([raw[-1] ^ 1]) for raw in right]
    wrpcap(str(tmp_path / "routed.pcap"), [Ether(raw) for raw in (*right, *wrong)])
    options = ["-o", "udp.check_checksum:TRUE", "-T", "fields", "-e", "udp.checksum.status"]
    done = subprocess.run(
        ["tshark", "-r", str(tmp_path / "routed.pcap"), *options],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    ours = [str(int(check(raw)[0])) for raw in (*right, *wrong)]
    assert ours == ["1"] * len(right) + ["0"] * len(wrong)
    assert done.stdout.split() == ours


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_hostile_headers(data: st.DataObject) -> None:
    """Any bytes in place of the headers: no error, and nothing outside the packet's own bytes is read."""
    name = data.draw(st.sampled_from([*RIGHT, *FOUR]))
    raw = bytearray(RIGHT[name] if name in RIGHT else LINK4 + optioned(*FOUR[name]))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(14, len(raw) - 1))] = data.draw(st.integers(0, 255))
    width = data.draw(st.integers(len(raw) // 2, len(raw)))
    matrix, lengths = matrix_of([bytes(raw), b"\0" * 60], width)
    layers = classify(matrix, lengths)
    before = verify_l4(matrix, layers)
    beyond = np.pad(matrix, ((0, 0), (0, 40)), constant_values=0xEE)
    assert (verify_l4(beyond[:, :width], layers) == before).all()
    fill_l4(matrix, layers)
