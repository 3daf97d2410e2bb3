"""The slave's half of the handshake; see `memif.protocol.handshake` for the table that drives it."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from memif.errors import MemifProtocolError, MemifValueError
from memif.protocol.actions import Action, CreateMemory, Negotiated, RegionOffer, RingOffer, Send, Up
from memif.protocol.handshake import Handshake, Local, Role, State
from memif.protocol.offers import check_offer
from memif.protocol.refusals import INCOMPATIBLE_VERSION, RING_SIZE, broken
from memif.protocol.wire import (
    MAX_LOG2,
    MAX_RING,
    NAME_BYTES,
    VERSION,
    AddRegion,
    AddRing,
    Connect,
    Connected,
    Hello,
    Init,
    MessageType,
    Mode,
    check_secret,
    check_text,
    check_uint,
)


@dataclass(frozen=True, slots=True)
class SlaveConfig:
    """What a slave asks for.

    Attributes:
        id: The master's interface, 32 bits.
        mode: Its mode.
        secret: Its secret, at most 23 bytes. ``repr()`` does not show it.
        app_name: Program name that the peer's user sees, at most 31 bytes.
        if_name: Interface name that the peer's user sees, at most 31 bytes.
        s2m_rings: Wanted slave-to-master rings, 0 to 256. The master's limit may lower it.
        m2s_rings: Wanted master-to-slave rings, 0 to 256, not both 0; likewise.
        log2_ring_size: Wanted log2 of the size of a ring, 1 to 14; likewise.

    Raises:
        MemifValueError: when a value does not fit the protocol.
    """

    id: int = 0
    mode: Mode = Mode.ETHERNET
    secret: bytes = field(default=b"", repr=False)
    app_name: str = ""
    if_name: str = ""
    s2m_rings: int = 1
    m2s_rings: int = 1
    log2_ring_size: int = 10

    def __post_init__(self) -> None:
        check_uint("id", self.id, 0xFFFFFFFF)
        check_uint("mode", self.mode, Mode.PUNT_INJECT)
        check_secret("secret", self.secret)
        check_text("app_name", self.app_name, NAME_BYTES)
        check_text("if_name", self.if_name, NAME_BYTES)
        check_uint("s2m_rings", self.s2m_rings, MAX_RING + 1)
        check_uint("m2s_rings", self.m2s_rings, MAX_RING + 1, 0 if self.s2m_rings else 1)
        check_uint("log2_ring_size", self.log2_ring_size, MAX_LOG2, 1)


_Offer = tuple[tuple[RegionOffer, ...], tuple[RingOffer, ...]]


class SlaveHandshake(Handshake):
    """The connecting side.

    After HELLO it asks for memory by `CreateMemory`; the owner answers with `offer`.

    Args:
        config: What to ask for.
        now: The present time in seconds, on any clock that does not go back.
        timeout: Seconds for the whole handshake.
    """

    role: ClassVar[Role] = Role.SLAVE
    # As in the base class. Once more for type checkers, because values are assigned below.
    peer_name: str
    peer_if_name: str
    negotiated: Negotiated | None

    def __init__(self, config: SlaveConfig, now: float, timeout: float) -> None:
        super().__init__(now, timeout)
        self.config = config
        self._script: deque[Send] = deque()

    def offer(self, regions: Sequence[RegionOffer], rings: Sequence[RingOffer]) -> list[Action]:
        """Supply the memory that `CreateMemory` asked for. INIT is sent now, then one message for each ACK.

        Args:
            regions: All regions, by index.
            rings: Exactly the rings asked for, in any order. The descriptors stay the caller's. They must be greater
                than 0, and open until the link is up or closed.

        Raises:
            MemifValueError: when the memory does not fit what was agreed on, or rings do not fit their regions.
            MemifStateError: when no memory was asked for.
        """
        return self._local(Local.OFFER, (tuple(regions), tuple(rings)))

    def _classify(self, event: MessageType | Local) -> MessageType | Local:
        # With only CONNECT left to send, this ACK was for the last ring.
        last = event is MessageType.ACK and self.state is State.WAIT_ACK and len(self._script) == 1
        return Local.LAST_ACK if last else event

    def _on_start(self, message: None, fd: None) -> list[Action]:
        return []

    def _on_hello(self, hello: Hello, fd: None) -> list[Action]:
        if not hello.min_version <= VERSION <= hello.max_version:
            raise broken(INCOMPATIBLE_VERSION)
        if not hello.max_log2_ring_size:
            raise broken(RING_SIZE)  # a ring of one slot is always full or always empty
        self.peer_name = hello.name
        wanted = self.config
        s2m = min(hello.max_s2m_ring + 1, wanted.s2m_rings)
        m2s = min(hello.max_m2s_ring + 1, wanted.m2s_rings)
        log2 = min(hello.max_log2_ring_size, wanted.log2_ring_size)
        self.negotiated = Negotiated(s2m, m2s, log2, hello.max_region + 1)
        return [CreateMemory(s2m, m2s, log2, hello.max_region + 1)]

    def _on_offer(self, offer: _Offer, fd: None) -> list[Action]:
        regions, rings = offer
        ordered = sorted(rings, key=lambda ring: (not ring.s2m, ring.index))
        self._check(regions, ordered)
        config = self.config
        self._script.append(Send(Init(config.id, config.mode, config.secret, config.app_name)))
        for index, region in enumerate(regions):
            self._script.append(Send(AddRegion(index, region.size), region.fd))
        self._script.extend(Send(_announce(ring), ring.fd) for ring in ordered)
        self._script.append(Send(Connect(config.if_name)))
        return self._send_next(None, None)

    def _check(self, regions: Sequence[RegionOffer], rings: Sequence[RingOffer]) -> None:
        agreed = self.negotiated
        assert agreed is not None
        expected = [(True, index) for index in range(agreed.s2m_rings)]
        expected += [(False, index) for index in range(agreed.m2s_rings)]
        if [(ring.s2m, ring.index) for ring in rings] != expected:
            allowed = f"{agreed.s2m_rings} s2m and {agreed.m2s_rings} m2s rings, numbered from 0"
            raise MemifValueError.argument("rings", f"{len(rings)} rings", allowed)
        check_uint("len(regions)", len(regions), agreed.max_regions, 1)
        for fd in [region.fd for region in regions] + [ring.fd for ring in rings]:
            # Some implementations take descriptor 0 for "no descriptor" when they send, so it is never used.
            check_uint("fd", fd, 0x7FFFFFFF, 1)
        for ring in rings:
            check_uint("log2_ring_size", ring.log2_ring_size, agreed.log2_ring_size)
        try:
            check_offer([region.size for region in regions], rings)
        except MemifProtocolError as error:
            raise MemifValueError(error.detail) from None

    def _send_next(self, message: None, fd: None) -> list[Action]:
        return [self._script.popleft()]

    def _on_connected(self, message: Connected, fd: None) -> list[Action]:
        self.peer_if_name = message.if_name
        return [Up()]


def _announce(ring: RingOffer) -> AddRing:
    return AddRing(ring.s2m, ring.index, ring.region, ring.offset, ring.log2_ring_size)
