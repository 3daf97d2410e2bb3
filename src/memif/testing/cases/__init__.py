"""All violations of the protocol that `memif.testing` knows, each with what a correct memif does about it."""

from itertools import chain

from memif.testing.cases.case import Attack, Case, Outcome
from memif.testing.cases.exhaustion import crowd_cases, descriptor_cases
from memif.testing.cases.memory import memory_cases
from memif.testing.cases.rings import ring_cases
from memif.testing.cases.talk import master_cases, slave_cases

#: All cases, by name.
CASES: dict[str, Case] = {
    case.name: case
    for case in chain(slave_cases(), memory_cases(), descriptor_cases(), ring_cases(), master_cases(), crowd_cases())
}

__all__ = ["CASES", "Attack", "Case", "Outcome"]
