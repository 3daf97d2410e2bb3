"""Print the size of each packet that comes, and send it back: the quickstart's program.

python examples/quickstart.py
"""

import memif

with memif.listen("demo.sock", id=0) as iface:
    print("waiting for the other end")
    iface.wait_up(timeout=60.0)
    print("connected to", iface.peer)
    try:
        while True:
            with iface.rx[0].recv(256, timeout=1.0) as burst:
                for packet in burst:
                    print(len(packet), "bytes:", bytes(packet[:14]).hex(" "))
                iface.tx[0].forward(burst)
    except memif.MemifDisconnectedError as error:
        print(error)
