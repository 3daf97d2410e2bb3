"""A MemifSocket under every way to wait: told of what comes, not told again of what was taken, and of the end."""

import asyncio
import contextlib
import os
import resource
import select
import selectors
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from scapy.automaton import select_objects
from scapy.layers.l2 import Ether
from scapy.packet import Packet
from scapy.pipetool import PipeEngine, QueueSink
from scapy.scapypipes import InjectSink, SniffSource
from scapy.sendrecv import AsyncSniffer, sniff

import memif
from ends import linked, pump
from memif.interface import endpoint_of
from memif.scapy import MemifSocket

FRAME = Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:02", type=0x88B5) / (b"x" * 46)


@contextlib.contextmanager
def sockets(path: str, **options: object) -> Iterator[tuple[MemifSocket, MemifSocket]]:
    """Context: two Scapy sockets, the two ends of a link."""
    with linked(path, **options) as (server, client), MemifSocket(server) as left, MemifSocket(client) as right:
        yield left, right


def by_select(sock: MemifSocket, timeout: float) -> bool:
    """Whether the system's select says so."""
    return bool(select.select([sock], [], [], timeout)[0])


def by_poll(sock: MemifSocket, timeout: float) -> bool:
    """Whether poll says so, asked for the descriptor anew."""
    poller = select.poll()
    poller.register(sock.fileno(), select.POLLIN)
    return bool(poller.poll(1000 * timeout))


def by_scapy(sock: MemifSocket, timeout: float) -> bool:
    """What PipeEngine and Automaton use."""
    return bool(select_objects([sock], timeout))


def by_own(sock: MemifSocket, timeout: float) -> bool:
    """What sniff uses."""
    return bool(MemifSocket.select([sock], timeout))


WAYS = [by_select, by_poll, by_scapy, by_own]


@pytest.mark.parametrize("way", WAYS)
def test_told_while_there_is_something_and_no_longer(
    socket_path: str, way: Callable[[MemifSocket, float], bool]
) -> None:
    """Before any other call; of all that wait, however few are taken; not any more when all were; and at the end."""
    with sockets(socket_path) as (left, right):
        for count in (1, 2, 5):
            for _ in range(count):
                right.send(FRAME)
            for _ in range(count):
                assert way(left, 2.0)
                assert left.recv() is not None
            assert not way(left, 0.05)
        timer = threading.Timer(0.1, right.send, [FRAME])
        timer.start()
        assert way(left, 5.0)
        assert left.recv() is not None
        timer.join()
        right.interface.close()
        assert way(left, 2.0)
        for _ in range(2):
            with pytest.raises(EOFError):
                left.recv()
            assert way(left, 2.0)


@pytest.mark.parametrize("way", WAYS)
def test_recv_waits_after_any_way(socket_path: str, way: Callable[[MemifSocket, float], bool]) -> None:
    """The answer that something is there is for one recv: the next one waits."""
    with sockets(socket_path) as (left, right):
        right.send(FRAME)
        assert way(left, 2.0)
        assert left.recv() is not None
        timer = threading.Timer(0.2, right.send, [FRAME])
        timer.start()
        start = time.monotonic()
        assert left.recv() is not None
        assert time.monotonic() - start >= 0.15
        timer.join()


@pytest.mark.parametrize("before", ["sniff", "sr1", "select in vain", "sniff in vain", "async sniffer"])
def test_recv_waits_after_scapys_functions(socket_path: str, before: str) -> None:
    """None of them leaves an answer behind."""
    with sockets(socket_path) as (left, right):
        if before == "select in vain":
            assert left.select([left], 0.01) == []
        elif before == "sniff in vain":
            assert len(left.sniff(timeout=0.05)) == 0
        elif before == "async sniffer":
            sniffer = AsyncSniffer(opened_socket=left)
            sniffer.start()
            right.send(FRAME)
            time.sleep(0.2)
            assert len(sniffer.stop()) == 1
        elif before == "sniff":
            right.send(FRAME)
            assert len(left.sniff(count=1, timeout=2)) == 1
        else:
            assert left.sr1(FRAME, timeout=0.1, verbose=0) is None
            assert right.recv() is not None
        timer = threading.Timer(0.2, right.send, [FRAME])
        timer.start()
        start = time.monotonic()
        assert bytes(left.recv()) == bytes(FRAME)
        assert time.monotonic() - start >= 0.15
        timer.join()


