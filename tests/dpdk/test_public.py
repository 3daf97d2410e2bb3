"""`memif.testing.testpmd`, as a user's tests have it."""

import pytest

import memif
from memif.testing import Testpmd, TestpmdError, testpmd
from patience import within
from peers.settings import require_testpmd

pytestmark = pytest.mark.dpdk
FRAME = bytes.fromhex("020000000001 020000000002 0800") + bytes(50)


def test_sends_frames_back(socket_path: str) -> None:
    require_testpmd()
    # [sent back]
    with testpmd(socket_path) as peer, memif.connect(socket_path) as iface, peer.forwarding():
        assert iface.tx[0].send([FRAME]) == 1
        with iface.rx[0].recv(1, timeout=5.0) as burst:
            assert bytes(burst[0][:12]) == FRAME[6:12] + FRAME[:6]
    # [end]


def test_as_client_with_two_queues(socket_path: str) -> None:
    require_testpmd()
    with memif.listen(socket_path) as iface, testpmd(socket_path, "txonly", role="client", queues=2) as peer:
        iface.wait_up(within(10))
        assert (len(iface.rx), len(iface.tx)) == (2, 2)
        with peer.forwarding():
            assert len(iface.rx[0].recv(64, timeout=within(5))) > 0


def test_nonsense_is_told(socket_path: str) -> None:
    require_testpmd()
    with pytest.raises(memif.MemifValueError, match="argument role: got 'both'"):
        Testpmd(socket_path, "both")
    peer = Testpmd(socket_path, "slave", queues=300)
    with pytest.raises(TestpmdError, match="ended during start"):
        peer.open()
    peer.discard()
    with pytest.raises(TypeError, match="forwards"):
        Testpmd(socket_path, forwards="io")


def test_missing_is_told(monkeypatch: pytest.MonkeyPatch, socket_path: str) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(memif.MemifFileNotFoundError, match="dpdk-testpmd is missing: apt-get install"):
        Testpmd(socket_path)
