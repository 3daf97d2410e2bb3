"""What can be measured (one `Scenario` is one row of the table), and how: in two processes, whose runs are judged."""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True, slots=True)
class Scenario:
    """One thing to measure.

    Attributes:
        name: What it is, for the table.
        kind: "bulk" (packets per second in one direction), "echo" (packets per second there and back) or "rtt" (seconds
            of a round trip).
        sender: What the sending process does: a name in `memif.bench.workloads` or `memif.bench.worker`.
        receiver: The same for the receiving process.
        size: Bytes of a packet.
        burst: Packets per call.
        ring: Slots of each ring.
        queues: Queues in each direction.
        towards: "master" or "slave": who receives.
        mode: Receive mode of the queues.
    """

    name: str
    kind: str
    sender: str
    receiver: str
    size: int = 64
    burst: int = 256
    ring: int = 1024
    queues: int = 1
    towards: str = "master"
    mode: str = "polling"

    @property
    def title(self) -> str:
        """One line for the table."""
        parts = [self.name, f"{self.size} B", f"burst {self.burst}"]
        if self.ring != 1024:
            parts.append(f"ring {self.ring}")
        if self.queues != 1:
            parts.append(f"{self.queues} queues")
        parts.append("S2M" if self.towards == "master" else "M2S")
        if self.mode != "polling":
            parts.append(self.mode)
        return ", ".join(parts)


def _bulk() -> Iterable[Scenario]:
    base = Scenario("send_array → gather", "bulk", "send_array", "gather")
    for towards in ("master", "slave"):
        for size in (64, 256, 1500, 9000):
            for burst in (1, 32, 64, 256):
                yield replace(base, size=size, burst=burst, towards=towards)
    yield replace(base, mode="interrupt")
    yield replace(base, mode="adaptive")
    yield replace(base, queues=2)
    yield replace(base, name="alloc in place → gather", sender="alloc")
    yield replace(base, name="list of bytes → tobytes", sender="send_list", receiver="tobytes")
    yield replace(base, name="one memoryview a packet", receiver="memoryviews")
    yield replace(base, name="one packet a call", sender="send_one", receiver="recv_one", burst=1)
    for burst in (1, 32, 256):
        yield replace(base, name="memif.libmemif", sender="libmemif_send", receiver="libmemif_receive", burst=burst)
        columns = replace(base, sender="libmemif_scatter", receiver="libmemif_gather", burst=burst)
        yield replace(columns, name="memif.libmemif, scatter → gather")
    yield replace(base, name="asyncio send_all → recv", sender="aio_send", receiver="aio_receive", mode="interrupt")


def _echo() -> Iterable[Scenario]:
    base = Scenario("forward, zero-copy", "echo", "bounce", "forward", towards="slave")
    yield base
    yield replace(base, name="forward, copy", towards="master")
    yield replace(base, name="Python loop, two fields a packet", receiver="python_echo", towards="master")
    yield replace(base, name="numpy ICMP responder", sender="bounce_icmp", receiver="numpy_responder", towards="master")
    yield replace(base, name="numba ICMP responder", sender="bounce_icmp", receiver="numba_responder", towards="master")

    for burst in (32, 256):
        yield replace(base, name="served, zero-copy", receiver="served", burst=burst)
        yield replace(base, name="served, copy", receiver="served", towards="master", burst=burst)


def _rtt() -> Iterable[Scenario]:
    for mode in ("polling", "interrupt", "adaptive"):
        yield Scenario("round trip", "rtt", "ask", "answer", burst=1, mode=mode)
        yield Scenario("round trip, served", "rtt", "ask", "served", burst=1, mode=mode)


CATALOGUE: tuple[Scenario, ...] = (*_bulk(), *_echo(), *_rtt())

_QUICK = {
    ("send_array → gather", 64, 256),
    ("send_array → gather", 64, 32),
    ("send_array → gather", 256, 256),
    ("send_array → gather", 1500, 256),
    ("list of bytes → tobytes", 64, 256),
    ("one memoryview a packet", 64, 256),
    ("one packet a call", 64, 1),
    ("forward, zero-copy", 64, 256),
    ("forward, copy", 64, 256),
    ("numpy ICMP responder", 64, 256),
    ("numba ICMP responder", 64, 256),
    ("round trip", 64, 1),
    ("round trip, served", 64, 1),
    ("served, zero-copy", 64, 32),
    ("Python loop, two fields a packet", 64, 256),
    ("memif.libmemif", 64, 256),
    ("memif.libmemif, scatter → gather", 64, 256),
}


