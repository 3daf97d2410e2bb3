"""Expressions for filters, of every kind that libpcap knows, and combinations of them."""

import random
from functools import lru_cache

_BOTH = (
    "ip",
    "ip6",
    "tcp",
    "udp",
    "icmp",
    "icmp6",
    "igmp",
    "sctp",
    "ah",
    "host 10.0.0.1",
    "src host 10.0.0.1",
    "dst host 10.0.0.2",
    "net 10.0.0.0/8",
    "src net 192.168.0.0/16",
    "dst net 224.0.0.0/4",
    "ip6 host 2001:db8::1",
    "net 2001:db8::/32",
    "port 53",
    "src port 53",
    "dst port 80",
    "portrange 1000-40000",
    "udp port 53",
    "tcp port 80",
    "tcp src portrange 1-1023",
    "udp dst portrange 20000-60000",
    "ip proto 47",
    "ip6 proto 17",
    "proto 6",
    "ip multicast",
    "ip6 multicast",
    "greater 100",
    "less 100",
    "len = 60",
    "len % 7 = 3",
    "ip[0] & 0xf != 5",
    "ip[8] < 64",
    "ip[2:2] > 576",
    "ip[12:4] = 0x0a000001",
    "ip[6:2] & 0x1fff != 0",
    "ip6[6] = 58",
    "ip6[4:2] > 40",
    "tcp[13] & 2 != 0",
    "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
    "icmp[icmptype] = icmp-echo",
    "icmp[0] = 8 or icmp[0] = 0",
    "udp[4:2] > 100",
    "udp[8:4] = 0",
    "tcp[(tcp[12] >> 4) << 2] = 0",
    "ip[ip[0] & 0xf] != 0",
    "(ip[2:2] - ((ip[0] & 0xf) << 2)) > 100",
    "len - ip[2:2] > 14",
    "len / 10 * 10 = len",
    "len ^ 1 > 63",
    "len << 2 > 400",
    "len >> 3 < 9",
    "-len < 0",
    "ip[9] * 2 = 34",
    "ip[9] | 1 = 7",
    "ip[1] = 0 and len > 20",
)
_ETHERNET = (
    "arp",
    "rarp",
    "ether proto 0x0800",
    "ether proto 0x8100",
    "ether broadcast",
    "ether multicast",
    "ether host 02:00:00:00:00:01",
    "ether src 02:00:00:00:00:01",
    "ether dst ff:ff:ff:ff:ff:ff",
    "ether[0] & 1 = 0",
    "ether[12:2] > 1500",
    "ether[60:2] = 0",
    "ether[1510:4] = 0",
    "vlan",
    "vlan 5",
    "vlan and ip",
    "vlan and udp port 53",
    "vlan and vlan",
    "vlan and vlan and ip6",
    "mpls",
    "pppoes",
    "pppoes and ip",
    "arp[6:2] = 1",
    "arp host 10.0.0.1",
    "llc",
    "stp",
    "ipx",
    "decnet host 10.15",
    "iso",
    "atalk",
    "geneve",
)

# Nothing that cannot be true of any packet: libpcap refuses that.
_FORMS = ("not ({})", "({}) or ({})", "({}) or not ({})", "(({}) and not ({})) or ({})")


@lru_cache(maxsize=4)
def expressions(mode: str, count: int = 300) -> list[str]:
    """So many expressions for packets of a mode, all different, always the same."""
    single = [*_BOTH, *(_ETHERNET if mode == "ethernet" else ())]
    rng = random.Random(mode)
    made = dict.fromkeys(single)
    # An expression with "vlan" or "pppoes" moves what follows; libpcap refuses some combinations of these.
    plain = [text for text in single if not text.startswith(("vlan", "pppoes", "mpls", "geneve"))]
    while len(made) < count:
        first, second, third = rng.sample(plain, 3)
        form = rng.choice(_FORMS)
        made[form.format(first, second, third)] = None
    return list(made)[:count]
