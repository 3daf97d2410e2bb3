"""A short form of the soak: random traffic and restarts, every packet accounted for, memory and descriptors flat."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest

SECONDS = float(os.environ.get("MEMIF_SOAK_SECONDS", "6"))
SOURCE = Path(__file__).parents[2] / "benchmarks" / "soak.py"


@pytest.mark.timeout(SECONDS + 60)
def test_soak() -> None:
    spec = importlib.util.spec_from_file_location("soak", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    soak = importlib.util.module_from_spec(spec)
    sys.modules["soak"] = soak  # dataclasses look there
    spec.loader.exec_module(soak)
    account = soak.Soak(SECONDS, 20, print).run()
    print(soak.report(account))
    assert account.errors == []
    assert account.sent == account.returned + account.in_flight_at_breaks
    assert account.sessions >= 3
