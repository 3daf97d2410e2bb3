"""Whoever waits for packets learns of them, in every mode and by every way to wait; and is not told again for nothing.

The peer here signals as the ring's flag asks it to, so every wake-up that is missing is this side's fault.
"""

import contextlib
import select
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import memif
from ends import pump, receive
from memif.interface import endpoint_of

MODES = ["interrupt", "polling", "adaptive"]
ROLES = ["master", "slave"]
#: Seconds in which a waiter has to be told; how long one looks whether it is told for nothing.
SOON, QUIET = 5.0, 0.05
modes = pytest.mark.parametrize("mode", MODES)
roles = pytest.mark.parametrize("role", ROLES)


class Side:
    """The receiving end of a link, the other end, and what on_interrupt was told."""

    def __init__(self, here: memif.Interface, there: memif.Interface, calls: list[int]) -> None:
        self.here, self.there, self.calls = here, there, calls
        self.rx, self.tx = here.rx[0], there.tx[0]
        self.fd = -1


@contextlib.contextmanager
def side(
    role: str, mode: str, *, on_interrupt: bool = False, here: dict[str, Any] | None = None, **both: Any
) -> Iterator[Side]:
    calls: list[int] = []
    options: dict[str, Any] = {"rx_mode": mode, **(here or {})}
    if on_interrupt:
        options["on_interrupt"] = lambda _, qid: calls.append(qid)
    other = "slave" if role == "master" else "master"
    with memif.testing.pair(**{role: options, other: {}}, **both) as (master, slave):
        yield Side(master, slave, calls) if role == "master" else Side(slave, master, calls)


# -- ways to wait: each says whether it was told of a packet, and takes none


def by_select(end: Side, timeout: float) -> bool:
    return bool(select.select([end.rx], [], [], timeout)[0])


def by_old_fd(end: Side, timeout: float) -> bool:
    """As an epoll does that was told of the descriptor when the link came up."""
    return bool(select.select([end.fd], [], [], timeout)[0])


def by_callback(end: Side, timeout: float) -> bool:
    before, limit = len(end.calls), time.monotonic() + timeout
    while len(end.calls) == before and (left := limit - time.monotonic()) > 0:
        end.here.socket.poll(left)
    return len(end.calls) > before


def by_wait(end: Side, timeout: float) -> bool:
    return end.rx.wait(timeout)


def by_many(end: Side, timeout: float) -> bool:
    return memif.wait([end.there.rx[0], end.rx], timeout) == [end.rx]


WAYS: dict[str, Callable[[Side, float], bool]] = {
    "select": by_select,
    "fd": by_old_fd,
    "on_interrupt": by_callback,
    "wait": by_wait,
    "memif.wait": by_many,
}
ways = pytest.mark.parametrize("way", WAYS)


@contextlib.contextmanager
def waiting(role: str, mode: str, way: str, **both: Any) -> Iterator[tuple[Side, Callable[[float], bool]]]:
    with side(role, mode, on_interrupt=way == "on_interrupt", **both) as end:
        if way == "fd":
            end.fd = end.rx.fileno()
        yield end, lambda timeout: WAYS[way](end, timeout)


def told_once(end: Side, told: Callable[[float], bool], packets: list[bytes]) -> None:
    """A waiter is told for as long as anything is there, whatever sizes it is taken in, and then no more."""
    got: list[bytes] = []
    while len(got) < len(packets):
        assert told(SOON), f"{len(got)} of {len(packets)}"
        with end.rx.recv(7, timeout=0) as burst:
            assert burst
            got += burst.tobytes()
    assert got == packets
    end.rx.recv(timeout=0).release()
    assert not told(QUIET)


def some(count: int, first: int = 0) -> list[bytes]:
    return [b"%d" % number for number in range(first, first + count)]


@modes
@roles
@ways
def test_packets_there_and_packets_to_come(way: str, role: str, mode: str) -> None:
    with waiting(role, mode, way) as (end, told):
        for round_ in range(3):
            packets = some(20, 20 * round_)
            assert end.tx.send(packets) == 20
            told_once(end, told, packets)
            timer = threading.Timer(0.05, end.tx.send, ([b"later"],))
            timer.start()
            told_once(end, told, [b"later"])
            timer.join()


@roles
@ways
@pytest.mark.parametrize("before", MODES)
@pytest.mark.parametrize("after", MODES)
def test_a_mode_that_changes_while_packets_wait(way: str, role: str, before: str, after: str) -> None:
    with waiting(role, before, way) as (end, told):
        end.tx.send(some(3))
        end.rx.mode = after
        told_once(end, told, some(3))
        end.tx.send(some(3))
        told_once(end, told, some(3))


@modes
@roles
@ways
def test_chains_that_do_not_fit_the_columns(way: str, role: str, mode: str) -> None:
    """`recv` returns fewer than asked for although a packet waits."""
    with waiting(role, mode, way, buffer_size=64) as (end, told):
        packets = [b"a" * 60] * 40 + [b"c" * 64 * 30]
        for _ in range(40):  # goes across the end of the ring in the course of it
            assert end.tx.send(packets) == 41
            assert told(SOON)
            with end.rx.recv(64, timeout=0) as burst:
                got = burst.tobytes()
            while len(got) < 41:
                assert told(SOON)
                with end.rx.recv(64, timeout=0) as burst:
                    got += burst.tobytes()
            assert got == packets
        end.rx.recv(timeout=0).release()
        assert not told(QUIET)


