"""One of the two processes of a measurement: ``python -m memif.bench.worker '<task as JSON>'``.

The workloads of `memif.bench.workloads` use the sync API. Those of `memif.libmemif` and `memif.aio`, which open the
link and wait in their own ways, are here.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import numpy as np

import memif
from memif import libmemif as lm, socket
from memif.bench import workloads
from memif.bench.workloads import Task
from memif.interface import Interface, Options

#: Seconds between the agreement on the start and the start.
WARM_UP = 0.3
#: Seconds for which a process goes on after its last window.
_GRACE, _BUSY_GRACE = 0.05, 1.0
#: A process that had less of its core than this is on a busy machine.
_LEAST_SHARE = 0.95


def main() -> None:
    """Do the task, print the report as one line of JSON."""
    task = json.loads(sys.argv[1])
    os.sched_setaffinity(0, {task["core"]})
    try:
        report = run(task)
    except (memif.MemifError, ImportError, AttributeError) as error:
        report = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(report), flush=True)


def run(task: Task) -> dict[str, Any]:
    """Open the interface, agree on the start with the other side, work through all windows."""
    name = task[task["part"]]
    if name in _OTHER_APIS:
        return _OTHER_APIS[name](task)
    workload = getattr(workloads, name)
    with open_interface(task) as interface:
        interface.wait_up(10)
        step = workload(interface, task)
        start = agree(interface, task)
        if task["kind"] == "rtt":
            return dict(workloads.round_trips(step, start, task))
        return {"marks": list(drive(step, windows(start, task), line_passer(task)))}


def open_interface(task: Task) -> Interface:
    """The interface of this process."""
    options: Options = {
        "role": task["role"],
        "rx_mode": task["mode"],
        "ring_size": task["ring"],
        "rx_queues": task["queues"],
        "tx_queues": task["queues"],
        "reconnect": 0.05,
    }
    return socket.open_interface(task["socket"], options)


def agree(interface: Interface, task: Task) -> float:
    """Return the moment at which the first window starts; the receiver chooses it and sends it as a packet."""
    if task["part"] == "receiver":
        start = time.monotonic() + WARM_UP
        while not interface.tx[0].send([f"{start:.6f}".encode()]):
            time.sleep(0.001)
        return start
    while True:
        with interface.rx[0].recv(1, 5.0) as burst:
            if burst:
                return float(bytes(burst[0]))


def windows(start: float, task: Task) -> list[float]:
    """Return the ends of the windows; the first one is the end of the warm-up."""
    return [start + i * task["seconds"] for i in range(task["runs"] + 1)]


def line_passer(task: Task) -> Callable[[int], float]:
    """Return a function that measures, at the end of window i, how far apart the two cores are: the nanoseconds that a
    cache line takes there and back. It returns -1 without the library for that."""
    if not task["line"]:
        return lambda i: -1.0
    import ctypes
    import mmap

    library, page = task["line"]
    pass_line = ctypes.CDLL(library).pass_line
    pass_line.restype, pass_line.argtypes = (
        ctypes.c_double,
        (ctypes.c_void_p, ctypes.c_int, ctypes.c_uint64, ctypes.c_int),
    )
    with open(page, "r+b") as file:
        shared = mmap.mmap(file.fileno(), 4096)
    memory = ctypes.c_char.from_buffer(shared)  # holds the mapping
    first = task["part"] == "receiver"
    return lambda i: float(pass_line(ctypes.addressof(memory), first, task["turn"] + 1000 * i, 500))


def drive(
    step: Callable[[], int], ends: list[float], apart: Callable[[int], float] = lambda i: -1.0
) -> Iterator[tuple[int, float, float, float]]:
    """Call `step` again and again.

    Args:
        step: Moves a burst and returns its packets.
        ends: The ends of the windows, by `time.monotonic`.
        apart: Called with the number of each window at its end, see `line_passer`.

    Yields:
        At each end: packets so far, wall clock and CPU clock (which do not count the time of the caller and of
        `apart`), and the result of `apart`.
    """
    count, lost_wall, lost_cpu = 0, 0.0, 0.0
    began = time.monotonic(), time.process_time()
    for number, end in enumerate(ends):
        while True:
            for _ in range(8):
                count += step()
            now = time.monotonic()
            if now >= end:
                break
        cpu = time.process_time()
        yield count, now - lost_wall, cpu - lost_cpu, apart(number)
        lost_wall += time.monotonic() - now
        lost_cpu += time.process_time() - cpu
    # The other side may still be in its last window and needs us; on a busy machine it may be far behind.
    share = (time.process_time() - began[1]) / max(time.monotonic() - began[0], 1e-9)
    finish = time.monotonic() + (_GRACE if share > _LEAST_SHARE else _BUSY_GRACE)
    while time.monotonic() < finish:
        try:
            step()
        except memif.MemifError:
            return


# -- the functions of the C library


def libmemif_send(task: Task) -> dict[str, Any]:
    """Allocate, write one byte a packet, send."""
    with_link = _Linked(task)
    bufs = [lm.memif_buffer_t() for _ in range(task["burst"])]
    conn, burst, size = with_link.conn, task["burst"], task["size"]
    start = float(with_link.take_one())

    def step() -> int:
        _, n = lm.memif_buffer_alloc(conn, 0, bufs, burst, size)
        for i in range(n):
            bufs[i].data[0] = 1
        return lm.memif_tx_burst(conn, 0, bufs, n)[1]

    return with_link.finish(step, start)


def libmemif_receive(task: Task) -> dict[str, Any]:
    """Receive, read one byte a packet, refill."""
    with_link = _Linked(task)
    bufs = [lm.memif_buffer_t() for _ in range(task["burst"])]
    conn, burst = with_link.conn, task["burst"]
    start = time.monotonic() + WARM_UP
    with_link.give_one(f"{start:.6f}".encode())

    def step() -> int:
        _, n = lm.memif_rx_burst(conn, 0, bufs, burst)
        for i in range(n):
            bufs[i].data[0]
        if n:
            lm.memif_refill_queue(conn, 0, n)
        return n

    return with_link.finish(step, start)


def libmemif_scatter(task: Task) -> dict[str, Any]:
    """Allocate, write all packets by one call, send."""
    with_link = _Linked(task)
    conn, burst, size = with_link.conn, task["burst"], task["size"]
    bufs, matrix = lm.memif_buffers(burst), np.zeros((burst, size), np.uint8)
    start = float(with_link.take_one())

    def step() -> int:
        _, n = lm.memif_buffer_alloc(conn, 0, bufs, burst, size)
        bufs.scatter(matrix, n)
        return lm.memif_tx_burst(conn, 0, bufs, n)[1]

    return with_link.finish(step, start)


def libmemif_gather(task: Task) -> dict[str, Any]:
    """Receive, copy all packets out by one call, refill."""
    with_link = _Linked(task)
    conn, burst, size = with_link.conn, task["burst"], task["size"]
    bufs = lm.memif_buffers(burst)
    start = time.monotonic() + WARM_UP
    with_link.give_one(f"{start:.6f}".encode())

    def step() -> int:
        _, n = lm.memif_rx_burst(conn, 0, bufs, burst)
        if n:
            bufs.gather(size, n)
            lm.memif_refill_queue(conn, 0, n)
        return n

    return with_link.finish(step, start)


class _Linked:
    """A connection that is up."""

    def __init__(self, task: Task) -> None:
        self.task = task
        lm.memif_init(None, "memif bench", None, None)
        args = lm.memif_conn_args_t(
            socket_filename=task["socket"], interface_id=0, is_master=int(task["role"] == "master"), log2_ring_size=10
        )
        self.up = False
        err, conn = lm.memif_create(args, self._connected, None, None, None)
        if err or conn is None:
            raise memif.MemifError(lm.memif_strerror(err))
        self.conn = conn
        deadline = time.monotonic() + 10
        while not self.up:
            lm.memif_poll_event(100)
            if time.monotonic() > deadline:
                raise memif.MemifTimeoutError("no link within 10 s")
        lm.memif_set_rx_mode(self.conn, lm.MEMIF_RX_MODE_POLLING, 0)

    def _connected(self, conn: Any, ctx: object) -> int:
        lm.memif_refill_queue(conn, 0, 0xFFFF, 0)
        self.up = True
        return 0

    def take_one(self) -> bytes:
        """Wait for one packet."""
        bufs = [lm.memif_buffer_t()]
        while True:
            lm.memif_poll_event(0)
            _, n = lm.memif_rx_burst(self.conn, 0, bufs, 1)
            if n:
                data = bytes(bufs[0].data)
                lm.memif_refill_queue(self.conn, 0, n)
                return data

    def give_one(self, data: bytes) -> None:
        """Send one packet."""
        bufs = [lm.memif_buffer_t()]
        while lm.memif_buffer_alloc(self.conn, 0, bufs, 1, len(data))[1] != 1:
            lm.memif_poll_event(1)
        bufs[0].data[: len(data)] = data
        lm.memif_tx_burst(self.conn, 0, bufs, 1)

    def finish(self, step: Callable[[], int], start: float) -> dict[str, Any]:
        """Run the windows."""
        marks = list(drive(step, windows(start, self.task), line_passer(self.task)))
        lm.memif_delete(self.conn)
        lm.memif_cleanup()
        return {"marks": marks}


# -- asyncio


def aio_send(task: Task) -> dict[str, Any]:
    """send_all with back-pressure."""
    matrix = np.zeros((task["burst"], task["size"]), np.uint8)

    async def work(interface: Any) -> dict[str, Any]:
        with await interface.rx[0].recv(1, 10.0) as burst:
            start = float(bytes(burst[0]))
        return await _finish(lambda: interface.tx[0].send_all(matrix, timeout=0.5), start, task)

    return asyncio.run(_linked(work, task))


def aio_receive(task: Task) -> dict[str, Any]:
    """recv and gather."""

    async def work(interface: Any) -> dict[str, Any]:
        start = time.monotonic() + WARM_UP
        await interface.tx[0].send_all([f"{start:.6f}".encode()])

        async def step() -> int:
            with await interface.rx[0].recv(task["burst"], 0.1) as burst:
                if burst:
                    burst.gather(task["size"])
                return len(burst)

        return await _finish(step, start, task)

    return asyncio.run(_linked(work, task))


async def _linked(work: Callable[[Any], Awaitable[dict[str, Any]]], task: Task) -> dict[str, Any]:
    from memif import aio

    options = {"id": 0, "rx_mode": task["mode"]}
    if task["role"] == "slave":
        async with aio.connect(task["socket"], timeout=10, **options) as interface:
            return await work(interface)
    async with aio.listen(task["socket"], **options) as interface:
        await interface.wait_up(10)
        return await work(interface)


async def _finish(step: Callable[[], Awaitable[int]], start: float, task: Task) -> dict[str, Any]:
    marks = [mark async for mark in _marks(step, windows(start, task), line_passer(task))]
    finish = time.monotonic() + 0.05
    while time.monotonic() < finish:
        try:
            await step()
        except memif.MemifError:
            break
    return {"marks": marks}


async def _marks(
    step: Callable[[], Awaitable[int]], ends: list[float], apart: Callable[[int], float]
) -> AsyncIterator[tuple[int, float, float, float]]:
    """The same as `drive`, awaiting."""
    count, lost_wall, lost_cpu = 0, 0.0, 0.0
    for number, end in enumerate(ends):
        while (now := time.monotonic()) < end:
            count += await step()
        cpu = time.process_time()
        yield count, now - lost_wall, cpu - lost_cpu, apart(number)
        lost_wall += time.monotonic() - now
        lost_cpu += time.process_time() - cpu


#: Workloads that open the link with an API of their own, and return the whole report.
_OTHER_APIS: dict[str, Callable[[Task], dict[str, Any]]] = {
    "libmemif_send": libmemif_send,
    "libmemif_receive": libmemif_receive,
    "libmemif_scatter": libmemif_scatter,
    "libmemif_gather": libmemif_gather,
    "aio_send": aio_send,
    "aio_receive": aio_receive,
}


if __name__ == "__main__":
    main()
