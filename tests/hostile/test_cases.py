"""Every hostile case against an interface in this process: the outcome, the count, and that nothing else suffers."""

import re

import pytest

import memif
from hostile.victim import PACKETS, Victim
from memif.testing import CASES, Case, HostilePeer, Outcome

_BY_NAME = [pytest.param(case, id=case.name) for case in CASES.values()]


@pytest.mark.parametrize("case", _BY_NAME)
def test_case(case: Case) -> None:
    with Victim(case) as victim:
        run(case, victim)
        victim.others_work()
        assert not victim.under.closed


def run(case: Case, victim: Victim) -> None:
    """Do the harm and judge what became of it."""
    if case.linked:
        victim.peer.link()
        victim.settle(lambda: victim.under.up)
        assert victim.under.up
    reason = case.attack(victim.peer)
    JUDGES[case.outcome](case, victim, reason)


def refused(case: Case, victim: Victim, reason: str | None) -> None:
    assert reason is not None
    assert re.search(case.reason, reason), reason
    victim.settle(victim.refused)
    assert victim.refused() >= 1
    assert not victim.under.up


def disconnected(case: Case, victim: Victim, reason: str | None) -> None:
    victim.settle(lambda: not victim.under.up)
    assert not victim.under.up
    assert re.search(case.reason, victim.under.disconnect_reason or ""), victim.under.disconnect_reason
    assert victim.under.stats["disconnects"] == 1
    with pytest.raises(memif.MemifDisconnectedError):
        victim.under.rx[0].recv(timeout=0)


def dropped(case: Case, victim: Victim, reason: str | None) -> None:
    victim.settle(lambda: victim.counter(case.counter))
    assert victim.counter(case.counter) >= 1
    assert victim.under.up


def harmless(case: Case, victim: Victim, reason: str | None) -> None:
    assert reason is None
    victim.settle(lambda: victim.under.up)
    for _ in range(5):
        victim.drive()
    assert victim.under.up
    assert victim.under.stats["disconnects"] == 0 or case.name == "up-and-down"


def survived(case: Case, victim: Victim, reason: str | None) -> None:
    victim.drive()


JUDGES = {
    Outcome.REFUSED: refused,
    Outcome.DISCONNECTED: disconnected,
    Outcome.DROPPED: dropped,
    Outcome.HARMLESS: harmless,
    Outcome.SURVIVED: survived,
}


@pytest.mark.parametrize("role", ["slave", "master"])
def test_an_honest_script_comes_up_and_carries_packets(role: str) -> None:
    """The hostile peer itself must be able to behave, else a refusal would prove nothing."""
    case = Case("honest", role, True, "behaves", lambda peer: None, Outcome.HARMLESS)
    with Victim(case) as victim:
        run(case, victim)
        peer = victim.peer
        if role == "slave":
            peer.back.head += peer.back.size
        victim.settle(lambda: peer.back.tail if role == "slave" else peer.back.head)
        slot = peer.back[0]
        assert peer.memory[0][slot.offset : slot.offset + slot.length] == PACKETS[0]


def test_the_attacked_interface_serves_the_next_client(tmp_path: object) -> None:
    """After an attack, a good client gets the same interface."""
    case = CASES["slave-index-half-way-round"]
    with Victim(case) as victim:
        run(case, victim)
        with HostilePeer(victim.path, idle=victim.drive) as good:
            good.link()
            assert victim.under.up


def test_names_are_unique_and_every_outcome_occurs() -> None:
    assert {case.outcome for case in CASES.values()} == set(Outcome)
    assert len(CASES) > 150
