"""Several threads on one interface, and the end of the link under a call: a typed error soon, never a crash."""

import contextlib
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import memif
from ends import Child, all_up, linked, pump, receive, send_all
from patience import within

SOON = 1.0  # seconds within which a blocked call must notice


class Caller(threading.Thread):
    """Runs `call` in a thread and keeps what became of it."""

    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__()
        self._call = call
        self.outcome: Any = None
        self.ended = 0.0

    def run(self) -> None:
        try:
            self.outcome = self._call()
        except BaseException as error:
            self.outcome = error
        self.ended = time.monotonic()


def blocked_in(call: Callable[[], Any], end: Callable[[], Any]) -> Any:
    """What `call` returns or raises when `end` is done meanwhile; AssertionError unless that is soon."""
    caller = Caller(call)
    caller.start()
    time.sleep(0.05)
    assert caller.is_alive(), caller.outcome
    start = time.monotonic()
    end()
    caller.join(10.0)
    assert caller.ended - start < SOON
    return caller.outcome


MODES = ["interrupt", "polling", "adaptive"]
ENDS: dict[str, tuple[Callable[[memif.Interface], Any], type[memif.MemifError]]] = {
    "close": (lambda iface: iface.close(), memif.MemifClosedError),
    "socket": (lambda iface: iface.socket.close(), memif.MemifClosedError),
    "disconnect": (lambda iface: iface.disconnect("enough"), memif.MemifDisconnectedError),
}


