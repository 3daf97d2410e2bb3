"""Both sides of a handshake joined in memory, and an account of every descriptor."""

from collections import deque
from dataclasses import dataclass, field
from itertools import count

from memif.protocol import (
    Action,
    Close,
    CloseFd,
    CreateMemory,
    Handshake,
    InterfaceInfo,
    MapMemory,
    MasterConfig,
    MasterHandshake,
    Message,
    Refusal,
    RegionOffer,
    RingOffer,
    Send,
    SlaveConfig,
    SlaveHandshake,
    encode,
)
from memif.protocol.offers import ring_size_bytes
from memif.protocol.wire import Init


def layout(create: CreateMemory, first_fd: int = 10) -> tuple[list[RegionOffer], list[RingOffer]]:
    """One region with all rings at its start, descriptors numbered from `first_fd`."""
    fds = count(first_fd)
    kinds = [(True, index) for index in range(create.s2m_rings)]
    kinds += [(False, index) for index in range(create.m2s_rings)]
    size = ring_size_bytes(create.log2_ring_size)
    region = RegionOffer(size * len(kinds) + 4096, next(fds))
    rings = [
        RingOffer(s2m, index, 0, place * size, create.log2_ring_size, next(fds))
        for place, (s2m, index) in enumerate(kinds)
    ]
    return [region], rings


def admit(init: Init) -> InterfaceInfo | Refusal:
    """A lookup that has every interface."""
    return InterfaceInfo(f"memif0/{init.id}")


def new_master(lookup: object = admit, config: MasterConfig | None = None) -> MasterHandshake:
    """A started master with a deadline at 5.0; its HELLO is dropped."""
    master = MasterHandshake(config or MasterConfig("master-app"), lookup, 0.0, 5.0)  # type: ignore[arg-type]
    master.start()
    return master


def new_slave(config: SlaveConfig | None = None) -> SlaveHandshake:
    """A started slave with a deadline at 5.0."""
    slave = SlaveHandshake(config or SlaveConfig(app_name="slave-app", if_name="if0"), 0.0, 5.0)
    assert slave.start() == []
    return slave


def feed(handshake: Handshake, message: Message, *fds: int) -> list[Action]:
    """Give one message to a handshake as its socket would."""
    return handshake.receive(encode(message), fds)


@dataclass
class Ledger:
    """Counts how often each descriptor that went in came out again."""

    given: list[int] = field(default_factory=list)
    released: list[int] = field(default_factory=list)

    def note(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, CloseFd):
                self.released.append(action.fd)
            elif isinstance(action, MapMemory):
                self.released += [region.fd for region in action.regions]
                self.released += [ring.fd for ring in action.rings]

    def settled(self) -> bool:
        return sorted(self.given) == sorted(self.released)


class Pair:
    """A slave and a master which exchange datagrams in memory until both are silent.

    The receiver of a descriptor gets a new number for it, as it would from the kernel.
    """

    def __init__(self, slave: SlaveHandshake, master: MasterHandshake) -> None:
        self.sides: dict[str, Handshake] = {"slave": slave, "master": master}
        self.log: list[tuple[str, Action]] = []
        self.ledger = Ledger()
        self._wire: deque[tuple[str, Send]] = deque()
        self._numbers = count(1000)

    def run(self) -> None:
        for name, side in self.sides.items():
            self._perform(name, side.start())
        self.pump()

    def pump(self) -> None:
        while self._wire:
            name, send = self._wire.popleft()
            fds = [] if send.fd is None else [next(self._numbers)]
            self.ledger.given += fds
            self._perform(name, self.sides[name].receive(encode(send.message), fds))

    def act(self, name: str, actions: list[Action]) -> None:
        """Carry out what a call outside of the exchange returned, and what follows from it."""
        self._perform(name, actions)
        self.pump()

    def of(self, name: str, kind: type) -> list[Action]:
        return [action for side, action in self.log if side == name and isinstance(action, kind)]

    def close_of(self, name: str) -> Close:
        closes = [action for action in self.of(name, Close) if isinstance(action, Close)]
        assert len(closes) == 1
        return closes[0]

    def _perform(self, name: str, actions: list[Action]) -> None:
        self.ledger.note(actions)
        other = "master" if name == "slave" else "slave"
        for action in actions:
            self.log.append((name, action))
            if isinstance(action, Send):
                self._wire.append((other, action))
            elif isinstance(action, CreateMemory):
                slave = self.sides["slave"]
                assert isinstance(slave, SlaveHandshake)
                self._perform("slave", slave.offer(*layout(action)))
            elif isinstance(action, MapMemory):
                master = self.sides["master"]
                assert isinstance(master, MasterHandshake)
                self._perform("master", master.accept())
