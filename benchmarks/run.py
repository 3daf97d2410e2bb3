"""``make bench``: compare memif between two pinned processes with testpmd and with alternatives, in the same run.

What is measured of memif itself, and how, is in the package: `memif.bench`.

Prints a table, writes benchmarks/results/{results.json, table.md, rates.png}. ``--quick`` stays under two minutes.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import threads
from alternatives import ALTERNATIVES
from floor import Floor, same
from rich.console import Console
from rich.progress import track

from memif.bench import Measurement, Scenario, figure, machine, markdown, measure, note, rate, select, table

HERE = Path(__file__).resolve().parent
#: A rate, and how far apart the cores were (see `floor`).
Placed = tuple[float, float | None]


def main() -> None:
    """Measure everything that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a choice of rows, under two minutes")
    parser.add_argument("--only", default="", help="only rows with this text in their title")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.4)
    parser.add_argument("--output", type=Path, default=HERE / "results")
    options = parser.parse_args()
    runs, seconds = (3, 0.25) if options.quick else (options.runs, options.seconds)
    with Floor(attempts=2 if options.quick else 4) as floor:
        bench = BenchmarkRun(floor, options.quick, runs, seconds)
        bench.yardstick()
        chosen = select(quick=options.quick, only=options.only)
        for number, scenario in enumerate(track(chosen, "memif")):
            if number and number % 12 == 0 and not options.quick:
                bench.yardstick()  # again now and then: the machine changes
            bench.outcomes.append(bench.measured(scenario))
        bench.yardstick()
        if not options.only:
            bench.other_peers()
            bench.alternatives()
            bench.threads()
        bench.eventfd = floor.eventfd()
        bench.report(options.output)