@pytest.mark.parametrize("role", ["master", "slave"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("end", ENDS)
def test_recv_ends_with_the_link(socket_path: str, role: str, mode: str, end: str) -> None:
    action, error = ENDS[end]
    with linked(socket_path, rx_mode=mode, slave={"reconnect": 30}) as (master, slave):
        iface = master if role == "master" else slave
        outcome = blocked_in(iface.rx[0].recv, lambda: action(iface))
        assert type(outcome) is error
        assert isinstance(outcome, ConnectionError if error is memif.MemifDisconnectedError else memif.MemifError)


@pytest.mark.parametrize("mode", MODES)
def test_recv_ends_when_the_peer_goes(socket_path: str, mode: str) -> None:
    """Nobody polls the control channel here but recv itself."""
    with linked(socket_path, rx_mode=mode) as (master, slave):
        outcome = blocked_in(master.rx[0].recv, lambda: slave.disconnect("bye"))
        assert type(outcome) is memif.MemifDisconnectedError
        assert "bye" in str(outcome)
        assert master.disconnect_reason == "bye"


@pytest.mark.parametrize("call", ["wait", "iterate", "wait_free", "wait_up"])
def test_other_calls_end_with_the_link(socket_path: str, call: str) -> None:
    with linked(socket_path, slave={"reconnect": 30, "ring_size": 4}) as (_, slave):
        slave.tx[0].send([b"full"] * 4)
        calls: dict[str, Callable[[], Any]] = {
            "wait": slave.rx[0].wait,
            "iterate": lambda: list(slave.rx[0]),
            "wait_free": slave.tx[0].wait_free,
            "wait_up": slave.wait_up,
        }
        if call == "wait_up":
            slave.disconnect()
        outcome = blocked_in(calls[call], slave.close)
        if call == "iterate":
            assert outcome == []
        else:
            assert type(outcome) is memif.MemifClosedError


def test_iteration_ends_when_the_peer_goes(socket_path: str) -> None:
    with linked(socket_path) as (master, slave):
        slave.tx[0].send([b"a", b"b"])
        outcome = blocked_in(lambda: [burst.tobytes() for burst in master.rx[0]], slave.close)
        assert outcome == [[b"a", b"b"]]


@pytest.mark.parametrize("mode", MODES)
def test_last_words(socket_path: str, mode: str) -> None:
    """What a peer sends just before it leaves reaches a reader that waits, even one that wakes up late."""
    before = sys.getswitchinterval()
    for _ in range(10):
        with linked(socket_path, rx_mode=mode, slave={"reconnect": 30}) as (master, slave):
            reader = Caller(lambda: master.rx[0].recv(64).tobytes())
            reader.start()
            time.sleep(0.002)
            sys.setswitchinterval(1.0)  # the reader has to wait for the interpreter
            try:
                slave.tx[0].send([b"last", b"words"])
                slave.disconnect()
            finally:
                sys.setswitchinterval(before)
            reader.join(5.0)
            assert reader.outcome == [b"last", b"words"]


def test_reconnect_under_a_reader(socket_path: str) -> None:
    """The reader gets an error for the link that went, and goes on with the next."""
    with linked(socket_path, slave={"reconnect": 0.01}) as (master, slave):
        got: list[bytes] = []

        def read() -> int:
            lost = 0
            while len(got) < 300:
                try:
                    with master.rx[0].recv(16, timeout=0.5) as burst:
                        got.extend(burst.tobytes())
                except memif.MemifDisconnectedError:
                    lost += 1
                    master.wait_up(5.0)
            return lost

        reader = Caller(read)
        reader.start()
        for i in range(30):
            all_up(slave)
            for n in range(10):
                send_all(slave.tx[0], [b"%d.%d" % (i, n)])
            assert slave.tx[0].wait_free(slave.tx[0].ring.size, timeout=5.0)
            slave.disconnect()
        reader.join(20.0)
        assert got == [b"%d.%d" % (i, n) for i in range(30) for n in range(10)]
        assert reader.outcome == master.stats["disconnects"]


def test_a_storm_of_closes(socket_path: str) -> None:
    """Threads receive, send and poll while another takes the link down in the middle: errors of the right kind only."""
    for round_ in range(25):
        with linked(socket_path, slave={"reconnect": 30, "ring_size": 64}) as (master, slave):

            def forever(call: Callable[[], Any]) -> memif.MemifError:
                while True:
                    try:
                        with contextlib.closing(_Released(call())):
                            pass
                    except memif.MemifError as error:
                        return error

            callers = [
                Caller(lambda call=call: forever(call))  # type: ignore[misc]
                for call in (
                    lambda: slave.rx[0].recv(32, timeout=0.01),
                    lambda: slave.tx[0].send([b"x" * 60] * 8),
                    lambda: master.rx[0].recv(32),
                    lambda: master.tx[0].alloc(4, size=60),
                    lambda: slave.stats and slave.details() and slave.rx[0].fileno(),
                )
            ]
            for caller in callers:
                caller.start()
            time.sleep(0.002 * (round_ % 5))
            (slave.close, slave.disconnect, slave.socket.close, master.close)[round_ % 4]()
            pump(master.socket, until=lambda: not master.up) if not master.closed else None
            for caller in callers:
                caller.join(10.0)
                assert isinstance(caller.outcome, (memif.MemifDisconnectedError, memif.MemifClosedError)), (
                    caller.outcome
                )


class _Released:
    """Closes what a call returned, if that is a burst."""

    def __init__(self, result: Any) -> None:
        self._result = result

    def close(self) -> None:
        if isinstance(self._result, memif.Burst):
            self._result.release()


def test_one_thread_a_queue(socket_path: str) -> None:
    with linked(socket_path) as (_, slave):
        rx = slave.rx[0]
        reader = Caller(lambda: rx.recv(timeout=0.3))
        reader.start()
        time.sleep(0.1)
        for call in (lambda: rx.recv(timeout=0), lambda: rx.wait(0.0)):
            with pytest.raises(memif.MemifStateError, match="one thread at a time"):
                call()
        reader.join()
        assert len(reader.outcome) == 0
        assert len(rx.recv(timeout=0)) == 0


def test_queues_of_their_own_threads(socket_path: str) -> None:
    count = 4
    options = {"rx_queues": count, "tx_queues": count, "ring_size": 128}
    with linked(socket_path, slave=options) as (master, slave):
        packets = [[b"%d-%d" % (q, n) for n in range(2000)] for q in range(count)]
        senders = [Caller(lambda q=q: send_all(slave.tx[q], packets[q])) for q in range(count)]  # type: ignore[misc]
        readers = [Caller(lambda q=q: receive(master.rx[q], 2000)) for q in range(count)]  # type: ignore[misc]
        for caller in senders + readers:
            caller.start()
        for caller in senders + readers:
            caller.join(20.0)
        assert [reader.outcome for reader in readers] == packets


def test_mode_changes_while_packets_flow(socket_path: str) -> None:
    with linked(socket_path, slave={"ring_size": 64}) as (master, slave):
        packets = [b"%d" % n for n in range(20_000)]
        sender = Caller(lambda: send_all(slave.tx[0], packets))
        sender.start()
        got: list[bytes] = []
        while len(got) < len(packets):
            master.rx[0].mode = MODES[len(got) // 100 % 3]
            with master.rx[0].recv(100, timeout=5.0) as burst:
                assert len(burst)
                got += burst.tobytes()
        sender.join()
        assert got == packets


def test_mode_changes_under_a_sleeper(socket_path: str) -> None:
    """Another thread may change the mode of a queue that somebody waits on."""
    with linked(socket_path) as (master, slave):
        for mode in ("polling", "interrupt", "adaptive", "interrupt"):

            def change(mode: str = mode) -> None:
                master.rx[0].mode = mode
                slave.tx[0].send([mode.encode()])

            burst = blocked_in(master.rx[0].recv, change)
            assert burst.tobytes() == [mode.encode()]
            burst.release()
            assert master.details().rx_queues[0].flags == (0 if mode == "interrupt" else 1)


def test_mask_follows_the_mode(socket_path: str) -> None:
    """A sender signals an interrupt queue, and leaves a polling one alone."""
    with linked(socket_path) as (master, slave):
        for mode, signals in (("polling", 0), ("interrupt", 1), ("polling", 0)):
            master.rx[0].mode = mode
            before = slave.tx[0].stats["interrupts_sent"]
            slave.tx[0].send([b"x"])
            assert slave.tx[0].stats["interrupts_sent"] - before == signals
            assert receive(master.rx[0], 1) == [b"x"]
        with pytest.raises(memif.MemifValueError, match="interrupt, polling"):
            master.rx[0].mode = "lazy"


def test_queue_fileno_with_select(socket_path: str) -> None:
    with linked(socket_path) as (master, slave):
        fd = master.rx[0].fileno()
        for n in range(20):
            while select.select([fd], [], [], 0)[0]:
                with master.rx[0].recv(timeout=0) as burst:
                    assert not burst
            slave.tx[0].send([b"%d" % n])
            assert select.select([fd], [], [], 2.0)[0]
            assert receive(master.rx[0], 1) == [b"%d" % n]


# -- signals

INTERRUPTED = """
import sys, memif
iface = memif.{open}
print("ready", flush=True)
try:
    iface.{call}
except KeyboardInterrupt:
    print("interrupted", flush=True)
iface.close()
"""
BLOCKING = [
    ("rx[0].recv(64, timeout=None)", "interrupt"),
    *(("rx[0].recv()", mode) for mode in MODES),
    ("rx[0].wait()", "interrupt"),
    ("wait_up()", "interrupt"),
    ("socket.poll()", "interrupt"),
]


@pytest.mark.parametrize(("call", "mode"), BLOCKING)
def test_ctrl_c(socket_path: str, call: str, mode: str) -> None:
    waits_for_nobody = not call.startswith("rx")
    opened = f"listen({socket_path!r})" if waits_for_nobody else f"connect({socket_path!r}, rx_mode={mode!r})"
    with contextlib.ExitStack() as stack:
        if not waits_for_nobody:
            stack.enter_context(Child(serve, socket_path))
        program = subprocess.Popen(
            [sys.executable, "-c", INTERRUPTED.format(open=opened, call=call)], stdout=subprocess.PIPE, text=True
        )
        stack.enter_context(program)
        stack.callback(program.kill)
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        time.sleep(0.1)
        start = time.monotonic()
        program.send_signal(signal.SIGINT)
        assert program.stdout.readline() == "interrupted\n"
        assert time.monotonic() - start < within(0.2)
        assert program.wait(5.0) == 0


def serve(path: str) -> None:
    with memif.listen(path) as iface:
        while True:
            iface.socket.poll(None)
