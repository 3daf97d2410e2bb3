"""Neighbour solicitations and the advertisements that answer them, as scapy reads them."""

import numpy as np
import pytest
from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptMTU,
    ICMPv6NDOptSrcLLAddr,
    ICMPv6NDOptUnknown,
    IPv6,
)
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet

from memif.packet import Responder
from packet.frames import matrix_of

US, THEM, GROUP = "2001:db8::12:3456", "2001:db8::9", "ff02::1:ff12:3456"
MAC, THEIR_MAC = bytes.fromhex("02fe00000001"), "02:00:00:00:00:09"
SOURCE = ICMPv6NDOptSrcLLAddr(lladdr=THEIR_MAC)
LONG = ICMPv6NDOptUnknown(type=253, len=2, data=bytes(14))
NONCE = ICMPv6NDOptUnknown(type=14, len=1, data=b"nonce!")


def ask(*options: Packet, dst: str = GROUP, src: str = THEM, tgt: str = US, hlim: int = 255, tags: int = 0) -> bytes:
    packet = Ether(dst="33:33:ff:12:34:56", src=THEIR_MAC)
    for vlan in range(tags):
        packet = packet / Dot1Q(vlan=vlan + 1)
    packet = packet / IPv6(src=src, dst=dst, hlim=hlim) / ICMPv6ND_NS(tgt=tgt)
    for option in options:
        packet = packet / option
    return bytes(packet)


def answer(raw: bytes, *, width: int = 128, grow: bool = False) -> tuple[bytes | None, Responder]:
    """The answer, or None when the row was left as it was."""
    responder = Responder(None, US, MAC)
    # A decoy on either side, so that the row is one of several.
    matrix, lengths = matrix_of([b"\0" * 60, raw, b"\0" * 60], width)
    before, new_lengths = matrix.copy(), np.zeros_like(lengths)
    answered = responder.answer(matrix, lengths, new_lengths=new_lengths if grow else None)
    assert answered.tolist() == [False, bool(answered[1]), False]
    assert (matrix == before).all(axis=1).tolist() == (~answered).tolist()
    assert sum(responder.counters.values()) == 3
    if not grow:
        new_lengths[1] = len(raw)
    return (matrix[1, : new_lengths[1]].tobytes() if answered[1] else None), responder


def check(raw: bytes, dst: str = THEM, mac: str = THEIR_MAC, solicited: int = 1, option: bool = True) -> Packet:
    packet = Ether(raw)
    assert (packet.src, packet.dst) == (MAC.hex(":"), mac)
    ip, advert = packet[IPv6], packet[ICMPv6ND_NA]
    assert (ip.src, ip.dst, ip.hlim) == (US, dst, 255)
    assert (advert.tgt, advert.R, advert.S, advert.O, advert.code) == (US, 0, solicited, int(option), 0)
    assert (ICMPv6NDOptDstLLAddr in packet) == option
    if option:
        assert packet[ICMPv6NDOptDstLLAddr].lladdr == MAC.hex(":")
    copy = packet.copy()
    if copy.lastlayer().name == "Padding":
        copy.lastlayer().underlayer.remove_payload()
        raw = raw[: len(bytes(copy))]
    del copy[ICMPv6ND_NA].cksum, copy[IPv6].plen
    assert bytes(copy) == raw
    return packet


@pytest.mark.parametrize("tags", [0, 1, 2])
@pytest.mark.parametrize("dst", [GROUP, US])
def test_address_resolution(dst: str, tags: int) -> None:
    raw, responder = answer(ask(SOURCE, dst=dst, tags=tags))
    assert raw is not None
    packet = check(raw)
    assert responder.counters["nd"] == 1
    assert Dot1Q not in packet or [packet[Dot1Q].vlan] == [1]


def test_a_whole_burst_of_them() -> None:
    responder = Responder(None, US, MAC)
    matrix, lengths = matrix_of([ask(SOURCE, src=f"2001:db8::{row + 1:x}") for row in range(64)], 128)
    assert responder.answer(matrix, lengths).all()
    for row in range(64):
        check(matrix[row, : lengths[row]].tobytes(), dst=f"2001:db8::{row + 1:x}")


def test_a_probe_without_option_gets_an_answer_without_one() -> None:
    """Reachability probes are sent to the address itself; the prober knows our MAC."""
    raw, _ = answer(ask(dst=US))
    assert raw is not None
    check(raw, option=False)


def test_duplicate_address_detection_with_a_nonce() -> None:
    """As Linux does it (RFC 7527): the answer goes to all nodes."""
    raw, _ = answer(ask(NONCE, src="::"))
    assert raw is not None
    check(raw, dst="ff02::1", mac="33:33:00:00:00:01", solicited=0)