@modes
@roles
@ways
def test_a_chain_across_the_wrap(way: str, role: str, mode: str) -> None:
    with waiting(role, mode, way, buffer_size=64, ring_size=8) as (end, told):
        for _ in range(9):
            packets = [b"x" * 60, b"y" * 300]
            assert end.tx.send(packets) == 2
            told_once(end, told, packets)


@modes
@roles
@ways
def test_a_packet_that_fills_the_ring(way: str, role: str, mode: str) -> None:
    with waiting(role, mode, way, buffer_size=64, ring_size=4) as (end, told):
        for at in range(4):
            assert end.tx.send([bytes([at]) * 256]) == 1
            told_once(end, told, [bytes([at]) * 256])
            assert end.tx.send([b"shift"]) == 1
            told_once(end, told, [b"shift"])


@modes
@roles
@ways
def test_a_blocking_call_leaves_the_rest_to_others(way: str, role: str, mode: str) -> None:
    """It sleeps on the same descriptor, and must not keep its wake-ups."""
    with waiting(role, mode, way) as (end, told):
        for call in (lambda: receive(end.rx, 3), lambda: end.rx.wait(SOON)):
            timer = threading.Timer(0.05, end.tx.send, (some(10),))
            timer.start()
            call()
            timer.join()
            assert told(SOON)
            receive(end.rx, 7 if call() is not True else 10, 0.1)
            end.rx.recv(timeout=0).release()
            assert not told(QUIET)


@modes
@roles
@pytest.mark.parametrize("way", ["select", "on_interrupt", "wait", "memif.wait"])
def test_after_a_reconnect(way: str, role: str, mode: str) -> None:
    with waiting(role, mode, way) as (end, told):
        end.tx.send(some(1))
        told_once(end, told, some(1))
        end.there.disconnect("again")
        pump(end.here, end.there, until=lambda: not end.here.up and not end.there.up)
        pump(end.here, end.there, until=lambda: end.here.up and end.there.up)
        end.tx.send(some(2))
        told_once(end, told, some(2))


@modes
@roles
def test_what_a_peer_left_behind_is_told_of(role: str, mode: str) -> None:
    """By on_interrupt before on_disconnect; by fileno() as long as it is there."""
    order: list[object] = []

    def interrupted(iface: memif.Interface, qid: int) -> None:
        with iface.rx[qid].recv(2, timeout=0) as burst:
            order.extend(burst.tobytes())

    def ended(iface: memif.Interface) -> None:
        order.append("end")
        assert iface.rx[0].fileno() >= 0
        assert iface.tx[0].fileno() >= 0

    with side(role, mode, here={"on_interrupt": interrupted, "on_disconnect": ended}) as end:
        end.tx.send(some(5))
        end.there.close()
        endpoint_of(end.here).serve()  # what a call on any queue does
        pump(end.here, until=lambda: not end.here.up)
        assert order == [b"0", b"1", "end"]
        for number in (2, 3, 4):
            assert select.select([end.rx], [], [], 0)[0]
            assert memif.wait([end.rx], 0) == [end.rx]
            with end.rx.recv(1, timeout=0) as burst:
                assert burst.tobytes() == [b"%d" % number]
        for call in (end.rx.fileno, lambda: end.rx.recv(timeout=0), lambda: memif.wait([end.rx], 0)):
            with pytest.raises(memif.MemifDisconnectedError):
                call()