def test_registered_once(socket_path: str) -> None:
    """As selectors and event loops do it, from before the link is up; the control channel is served by recv alone."""
    with memif.listen(socket_path) as server, MemifSocket(server) as left, selectors.DefaultSelector() as selector:
        selector.register(left, selectors.EVENT_READ)
        got: list[Packet] = []

        def take(count: int) -> None:
            deadline = time.monotonic() + 10
            while len(got) < count and time.monotonic() < deadline:
                for _ in selector.select(1.0):
                    packet = left.recv()
                    if packet is not None:
                        got.append(packet)

        ready = threading.Event()

        def peer() -> None:
            with MemifSocket(socket_path, timeout=10) as right:
                for _ in range(40):
                    right.send(FRAME)
                    time.sleep(0.001)
                ready.wait(10)

        thread = threading.Thread(target=peer)
        thread.start()
        take(40)
        assert len(got) == 40
        assert selector.select(0.05) == []
        ready.set()
        thread.join()
        assert selector.select(2.0) != []
        with pytest.raises(EOFError):
            left.recv()


def test_an_event_loop(socket_path: str) -> None:
    """loop.add_reader."""

    async def main(left: MemifSocket, right: MemifSocket) -> int:
        loop, done, got = asyncio.get_running_loop(), asyncio.Event(), []

        def readable() -> None:
            packet = left.recv()
            if packet is not None:
                got.append(packet)
            if len(got) == 30:
                done.set()

        loop.add_reader(left.fileno(), readable)
        for i in range(30):
            right.send(FRAME)
            await asyncio.sleep(0.002 * (i % 2))
        await asyncio.wait_for(done.wait(), 5)
        loop.remove_reader(left.fileno())
        return len(got)

    with sockets(socket_path) as (left, right):
        assert asyncio.run(main(left, right)) == 30


@pytest.mark.parametrize("queues", [1, 3])
def test_pipe_engine(socket_path: str, queues: int) -> None:
    """SniffSource reads a memif, InjectSink writes one; the engine stops at once, with packets or without."""
    both = {"slave": {"rx_queues": queues, "tx_queues": queues}}
    with (
        sockets(socket_path, **both) as (left, west),
        sockets(socket_path + "2") as (east, right),
    ):
        source, queue = SniffSource(socket=west), QueueSink()
        inject = InjectSink()
        inject.start = inject.stop = lambda: None  # type: ignore[method-assign]  # it would open a socket of its own
        inject.s = east
        source > queue  # noqa: B015
        source > inject  # noqa: B015
        engine = PipeEngine(source)
        engine.start()
        time.sleep(0.2)
        for i in range(20):
            left.interface.tx[i % queues].send([bytes(FRAME)])
        assert [queue.recv(timeout=5) is not None for _ in range(20)] == [True] * 20
        assert len(right.sniff(count=20, timeout=5)) == 20
        endpoint_of(left.interface).serve()
        stopper = threading.Thread(target=engine.stop)
        stopper.start()
        stopper.join(5)
        assert not stopper.is_alive()
        assert west.closed
        assert west.fileno() == -1


def test_pipe_engine_ends_with_the_link(socket_path: str) -> None:
    """The source is exhausted, so the engine ends by itself; a link that is not up yet is none that has ended."""
    with memif.listen(socket_path) as server:
        source, queue = SniffSource(socket=MemifSocket(server)), QueueSink()
        source > queue  # noqa: B015
        engine = PipeEngine(source)
        engine.start()
        with MemifSocket(socket_path) as right:
            right.send(FRAME)
            assert queue.recv(timeout=5) is not None
        stopper = threading.Thread(target=engine.wait_and_stop)
        stopper.start()
        stopper.join(10)
        assert not stopper.is_alive()


