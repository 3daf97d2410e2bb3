"""Scapy's functions that want an interface, on a memif: those of layer 2 and 3, and its list of interfaces."""

import gc
import warnings
from collections.abc import Iterator

import pytest
from scapy.config import conf
from scapy.layers.inet import ICMP, IP, UDP, traceroute
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet
from scapy.sendrecv import AsyncSniffer, send, sendp, sniff, sr, sr1, srflood, srloop, srp, srp1

import memif
from ends import linked
from memif.scapy import MemifSocket

PING = IP(src="10.0.0.1", dst="10.0.0.2") / ICMP(id=7, seq=1) / b"payload"
PING6 = IPv6(src="fd00::1", dst="fd00::2") / ICMPv6EchoRequest(data=b"six")


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Scapy prints what it does, and warns that the kernel has no route to where a memif leads."""
    verb, conf.verb = conf.verb, 0
    yield
    conf.verb = verb


@pytest.fixture
def ends(socket_path: str) -> Iterator[tuple[MemifSocket, MemifSocket]]:
    """Two sockets in mode ip."""
    with linked(socket_path, mode="ip") as (server, client), MemifSocket(server) as left, MemifSocket(client) as right:
        yield left, right


def echo(sock: MemifSocket, count: int) -> AsyncSniffer:
    """Answers `count` packets, the addresses and the type turned round."""

    def answer(packet: Packet) -> None:
        reply = packet.copy()
        reply.src, reply.dst = packet.dst, packet.src
        if ICMP in reply:
            reply[ICMP].type = 0
            del reply[ICMP].chksum
        if ICMPv6EchoRequest in reply:
            reply[ICMPv6EchoRequest].type = 129
            del reply[ICMPv6EchoRequest].cksum
        if IP in reply:
            del reply[IP].chksum
        sock.send(type(reply)(bytes(reply)))

    sniffer = AsyncSniffer(opened_socket=sock, prn=answer, count=count)
    sniffer.start()
    return sniffer


def test_layer_3(ends: tuple[MemifSocket, MemifSocket]) -> None:
    """send, sr, sr1, srloop and srflood send on the memif and nowhere else, and read the answers there."""
    left, right = ends
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # versions of Scapy that send elsewhere warn
        send(PING, iface=left.network)
        assert bytes(right.recv()) == bytes(PING)
        answering = echo(right, 6)
        assert sr1(PING, iface=left.network, timeout=2)[ICMP].type == 0
        assert len(sr(PING, iface=left.network, timeout=2)[0]) == 1
        assert sr1(PING6, iface=left.network, timeout=2)[IPv6].src == "fd00::2"
        assert len(srloop(PING, iface=left.network, timeout=1, inter=0, count=3, store=1)[0]) == 3
        answering.join(timeout=5)
        assert answering.count == 6
        flooded = AsyncSniffer(opened_socket=right)
        flooded.start()
        srflood(PING, iface=left.network, timeout=0.2)
        assert len(flooded.stop()) > 0


def test_traceroute(ends: tuple[MemifSocket, MemifSocket]) -> None:
    """It goes through sr."""
    left, right = ends
    sniffer = AsyncSniffer(opened_socket=right, count=5)
    sniffer.start()
    traceroute("10.0.0.2", l4=UDP(dport=53), iface=left.network, minttl=1, maxttl=5, timeout=1)
    sniffer.join(timeout=5)
    assert sorted(packet.ttl for packet in sniffer.results) == [1, 2, 3, 4, 5]


def test_layer_2_in_mode_ip(ends: tuple[MemifSocket, MemifSocket]) -> None:
    """There is no layer 2 below, so those functions take IP packets there."""
    left, right = ends
    sendp(PING, iface=left.network)
    assert bytes(right.recv()) == bytes(PING)
    answering = echo(right, 2)
    assert srp1(PING, iface=left.network, timeout=2)[ICMP].type == 0
    assert len(srp(PING, iface=left.network, timeout=2)[0]) == 1
    answering.join(timeout=5)
    right.send(PING)
    found = sniff(iface=[left.network], count=1, timeout=2)
    assert len(found) == 1


def test_layer_3_needs_mode_ip(socket_path: str) -> None:
    """Without Ethernet header a packet would be rubbish: the error says what to use."""
    with linked(socket_path) as (server, client), MemifSocket(server) as left, MemifSocket(client) as right:
        for function in (send, sr, sr1):
            with pytest.raises(memif.MemifValueError, match=r"mode 'ip'.*srp1"):
                function(PING, iface=left.network)
        sendp(Ether() / PING, iface=left.network)
        assert IP in right.recv()


def test_each_memif_is_its_own(socket_path: str) -> None:
    """Interfaces of one name are told apart, also from one of the kernel."""
    with (
        linked(socket_path, mode="ip", name="lo") as (server, client),
        linked(socket_path + "2", mode="ip", name="lo") as (other_server, other_client),
        MemifSocket(client) as near,
        MemifSocket(other_client) as far,
        MemifSocket(server) as left,
        MemifSocket(other_server) as right,
    ):
        for source, target, nothing in ((left, near, far), (right, far, near)):
            send(PING, iface=source.network)
            assert bytes(target.recv()) == bytes(PING)
            assert nothing.sniff(timeout=0.05).res == []


def test_scapys_list_of_interfaces(socket_path: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A memif is in it while it exists, also after the list was read anew; and never becomes the default."""
    with linked(socket_path, mode="ip") as (server, client):
        left, right = MemifSocket(server), MemifSocket(client)
        network, default = left.network, conf.iface
        assert left.network is network
        conf.ifaces.reload()
        assert conf.iface == default
        assert network in conf.ifaces.values()
        conf.ifaces.show()
        assert network.name in capsys.readouterr().out
        send(PING, iface=network.name)
        assert bytes(right.recv()) == bytes(PING)
        left.close()
        name, network_name = network.name, network.network_name
    assert not network.is_valid()
    with pytest.raises(memif.MemifClosedError, match="was closed"):
        sendp(PING, iface=network)
    del left, right, server, client
    gc.collect()
    assert network_name not in conf.ifaces.data
    with pytest.raises(memif.MemifClosedError, match=name):
        sendp(PING, iface=network)
