"""What to know about other implementations: the table behind the caveats page and behind `memif doctor`."""

import re
from dataclasses import dataclass
from typing import Final

Version = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Quirk:
    """Something that a peer does in its own way.

    Attributes:
        peer: "VPP", "DPDK", "libmemif", "gomemif".
        text: What it does, and what helps.
        since: The first version that does; None for the oldest.
        before: The first version that no longer does; None if all newer ones do.
        fixed: Stable releases, older than that, that were seen without it. So are the later ones of their branches.
    """

    peer: str
    text: str
    since: Version | None = None
    before: Version | None = None
    fixed: tuple[Version, ...] = ()

    @property
    def versions(self) -> str:
        """The versions in words, "" for all."""
        since, before = (
            ".".join((str(v[0]), *(f"{part:02d}" for part in v[1:]))) if v else "" for v in (self.since, self.before)
        )
        text = f"{since} to before {before}" if since and before else f"from {since}" if since else f"before {before}"
        branches = ", ".join(".".join(map(str, version)) for version in self.fixed)
        return (text if since or before else "") + (f", not {branches}" if branches else "")

    def applies(self, version: Version | None) -> bool:
        """Whether a version does it. One that is not known may."""
        if version is None:
            return True
        if any(version[:2] == fixed[:2] and version >= fixed for fixed in self.fixed):
            return False
        return not (self.since and version[:2] < self.since) and not (self.before and version[:2] >= self.before)


#: All that is known, peer by peer.
QUIRKS: Final = (
    Quirk("VPP", "A master that is administratively down accepts clients and moves nothing."),
    Quirk("VPP", "Zero-copy slaves need rings of 64 slots or more, and do not seal huge pages."),
    Quirk("VPP", "One socket file serves masters or slaves, not both."),
    Quirk("VPP", "`rx-mode` is lost at each reconnect, and ignored while the link is down."),
    Quirk("VPP", "Its own `ping` uses queue 0 only."),
    Quirk("VPP", "A slave tries to connect every three seconds, and only while it is up."),
    Quirk("VPP", "As master it sends on no more queues than it has threads.", before=(22, 6)),
    Quirk("DPDK", "Ethernet mode only."),
    Quirk("DPDK", "Both sides need the same number of queues."),
    Quirk("DPDK", "A client never reconnects by itself: `port stop 0`, `port start 0`, `start`."),
    Quirk("DPDK", "A zero-copy client needs rings of 32 slots or more, and more mbufs than slots."),
    Quirk("DPDK", "It may crash when its peer vanishes while it forwards: let it `stop` first."),
    Quirk(
        "DPDK",
        "What it sends in chains is merged with later packets: give it a `bsize` of at least the largest frame.",
        before=(26, 3),
        fixed=((22, 11, 11), (24, 11, 8), (25, 11, 4)),
    ),
    Quirk(
        "DPDK",
        "A server whose `bsize` holds its own buffers writes packets without checking the size of ours: keep "
        "`buffer_size` at its `bsize` or above.",
        since=(23, 3),
    ),
    Quirk(
        "DPDK",
        "It corrupts chains that it receives: keep frames within one buffer.",
        since=(23, 3),
        before=(26, 3),
        fixed=((24, 11, 8), (25, 11, 4)),
    ),
    Quirk(
        "libmemif",
        'As master it maps only the first region: leave `layout` at `"single"`. Use equal numbers of queues in both '
        "directions.",
        before=(4,),
    ),
    Quirk(
        "libmemif",
        "As master it does not compare the mode. It answers unknown ids with an ACK and hangs up without a reason.",
        since=(4,),
    ),
    Quirk(
        "gomemif",
        "As slave it never sends its secret; as master it compares even an empty one. The chains it sends repeat the "
        "start of the packet. A program without an `InterruptFunc` ends at the first interrupt.",
    ),
)
_NAME: Final = re.compile(r"(VPP|DPDK|libmemif|gomemif)[^\d]*([\d.]*)", re.IGNORECASE)


def quirks_of(app_name: str) -> tuple[str, list[Quirk]]:
    """Return which implementation a peer's name is that of, with its version ("" for none), and its quirks.

    Args:
        app_name: What the peer calls itself, as "VPP 26.06" or "DPDK 22.11.11".
    """
    found = _NAME.search(app_name)
    if found is None:
        return "", []
    peer = next(name for name in ("VPP", "DPDK", "libmemif", "gomemif") if name.lower() == found[1].lower())
    number = found[2].strip(".")
    version = tuple(int(part) for part in number.split(".")[:3] if part) or None
    return f"{peer} {number}".strip(), [quirk for quirk in QUIRKS if quirk.peer == peer and quirk.applies(version)]
