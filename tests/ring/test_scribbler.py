"""Lengths that another thread changes without the interpreter lock, while packets are read and published."""

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from memif.errors import MemifError
from peers.settings import missing
from ring.memory import drain, pair

ROOM = 64
SLOTS = 4096


def scribbler() -> Any:
    """Writes plausible lengths for a while, then nonsense for a moment, again and again, until `flag` says stop."""
    try:
        import numba
    except ImportError:
        missing("numba is missing: pip install 'memif[numba]'")

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator]
    def scribble(lengths: Any, good: int, flag: Any) -> None:
        k = 0
        while flag[0] == 0 and k < 2_000_000_000:
            for i in range(lengths.size):
                lengths[i] = (0xFFFFFFF0 if (k >> 16) & 1 else 0) if (k >> 12) % 16 == 0 else good
                k += 1

    stop = np.ones(1, np.int64)
    scribble(np.zeros(4, np.uint32), 1, stop)
    return scribble


def published(memory: Any, ring: int) -> list[int]:
    """The lengths in all descriptors of a ring."""
    start = memory.slot_at(ring, 0)
    words = np.frombuffer(memory.map, np.uint32, 4 * memory.size, start).reshape(-1, 4)
    return [int(n) for n in np.unique(words[:, 1])]


def watch(use: Callable[[Any], Any], burst: Any, scribble: Any) -> int:
    """Repeat `use` until it gets past its own check of the lengths. -> how often it did (0 or 1)."""
    flag, lengths = np.zeros(1, np.int64), burst.lengths
    lengths[:] = 60
    thread = threading.Thread(target=scribble, args=(lengths, 60, flag))
    thread.start()
    try:
        for _ in range(300):
            try:
                use(burst)
                return 1
            except MemifError:
                pass
    finally:
        flag[0] = 1
        thread.join()
    return 0


USES: dict[str, Callable[[Any, Any], Any]] = {
    "send": lambda _end, burst: burst.send(),
    "swap": lambda end, burst: end.tx.forward(burst),
    "copy": lambda end, burst: end.tx.forward(burst, copy=True),
    "gather": lambda _end, burst: burst.gather(ROOM),
    "scatter": lambda _end, burst: burst.scatter(np.zeros((len(burst), ROOM), np.uint8)),
    "tobytes": lambda _end, burst: burst.tobytes(),
}


@pytest.mark.nosanitizer
@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", USES)
def test_lengths_changed_after_the_check(how: str) -> None:
    """Nothing outside a packet is read, written or published, whatever `lengths` holds meanwhile."""
    scribble = scribbler()
    deadline, done = time.monotonic() + 4, 0
    with pair(12, ROOM) as (memory, slave, master):
        rows = np.full((SLOTS, 60), 7, np.uint8)
        while time.monotonic() < deadline:
            if how == "send":
                burst = slave.tx.alloc(SLOTS, 60)
            else:
                master.tx.send_array(rows)
                burst = slave.rx.recv(SLOTS, timeout=0)
            done += watch(lambda b: USES[how](slave, b), burst, scribble) if len(burst) else 0
            burst.release()
            assert 1 <= min(n for n in published(memory, 0) if n) <= max(published(memory, 0)) <= ROOM
            assert all(1 <= len(packet) <= ROOM for packet in drain(master.rx))
            assert master.rx.stats["bad_descriptors"] == 0
            drain(slave.rx)
        assert done
