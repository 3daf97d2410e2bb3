"""``memif bench`` and the programs of ``benchmarks/`` on a machine that has other things to do."""

import importlib.util
import os
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from patience import within
from peers.settings import missing
from tools.process import memif

pytestmark = pytest.mark.timeout(240)
ROW = "send_array → gather, 64 B, burst 256, S2M"


def program(name: str) -> ModuleType:
    """One of the programs in ``benchmarks/``, as a module."""
    path = Path(__file__).parents[2] / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def one_core() -> Any:
    """This process, and its children, share one core."""
    usable = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(usable)})
    yield
    os.sched_setaffinity(0, usable)


def test_a_busy_machine_has_figures_that_are_marked(one_core: None) -> None:
    options = ("bench", "--only", ROW, "--runs", 2, "--seconds", 0.1)
    result = memif(*options, timeout=within(100))
    assert result.code == 0, result.err
    text = " ".join(result.out.split())
    assert "Mpps (busy)" in text
    assert "the machine is busy" in text
    outcome = memif(*options, "--json", timeout=within(100)).json["outcomes"][0]
    assert outcome["runs"] == []
    assert outcome["median"] is None
    assert len(outcome["disturbed"]) >= 2
    assert all(figure > 0 for figure in outcome["disturbed"])


def test_round_trips_on_a_busy_machine_are_marked(one_core: None) -> None:
    options = ("bench", "--only", "round trip, 64 B, burst 1, S2M", "--runs", 1, "--seconds", 0.2)
    outcomes = memif(*options, "--json", timeout=within(100)).json["outcomes"]
    by_mode = {outcome["scenario"]["mode"]: outcome for outcome in outcomes}
    assert sorted(by_mode) == ["adaptive", "interrupt", "polling"]
    assert not any(outcome["error"] for outcome in outcomes)
    assert by_mode["polling"]["runs"] == []
    assert by_mode["polling"]["disturbed"]
    assert by_mode["interrupt"]["runs"]  # it sleeps, so that one core is enough


@pytest.mark.timeout(100)
def test_served() -> None:
    row = "round trip, served, 64 B, burst 1, S2M, adaptive"
    if importlib.util.find_spec("numba") is None:
        missing("numba is missing: pip install 'memif[numba]'")
    [outcome] = memif("bench", "--only", row, "--runs", 1, "--seconds", 0.2, "--json", timeout=90).json["outcomes"]
    assert outcome["error"] == ""
    assert all(figure > 0 for figure in outcome["runs"] + outcome["disturbed"])
    assert outcome["runs"] + outcome["disturbed"]


@pytest.mark.parametrize("name", ["memif.libmemif", "memif.libmemif, scatter → gather"])
def test_functions_of_the_c_library(name: str) -> None:
    options = ("bench", "--only", f"{name}, 64 B, burst 32", "--runs", 1, "--seconds", 0.1, "--json")
    [outcome] = memif(*options, timeout=within(100)).json["outcomes"]
    assert outcome["error"] == ""
    assert max(outcome["runs"] + outcome["disturbed"]) > 0


def test_two_sides_that_do_not_meet_do_not_end_a_run(one_core: None) -> None:
    if shutil.which("cc") is None:
        missing("a C compiler is missing: apt-get install gcc")
    floor = program("floor")
    with floor.Floor() as found:
        assert found.line is not None
        assert found._run("cache_line") is None
        result, apart = found.steady(lambda: 7)
    assert (result, apart) == (7, None)
