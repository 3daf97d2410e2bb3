"""Both roles against each other and against themselves, up to the established link and its end."""

import pytest

from memif.errors import (
    ErrorCode,
    MemifDisconnectedError,
    MemifProtocolError,
    MemifRefusedError,
    MemifStateError,
    MemifTimeoutError,
    MemifValueError,
)
from memif.protocol import (
    Cause,
    Close,
    CreateMemory,
    InterfaceInfo,
    MapMemory,
    MasterConfig,
    MasterHandshake,
    Mode,
    Negotiated,
    Refusal,
    RegionOffer,
    Role,
    Selected,
    Send,
    SlaveConfig,
    SlaveHandshake,
    State,
    Up,
)
from memif.protocol.handshake import TRANSITIONS, Local
from memif.protocol.refusals import ALREADY_CONNECTED, IS_SLAVE, UNKNOWN_ID
from memif.protocol.wire import (
    Ack,
    AddRegion,
    AddRing,
    Connect,
    Connected,
    Disconnect,
    Hello,
    Init,
    MessageType,
)
from protocol.handshake_tools import Pair, admit, feed, layout, new_master, new_slave


def pair(config: SlaveConfig, lookup: object = admit, limits: MasterConfig | None = None) -> Pair:
    master = MasterHandshake(limits or MasterConfig("server"), lookup, 0.0, 5.0)  # type: ignore[arg-type]
    return Pair(SlaveHandshake(config, 0.0, 5.0), master)


def test_a_pair_comes_up_in_the_documented_order() -> None:
    both = pair(SlaveConfig(id=7, app_name="client", if_name="if0", s2m_rings=2, m2s_rings=1))
    both.run()
    sent = [(side, type(action.message).__name__) for side, action in both.log if isinstance(action, Send)]
    ack = ("master", "Ack")
    assert sent == [
        ("master", "Hello"),
        ("slave", "Init"),
        ack,
        ("slave", "AddRegion"),
        ack,
        ("slave", "AddRing"),
        ack,
        ("slave", "AddRing"),
        ack,
        ("slave", "AddRing"),
        ack,
        ("slave", "Connect"),
        ("master", "Connected"),
    ]
    slave, master = both.sides["slave"], both.sides["master"]
    assert slave.state is master.state is State.UP
    assert (slave.peer_name, slave.peer_if_name) == ("server", "memif0/7")
    assert (master.peer_name, master.peer_if_name) == ("client", "if0")
    assert slave.negotiated == master.negotiated == Negotiated(2, 1, 10, 256)
    assert both.of("slave", Up) == both.of("master", Up) == [Up()]
    assert slave.deadline is master.deadline is None
    assert both.ledger.settled()


def test_the_master_gets_the_rings_as_announced() -> None:
    both = pair(SlaveConfig(s2m_rings=2, m2s_rings=3, log2_ring_size=4))
    both.run()
    (mapped,) = both.of("master", MapMemory)
    assert isinstance(mapped, MapMemory)
    regions, rings = layout(CreateMemory(2, 3, 4, 256), first_fd=1000)
    assert (mapped.regions, mapped.rings) == (tuple(regions), tuple(rings))
    (selected,) = both.of("master", Selected)
    assert isinstance(selected, Selected)
    assert selected.init.id == 0


@pytest.mark.parametrize("side", ["slave", "master"])
def test_disconnect_of_a_link_reaches_the_other_side(side: str) -> None:
    both = pair(SlaveConfig())
    both.run()
    other = "master" if side == "slave" else "slave"
    both.act(side, both.sides[side].disconnect("interface deleted"))
    mine, theirs = both.close_of(side), both.close_of(other)
    assert (mine.cause, mine.reason, mine.was_up) == (Cause.LOCAL, "interface deleted", True)
    assert (theirs.cause, theirs.reason, theirs.was_up) == (Cause.PEER, "interface deleted", True)
    assert (mine.remote, theirs.remote) == (False, True)
    assert both.sides[other].closed == theirs
    assert isinstance(theirs.error(), MemifDisconnectedError)
    assert both.sides[side].disconnect("again") == []
    assert both.sides[other].eof() == []


