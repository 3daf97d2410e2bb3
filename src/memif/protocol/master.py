"""The master's half of the handshake; see `memif.protocol.handshake` for the table that drives it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from memif.errors import MemifRefusedError
from memif.protocol.actions import Action, MapMemory, Negotiated, RegionOffer, RingOffer, Selected, Send, Up
from memif.protocol.handshake import Handshake, Local, Role
from memif.protocol.offers import check_offer
from memif.protocol.refusals import (
    INCORRECT_SECRET,
    NO_REGION_FD,
    NO_RING_FD,
    PRIVATE_HEADER,
    REGION_INDEX,
    REGION_SIZE,
    RING_INDEX,
    RING_SIZE,
    SECRET_REQUIRED,
    TOO_MANY_REGIONS,
    TOO_MANY_RINGS,
    UNSUPPORTED_VERSION,
    Refusal,
    broken,
    mode_mismatch,
)
from memif.protocol.wire import (
    MAX_LOG2,
    MAX_REGION,
    MAX_RING,
    NAME_BYTES,
    VERSION,
    Ack,
    AddRegion,
    AddRing,
    Connect,
    Connected,
    Hello,
    Init,
    Mode,
    check_secret,
    check_text,
    check_uint,
)


@dataclass(frozen=True, slots=True)
class MasterConfig:
    """What a master allows every client.

    Attributes:
        app_name: Program name that the peer's user sees, at most 31 bytes.
        max_regions: The most regions, 1 to 256.
        max_region_bytes: The most bytes of all regions together. The default is 64 GiB, because zero-copy clients offer
            all of their packet memory.
        max_log2_ring_size: Largest log2 of a ring's size, 1 to 14. Keep it at 14: a VPP slave announces its configured
            size even when HELLO allows less.
        max_s2m_rings: The most slave-to-master rings, 1 to 256. HELLO announces it. It holds for interfaces without a
            limit of their own.
        max_m2s_rings: The same for master-to-slave rings.

    Raises:
        MemifValueError: when a value does not fit the protocol.
    """

    app_name: str = ""
    max_regions: int = MAX_REGION + 1
    max_region_bytes: int = 1 << 36
    max_log2_ring_size: int = MAX_LOG2
    max_s2m_rings: int = MAX_RING + 1
    max_m2s_rings: int = MAX_RING + 1

    def __post_init__(self) -> None:
        check_text("app_name", self.app_name, NAME_BYTES)
        check_uint("max_regions", self.max_regions, MAX_REGION + 1, 1)
        check_uint("max_region_bytes", self.max_region_bytes, (1 << 64) - 1, 1)
        check_uint("max_log2_ring_size", self.max_log2_ring_size, MAX_LOG2, 1)
        check_uint("max_s2m_rings", self.max_s2m_rings, MAX_RING + 1, 1)
        check_uint("max_m2s_rings", self.max_m2s_rings, MAX_RING + 1, 1)


@dataclass(frozen=True, slots=True)
class InterfaceInfo:
    """The interface that a client asked for.

    Attributes:
        if_name: Its name, at most 31 bytes.
        mode: Its mode, which the client's must equal.
        secret: Its secret. Empty admits everybody. ``repr()`` does not show it.
        max_s2m_rings: The most slave-to-master rings, 0 to 256; None for the limit of `MasterConfig`.
        max_m2s_rings: The same for master-to-slave rings.
        max_regions: The most regions; None for the limit of `MasterConfig`, which it can only lower.
        max_region_bytes: The most bytes of all regions together; likewise.

    Raises:
        MemifValueError: when a value does not fit the protocol.
    """

    if_name: str = ""
    mode: Mode = Mode.ETHERNET
    secret: bytes = field(default=b"", repr=False)
    max_s2m_rings: int | None = None
    max_m2s_rings: int | None = None
    max_regions: int | None = None
    max_region_bytes: int | None = None
    #: Whoever has the interface; handed on in `Selected`.
    owner: Any = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_text("if_name", self.if_name, NAME_BYTES)
        check_uint("mode", self.mode, Mode.PUNT_INJECT)
        check_secret("secret", self.secret)
        for name in ("max_s2m_rings", "max_m2s_rings"):
            if getattr(self, name) is not None:
                check_uint(name, getattr(self, name), MAX_RING + 1)


#: Finds the interface for a client's INIT, or returns why the client is refused (`memif.protocol.refusals` has the
#: usual reasons). It may also raise `MemifRefusedError`. It does not compare mode and secret: that comes afterwards.
Lookup = Callable[[Init], InterfaceInfo | Refusal]


class MasterHandshake(Handshake):
    """The listening side. One object for each client.

    `Selected` says which interface the client got. `MapMemory` asks the owner to map the memory that the client
    offered; the owner answers with `accept` or `refuse`.

    Args:
        config: What every client is allowed.
        lookup: Finds the interface that a client asks for.
        now: The present time in seconds, on any clock that does not go back.
        timeout: Seconds for the whole handshake.
    """

    role: ClassVar[Role] = Role.MASTER
    # As in the base class. Once more for type checkers, because values are assigned below.
    peer_name: str
    peer_if_name: str
    negotiated: Negotiated | None

    def __init__(self, config: MasterConfig, lookup: Lookup, now: float, timeout: float) -> None:
        super().__init__(now, timeout)
        self.config = config
        #: What the client asked for; None until it has.
        self.asked: Init | None = None
        self._lookup = lookup
        self._interface = InterfaceInfo()
        self._regions: list[RegionOffer] = []
        self._rings: dict[bool, list[RingOffer]] = {True: [], False: []}

    def accept(self) -> list[Action]:
        """Report that the memory of `MapMemory` is mapped and sound.

        Raises:
            MemifStateError: when no memory was asked for.
        """
        return self._local(Local.ACCEPT)

    def _on_start(self, message: None, fd: None) -> list[Action]:
        config = self.config
        hello = Hello(
            config.app_name,
            max_region=config.max_regions - 1,
            max_m2s_ring=config.max_m2s_rings - 1,
            max_s2m_ring=config.max_s2m_rings - 1,
            max_log2_ring_size=config.max_log2_ring_size,
        )
        return [Send(hello)]

    def _on_init(self, init: Init, fd: None) -> list[Action]:
        # VPP hangs up on a wrong version without a reason. We send one, for the peer's user.
        if init.version != VERSION:
            raise broken(UNSUPPORTED_VERSION)
        self.peer_name = init.name
        self.asked = init
        found = self._lookup(init)
        refusal = found if isinstance(found, Refusal) else _forbidden(found, init)
        if refusal is not None:
            raise MemifRefusedError(code=refusal.code, reason=refusal.text)
        assert isinstance(found, InterfaceInfo)
        self._interface = found
        return [Selected(init, found.owner), Send(Ack())]

    def _on_add_region(self, message: AddRegion, fd: int | None) -> list[Action]:
        if fd is None:
            raise broken(NO_REGION_FD)
        if message.index != len(self._regions):
            raise broken(REGION_INDEX)
        config, wanted = self.config, self._interface
        if message.index >= _lower(config.max_regions, wanted.max_regions):
            raise broken(TOO_MANY_REGIONS)
        total = sum(region.size for region in self._regions) + message.size
        if not message.size or total > _lower(config.max_region_bytes, wanted.max_region_bytes):
            raise broken(REGION_SIZE)
        self._regions.append(RegionOffer(message.size, fd))
        return [Send(Ack())]

    def _on_add_ring(self, message: AddRing, fd: int | None) -> list[Action]:
        self._check_ring(message, fd)
        assert fd is not None
        self._rings[message.s2m].append(
            RingOffer(message.s2m, message.index, message.region, message.offset, message.log2_ring_size, fd)
        )
        return [Send(Ack())]

    def _check_ring(self, message: AddRing, fd: int | None) -> None:
        if fd is None:
            raise broken(NO_RING_FD)
        if message.private_hdr_size:
            raise broken(PRIVATE_HEADER)
        if message.index != len(self._rings[message.s2m]):
            raise broken(RING_INDEX)
        if message.index >= self._most_rings(message.s2m):
            raise broken(TOO_MANY_RINGS)
        most = self.config.max_log2_ring_size
        if message.log2_ring_size > most:
            raise broken(RING_SIZE, f"(log2 {message.log2_ring_size}, at most {most})")

    def _most_rings(self, s2m: bool) -> int:
        config, own = self.config, self._interface
        if s2m:
            return config.max_s2m_rings if own.max_s2m_rings is None else own.max_s2m_rings
        return config.max_m2s_rings if own.max_m2s_rings is None else own.max_m2s_rings

    def _on_connect(self, message: Connect, fd: None) -> list[Action]:
        s2m, m2s = self._rings[True], self._rings[False]
        regions, rings = tuple(self._regions), (*s2m, *m2s)
        check_offer([region.size for region in regions], rings)
        self.peer_if_name = message.if_name
        log2 = max(ring.log2_ring_size for ring in rings)
        self.negotiated = Negotiated(len(s2m), len(m2s), log2, self.config.max_regions)
        self._take([region.fd for region in regions] + [ring.fd for ring in rings])
        return [MapMemory(regions, rings)]

    def _on_accept(self, message: None, fd: None) -> list[Action]:
        return [Send(Connected(self._interface.if_name)), Up()]


def _lower(limit: int, own: int | None) -> int:
    """The limit for an interface that may have a lower one of its own."""
    return limit if own is None else min(limit, own)


def _forbidden(interface: InterfaceInfo, init: Init) -> Refusal | None:
    """Compare what a client must know of the interface. Returns None when all is right."""
    if init.mode != interface.mode:
        return mode_mismatch(interface.mode, init.mode)
    if not interface.secret:
        return None
    if not init.secret:
        return SECRET_REQUIRED
    import hmac  # imports hashlib too, which most programs never need

    # In constant time: the time of the answer must not show how much of a guess was right.
    return None if hmac.compare_digest(init.secret, interface.secret) else INCORRECT_SECRET
