"""Instructions a packet, counted by valgrind: figures that do not depend on how busy the machine is.

Each operation runs a number of bursts and twice as many; the difference, divided by the packets, is what one packet
costs, without the interpreter's start. ``python benchmarks/instructions.py`` prints the table; with ``--check`` it
fails when an operation costs more than its limit, about 1.5 times what was counted when the limits were set.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from dataclasses import replace

from memif.memory import mapped
from memif.memory.allocator import MemfdAllocator
from memif.protocol import CreateMemory, MapMemory
from memif.ring import RxQueue, TxQueue

#: Operation: most instructions a packet that are accepted, by packets a burst.
LIMITS: dict[str, dict[int, float]] = {
    "send_array, recv": {256: 260, 32: 440, 1: 7000},
    "gather": {256: 85, 32: 125},
    "forward, recv": {256: 430},
}
SIZE = 64
#: Bursts of the shorter run. The interpreter's start varies by a million instructions or so; this many drown that.
BURSTS = {1: 10_000, 32: 4_000, 256: 1_000}


def main() -> None:
    """Count, print, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail above the limits")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--work", nargs=3, metavar=("OPERATION", "BURST", "COUNT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work[0], int(options.work[1]), int(options.work[2]))
        return
    figures = {operation: {burst: cost(operation, burst) for burst in limits} for operation, limits in LIMITS.items()}
    too_dear = [
        f"{o}, burst {b}: {n:.0f} instructions a packet, at most {LIMITS[o][b]:.0f}"
        for o, line in figures.items()
        for b, n in line.items()
        if n > LIMITS[o][b]
    ]
    if options.json:
        print(json.dumps(figures))
    else:
        for operation, line in figures.items():
            print(f"{operation:12}", "   ".join(f"burst {b}: {n:7.1f}" for b, n in line.items()))
    if options.check and too_dear:
        sys.exit("\n".join(too_dear))


def cost(operation: str, burst: int) -> float:
    """Instructions a packet of one operation: of a burst with it, less those of a burst without."""
    base = 0.0 if operation == "send_array, recv" else per_burst("send_array, recv", burst)
    return (per_burst(operation, burst) - base) / burst


_known: dict[tuple[str, int], float] = {}


def per_burst(operation: str, burst: int) -> float:
    """Instructions of one burst that is sent, received, put to `operation` and released."""
    if (operation, burst) not in _known:
        short, long = (collected(operation, burst, count) for count in (BURSTS[burst], 2 * BURSTS[burst]))
        _known[operation, burst] = (long - short) / BURSTS[burst]
    return _known[operation, burst]


def collected(operation: str, burst: int, count: int) -> int:
    """Instructions of a whole process."""
    command = [
        "valgrind",
        "--tool=callgrind",
        "--callgrind-out-file=/dev/null",
        sys.executable,
        __file__,
        "--work",
        operation,
        str(burst),
        str(count),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONHASHSEED": "0"}
    )
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or found is None:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return int(found[1])


def work(operation: str, burst: int, count: int) -> None:
    """In the counted process: `count` bursts, both ends of one pair of rings in one thread."""
    master_rx, master_tx, slave_rx, slave_tx = queues()
    # A matrix without numpy: its import costs more than all that is counted here.
    matrix = memoryview(bytearray(burst * SIZE)).cast("B", (burst, SIZE))
    rows = memoryview(bytearray(burst * SIZE)).cast("B", (burst, SIZE))
    for _ in range(count):
        slave_tx.send_array(matrix)
        with master_rx.recv(burst, 0) as received:
            if operation == "gather":
                received.gather(SIZE, rows)
            elif operation == "forward, recv":
                master_tx.forward(received)
        if operation == "forward, recv":
            slave_rx.recv(burst, 0).release()


class Owner:
    """Stands for the interface of the queues below."""

    def serve(self) -> None:
        """No control channel."""

    def broken(self, ring: object, text: str) -> None:
        """Never happens here."""
        raise AssertionError(text)

    def down(self) -> Exception:
        """Never happens here."""
        return AssertionError("down")


def queues() -> tuple[RxQueue, TxQueue, RxQueue, TxQueue]:
    """Receive and transmit queue of a master and of a slave over the same memory, without any socket."""
    wanted = CreateMemory(1, 1, 10, 256)
    slave, regions, rings = mapped.create(
        wanted, buffer_size=2048, kind="single", cache_line=64, headroom=0, allocator=MemfdAllocator()
    )
    offers = MapMemory(
        tuple(replace(r, fd=os.dup(r.fd)) for r in regions), tuple(replace(r, fd=os.dup(r.fd)) for r in rings)
    )
    master = mapped.adopt(offers, seal="add", limit=1 << 40, cache_line=None, name="master")
    made = []
    for side in (master, slave):
        for kind, ring in ((RxQueue, side.rx[0]), (TxQueue, side.tx[0])):
            queue = kind(Owner(), 0, -1)
            if isinstance(queue, RxQueue):
                queue.mode = "polling"
            queue.attach(ring)
            made.append(queue)
    return tuple(made)


if __name__ == "__main__":
    main()
