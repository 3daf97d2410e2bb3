"""Packet headers on columns: Ethernet, VLAN, ARP, IPv4, IPv6, ICMP, UDP and TCP for a whole burst at once.

Every function takes a burst as two numpy arrays: ``matrix``, uint8 of shape (n, width), the first ``width``
bytes of each packet padded with zeros (``burst.gather(width)`` makes one), and ``lengths``, uint32 of shape
(n,), the true packet lengths in bytes (``burst.lengths``), which may exceed ``width``. `classify` and the checksums are
compiled loops: a packet costs some nanoseconds. They release the interpreter lock for large bursts.

- `headers`: structured dtypes, `view` (no copy), `gather` and `scatter` (an offset for each row)
- `classify`: where the layers of each packet begin and which of them can be trusted
- `checksum`: Internet checksums: compute, verify, fill in, update incrementally
- `responder`: answers ARP, ping and IPv6 neighbour solicitations in place

    >>> import numpy as np
    >>> from memif.packet import IPV4, classify, view
    >>> matrix = np.zeros((2, 64), np.uint8)
    >>> matrix[:, 12:16] = (0x08, 0x00, 0x45, 0x00)  # EtherType IPv4, version 4, 20 bytes of header
    >>> view(matrix, IPV4, 14)["total_length"] = (46, 99)  # the second claims more than there is
    >>> classify(matrix, np.array([60, 60], np.uint32)).ipv4
    array([ True, False])

Needs numpy (``pip install memif[numpy]``). All functions are free of global state and can run in any thread. Only one
thread at a time can use a `Responder`.
"""

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

__all__ = [
    "ARP",
    "ETHERNET",
    "ICMP",
    "IPV4",
    "IPV6",
    "LINK_OPTION",
    "NEIGHBOUR",
    "TCP",
    "UDP",
    "VLAN",
    "EtherType",
    "Layers",
    "Mode",
    "Protocol",
    "Responder",
    "classify",
    "fill_ipv4",
    "fill_l4",
    "gather",
    "internet_checksum",
    "ipv4_checksum",
    "l4_checksum",
    "scatter",
    "update",
    "verify_ipv4",
    "verify_l4",
    "view",
]
