"""Two processes, both directions at once, every call of the API at random: no packet is lost, doubled or changed.

MEMIF_LONG=1 in the environment sends ten million packets each way.
"""

import hashlib
import os
import random
import time
import traceback
import zlib
from collections.abc import Callable

import numpy as np
import pytest

from memif.ring import Burst, TxQueue
from patience import within
from ring.memory import End, Memory

PACKETS = 10_000_000 if os.environ.get("MEMIF_LONG") else 60_000
ROOM = 256
SHORTEST, LONGEST = 12, 3 * ROOM
FILLING = np.frombuffer(hashlib.shake_128(b"memif").digest(LONGEST + 65536), np.uint8)
Rows = tuple[np.ndarray, np.ndarray]


def make(number: int, count: int, longest: int) -> Rows:
    """Packets `number` and so on as (matrix, lengths). Each begins with its number, its length and a checksum."""
    chance = np.random.default_rng(number)
    lengths = chance.integers(SHORTEST, longest + 1, count).astype(np.uint32)
    numbers = np.arange(number, number + count, dtype=np.uint32)
    matrix = np.empty((count, longest), np.uint8)
    start = number % 65536
    matrix[:] = FILLING[start : start + longest]
    matrix[:, 0:4] = numbers.view(np.uint8).reshape(-1, 4)
    matrix[:, 4:8] = lengths.view(np.uint8).reshape(-1, 4)
    for row, length in zip(matrix, lengths, strict=True):
        row[8:12] = np.frombuffer(zlib.crc32(row[12:length]).to_bytes(4, "little"), np.uint8)
    return matrix, lengths


def send(tx: TxQueue, matrix: np.ndarray, lengths: np.ndarray) -> int:
    return tx.send([row[:n].tobytes() for row, n in zip(matrix, lengths, strict=True)])


def send_views(tx: TxQueue, matrix: np.ndarray, lengths: np.ndarray) -> int:
    return tx.send([memoryview(row)[:n] for row, n in zip(matrix, lengths, strict=True)])


def send_array(tx: TxQueue, matrix: np.ndarray, lengths: np.ndarray) -> int:
    return tx.send_array(matrix, lengths)


def send_in_place(tx: TxQueue, matrix: np.ndarray, lengths: np.ndarray) -> int:
    """All reserved at the largest size; some are given up again."""
    with tx.alloc(len(matrix), size=int(lengths[0])) as burst:
        # Only packets of about the first one's length fit into what was reserved: their last piece has to be the same.
        count = 0
        for i in range(len(burst)):
            pieces = burst.fragments(i)
            before = sum(map(len, pieces[:-1]))
            if not before < lengths[i] <= before + ROOM // 2:
                break
            burst.lengths[i] = lengths[i]
            at = 0
            for piece in burst.fragments(i):
                piece[:] = matrix[i, at : at + len(piece)]
                at += len(piece)
            count += 1
        return burst.send(count) if burst else 0


SENDERS: list[Callable[[TxQueue, np.ndarray, np.ndarray], int]] = [
    send,
    send_views,
    send_array,
    send_array,
    send_in_place,
]


def check(packets: list[bytes], number: int) -> int:
    """Exactly packets `number` and so on. -> the next number."""
    for data in packets:
        found, length, checksum = np.frombuffer(data[:12], np.uint32).tolist()
        if (found, length, checksum) != (number, len(data), zlib.crc32(data[12:])):
            raise AssertionError(f"packet {number}: got number {found}, length {length} in {len(data)} bytes")
        number += 1
    return number


def read_all(burst: Burst, turn: int) -> list[bytes]:
    """The packets, by one of the ways."""
    if turn % 3 == 0:
        return burst.tobytes()
    if turn % 3 == 1:
        return [bytes(packet) for packet in burst]
    rows, lengths = burst.gather(LONGEST), burst.lengths
    return [row[:n].tobytes() for row, n in zip(rows, lengths, strict=True)]


