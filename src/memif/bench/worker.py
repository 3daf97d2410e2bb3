"""One of the two processes of a measurement: ``python -m memif.bench.worker '<task as JSON>'``."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import memif
from memif.bench import workloads
from memif.interface import Interface

#: Seconds between the agreement on the start and the start.
WARM_UP = 0.3


def main() -> None:
    """Do the task, print the report as one line of JSON."""
    task = json.loads(sys.argv[1])
    os.sched_setaffinity(0, {task["core"]})
    try:
        report = run(task)
    except (memif.MemifError, ImportError, AttributeError) as error:
        report = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(report), flush=True)


def run(task: dict[str, Any]) -> dict[str, Any]:
    """Open the interface, agree on the start with the other side, work through all windows."""
    name = task[task["part"]]
    if name.startswith(("libmemif_", "aio_")):
        from memif.bench import other_apis

        return dict(getattr(other_apis, name)(task))
    workload = getattr(workloads, name)
    with open_interface(task) as interface:
        interface.wait_up(10)
        step = workload(interface, task)
        start = agree(interface, task)
        if task["kind"] == "rtt":
            return dict(workloads.round_trips(step, start, task))
        return {"marks": list(drive(step, windows(start, task), line_passer(task)))}


def open_interface(task: dict[str, Any]) -> Interface:
    """The interface of this process."""
    options: dict[str, Any] = {
        "role": task["role"],
        "rx_mode": task["mode"],
        "ring_size": task["ring"],
        "rx_queues": task["queues"],
        "tx_queues": task["queues"],
        "reconnect": 0.05,
    }
    socket = memif.Socket(task["socket"])
    return socket.only_interface(**options)


def agree(interface: Interface, task: dict[str, Any]) -> float:
    """The moment at which the first window starts: the receiver chooses it and sends it as a packet."""
    if task["part"] == "receiver":
        start = time.monotonic() + WARM_UP
        while not interface.tx[0].send([f"{start:.6f}".encode()]):
            time.sleep(0.001)
        return start
    while True:
        with interface.rx[0].recv(1, 5.0) as burst:
            if burst:
                return float(bytes(burst[0]))


def windows(start: float, task: dict[str, Any]) -> list[float]:
    """Ends of the windows; the first one is the end of the warm-up."""
    return [start + i * task["seconds"] for i in range(task["runs"] + 1)]


def line_passer(task: dict[str, Any]) -> Callable[[int], float]:
    """What tells at the end of window i how far apart the two cores are: the nanoseconds that a cache line takes there
    and back. -1 where nobody has brought the library for it."""
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
    """Call `step` over and over. At each moment of `ends` yield (packets so far, wall clock, CPU clock, what `apart`
    says of that moment); the clocks stand still meanwhile."""
    count, lost_wall, lost_cpu = 0, 0.0, 0.0
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
    # The other side may still be in its last window: it must not find us gone.
    finish = time.monotonic() + 0.05
    while time.monotonic() < finish:
        try:
            step()
        except memif.MemifError:
            return


if __name__ == "__main__":
    main()