def refusing(*answers: InterfaceInfo | Refusal) -> object:
    return lambda init: answers[0]


@pytest.mark.parametrize(
    ("config", "lookup", "text", "code"),
    [
        ({}, refusing(UNKNOWN_ID), "unmatched interface id", ErrorCode.ID),
        ({}, refusing(IS_SLAVE), "cannot connect to slave", ErrorCode.ACCSLAVE),
        ({}, refusing(ALREADY_CONNECTED), "already connected", ErrorCode.ALRCONN),
        ({"mode": Mode.IP}, admit, "mode mismatch: the master is ethernet, the slave ip", ErrorCode.MODE),
        ({}, refusing(InterfaceInfo(secret=b"abc")), "secret required", ErrorCode.NOSECRET),
        ({"secret": b"ab"}, refusing(InterfaceInfo(secret=b"abc")), "incorrect secret", ErrorCode.SECRET),
        ({"s2m_rings": 3}, refusing(InterfaceInfo(max_s2m_rings=2)), "too many rings", ErrorCode.MAXRING),
        ({"m2s_rings": 3}, refusing(InterfaceInfo(max_m2s_rings=2)), "too many rings", ErrorCode.MAXRING),
    ],
)
def test_both_sides_know_why_a_slave_was_refused(
    config: dict[str, object], lookup: object, text: str, code: ErrorCode
) -> None:
    both = pair(SlaveConfig(**config), lookup)  # type: ignore[arg-type]
    both.run()
    refused, refusal = both.close_of("slave"), both.close_of("master")
    assert (refused.reason, refused.cause, refused.code) == (text, Cause.PEER, code)
    assert (refusal.reason, refusal.remote, refusal.code) == (text, False, code)
    error = refused.error()
    assert isinstance(error, MemifRefusedError)
    assert (error.reason, error.code) == (text, code)
    assert both.ledger.settled()


def test_a_right_secret_is_accepted_and_an_unneeded_one_ignored() -> None:
    for wanted in (b"abc", b""):
        both = pair(SlaveConfig(secret=b"abc"), refusing(InterfaceInfo(secret=wanted)))
        both.run()
        assert both.sides["slave"].state is State.UP


def test_a_lookup_may_raise_its_refusal() -> None:
    def lookup(init: Init) -> InterfaceInfo:
        raise MemifRefusedError(code=ErrorCode.ID, reason=f"no interface {init.id} for you")

    both = pair(SlaveConfig(id=3), lookup)
    both.run()
    assert both.close_of("slave").reason == "no interface 3 for you"


def test_wishes_are_cut_to_the_masters_limits() -> None:
    slave = new_slave(SlaveConfig(s2m_rings=4, m2s_rings=4, log2_ring_size=12))
    # The limits are the highest index: 1 allows two rings, 0 allows one.
    actions = feed(slave, Hello("vpp", max_region=0, max_m2s_ring=1, max_s2m_ring=0, max_log2_ring_size=9))
    assert actions == [CreateMemory(1, 2, 9, 1)]


def test_a_slave_talks_only_when_answered() -> None:
    slave = new_slave()
    (create,) = feed(slave, Hello("vpp"))
    assert isinstance(create, CreateMemory)
    regions, rings = layout(create)
    assert slave.offer(regions, rings) == [Send(Init(0, name="slave-app"))]
    assert feed(slave, Ack()) == [Send(AddRegion(0, regions[0].size), 10)]
    assert feed(slave, Ack()) == [Send(AddRing(True, 0, 0, 0, 10), 11)]
    assert feed(slave, Ack()) == [Send(AddRing(False, 0, 0, rings[1].offset, 10), 12)]
    assert feed(slave, Ack()) == [Send(Connect("if0"))]
    assert slave.state is State.WAIT_CONNECTED
    assert feed(slave, Connected("m")) == [Up()]


