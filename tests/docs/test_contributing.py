"""The test that CONTRIBUTING.md shows, word for word."""

import pytest

import memif

pytestmark = pytest.mark.dpdk


def test_receives(testpmd, socket_path):
    with memif.listen(socket_path, id=0) as iface:
        peer = testpmd("client", forward="txonly", txpkts=64)
        iface.wait_up(timeout=5.0)
        with peer.forwarding():
            assert len(iface.rx[0].recv(256, timeout=1.0)) > 0
