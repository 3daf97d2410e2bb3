"""In VPP's place for the guide: two masters and a slave that ping 192.168.1.2 on every queue until their input ends.

    python vpp.py SOCKET

Masters with the ids 0 and 1 on SOCKET, a slave with two queues on SOCKET.2. Prints the answers to each, by queue.
"""

import json
import select
import sys
from collections import Counter

import memif
from memif.icmp import echo_requests

request = echo_requests(bytes((192, 168, 1, 1)), b"VPPVPP", bytes((192, 168, 1, 2)), bytes.fromhex("02fe00000002"))
answers: dict[str, Counter[int]] = {name: Counter() for name in ("master 0", "master 1", "slave 0")}


def ping(name: str, interface: memif.Interface, sequence: int) -> None:
    """Send a request on each queue, count the answers."""
    try:
        for queue in interface.tx:
            queue.send([request(sequence)])
        for queue in interface.rx:
            with queue.recv(256, timeout=0) as burst:
                for packet in burst:
                    answers[name][queue.index] += bytes(packet[34:36]) == b"\0\0"
    except memif.MemifError:
        pass  # the link has gone


with memif.Socket(sys.argv[1]) as first, memif.Socket(sys.argv[1] + ".2") as second:
    interfaces = {
        "master 0": first.interface(id=0, role="master", name="memif0/0"),
        "master 1": first.interface(id=1, role="master", name="memif0/1"),
        "slave 0": second.interface(id=0, rx_queues=2, tx_queues=2, reconnect=0.1),
    }
    print("ready", flush=True)
    sequence = 0
    while not select.select([sys.stdin], [], [], 0.005)[0]:
        sequence += 1
        first.poll(0)
        second.poll(0)
        for name, interface in interfaces.items():
            if interface.up:
                ping(name, interface, sequence)
print(json.dumps(answers))
