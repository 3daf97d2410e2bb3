"""MemifSocket under all that Scapy does with a socket, against our responder, Scapy's own machines, and testpmd."""

import contextlib
import gc
import os
import select
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from scapy.arch import get_if_list
from scapy.layers.inet import ICMP, IP, UDP, ICMPEcho_am
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import ARP, ARP_am, Ether
from scapy.packet import Packet, Raw
from scapy.sendrecv import AsyncSniffer, bridge_and_sniff, sendp, sniff, srp, srp1

import memif
from ends import linked
from memif.packet import Responder
from memif.scapy import MemifSocket
from patience import within
from peers.testpmd import Testpmd

assert get_if_list  # Scapy looks at the system's interfaces once, at import; no socket of that stays open

MAC = "02:fe:00:00:00:01"
PING = Ether(dst=MAC, src="02:00:00:00:00:02") / IP(src="10.0.0.1", dst="10.0.0.2") / ICMP(id=7, seq=1) / b"payload"


@contextlib.contextmanager
def answering(path: str, mode: str = "ethernet", **options: object) -> Iterator[memif.Interface]:
    """Context: a responder in a thread, as master on `path`."""
    responder = Responder("10.0.0.2", "fd00::2", mode=mode)  # type: ignore[arg-type]
    stop = threading.Event()
    with memif.listen(path, mode=mode, **options) as iface:

        def serve() -> None:
            while not stop.is_set():
                with contextlib.suppress(memif.MemifDisconnectedError), iface.rx[0].recv(256, timeout=0.02) as burst:
                    heads = burst.gather(128)
                    sizes = burst.lengths.copy()
                    answered = responder.answer(heads, burst.lengths, new_lengths=sizes)
                    burst.scatter(heads)
                    iface.tx[0].forward(burst, select=answered)
                iface.socket.poll(0 if iface.up else 0.02)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield iface
        finally:
            stop.set()
            thread.join()


@contextlib.contextmanager
def sockets(path: str, **options: object) -> Iterator[tuple[MemifSocket, MemifSocket]]:
    """Context: two Scapy sockets, the two ends of a link."""
    with linked(path, **options) as (server, client), MemifSocket(server) as left, MemifSocket(client) as right:
        yield left, right


def frames(count: int) -> list[Packet]:
    """Numbered UDP packets."""
    return [Ether(dst=MAC, src=MAC) / IP(dst="10.0.0.2") / UDP(dport=1000 + i) / b"data" for i in range(count)]


def ports(packets: list[Packet]) -> list[int]:
    """What tells the packets of `frames` apart."""
    return [packet[UDP].dport - 1000 for packet in packets]


def test_send_and_recv(socket_path: str) -> None:
    """Packets keep their bytes and get the time of their arrival; recv waits."""
    with sockets(socket_path) as (left, right):
        assert right.send(PING) == len(PING)
        packet = left.recv()
        assert isinstance(packet, Ether)
        assert bytes(packet) == bytes(PING)
        assert abs(packet.time - time.time()) < within(5)
        timer = threading.Timer(0.05, left.send, [PING])
        timer.start()
        assert right.recv()[ICMP].id == 7
        timer.join()
        right.send(PING)
        assert left.recv_raw(20)[1] == bytes(PING)[:20]


def test_sr1_and_sr(socket_path: str) -> None:
    """Questions find their answers."""
    with answering(socket_path), MemifSocket(socket_path) as sock:
        answer = sock.sr1(PING, timeout=2, verbose=0)
        assert (answer[IP].src, answer[ICMP].type, answer[Raw].load) == ("10.0.0.2", 0, b"payload")
        questions = [PING.copy() for _ in range(50)]
        for i, question in enumerate(questions):
            question[ICMP].seq = i
        answers, unanswered = sock.sr(questions, timeout=5, verbose=0)
        assert sorted(received[ICMP].seq for _, received in answers) == list(range(50))
        assert not unanswered
        nobody = Ether(dst=MAC) / ARP(pdst="10.0.0.99")
        assert sock.sr1(nobody, timeout=0.1, verbose=0) is None


def test_srp_on_the_network_object(socket_path: str) -> None:
    """Scapy's functions that open sockets by themselves; the interface stays open after them."""
    with answering(socket_path), MemifSocket(socket_path) as sock:
        who_has = Ether(dst="ff:ff:ff:ff:ff:ff") / ARP(pdst="10.0.0.2", psrc="10.0.0.1", hwsrc="02:00:00:00:00:02")
        answers, _ = srp(who_has, iface=sock.network, timeout=2, verbose=0)
        assert [received[ARP].hwsrc for _, received in answers] == [MAC]
        assert srp1(PING, iface=sock.network, timeout=2, verbose=0)[ICMP].type == 0
        sendp(PING, iface=sock.network, verbose=0)
        sendp(who_has, iface=sock.network, verbose=0)
        assert [packet[ICMP].type for packet in sniff(iface=sock.network, filter="icmp", count=1, timeout=2)] == [0]
        sendp([PING, who_has], iface=sock.network, verbose=0)
        assert ARP in sniff(iface=sock.network, filter="arp", count=1, timeout=2)[0]
        assert sock.interface.up


