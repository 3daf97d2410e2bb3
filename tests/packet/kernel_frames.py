"""Frames to a host at `HOST4` and `HOST6`, fair and foul, and which `Responder` takes otherwise than the kernel."""

from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptSrcLLAddr,
    ICMPv6NDOptUnknown,
    IPv6,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    PadN,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw

from peers.host import HOST4, HOST6, OUR_MAC, PEER4, PEER6, THEIR_MAC

ALL, STRANGER = "ff:ff:ff:ff:ff:ff", "02:00:00:00:00:99"
GROUP4_MAC, ALL6_MAC, ASKED_MAC = "01:00:5e:00:00:05", "33:33:00:00:00:01", "33:33:ff:00:00:01"
ASKED = "ff02::1:ff00:1"
DATA = bytes(range(16))


def ether(inner: Packet | bytes, dst: str = OUR_MAC, src: str = THEIR_MAC) -> bytes:
    frame = Ether(src=src, dst=dst) / inner
    if isinstance(inner, bytes):
        frame.type = 0x86DD if inner[0] >> 4 == 6 else 0x0800
    raw = bytes(frame)
    return raw if dst == OUR_MAC else raw.ljust(60, b"\0")


def four(code: int = 0, **fields: object) -> Packet:
    return IP(**({"src": PEER4, "dst": HOST4} | fields)) / ICMP(type=8, code=code, id=7, seq=1) / DATA


def six(code: int = 0, **fields: object) -> Packet:
    return IPv6(**({"src": PEER6, "dst": HOST6} | fields)) / ICMPv6EchoRequest(code=code, id=7, seq=1, data=DATA)


def optioned(options: bytes) -> bytes:
    """An echo request with these bytes as IPv4 options, right or not."""
    raw = bytearray(bytes(four())[:20] + options + bytes(four())[20:])
    raw[0] += len(options) // 4
    raw[2:4] = len(raw).to_bytes(2, "big")
    return _summed(raw, 10, 0, 20 + len(options))


