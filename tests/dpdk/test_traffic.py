"""Packets to and from testpmd, in both roles: every byte of every frame, in order."""

import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import memif
from patience import within
from peers.end import link
from peers.pcap import read_pcap, write_pcap
from peers.testpmd import Testpmd

pytestmark = pytest.mark.dpdk

Factory = Callable[..., Testpmd]
FRAMES = 20_500
ROLES = pytest.mark.parametrize(
    ("role", "zero_copy"), [("slave", False), ("master", False), ("master", True)], ids=["slave", "master", "zero-copy"]
)


def frames(seed: int, count: int = FRAMES, low: int = 60, high: int = 1514) -> list[bytes]:
    """Random bytes in frames of random length; the first ones have the extreme lengths."""
    source = random.Random(seed)
    return [source.randbytes(n) for n in (low, high)] + [
        source.randbytes(source.randint(low, high)) for _ in range(count - 2)
    ]


def exchange(
    tx: memif.TxQueue, rx: memif.RxQueue, out: Sequence[bytes], count: int, *, batch: int = 32, timeout: float = 20.0
) -> list[bytes]:
    """Send all of `out` while receiving `count` frames; AssertionError after `timeout` seconds."""
    received: list[bytes] = []
    sent = 0
    deadline = time.monotonic() + within(timeout)
    while sent < len(out) or len(received) < count:
        if sent < len(out):
            sent += tx.send(out[sent : sent + batch])
        with rx.recv(256, timeout=0 if sent < len(out) else 0.01) as burst:
            received += burst.tobytes()
        assert time.monotonic() < deadline, f"{sent} of {len(out)} sent, {len(received)} of {count} received"
    return received


class PcapPort:
    """Options for a testpmd that moves frames between its memif and two files."""

    def __init__(self, folder: Path, to_us: list[bytes], **settings: Any) -> None:
        sent, self._received = folder / "in.pcap", folder / "out.pcap"
        write_pcap(sent, to_us)
        vdev = f"net_pcap0,rx_pcap={sent},tx_pcap={self._received}"
        self.settings: dict[str, Any] = {"forward": "io retry", "vdevs": [vdev], **settings}

    def received(self) -> list[bytes]:
        """What testpmd got from us; only complete once it has quit."""
        return read_pcap(self._received)


def byte_exact(
    path: str, testpmd: Factory, folder: Path, role: str, ours: dict[str, Any], out: list[bytes], back: list[bytes],
    **settings: Any,
) -> dict[str, Any]:  # fmt: skip
    """Exchange `out` for `back` with testpmd's files and compare them; return our statistics."""
    port = PcapPort(folder, back, **settings)
    with link(path, role, testpmd, ours=ours, **port.settings) as (iface, peer):
        with peer.forwarding():
            assert exchange(iface.tx[0], iface.rx[0], out, len(back)) == back
            peer.wait_stats("opackets", len(out), port=1)
        peer.quit()
        stats = iface.stats
    assert port.received() == out
    return stats


@ROLES
def test_byte_exact_both_ways(socket_path: str, testpmd: Factory, tmp_path: Path, role: str, zero_copy: bool) -> None:
    out, back = frames(1), frames(2)
    # A zero-copy port lends its buffers to the ring, both of them: it needs more than there are slots.
    stats = byte_exact(socket_path, testpmd, tmp_path, role, {}, out, back, zero_copy=zero_copy, mbufs=8192)
    tx, rx = stats["tx"][0], stats["rx"][0]
    assert (tx["packets"], tx["bytes"]) == (FRAMES, sum(map(len, out)))
    assert (rx["packets"], rx["bytes"]) == (FRAMES, sum(map(len, back)))
    assert rx["bad_descriptors"] == rx["dropped_bad"] == tx["bad_descriptors"] == 0


#: testpmd's copying transmit goes wrong once a frame needs more than one buffer, hence buffers for whole frames.
JUMBO = {"bsize": 9216, "mbuf_size": 9344, "memory": 256}


@pytest.mark.parametrize(("role", "ours"), [("slave", {"buffer_size": 9216}), ("master", {})])
def test_frames_of_9000_bytes(
    socket_path: str, testpmd: Factory, tmp_path: Path, role: str, ours: dict[str, int]
) -> None:
    out, back = frames(3, 2000, 60, 9000), frames(4, 2000, 60, 9000)
    byte_exact(socket_path, testpmd, tmp_path, role, ours, out, back, mbufs=8192, **JUMBO)


def test_chains_with_a_zero_copy_client(socket_path: str, testpmd: Factory, tmp_path: Path) -> None:
    """Frames of up to 9000 bytes in buffers of 2048, chained by both sides.

    Its driver has two bugs with chains. Where a ring is nearly full it checks for room once for four packets and may
    run over what we have not read: the ring here takes all frames at once. And its receive path tells the application
    of the first segment's length only, so that its file has frames cut off there; its counter knows all bytes.
    """
    out, back = frames(3, 2000, 60, 9000), frames(4, 2000, 60, 9000)
    port = PcapPort(tmp_path, back, zero_copy=True, rsize=14, memory=256, mbufs=40000)
    with link(socket_path, "master", testpmd, **port.settings) as (iface, peer):
        with peer.forwarding():
            assert exchange(iface.tx[0], iface.rx[0], out, len(back)) == back
            peer.wait_stats("opackets", len(out), port=1)
            stats = peer.stats()
            assert (stats["ipackets"], stats["ibytes"]) == (len(out), sum(map(len, out)))
        peer.quit()
    received = port.received()
    assert [len(frame) for frame in received] == [min(len(frame), 2048) for frame in out]
    assert all(sent.startswith(got) for sent, got in zip(out, received, strict=True))


