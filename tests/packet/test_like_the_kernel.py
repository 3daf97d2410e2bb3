"""`Responder` beside the kernel: the same frames to both, answer by answer."""

from collections.abc import Iterator
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether

from memif.packet import Responder
from packet.frames import matrix_of
from packet.kernel_frames import DIFFERENT, FRAMES, HOST4, HOST6, OUR_MAC, PEER6
from peers.host import KernelHost, kernel_host

WIDTH = 192
OUR = bytes.fromhex(OUR_MAC.replace(":", ""))


@pytest.fixture(scope="module")
def kernel() -> Iterator[KernelHost]:
    with kernel_host() as host:
        yield host


def responder(**options: Any) -> Responder:
    return Responder(HOST4, HOST6, OUR, **options)


def answers(host: Responder, frames: list[bytes]) -> list[bytes | None]:
    """What it says to each frame of one burst."""
    matrix, lengths = matrix_of(frames, WIDTH)
    new = lengths.copy()
    answered = host.answer(matrix, lengths, new_lengths=new)
    return [matrix[row, : new[row]].tobytes() if yes else None for row, yes in enumerate(answered)]


def essence(raw: bytes) -> tuple[Any, ...] | None:
    """What must be the same in both answers: not the IPv4 id, flow label and trailer, nor what a host may choose.

    None for what is no answer to a request: errors, multicast listener reports and so on.
    """
    packet = Ether(raw)
    link = (packet.src, packet.dst)
    if ARP in packet and packet[ARP].op == 2:
        return (*link, bytes(packet[ARP])[:28])
    if ICMP in packet and packet[ICMP].type == 0:
        ip = packet[IP]
        return (*link, ip.src, ip.dst, ip.tos, ip.ttl, ip.len, bytes(ip.payload)[: ip.len - 20])
    if ICMPv6EchoReply in packet:
        ip = packet[IPv6]
        return (*link, ip.src, ip.dst, ip.hlim, ip.plen, bytes(ip.payload)[: ip.plen])
    if ICMPv6ND_NA in packet:
        return (*link, *_advertisement(packet))
    return None


def _advertisement(packet: Any) -> tuple[Any, ...]:
    """To one host the link-layer address may be left out, and the kernel does; we name it where there is room."""
    ip, said = packet[IPv6], packet[ICMPv6ND_NA]
    many = ip.dst == "ff02::1"
    named = packet[ICMPv6NDOptDstLLAddr].lladdr if ICMPv6NDOptDstLLAddr in packet else None
    assert named in (None, OUR_MAC)
    return ip.src, ip.dst, ip.hlim, said.R, said.S, said.tgt, said.code, named if many else "either"


def mended(raw: bytes) -> bytes:
    """The same frame with all checksums computed by scapy, and without its trailer."""
    packet = Ether(raw)
    for layer, name in ((IP, "chksum"), (ICMP, "chksum"), (ICMPv6EchoReply, "cksum"), (ICMPv6ND_NA, "cksum")):
        if layer in packet:
            delattr(packet[layer], name)
    return bytes(packet)


@pytest.mark.parametrize("kind", ["echo", "arp", "echo6", "nd"])
def test_the_same_answers(kernel: KernelHost, kind: str) -> None:
    names = [name for name in FRAMES if name.startswith(f"{kind}: ")]
    assert len(names) > 20
    wrong = {name: difference for name in names if (difference := _compare(kernel, name))}
    assert wrong == {}


def _compare(kernel: KernelHost, name: str) -> str:
    theirs = [said for raw in kernel.ask(FRAMES[name]) if (said := essence(raw)) is not None]
    assert len(theirs) <= 1
    (ours,) = answers(responder(verify=True), [FRAMES[name]])
    assert ours is None or mended(ours) == ours
    if name in DIFFERENT:
        return "" if bool(theirs) != bool(ours) else "no longer different"
    mine = None if ours is None else essence(ours)
    return "" if mine == (theirs[0] if theirs else None) else f"kernel {theirs}, responder {mine}"


def test_one_burst_of_all_and_each_alone() -> None:
    """Short cuts for bursts of one kind lead to the same answers."""
    frames = list(FRAMES.values())
    for verify in (False, True):
        alone, together = responder(verify=verify), responder(verify=verify)
        assert [answers(alone, [raw])[0] for raw in frames] == answers(together, frames)
        assert alone.counters == together.counters
        assert sum(alone.counters.values()) == len(frames)


def test_pings_in_ip_mode() -> None:
    """Without the link header the rest decides as before."""
    frames = [raw for raw in FRAMES.values() if raw[12:14] in (b"\x08\0", b"\x86\xdd")]
    frames = [raw for raw in frames if (raw[:6] == OUR or raw[0] & 1) and not raw[6] & 1]
    frames = [raw for raw in frames if raw[12] == 0x08 or raw[54:55] not in (b"\x87", b"\x88")]
    ours, there = answers(responder(mode="ip"), [raw[14:] for raw in frames]), answers(responder(), frames)
    assert sum(map(bool, ours)) > 30
    assert ours == [None if raw is None else raw[14:] for raw in there]


def test_without_room_to_name_our_address_nothing_is_to_be_overridden() -> None:
    """RFC 4861, 7.2.4; with it, it is."""
    for name, override in (("nd: to us, bare", 0), ("nd: to us", 1), ("nd: to the group, bare", 1)):
        (raw,) = answers(responder(), [FRAMES[name]])
        assert raw is not None
        packet = Ether(raw)
        assert (packet[ICMPv6ND_NA].O, ICMPv6NDOptDstLLAddr in packet) == (override, bool(override))
        assert packet[IPv6].dst == PEER6
