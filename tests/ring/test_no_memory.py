"""MemoryError at each allocation in turn: no crash, and every packet and slot is still there."""

import contextlib
import gc
import signal
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from children import in_child
from memif.errors import MemifValueError
from peers.settings import missing
from ring.memory import End, drain, pair, take

PACKETS = [b"a" * 60, b"b" * 200, b"c" * 10]
MATRIX = np.full((3, 60), 5, np.uint8)
ROWS = np.zeros((3, 64), np.uint8)
CHOICE = np.ones(3, bool)


def iterate(_sender: End, receiver: End) -> None:
    for burst in receiver.rx:
        burst.release()
        break


def received(use: Callable[[Any], Any]) -> Callable[[End, End], None]:
    def run(_sender: End, receiver: End) -> None:
        with receiver.rx.recv(8, timeout=0) as burst:
            use(burst)

    return run


def refused(burst: Any) -> None:
    """An error of ours is made without memory."""
    with contextlib.suppress(MemifValueError):
        burst.gather(0)


def allocated(use: Callable[[Any], Any]) -> Callable[[End, End], None]:
    def run(_sender: End, receiver: End) -> None:
        with receiver.tx.alloc(2, size=100) as burst:
            use(burst)

    return run


USES: dict[str, Callable[[End, End], Any]] = {
    "recv": received(lambda b: None),
    "index": received(lambda b: (b[0], b[1], b[-1])),
    "slice": received(lambda b: b[:]),
    "list": received(list),
    "fragments": received(lambda b: b.fragments(1)),
    "tobytes": received(lambda b: b.tobytes()),
    "lengths": received(lambda b: b.lengths),
    "columns": received(lambda b: (b.offsets, b.pieces, b.regions, b.flags)),
    "memory": received(lambda b: b.memory),
    "gather": received(lambda b: b.gather(64)),
    "gather out": received(lambda b: b.gather(64, ROWS)),
    "scatter": received(lambda b: b.scatter(ROWS)),
    "wrong": received(refused),
    "forward": lambda s, r: r.tx.forward(r.rx.recv(8, timeout=0), select=CHOICE),
    "send": lambda s, r: r.tx.send([b"x", bytearray(b"y"), b"z" * 200]),
    "send_array": lambda s, r: r.tx.send_array(MATRIX),
    "send_array lengths": lambda s, r: r.tx.send_array(MATRIX, [1, 2, 3]),
    "alloc": allocated(lambda b: None),
    "alloc views": allocated(lambda b: [v.tobytes() for v in b.fragments(0)]),
    "alloc scatter": allocated(lambda b: b.scatter(ROWS[:2])),
    "iteration": iterate,
    "stats": lambda s, r: (r.rx.stats, repr(r.rx), r.tx.free(), r.rx.wait(0)),
}


def survive(use: Callable[[End, End], Any]) -> int:
    import _testcapi  # type: ignore[import-not-found, unused-ignore]

    signal.alarm(60)  # a child that hangs must not outlive the test

    for persistent in (False, True):
        for side in range(2):
            failed = True
            number = 0
            while failed and number < 400:
                number += 1
                failed = False
                with pair(4, 64) as (_, *ends):
                    sender, receiver = ends[side], ends[1 - side]
                    sender.tx.send(PACKETS)
                    use(sender, receiver)  # everything is loaded; what it sent or received is put away
                    drain(sender.rx), drain(receiver.rx)
                    sender.tx.send(PACKETS)
                    _testcapi.set_nomemory(number, 0 if persistent else number + 1)
                    try:
                        use(sender, receiver)
                    except MemoryError:
                        failed = True
                    except Exception:
                        failed = True
                    finally:
                        _testcapi.remove_mem_hooks()
                    gc.collect()
                    sys.exc_info()
                    left = drain(receiver.rx)
                    if left not in (PACKETS, []):
                        return 1
                    drain(sender.rx)
                    if sender.tx.free() != 16 or receiver.tx.free() != 16:
                        return 2
                    if sender.tx.send([b"on"]) != 1 or take(receiver.rx) != [b"on"]:
                        return 3
            if number == 400:
                return 4
    return 0


@pytest.mark.nosanitizer
@pytest.mark.timeout(120)
@pytest.mark.parametrize("what", USES)
def test_no_memory(what: str) -> None:
    try:
        import _testcapi  # noqa: F401
    except ImportError:
        missing("this Python comes without its _testcapi module")
    assert in_child(lambda: survive(USES[what])) == 0