def offer_of(**changes: object) -> tuple[SlaveHandshake, list[RegionOffer], list[object]]:
    slave = new_slave(SlaveConfig(s2m_rings=1, m2s_rings=1, log2_ring_size=4))
    (create,) = feed(slave, Hello(max_region=1))
    assert isinstance(create, CreateMemory)
    regions, rings = layout(create)
    first = {name: getattr(rings[0], name) for name in rings[0].__slots__} | changes
    return slave, regions, [type(rings[0])(**first), rings[1]]


@pytest.mark.parametrize(
    "changes",
    [
        {"region": 1},
        {"offset": 8},
        {"offset": 1 << 20},
        {"offset": 128},
        {"log2_ring_size": 5},
        {"index": 1},
        {"s2m": False},
        {"fd": 0},
        {"fd": -1},
    ],
)
def test_a_slave_does_not_send_a_wrong_offer(changes: dict[str, object]) -> None:
    slave, regions, rings = offer_of(**changes)
    with pytest.raises(MemifValueError):
        slave.offer(regions, rings)  # type: ignore[arg-type]
    # Nothing was sent, and a right offer is still possible.
    assert slave.state is State.WAIT_MEMORY
    slave, regions, rings = offer_of()
    assert len(slave.offer(regions, rings)) == 1  # type: ignore[arg-type]


def test_a_slave_does_not_exceed_the_masters_regions() -> None:
    slave, regions, rings = offer_of()
    with pytest.raises(MemifValueError, match=r"len\(regions\): got 3, allowed: .* from 1 to 2"):
        slave.offer(regions * 3, rings)  # type: ignore[arg-type]


def test_calls_at_the_wrong_time_are_misuse() -> None:
    slave, master = new_slave(), new_master()
    with pytest.raises(MemifStateError, match="no offer while waiting for the master's HELLO"):
        slave.offer([], [])
    with pytest.raises(MemifStateError, match="no accept"):
        master.accept()
    with pytest.raises(MemifStateError, match="no start"):
        slave.start()


def test_memory_that_can_not_be_mapped_is_refused_with_its_reason() -> None:
    master = new_master()
    feed(master, Init(0))
    feed(master, AddRegion(0, 4096), 5)
    feed(master, AddRing(True, 0, 0, 0, 4), 6)
    (mapped,) = feed(master, Connect())
    assert isinstance(mapped, MapMemory)
    said, close = master.refuse("wrong cookie on rx ring 0", code=ErrorCode.COOKIE)
    assert said == Send(Disconnect(ErrorCode.COOKIE, "wrong cookie on rx ring 0"))
    assert isinstance(close, Close)
    assert (close.cause, close.code) == (Cause.REFUSED, ErrorCode.COOKIE)
    assert close.text == "wrong cookie on rx ring 0, while mapping the slave's memory"


def test_deadline() -> None:
    for side in (new_slave(), new_master()):
        assert side.deadline == 5.0
        assert side.tick(4.9) == []
        said, close = side.tick(5.0)
        assert said == Send(Disconnect(ErrorCode.DISCONNECTED, "handshake timed out"))
        assert isinstance(close, Close)
        assert close.cause is Cause.TIMEOUT
        assert side.state is State.CLOSED
        assert isinstance(close.error(), MemifTimeoutError)
        assert side.tick(99.0) == []


def test_no_deadline_for_a_link_that_is_up() -> None:
    both = pair(SlaveConfig())
    both.run()
    assert both.sides["slave"].tick(1e9) == both.sides["master"].tick(1e9) == []


