"""memif in an event loop of your own: two kinds of descriptors, and what to do when
they are readable.

python examples/howto_events.py
"""

import selectors

import memif

selector = selectors.DefaultSelector()
with memif.listen("@events", id=0) as server, memif.Socket("@events") as socket:
    client = socket.interface(id=0)
    # [control] readable when the control channel or a timer has something to handle
    for end in (server.socket, socket):
        selector.register(end, selectors.EVENT_READ, end.poll)
    while not (server.up and client.up):
        for key, _ in selector.select(1.0):
            key.data(0)
    # [queue] readable when packets wait
    queue = server.rx[0]
    selector.register(queue, selectors.EVENT_READ, "packets")

    client.tx[0].send([b"one", b"two"])
    received: list[bytes] = []
    while len(received) < 2:
        for key, _ in selector.select(1.0):
            if key.data == "packets":
                with queue.recv(256, timeout=0) as burst:  # never blocks
                    received += burst.tobytes()
            else:
                key.data(0)
    print(received)
    # [end] a descriptor belongs to the link: take it out before closing
    selector.close()
