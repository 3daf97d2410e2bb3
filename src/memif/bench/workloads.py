"""What the processes of a measurement do, by name: functions that take the interface and return a step.

A step moves one burst and returns how many packets it moved.
"""

import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from memif import icmp
from memif.errors import MemifError, MemifTimeoutError
from memif.interface import Interface
from memif.ring import HANDLER_SIGNATURE

BurstStep = Callable[[], int]
Task = dict[str, Any]
#: Seconds that the answering side waits for the other one to leave.
_LINGER = 5.0


def _matrix(task: Task) -> Any:
    return np.zeros((task["burst"], task["size"]), np.uint8)


def _wait(task: Task) -> float:
    return 0.0 if task["mode"] == "polling" else 0.1


# -- senders


def send_array(interface: Interface, task: Task) -> BurstStep:
    """A matrix, copied into the ring."""
    matrix = _matrix(task)
    sends = [queue.send_array for queue in interface.tx]
    if len(sends) == 1:
        send = sends[0]
        return lambda: send(matrix)
    return lambda: sum(send(matrix) for send in sends)


def alloc(interface: Interface, task: Task) -> BurstStep:
    """Buffers reserved and written in place by one scatter."""
    matrix, queue = _matrix(task), interface.tx[0]

    def step() -> int:
        with queue.alloc(task["burst"], size=task["size"]) as burst:
            if burst:
                burst.scatter(matrix)
            return len(burst)

    return step


def send_list(interface: Interface, task: Task) -> BurstStep:
    """A list of bytes."""
    packets, send = [bytes(task["size"]) for _ in range(task["burst"])], interface.tx[0].send
    return lambda: send(packets)


def send_one(interface: Interface, task: Task) -> BurstStep:
    """One packet a call."""
    packet, send = [bytes(task["size"])], interface.tx[0].send
    return lambda: send(packet)


def bounce(interface: Interface, task: Task, matrix: Any = None) -> BurstStep:
    """Send a burst and receive what has come back so far."""
    rows = _matrix(task) if matrix is None else matrix
    send, recv, most = interface.tx[0].send_array, interface.rx[0].recv, task["burst"]

    def step() -> int:
        send(rows)
        with recv(most, 0) as burst:
            return len(burst)

    return step


def bounce_icmp(interface: Interface, task: Task) -> BurstStep:
    """The same with echo requests for 10.0.0.2."""
    rows = np.tile(np.frombuffer(echo_request(task["size"]), np.uint8), (task["burst"], 1)).copy()
    return bounce(interface, task, rows)


def echo_request(size: int) -> bytes:
    """An Ethernet frame of `size` bytes with an ICMP echo request from 10.0.0.1 to 10.0.0.2."""
    front = icmp.encapsulate(bytes((2, 0, 0, 0, 0, 1)), bytes((2, 0, 0, 0, 0, 2)))
    return front + icmp.echo_request(bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2)), 1, 1, size - 42)


# -- receivers


def gather(interface: Interface, task: Task) -> BurstStep:
    """Every byte of every packet copied out into a matrix."""
    width, most, wait = task["size"], task["burst"], _wait(task)
    queues = interface.rx
    if len(queues) == 1:
        recv = queues[0].recv

        def step() -> int:
            with recv(most, wait) as burst:
                if burst:
                    burst.gather(width)
                return len(burst)

        return step

    def all_queues() -> int:
        count = 0
        for queue in queues:
            with queue.recv(most, 0) as burst:
                if burst:
                    burst.gather(width)
                    count += len(burst)
        return count

    return all_queues


def tobytes(interface: Interface, task: Task) -> BurstStep:
    """A list of bytes objects."""
    recv, most, wait = interface.rx[0].recv, task["burst"], _wait(task)

    def step() -> int:
        with recv(most, wait) as burst:
            return len(burst.tobytes())

    return step


def memoryviews(interface: Interface, task: Task) -> BurstStep:
    """A memoryview a packet, the first byte read."""
    recv, most, wait = interface.rx[0].recv, task["burst"], _wait(task)

    def step() -> int:
        with recv(most, wait) as burst:
            for packet in burst:
                packet[0]
            return len(burst)

    return step


def recv_one(interface: Interface, task: Task) -> BurstStep:
    """One packet a call."""
    recv = interface.rx[0].recv

    def step() -> int:
        with recv(1, 0) as burst:
            return len(burst)

    return step


# -- echoes


def forward(interface: Interface, task: Task) -> BurstStep:
    """Send everything back: by exchanging buffers where this side is slave, else by a copy."""
    recv, send, most = interface.rx[0].recv, interface.tx[0].forward, task["burst"]

    def step() -> int:
        with recv(most, 0) as burst:
            return send(burst) if burst else 0

    return step


def python_echo(interface: Interface, task: Task) -> BurstStep:
    """Exchange source and destination MAC address in a Python loop, packet by packet."""
    recv, send, most = interface.rx[0].recv, interface.tx[0].forward, task["burst"]

    def step() -> int:
        with recv(most, 0) as burst:
            for packet in burst:
                packet[0:6], packet[6:12] = bytes(packet[6:12]), bytes(packet[0:6])
            return send(burst) if burst else 0

    return step


