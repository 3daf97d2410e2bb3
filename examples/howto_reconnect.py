"""A slave that keeps going while its master comes and goes.

python examples/howto_reconnect.py
"""

# [slave]
import threading

import memif


def linked(iface: memif.Interface) -> None:
    """Called each time the link has come up."""
    if iface.peer:
        print("up, peer is", iface.peer.name, flush=True)


def unlinked(iface: memif.Interface) -> None:
    """Called each time the link has gone down."""
    print("down:", iface.disconnect_reason, flush=True)


def work(path: str, packets: int) -> None:
    """Receive `packets` packets, over any number of links."""
    with memif.Socket(path) as socket:
        iface = socket.interface(
            id=0, reconnect=0.1, on_connect=linked, on_disconnect=unlinked
        )
        left = packets
        while left:
            try:
                iface.wait_up(timeout=10.0)
                with iface.rx[0].recv(256, timeout=1.0) as burst:
                    left -= len(burst)
            except memif.MemifDisconnectedError:
                continue  # nothing to clean up: wait_up waits for the next link
        packets, links = iface.stats["rx"][0]["packets"], iface.stats["connects"]
        print("received", packets, "packets over", links, "links", flush=True)


# [master]
def master(path: str, packet: bytes) -> None:
    """A master that sends one packet, waits until the peer has taken it, and ends."""
    with memif.listen(path, id=0) as iface:
        iface.wait_up(timeout=10.0)
        iface.tx[0].send_all([packet], timeout=1.0)
        iface.close(drain=1.0)


# [demo]
if __name__ == "__main__":
    slave = threading.Thread(target=work, args=("@reconnect", 2))
    slave.start()
    master("@reconnect", b"from the first master")
    master("@reconnect", b"from the second master")
    slave.join()
