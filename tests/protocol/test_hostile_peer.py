"""Peers that break the protocol: each refusal's text, and that nothing raises and no descriptor is lost."""

import pytest
from hypothesis import given, settings, strategies as st

from memif.errors import ErrorCode
from memif.protocol import (
    Action,
    Close,
    CloseFd,
    CreateMemory,
    Handshake,
    MapMemory,
    MasterConfig,
    MasterHandshake,
    Message,
    Send,
    SlaveHandshake,
    State,
    encode,
)
from memif.protocol.wire import Ack, AddRegion, AddRing, Connect, Connected, Disconnect, Hello, Init
from protocol.handshake_tools import Ledger, feed, layout, new_master, new_slave
from protocol.strategies import MESSAGES

REGION = (AddRegion(0, 65536), 1)
RING = (AddRing(True, 0, 0, 0, 4), 1)
Script = list[tuple[Message, int]]


@pytest.mark.parametrize(
    ("script", "text", "code"),
    [
        ([(Init(0, version=0x0100), 0)], "unsupported version", ErrorCode.PROTO),
        ([(Hello(), 0)], "unexpected message received (HELLO)", ErrorCode.MFMSG),
        ([REGION], "unexpected message received (ADD_REGION)", ErrorCode.MFMSG),
        ([(Init(0), 0), (Init(0), 0)], "unexpected message received (INIT)", ErrorCode.MFMSG),
        ([(Init(0), 0), (Ack(), 0)], "unexpected message received (ACK)", ErrorCode.MFMSG),
        ([(Init(0), 0), (AddRegion(0, 1), 0)], "missing memory region fd", ErrorCode.NO_SHMFD),
        ([(Init(0), 0), (AddRegion(1, 1), 1)], "unexpected region index", ErrorCode.MAXREG),
        ([(Init(0), 0), REGION, REGION], "unexpected region index", ErrorCode.MAXREG),
        ([(Init(0), 0), *((AddRegion(n, 1), 1) for n in range(5))], "too many regions", ErrorCode.MAXREG),
        ([(Init(0), 0), (AddRegion(0, 0), 1)], "memory region size out of range", ErrorCode.MAXREG),
        ([(Init(0), 0), (AddRegion(0, 1 << 63), 1)], "memory region size out of range", ErrorCode.MAXREG),
        (
            [(Init(0), 0), (AddRegion(0, 9 << 16), 1), (AddRegion(1, 9 << 16), 1)],
            "memory region size out of range",
            ErrorCode.MAXREG,
        ),
        ([(Init(0), 0), REGION, (RING[0], 0)], "missing ring interrupt fd", ErrorCode.NO_INTFD),
        ([(Init(0), 0), (AddRegion(0, 1), 2)], "more than one file descriptor in a message", ErrorCode.MFMSG),
        ([(Init(0), 0), REGION, (RING[0], 3)], "more than one file descriptor in a message", ErrorCode.MFMSG),
        (
            [(Init(0), 0), (AddRing(True, 0, 0, 0, 4, 8), 1)],
            "private headers not supported",
            ErrorCode.PRIVHDR,
        ),
        ([(Init(0), 0), (AddRing(True, 1, 0, 0, 4), 1)], "unexpected ring index", ErrorCode.MAXRING),
        ([(Init(0), 0), RING, RING], "unexpected ring index", ErrorCode.MAXRING),
        (
            [(Init(0), 0), *((AddRing(False, n, 0, n << 10, 4), 1) for n in range(4))],
            "too many rings",
            ErrorCode.MAXRING,
        ),
        (
            [(Init(0), 0), (AddRing(True, 0, 0, 0, 15), 1)],
            "ring size out of range (log2 15, at most 14)",
            ErrorCode.MAX_RING,
        ),
        ([(Init(0), 0), REGION, (Connect(), 0)], "no rings", ErrorCode.MAXRING),
        (
            [(Init(0), 0), RING, (Connect(), 0)],
            "ring lies in an unknown region (s2m ring 0)",
            ErrorCode.MAXRING,
        ),
        (
            [(Init(0), 0), REGION, (AddRing(False, 0, 0, 8, 4), 1), (Connect(), 0)],
            "ring is not aligned (m2s ring 0)",
            ErrorCode.MAXRING,
        ),
        (
            [(Init(0), 0), REGION, (AddRing(True, 0, 0, 65536 - 128 - 240, 4), 1), (Connect(), 0)],
            "ring exceeds its region (s2m ring 0)",
            ErrorCode.MAXRING,
        ),
        (
            [(Init(0), 0), REGION, (AddRing(True, 0, 0, 0xFFFFFFF0, 4), 1), (Connect(), 0)],
            "ring exceeds its region (s2m ring 0)",
            ErrorCode.MAXRING,
        ),
        (
            [(Init(0), 0), REGION, RING, (AddRing(False, 0, 0, 368, 4), 1), (Connect(), 0)],
            "ring overlaps its neighbour (m2s ring 0)",
            ErrorCode.MAXRING,
        ),
    ],
)
def test_a_master_refuses_with_a_reason(script: Script, text: str, code: ErrorCode) -> None:
    master = new_master(config=MasterConfig(max_regions=4, max_region_bytes=1 << 20, max_s2m_rings=3, max_m2s_rings=3))
    ledger = Ledger()
    actions: list[Action] = []
    for message, number in script:
        assert master.state is not State.CLOSED, "refused too early"
        fds = range(len(ledger.given) + 1, len(ledger.given) + 1 + number)
        ledger.given += fds
        actions = feed(master, message, *fds)
        ledger.note(actions)
    assert actions[0] == Send(Disconnect(code, text))
    close = actions[-1]
    assert isinstance(close, Close)
    assert (close.reason, close.code, close.remote) == (text, code, False)
    assert ledger.settled()


