#!/usr/bin/env python3
"""Check the Promela model of a ring exhaustively with spin: every variant must turn out as expected.

``python tests/model/run.py`` checks all, ``run.py NAME...`` some (a prefix is enough), ``run.py --trace NAME`` shows
step by step how a violation comes about. Ends with 0 when every result is the expected one. Needs spin and gcc.
"""

import argparse
import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING or __package__:  # imported by the tests
    from .variants import VARIANTS, Variant
else:  # run as a script
    from variants import VARIANTS, Variant

HERE = Path(__file__).resolve().parent
HOLDS = "holds"
MEMORY = 1024  # MiB that one search may take
SECONDS = 200.0  # that one search may take: a multiple of what the longest needs
WORKERS = 2  # searches at a time

# What a violated assertion of the model means: the first pattern that fits the text that spin prints.
MEANINGS = (
    (r"acceptance cycle", "starved"),
    (r"received==written", "lost wake-up"),
    (r"violated \(?quit", "slots lost"),
    (r"held\[", "overwritten"),
    (r"!\(next\[\(\(published", "torn chain"),
    (r"now-seen", "index refused"),
    (r"published-returned|returned-published", "overrun"),
    (r"==30", "no buffer"),
    (r"received\+i|payload", "wrong packet"),
)

_WHO = {"3": "-> memory", "4": "memory <-"}  # the two Memory processes in a trace: the producer's, the consumer's
_NOISE = (
    r"\(\(pending\[me\]\.n>0\)\)|pending\[me\]\.at\[k\].* = .*|sub-sequence|DO|IF|else"
    r"|\(1\)|\.\(goto\)|goto :.*|k = .*|\w+ = 0|now = .*"
)
# The inline store() of memory.pml as spin shows it, and the places in the order of their numbers there.
_STORE = r"\(\(pending\[\d\]\.n<\d\)\); [^;]*place = (\d); [^;]*; [^;]*value = ([^;]*); [^;]*; [^;]*n\+1\)"
_PLACES = ("published", "returned", "mask", "payload", "word", "length", "flags")


@dataclass(frozen=True)
class Result:
    """Outcome of one search: `verdict` ("holds", a violation, or what went wrong), states stored, depth, seconds."""

    variant: Variant
    verdict: str
    states: int = 0
    depth: int = 0
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        """Whether the verdict is the expected one."""
        return self.verdict == self.variant.expected

    def line(self) -> str:
        """One row of the table."""
        v = self.variant
        mark = "ok" if self.good else "WRONG"
        return (
            f"{v.name:<28} {self.states:>9,} {self.depth:>9,} {self.seconds:>6.1f} "
            f"{v.expected:<14} {self.verdict:<14} {mark}"
        )


def missing() -> str | None:
    """Name what is needed and not here, or None."""
    need = [tool for tool in ("spin", "gcc") if shutil.which(tool) is None]
    return f"missing: apt-get install {' '.join(need)}" if need else None