class BenchmarkRun:
    """All results of one run."""

    def __init__(self, floor: Floor, quick: bool, runs: int, seconds: float) -> None:
        self.floor, self.quick, self.runs, self.seconds = floor, quick, runs, seconds
        self.bases: dict[int, list[Placed]] = {64: [], 1500: []}
        self.outcomes: list[tuple[Measurement, float | None]] = []
        self.peers: dict[str, Placed] = {}
        self.others: dict[str, float | None] = {}
        self.scaling: dict[str, tuple[float, float]] = {}
        self.eventfd: float | None = None
        self.testpmd = shutil.which("dpdk-testpmd") is not None and os.geteuid() == 0
        if not self.testpmd:
            print("dpdk-testpmd is not here, or this is not root: no ratios to it")

    def yardstick(self) -> None:
        """testpmd to testpmd, which the rates are compared with."""
        if self.testpmd:
            import testpmd

            for size, found in self.bases.items():
                found.append(self.floor.steady(lambda size=size: testpmd.to_itself(size, self.runs, self.seconds)))

    def measured(self, scenario: Scenario) -> tuple[Measurement, float | None]:
        """Runs of one scenario at the usual distance, or where there are too few, at another that had enough."""
        if scenario.kind == "rtt":
            return self.floor.steady(lambda: measure(scenario, runs=5, seconds=self.seconds))
        found = measure(
            scenario,
            runs=5,
            seconds=self.seconds,
            attempts=1 if self.quick else 4,
            line=self.floor.line,
            accept=lambda apart: same(apart, self.floor.usual),
        )
        for place in (self.floor.usual, *found.apart):
            chosen = [i for i, apart in enumerate(found.apart) if same(apart, place)]
            if len(chosen) >= 3:
                runs, apart = [found.runs[i] for i in chosen], [found.apart[i] for i in chosen]
                known = [a for a in apart if a is not None]
                outcome = replace(found, runs=runs, apart=apart)
                return outcome, statistics.median(known) if known else None
        return found, None

    def base(self, size: int, apart: float | None) -> float | None:
        """The yardstick for a packet size (64 B for sizes in between), at the same distance of the cores."""
        found = [rate for rate, at in self.bases.get(size, self.bases[64]) if same(at, apart)]
        return statistics.median(found) if found else None

    def other_peers(self) -> None:
        """testpmd to us and from us in both roles, and its zero-copy client."""
        if not self.testpmd:
            return
        import testpmd

        work: list[tuple[str, Callable[[], float]]] = []
        for size in (64, 1500):
            for name, function, role in (
                ("testpmd client → memif master", testpmd.to_us, "master"),
                ("memif slave → testpmd server", testpmd.from_us, "slave"),
                ("testpmd server → memif slave", testpmd.to_us, "slave"),
                ("memif master → testpmd client", testpmd.from_us, "master"),
            ):
                if role == "slave" and function is testpmd.to_us and self.quick:
                    continue
                work.append((f"{name}, {size} B", self._task(function, size, role=role)))
            if not self.quick:
                zero_copy = self._task(testpmd.to_itself, size, zero_copy=True)
                work.append((f"testpmd → testpmd, zero-copy, {size} B", zero_copy))
        for name, task in track(work, "testpmd"):
            self.peers[name] = self.floor.steady(task)

    def _task(self, function: Callable[..., float], size: int, **how: object) -> Callable[[], float]:
        return lambda: function(size, self.runs, self.seconds, **how)

    def alternatives(self) -> None:
        """What one would use instead of memif: median of five runs each."""
        seconds = 0.5 if self.quick else 1.0
        for name, function in track(ALTERNATIVES.items(), "alternatives"):
            good = [r for r in (function(seconds) for _ in range(5)) if r is not None]
            self.others[name] = statistics.median(good) if good else None

    def threads(self) -> None:
        """Two threads beside one."""
        for size, burst in track(threads.CASES, "threads"):
            self.scaling[f"{size} B, burst {burst}"] = threads.scaling(size, burst, 0.2 if self.quick else 0.4)

    def report(self, folder: Path) -> None:
        """Table on the terminal, JSON, Markdown and the plot in `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        main = [self._row(outcome, apart) for outcome, apart in self.outcomes]
        side = list(self._beside())
        headings = ("what", "figure", "x testpmd", "runs", "cores apart")
        terminal = Console()
        terminal.print(table(main, f"memif on {machine()['cpu']}, {machine()['cores']} cores", headings))
        terminal.print(table(side, "beside it, in the same run", headings))
        (folder / "table.md").write_text(markdown(main, headings) + "\n" + markdown(side, headings))
        data: dict[str, Any] = {
            "command": "make bench BENCH='" + " ".join(sys.argv[1:]) + "'",
            "machine": machine(),
            "cores_apart_ns": self.floor.usual,
            "testpmd_to_testpmd": self.bases,
            "peers": self.peers,
            "alternatives": self.others,
            "threads": self.scaling,
            "eventfd_pingpong": self.eventfd,
            "outcomes": [outcome.as_dict() | {"cores_apart_ns": apart} for outcome, apart in self.outcomes],
        }
        (folder / "results.json").write_text(json.dumps(data, indent=1) + "\n")
        plot(self, folder / "rates.png")
        print(f"written: {folder}/results.json, table.md, rates.png")

    def _row(self, outcome: Measurement, apart: float | None) -> tuple[str, ...]:
        base = None if outcome.scenario.kind == "rtt" else self.base(outcome.scenario.size, apart)
        times = f"{outcome.median / base:.2f} x" if base and outcome.median else ""
        return outcome.scenario.title, figure(outcome), times, note(outcome), distance(apart)

    def _beside(self) -> Iterator[tuple[str, ...]]:
        for size, found in self.bases.items():
            usual = [r for r, at in found if same(at, self.floor.usual)]
            if usual:
                times = f"{len(usual)} times in the run, {min(usual) / 1e6:.1f} to {max(usual) / 1e6:.1f}"
                yield (
                    f"testpmd → testpmd, {size} B",
                    rate(statistics.median(usual)),
                    "",
                    times,
                    distance(self.floor.usual),
                )
        for name, (value, apart) in self.peers.items():
            base = self.base(1500 if "1500" in name else 64, apart)
            yield name, rate(value), f"{value / base:.2f} x" if base else "", "", distance(apart)
        bulk = [o.median for o, _ in self.outcomes if o.median and o.scenario.kind == "bulk" and o.scenario.size == 64]
        for name, value in self.others.items():
            against = f"memif is {max(bulk) / value:.0f} times as fast" if bulk and value else ""
            yield name + ", 64 B", rate(value), "", against, ""
        for name, (one, two) in self.scaling.items():
            yield f"two queues, two threads, {name}", rate(two), "", f"{two / one:.2f} x one thread's {rate(one)}", ""
        if self.eventfd is not None:
            yield "eventfd ping-pong in C", f"p50 {1e6 * self.eventfd:.1f} µs", "", "", ""


def distance(apart: float | None) -> str:
    """How far apart the cores were, in words."""
    return "changed" if apart is None else f"{apart:.0f} ns"


def plot(bench: BenchmarkRun, path: Path) -> None:
    """Rate over burst, one line a size, and rate over size."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    # On light and on dark pages: no ground, and a grey that both show.
    grey = "#808a94"
    for part in ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"):
        matplotlib.rcParams[part] = grey
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4))
    chosen = [
        o
        for o, apart in bench.outcomes
        if o.scenario.name == "send_array → gather"
        and o.median
        and o.scenario.towards == "master"
        and o.scenario.queues == 1
        and o.scenario.mode == "polling"
        and same(apart, bench.floor.usual)
    ]
    for size in sorted({o.scenario.size for o in chosen}):
        line = sorted((o.scenario.burst, o.median / 1e6) for o in chosen if o.scenario.size == size and o.median)
        left.plot(*zip(*line, strict=True), marker="o", label=f"{size} B")
    for burst in sorted({o.scenario.burst for o in chosen}):
        line = sorted((o.scenario.size, o.median / 1e6) for o in chosen if o.scenario.burst == burst and o.median)
        right.plot(*zip(*line, strict=True), marker="o", label=f"burst {burst}")
    bases = {size: base / 1e6 for size in bench.bases if (base := bench.base(size, bench.floor.usual))}
    if 64 in bases:
        left.axhline(bases[64], linestyle="--", color=grey, label="testpmd, 64 B")
    right.plot(list(bases), list(bases.values()), "x--", color=grey, label="testpmd")
    for axis, name in ((left, "packets a burst"), (right, "bytes a packet")):
        axis.set(xlabel=name, ylabel="million packets a second", xscale="log", ylim=(0, None))
        axis.legend(framealpha=0.0)
    figure.tight_layout()
    figure.savefig(path, dpi=110, transparent=True)


if __name__ == "__main__":
    main()
