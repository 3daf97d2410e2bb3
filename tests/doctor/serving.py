"""Links that live in threads, for a doctor in the same process."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import memif


@contextlib.contextmanager
def thread(turn: Callable[[], object], pause: float = 0.001) -> Iterator[None]:
    """Context: `turn` is called again and again in a thread."""
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            turn()
            time.sleep(pause)

    running = threading.Thread(target=run)
    running.start()
    try:
        yield
    finally:
        stop.set()
        running.join()


@contextlib.contextmanager
def serving(*ends: memif.Interface, work: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Context: the control channels of `ends` are served in a thread, which also does `work`."""

    def turn() -> None:
        for end in ends:
            end.socket.poll(0)
        work()

    with thread(turn):
        yield


@contextlib.contextmanager
def raw_listener(path: str, answer: Callable[[socket.socket], object]) -> Iterator[None]:
    """Context: a thread accepts each client of a socket of memif's type, and calls `answer` with it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(path)
        listener.listen(8)
        listener.settimeout(0.02)

        def turn() -> None:
            with contextlib.suppress(TimeoutError), listener.accept()[0] as client:
                client.settimeout(2.0)
                with contextlib.suppress(OSError):
                    answer(client)

        with thread(turn):
            yield
