"""Wrong use of bursts, queues and interfaces. Each in a child of its own, because a segmentation fault would end it."""

# ruff: noqa: B023  (raises() calls the lambdas at once)

import contextlib
import copy
import ctypes
import gc
import math
import pickle
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import memif
from children import in_child
from ends import linked, pump
from memif.testing import unused_name
from patience import within

Ends = tuple[memif.Interface, memif.Interface]
PACKETS = [bytes([n]) * (60 + n) for n in range(8)]
MISUSES: dict[str, Callable[[memif.Interface, memif.Interface], object]] = {}


def misuse(function: Callable[[Any, Any], object]) -> Callable[[Any, Any], object]:
    """Put a function into the table: it gets a linked master and slave."""
    MISUSES[function.__name__] = function
    return function


def received(master: memif.Interface, slave: memif.Interface, packets: list[bytes] = PACKETS) -> memif.Burst:
    """A burst on the master."""
    assert slave.tx[0].send(packets) == len(packets)
    return master.rx[0].recv(timeout=2.0)


def raises(kinds: Any, *calls: Callable[[], object]) -> None:
    """Each call raises one of `kinds`, and nothing else happens."""
    for number, call in enumerate(calls):
        try:
            value = call()
        except kinds:
            continue
        raise AssertionError(f"call {number} returned {value!r}")


BURST_CALLS: dict[str, Callable[[memif.Burst], object]] = {
    "len": len,
    "bool": bool,
    "first": lambda burst: burst[0],
    "slice": lambda burst: burst[:],
    "iterate": list,
    "tobytes": lambda burst: burst.tobytes(),
    "lengths": lambda burst: burst.lengths,
    "offsets": lambda burst: burst.offsets,
    "pieces": lambda burst: burst.pieces,
    "regions": lambda burst: burst.regions,
    "flags": lambda burst: burst.flags,
    "chained": lambda burst: burst.chained,
    "memory": lambda burst: burst.memory,
    "gather": lambda burst: burst.gather(64),
    "scatter": lambda burst: burst.scatter(np.zeros((8, 60), "u1")),
    "fragments": lambda burst: burst.fragments(0),
    "prepend": lambda burst: burst.prepend(0),
    "send": lambda burst: burst.send(),
    "with": lambda burst: burst.__enter__(),
}


@misuse
def after_release(master: memif.Interface, slave: memif.Interface) -> None:
    for burst in (received(master, slave), slave.tx[0].alloc(4)):
        burst.release()
        burst.release()
        raises(memif.MemifStateError, *[lambda call=call: call(burst) for call in BURST_CALLS.values()])
        raises(memif.MemifStateError, lambda: slave.tx[0].forward(burst))
        repr(burst)


@misuse
def after_send(master: memif.Interface, slave: memif.Interface) -> None:
    burst = slave.tx[0].alloc(4, size=60)
    assert burst.send(2) == 2
    raises(memif.MemifStateError, *[lambda call=call: call(burst) for call in BURST_CALLS.values()])


@misuse
def iterator_after_release(master: memif.Interface, slave: memif.Interface) -> None:
    burst = received(master, slave)
    iterator = iter(burst)
    next(iterator)
    burst.release()
    raises(memif.MemifStateError, lambda: next(iterator))


QUEUE_CALLS: dict[str, Callable[[memif.Interface], object]] = {
    "recv": lambda iface: iface.rx[0].recv(timeout=0),
    "recv forever": lambda iface: iface.rx[0].recv(),
    "recv_packet": lambda iface: iface.rx[0].recv_packet(0),
    "recv_list": lambda iface: iface.rx[0].recv_list(timeout=0),
    "recv_array": lambda iface: iface.rx[0].recv_array(64, timeout=0),
    "recv_into": lambda iface: iface.rx[0].recv_into(np.zeros((4, 60), "u1"), np.zeros(4, "u4"), 0),
    "serve": lambda iface: iface.rx[0].serve(ctypes.CDLL(None).getpid, iface.tx[0], timeout=0),
    "wait": lambda iface: iface.rx[0].wait(0),
    "rx fileno": lambda iface: iface.rx[0].fileno(),
    "tx fileno": lambda iface: iface.tx[0].fileno(),
    "send": lambda iface: iface.tx[0].send([b"x" * 60]),
    "send_packet": lambda iface: iface.tx[0].send_packet(b"x" * 60),
    "send nothing": lambda iface: iface.tx[0].send([]),
    "send_array": lambda iface: iface.tx[0].send_array(np.zeros((4, 60), "u1")),
    "alloc": lambda iface: iface.tx[0].alloc(4),
    "free": lambda iface: iface.tx[0].free(),
    "wait_free": lambda iface: iface.tx[0].wait_free(timeout=0),
}


