"""The end of a link frees a thread that a hostile peer made block on the event fd."""

import fcntl
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from memif.errors import MemifError
from patience import within
from ring.memory import End, pair

SENDS: dict[str, Callable[[End], Any]] = {
    "send": lambda end: end.tx.send([b"x"]),
    "send_array": lambda end: end.tx.send_array(memoryview(bytes(60)).cast("B", (1, 60))),
    "alloc": lambda end: end.tx.alloc(1, size=5).send(),
}


def keep_full(fd: int) -> int:
    """A process that fills the counter of the event fd whenever there is room in it. -> its id"""
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) & ~os.O_NONBLOCK)
    pid = os.fork()
    if pid == 0:
        parent = os.getppid()
        signal.alarm(30)
        while os.getppid() == parent:
            os.eventfd_write(fd, 1)
        os._exit(0)
    return pid


@pytest.mark.parametrize("how", SENDS)
def test_detach_frees_a_sender_although_the_peer_fills_the_fd_again(how: str) -> None:
    with pair(2, 64, events=True) as (memory, slave, _):
        fd = memory.events[0]
        os.eventfd_write(fd, 0xFFFFFFFFFFFFFFFE)
        filler = keep_full(fd)
        try:
            out = threading.Event()

            def send() -> None:
                try:
                    SENDS[how](slave)
                except MemifError:
                    pass
                out.set()

            thread = threading.Thread(target=send, daemon=True)
            thread.start()
            assert not out.wait(0.3)  # it is stuck
            start = time.monotonic()
            slave.owner.disconnect()
            assert out.wait(10)
            assert time.monotonic() - start < within(10)
            thread.join(10)
        finally:
            os.kill(filler, signal.SIGKILL)
            os.waitpid(filler, 0)


def test_no_interrupt_after_the_end() -> None:
    """A ring that is dead sends none, so nobody can get stuck there later."""
    with pair(2, 64, events=True) as (memory, slave, _):
        burst = slave.tx.alloc(1, size=5)
        slave.owner.disconnect()
        assert burst.send() == 0
        with pytest.raises(BlockingIOError):
            os.eventfd_read(memory.events[0])