def test_sniff(socket_path: str) -> None:
    """By count, by timeout, with lfilter, stop_filter and prn; other sockets in the same call."""
    with sockets(socket_path) as (left, right):
        sendp(frames(300), socket=right, verbose=0)
        assert ports(sniff(opened_socket=left, count=10)) == list(range(10))
        found = left.sniff(stop_filter=lambda packet: packet[UDP].dport == 1049, timeout=2)
        assert ports(found) == list(range(10, 50))
        seen: list[int] = []
        start = time.monotonic()
        left.sniff(timeout=1.0, lfilter=lambda p: p[UDP].dport % 2 == 0, prn=lambda p: seen.append(p[UDP].dport - 1000))
        assert seen == list(range(50, 300, 2))
        assert 1.0 <= time.monotonic() - start < within(5)
        left.send(PING)
        right.send(PING)
        both = sniff(opened_socket={left: "left", right: "right"}, count=2, timeout=2)
        assert sorted(packet.sniffed_on for packet in both) == ["left", "right"]


def test_a_filter(socket_path: str) -> None:
    """Chooses by libpcap's expressions; what does not compile closes no interface but its own."""
    with linked(socket_path) as (server, client), MemifSocket(client) as right:
        with MemifSocket(server, filter="udp dst portrange 1010-1019") as left:
            sendp(frames(300), socket=right, verbose=0)
            assert ports(left.sniff(count=10, timeout=5)) == list(range(10, 20))
            assert not left.sniff(timeout=0.2)
        with pytest.raises(memif.MemifValueError, match="upd"):
            MemifSocket(server, filter="upd")
        assert server.up
    with answering(socket_path) as iface, pytest.raises(memif.MemifValueError, match="upd"):
        MemifSocket(socket_path, filter="upd")
    assert iface.stats["connects"] == 1


def test_async_sniffer(socket_path: str) -> None:
    """A sniffer in its thread takes what comes, and stops at once when told."""
    with sockets(socket_path) as (left, right):
        sniffer = AsyncSniffer(opened_socket=left)
        sniffer.start()
        for packet in frames(100):
            right.send(packet)
        end = time.monotonic() + within(5)
        while getattr(sniffer, "count", 0) < 100 and time.monotonic() < end:
            time.sleep(0.01)
        start = time.monotonic()
        assert ports(sniffer.stop()) == list(range(100))
        assert time.monotonic() - start < within(1.0)


def test_a_sniffer_ends_with_the_link(socket_path: str) -> None:
    """The peer goes: the sniffer returns what it has, without a warning, and recv raises EOFError."""
    with linked(socket_path) as (server, client):
        left = MemifSocket(server)
        sniffer = AsyncSniffer(opened_socket=left)
        sniffer.start()
        with MemifSocket(client) as right:
            right.send(PING)
            time.sleep(0.1)
        client.close()
        sniffer.join(timeout=5)
        assert not sniffer.running
        assert len(sniffer.results) == 1
        assert left.closed
        assert not server.closed  # it was not opened by the socket
        with MemifSocket(server) as again:
            # Down, as before the first client: nothing is lost, so it waits.
            assert len(again.sniff(timeout=0.05)) == 0


def test_the_last_packets_of_a_peer_that_leaves(socket_path: str) -> None:
    """All of them are sniffed, then the sniffer ends."""
    with linked(socket_path) as (server, client):
        with MemifSocket(client) as right:
            for packet in frames(50):
                right.send(packet)
        client.close()
        assert ports(MemifSocket(server).sniff(timeout=5)) == list(range(50))
        assert not server.up


def test_recv_after_the_end(socket_path: str) -> None:
    """Also outside of sniffers."""
    with sockets(socket_path) as (left, right):
        right.send(PING)
        assert left.recv() is not None
        right.interface.close()
        with pytest.raises(EOFError, match="link is down"):
            left.recv()


def test_sniff_before_the_link_is_up(socket_path: str) -> None:
    """A master's socket waits for its client as for its packets."""
    with memif.listen(socket_path) as server, MemifSocket(server) as left:
        sniffer = AsyncSniffer(opened_socket=left, count=1)
        sniffer.start()
        with MemifSocket(socket_path) as right:
            right.send(PING)
            sniffer.join(timeout=5)
            assert sniffer.results[0][ICMP].id == 7


def test_bridge_and_sniff(socket_path: str) -> None:
    """Two links bridged by Scapy, with a change on the way."""

    def relabel(packet: Packet) -> Packet:
        packet[Ether].src = "02:00:00:00:00:99"
        return packet

    with sockets(socket_path) as (left, west), sockets(socket_path + "2") as (east, right):
        thread = threading.Thread(
            target=bridge_and_sniff, args=(west, east), kwargs={"xfrm12": relabel, "count": 2, "timeout": 5}
        )
        thread.start()
        left.send(PING)
        assert right.recv()[Ether].src == "02:00:00:00:00:99"
        right.send(PING)
        assert left.recv()[Ether].src == "02:00:00:00:00:02"
        thread.join(timeout=5)
        assert not thread.is_alive()