def calls_on(iface: memif.Interface) -> list[Callable[[], object]]:
    return [lambda call=call: call(iface) for call in QUEUE_CALLS.values()]


@misuse
def after_close(master: memif.Interface, slave: memif.Interface) -> None:
    burst, mine = received(master, slave), slave.tx[0].alloc(4, size=60)
    copies, view = burst.tobytes(), burst[0]
    for iface in (master, slave):
        iface.close()
        iface.close()
        raises(memif.MemifClosedError, *calls_on(iface))
        raises(memif.MemifClosedError, lambda: iface.wait_up(0), iface.connect, iface.__enter__)
        assert not iface.up
        assert iface.peer is None
        iface.details(), iface.stats, repr(iface), repr(iface.rx[0]), iface.disconnect()
        iface.socket.close()
        raises(memif.MemifClosedError, lambda: iface.socket.poll(0), lambda: iface.socket.interface(id=3))
    assert burst.tobytes() == copies
    assert bytes(view) == copies[0]
    burst.scatter(np.zeros((8, 60), "u1"))
    burst.release()
    assert mine.send() == 0


@misuse
def after_disconnect(master: memif.Interface, slave: memif.Interface) -> None:
    burst = received(master, slave)
    copies = burst.tobytes()
    slave.config  # noqa: B018
    slave.disconnect("gone")
    pump(master, until=lambda: not master.up)
    for iface in (master, slave):
        raises(memif.MemifDisconnectedError, *calls_on(iface))
    assert burst.tobytes() == copies
    pump(master, slave, until=lambda: master.up and slave.up)
    # A burst of the old link: readable, may be sent on by the new one, and gives nothing back to the wrong ring.
    assert burst.tobytes() == copies
    assert master.tx[0].forward(burst) == len(copies)
    burst.release()
    assert slave.rx[0].recv(timeout=2.0).tobytes() == copies


@misuse
def views_beyond_everything(master: memif.Interface, slave: memif.Interface) -> None:
    burst = received(master, slave)
    copies = burst.tobytes()
    views, arrays, lengths = list(burst), [np.frombuffer(view, "u1") for view in burst], burst.lengths
    memory = burst.memory
    burst.release()
    del burst
    for iface in (master, slave):
        iface.close()
        iface.socket.close()
    gc.collect()
    assert [bytes(view) for view in views] == copies == [array.tobytes() for array in arrays]
    assert list(lengths) == [len(packet) for packet in copies]
    for view, array in zip(views, arrays, strict=True):
        view[0] = array[1] = 7
    assert memory[0].any()


@misuse
def bursts_dropped(master: memif.Interface, slave: memif.Interface) -> None:
    """Without release the slots come back when the burst is collected."""
    for _ in range(500):
        received(master, slave)
        slave.tx[0].alloc(4)
    assert len(received(master, slave)) == 8


@misuse
def bursts_hoarded(master: memif.Interface, slave: memif.Interface) -> None:
    """With all slots lent out the peer can send no more; released in any order, all is well."""
    hoard = []
    while slave.tx[0].send([b"x" * 60] * 16):
        hoard.append(master.rx[0].recv(16, timeout=2.0))
    assert len(master.rx[0].recv(timeout=0)) == 0
    for burst in hoard[::-2] + hoard[-2::-2]:
        burst.release()
    assert len(received(master, slave)) == 8


@misuse
def bursts_in_cycles(master: memif.Interface, slave: memif.Interface) -> None:
    for _ in range(20):
        burst = received(master, slave)
        cycle: list[Any] = [burst, burst[0], iter(burst)]
        cycle.append(cycle)
        del burst, cycle
        gc.collect()


@misuse
def broken_out_of_iteration(master: memif.Interface, slave: memif.Interface) -> None:
    for _ in range(100):
        slave.tx[0].send(PACKETS)
        for burst in master.rx[0]:
            assert len(burst)
            break