def numpy_responder(interface: Interface, task: Task) -> BurstStep:
    """The responder of `memif.packet`, whole bursts at a time."""
    from memif.packet import Responder

    responder = Responder("10.0.0.2", mac=bytes((2, 0, 0, 0, 0, 2)))
    recv, send, most = interface.rx[0].recv, interface.tx[0].forward, task["burst"]

    def step() -> int:
        with recv(most, 0) as burst:
            if not burst:
                return 0
            heads = burst.gather(64)
            mine = responder.answer(heads, burst.lengths)
            burst.scatter(heads)
            return send(burst, select=mine)

    return step


def numba_responder(interface: Interface, task: Task) -> BurstStep:
    """A compiled handler over the burst's columns and regions."""
    import numba

    answer = numba.njit(cache=True)(_answer_echo)

    nothing = np.zeros(0, np.uint32)
    columns = nothing.view()
    columns.flags.writeable = False
    answer(np.zeros(64, np.uint8), columns, nothing)  # compiles now, before the clock runs
    recv, send, most = interface.rx[0].recv, interface.tx[0].forward, task["burst"]

    def step() -> int:
        with recv(most, 0) as burst:
            if not burst:
                return 0
            answer(burst.memory[0], burst.offsets, burst.lengths)
            return send(burst)

    return step


def _answer_echo(memory: Any, offsets: Any, lengths: Any) -> int:
    """Turn echo requests (Ethernet, IPv4 without options) into their replies in place; return how many. For numba."""
    count = 0
    for i in range(len(offsets)):
        at = offsets[i]
        if lengths[i] < 42 or memory[at + 12] != 8 or memory[at + 13] != 0 or memory[at + 14] != 0x45:
            continue
        if memory[at + 23] != 1 or memory[at + 34] != 8:
            continue
        for k in range(6):
            memory[at + k], memory[at + 6 + k] = memory[at + 6 + k], memory[at + k]
        for k in range(26, 30):
            memory[at + k], memory[at + 4 + k] = memory[at + 4 + k], memory[at + k]
        memory[at + 34] = 0
        total = (memory[at + 36] << 8) + memory[at + 37] + 0x0800  # RFC 1624: the type went from 8 to 0
        total = (total & 0xFFFF) + (total >> 16)
        memory[at + 36], memory[at + 37] = total >> 8, total & 0xFF
        count += 1
    return count


def served(interface: Interface, task: Task) -> BurstStep:
    """Send everything back, by a loop that does not need the interpreter."""
    import numba

    handler = numba.cfunc(HANDLER_SIGNATURE)(_send_back)
    serve, tx = interface.rx[0].serve, interface.tx[0]
    return lambda: serve(handler, tx, timeout=0.001)


def _send_back(packets: Any, lengths: Any, count: int, data: Any) -> int:
    """All packets as they are. For numba."""
    return 0


# -- round trips


def ask(interface: Interface, task: Task) -> BurstStep:
    """Send one packet and wait until it is back."""
    send, recv, packet = interface.tx[0].send, interface.rx[0].recv, [bytes(task["size"])]

    def step() -> int:
        send(packet)
        with recv(1, 1.0) as burst:
            return len(burst)

    return step


def answer(interface: Interface, task: Task) -> BurstStep:
    """Send one packet back."""
    send, recv = interface.tx[0].forward, interface.rx[0].recv

    def step() -> int:
        with recv(1, 0.1) as burst:
            return send(burst)

    return step


def round_trips(step: BurstStep, start: float, task: Task) -> dict[str, Any]:
    """Time single steps in `runs` groups, in seconds; the answering side only answers, until the other one leaves.

    Returns:
        The share of a core that this process had; from the asking side also the percentiles, and the median of each
        group.
    """
    end = start + task["runs"] * task["seconds"]
    clock, times, groups = time.perf_counter, [], []
    if task["part"] == "receiver":
        share = _Share()
        with suppress(MemifError):
            while time.monotonic() < end:
                step()
        share.measure()
        with suppress(MemifError):
            while time.monotonic() < end + _LINGER:
                step()
        return {"share": share.value}
    while time.monotonic() < start:
        step()
    share = _Share()
    for run in range(task["runs"]):
        group = []
        while time.monotonic() < start + (run + 1) * task["seconds"]:
            for _ in range(16):
                before = clock()
                if step():
                    group.append(clock() - before)
        times += group
        groups += [statistics.median(group)] if group else []
    share.measure()
    if not times:
        raise MemifTimeoutError("no packet came back")
    points = np.percentile(times, [50, 99, 99.9])
    percentiles = dict(zip(("p50", "p99", "p99.9"), points.tolist(), strict=True))
    return {"share": share.value, "percentiles": percentiles, "medians": groups}


class _Share:
    """The share of a core that this process has had since it was made, up to the last `measure`."""

    def __init__(self) -> None:
        self._began = time.monotonic(), time.process_time()
        self.value = 1.0

    def measure(self) -> None:
        wall, cpu = time.monotonic() - self._began[0], time.process_time() - self._began[1]
        self.value = cpu / wall
