"""Whether the real peers can run here, and what becomes of a test when they cannot."""

import os
import shutil
from typing import NoReturn

import pytest

from memif.testing.dpdk_settings import available_cpus as available_cpus

_PACKAGES = "dpdk dpdk-dev librte-net-memif23 librte-net-tap23 librte-net-pcap23 librte-mempool-ring23"


def missing(reason: str) -> NoReturn:
    """Skip the running test for `reason`; fail it where MEMIF_REQUIRE_DPDK=1 promises that DPDK is there."""
    if os.environ.get("MEMIF_REQUIRE_DPDK") == "1":
        pytest.fail(f"MEMIF_REQUIRE_DPDK=1, but {reason}", pytrace=False)
    pytest.skip(reason)


def require_testpmd() -> None:
    """Skip (or fail, see `missing`) unless testpmd can run here."""
    if shutil.which("dpdk-testpmd") is None:
        missing(f"dpdk-testpmd is missing: apt-get install --no-install-recommends {_PACKAGES}")
    if os.geteuid() != 0:
        missing("dpdk-testpmd needs root")