def test_rings_that_just_fit_are_accepted() -> None:
    master = new_master()
    for message, *fds in (
        (Init(0),),
        (AddRegion(0, 768), 1),
        (AddRing(True, 0, 0, 384, 4), 2),
        (AddRing(False, 0, 0, 0, 4), 3),
    ):
        assert feed(master, message, *fds)[-1] == Send(Ack())
    assert isinstance(feed(master, Connect())[0], MapMemory)


@pytest.mark.parametrize("side", ["slave", "master"])
@pytest.mark.parametrize(
    ("data", "truncated", "text"),
    [
        (b"\x01", False, "malformed message received (1 bytes)"),
        (bytes(129), False, "malformed message received (129 bytes)"),
        (bytes(128), False, "unknown message type (0x0)"),
        (encode(Ack()), True, "malformed message received"),
    ],
)
def test_what_is_no_message_ends_the_connection(side: str, data: bytes, truncated: bool, text: str) -> None:
    handshake: Handshake = new_slave() if side == "slave" else new_master()
    said, closed, close = handshake.receive(data, [9], truncated=truncated)
    assert isinstance(said, Send)
    assert isinstance(said.message, Disconnect)
    assert said.message.reason == text
    assert closed == CloseFd(9)
    assert isinstance(close, Close)


def test_useless_descriptors_are_closed_and_the_handshake_goes_on() -> None:
    master = new_master()
    actions = feed(master, Init(0), 8, 9)
    assert actions[:2] == [CloseFd(8), CloseFd(9)]
    assert actions[-1] == Send(Ack())


def test_descriptors_of_a_closed_handshake_are_closed() -> None:
    master = new_master()
    master.disconnect()
    assert feed(master, AddRegion(0, 1), 4) == [CloseFd(4)]
    assert master.receive(b"", [5]) == [CloseFd(5)]


