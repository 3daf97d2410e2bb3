"""Tools for tests of programs that use memif, and of memif implementations.

`pair` returns two connected interfaces in one process. `leak_check` reports what a test left behind. `HostilePeer`
violates the protocol on command, in either role, and `CASES` is the table of all violations that this package itself is
tested with. All of it needs only the standard library.
"""

from memif.testing.cases import CASES, Case, Outcome
from memif.testing.hostile import HUNG_UP, SILENT, Descriptor, HostilePeer, RawRing, Step
from memif.testing.leaks import Resources, leak_check, leaked
from memif.testing.link import pair, pump, unused_name

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
    "leak_check",
    "leaked",
    "pair",
    "pump",
    "unused_name",
]
