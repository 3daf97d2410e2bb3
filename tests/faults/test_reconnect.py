"""A thousand reconnects in a row, and nothing piles up."""

import os
import resource
import time
from collections.abc import Callable
from typing import Any

import pytest

import memif
from ends import linked, pump, receive
from memif.testing import Resources
from peers.testpmd import Testpmd

LONG = os.environ.get("MEMIF_LONG", "") not in ("", "0")
AGAINST_OURSELVES = 1000
AGAINST_TESTPMD = 1000 if LONG else 200


def rss_kib() -> int:
    """Memory of this process, without what is shared."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))


def cross(left: memif.Interface, right: memif.Interface, number: int) -> None:
    """One packet each way."""
    packet = number.to_bytes(4, "big") * 20
    assert left.tx[0].send([packet]) == 1
    assert right.tx[0].send([packet]) == 1
    assert receive(right.rx[0], 1) == receive(left.rx[0], 1) == [packet]


@pytest.mark.nosanitizer  # which keeps freed memory for a while
@pytest.mark.timeout(180)
def test_a_thousand_reconnects_against_ourselves(socket_path: str, record_property: Callable[..., None]) -> None:
    with linked(socket_path, ring_size=64, slave={"reconnect": 0.001}) as (master, slave):
        start = time.monotonic()
        for number in range(1, AGAINST_OURSELVES + 1):
            (slave if number % 2 else master).disconnect("again")
            pump(master, slave, until=lambda: not master.up)
            pump(master, slave, until=lambda: master.up and slave.up)
            cross(master, slave, number)
            if number == 50:
                before, memory = Resources.now(), rss_kib()
        seconds = time.monotonic() - start
        after, growth = Resources.now(), rss_kib() - memory
        assert master.stats["connects"] == slave.stats["connects"] == AGAINST_OURSELVES + 1
        assert master.stats["disconnects"] == AGAINST_OURSELVES
    assert [len(kind) for kind in after] == [len(kind) for kind in before]
    assert growth < 2048, f"{growth} KiB more"
    record_property("seconds", round(seconds, 1))
    print(f"{AGAINST_OURSELVES} reconnects in {seconds:.1f} s, {growth} KiB more")


@pytest.mark.dpdk
@pytest.mark.timeout(60 if not LONG else 1200)
def test_reconnects_against_testpmd(testpmd: Callable[..., Testpmd], socket_path: str) -> None:
    server: Any = testpmd("server", forward="io")
    with memif.connect(socket_path, reconnect=0.01, timeout=10.0) as iface:
        for number in range(AGAINST_TESTPMD):
            iface.disconnect("again")
            assert not iface.up
            iface.wait_up(5.0)
            if number == 10:
                before, memory = Resources.now(), rss_kib()
        after, growth = Resources.now(), rss_kib() - memory
        assert iface.stats["connects"] == AGAINST_TESTPMD + 1
        assert [len(kind) for kind in after] == [len(kind) for kind in before]
        assert growth < 2048, f"{growth} KiB more"
        server.wait_link()


def test_limits_of_this_process_are_as_before() -> None:
    """The runs above must not have been possible only because somebody raised the limits."""
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= 256