@misuse
def exception_in_an_allocated_burst(master: memif.Interface, slave: memif.Interface) -> None:
    with contextlib.suppress(ZeroDivisionError), slave.tx[0].alloc(4, size=60):
        raise ZeroDivisionError
    assert len(master.rx[0].recv(timeout=0.05)) == 0
    assert len(received(master, slave)) == 8


@misuse
def two_allocations(master: memif.Interface, slave: memif.Interface) -> None:
    with slave.tx[0].alloc(2, size=60):
        raises(memif.MemifStateError, lambda: slave.tx[0].alloc(1), lambda: slave.tx[0].send(PACKETS))


@misuse
def wrong_arguments_to_recv(master: memif.Interface, slave: memif.Interface) -> None:
    queue: Any = master.rx[0]
    errors = (memif.MemifValueError, TypeError, OverflowError)
    raises(
        errors,
        *[lambda count=count: queue.recv(count, timeout=0) for count in (0, -1, 16385, 1 << 70, None, "x", 1.5, b"")],
    )
    raises(
        errors, *[lambda timeout=timeout: queue.recv(1, timeout=timeout) for timeout in (-1, "x", math.nan, [], b"")]
    )
    assert len(queue.recv(16384, timeout=1e-9)) == 0
    slave.tx[0].send(PACKETS)
    assert len(queue.recv(3, timeout=math.inf)) == 3


@misuse
def wrong_arguments_to_send(master: memif.Interface, slave: memif.Interface) -> None:
    queue: Any = slave.tx[0]
    errors = (ValueError, TypeError, BufferError)
    for packets in (
        None,
        5,
        b"bytes",
        "text",
        [5],
        [""],
        [None],
        [b""],
        [b"x" * 65537],
        [b"x" * 60, b""],
        [b"x" * 60, 7],
        [np.zeros((4, 4), "u1")[:, ::2]],
        [memoryview(b"abcdef")[::2]],
    ):
        raises(errors, lambda packets=packets: queue.send(packets))
    for matrix in (
        None,
        b"x",
        np.zeros(60, "u1"),
        np.zeros((4, 60), "u2"),
        np.zeros((4, 0), "u1"),
        np.zeros((4, 60), "u1")[:, ::2],
        np.zeros((2, 70000), "u1"),
        np.zeros((2, 3, 4), "u1"),
    ):
        raises(errors, lambda matrix=matrix: queue.send_array(matrix))
    good = np.zeros((4, 60), "u1")
    for lengths in ([0] * 4, [61] * 4, [60] * 3, [-1] * 4, [1.5] * 4, "abcd", [1 << 40] * 4, np.zeros((4, 4), "u4")):
        raises((*errors, OverflowError), lambda lengths=lengths: queue.send_array(good, lengths))
    for count, size in ((0, None), (-1, None), (16385, None), (1, 0), (1, -1), (1, 65537), ("x", None), (1, "x")):
        raises(errors, lambda count=count, size=size: queue.alloc(count, size))
    assert queue.send_array(good[::-1]) == 4  # rows may go backwards
    assert len(master.rx[0].recv(timeout=2.0)) == 4


@misuse
def wrong_arguments_to_bursts(master: memif.Interface, slave: memif.Interface) -> None:
    burst: Any = received(master, slave)
    errors = (memif.MemifValueError, TypeError, BufferError, IndexError, OverflowError, ValueError)
    raises(errors, *[lambda index=index: burst[index] for index in (8, -9, 1 << 70, "x", None, 1.0)])
    raises(errors, *[lambda width=width: burst.gather(width) for width in (0, -1, 65537, 1 << 70, "x", None)])
    frozen = np.zeros((8, 64), "u1")
    frozen.flags.writeable = False
    raises(
        errors,
        *[
            lambda out=out: burst.gather(64, out)
            for out in (
                frozen,
                b"x" * 512,
                np.zeros((7, 64), "u1"),
                np.zeros((8, 63), "u1"),
                np.zeros((8, 64), "u2"),
                np.zeros((8, 128), "u1")[:, ::2],
                np.zeros(512, "u1"),
                5,
            )
        ],
    )
    raises(
        errors,
        *[
            lambda array=array: burst.scatter(array)
            for array in (
                np.zeros((7, 64), "u1"),
                np.zeros((8, 64), "u4"),
                np.zeros((8, 0), "u1"),
                np.zeros((64, 8), "u1").T,
                None,
                b"",
            )
        ],
    )
    raises(errors, *[lambda index=index: burst.fragments(index) for index in (8, -9, None)])
    raises((*errors, memif.MemifStateError), *[lambda n=n: burst.prepend(n) for n in (1, -1, 1 << 40, None)])
    raises(
        errors,
        *[
            lambda select=select: slave.tx[0].forward(burst, select=select)
            for select in ([True] * 8, b"\1" * 7, np.ones(8, "u2"), np.ones(9, bool), 1)
        ],
    )
    raises(errors, lambda: slave.tx[0].forward(None), lambda: slave.tx[0].forward(b"x"))