def test_offers_are_released_when_the_client_leaves_before_connect() -> None:
    for leave in (
        lambda m: m.eof(),
        lambda m: m.disconnect("x"),
        lambda m: m.tick(9.0),
        lambda m: feed(m, Disconnect(0, "bye"), 33),
    ):
        master = new_master()
        feed(master, Init(0))
        feed(master, AddRegion(0, 4096), 31)
        feed(master, AddRing(True, 0, 0, 0, 4), 32)
        closed = {action.fd for action in leave(master) if isinstance(action, CloseFd)}
        assert closed - {33} == {31, 32}


def test_an_ack_that_was_not_asked_for() -> None:
    slave = new_slave()
    assert isinstance(feed(slave, Ack())[-1], Close)


def test_a_ring_of_one_slot_is_refused() -> None:
    said, _ = feed(new_slave(), Hello(max_log2_ring_size=0))
    assert said == Send(Disconnect(ErrorCode.MAX_RING, "ring size out of range"))


def test_rings_at_the_same_place_of_two_regions_are_apart() -> None:
    master = new_master()
    for message, *fds in (
        (Init(0),),
        (AddRegion(0, 384), 1),
        (AddRegion(1, 384), 2),
        (AddRing(True, 0, 1, 0, 4), 3),
        (AddRing(False, 0, 0, 0, 4), 4),
    ):
        feed(master, message, *fds)
    assert isinstance(feed(master, Connect())[0], MapMemory)


def as_bytes(message: object) -> bytes:
    return encode(message)  # type: ignore[arg-type]


# Near misses find more than noise does: most messages continue a handshake, the rest are anything at all.
STEPS: st.SearchStrategy[bytes] = st.one_of(
    st.sampled_from(
        [
            Hello(),
            Init(0),
            Ack(),
            AddRegion(0, 4096),
            AddRegion(1, 4096),
            AddRing(True, 0, 0, 0, 4),
            AddRing(False, 0, 1, 512, 4),
            AddRing(True, 1, 0, 1024, 4),
            Connect("x"),
            Connected("y"),
        ]
    ).map(as_bytes),
    MESSAGES.map(encode),
    st.binary(min_size=128, max_size=128),
    st.binary(max_size=140),
)
FEEDS = st.lists(st.tuples(STEPS, st.integers(0, 3), st.integers(0, 19)), max_size=25)


@settings(max_examples=300, deadline=None)
@given(st.booleans(), FEEDS, st.sampled_from(["eof", "disconnect", "tick", "refuse"]))
def test_whatever_comes_nothing_raises_and_no_descriptor_is_lost(
    is_slave: bool, script: list[tuple[bytes, int, int]], ending: str
) -> None:
    handshake: Handshake = new_slave() if is_slave else new_master()
    ledger = Ledger()
    everything: list[Action] = []
    for data, number, chance in script:
        fds = range(len(ledger.given) + 1, len(ledger.given) + 1 + number)
        ledger.given += fds
        actions = handshake.receive(data, fds, truncated=chance == 0)
        actions += answer(handshake, actions)
        ledger.note(actions)
        everything += actions
    actions = end(handshake, ending)
    ledger.note(actions)
    everything += actions
    assert ledger.settled()
    closes = [place for place, action in enumerate(everything) if isinstance(action, Close)]
    assert len(closes) == 1
    # After the end only descriptors that still trickle in are dealt with.
    assert all(isinstance(action, CloseFd) for action in everything[closes[0] + 1 :])
    assert handshake.state is State.CLOSED


def answer(handshake: Handshake, actions: list[Action]) -> list[Action]:
    for action in actions:
        if isinstance(action, CreateMemory) and isinstance(handshake, SlaveHandshake):
            return handshake.offer(*layout(action))
        if isinstance(action, MapMemory) and isinstance(handshake, MasterHandshake):
            return handshake.accept()
    return []


def end(handshake: Handshake, how: str) -> list[Action]:
    if how == "tick" and handshake.deadline is not None:
        return handshake.tick(100.0)
    if how == "refuse":
        return handshake.refuse("no memory")
    return handshake.eof() if how == "eof" else handshake.disconnect("the end")
