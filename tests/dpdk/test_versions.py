"""What `memif.doctor` knows of DPDK's versions is true of the one at hand: see also ``make dpdk``."""

from collections.abc import Callable

import pytest

import memif
from ends import receive
from memif.doctor import diagnose, quirks_of
from patience import within
from peers.end import link
from peers.testpmd import Testpmd, poll_until

pytestmark = pytest.mark.dpdk
HEADER = bytes.fromhex("020000000001 020000000002 0800")
#: Frames of these sizes, in rounds through small rings.
SIZES = (60, 5000, 60, 3000, 5000, 60, 60) * 10


def frames(count: int, size: int) -> list[bytes]:
    return [HEADER + number.to_bytes(4, "big") + bytes(size - 18) for number in range(count)]


def known(iface: memif.Interface, words: str) -> bool:
    """Whether a quirk with these words is known of the peer."""
    assert iface.peer is not None
    peer, quirks = quirks_of(iface.peer.app_name)
    assert peer.startswith("DPDK 2")
    return any(words in quirk.text for quirk in quirks)


@pytest.mark.parametrize("role", ["slave", "master"])
def test_chains(role: str, testpmd: Callable[..., Testpmd], socket_path: str) -> None:
    """Long and short frames in turn come back as they were, or the table says so."""
    options = {"forward": "macswap", "rsize": 6}
    with link(socket_path, role, testpmd, ours={"ring_size": 64}, **options) as (iface, peer):
        broken = known(iface, "chains")
        right = 0
        with peer.forwarding():
            for size in SIZES:
                sent = frames(8, size)
                if iface.tx[0].send_all(sent, timeout=within(5)) == 8:
                    back = receive(iface.rx[0], 8, timeout=1.0)
                    right += [f[12:] for f in back] == [f[12:] for f in sent]
    assert (right < len(SIZES)) == broken


def test_buffers_that_are_too_small(testpmd: Callable[..., Testpmd], socket_path: str) -> None:
    """1500 bytes for buffers of 512: a chain of three, or over what lies behind them, which the doctor sees."""
    peer = testpmd("server", forward="txonly", txpkts=1500)
    with memif.connect(socket_path, timeout=within(5), buffer_size=512) as iface:
        overruns = known(iface, "without checking the size")
        with peer.forwarding():
            assert poll_until(lambda: iface.details().rx_queues[0].tail >= 1023, 5)
            found = {finding.fault for finding in diagnose(socket_path, watch=0.2, timeout=within(5))}
            assert ("overrun" in found) == overruns
            # Ours is not misled: what cannot be is dropped and counted.
            with iface.rx[0].recv(64, timeout=within(5)) as burst:
                # 22.11 forgets that a packet goes on, now and then: not all have 1500.
                assert (1500 in burst.lengths) == (not overruns)
                assert len(burst) == 0 or not overruns
            assert (iface.rx[0].stats["dropped_bad"] > 0) == overruns
