"""Measuring memif: two pinned processes, one workload each, many short windows.

A `Scenario` says what is measured. `measure` runs it: a process with the master and one with the slave, each bound to
a core of its own. Both note how far they are at the same moments of the system's clock; every window between two such
moments is one run. A run counts only if both processes had their core all the time (CPU share at least 0.95), so that
a busy machine makes results missing, not wrong.
"""

from memif.bench.pair import Outcome, measure
from memif.bench.scenario import CATALOGUE, Scenario, select

__all__ = ["CATALOGUE", "Outcome", "Scenario", "measure", "select"]