def check(variant: Variant) -> Result:
    """Search all states of one variant."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="memif-model-") as folder:
        try:
            output = _search(variant, Path(folder))
        except subprocess.CalledProcessError as error:
            return Result(variant, f"no model: {error.output[-300:]}")
        except subprocess.TimeoutExpired:
            return Result(variant, "too slow")
    return Result(
        variant,
        _verdict(output),
        _number(r"(\d+) states, stored", output),
        _number(r"depth reached (\d+)", output),
        time.monotonic() - start,
    )


def check_all(variants: Sequence[Variant]) -> Iterator[Result]:
    """Results in the order of `variants`; several searches run at once."""
    with ThreadPoolExecutor(min(WORKERS, os.cpu_count() or 1)) as pool:
        yield from pool.map(check, variants)


def trace(variant: Variant) -> str:
    """Every step that leads to the violation of `variant`, or a note that there is none."""
    with tempfile.TemporaryDirectory(prefix="memif-model-") as folder:
        _search(variant, Path(folder), shortest=True)
        if not list(Path(folder).glob("*.trail")):
            return "no violation, so no trace"
        steps = _call(["spin", "-t", "-p", *_defines(variant), "ring.pml"], Path(folder))
    return "\n".join(_steps(steps))


def _steps(output: str) -> Iterator[str]:
    """One line a step, without what only moves the model's own machinery on."""
    pattern = r"^ *(\d+):\tproc +(\d+) \((\w+):\d+\) (\S+) .*?\t\[(.*)\]$"
    rows = re.findall(pattern, output, re.MULTILINE)
    for (number, process, who), step in itertools.groupby(rows, key=lambda row: row[:3]):
        places, statements = zip(*((where, what) for *_, where, what in step), strict=True)
        shown = "; ".join(what for what in statements if not re.fullmatch(_NOISE, what))
        shown = re.sub(_STORE, lambda found: f"store {_PLACES[int(found[1])]} := {found[2]}", shown)
        if shown:
            yield f"{number:>4} {_WHO.get(process, who):<9} {places[0]:<17} {shown}"


def _defines(variant: Variant) -> list[str]:
    return [f"-D{word}" for word in variant.defines]


def _search(variant: Variant, folder: Path, shortest: bool = False) -> str:
    """Let spin write the verifier, compile it, run it. -> what it printed."""
    for source in HERE.glob("*.pml"):
        shutil.copy(source, folder)
    _call(["spin", "-a", *_defines(variant), "ring.pml"], folder)
    options = [f"-DMEMLIM={MEMORY}", "-O1" if variant.deep else "-O0"]
    options += ["-DCOLLAPSE"] if variant.deep else []
    options += [] if variant.liveness else ["-DSAFETY"]
    options += ["-DREACH"] if shortest else []
    _call(["gcc", "-w", *options, "-o", "pan", "pan.c"], folder)
    words = ["./pan", f"-m{2_000_000 if variant.deep else 400_000}", f"-w{22 if variant.deep else 20}"]
    words += ["-a", "-f"] if variant.liveness else []
    words += ["-i"] if shortest else []
    return _call(words, folder)


def _call(words: Sequence[str], folder: Path) -> str:
    done = subprocess.run(
        words,
        cwd=folder,
        check=True,
        timeout=SECONDS,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    return done.stdout


def _verdict(output: str) -> str:
    """What a search found. One that was cut short found nothing, whatever it says."""
    found = re.search(r"^pan:\d+: (.*) \(at depth", output, re.MULTILINE)
    if found:
        return next((name for pattern, name in MEANINGS if re.search(pattern, found[1])), found[1])
    if "errors: 0" in output and "Search not completed" not in output and "too small" not in output:
        return HOLDS
    return "not completed"


def _number(pattern: str, output: str) -> int:
    found = re.search(pattern, output)
    return int(found[1]) if found else 0


def _chosen(names: Sequence[str]) -> list[Variant]:
    return [v for v in VARIANTS if not names or any(v.name.startswith(name) for name in names)]


def main() -> int:
    """The command line. -> 0 when all is as expected, 1 when not, 2 when there is nothing to run (with)."""
    parser = argparse.ArgumentParser(description="Check the model of a memif ring with spin.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="variants, or what their names begin with")
    parser.add_argument("--trace", action="store_true", help="show the steps to the violation of one variant")
    arguments = parser.parse_args()
    variants = _chosen(arguments.names)
    reason = missing() or (None if variants else "no variant has such a name")
    if reason:
        print(reason, file=sys.stderr)
        return 2
    if arguments.trace:
        print(trace(variants[0]))
        return 0
    print(f"{'variant':<28} {'states':>9} {'depth':>9} {'s':>6} {'expected':<14} {'result':<14}")
    wrong = 0
    for result in check_all(variants):
        print(result.line(), flush=True)
        wrong += not result.good
    print(f"{len(variants)} variants, {wrong} not as expected")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
