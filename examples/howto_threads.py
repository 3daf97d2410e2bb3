"""Two queues served by two threads; large bursts do not hold the interpreter lock.

python examples/howto_threads.py
"""

# [worker]
import threading

import memif


def worker(iface: memif.Interface, index: int, seen: list[int]) -> None:
    """Receive on one queue until the link goes down: a thread a queue, no lock."""
    queue = iface.rx[index]
    try:
        while True:
            with queue.recv(256) as burst:  # waits without holding the interpreter lock
                seen[index] += len(burst)
    except memif.MemifDisconnectedError:
        print(f"queue {index}: {seen[index]} packets")


# [main]
with memif.listen("@threads", id=0) as server, memif.Socket("@threads") as socket:
    client = socket.interface(id=0, tx_queues=2, rx_queues=2)
    while not (server.up and client.up):
        server.socket.poll(0.01)
        socket.poll(0.01)

    seen = [0, 0]
    threads = [
        threading.Thread(target=worker, args=(server, index, seen))
        for index in range(2)
    ]
    for thread in threads:
        thread.start()
    for index, queue in enumerate(client.tx):
        for _ in range(100 * (index + 1)):
            queue.wait_free(10, timeout=1.0)
            queue.send([b"x" * 60] * 10)
    for queue in client.tx:
        queue.wait_free(queue.size, timeout=5.0)  # until the peer has taken all packets
    client.close()  # ends both workers
    for thread in threads:
        thread.join()
