"""Handlers that run without the interpreter: exchange MAC addresses, answer ping.

    python examples/howto_serve.py /run/vpp/memif.sock slave swap
    python examples/howto_serve.py /run/vpp/memif.sock slave 192.168.1.2

Arguments: socket, role, and "swap" or the address to answer ARP and ping for. Ctrl-C
ends it. Needs numba: pip install 'memif[numba]'.
"""

import socket
import sys
from typing import Any

import numba
import numpy as np
from numba.np.numpy_support import carray

import memif

MAC = bytes((2, 0xFE, 0, 0, 0, 2))


# [swap]
@numba.cfunc(memif.HANDLER_SIGNATURE, cache=True)
def swap_macs(packets: Any, lengths: Any, count: int, data: Any) -> int:
    """Send every Ethernet frame back to where it came from."""
    for i in range(count):
        packet = packets[i]
        if lengths[i] < 14:
            lengths[i] = 0  # drop it
            continue
        for k in range(6):
            packet[k], packet[6 + k] = packet[6 + k], packet[k]
    return 0  # go on


# [answer]
#: What the responder is, and what it has done: its `data`.
Host = np.dtype([("ip", "u1", 4), ("mac", "u1", 6), ("arp", "u8"), ("echo", "u8")])


@numba.njit(cache=True)
def answer_arp(packet: Any, length: int, host: Any) -> int:
    """Turn a request for our MAC address into the reply. -> its length, or 0."""
    if length < 42 or packet[21] != 1 or not same(packet, 38, host.ip, 4):
        return 0
    packet[21] = 2  # from "who has" to "is at"
    for k in range(10):  # the target becomes the sender: MAC and IPv4 address
        packet[32 + k] = packet[22 + k]
    for k in range(6):
        packet[k] = packet[22 + k]
        packet[6 + k] = packet[22 + k] = host.mac[k]
    for k in range(4):
        packet[28 + k] = host.ip[k]
    host.arp += 1
    return 42


@numba.njit(cache=True)
def answer_echo(packet: Any, length: int, host: Any) -> int:
    """Turn an ICMP echo request for us into the reply. -> its length, or 0."""
    whole = packet[20] & 0x3F == 0 and packet[21] == 0  # no fragment
    if (
        length < 42
        or packet[14] != 0x45
        or packet[23] != 1
        or packet[34] != 8
        or not whole
    ):
        return 0
    if not same(packet, 30, host.ip, 4):
        return 0
    for k in range(6):
        packet[k], packet[6 + k] = packet[6 + k], packet[k]
    for k in range(26, 30):
        packet[k], packet[4 + k] = packet[4 + k], packet[k]
    packet[34] = 0
    total = (
        (packet[36] << 8) + packet[37] + 0x0800
    )  # RFC 1624: the type went from 8 to 0
    total = (total & 0xFFFF) + (total >> 16)
    packet[36], packet[37] = total >> 8, total & 0xFF
    host.echo += 1
    return length


@numba.njit(cache=True)
def same(packet: Any, at: int, address: Any, size: int) -> bool:
    """Whether an address stands in a packet."""
    equal = True
    for k in range(size):
        equal &= packet[at + k] == address[k]
    return equal


@numba.cfunc(memif.HANDLER_SIGNATURE, cache=True)
def respond(packets: Any, lengths: Any, count: int, data: Any) -> int:
    """Answer for one address, and drop all else."""
    host = carray(data, 1, Host)[0]
    for i in range(count):
        packet, length = packets[i], lengths[i]
        lengths[i] = 0
        if length >= 14 and packet[12] == 8:
            if packet[13] == 0:
                lengths[i] = answer_echo(packet, length, host)
            elif packet[13] == 6:
                lengths[i] = answer_arp(packet, length, host)
    return 0


# [main]
def main(path: str, role: str, what: str) -> None:
    """Serve on every link until Ctrl-C."""
    host = np.zeros(1, Host)
    handler = swap_macs
    if what != "swap":
        host["ip"], host["mac"], handler = (
            list(socket.inet_aton(what)),
            list(MAC),
            respond,
        )
    opening = memif.connect if role == "slave" else memif.listen
    with opening(path, id=0, rx_mode="adaptive") as iface:
        rx, tx = iface.rx[0], iface.tx[0]
        try:
            while True:
                iface.wait_up()
                try:
                    rx.serve(handler, tx, data=host)
                except memif.MemifDisconnectedError as error:
                    print(
                        error, flush=True
                    )  # a slave reconnects, a master waits for the next client
        except KeyboardInterrupt:
            print(
                f"received {rx.stats['packets']}, sent {tx.stats['packets']},", end=" "
            )
            print(f"answered {host['arp'][0]} ARP requests and {host['echo'][0]} pings")


if __name__ == "__main__":
    main(*sys.argv[1:4])
