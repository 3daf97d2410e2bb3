"""The kernel's own host behind a TAP device: what it answers to single frames, to be compared with ours."""

import contextlib
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from typing import Self

from scapy.layers.inet import ICMP, IP
from scapy.layers.l2 import Ether

from memif.tap import Tap
from peers.settings import missing
from peers.tap import run_in

OUR_MAC, THEIR_MAC = "02:fe:00:00:00:01", "02:00:00:00:00:09"
HOST4, HOST6 = "192.0.2.1", "2001:db8::1"
PEER4, PEER6 = "192.0.2.9", "2001:db8::9"
_END = b"asked all"
_LIMIT = 10.0  # seconds; the machine may be busy


class KernelHost:
    """A network namespace with one Ethernet interface: `HOST4`/24, `HOST6`/64 and `OUR_MAC`, all peers at `THEIR_MAC`.

    Made by `kernel_host`. The kernel needs no address resolution: every source is a neighbour known for good.
    """

    def __init__(self, tap: Tap, netns: str) -> None:
        self.tap, self.netns = tap, netns

    def ask(self, frame: bytes) -> list[bytes]:
        """All frames that the kernel sends for this one. It works in order: a ping behind it marks the end."""
        marker = bytes(
            Ether(src=THEIR_MAC, dst=OUR_MAC) / IP(src=PEER4, dst=HOST4) / ICMP(id=0xE0D, seq=os.getpid() & 0xFF) / _END
        )
        self.tap.recv()  # what came by itself
        self.tap.send([frame])
        self.tap.send([marker])
        answers: list[bytes] = []
        deadline = time.monotonic() + _LIMIT
        while time.monotonic() < deadline:
            select.select([self.tap.fileno()], [], [], 0.1)
            for answer in self.tap.recv():
                if answer.endswith(_END):
                    return answers
                answers.append(answer)
        raise AssertionError("the kernel no longer answers the ping that marks the end")

    def set_up(self) -> Self:
        """Addresses, routes, neighbours; source validation by route is off, that by address is what is asked."""
        dev = self.tap.name
        for command in (
            "sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0",
            f"sysctl -qw net.ipv4.conf.{dev}.rp_filter=0 net.ipv6.conf.{dev}.accept_dad=0",
            "ip link set lo up",
            f"ip link set {dev} address {OUR_MAC} up",
            f"ip addr add {HOST4}/24 dev {dev}",
            f"ip -6 addr add {HOST6}/64 dev {dev} nodad",
            f"ip neigh add {PEER4} lladdr {THEIR_MAC} nud permanent dev {dev}",
            f"ip neigh add {PEER6} lladdr {THEIR_MAC} nud permanent dev {dev}",
            f"ip neigh add fe80::9 lladdr {THEIR_MAC} nud permanent dev {dev}",
            f"ip route add default via {PEER4}",
            f"ip -6 route add default via {PEER6}",
        ):
            run_in(self.netns, *command.split())
        return self


@contextlib.contextmanager
def kernel_host() -> Iterator[KernelHost]:
    """Context: a `KernelHost`. Without root, ``ip`` and a TAP device see `peers.settings.missing`."""
    if shutil.which("ip") is None:
        missing("ip is missing: apt-get install iproute2")
    if os.geteuid() != 0 or not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        missing("needs root and /dev/net/tun: mkdir -p /dev/net && mknod /dev/net/tun c 10 200")
    netns = f"memif-host-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", netns], check=True, timeout=10)
    try:
        with Tap("host0", netns=netns) as tap:
            yield KernelHost(tap, netns).set_up()
    finally:
        subprocess.run(["ip", "netns", "delete", netns], check=False, timeout=10)
