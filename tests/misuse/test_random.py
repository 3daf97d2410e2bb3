"""Random sequences of calls over all objects, for MEMIF_MISUSE_SECONDS seconds (3), from seed MEMIF_MISUSE_SEED on.

A failure names its seed: ``PYTHONPATH=tests python -m misuse.child random SEED`` runs that one again.
"""

import os
import time

import pytest

from misuse.spawner import Spawner

SECONDS = float(os.environ.get("MEMIF_MISUSE_SECONDS", "3"))
SEED = int(os.environ.get("MEMIF_MISUSE_SEED", "1"))


@pytest.mark.timeout(SECONDS + 120)
def test_random_sequences() -> None:
    with Spawner() as spawner:
        end = time.monotonic() + SECONDS
        seed = SEED
        while time.monotonic() < end or seed == SEED:
            said = spawner.run("random", str(seed))
            assert not said, f"seed {seed}:\n{said}"
            seed += 1