def select(*, quick: bool = False, only: str = "") -> list[Scenario]:
    """Return the scenarios to run: those whose title contains `only`, with `quick` a choice of them."""
    chosen = [s for s in CATALOGUE if only.lower() in s.title.lower()]
    if quick:
        chosen = [
            s
            for s in chosen
            if (s.name, s.size, s.burst) in _QUICK and s.queues == 1 and (s.kind == "rtt" or s.mode == "polling")
        ]
    return chosen


#: A run is valid when both processes had at least this share of their core.
LEAST_SHARE = 0.95


@dataclass(slots=True)
class Measurement:
    """The result of a scenario.

    Attributes:
        scenario: What was measured.
        runs: The figure of each valid run: packets per second, or seconds.
        disturbed: The figure of each run in which a process did not have its core.
        apart: For each run, the nanoseconds that a cache line took from one core to the other and back; None: not
            known.
        percentiles: Of round-trip times, seconds.
        error: Why there is no result; "" if there is one.
    """

    scenario: Scenario
    runs: list[float] = field(default_factory=list)
    disturbed: list[float] = field(default_factory=list)
    apart: list[float | None] = field(default_factory=list)
    percentiles: dict[str, float] = field(default_factory=dict)
    error: str = ""

    @property
    def median(self) -> float | None:
        """Median of the valid runs; None if there is none."""
        return statistics.median(self.runs) if self.runs else None

    @property
    def spread(self) -> float | None:
        """Largest minus smallest run, divided by the median."""
        middle = self.median
        return None if not middle else (max(self.runs) - min(self.runs)) / middle

    def as_dict(self) -> dict[str, Any]:
        """Return everything for JSON."""
        return asdict(self) | {"title": self.scenario.title, "median": self.median, "spread": self.spread}


