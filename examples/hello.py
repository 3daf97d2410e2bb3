"""Two ends of a memif in one program: the smallest working program, without VPP."""

import memif

with memif.listen("@hello", id=0) as master, memif.Socket("@hello") as socket:
    slave = socket.interface(id=0)  # connects, and owns the shared memory
    while not (master.up and slave.up):
        master.socket.poll(0.01)
        socket.poll(0.01)

    # The second packet is chained over three buffers.
    slave.tx[0].send([b"hello", b"world" * 1000])

    with master.rx[0].recv(256, timeout=1.0) as burst:
        print(len(burst), "packets of", [len(packet) for packet in burst], "bytes")
        print(bytes(burst[0]))
        master.tx[0].forward(burst)  # send them back

    with slave.rx[0].recv(256, timeout=1.0) as burst:
        print("and back:", burst.tobytes()[0])