def test_a_queue_can_be_unregistered_in_on_disconnect(socket_path: str) -> None:
    """As the page on event loops says; then the one of the next link registered, also under the same number."""
    selector, log = select.epoll(), []

    def connected(iface: memif.Interface) -> None:
        selector.register(iface.rx[0], select.EPOLLIN)
        log.append("+")

    def ended(iface: memif.Interface) -> None:
        selector.unregister(iface.rx[0])
        log.append("-")

    with selector, memif.listen(socket_path) as master, memif.Socket(socket_path) as socket:
        slave = socket.interface(on_connect=connected, on_disconnect=ended, reconnect=0.05)
        for round_ in range(3):
            pump(master, slave, until=lambda: master.up and slave.up)
            master.tx[0].send([b"x"])
            assert selector.poll(SOON)
            receive(slave.rx[0], 1)
            (master if round_ else slave).disconnect()
            pump(master, slave, until=lambda: log[-1] == "-")
        slave.close()
        assert "".join(log) == "+-+-+-" + "+-" * (len(log) // 2 - 3)
        with pytest.raises(memif.MemifClosedError):
            slave.rx[0].fileno()


# -- bursts that were kept


@pytest.mark.parametrize(("role", "mode"), [("master", "interrupt"), ("slave", "adaptive"), ("master", "polling")])
def test_all_slots_lent(role: str, mode: str) -> None:
    """Said as an error instead of waiting for ever; soon repaired; a release by another thread is waited for."""
    with side(role, mode, ring_size=16) as end:
        kept = []
        for _ in range(4):
            assert end.tx.send(some(4)) == 4
            kept.append(end.rx.recv(4, timeout=SOON))
        assert len(end.rx.recv(timeout=0)) == 0
        assert not end.rx.wait(0.01)
        for call in (end.rx.recv, lambda: end.rx.recv(timeout=SOON), end.rx.wait):
            with pytest.raises(memif.MemifBufferError, match=r"all 16 slots are lent to 4 bursts.*oldest has 4"):
                call()
        kept.pop().release()
        with pytest.raises(memif.MemifBufferError, match="lent to 3 bursts"):
            end.rx.recv()

        def hand_back() -> None:
            for burst in kept:
                burst.release()
            deadline = time.monotonic() + SOON
            while not end.tx.send([b"at last"]) and time.monotonic() < deadline:
                time.sleep(0.001)

        timer = threading.Timer(0.1, hand_back)
        timer.start()
        assert receive(end.rx, 1) == [b"at last"]
        timer.join()


def test_all_slots_lent_is_said_to_those_who_poll() -> None:
    with side("master", "interrupt", ring_size=4) as end:
        end.tx.send(some(4))
        with end.rx.recv():
            assert not end.rx.recv(timeout=0)
            time.sleep(1.1)
            with pytest.raises(memif.MemifBufferError, match="1 burst not released"):
                end.rx.recv(timeout=0)


# -- many at once


@pytest.mark.parametrize("modes_", [MODES, ["interrupt"] * 3, ["polling"] * 3, ["adaptive"] * 3])
def test_the_first_of_many(modes_: list[str]) -> None:
    with contextlib.ExitStack() as stack:
        ends = [stack.enter_context(side(ROLES[i % 2], mode)) for i, mode in enumerate(modes_)]
        queues = [end.rx for end in ends]
        assert memif.wait(queues, 0) == memif.wait(queues, 0.02) == []
        for i, end in enumerate(ends):
            timer = threading.Timer(0.02, end.tx.send, ([b"x"],))
            timer.start()
            assert memif.wait(queues) == [queues[i]]
            assert memif.wait(iter(end.here for end in ends), None) == [end.here]
            timer.join()
            receive(end.rx, 1)
        for end in ends:
            end.tx.send([b"x"])
        assert memif.wait(queues) == queues
        for end, mode in zip(ends, modes_, strict=True):
            assert end.rx.ring is not None
            assert end.rx.ring.flags == (mode != "interrupt")


def test_many_with_links_that_come_and_go(socket_path: str) -> None:
    """A queue that is down is passed over; sockets tell of changes, and are served."""
    with memif.testing.pair() as (master, slave), memif.Socket(socket_path) as listening:
        late = listening.interface(role="master")
        assert memif.wait([late.rx[0], master.rx[0]], 0.02) == []
        with memif.Socket(socket_path) as connecting:
            client = connecting.interface()
            while not (late.up and client.up):
                assert memif.wait([listening, connecting, late.rx[0]], SOON)
            client.tx[0].send([b"x"])
            assert memif.wait([master.rx[0], late.rx[0]], SOON) == [late.rx[0]]
            receive(late.rx[0], 1)
        # The last end of a link is told by the queue's own control channel, too.
        with pytest.raises(memif.MemifDisconnectedError):
            memif.wait([late.rx[0]], SOON)
        assert memif.wait([late.rx[0], listening], 0.02) == []
        late.close()
        with pytest.raises(memif.MemifClosedError):
            memif.wait([late.rx[0], master.rx[0]], SOON)
        timer = threading.Timer(0.05, slave.close)
        timer.start()
        with pytest.raises(memif.MemifDisconnectedError):
            memif.wait([master.rx[0]])
        timer.join()


@pytest.mark.parametrize(
    ("objects", "text"), [([], r"objects: got \[\], allowed"), ([3], r"objects\[0\]: got 3, allowed")]
)
def test_what_cannot_be_waited_for(objects: Any, text: str) -> None:
    with pytest.raises(memif.MemifValueError, match=text):
        memif.wait(objects)
    with memif.testing.pair() as (master, _):
        with pytest.raises(memif.MemifValueError, match="timeout"):
            memif.wait([master.rx[0]], -1)
        with pytest.raises(memif.MemifValueError, match=r"objects\[1\]"):
            memif.wait([master.rx[0], master.tx[0]])  # type: ignore[list-item]


# -- iteration


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("who", ["here", "there", "socket"])
def test_iteration_ends(who: str, mode: str) -> None:
    """With the link or with the interface, after all packets."""
    with side("master", mode) as end:
        ends = {"here": end.here.close, "there": end.there.close, "socket": end.here.socket.close}
        end.tx.send(some(300))
        got = []
        for burst in end.rx:
            got += burst.tobytes()
            if len(got) == 300:
                threading.Timer(0.02, ends[who]).start()
        assert got == some(300)
        assert list(end.rx) == []