def test_duplicate_address_detection_without_options_needs_a_longer_packet() -> None:
    bare = ask(src="::")
    raw, responder = answer(bare)
    assert raw is None
    assert responder.counters["other"] == 3
    raw, _ = answer(bare, grow=True)
    assert raw is not None
    assert len(raw) == len(bare) + 8
    check(raw, dst="ff02::1", mac="33:33:00:00:00:01", solicited=0)
    assert answer(bare, grow=True, width=len(bare) + 7)[0] is None
    assert answer(bare, grow=True, width=len(bare) + 8)[0] is not None


def test_new_lengths_are_those_of_all_rows() -> None:
    packets = [ask(SOURCE), ask(src="::"), b"\0" * 33, ask(dst=US)]
    matrix, lengths = matrix_of(packets, 128)
    new_lengths = np.zeros(4, np.uint32)
    assert Responder(None, US, MAC).answer(matrix, lengths, new_lengths=new_lengths).tolist() == [1, 1, 0, 1]
    assert new_lengths.tolist() == [86, 86, 33, 78]


def test_our_address_takes_the_place_of_all_options() -> None:
    """Whatever they are; what is too much becomes a trailer."""
    for options in ((SOURCE, NONCE), (NONCE, SOURCE), (SOURCE, LONG), (LONG,), (LONG, NONCE, SOURCE)):
        asked = ask(*options)
        raw, _ = answer(asked)
        assert raw is not None
        assert len(raw) == len(asked)
        packet = check(raw)
        assert packet[IPv6].plen == 32


@pytest.mark.parametrize("count", [1, 2, 31, 32, 33, 100])
def test_many_options(count: int) -> None:
    """More than any standard has are not looked through; what they end in is."""
    assert (answer(ask(SOURCE, *[NONCE] * (count - 1)), width=1024)[0] is not None) == (count <= 32)
    assert answer(ask(*[NONCE] * (count - 1), ICMPv6NDOptUnknown(type=9, len=0, data=bytes(6))), width=1024)[0] is None


def test_a_trailer_stays() -> None:
    raw, _ = answer(ask(SOURCE) + b"trailer", grow=True)
    assert raw is not None
    assert raw.endswith(b"trailer")
    check(raw[:-7])


REFUSED = {
    "another target": (ask(SOURCE, tgt="2001:db8::12:3457"), "not_for_us"),
    "same group, other address": (ask(SOURCE, tgt="2001:db8:1::12:3456"), "not_for_us"),
    "another group": (ask(SOURCE, dst="ff02::1:ff12:3457"), "not_for_us"),
    "from beyond the link": (ask(SOURCE, hlim=254), "other"),
    "nobody with a link address": (ask(SOURCE, src="::"), "other"),
    "nobody with a link address behind": (ask(NONCE, SOURCE, src="::"), "other"),
    "a second option of no length": (ask(SOURCE, ICMPv6NDOptUnknown(type=9, len=0, data=bytes(6))), "other"),
    "a second option that is cut": (ask(SOURCE, ICMPv6NDOptUnknown(type=9, len=2, data=bytes(6))), "other"),
    "a link address too long": (ask(ICMPv6NDOptUnknown(type=1, len=2, data=bytes(14))), "other"),
    "from this very host": (ask(SOURCE, src="::1"), "other"),
    "from our own address": (ask(SOURCE, src=US), "other"),
    "nobody asks one host": (ask(NONCE, src="::", dst=US), "other"),
    "from a group": (ask(SOURCE, src="ff02::5"), "other"),
    "an option of no length": (ask(ICMPv6NDOptUnknown(type=1, len=0, data=bytes(6))), "other"),
    "a bad checksum": (ask(SOURCE)[:-1] + b"\xff", "bad_checksum"),
    "an advertisement": (
        bytes(Ether() / IPv6(src=THEM, dst=US, hlim=255) / ICMPv6ND_NA(tgt=US) / ICMPv6NDOptMTU()),
        "other",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_answered(name: str) -> None:
    raw, counter = REFUSED[name]
    got, responder = answer(raw, grow=True)
    assert got is None
    responder.counters["other"] -= 2  # the decoys
    assert {key for key, count in responder.counters.items() if count} == {counter}


@pytest.mark.parametrize("width", [40, 62, 64, 77, 78, 85])
def test_too_narrow_to_judge(width: int) -> None:
    assert answer(ask(SOURCE), width=width)[0] is None
    assert answer(ask(SOURCE), width=86)[0] is not None


def test_truncated_anywhere() -> None:
    whole = ask(SOURCE)
    for size in range(len(whole)):
        assert answer(whole[:size])[0] is None


def test_not_in_ip_mode() -> None:
    matrix, lengths = matrix_of([ask(SOURCE, dst=US)[14:]], 128)
    responder = Responder(None, US, MAC, "ip")
    assert not responder.answer(matrix, lengths).any()
    assert responder.counters["other"] == 1
