"""The same packet handler in three styles: a loop over packets, numpy on columns, a
function compiled by numba.

    python examples/howto_handlers.py [SECONDS]

The handler is a router's inner step for Ethernet frames with IPv4: exchange the MAC
addresses, take one from the TTL, correct the header's checksum, leave everything else
alone. Prints how many packets a second each style does. Needs numpy and, for the third
style, numba: pip install 'memif[numba]'.
"""

import sys
import time
from collections.abc import Callable

import numba
import numpy as np

import memif
from memif.packet import (
    classify,
    decrement_ttl,
    rewrite_addresses,
    rewrite_macs,
    rewrite_ports,
)


# [loop]
def route_loop(burst: memif.Burst) -> int:
    """One packet after the other, in place. -> packets changed."""
    changed = 0
    for packet in burst:
        if len(packet) < 34 or packet[12] != 8 or packet[13] != 0 or packet[22] < 2:
            continue
        packet[0:6], packet[6:12] = bytes(packet[6:12]), bytes(packet[0:6])
        packet[22] -= 1
        # RFC 1624: a word decreased by 0x0100.
        total = (packet[24] << 8 | packet[25]) + 0x0100
        total = (total & 0xFFFF) + (total >> 16)
        packet[24], packet[25] = total >> 8, total & 0xFF
        changed += 1
    return changed


# [numpy]
def route_numpy(burst: memif.Burst) -> int:
    """All packets at once, on a copy of their first bytes. -> packets changed."""
    heads = burst.gather(34)
    mine = (
        (burst.lengths >= 34)
        & (heads[:, 12] == 8)
        & (heads[:, 13] == 0)
        & (heads[:, 22] >= 2)
    )
    heads[:, :12] = np.where(
        mine[:, None], np.roll(heads[:, :12], 6, axis=1), heads[:, :12]
    )
    heads[:, 22] -= mine
    total = heads[:, 24].astype(np.uint32) << 8 | heads[:, 25]
    total += mine.astype(np.uint32) << 8
    total = (total & 0xFFFF) + (total >> 16)
    heads[:, 24], heads[:, 25] = total >> 8, total & 0xFF
    burst.scatter(heads)
    return int(mine.sum())


# [numba]
@numba.njit(cache=True)
def route_region(
    memory: np.ndarray,
    wanted: int,
    regions: np.ndarray,
    offsets: np.ndarray,
    pieces: np.ndarray,
) -> int:
    """Compiled: the packets of one burst that lie in region `wanted`, in place."""
    changed = 0
    for i in range(len(offsets)):
        at = offsets[i]
        if (
            regions[i] != wanted
            or pieces[i] < 34
            or memory[at + 12] != 8
            or memory[at + 13] != 0
            or memory[at + 22] < 2
        ):
            continue
        for k in range(at, at + 6):
            memory[k], memory[k + 6] = memory[k + 6], memory[k]
        memory[at + 22] -= 1
        total = (memory[at + 24] << 8 | memory[at + 25]) + 0x0100
        total = (total & 0xFFFF) + (total >> 16)
        memory[at + 24], memory[at + 25] = total >> 8, total & 0xFF
        changed += 1
    return changed


def route_numba(burst: memif.Burst) -> int:
    """Pass the columns of the burst to the compiled function. -> packets changed."""
    if burst.chained:  # then there are more descriptors than packets
        return route_loop(burst)
    columns = burst.regions, burst.offsets, burst.pieces
    return sum(
        route_region(memory, index, *columns)
        for index, memory in enumerate(burst.memory)
    )


# [measure]
def frames(count: int) -> np.ndarray:
    """Return a matrix of Ethernet frames with IPv4 headers and correct checksums."""
    matrix = np.zeros((count, 64), np.uint8)
    matrix[:, :12] = np.arange(12)
    matrix[:, 12:24] = [8, 0, 0x45, 0, 0, 50, 0, 0, 0, 0, 64, 17]
    matrix[:, 26:34] = [192, 168, 1, 1, 192, 168, 1, 2]
    matrix[:, 33] = np.arange(count)
    words = matrix[:, 14:34].reshape(count, 10, 2) @ np.array([256, 1])
    total = words.sum(axis=1)
    total = (total & 0xFFFF) + (total >> 16)
    matrix[:, 24], matrix[:, 25] = (total ^ 0xFFFF) >> 8, (total ^ 0xFFFF) & 0xFF
    return matrix


def translate(burst: memif.Burst) -> int:
    """A router that hides addresses (NAT), of memif.packet. -> packets changed."""
    matrix = burst.gather(128)
    layers = classify(matrix, burst.lengths)
    alive = decrement_ttl(matrix, layers, rows=layers.ipv4 & layers.udp)
    rewrite_addresses(matrix, layers, src="192.0.2.1", rows=alive)
    rewrite_ports(matrix, layers, src=40000 + np.arange(len(matrix)), rows=alive)
    rewrite_macs(
        matrix, layers, src=b"\x02\xfe\0\0\0\1", dst=b"\x02\xfe\0\0\0\2", rows=alive
    )
    burst.scatter(matrix)
    return int(alive.sum())


def rate(
    handler: Callable[[memif.Burst], int],
    tx: memif.TxQueue,
    rx: memif.RxQueue,
    seconds: float,
) -> float:
    """Return packets a second, including sending and receiving in the same process."""
    matrix, packets = frames(256), 0
    start = time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        tx.send_array(matrix)
        with rx.recv(256, timeout=1.0) as burst:
            packets += handler(burst)
    return packets / spent


def main(seconds: float) -> None:
    """Run both ends in this process, so that one command is enough."""
    with memif.listen("@handlers", id=0) as master, memif.Socket("@handlers") as socket:
        slave = socket.interface(id=0)
        while not (master.up and slave.up):
            master.socket.poll(0.01)
            socket.poll(0.01)
        for handler in (route_loop, route_numpy, route_numba):
            tx, rx = slave.tx[0], master.rx[0]
            rate(handler, tx, rx, 0.01)  # numba compiles on the first call
            mpps = rate(handler, tx, rx, seconds) / 1e6
            print(f"{handler.__name__:12} {mpps:6.2f} Mpps")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0)
