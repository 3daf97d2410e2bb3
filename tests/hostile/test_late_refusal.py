"""The largest offer there is, refused at its very end: nothing of it stays, however often it comes."""

import os
from collections.abc import Callable

import pytest

import memif
from memif.protocol.wire import AddRegion, AddRing, Connect, Init
from memif.testing import HUNG_UP, HostilePeer, RawRing, Resources, Step, leaked, unused_name

RINGS, LOG2 = 255, 14
RING_BYTES = 128 + (16 << LOG2)
SIZE = 2 * RINGS * RING_BYTES
LAST = f"ring{2 * RINGS - 1}"


def largest(peer: HostilePeer) -> dict[str, Step]:
    """The script of a slave with 255 rings of 16 384 slots each way."""
    peer.make_memory(SIZE)
    peer.connect()
    fd = peer.event_fds["s2m", 0]
    steps = {"init": Step(Init(0, name="large")), "region": Step(AddRegion(0, SIZE), [peer.memory_fds[0]])}
    for number in range(2 * RINGS):
        s2m, index, offset = number % 2 == 0, number // 2, number * RING_BYTES
        key = ("s2m" if s2m else "m2s", index)
        if key in peer.rings:
            peer.rings[key].release()
        peer.rings[key] = RawRing(peer.memory[0], offset, LOG2)
        peer.rings[key].initialise()
        steps[f"ring{number}"] = Step(AddRing(s2m, index, 0, offset, LOG2), [fd])
    return steps | {"connect": Step(Connect("large"))}


def cookie(peer: HostilePeer, script: dict[str, Step]) -> None:
    peer.rings["m2s", RINGS - 1].cookie = 1


def event_fd(peer: HostilePeer, script: dict[str, Step]) -> None:
    script[LAST].fds = [peer.memory_fds[0]]


def place(peer: HostilePeer, script: dict[str, Step]) -> None:
    script[LAST].message = AddRing(False, RINGS - 1, 0, SIZE - RING_BYTES + 64, LOG2)


def short(peer: HostilePeer, script: dict[str, Step]) -> None:
    os.ftruncate(peer.memory_fds[0], SIZE - (1 << 20))


def leave(peer: HostilePeer, script: dict[str, Step]) -> None:
    del script["connect"]


FAULTS: dict[Callable[[HostilePeer, dict[str, Step]], None], str | None] = {
    cookie: f"wrong cookie on rx ring {RINGS - 1}",
    event_fd: "ring interrupt fd is not an eventfd",
    place: "exceeds its region",
    short: "announced, memory has",
    leave: None,
}


def own_kib() -> int:
    """This process's own memory."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))


def mappings() -> int:
    with open("/proc/self/maps") as maps:
        return sum(1 for _ in maps)


def test_it_is_taken_when_all_is_right() -> None:
    """Else its refusal would prove nothing; and while it is up it is seen by what the next test looks at."""
    path = unused_name()
    with memif.Socket(path) as sock, HostilePeer(path, idle=lambda: sock.poll(0), timeout=10.0) as peer:
        iface = sock.interface(role="master")
        before = Resources.now()
        assert peer.play(largest(peer)) is None
        assert (len(iface.rx), len(iface.tx)) == (RINGS, RINGS)
        found = Resources.now()
        assert len(found.descriptors - before.descriptors) > 2 * RINGS
        assert len(found.mappings - before.mappings) >= 2


@pytest.mark.nosanitizer  # which keeps freed memory for a while
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_refused_at_its_end(fault: Callable[[HostilePeer, dict[str, Step]], None]) -> None:
    path = unused_name()
    with memif.Socket(path) as sock:
        iface = sock.interface(role="master")
        seen = []
        for number in range(4):
            before = Resources.now()
            with HostilePeer(path, idle=lambda: sock.poll(0), timeout=10.0) as peer:
                script = largest(peer)
                fault(peer, script)
                reason = peer.play(script)
                if FAULTS[fault] is not None:
                    assert FAULTS[fault] in (reason or HUNG_UP)
            for _ in range(3):  # it may have left just now
                sock.poll(0)
            assert not iface.up
            assert leaked(before) == [], number
            seen.append((mappings(), own_kib()))
        assert iface.stats["connects"] == 0
        assert iface.stats["refused"] + sock.stats["refused"] == 4
        assert seen[-1][0] <= seen[1][0] + 2, seen  # an allocator may add a mapping of its own
        assert seen[-1][1] - seen[1][1] < 2048, seen
