"""Packets that number themselves: a sequence number, words that follow from it, and a checksum over all of it."""

import time

import numpy as np
import numpy.typing as npt

import memif
from patience import within

#: Bytes of a packet.
WIDTH = 64
_WORDS = WIDTH // 8
_FACTORS = np.array([1, *(0x9E3779B97F4A7C15 * k % 2**64 | 1 for k in range(1, _WORDS - 1))], dtype=np.uint64)
_TIMEOUT = 150.0


def numbered(first: int, count: int) -> npt.NDArray[np.uint8]:
    """Return the packets `first` to ``first + count - 1`` as a matrix of WIDTH columns."""
    words = np.empty((count, _WORDS), dtype=np.uint64)
    np.multiply.outer(np.arange(first, first + count, dtype=np.uint64), _FACTORS, out=words[:, :-1])
    np.bitwise_xor.reduce(words[:, :-1], axis=1, out=words[:, -1])
    return words.view(np.uint8)


def check(matrix: npt.NDArray[np.uint8], first: int) -> None:
    """AssertionError unless the rows are the packets from `first` on, whole and in order."""
    words = matrix.view(np.uint64)
    expected = np.arange(first, first + len(words), dtype=np.uint64)
    if not (words[:, 0] == expected).all():
        wrong = int((words[:, 0] != expected).argmax())
        raise AssertionError(f"packet {first + wrong} is number {int(words[wrong, 0])}")
    assert not np.bitwise_xor.reduce(words, axis=1).any(), f"checksum wrong near packet {first}"


def send_numbered(queue: memif.TxQueue, count: int, *, first: int = 0, batch: int = 1024) -> None:
    """Send `count` packets from number `first` on."""
    deadline = time.monotonic() + within(_TIMEOUT)
    at, end = first, first + count
    while at < end:
        rows = numbered(at, min(batch, end - at))
        at += len(rows)
        while len(rows):
            sent = queue.send_array(rows)
            rows = rows[sent:]
            if not sent:
                assert time.monotonic() < deadline, f"stuck before packet {at - len(rows)}"
                time.sleep(0)


def receive_numbered(queue: memif.RxQueue, count: int, *, first: int = 0, burst_size: int = 256) -> None:
    """Receive and check `count` packets from number `first` on."""
    deadline = time.monotonic() + within(_TIMEOUT)
    at, end = first, first + count
    while at < end:
        with queue.recv(burst_size, timeout=1.0) as burst:
            assert (burst.lengths == WIDTH).all()
            rows = burst.gather(WIDTH)
        check(rows, at)
        at += len(rows)
        assert time.monotonic() < deadline, f"{at - first} of {count} packets"
    assert at == end
