"""Two queues, one thread each, in one process: how far two cores are used when the interpreter lock is given up.

Each thread drives both ends of its own queue: `send_array`, `recv`, `gather`, `release`, so that a second thread
would double the rate if nothing but the rings' loops took time.
"""

import statistics
import threading
import time

import numpy as np

from memif.testing import pair

#: Bytes of a packet, packets a burst.
CASES = ((64, 256), (64, 1024), (1500, 256))


def rate(threads: int, size: int, burst: int, seconds: float) -> float:
    """Packets a second that so many threads move together, each on a queue of its own."""
    moved = [0] * threads
    with pair(rx_queues=2, tx_queues=2, rx_mode="polling", ring_size=2048) as (master, slave):
        begin = threading.Barrier(threads + 1)
        end = threading.Event()

        def work(number: int) -> None:
            matrix, rows = np.ones((burst, size), np.uint8), np.empty((burst, size), np.uint8)
            send, recv = slave.tx[number].send_array, master.rx[number].recv
            begin.wait()
            while not end.is_set():
                for _ in range(64):
                    send(matrix)
                    with recv(burst, 0) as received:
                        received.gather(size, rows)
                moved[number] += 64 * burst

        workers = [threading.Thread(target=work, args=(i,)) for i in range(threads)]
        for worker in workers:
            worker.start()
        begin.wait()
        start, before = time.monotonic(), sum(moved)
        time.sleep(seconds)
        result = (sum(moved) - before) / (time.monotonic() - start)
        end.set()
        for worker in workers:
            worker.join()
    return result


def scaling(size: int, burst: int, seconds: float, runs: int = 5) -> tuple[float, float]:
    """Rates with one thread and with two, medians."""
    rates = [[rate(threads, size, burst, seconds) for threads in (1, 2)] for _ in range(runs)]
    return statistics.median(r[0] for r in rates), statistics.median(r[1] for r in rates)


if __name__ == "__main__":
    for size, burst in CASES:
        one, two = scaling(size, burst, 0.4)
        print(f"{size} B, burst {burst}: one thread {one / 1e6:.1f} Mpps, two {two / 1e6:.1f} Mpps, {two / one:.2f} x")
