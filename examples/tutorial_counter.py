"""Tutorial, part two: count what a real peer sends.

    python examples/tutorial_counter.py /tmp/memif.sock 5

Listens on the socket, waits for the peer, then prints a line a second, for the
seconds given.
"""

import sys
import time

import memif
from memif.capture import summary

path, seconds = sys.argv[1], float(sys.argv[2])
with memif.listen(path, id=0) as iface:
    print("waiting for a client on", path, flush=True)
    iface.wait_up(timeout=30.0)
    if peer := iface.peer:
        who = f"{peer.name!r} of {peer.app_name!r}, process {peer.pid}"
        print("linked to", who, flush=True)

    queue = iface.rx[0]
    with queue.recv(1, timeout=10.0) as burst:
        for packet in burst:
            print("first packet:", summary(packet), flush=True)

    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            before, until = queue.stats["packets"], time.monotonic() + 1.0
            while time.monotonic() < until:
                queue.recv(256, timeout=0.1).release()
            count = queue.stats["packets"] - before
            print(f"{count:,} packets in this second", flush=True)
    except memif.MemifDisconnectedError as error:
        print(error)
