"""The MAC address of an IPv4 address behind a link, asked by ARP, for tools that only send."""

import time
from ipaddress import IPv4Address
from typing import Final

from memif import icmp
from memif.errors import MemifTimeoutError
from memif.interface import Interface

ASK_AGAIN: Final = 0.25  # seconds between two requests


def find_mac(interface: Interface, own_mac: bytes, own: bytes, target: bytes, timeout: float) -> bytes:
    """Ask for the MAC address of `target`, again and again. What else the peer sends meanwhile is dropped.

    Args:
        interface: The interface, which is up.
        own_mac: The MAC address that asks.
        own: The IPv4 address that asks, 4 bytes.
        target: The IPv4 address that is looked for, 4 bytes.
        timeout: Seconds to wait for an answer.

    Raises:
        MemifTimeoutError: Nobody answers.
        MemifDisconnectedError: The peer has gone.
    """
    deadline = time.monotonic() + timeout
    while (now := time.monotonic()) < deadline:
        interface.tx[0].send([icmp.arp(1, own_mac, own, b"", target)])
        again = min(now + ASK_AGAIN, deadline)
        while (left := again - time.monotonic()) > 0:
            for queue in interface.rx:
                for packet in queue.recv_list(64, left if queue.index == 0 else 0):
                    if packet[12:14] == b"\x08\x06" and (mac := icmp.arp_answer(packet[14:], target)) is not None:
                        return mac
    raise MemifTimeoutError(
        f"nobody answers ARP for {IPv4Address(target)} (waited {timeout:g} s); if it is behind a router, give the "
        "router's MAC address"
    )