def _summed(raw: bytearray, at: int, start: int, stop: int) -> bytes:
    raw[at : at + 2] = b"\0\0"
    total = sum(int.from_bytes(raw[k : k + 2], "big") for k in range(start, stop, 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    raw[at : at + 2] = (total ^ 0xFFFF).to_bytes(2, "big")
    return bytes(raw)


def changed(raw: bytes, at: int, value: int | None = None) -> bytes:
    spoiled = bytearray(raw)
    spoiled[at] = spoiled[at] ^ 1 if value is None else value
    return bytes(spoiled)


def arp(dst: str = ALL, src: str = THEIR_MAC, **fields: object) -> bytes:
    return ether(ARP(**({"op": 1, "psrc": PEER4, "hwsrc": THEIR_MAC, "pdst": HOST4} | fields)), dst, src)


def solicit(
    *options: Packet,
    dst: str = ASKED,
    mac: str = "",
    link: str = THEIR_MAC,
    target: str = HOST6,
    code: int = 0,
    **ip: object,
) -> bytes:
    packet = IPv6(**({"src": PEER6, "dst": dst, "hlim": 255} | ip)) / ICMPv6ND_NS(tgt=target, code=code)
    for option in options:
        packet = packet / option
    return bytes(Ether(src=link, dst=mac or (ASKED_MAC if dst.startswith("ff") else OUR_MAC)) / packet)


def option(kind: int, words: int, data: bytes) -> Packet:
    return ICMPv6NDOptUnknown(type=kind, len=words, data=data)


SOURCE = ICMPv6NDOptSrcLLAddr(lladdr=THEIR_MAC)
NONCE = option(14, 1, b"nonce!")

ECHO = {
    "plain": ether(four()),
    "no data": ether(IP(src=PEER4, dst=HOST4) / ICMP(type=8, id=1, seq=1)),
    "last hop": ether(four(ttl=1)),
    "no hop left": ether(four(ttl=0)),
    "class": ether(four(tos=0xB8)),
    "do not fragment": ether(four(flags="DF")),
    "reserved flag": ether(four(flags=4)),
    "code 5": ether(four(5)),
    "trailer": ether(four()) + bytes(20),
    "priority tag": bytes(Ether(src=THEIR_MAC, dst=OUR_MAC) / Dot1Q(vlan=0) / four()),
    "VLAN": bytes(Ether(src=THEIR_MAC, dst=OUR_MAC) / Dot1Q(vlan=5) / four()),
    "wrong header checksum": changed(ether(four()), 24),
    "wrong ICMP checksum": changed(ether(four()), 36),
    "more fragments": ether(four(flags="MF")),
    "a later fragment": ether(four(frag=5)),
    "cut": ether(bytes(four())[:-1]),
    "4 words of header": ether(_summed(bytearray(changed(bytes(four()), 0, 0x44)), 10, 0, 16)),
    "version 5": ether(_summed(bytearray(changed(bytes(four()), 0, 0x55)), 10, 0, 20)),
    "half an ICMP header": ether(IP(src=PEER4, dst=HOST4, proto=1) / b"\x08\0\xf7\xff\0\0\0"),
    "an echo reply": ether(IP(src=PEER4, dst=HOST4) / ICMP(type=0) / DATA),
    "UDP": ether(IP(src=PEER4, dst=HOST4) / UDP(dport=9) / DATA),
}
ECHO |= {f"to MAC {mac}": ether(four(), dst=mac) for mac in (STRANGER, ALL, GROUP4_MAC, ASKED_MAC)}
ECHO |= {f"from MAC {mac}": ether(four(), src=mac) for mac in (ALL, GROUP4_MAC)}
ECHO |= {
    f"from {address}": ether(four(src=address))
    for address in (
        *("0.0.0.0", "0.1.2.3", "1.0.0.1", "10.0.0.1", "126.0.0.1", "127.0.0.1", "127.9.9.9", "128.0.0.1", HOST4),
        *("169.254.1.1", "223.255.255.255", "224.0.0.5", "239.1.1.1", "240.0.0.1", "255.0.0.1", "255.255.255.255"),
    )
}
ECHO |= {
    f"to {address}": ether(four(dst=address), dst=ALL)
    for address in ("255.255.255.255", "192.0.2.255", "224.0.0.1", "127.0.0.1", "0.0.0.0", "192.0.2.0")
}
ECHO |= {
    f"option {name}": ether(optioned(bytes(raw)))
    for name, raw in {
        "no-operation": [1, 1, 1, 1],
        "end": [0, 0, 0, 0],
        "router alert": [148, 4, 0, 0],
        "of length 0": [68, 0, 0, 0],
        "of length 1": [148, 1, 0, 0],
        "longer than the header": [148, 8, 0, 0],
        "unknown": [200, 4, 0, 0],
        "record route": [7, 7, 4, 0, 0, 0, 0, 0],
        "source route at its end": [131, 7, 8, 1, 2, 3, 4, 0],
    }.items()
}

ASK = {
    "who has": arp(),
    "who has, one asked": arp(OUR_MAC),
    "who has, another asked": arp(STRANGER),
    "who has, a group asked": arp(GROUP4_MAC),
    "who has another": arp(pdst="192.0.2.2"),
    "is at": arp(op=2),
    "reverse": arp(op=3),
    "probe": arp(psrc="0.0.0.0"),
    "announcement of ours": arp(psrc=HOST4),
    "asker is another than the frame's": arp(hwsrc="02:00:00:00:00:55"),
    "asker without MAC": arp(hwsrc="00:00:00:00:00:00"),
    "asker is all": arp(hwsrc=ALL),
    "asker is a group": arp(hwsrc=GROUP4_MAC),
    "frame of a group": arp(src=GROUP4_MAC),
    "target MAC given": arp(hwdst=OUR_MAC),
    "IEEE 802": arp(hwtype=6),
    "frame relay": arp(hwtype=15),
    "sizes": arp(hwlen=7),
    "IPv6": arp(ptype=0x86DD),
    "cut": ether(ARP(op=1, psrc=PEER4, hwsrc=THEIR_MAC, pdst=HOST4))[:41],
    "target is a loopback": arp(pdst="127.0.0.1"),
} | {
    f"asker is {address}": arp(psrc=address)
    for address in ("0.1.2.3", "10.0.0.1", "127.0.0.1", "169.254.1.1", "224.0.0.1", "240.0.0.1", "255.255.255.255")
}

ECHO6 = {
    "plain": ether(six()),
    "code 5": ether(six(5)),
    "last hop": ether(six(hlim=1)),
    "no hop left": ether(six(hlim=0)),
    "trailer": ether(six()) + b"xx",
    "cut": ether(bytes(six())[:-1]),
    "no payload": ether(IPv6(src=PEER6, dst=HOST6, nh=58, plen=0) / b""),
    "half a header": ether(IPv6(src=PEER6, dst=HOST6, nh=58) / b"\x80\0\0\0\0\0\0"),
    "wrong checksum": changed(ether(six()), 56),
    "a reply": ether(IPv6(src=PEER6, dst=HOST6) / ICMPv6EchoReply()),
    "hop by hop": ether(
        IPv6(src=PEER6, dst=HOST6) / IPv6ExtHdrHopByHop(options=[PadN(optdata=bytes(4))]) / ICMPv6EchoRequest(data=DATA)
    ),
    "more fragments": ether(IPv6(src=PEER6, dst=HOST6) / IPv6ExtHdrFragment(m=1) / ICMPv6EchoRequest(data=DATA)),
    "atomic fragment": ether(IPv6(src=PEER6, dst=HOST6) / IPv6ExtHdrFragment(m=0) / ICMPv6EchoRequest(data=DATA)),
    "from a group's MAC": ether(six(), src=ALL6_MAC),
}
ECHO6 |= {f"to MAC {mac}": ether(six(), dst=mac) for mac in (STRANGER, ALL, ALL6_MAC)}
ECHO6 |= {
    f"to {address} at {mac}": ether(six(dst=address), dst=mac)
    for address, mac in [(f"{head}::1", ALL6_MAC) for head in ("ff00", "ff01", "ff02", "ff05", "ff0e", "ff12")]
    + [("ff02::2", "33:33:00:00:00:02"), (ASKED, ASKED_MAC), ("ff02::1:ff00:2", "33:33:ff:00:00:02")]
    + [("ff02::1", OUR_MAC), ("ff02::1", ALL), ("ff02::1", STRANGER), ("::1", OUR_MAC), ("::", OUR_MAC)]
    + [("2001:db8::2", OUR_MAC)]
}
ECHO6 |= {
    f"from {address} to {target}": ether(six(src=address, dst=target), dst=mac)
    for address in ("::1", "::", HOST6, "ff02::5", "fe80::9", "::1.2.3.4", "2001:db8:5::1", "2002:c000:201::1")
    for target, mac in ((HOST6, OUR_MAC), ("ff02::1", ALL6_MAC))
    if (address, target) != ("fe80::9", "ff02::1")  # the kernel has a link-local address for that
}

SOLICIT = {
    "to the group": solicit(SOURCE),
    "to us": solicit(SOURCE, dst=HOST6),
    "to us, bare": solicit(dst=HOST6),
    "to the group, bare": solicit(),
    "to all nodes": solicit(SOURCE, dst="ff02::1", mac=ALL6_MAC),
    "to another group": solicit(SOURCE, dst="ff02::1:ff00:2"),
    "duplicate address detection": solicit(src="::"),
    "the same with a nonce": solicit(NONCE, src="::"),
    "the same to us": solicit(src="::", dst=HOST6),
    "the same to all nodes": solicit(src="::", dst="ff02::1", mac=ALL6_MAC),
    "the same with a source": solicit(SOURCE, src="::"),
    "the same with a source behind": solicit(NONCE, SOURCE, src="::"),
    "from beyond the link": solicit(SOURCE, hlim=254),
    "code 1": solicit(SOURCE, code=1),
    "for a group": solicit(SOURCE, target="ff02::1"),
    "for another": solicit(SOURCE, target="2001:db8:5::1"),
    "an advertisement": ether(IPv6(src=PEER6, dst=HOST6, hlim=255) / ICMPv6ND_NA(tgt=PEER6)),
    "wrong checksum": changed(solicit(SOURCE), 56),
    "a nonce": solicit(NONCE),
    "a nonce first": solicit(NONCE, SOURCE),
    "two sources": solicit(SOURCE, SOURCE),
    "unknown of two words": solicit(option(253, 2, bytes(14))),
    "unknown of two words behind": solicit(SOURCE, option(253, 2, bytes(14))),
    "source of two words": solicit(option(1, 2, bytes(14))),
    "source is a group": solicit(ICMPv6NDOptSrcLLAddr(lladdr=ALL6_MAC)),
    "option of length 0": solicit(option(14, 0, b"nonce!")),
    "second of length 0": solicit(SOURCE, option(14, 0, b"nonce!")),
    "option that is cut": solicit(SOURCE, option(14, 3, b"nonce!")),
    "half an option": solicit(SOURCE, Raw(b"\x0e\x01\0\0")),
    "a byte behind": solicit(SOURCE, Raw(b"\x0e")),
    "to another MAC": solicit(SOURCE, mac=STRANGER),
    "to our MAC": solicit(SOURCE, mac=OUR_MAC),
    "to all MACs": solicit(SOURCE, mac=ALL),
    "to us at a group's MAC": solicit(SOURCE, dst=HOST6, mac=ASKED_MAC),
    "from a group's MAC": solicit(SOURCE, link=ALL6_MAC),
}
SOLICIT |= {f"from {address}": solicit(SOURCE, src=address) for address in ("ff02::5", "::1", HOST6, "fe80::9")}

FRAMES = {
    f"{kind}: {name}": raw
    for kind, table in (("echo", ECHO), ("arp", ASK), ("echo6", ECHO6), ("nd", SOLICIT))
    for name, raw in table.items()
}

_NOBODY = "answered by the kernel by its routes and neighbours, though nobody has such an address"
_GROUP_MAC = "the kernel takes the MAC address from its neighbours, we from the frame, where it cannot be answered"
_LEFT = "left alone and counted"
#: Frames that only one of the two answers, and why.
DIFFERENT = {
    "echo: VLAN": "tags are kept, whatever their number",
    "echo: from 0.1.2.3": _NOBODY,
    "echo: from 240.0.0.1": _NOBODY,
    "echo: from 255.0.0.1": _NOBODY,
    f"echo: from MAC {ALL}": _GROUP_MAC,
    f"echo: from MAC {GROUP4_MAC}": _GROUP_MAC,
    "echo: option no-operation": _LEFT,
    "echo: option end": _LEFT,
    "echo: option router alert": _LEFT,
    "echo: option unknown": _LEFT,
    "echo: option record route": _LEFT,
    "arp: asker is all": _GROUP_MAC,
    "arp: asker is a group": _GROUP_MAC,
    "arp: frame of a group": _GROUP_MAC,
    "arp: asker is 240.0.0.1": _NOBODY,
    "echo6: hop by hop": _LEFT,
    "echo6: atomic fragment": _LEFT,
    "echo6: from a group's MAC": _GROUP_MAC,
    f"echo6: from :: to {HOST6}": _NOBODY,
    "echo6: from :: to ff02::1": _NOBODY,
    "nd: from a group's MAC": _GROUP_MAC,
    f"nd: from {HOST6}": "who asks for the address as its owner is told nothing",
}
