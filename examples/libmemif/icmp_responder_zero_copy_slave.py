"""icmp_responder-zero-copy-slave of 18.07: answers requests in place and sends their buffers back.

    python examples/libmemif/icmp_responder_zero_copy_slave.py [--socket PATH]

The console of icmp_responder-epoll, except:

    conn <index> 0        answer in place (memif_buffer_enq_tx), with room left in front of the packets
    conn <index> 0 0      the peer sends bare IP packets: put an Ethernet header in front of the answers
    conn <index> 0 1      answer ARP only
    send <index> <tx> <ip> [<mac>]      without <mac>: bare IP packets. One flow at a time

A master does not own the buffers, so it answers with a copy.
"""

import sys
from typing import ClassVar

from common import respond_in_place
from console import main

from memif.console import Console, MemifConnection
from memif.console.commands import Handler
from memif.console.connection import info, say
from memif.console.exchange import EchoSender, packets, receive, respond, send_in_place
from memif.icmp import ETHERNET, answer, answer_ip, encapsulate
from memif.libmemif import memif_buffer_t, memif_get_details

#: Bytes left in front of received packets: room for an Ethernet header that keeps cache lines aligned.
HEADROOM = 64


def _in_place(c: MemifConnection, qid: int) -> None:
    respond_in_place(c, qid) if _is_slave(c) else respond(c, qid)


def _arp_in_place(c: MemifConnection, qid: int) -> None:
    respond_in_place(c, qid, lambda c, frame: answer(frame, c.ip, c.mac, arp_only=True))


def _with_header(c: MemifConnection, qid: int) -> None:
    """Answer bare IP packets, each with an Ethernet header put in front of it, in the headroom."""

    def handle(n: int) -> None:
        answered: list[memif_buffer_t] = []
        for packet in packets(c, qid, c.rx_bufs[:n]):
            if packet[0].headroom >= ETHERNET and answer_ip(memoryview(packet[0])):
                packet[0].prepend(ETHERNET)
                memoryview(packet[0])[:ETHERNET] = encapsulate(c.mac)
                answered += packet
        send_in_place(c, c.tx_qid(qid), answered)

    receive(c, qid, handle)


def _is_slave(c: MemifConnection) -> bool:
    return bool(memif_get_details(c.conn)[1].role)  # type: ignore[arg-type]


class Flow(EchoSender):
    """The thread of `send`, with this program's words."""

    farewell = "Stopping flow..."

    def _report(self, sent: int, ns: int) -> None:
        say("")
        info("Flow finished!")
        info(f"Flow length: {sent}")
        info(f"Flow time: {ns // 10**9}s {ns % 10**9}ns")
        info(f"Average pps: {sent / ns * 1e9 if ns else 0.0:f}")
        info(self.farewell)


class ZeroCopyConsole(Console):
    """`conn` and `send` differ from the console's."""

    handlers: ClassVar[dict[str, Handler | None]] = {"": _in_place, "0": _with_header, "1": _arp_in_place}
    commands = (
        *Console.commands[:-1],
        ("send", "<index> <tx> <ip> [<mac>]", "send so many ICMP echo requests, without <mac> as bare IP packets"),
    )

    def connection(self, index: int) -> MemifConnection:
        """With headroom."""
        return MemifConnection(index, headroom=HEADROOM)

    def may_send(self, mac_text: str, mac: bytes | None) -> bool:
        """The MAC address may be left out."""
        return mac is not None or not mac_text

    def do_send(self, arguments: list[str]) -> None:
        """``send <index> <tx> <ip> [<mac>]``"""
        if any(sender.busy for sender in self.senders.values()):
            info("only one flow allowed")
            return
        super().do_send(arguments)

    def sender(self, c: MemifConnection, count: int, ip: bytes, mac: bytes | None) -> EchoSender:
        """Make the thread of `send`."""
        return Flow(c, count, ip, mac)


if __name__ == "__main__":
    sys.exit(main(ZeroCopyConsole, __doc__))