@misuse
def lengths_out_of_bounds(master: memif.Interface, slave: memif.Interface) -> None:
    """Lengths are the user's to write: nonsense in them is refused before anything follows it."""
    for nonsense in (0, 2049, 65536, 0xFFFFFFFF):
        for burst in (received(master, slave), slave.tx[0].alloc(4, size=60)):
            burst.lengths[1] = nonsense
            raises(
                memif.MemifValueError,
                lambda: burst.tobytes(),
                lambda: burst.gather(64),
                lambda: burst.scatter(np.zeros((8, 60), "u1")),
                lambda: burst.fragments(1),
            )
            raises(memif.MemifValueError, lambda: burst[1], lambda: list(burst))
            with contextlib.suppress(memif.MemifError):
                slave.tx[0].forward(burst)
            with contextlib.suppress(memif.MemifError):
                burst.send()
            burst.release()


@misuse
def fixed_columns(master: memif.Interface, slave: memif.Interface) -> None:
    """What loops follow without a second look cannot be made writable."""
    burst = received(master, slave)
    for column in (burst.offsets, burst.regions, burst.flags):
        raises(
            ValueError,
            lambda column=column: column.__setitem__(0, 1),
            lambda column=column: setattr(column.flags, "writeable", True),
            lambda column=column: setattr(column.base, "flags", 1) if column.base is None else column.fill(9),
        )


class Evil:
    """An index that does something else first."""

    def __init__(self, act: Callable[[], object], value: int = 0) -> None:
        self.act, self.value = act, value

    def __index__(self) -> int:
        self.act()
        return self.value


@misuse
def arguments_that_release(master: memif.Interface, slave: memif.Interface) -> None:
    """The burst goes away while its own method converts an argument."""
    uses: list[Callable[[Any, Any], object]] = [
        lambda burst, evil: burst[evil],
        lambda burst, evil: burst[evil:],
        lambda burst, evil: burst.gather(evil),
        lambda burst, evil: burst.fragments(evil),
        lambda burst, evil: burst.prepend(evil),
        lambda burst, evil: slave.tx[0].forward(burst, start=evil),
        lambda burst, evil: slave.tx[0].forward(burst, stop=evil),
    ]
    for use in uses:
        burst = received(master, slave)
        with contextlib.suppress(memif.MemifError, IndexError, OverflowError):
            use(burst, Evil(burst.release, 1))
    mine = slave.tx[0].alloc(4, size=60)
    with contextlib.suppress(memif.MemifError):
        mine.send(Evil(mine.release, 1))  # type: ignore[arg-type]


@misuse
def arguments_that_close(master: memif.Interface, slave: memif.Interface) -> None:
    for use in (
        lambda iface, evil: iface.rx[0].recv(evil, timeout=0),
        lambda iface, evil: iface.rx[0].recv_list(evil, 0),
        lambda iface, evil: iface.rx[0].recv_array(evil, 1, 0),
        lambda iface, evil: iface.rx[0].recv_array(64, evil, 0),
        lambda iface, evil: iface.tx[0].alloc(evil),
        lambda iface, evil: iface.tx[0].alloc(1, evil),
        lambda iface, evil: iface.tx[0].wait_free(evil),
    ):
        path = unused_name()
        with linked(path) as (_, client):
            with contextlib.suppress(memif.MemifError):
                use(client, Evil(client.close, 1))  # type: ignore[no-untyped-call]