def test_answering_machines(socket_path: str) -> None:
    """Scapy's own responders for ARP and ping on one end, questions on the other."""
    with sockets(socket_path) as (left, right):
        for machine, options, question in (
            (ARP_am, {"IP_addr": "10.0.0.2", "ARP_addr": MAC}, Ether(dst="ff:ff:ff:ff:ff:ff") / ARP(pdst="10.0.0.2")),
            (ICMPEcho_am, {}, PING),
        ):
            server = machine(opened_socket=left, socket=left, verbose=0, **options)
            sniffer = server.bg()
            answer = right.sr1(question, timeout=2, verbose=0)
            sniffer.stop()
            assert answer is not None
        assert answer[ICMP].type == 0


def test_ip_mode(socket_path: str) -> None:
    """IP and IPv6 by the first nibble, no Ethernet header."""
    with answering(socket_path, "ip"), MemifSocket(socket_path, mode="ip") as sock:
        answer = sock.sr1(IP(src="10.0.0.1", dst="10.0.0.2") / ICMP() / b"four", timeout=2, verbose=0)
        assert isinstance(answer, IP)
        assert (answer[ICMP].type, answer[Raw].load) == (0, b"four")
        answer = sock.sr1(IPv6(src="fd00::1", dst="fd00::2") / ICMPv6EchoRequest(data=b"six"), timeout=2, verbose=0)
        assert isinstance(answer, IPv6)
        assert answer[ICMPv6EchoReply].data == b"six"
    with sockets(socket_path, mode="ip") as (left, right):
        right.interface.tx[0].send([b"\x00neither"])
        assert isinstance(left.recv(), Raw)


def test_all_receive_queues_are_read(socket_path: str) -> None:
    """Packets of each queue arrive."""
    with sockets(socket_path, slave={"rx_queues": 3, "tx_queues": 3}) as (left, right):
        for queue in right.interface.tx:
            queue.send([bytes(PING)])
        assert len(left.sniff(count=3, timeout=2)) == 3


def test_polling_queues(socket_path: str) -> None:
    """Without interrupts from the peer the socket looks by itself, often."""
    with sockets(socket_path, rx_mode="polling") as (left, right):
        timer = threading.Timer(0.05, right.send, [PING])
        timer.start()
        start = time.monotonic()
        assert len(left.sniff(count=1, timeout=2)) == 1
        assert time.monotonic() - start < within(0.5)
        timer.join()


def test_a_full_ring(socket_path: str) -> None:
    """send waits for room, and gives up after the socket's timeout with MemifBufferError."""
    with linked(socket_path, slave={"ring_size": 8}) as (server, client):
        with MemifSocket(client, timeout=0.1) as sock:
            for packet in frames(8):
                sock.send(packet)
            with pytest.raises(memif.MemifBufferError):
                sock.send(PING)
            with MemifSocket(server) as left:
                assert ports(left.sniff(count=8, timeout=2)) == list(range(8))
            sock.send(PING)


def test_opening_in_vain(socket_path: str) -> None:
    """Errors are those of memif.connect; nothing is left open."""
    with pytest.raises(memif.MemifTimeoutError):
        MemifSocket(socket_path, timeout=0.05)
    with pytest.raises(memif.MemifValueError):
        MemifSocket(socket_path, ring_size=3)
    gc.collect()


def test_its_descriptor(socket_path: str) -> None:
    """fileno() works with the select of others; after close it is gone, and the owned interface with it."""
    with memif.listen(socket_path):
        sock = MemifSocket(memif.listen(socket_path + "2"), timeout=1)
        assert select.select([sock], [], [], 0) == ([], [], [])
        interface = sock.interface
        sock.close()
        sock.close()
        assert sock.fileno() == -1
        assert not interface.closed
        interface.close()


@pytest.mark.dpdk
def test_ping_testpmd(socket_path: str, testpmd: Callable[..., Testpmd]) -> None:
    """testpmd's icmpecho answers ARP and ping from Scapy."""
    testpmd("server", forward="icmpecho").start()
    with MemifSocket(socket_path, timeout=10) as sock:
        who_has = Ether(dst="ff:ff:ff:ff:ff:ff", src=MAC) / ARP(pdst="10.0.0.2", psrc="10.0.0.1", hwsrc=MAC)
        owner = sock.sr1(who_has, timeout=3, verbose=0)[ARP].hwsrc
        questions = [
            Ether(dst=owner, src=MAC) / IP(src="10.0.0.1", dst="10.0.0.2") / ICMP(id=os.getpid() & 0xFFFF, seq=i)
            for i in range(20)
        ]
        answers, unanswered = sock.sr(questions, timeout=3, verbose=0)
        assert (len(answers), len(unanswered)) == (20, 0)
        assert all(received[ICMP].type == 0 for _, received in answers)
