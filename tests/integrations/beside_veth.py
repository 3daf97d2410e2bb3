"""Scapy with a memif beside network interfaces of the kernel. Run in a network namespace of its own, with the name of
one function of this file and a path for a control socket:

    unshare --net python beside_veth.py bridge_memif_second /tmp/m.sock
"""

import subprocess
import sys
import threading
import time
from collections.abc import Callable

from scapy.config import conf
from scapy.layers.l2 import Ether
from scapy.packet import Packet
from scapy.pipetool import PipeEngine, QueueSink
from scapy.scapypipes import InjectSink, SniffSource
from scapy.sendrecv import AsyncSniffer, bridge_and_sniff, sendp, sniff

import memif
from ends import linked
from memif.scapy import MemifSocket
from patience import within

TYPE = 0x88B5  # for experiments: nothing of the kernel's


def frames(count: int, sign: bytes) -> list[Packet]:
    """Numbered."""
    return [
        Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:02", type=TYPE) / (sign + b"%4d" % i) for i in range(count)
    ]


def numbers(packets: list[Packet], sign: bytes) -> list[int]:
    """Which of `frames` are there."""
    return [int(bytes(packet)[15:19]) for packet in packets if bytes(packet)[14:15] == sign]


def ours(packet: Packet) -> bool:
    """Not what the kernel says on its own account."""
    return bytes(packet)[12:14] == TYPE.to_bytes(2, "big")


def far_end() -> AsyncSniffer:
    """Sniffs at the other end of the veth pair."""
    sniffer = AsyncSniffer(iface="far0", lfilter=ours)
    sniffer.start()
    return sniffer


def until(done: Callable[[], bool], what: str) -> None:
    """Wait for it."""
    deadline = time.monotonic() + within(10)
    while not done():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def _bridge(near: MemifSocket, memif_first: bool, west: MemifSocket) -> None:
    veth = conf.L2socket(iface="near0")
    pair = (near, veth) if memif_first else (veth, near)
    found: list[Packet] = []
    thread = threading.Thread(
        target=lambda: found.extend(bridge_and_sniff(*pair, count=60, timeout=10, lfilter=ours)), daemon=True
    )
    far = far_end()
    thread.start()
    time.sleep(0.5)
    for there, back in zip(frames(30, b">"), frames(30, b"<"), strict=True):
        west.send(there)
        sendp(back, iface="far0", verbose=0)
        time.sleep(0.003)
    thread.join(12)
    assert not thread.is_alive()
    assert len(found) == 60, found
    until(lambda: far.count >= 60, "at the far end")  # what it sends itself, too
    assert numbers(far.stop(), b">") == list(range(30))
    assert numbers(west.sniff(count=30, timeout=5, lfilter=ours), b"<") == list(range(30))
    # And afterwards the memif is a socket as before.
    timer = threading.Timer(0.2, west.send, frames(1, b"!"))
    timer.start()
    start = time.monotonic()
    assert numbers([near.recv()], b"!") == [0]
    assert time.monotonic() - start > 0.15
    timer.join()
    veth.close()


def bridge_memif_first(west: MemifSocket, near: MemifSocket) -> None:
    """bridge_and_sniff(memif, veth)"""
    _bridge(near, True, west)


def bridge_memif_second(west: MemifSocket, near: MemifSocket) -> None:
    """bridge_and_sniff(veth, memif)"""
    _bridge(near, False, west)


def sniff_both(west: MemifSocket, near: MemifSocket) -> None:
    """One sniff over a veth and a memif, in both orders; the memif is closed under it."""
    for order in (1, -1):
        veth = conf.L2socket(iface="near0")
        sockets = [veth, near][::order]
        west.send(frames(1, b">")[0])
        sendp(frames(1, b"<"), iface="far0", verbose=0)
        found = sniff(opened_socket=sockets, count=2, timeout=5, lfilter=ours)
        assert sorted(bytes(packet)[14:15] for packet in found) == [b"<", b">"], found
        veth.close()
    veth = conf.L2socket(iface="near0")
    sniffer = AsyncSniffer(opened_socket=[veth, near], lfilter=ours)
    sniffer.start()
    time.sleep(0.3)
    west.send(frames(1, b">")[0])
    until(lambda: sniffer.count == 1, "the packet on the memif")
    near.close()
    sendp(frames(1, b"<"), iface="far0", verbose=0)
    until(lambda: sniffer.count == 2, "the packet on the veth, after the memif was closed")
    sniffer.stop()
    assert sniffer.exception is None
    assert len(sniffer.results) == 2
    veth.close()


def pipes(west: MemifSocket, near: MemifSocket) -> None:
    """memif to veth, and veth to memif, in one PipeEngine."""
    far = far_end()
    there, back, seen = SniffSource(socket=near), SniffSource(iface="near0"), QueueSink()
    out, into = InjectSink(iface="near0"), InjectSink()
    into.start = into.stop = lambda: None
    into.s = near
    there > out  # noqa: B015
    back > into  # noqa: B015
    there > seen  # noqa: B015
    engine = PipeEngine(there, back)
    engine.start()
    time.sleep(0.5)
    for packet in frames(20, b">"):
        west.send(packet)
    for packet in frames(20, b"<"):
        sendp(packet, iface="far0", verbose=0)
    until(lambda: far.count >= 20, "at the far end")
    # A listening socket of Scapy sees what is sent on its interface, too.
    found = west.sniff(count=20, timeout=5, lfilter=lambda packet: bytes(packet)[14:15] == b"<")
    assert numbers(found, b"<") == list(range(20))
    engine.stop()
    assert numbers(far.stop(), b">") == list(range(20))


def tshark(west: MemifSocket, near: MemifSocket) -> None:
    """Scapy's tshark() shows what comes on a memif."""
    sender = threading.Thread(target=lambda: (time.sleep(1), [west.send(packet) for packet in frames(5, b">")]))
    sender.start()
    near.tshark(count=5, timeout=20)
    sender.join()


def main(name: str, path: str) -> None:
    """Run one of them."""
    for words in (
        "link add near0 type veth peer name far0",
        "link set lo up",
        "link set near0 up",
        "link set far0 up",
    ):
        subprocess.run(["ip", *words.split()], check=True)
    conf.ifaces.reload()
    with linked(path) as (server, client), MemifSocket(server) as west, MemifSocket(client) as near:
        globals()[name](west, near)
    print(name, "done", memif.__version__)


if __name__ == "__main__":
    main(*sys.argv[1:])
