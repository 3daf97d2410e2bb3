"""Tutorial, part one: both ends of a memif in one process, step by step."""

# [open]
import memif

listening = memif.Socket("@tutorial")
master = listening.interface(id=0, role="master", name="left")

connecting = memif.Socket("@tutorial")
slave = connecting.interface(id=0, role="slave", name="right", ring_size=64)

while not (master.up and slave.up):
    listening.poll(0.01)
    connecting.poll(0.01)
print(f"{master.name} is linked to {slave.name}")
# [send]
sent = slave.tx[0].send([b"first", b"second", b"third"])
print("packets accepted:", sent)
# [receive]
with master.rx[0].recv(256, timeout=1.0) as burst:
    for packet in burst:
        print("received", bytes(packet))
    kept = burst.tobytes()  # copies, for later
print("kept", kept)
# [columns]
slave.tx[0].send([bytes([number]) * 60 for number in range(5)])
with master.rx[0].recv(256, timeout=1.0) as burst:
    heads = burst.gather(4)  # the first four bytes of every packet, as a matrix
    print("lengths:", burst.lengths.tolist())
    print("first column:", heads[:, 0].tolist())
    heads[:, 0] += 100
    burst.scatter(heads)  # back into the shared memory
    print("sent back:", master.tx[0].forward(burst))
with slave.rx[0].recv(256, timeout=1.0) as burst:
    print("came back:", [packet[0] for packet in burst])
# [alloc]
with master.tx[0].alloc(2, size=20) as burst:
    for packet in burst:
        packet[:] = b"written in its place"
with slave.rx[0].recv(256, timeout=1.0) as burst:
    print(burst.tobytes())
# [chain]
slave.tx[0].send([bytes(9000)])
with master.rx[0].recv(256, timeout=1.0) as burst:
    pieces = [len(piece) for piece in burst.fragments(0)]
    print(f"{len(burst)} packet of {burst.lengths[0]} bytes in pieces of {pieces}")
# [full]
accepted = slave.tx[0].send([b"x" * 60] * 100)
print("of 100 packets", accepted, "fitted into the ring of", slave.tx[0].size)
# [gone]
slave.close()
try:
    while True:
        with master.rx[0].recv(256, timeout=1.0) as burst:
            print("still there:", len(burst))
except memif.MemifDisconnectedError as error:
    print(error)
# [close]
listening.close()
connecting.close()