def packets_and_end(sniffer: AsyncSniffer, timeout: float = 5.0) -> int:
    """How many it has, once it has ended by itself, without an exception."""
    sniffer.join(timeout=timeout)
    assert not sniffer.running
    assert sniffer.exception is None
    return len(sniffer.results)


@pytest.mark.parametrize(
    ("what", "up"),
    [("socket", True), ("interface", True), ("peer", True), ("socket", False), ("interface", False)],
)
def test_closed_under_a_sniffer(socket_path: str, what: str, up: bool) -> None:
    """It ends with what it has, whichever end was closed, in its sleep."""
    with memif.listen(socket_path) as server, contextlib.ExitStack() as stack:
        left = MemifSocket(server)
        sniffer = AsyncSniffer(opened_socket=left)
        sniffer.start()
        if up:
            right = stack.enter_context(MemifSocket(socket_path))
            right.send(FRAME)
        time.sleep(0.2)
        {"socket": left, "interface": server, "peer": stack}[what].close()
        assert packets_and_end(sniffer) == up
        assert left.closed
        assert left.fileno() == -1
        with pytest.raises(memif.MemifClosedError):
            left.send(FRAME)
        with pytest.raises(EOFError):
            left.recv()


def test_closed_while_the_sniffer_is_busy(socket_path: str) -> None:
    """Between two packets, also when another class of sockets waits for both."""

    class Other(MemifSocket):
        select = staticmethod(lambda sockets, remain=None: select.select(sockets, [], [], remain)[0])

    for kind in (MemifSocket, Other):
        with linked(socket_path) as (server, client), MemifSocket(client) as right:
            left, entered, closed = kind(server), threading.Event(), threading.Event()

            def busy(_: Packet, entered: threading.Event = entered, closed: threading.Event = closed) -> None:
                entered.set()
                closed.wait(5)

            sniffer = AsyncSniffer(opened_socket=left, prn=busy)
            sniffer.start()
            right.send(FRAME)
            assert entered.wait(5)
            left.close()
            closed.set()
            assert packets_and_end(sniffer) == 1
            assert left.fileno() == -1


def test_recv_in_another_thread_ends_with_close(socket_path: str) -> None:
    """It raises EOFError instead of waiting for ever."""
    with sockets(socket_path) as (left, _):
        errors: list[BaseException] = []

        def read() -> None:
            try:
                left.recv()
            except EOFError as error:
                errors.append(error)

        thread = threading.Thread(target=read)
        thread.start()
        time.sleep(0.1)
        left.close()
        thread.join(5)
        assert not thread.is_alive()
        assert len(errors) == 1


def test_other_sockets_that_are_closed(socket_path: str) -> None:
    """A closed socket of another class in the same sniff does not take the results with it."""
    with sockets(socket_path) as (left, right), linked(socket_path + "2") as (server, _):
        closed = MemifSocket(server)
        closed.close()
        right.send(FRAME)
        assert len(sniff(opened_socket=[left, closed], count=1, timeout=2)) == 1


def test_many_open_descriptors(socket_path: str) -> None:
    """Beyond the 1024 that select takes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 1300:
        pytest.skip(f"RLIMIT_NOFILE is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1300), hard))
    extra = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
    try:
        with sockets(socket_path) as (left, right):
            right.send(FRAME)
            assert left.recv() is not None
            right.send(FRAME)
            assert MemifSocket.select([left], 2.0) == [left]
    finally:
        for fd in extra:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_queues_take_turns(socket_path: str) -> None:
    """A busy queue does not shut the others out."""
    with sockets(socket_path, slave={"rx_queues": 2, "tx_queues": 2}) as (left, right):
        first, second = right.interface.tx
        first.send([bytes(FRAME)] * 50)
        second.send([b"\xff" * 60])
        pump(left.interface, right.interface, until=lambda: True)
        assert any(left.recv().dst == "ff:ff:ff:ff:ff:ff" for _ in range(3))