@misuse
def changing_list_while_sending(master: memif.Interface, slave: memif.Interface) -> None:
    """Another thread takes packets out of the list that is being sent."""
    packets = [b"x" * 60] * 64
    stop = threading.Event()

    def change() -> None:
        while not stop.is_set():
            packets.clear()
            packets.extend([b"y" * 60] * 64)

    thread = threading.Thread(target=change)
    thread.start()
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        slave.tx[0].send(packets)
        master.rx[0].recv(timeout=0).release()
    stop.set()
    thread.join()


@misuse
def no_copies(master: memif.Interface, slave: memif.Interface) -> None:
    burst = received(master, slave)
    things = [
        burst,
        iter(burst),
        master,
        master.socket,
        master.rx[0],
        master.tx[0],
        master.rx[0].ring,
        master.tx[0].ring,
        burst[0],
    ]
    for thing in things:
        raises((TypeError, AttributeError, pickle.PicklingError), lambda thing=thing: pickle.dumps(thing))
        raises((TypeError, AttributeError, pickle.PicklingError), lambda thing=thing: copy.deepcopy(thing))


@misuse
def objects_without_init(master: memif.Interface, slave: memif.Interface) -> None:
    """What a user can make by force has no memory behind it, and says so instead of touching it."""
    from memif.ring import Region, RxRing, Stats, TxRing

    raises(TypeError, memif.Burst)
    for kind in (memif.Burst, memif.RxQueue, memif.TxQueue, RxRing, TxRing, Region, Stats):
        thing = kind.__new__(kind)  # type: ignore[call-overload]
        for name in dir(thing):
            if name in ("__class__", "__init__", "__new__", "__init_subclass__", "__subclasshook__", "__reduce_ex__"):
                continue
            with contextlib.suppress(Exception):
                value = getattr(thing, name)
                if callable(value):
                    value()
    for arguments in ((), (-1, 4096), (0, 0), (0, 1 << 47), (10**6, 4096)):
        raises((OSError, ValueError, TypeError), lambda arguments=arguments: Region(*arguments))
    raises(
        (ValueError, TypeError),
        lambda: RxRing((), 0, 0, 4, slave=False),
        lambda: RxRing((b"",), 0, 0, 4, slave=False),
        lambda: TxRing(master.rx[0].ring.regions, 0, 1, 4, slave=False),
        lambda: TxRing(master.rx[0].ring.regions, 0, 1 << 40, 4, slave=False),
        lambda: RxRing(master.rx[0].ring.regions, 0, 0, 4, slave=True),
    )


@misuse
def rings_of_the_wrong_kind(master: memif.Interface, slave: memif.Interface) -> None:
    rx: Any = memif.RxQueue(master, 0, -1)
    tx: Any = memif.TxQueue(master, 0, -1)
    raises(
        TypeError,
        lambda: rx.attach(None),
        lambda: rx.attach(5),
        lambda: rx.attach(master.tx[0].ring),
        lambda: tx.attach(master.rx[0].ring),
    )


@misuse
def set_up_twice(master: memif.Interface, slave: memif.Interface) -> None:
    ring: Any = master.rx[0].ring
    raises(
        (RuntimeError, ValueError, TypeError),
        lambda: ring.__init__(ring.regions, 0, 0, 4, slave=False),
        lambda: ring.regions[0].__init__(0, 4096),
    )
    assert len(received(master, slave)) == 8


