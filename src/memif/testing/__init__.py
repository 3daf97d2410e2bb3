"""Tools for tests of programs that use memif, and of memif implementations.

`pair` returns two connected interfaces in one process. `leak_check` reports what a test left behind. `HostilePeer`
violates the protocol on command, in either role, and `CASES` is the table of all violations that this package itself is
tested with. `testpmd` and `vpp` run DPDK's testpmd and FD.io's VPP as peers, without huge pages and network card. All
of it needs only the standard library.
"""

from itertools import chain

from memif.testing.cases import Case, Outcome
from memif.testing.cases.exhaustion import crowd_cases, descriptor_cases
from memif.testing.cases.memory import memory_cases
from memif.testing.cases.rings import ring_cases
from memif.testing.cases.talk import master_cases, slave_cases
from memif.testing.dpdk import Testpmd, TestpmdError, testpmd
from memif.testing.fdio import VppProcess, vpp
from memif.testing.harness import Resources, leak_check, leaked, pair, pump, unused_name
from memif.testing.hostile import HUNG_UP, SILENT, Descriptor, HostilePeer, RawRing, Step

__all__ = [
    "CASES",
    "HUNG_UP",
    "SILENT",
    "Case",
    "Descriptor",
    "HostilePeer",
    "Outcome",
    "RawRing",
    "Resources",
    "Step",
    "Testpmd",
    "TestpmdError",
    "VppProcess",
    "leak_check",
    "leaked",
    "pair",
    "pump",
    "testpmd",
    "unused_name",
    "vpp",
]

#: All cases, by name.
CASES: dict[str, Case] = {
    case.name: case
    for case in chain(slave_cases(), memory_cases(), descriptor_cases(), ring_cases(), master_cases(), crowd_cases())
}
