"""Both handshakes against each other as one state machine: any interleaving, losses, duplicates, deaths, time.

The kernel's part is played by two queues of datagrams. Without faults both ends must come up; with faults each must end
up closed, or up together with a living peer; never may anything raise, and every descriptor leaves exactly once.
"""

from collections import deque
from itertools import count

from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from memif.protocol import (
    Action,
    Close,
    CloseFd,
    CreateMemory,
    Handshake,
    MapMemory,
    MasterConfig,
    MasterHandshake,
    Send,
    SlaveConfig,
    SlaveHandshake,
    State,
    Up,
    encode,
)
from protocol.handshake_tools import admit, layout
from protocol.strategies import MESSAGES

SIDES = st.sampled_from(["slave", "master"])


class Handshakes(RuleBasedStateMachine):
    """A slave and a master, and the datagrams between them."""

    @initialize(s2m=st.integers(1, 3), m2s=st.integers(0, 3), most=st.integers(1, 4))
    def begin(self, s2m: int, m2s: int, most: int) -> None:
        config = SlaveConfig(s2m_rings=s2m, m2s_rings=m2s, log2_ring_size=4)
        self.now, self.faults = 0.0, 0
        self.sides: dict[str, Handshake] = {
            "slave": SlaveHandshake(config, 0.0, 5.0),
            "master": MasterHandshake(MasterConfig(max_s2m_rings=most, max_m2s_rings=most), admit, 0.0, 5.0),
        }
        #: What is on its way to each side: bytes and how many descriptors.
        self.wire: dict[str, deque[tuple[bytes, int]]] = {"slave": deque(), "master": deque()}
        self.hung_up = {"slave": False, "master": False}
        self.numbers = count(100)
        self.given: list[int] = []
        self.gone: list[int] = []
        self.closes = {"slave": 0, "master": 0}
        self.ups = {"slave": 0, "master": 0}
        for name, side in self.sides.items():
            self.perform(name, side.start())

    def perform(self, name: str, actions: list[Action]) -> None:
        side, other = self.sides[name], "master" if name == "slave" else "slave"
        for action in actions:
            assert not self.closes[name] or isinstance(action, CloseFd), "something after the end"
            match action:
                case Send(message, fd):
                    self.wire[other].append((encode(message), int(fd is not None)))
                case CloseFd(fd):
                    self.gone.append(fd)
                case CreateMemory():
                    assert isinstance(side, SlaveHandshake)
                    self.perform(name, side.offer(*layout(action)))
                case MapMemory(regions, rings):
                    assert isinstance(side, MasterHandshake)
                    self.gone += [offer.fd for offer in (*regions, *rings)]
                    self.perform(name, side.accept())
                case Up():
                    self.ups[name] += 1
                case Close():
                    self.closes[name] += 1
                    self.hung_up[name] = True

    def give(self, name: str, data: bytes, number: int, truncated: bool = False) -> None:
        fds = [next(self.numbers) for _ in range(number)]
        self.given += fds
        self.perform(name, self.sides[name].receive(data, fds, truncated=truncated))

    @rule(name=SIDES)
    def deliver(self, name: str) -> None:
        """The next datagram arrives; after the last one of a peer that has gone, its end."""
        other = "master" if name == "slave" else "slave"
        if self.wire[name]:
            self.give(name, *self.wire[name].popleft())
        elif self.hung_up[other]:
            self.perform(name, self.sides[name].eof())

    @rule(step=st.floats(0.0, 1.0))
    def time_passes(self, step: float) -> None:
        self.now += step
        for name, side in self.sides.items():
            self.perform(name, side.tick(self.now))
        self.faults += self.now >= 5.0

    @precondition(lambda self: self.faults < 3)
    @rule(name=SIDES, how=st.sampled_from(["lost", "twice", "cut", "no fd", "two fds", "truncated"]))
    def fault(self, name: str, how: str) -> None:
        """A datagram that a broken or hostile program spoiled."""
        if not self.wire[name]:
            return
        self.faults += 1
        data, number = self.wire[name].popleft()
        match how:
            case "twice":
                self.wire[name].extendleft([(data, number)] * 2)
            case "cut":
                self.give(name, data[:100], number)
            case "no fd":
                self.give(name, data, 0)
            case "two fds":
                self.give(name, data, 2)
            case "truncated":
                self.give(name, data, number, truncated=True)

    @precondition(lambda self: self.faults < 3)
    @rule(name=SIDES, message=MESSAGES, number=st.integers(0, 2))
    def inject(self, name: str, message: object, number: int) -> None:
        """A message from nowhere."""
        self.faults += 1
        self.wire[name].append((encode(message), number))  # type: ignore[arg-type]

    @precondition(lambda self: self.faults < 3)
    @rule(name=SIDES)
    def die(self, name: str) -> None:
        """The process of one side is killed: nobody closes its descriptors but the kernel."""
        self.faults += 1
        self.perform(name, self.sides[name].eof())

    @precondition(lambda self: self.faults < 3)
    @rule(name=SIDES, polite=st.booleans())
    def leave(self, name: str, polite: bool) -> None:
        self.faults += 1
        side = self.sides[name]
        self.perform(name, side.disconnect("enough") if polite else side.refuse("no memory"))

    @invariant()
    def ends_at_most_once(self) -> None:
        if not hasattr(self, "sides"):
            return
        assert max(self.closes.values()) <= 1
        assert max(self.ups.values()) <= 1
        for name, side in self.sides.items():
            assert (side.state is State.CLOSED) == bool(self.closes[name])
            assert (side.deadline is None) == (side.state in (State.UP, State.CLOSED))

    def teardown(self) -> None:
        """Let everything arrive, then the time pass."""
        if not hasattr(self, "sides"):
            return
        for _ in range(60):
            for name in self.sides:
                self.deliver(name)
        states = {side.state for side in self.sides.values()}
        if not self.faults:
            assert states == {State.UP}
        for name, side in self.sides.items():
            self.perform(name, side.tick(100.0))
            assert side.state in (State.UP, State.CLOSED)
        for _ in range(60):
            for name in self.sides:
                self.deliver(name)
        if State.CLOSED in {side.state for side in self.sides.values()}:
            assert {side.state for side in self.sides.values()} == {State.CLOSED}, "one end never learnt of it"
        for name, side in self.sides.items():
            self.perform(name, side.disconnect())
        assert sorted(self.given) == sorted(self.gone)


Handshakes.TestCase.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestHandshakes = Handshakes.TestCase
