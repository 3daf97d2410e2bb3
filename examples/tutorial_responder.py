"""Tutorial, part two: answer ARP and ping for one address.

    python examples/tutorial_responder.py /run/vpp/memif.sock slave 192.168.1.2

Arguments: socket, role, own address. Ctrl-C ends it.
"""

import sys

import memif
from memif.packet import Responder

path, role, address = sys.argv[1:4]
responder = Responder(ipv4=address)
opening = memif.connect if role == "slave" else memif.listen


def serve(iface: memif.Interface) -> None:
    """Answer until the link goes down."""
    while True:
        with iface.rx[0].recv(256) as burst:
            heads = burst.gather(64)
            # True for the requests, which have become replies.
            answered = responder.answer(heads, burst.lengths)
            burst.scatter(heads)
            iface.tx[0].forward(burst, select=answered)


with opening(path, id=0) as iface:
    try:
        while True:
            iface.wait_up()
            if iface.peer:
                print("linked to", iface.peer.name, flush=True)
            try:
                serve(iface)
            except memif.MemifDisconnectedError as error:
                # A slave reconnects, a master waits for the next client.
                print(error, flush=True)
    except KeyboardInterrupt:
        print({name: count for name, count in responder.counters.items() if count})
