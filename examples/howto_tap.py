"""Join a memif to a TAP device, so that the kernel's network stack is at the other end.

    python examples/howto_tap.py SOCKET ROLE NAME ADDRESS [NETNS]

ROLE is master or slave. Makes the device NAME with ADDRESS ("10.0.0.1/24"; "-" for
none), in the network namespace NETNS if one is given. Needs root (CAP_NET_ADMIN), and
pyroute2: pip install 'memif[tap]'. Ctrl-C ends it.
"""

import select
import sys

import memif
from memif.tap import Tap
from memif.types import RoleName


def carry(iface: memif.Interface, tap: Tap) -> None:
    """Carry packets in both directions until the link goes down."""
    rx, tx = iface.rx[0], iface.tx[0]
    while True:
        select.select([rx.fileno(), tap.fileno()], [], [], 0.1)
        with rx.recv(256, timeout=0) as burst:
            tap.send(burst)  # what the kernel does not take is lost, as on a wire
        packets = tap.recv(256)
        while packets:
            packets = packets[tx.send(packets) :]
            if packets and not tx.wait_free(timeout=0.1):
                break  # a client that does not receive: drop them


path, role_name, name, address = sys.argv[1:5]
role: RoleName = "master" if role_name == "master" else "slave"
netns = sys.argv[5] if len(sys.argv) > 5 else None
with Tap(name, netns=netns) as tap, memif.Socket(path) as socket:
    iface = socket.interface(id=0, role=role)
    tap.set(address=None if address == "-" else address, up=True)
    print(f"{tap.name} is up, {role} on {path}", flush=True)
    try:
        while True:
            iface.wait_up()
            if iface.peer:
                print("linked to", iface.peer.name, flush=True)
            try:
                carry(iface, tap)
            except memif.MemifDisconnectedError as error:
                print(error, flush=True)
    except KeyboardInterrupt:
        print("done")
