"""What no check can exclude, shown as it is; and that many attacks leave no more behind than one."""

import fcntl
import os
import signal
import threading
import time

import pytest

import memif
from children import in_child
from ends import linked
from hostile.test_cases import run
from hostile.victim import Victim
from memif.testing import CASES, Outcome, Resources
from memif.testing.cases.talk import altered
from patience import within


def block(iface: memif.Interface) -> None:
    """What a hostile peer does to the event fd on which it gets interrupts: full, and blocking."""
    fd = iface.tx[0].fileno()
    os.eventfd_write(fd, 0xFFFFFFFFFFFFFFFE)
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) & ~os.O_NONBLOCK)


SENDS = {
    "send": lambda queue: queue.send([b"x" * 60]),
    "send_array": lambda queue: queue.send_array(__import__("numpy").zeros((64, 60), "u1")),
    "alloc": lambda queue: queue.alloc(2, size=60).send(),
}


@pytest.mark.parametrize("how", SENDS)
@pytest.mark.parametrize("end", ["disconnect", "close", "signal"])
def test_a_blocking_event_fd(socket_path: str, how: str, end: str) -> None:
    """The thread that sends waits; the others run; a signal, or the end of the link, frees it."""
    with linked(socket_path) as (_, slave):
        block(slave)
        ticks = 0

        def free() -> None:
            nonlocal ticks
            deadline = time.monotonic() + 0.2
            while time.monotonic() < deadline:
                time.sleep(0.005)
                ticks += 1
            if end == "signal":
                os.kill(os.getpid(), signal.SIGUSR1)
            else:
                getattr(slave, end)()

        before = signal.signal(signal.SIGUSR1, lambda *_: None)
        thread = threading.Thread(target=free)
        thread.start()
        start = time.monotonic()
        try:
            SENDS[how](slave.tx[0])
        except memif.MemifError:
            pass
        waited = time.monotonic() - start
        thread.join()
        signal.signal(signal.SIGUSR1, before)
        assert 0.15 < waited < within(1.0)
        assert ticks > 10, "the interpreter lock was held"
        if end == "signal":
            with pytest.raises(memif.MemifDisconnectedError, match="interrupts"):
                slave.tx[0].send([b"x" * 60])
            assert not slave.up


@pytest.mark.nosanitizer  # which would report the SIGBUS that is meant to happen
def test_what_the_default_risks() -> None:
    """A client whose memory cannot be sealed kills the process by shrinking it. Nobody gets that far with
    seal="require", see the cases region-unsealable-strict and region-tmpfs-strict."""

    def child() -> int:
        case = CASES["region-unsealable"]
        with Victim(case) as victim:
            run(case, victim)
            os.ftruncate(victim.peer.memory_fds[0], 0)
            victim.under.rx[0].recv(timeout=0)
        return 0

    assert os.WTERMSIG(in_child(child)) == signal.SIGBUS
    assert CASES["region-unsealable-strict"].outcome is Outcome.REFUSED
    assert altered is not None


@pytest.mark.nosanitizer  # which keeps freed memory for a while
def test_nothing_piles_up() -> None:
    """Some cases of each kind, in rounds: after the first rounds memory, descriptors and threads stay as they are."""
    names = [
        "ring-cookie",
        "region-no-fd",
        "type-65535",
        "leaves-after-m2s",
        "init-with-250-fds",
        "secret-wrong",
        "slave-index-half-way-round",
        "slave-region-1",
        "slave-chain-without-end",
        "slave-offers-length-0",
        "master-ack-for-connect",
        "master-index-backwards",
        "master-length-2-32",
        "region-smaller-than-said",
        "memory-shrinks",
        "master-leaves-at-connect",
        "goodbye-with-escapes",
        "not-authorized",
    ]

    def round_of_attacks() -> tuple[list[int], int]:
        for name in names:
            with Victim(CASES[name]) as victim:
                run(CASES[name], victim)
        with open("/proc/self/status") as status:
            rss = next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))
        return [len(kind) for kind in Resources.now()], rss

    rounds = [round_of_attacks() for _ in range(8)]
    assert rounds[-1][0] == rounds[2][0]
    assert rounds[-1][1] - rounds[2][1] < 1024, rounds
