"""Run a scenario in two processes and judge the runs."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

from memif.bench.scenario import Scenario

#: A run counts when both processes had at least this share of their core.
LEAST_SHARE = 0.95


@dataclass(slots=True)
class Outcome:
    """What came out: the runs' figures (packets a second, or seconds), and how many runs were thrown away."""

    scenario: Scenario
    runs: list[float] = field(default_factory=list)
    discarded: int = 0
    #: Of each run: nanoseconds that a cache line took from one core to the other and back; None where not known.
    apart: list[float | None] = field(default_factory=list)
    percentiles: dict[str, float] = field(default_factory=dict)
    error: str = ""

    @property
    def median(self) -> float | None:
        """Median of the runs that count; None when there is none."""
        return statistics.median(self.runs) if self.runs else None

    @property
    def spread(self) -> float | None:
        """Largest minus smallest run, as a share of the median."""
        middle = self.median
        return None if not middle else (max(self.runs) - min(self.runs)) / middle

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"title": self.scenario.title, "median": self.median, "spread": self.spread}


def cores() -> tuple[int, int]:
    """Two cores to run on: the first and the last that this process may use."""
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
) -> Outcome:
    """Measure one scenario: `runs` runs of `seconds` that count, in at most `attempts` pairs of processes.

    line        library and file by which the processes find out how far apart their cores are, between the runs
    accept      whether to go on until there are enough runs at this distance; all are kept
    """
    outcome = Outcome(scenario)
    for _ in range(attempts):
        reports = _run_pair(scenario, runs, seconds, line)
        errors = [r["error"] for r in reports if "error" in r]
        if errors:
            outcome.error = errors[0]
            return outcome
        _judge(outcome, *reports, need_core=scenario.mode == "polling")
        if sum(map(accept, outcome.apart)) >= runs:
            break
    return outcome


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


def _judge(outcome: Outcome, receiver: dict[str, Any], sender: dict[str, Any], *, need_core: bool) -> None:
    if outcome.scenario.kind == "rtt":
        outcome.percentiles = sender["percentiles"]
        outcome.runs.append(sender["percentiles"]["p50"])
        outcome.runs += sender["medians"]
        outcome.apart += [None] * len(outcome.runs)
        return
    counting = sender if outcome.scenario.kind == "echo" else receiver
    marks = zip(_windows(receiver["marks"]), _windows(sender["marks"]), strict=True)
    places = _places(receiver["marks"])
    for count, (ours, theirs), apart in zip(_counts(counting["marks"]), marks, places, strict=True):
        if need_core and min(ours, theirs) < LEAST_SHARE:
            outcome.discarded += 1
        else:
            outcome.runs.append(count)
            outcome.apart.append(apart)


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
