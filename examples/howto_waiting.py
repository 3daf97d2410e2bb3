"""Wait for the first of many receive queues, whatever their modes.

python examples/howto_waiting.py
"""

import memif
from memif.testing import pair

with (
    pair(master={"rx_mode": "polling"}) as (fast, fast_peer),
    pair() as (slow, slow_peer),
):
    slow_peer.tx[0].send([b"from the slow one"])
    fast_peer.tx[0].send([b"from the fast one"])
    # [many] queues, interfaces and sockets in one list; wait returns what is ready
    received: list[bytes] = []
    while len(received) < 2:
        for queue in memif.wait([fast.rx[0], slow.rx[0]], timeout=1.0):
            with queue.recv(256, timeout=0) as burst:  # never blocks
                received += burst.tobytes()
    print(sorted(received))
    # [end]