def test_eof_before_and_after_the_link_was_up() -> None:
    slave = new_slave()
    (close,) = slave.eof()
    assert isinstance(close, Close)
    assert close.text == "peer hung up without a reason, while waiting for the master's HELLO"
    assert isinstance(close.error(), MemifRefusedError)
    both = pair(SlaveConfig())
    both.run()
    (close,) = both.sides["master"].receive(b"")
    assert isinstance(close, Close)
    assert (close.cause, close.text) == (Cause.EOF, "peer hung up without a reason")
    assert isinstance(close.error(), MemifDisconnectedError)


def test_a_silent_refusal_of_init_gets_a_hint() -> None:
    slave = new_slave()
    (create,) = feed(slave, Hello())
    assert isinstance(create, CreateMemory)
    slave.offer(*layout(create))
    (close,) = slave.eof()
    assert isinstance(close, Close)
    assert "no interface of this id" in close.text


@pytest.mark.parametrize("low_high", [(0x0100, 0x0100), (0x0201, 0x0300), (0x0201, 0x0100)])
def test_a_master_of_another_version(low_high: tuple[int, int]) -> None:
    slave = new_slave()
    said, close = feed(slave, Hello("old", *low_high))
    assert said == Send(Disconnect(ErrorCode.PROTO, "incompatible protocol version"))
    assert isinstance(close, Close)
    assert isinstance(close.error(), MemifProtocolError)


def test_a_master_that_speaks_more_versions() -> None:
    assert feed(new_slave(), Hello("new", 0x0100, 0x0300)) == [CreateMemory(1, 1, 10, 256)]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Incompatible memif version", ErrorCode.PROTO),
        ("ID not found", ErrorCode.ID),
        ("Invalid interface id", ErrorCode.ID),
        ("cannot connect to salve", ErrorCode.ACCSLAVE),
        ("Already connected", ErrorCode.ALRCONN),
        ("Only ethernet mode supported", ErrorCode.MODE),
        ("Secret required", ErrorCode.NOSECRET),
        ("Invalid secret", ErrorCode.SECRET),
        ("Invalid ring index", ErrorCode.MAXRING),
        ("wrong cookie on tx ring 0", ErrorCode.COOKIE),
        ("Secret mismatch.", ErrorCode.SECRET),
        ("Device closed", ErrorCode.DISCONNECT),
        ("", ErrorCode.DISCONNECT),
    ],
)
def test_refusals_of_other_implementations_get_their_code(text: str, code: ErrorCode) -> None:
    (close,) = feed(new_slave(), Disconnect(0, text))
    assert isinstance(close, Close)
    assert (close.code, close.reason) == (code, text)
    assert text in close.text


def test_configs_can_not_be_built_wrong_and_hide_their_secret() -> None:
    for wrong in (
        {"id": -1},
        {"mode": 3},
        {"secret": b"x" * 24},
        {"app_name": "x" * 32},
        {"if_name": "a\nb"},
        {"s2m_rings": 257},
        {"s2m_rings": 0, "m2s_rings": 0},
        {"log2_ring_size": 0},
        {"log2_ring_size": 15},
    ):
        with pytest.raises(MemifValueError):
            SlaveConfig(**wrong)
    for limit in (
        {"max_regions": 0},
        {"max_regions": 257},
        {"max_s2m_rings": 257},
        {"max_m2s_rings": 257},
        {"max_log2_ring_size": 15},
    ):
        with pytest.raises(MemifValueError):
            MasterConfig(**limit)  # type: ignore[arg-type]
    assert "hunter2" not in repr(SlaveConfig(secret=b"hunter2")) + repr(InterfaceInfo(secret=b"hunter2"))


def test_the_table_is_sound() -> None:
    reached = {step.state for step in TRANSITIONS.values()} | {State.IDLE}
    assert reached == set(State)
    for (role, state, event), step in TRANSITIONS.items():
        kind = SlaveHandshake if role is Role.SLAVE else MasterHandshake
        assert callable(getattr(kind, step.handler))
        assert state is not State.CLOSED
        assert isinstance(event, MessageType | Local)
