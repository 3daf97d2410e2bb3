"""Packet headers on columns: Ethernet, VLAN, ARP, IPv4, IPv6, ICMP, UDP and TCP for a whole burst at once.

Every function takes a burst as two numpy arrays: ``matrix``, uint8 of shape (n, width), the first ``width``
bytes of each packet padded with zeros (``burst.gather(width)`` makes one), and ``lengths``, uint32 of shape
(n,), the true packet lengths in bytes (``burst.lengths``), which may exceed ``width``. Most of them are compiled
loops: a packet costs some nanoseconds. They release the interpreter lock for large bursts.

- `headers`: structured dtypes, `view` (no copy), `gather` and `scatter` (an offset for each row)
- `classify`: where the layers of each packet begin and which of them can be trusted
- `checksum`: Internet checksums: compute, verify, fill in, update incrementally
- `Filter`: which packets an expression of tcpdump's language lets pass, as ``"udp port 53"``
- `flows`: hashes that keep the packets of a flow together, also as network cards compute them
- `rewrite`: new MAC addresses, IP addresses and ports, a lower TTL, with the checksums kept right
- `vlan`: push and pop VLAN tags
- `responder`: answers ARP, ping and IPv6 neighbour solicitations in place

    >>> import numpy as np
    >>> from memif.packet import IPV4, classify, view
    >>> matrix = np.zeros((2, 64), np.uint8)
    >>> matrix[:, 12:16] = 8, 0, 0x45, 0  # EtherType IPv4, version 4, 20 bytes of header
    >>> view(matrix, IPV4, 14)["total_length"] = 46, 99  # the second claims too much
    >>> classify(matrix, np.array([60, 60], np.uint32)).ipv4
    array([ True, False])

Needs numpy (``pip install memif[numpy]``). All functions are free of global state and can run in any thread. Only one
thread at a time can use a `Responder`.
"""

from memif.extras import numpy as _numpy  # noqa: F401  # says which extra is missing

from .checksum import (
    fill_ipv4,
    fill_l4,
    internet_checksum,
    ipv4_checksum,
    l4_checksum,
    update,
    verify_ipv4,
    verify_l4,
)
from .classify import Layers, Mode, classify
from .filters import Filter
from .flows import RSS_KEY, SYMMETRIC_RSS_KEY, flow_hash, toeplitz_hash
from .headers import (
    ARP,
    ETHERNET,
    ICMP,
    IPV4,
    IPV6,
    LINK_OPTION,
    NEIGHBOUR,
    TCP,
    UDP,
    VLAN,
    EtherType,
    Protocol,
    gather,
    scatter,
    view,
)
from .responder import Responder
from .rewrite import decrement_ttl, rewrite_addresses, rewrite_macs, rewrite_ports
from .vlan import pop_vlan, push_vlan

__all__ = [
    "ARP",
    "ETHERNET",
    "ICMP",
    "IPV4",
    "IPV6",
    "LINK_OPTION",
    "NEIGHBOUR",
    "RSS_KEY",
    "SYMMETRIC_RSS_KEY",
    "TCP",
    "UDP",
    "VLAN",
    "EtherType",
    "Filter",
    "Layers",
    "Mode",
    "Protocol",
    "Responder",
    "classify",
    "decrement_ttl",
    "fill_ipv4",
    "fill_l4",
    "flow_hash",
    "gather",
    "internet_checksum",
    "ipv4_checksum",
    "l4_checksum",
    "pop_vlan",
    "push_vlan",
    "rewrite_addresses",
    "rewrite_macs",
    "rewrite_ports",
    "scatter",
    "toeplitz_hash",
    "update",
    "verify_ipv4",
    "verify_l4",
    "view",
]
