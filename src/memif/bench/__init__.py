"""Measuring memif between two pinned processes, for ``memif bench`` and the programs in ``benchmarks/``.

A `Scenario` says what is measured. `measure` runs it: a process with the master and one with the slave, each bound to
a core of its own. Both note their progress at the same moments of the system's clock; every window between two such
moments is one run. A run is valid only if both processes had their core all the time (CPU share at least 0.95). Where
none is, on a busy machine, the figure is that of the others, and marked.
"""

from memif.bench.measurement import (
    CATALOGUE,
    Measurement,
    Scenario,
    cores,
    figure,
    machine,
    markdown,
    measure,
    note,
    rate,
    rows,
    select,
    table,
)
from memif.extras import numpy as _numpy  # noqa: F401  # says which extra is missing

__all__ = [
    "CATALOGUE",
    "Measurement",
    "Scenario",
    "cores",
    "figure",
    "machine",
    "markdown",
    "measure",
    "note",
    "rate",
    "rows",
    "select",
    "table",
]