def together(*runs: Callable[[], object], seconds: float = 0.4) -> list[BaseException]:
    """Run functions in threads again and again; -> what they raised."""
    errors: list[BaseException] = []
    end = time.monotonic() + seconds

    def loop(run: Callable[[], object]) -> None:
        while time.monotonic() < end:
            try:
                run()
            except memif.MemifError as error:
                errors.append(error)
            except BaseException as error:
                errors.append(error)
                return

    threads = [threading.Thread(target=loop, args=(run,)) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    unexpected = [error for error in errors if not isinstance(error, memif.MemifStateError)]
    assert not unexpected, unexpected
    return errors


@misuse
def two_threads_receive(master: memif.Interface, slave: memif.Interface) -> None:
    def receive() -> None:
        master.rx[0].recv(timeout=0.01).release()

    assert together(receive, receive, lambda: slave.tx[0].send(PACKETS)), "nobody noticed"


@misuse
def two_threads_send(master: memif.Interface, slave: memif.Interface) -> None:
    matrix = np.zeros((512, 60), "u1")
    together(
        lambda: slave.tx[0].send_array(matrix),
        lambda: slave.tx[0].send_array(matrix),
        lambda: master.rx[0].recv(timeout=0.01).release(),
    )


@misuse
def two_threads_one_burst(master: memif.Interface, slave: memif.Interface) -> None:
    """One thread copies out of the burst while another releases it."""
    box = [received(master, slave)]
    out = np.zeros((8, 65536), "u1")

    def replace() -> None:
        box[0].release()
        box[0] = received(master, slave)

    together(lambda: box[0].gather(65536, out), lambda: box[0].tobytes(), lambda: list(box[0]), replace)


@misuse
def one_thread_closes(master: memif.Interface, slave: memif.Interface) -> None:
    """Blocked calls end when another thread closes."""
    for name in ("recv forever", "send"):
        with linked(unused_name()) as (_, client):
            thread = threading.Timer(0.1, client.close)
            thread.start()
            start = time.monotonic()
            raises(memif.MemifClosedError, lambda: [QUEUE_CALLS[name](client) for _ in range(10**9)])
            assert time.monotonic() - start < within(0.5)
            thread.join()


@misuse
def callbacks_that_close(master: memif.Interface, slave: memif.Interface) -> None:
    for event in ("on_connect", "on_disconnect", "on_interrupt"):
        for close in (
            lambda iface, *_: iface.close(),
            lambda iface, *_: iface.socket.close(),
            lambda iface, *_: iface.disconnect("no"),
        ):
            path = unused_name()
            with memif.Socket(path) as listening, memif.Socket(path) as connecting:
                server = listening.interface(role="master", **{event: close})
                client = connecting.interface()
                end = time.monotonic() + 0.15
                while time.monotonic() < end:
                    with contextlib.suppress(memif.MemifError):
                        listening.poll(0)
                        connecting.poll(0)
                        if client.up:
                            client.tx[0].send(PACKETS)
                            if event == "on_disconnect":
                                client.disconnect()
                assert server.config


@misuse
def callbacks_that_raise(master: memif.Interface, slave: memif.Interface) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    for event in ("on_connect", "on_disconnect", "on_interrupt", "authorize"):
        path = unused_name()
        with memif.Socket(path) as listening, memif.Socket(path) as connecting:
            listening.interface(role="master", **{event: fail})
            client = connecting.interface(reconnect=0.02)
            seen = 0
            end = time.monotonic() + 0.3
            while time.monotonic() < end:
                try:
                    listening.poll(0)
                except ZeroDivisionError:
                    seen += 1
                connecting.poll(0)
                if client.up:
                    client.tx[0].send(PACKETS)
                    if event == "on_disconnect":
                        client.disconnect()
            assert seen, event


@misuse
def debug_mode(master: memif.Interface, slave: memif.Interface) -> None:
    from memif import debug

    assert not debug.enabled()
    debug.enable()
    burst = received(master, slave)
    view = burst[0]
    raises(memif.MemifStateError, burst.release)
    array = np.frombuffer(view, "u1")
    del view
    raises(memif.MemifStateError, burst.release, lambda: burst.__exit__(None, None, None))
    assert burst.tobytes() == PACKETS
    del array
    burst.release()
    burst = slave.tx[0].alloc(2, size=60)
    view = burst[1]
    raises(memif.MemifStateError, burst.send)
    view[:] = b"z" * 60
    view.release()
    assert burst.send() == 2
    with contextlib.suppress(ZeroDivisionError), received(master, slave) as burst:
        view = burst[0]
        raise ZeroDivisionError  # an error on its way is not hidden by another
    debug.enable(False)
    with received(master, slave) as burst:
        view = burst[0]
    assert len(view) == 60


@pytest.mark.parametrize("name", MISUSES)
def test_misuse(name: str) -> None:
    def child() -> int:
        try:
            with linked(unused_name(), ring_size=64, slave={"reconnect": 0.02}) as (master, slave):
                MISUSES[name](master, slave)
                del master, slave
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
            return 1
        return 0

    status = in_child(child)
    assert status == 0, f"wait status {status}: {'signal' if status & 127 else 'exit'}"