def test_our_chains_reach_a_server(socket_path: str, testpmd: Factory) -> None:
    """Frames of up to 9000 bytes from a slave whose own buffers have 2048; testpmd counts the bytes."""
    out = frames(5, 3000, 60, 9000)
    with link(socket_path, "slave", testpmd, forward="rxonly", **JUMBO) as (iface, peer), peer.forwarding():
        assert exchange(iface.tx[0], iface.rx[0], out, 0) == []
        assert peer.wait_stats("ipackets", len(out)) == len(out)
        assert peer.stats()["ibytes"] == sum(map(len, out))


@pytest.mark.parametrize("role", ["slave", "master"])
def test_our_chains_are_joined(socket_path: str, testpmd: Factory, tmp_path: Path, role: str) -> None:
    """testpmd joins frames of up to 9000 bytes from buffers of 2048. DPDK's releases from 23.03 to 25.11 mix them up;
    Debian's 24.11.8 and 25.11.4 have the fix."""
    byte_exact(socket_path, testpmd, tmp_path, role, {}, frames(3, 2000, 60, 9000), [], memory=256, mbufs=16384)


@ROLES
@pytest.mark.parametrize("queues", [1, 2])
def test_echo_by_queue(socket_path: str, testpmd: Factory, role: str, zero_copy: bool, queues: int) -> None:
    """A testpmd with one port sends back what it gets, on the queue it came from."""
    ours = {"rx_queues": queues, "tx_queues": queues}
    settings = {"queues": queues, "forward": "io", "zero_copy": zero_copy, "memory": 128, "mbufs": 16384}
    with link(socket_path, role, testpmd, ours=ours, **settings) as (iface, peer), peer.forwarding():
        assert len(iface.rx) == len(iface.tx) == queues
        out = [frames(10 + q, 6000) for q in range(queues)]
        for at in range(0, 6000, 250):  # less than the ring has, or testpmd drops what it cannot send back
            for q in range(queues):
                part = out[q][at : at + 250]
                assert exchange(iface.tx[q], iface.rx[q], part, len(part)) == part
        assert all(q["packets"] == 6000 for q in iface.stats["rx"])


@pytest.mark.parametrize("role", ["master", "slave"])
@pytest.mark.parametrize("log2", [1, 2, 14])
def test_ring_sizes(socket_path: str, testpmd: Factory, role: str, log2: int) -> None:
    """The slave decides; one size is as good as another."""
    ours = {"ring_size": 1 << log2} if role == "slave" else {}
    settings = {"rsize": log2, "memory": 256, "mbufs": 40000}
    with link(socket_path, role, testpmd, ours=ours, **settings) as (iface, peer), peer.forwarding():
        assert iface.details().tx_queues[0].ring_size == 1 << log2
        for frame in frames(20, 300):
            assert exchange(iface.tx[0], iface.rx[0], [frame], 1) == [frame]


@pytest.mark.parametrize("role", ["master", "slave"])
@pytest.mark.parametrize("mode", ["interrupt", "polling", "adaptive"])
def test_receive_modes(socket_path: str, testpmd: Factory, role: str, mode: str) -> None:
    """testpmd signals exactly when it is asked to."""
    with link(socket_path, role, testpmd, ours={"rx_mode": mode}) as (iface, peer), peer.forwarding():
        for frame in frames(30, 200):
            assert iface.tx[0].wait_free(1, timeout=1.0)
            assert iface.tx[0].send([frame]) == 1
            with iface.rx[0].recv(1, timeout=2.0) as burst:
                assert burst.tobytes() == [frame]
        interrupts = iface.rx[0].stats["interrupts_received"]
        assert (interrupts == 0) if mode == "polling" else (interrupts <= 200)
        if mode == "interrupt":
            assert interrupts > 0


@pytest.mark.parametrize("role", ["master", "slave"])
def test_forward_to_itself(socket_path: str, testpmd: Factory, role: str) -> None:
    """testpmd sends at full speed, we send back by `forward`; both must count the same."""
    settings = {"forward": "rxonly", "burst": 32, "txpkts": 200}
    with link(socket_path, role, testpmd, **settings) as (iface, peer), peer.forwarding(tx_first=10):
        done = 0
        while done < 320:
            with iface.rx[0].recv(64, timeout=5.0) as burst:
                assert len(burst), f"{done} of 320"
                assert (burst.lengths == 200).all()
                done += iface.tx[0].forward(burst)
        assert peer.wait_stats("ipackets", 320) == 320
        assert peer.stats()["ibytes"] == 320 * 200


@pytest.mark.parametrize("role", ["master", "slave"])
def test_flood(socket_path: str, testpmd: Factory, role: str) -> None:
    """testpmd sends as fast as it can for a while: nothing it counts as sent is missing here."""
    settings = {"forward": "txonly", "txpkts": 64}
    with link(socket_path, role, testpmd, ours={"rx_mode": "polling"}, **settings) as (iface, peer):
        received = 0
        peer.start()
        start = time.monotonic()
        while (past := time.monotonic() - start) < 0.5 or (received <= 10_000 and past < within(5.0)):
            with iface.rx[0].recv(256, timeout=0.1) as burst:
                assert (burst.lengths == 64).all()
                received += len(burst)
        statistics = peer.stop()
        while True:
            with iface.rx[0].recv(256, timeout=0.05) as burst:
                if not burst:
                    break
                received += len(burst)
        assert received == peer.stats()["opackets"], statistics
        assert received > 10_000
