"""What is known of other implementations, and the faults that `memif doctor` names."""

from itertools import groupby

from memif.doctor import FAULTS, QUIRKS
from text import table

#: What the rows of a peer end with.
MORE = {"VPP": "More: [VPP](howto/vpp.md).", "DPDK": "More: [testpmd](howto/testpmd.md)."}


def quirks() -> str:
    """One row for a peer and a range of versions."""
    rows = []
    for (peer, versions), group in groupby(QUIRKS, key=lambda quirk: (quirk.peer, quirk.versions)):
        texts = [quirk.text for quirk in group]
        texts += [MORE[peer]] if not versions and peer in MORE else []
        rows.append((peer, versions or "all", " ".join(texts)))
    return table(("peer", "versions", "what to know"), rows)


def faults() -> str:
    """One row a fault, with what to do."""
    rows = [(f"`{name}`", text, advice) for name, (text, advice) in FAULTS.items()]
    return table(("fault", "what it is", "what to do"), rows)