def cores() -> tuple[int, int]:
    """Return two cores to run on: the first and the last that this process may use."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[-1]


def measure(
    scenario: Scenario,
    *,
    runs: int = 5,
    seconds: float = 0.4,
    attempts: int = 3,
    line: tuple[str, str] | None = None,
    accept: Callable[[float | None], bool] = lambda apart: True,
) -> Measurement:
    """Measure one scenario.

    Args:
        scenario: What to measure.
        runs: How many valid runs to aim for.
        seconds: Length of a run.
        attempts: The most pairs of processes to start.
        line: Library and file by which the processes measure how far apart their cores are, between the runs.
        accept: Whether a run at this distance counts towards `runs`; all valid runs are kept.
    """
    found = Measurement(scenario)
    for _ in range(attempts):
        reports = _run_pair(scenario, runs, seconds, line)
        errors = [r["error"] for r in reports if "error" in r]
        if errors:
            found.error = errors[0]
            return found
        _judge(found, *reports, need_core=scenario.mode == "polling")
        if sum(map(accept, found.apart)) >= runs:
            break
    return found


def _run_pair(scenario: Scenario, runs: int, seconds: float, line: tuple[str, str] | None) -> list[dict[str, Any]]:
    name = f"@memif-bench-{os.getpid()}-{time.monotonic_ns()}"
    receiver_is_master = scenario.towards == "master"
    turn = time.monotonic_ns()  # above those of all pairs before
    workers = []
    for core, part in zip(cores(), ("receiver", "sender"), strict=True):
        role = "master" if (part == "receiver") == receiver_is_master else "slave"
        task = asdict(scenario) | {
            "part": part,
            "role": role,
            "socket": name,
            "core": core,
            "runs": runs,
            "seconds": seconds,
            "line": line,
            "turn": turn,
        }
        workers.append(
            subprocess.Popen(
                [sys.executable, "-m", "memif.bench.worker", json.dumps(task)],
                stdout=subprocess.PIPE,
                stdin=subprocess.DEVNULL,
            )
        )
    reports = []
    for worker in workers:
        try:
            out, _ = worker.communicate(timeout=30 + 3 * runs * seconds)
        except subprocess.TimeoutExpired:
            worker.kill()
            out, _ = worker.communicate()
        lines = out.splitlines()
        reports.append(json.loads(lines[-1]) if lines else {"error": f"worker ended with {worker.returncode}"})
    return reports


def _judge(found: Measurement, receiver: dict[str, Any], sender: dict[str, Any], *, need_core: bool) -> None:
    if found.scenario.kind == "rtt":
        found.percentiles = sender["percentiles"]
        if need_core and min(receiver["share"], sender["share"]) < LEAST_SHARE:
            found.disturbed += sender["medians"]
        else:
            found.runs += sender["medians"]
            found.apart += [None] * len(sender["medians"])
        return
    counting = sender if found.scenario.kind == "echo" else receiver
    marks = zip(_windows(receiver["marks"]), _windows(sender["marks"]), strict=True)
    places = _places(receiver["marks"])
    for count, (ours, theirs), apart in zip(_counts(counting["marks"]), marks, places, strict=True):
        if need_core and min(ours, theirs) < LEAST_SHARE:
            found.disturbed.append(count)
        else:
            found.runs.append(count)
            found.apart.append(apart)


def _places(marks: Sequence[Sequence[float]]) -> list[float | None]:
    """How far apart the cores were in each window: None where that changed, or is not known."""
    return [
        (a[3] + b[3]) / 2 if min(a[3], b[3]) > 0 and max(a[3], b[3]) < 1.5 * min(a[3], b[3]) else None
        for a, b in pairwise(marks)
    ]


def _windows(marks: Sequence[Sequence[float]]) -> list[float]:
    """CPU share of each window; a mark is (count, wall clock, CPU clock, cores apart)."""
    return [(b[2] - a[2]) / (b[1] - a[1]) for a, b in pairwise(marks)]


def _counts(marks: Sequence[Sequence[float]]) -> list[float]:
    return [(b[0] - a[0]) / (b[1] - a[1]) for a, b in pairwise(marks)]


# -- for people


def machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    model = ""
    try:
        with open("/proc/cpuinfo") as lines:
            model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    except OSError:
        pass
    return {
        "cpu": model or platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def rate(value: float | None) -> str:
    """Format packets per second."""
    return "–" if value is None else f"{value / 1e6:.2f} Mpps"


def figure(found: Measurement) -> str:
    """The headline of one found."""
    if found.error:
        return found.error
    busy = " (busy)" if found.median is None and found.disturbed else ""
    if found.scenario.kind == "rtt":
        return ", ".join(f"{name} {1e6 * value:.1f} µs" for name, value in found.percentiles.items()) + busy
    if found.median is None and found.disturbed:
        return rate(statistics.median(found.disturbed)) + busy
    return rate(found.median)


def note(found: Measurement) -> str:
    """Say how far the result can be trusted."""
    gone = len(found.disturbed)
    if found.spread is None:
        return f"the machine is busy: in none of {gone} runs both processes had a core" if gone else ""
    out = f", {gone} without a core left out" if gone else ""
    return f"± {50 * found.spread:.0f} % of {len(found.runs)} runs{out}"


#: Columns of `table` and `markdown`, without those that a caller adds.
HEADINGS = ("what", "figure", "runs")


def rows(measured: Iterable[Measurement]) -> list[Sequence[str]]:
    """Return one row for each measurement: title, figure, and how far it can be trusted."""
    return [(m.scenario.title, figure(m), note(m)) for m in measured]


def markdown(lines: Iterable[Sequence[str]], headings: Sequence[str] = HEADINGS) -> str:
    """Return a table for a page of the documentation."""
    head = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    return "\n".join(head + ["| " + " | ".join(line) + " |" for line in lines]) + "\n"


def table(lines: Iterable[Sequence[str]], title: str, headings: Sequence[str] = HEADINGS) -> "Table":
    """Return a table for a terminal."""
    from rich.table import Table

    shown = Table(title=title, title_justify="left", header_style="bold")
    for heading in headings:
        shown.add_column(heading, justify="left" if heading in ("what", "runs") else "right")
    for line in lines:
        shown.add_row(*line)
    return shown
