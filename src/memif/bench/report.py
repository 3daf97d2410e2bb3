"""The results of measurements, for people and for machines."""

import os
import platform
from collections.abc import Iterable, Sequence
from typing import Any

from memif.bench.pair import Outcome


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
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
    """Packets a second, in words."""
    return "–" if value is None else f"{value / 1e6:.2f} Mpps"


def figure(outcome: Outcome) -> str:
    """The headline of one outcome."""
    if outcome.error:
        return outcome.error[:60]
    if outcome.scenario.kind == "rtt":
        return ", ".join(f"{name} {1e6 * value:.1f} µs" for name, value in outcome.percentiles.items())
    return rate(outcome.median)


def note(outcome: Outcome) -> str:
    """How far the figure can be trusted."""
    if outcome.spread is None:
        return f"no valid run ({outcome.discarded} without a core)" if outcome.discarded else ""
    gone = f", {outcome.discarded} without a core left out" if outcome.discarded else ""
    return f"± {50 * outcome.spread:.0f} % of {len(outcome.runs)} runs{gone}"


def rows(outcomes: Iterable[Outcome]) -> list[Sequence[str]]:
    """One row an outcome: title, figure, trust."""
    return [(o.scenario.title, figure(o), note(o)) for o in outcomes]


HEADINGS = ("what", "figure", "runs")


def markdown(table: Iterable[Sequence[str]], headings: Sequence[str] = HEADINGS) -> str:
    """The table for a page of the documentation."""
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in table]) + "\n"


def show(table: Iterable[Sequence[str]], title: str, headings: Sequence[str] = HEADINGS) -> None:
    """The table on a terminal."""
    from rich.console import Console
    from rich.table import Table

    shown = Table(title=title, title_justify="left", header_style="bold")
    for heading in headings:
        shown.add_column(heading, justify="left" if heading in ("what", "runs") else "right")
    for row in table:
        shown.add_row(*row)
    Console().print(shown)
