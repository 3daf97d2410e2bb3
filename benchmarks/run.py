"""``make bench``: memif between two pinned processes, its peers in the same run, and what one would take instead.

Prints a table, writes benchmarks/results/{results.json, table.md, rates.png}. ``--quick`` stays under two minutes.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from alternatives import ALTERNATIVES
from rich.progress import track

from memif.bench import Outcome, measure, select
from memif.bench.report import machine, markdown, rate, rows, show

HERE = Path(__file__).resolve().parent


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

    peers = measure_peers(options.quick, runs, seconds)
    chosen = select(quick=options.quick, only=options.only)
    outcomes = [measure(s, runs=max(runs, 5), seconds=seconds) for s in track(chosen, "memif")]
    others = measure_others(0.5 if options.quick else 1.0)
    floor = eventfd_floor()
    report(options.output, peers, outcomes, others, floor)


def measure_peers(quick: bool, runs: int, seconds: float) -> dict[str, float]:
    """Rates of testpmd: to itself, to us, from us. Empty without testpmd or root."""
    if shutil.which("dpdk-testpmd") is None or os.geteuid() != 0:
        print("dpdk-testpmd is not here, or this is not root: no ratios to it")
        return {}
    import testpmd

    work: list[tuple[str, Callable[[], float]]] = []
    for size in (64, 1500):
        work += [
            (f"testpmd → testpmd, {size} B", lambda size=size: testpmd.to_itself(size, runs, seconds)),
            (
                f"testpmd client → memif master, {size} B",
                lambda size=size: testpmd.to_us(size, runs, seconds, role="master"),
            ),
            (
                f"memif slave → testpmd server, {size} B",
                lambda size=size: testpmd.from_us(size, runs, seconds, role="slave"),
            ),
        ]
        if not quick:
            work += [
                (
                    f"testpmd → testpmd, zero-copy, {size} B",
                    lambda size=size: testpmd.to_itself(size, runs, seconds, zero_copy=True),
                ),
                (
                    f"testpmd server → memif slave, {size} B",
                    lambda size=size: testpmd.to_us(size, runs, seconds, role="slave"),
                ),
                (
                    f"memif master → testpmd client, {size} B",
                    lambda size=size: testpmd.from_us(size, runs, seconds, role="master"),
                ),
            ]
    return {name: function() for name, function in track(work, "testpmd")}


def measure_others(seconds: float) -> dict[str, float | None]:
    """What one would take instead of memif: median of five runs each."""
    found: dict[str, float | None] = {}
    for name, function in track(ALTERNATIVES.items(), "alternatives"):
        results = [function(seconds) for _ in range(5)]
        good = [r for r in results if r is not None]
        found[name] = statistics.median(good) if good else None
    return found


def eventfd_floor() -> float | None:
    """Round trip by eventfd between two loops in C, seconds; None without a compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    usable = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        program = f"{folder}/pingpong"
        subprocess.run([compiler, "-O2", "-o", program, str(HERE / "eventfd_pingpong.c")], check=True)
        results = [
            subprocess.run(
                [program, str(usable[0]), str(usable[-1]), "0.4"], check=True, capture_output=True, text=True
            ).stdout
            for _ in range(5)
        ]
    return statistics.median(map(float, results))


def report(
    folder: Path, peers: dict[str, float], outcomes: list[Outcome], others: dict[str, float | None], floor: float | None
) -> None:
    """Table on the terminal, JSON, Markdown and the plot in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    bases = {size: peers[name] for size in (64, 1500) if (name := f"testpmd → testpmd, {size} B") in peers}
    table = rows(outcomes, bases)
    best = max(
        (o.median for o in outcomes if o.median and o.scenario.kind == "bulk" and o.scenario.size == 64), default=None
    )
    side = [(name, rate(value), "", "") for name, value in peers.items()]
    for name, value in others.items():
        against = f"memif is {best / value:.0f} times as fast" if best and value else ""
        side.append((name + ", 64 B", rate(value), "", against))
    if floor is not None:
        side.append(("eventfd ping-pong in C", f"p50 {1e6 * floor:.1f} µs", "", ""))
    show(table, f"memif on {machine()['cpu']}, {machine()['cores']} cores")
    show(side, "beside it, in the same run")
    (folder / "table.md").write_text(markdown(table) + "\n" + markdown(side))
    data: dict[str, Any] = {
        "command": "make bench BENCH='" + " ".join(sys.argv[1:]) + "'",
        "machine": machine(),
        "peers": peers,
        "alternatives": others,
        "eventfd_pingpong": floor,
        "outcomes": [o.as_dict() for o in outcomes],
    }
    (folder / "results.json").write_text(json.dumps(data, indent=1) + "\n")
    plot(outcomes, bases, folder / "rates.png")
    print(f"written: {folder}/results.json, table.md, rates.png")


def plot(outcomes: list[Outcome], bases: dict[int, float], path: Path) -> None:
    """Rate over burst, one line a size, and rate over size."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4))
    chosen = [
        o
        for o in outcomes
        if o.scenario.name == "send_array → gather"
        and o.median
        and o.scenario.towards == "master"
        and o.scenario.queues == 1
        and o.scenario.mode == "polling"
    ]
    for size in sorted({o.scenario.size for o in chosen}):
        line = sorted((o.scenario.burst, o.median / 1e6) for o in chosen if o.scenario.size == size and o.median)
        left.plot(*zip(*line, strict=True), marker="o", label=f"{size} B")
    for burst in sorted({o.scenario.burst for o in chosen}):
        line = sorted((o.scenario.size, o.median / 1e6) for o in chosen if o.scenario.burst == burst and o.median)
        right.plot(*zip(*line, strict=True), marker="o", label=f"burst {burst}")
    if bases:
        left.axhline(bases[64] / 1e6, linestyle="--", color="grey", label="testpmd, 64 B")
        right.plot(list(bases), [v / 1e6 for v in bases.values()], "x--", color="grey", label="testpmd")
    for axis, name in ((left, "packets a burst"), (right, "bytes a packet")):
        axis.set(xlabel=name, ylabel="million packets a second", xscale="log", ylim=(0, None))
        axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