def work(end: End, seed: int, deadline: float) -> None:
    """Send PACKETS and receive as many, at random; raise at the first that is wrong."""
    chance = random.Random(seed)
    sent = received = turn = 0
    held: list[Burst] = []
    end.rx.mode = chance.choice(("interrupt", "polling", "adaptive"))
    matrix, lengths = make(0, 0, LONGEST)
    while sent < PACKETS or received < PACKETS:
        turn += 1
        if sent < PACKETS:
            if not len(matrix):
                matrix, lengths = make(
                    sent, min(chance.choice((1, 7, 64, 300)), PACKETS - sent), chance.choice((60, LONGEST))
                )
            few = chance.choice((1, 8, 9, 300))
            accepted = chance.choice(SENDERS)(end.tx, matrix[:few], lengths[:few])
            sent += accepted
            matrix, lengths = matrix[accepted:], lengths[accepted:]
        burst = end.rx.recv(chance.choice((1, 8, 9, 64, 512)), timeout=chance.choice((0, 0, 0, 0.0005)))
        received = check(read_all(burst, turn), received)
        if burst:
            held.append(burst)
        while len(held) > 4 or (held and chance.random() < 0.7):
            held.pop(chance.randrange(len(held))).release()
        if turn % 1000 == 0 and time.monotonic() > deadline:
            raise AssertionError(f"too slow: {sent} sent, {received} received of {PACKETS}")
    for burst in held:
        burst.release()
    assert end.rx.stats["packets"] == end.tx.stats["packets"] == PACKETS
    assert end.rx.stats["bad_descriptors"] == 0
    assert not end.owner.complaints


def in_two_processes(parent: Callable[[], None], child: Callable[[], None]) -> None:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            child()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    try:
        parent()
    except BaseException:
        os.kill(pid, 9)
        raise
    finally:
        status = os.waitpid(pid, 0)[1]
    assert status == 0


@pytest.mark.timeout(7200 if "MEMIF_LONG" in os.environ else 60)
@pytest.mark.parametrize("log2", [3, 10])
def test_both_directions(log2: int) -> None:
    """The child is the slave in a memory that the parent has prepared."""
    seconds = 7000.0 if "MEMIF_LONG" in os.environ else 50.0
    with Memory(log2, ROOM, headroom=32, events=True) as memory:
        memory.prepare()
        deadline = time.monotonic() + within(seconds)

        in_two_processes(
            lambda: work(memory.master(), 2, deadline),
            lambda: work(End(*memory.rings(slave=True)), 1, deadline),
        )


def reflect(end: End, seed: int, deadline: float) -> None:
    """Forward all that comes, in parts, by exchange or by copy."""
    chance = random.Random(seed)
    passed = 0
    while passed < PACKETS:
        with end.rx.recv(chance.choice((1, 8, 64, 256)), timeout=chance.choice((0, 0.001))) as burst:
            done, total = 0, len(burst)
            while done < total:
                assert time.monotonic() < deadline, f"too slow: {passed} passed on of {PACKETS}"
                stop = min(done + chance.choice((1, 5, 500)), total)
                done += end.tx.forward(burst, start=done, stop=stop, copy=chance.random() < 0.5)
            passed += total
    assert not end.owner.complaints


def there_and_back(end: End, seed: int, deadline: float) -> None:
    """Send PACKETS, and receive each again."""
    chance = random.Random(seed)
    sent = received = turn = 0
    matrix, lengths = make(0, 0, LONGEST)
    while received < PACKETS:
        turn += 1
        assert time.monotonic() < deadline, f"too slow: {sent} sent, {received} received of {PACKETS}"
        if not len(matrix) and sent < PACKETS:
            matrix, lengths = make(sent, min(300, PACKETS - sent), chance.choice((60, LONGEST)))
        if len(matrix):
            accepted = end.tx.send_array(matrix, lengths)
            sent += accepted
            matrix, lengths = matrix[accepted:], lengths[accepted:]
        with end.rx.recv(256, timeout=0 if sent < PACKETS else 0.001) as burst:
            received = check(read_all(burst, turn), received)


@pytest.mark.timeout(7200 if "MEMIF_LONG" in os.environ else 60)
@pytest.mark.parametrize("headroom", [0, 64])
def test_a_slave_that_sends_all_back(headroom: int) -> None:
    """Buffers change places between the slave's two rings all the time."""
    seconds = 7000.0 if "MEMIF_LONG" in os.environ else 50.0
    with Memory(8, ROOM, headroom=headroom, events=True) as memory:
        memory.prepare()
        deadline = time.monotonic() + within(seconds)
        in_two_processes(
            lambda: there_and_back(memory.master(), 3, deadline),
            lambda: reflect(End(*memory.rings(slave=True)), 4, deadline),
        )
