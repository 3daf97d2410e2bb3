"""The public `memif.testing.Testpmd`, with what this suite adds: skips, patience, and the account of its crashes."""

from collections.abc import Callable
from typing import Any, Self

import pytest

from memif.testing import dpdk
from memif.testing.dpdk import TestpmdError as TestpmdError
from patience import FACTOR, within
from peers.second_try import note_crash
from peers.settings import require_testpmd

#: Said by DPDK 25.11 when it starts; the older ones run.
_NO_ZERO_COPY = "'no-huge' and 'single-file-segments' can't be used"


def poll_until(ready: Callable[[], Any], timeout: float, interval: float = 0.001) -> Any:
    """Call `ready` until it returns something true, and return that, or its last value after `timeout` s."""
    return dpdk.poll_until(ready, within(timeout), interval)


class Testpmd(dpdk.Testpmd):
    """One running testpmd; through the ``testpmd`` fixture its log is shown when a test fails."""

    __test__ = False
    patience = FACTOR

    def open(self) -> Self:
        """Start it; skip the test where this DPDK does not know how to be a zero-copy client without huge pages."""
        try:
            return super().open()
        except TestpmdError as error:
            if _NO_ZERO_COPY in str(error):
                pytest.skip("this DPDK is a zero-copy client only with huge pages")
            raise

    def require(self) -> None:
        """Skip the test, or fail it where MEMIF_REQUIRE_DPDK=1."""
        require_testpmd()

    def crashed(self, returncode: int, *, asked: bool) -> None:
        """A failed test gets a second try."""
        note_crash(self.name, returncode, asked=asked)
