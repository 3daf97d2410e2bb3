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
        return {"marks": list(drive(step, windows(start, task)))}


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


def drive(step: Callable[[], int], ends: list[float]) -> Iterator[tuple[int, float, float]]:
    """Call `step` over and over; at each moment of `ends` yield (packets so far, wall clock, CPU clock)."""
    count = 0
    for end in ends:
        while True:
            for _ in range(8):
                count += step()
            now = time.monotonic()
            if now >= end:
                yield count, now, time.process_time()
                break
    # The other side may still be in its last window: it must not find us gone.
    finish = time.monotonic() + 0.05
    while time.monotonic() < finish:
        try:
            step()
        except memif.MemifError:
            return


if __name__ == "__main__":
    main()
