"""All departures from the protocol that `memif.testing` knows, each with what a sound memif makes of it."""

from memif.testing.cases import descriptors, floods, master_talk, rings, slave_memory, slave_talk
from memif.testing.cases.case import Attack, Case, Outcome

#: All cases, by name.
CASES: dict[str, Case] = {
    case.name: case
    for module in (slave_talk, slave_memory, descriptors, rings, master_talk, floods)
    for case in module.cases()
}

__all__ = ["CASES", "Attack", "Case", "Outcome"]
