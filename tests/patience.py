"""How long is too long: the one factor by which every upper time bound of the tests is stretched.

``MEMIF_TIME_FACTOR=5 make test`` on a machine that is slow or busy; lower bounds and the package's own timeouts stay.
"""

import os

FACTOR = float(os.environ.get("MEMIF_TIME_FACTOR", "1"))


def within(seconds: float) -> float:
    """The upper bound for something that takes less than `seconds` on a machine of its own."""
    return seconds * FACTOR
