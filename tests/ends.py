"""Both ends of a link in one test: the two in this process, or one in a child that can be killed."""

import contextlib
import os
import pickle
import select
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, NoReturn, Self

import memif
from patience import within

_RESULT_LIMIT = 1 << 20


def pump(*ends: memif.Interface | memif.Socket, until: Callable[[], Any], timeout: float = 5.0) -> None:
    """Poll the sockets of `ends` until `until` returns something true; AssertionError after `timeout` seconds."""
    sockets = {end.socket if isinstance(end, memif.Interface) else end for end in ends}
    deadline = time.monotonic() + within(timeout)
    while not until():
        assert time.monotonic() < deadline, f"still waiting after {timeout} s: {ends}"
        for sock in sockets:
            if sock.poll(0):
                break
        else:
            select.select(list(sockets), [], [], 0.01)


def all_up(*ends: memif.Interface, timeout: float = 5.0) -> None:
    """Poll until the link of each is up."""
    pump(*ends, until=lambda: all(end.up for end in ends), timeout=timeout)


@contextlib.contextmanager
def linked(
    path: str, *, master: dict[str, Any] | None = None, slave: dict[str, Any] | None = None, **both: Any
) -> Iterator[tuple[memif.Interface, memif.Interface]]:
    """Context: a master and a slave in this process, linked. `both` are options of the two."""
    with (
        memif.Socket(path, app_name="master's app") as listening,
        memif.Socket(path, app_name="slave's app") as connecting,
    ):
        server = listening.interface(role="master", **both, **(master or {}))
        client = connecting.interface(role="slave", **both, **(slave or {}))
        all_up(server, client)
        yield server, client


def receive(queue: memif.RxQueue, count: int, timeout: float = 5.0) -> list[bytes]:
    """Return the next `count` packets, copied; fewer if they do not come within `timeout` seconds."""
    packets: list[bytes] = []
    deadline = time.monotonic() + within(timeout)
    while len(packets) < count and (left := deadline - time.monotonic()) > 0:
        with queue.recv(min(count - len(packets), 256), timeout=left) as burst:
            packets += burst.tobytes()
    return packets


def send_all(queue: memif.TxQueue, packets: list[bytes], timeout: float = 10.0) -> None:
    """Send all, however often the ring is full meanwhile."""
    deadline = time.monotonic() + within(timeout)
    done = 0
    while done < len(packets):
        sent = queue.send(packets[done : done + 256])
        done += sent
        if not sent:
            assert time.monotonic() < deadline, f"{done} of {len(packets)} sent after {timeout} s"
            time.sleep(20e-6)


class Child:
    """A forked process that runs one function. Context manager: what still runs at its end is killed.

    The function must not use anything memif that was opened before the fork. Its result comes back pickled.
    """

    def __init__(self, run: Callable[..., object], *args: Any, cpu: int | None = None, limit: int = 50) -> None:
        """cpu: the only one it may use. limit: seconds after which the kernel ends it, whatever it does."""
        reader, writer = os.pipe()
        self._reader = reader
        self.status: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            _child(writer, cpu, limit, run, args)
        os.close(writer)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill9()
        os.close(self._reader)

    def signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def kill9(self) -> None:
        """End it without a chance to say goodbye."""
        if self.status is None:
            self.signal(signal.SIGKILL)
            self.status = os.waitpid(self.pid, 0)[1]

    def tells(self, timeout: float = 20.0) -> Any:
        """Return the next thing that the child's function yields, or its result; raise what it raised."""
        readable, _, _ = select.select([self._reader], [], [], timeout)
        assert readable, f"child {self.pid} said nothing within {timeout} s"
        size = int.from_bytes(_read_exactly(self._reader, 4), "little")
        good, value = pickle.loads(_read_exactly(self._reader, size))
        assert good, f"in the child:\n{value}"
        return value

    def joined(self, timeout: float = 20.0) -> Any:
        """Return the result once the process has ended by itself."""
        value = self.tells(timeout)
        self.status = os.waitpid(self.pid, 0)[1]
        assert self.status == 0, f"child ended with wait status {self.status}"
        return value


def _read_exactly(fd: int, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = os.read(fd, count - len(data))
        assert more, "the child ended without a word"
        data += more
    return data


def _child(writer: int, cpu: int | None, limit: int, run: Callable[..., object], args: tuple[Any, ...]) -> NoReturn:
    status = 1
    try:
        for number in (signal.SIGALRM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, limit)
        # Sockets of the test that stay open here would look alive to their peers after the test closed them.
        os.closerange(3, writer)
        os.closerange(writer + 1, 4096)
        if cpu is not None:
            os.sched_setaffinity(0, {cpu})
        _tell(writer, True, _run(writer, run, args))
        status = 0
    except BaseException:
        _tell(writer, False, traceback.format_exc())
    finally:
        os._exit(status)


def _run(writer: int, run: Callable[..., object], args: tuple[Any, ...]) -> object:
    result = run(*args)
    if not isinstance(result, Iterator):
        return result
    while True:
        try:
            value = next(result)
        except StopIteration as end:
            return end.value
        _tell(writer, True, value)


def _tell(writer: int, good: bool, value: object) -> None:
    data = pickle.dumps((good, value))
    assert len(data) < _RESULT_LIMIT
    os.write(writer, len(data).to_bytes(4, "little") + data)
