"""What ``memif show`` shows: an interface with its rates, as tables and as a document."""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final, cast

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from memif.interface import Interface
from memif.tools.columns import Heading, fit_table
from memif.tools.linking import why_down
from memif.tools.screen import escaped
from memif.tools.values import si, sparkline
from memif.types import Details, InterfaceStats, QueueDetails

_SAMPLES: Final = 40
_SUMMED: Final = ("packets", "bytes", "pps", "bps", "drops")


class View:
    """An interface with the rates of each queue. One thread."""

    interface: Interface

    def __init__(self, interface: Interface) -> None:
        self.interface = interface
        self.history: deque[float] = deque(maxlen=_SAMPLES)
        self.rates: dict[tuple[str, int], tuple[float, float]] = {}
        self._last = time.monotonic()
        self._before = self._totals()
        self._refused = 0
        self.refusal: str | None = None  # why the last connection was refused

    def _totals(self) -> dict[tuple[str, int], tuple[int, int]]:
        stats = self.interface.stats
        return {(side, i): (q["packets"], q["bytes"]) for side in ("rx", "tx") for i, q in enumerate(stats[side])}

    def look(self) -> None:
        """Note why a connection was refused; call while the link is down."""
        if (refused := self.interface.stats["refused"]) != self._refused:
            self._refused, self.refusal = refused, self.interface.disconnect_reason

    def sample(self) -> None:
        """Compute the rates since the last sample."""
        self.look()
        now, totals = time.monotonic(), self._totals()
        span = max(now - self._last, 1e-6)
        for key, (packets, size) in totals.items():
            old_packets, old_size = self._before.get(key, (0, 0))
            self.rates[key] = (packets - old_packets) / span, (size - old_size) / span
        self._last, self._before = now, totals
        self.history.append(sum(rate for rate, _ in self.rates.values()))

    def queues(self, details: Details) -> list[dict[str, Any]]:
        """Return a dict for each queue: its ring, counters and rates. After a link has ended there are no rings."""
        rows: list[dict[str, Any]] = []
        counters = self.interface.stats
        for side, shown, counted in (
            ("rx", details.rx_queues, counters["rx"]),
            ("tx", details.tx_queues, counters["tx"]),
        ):
            rings = {ring.qid: ring for ring in shown}
            for qid, found in enumerate(counted if counters["connects"] else []):
                stats = cast(dict[str, int], found)
                ring = rings.get(qid)
                pps, rate = self.rates.get((side, qid), (0.0, 0.0))
                lost = ("dropped_bad", "dropped_oversize", "dropped_left") if side == "rx" else ("ring_full",)
                drops = sum(stats[name] for name in lost)
                shape: dict[str, Any] = {"qid": qid} | (
                    dict.fromkeys(("region", "ring_size", "flags", "head", "tail", "buffer_size", "used"))
                    if ring is None
                    else asdict(ring) | {"used": used(ring, (side == "rx") == (details.role == "slave"))}
                )
                if side == "rx" and details.role == "master":
                    shape["buffer_size"] = None  # only the slave knows it; descriptors do not tell
                rows.append(
                    {
                        "direction": side,
                        **shape,
                        **stats,
                        "drops": drops,
                        "pps": pps,
                        "bps": 8 * rate,
                    }
                )
        return rows


def used(ring: QueueDetails, m2s: bool) -> int:
    """Return how many slots hold packets that the receiver has not taken.

    In M2S rings packets are put behind the tail, in S2M rings before the head.
    """
    free_or_used = (ring.head - ring.tail) & 0xFFFF
    return max(ring.ring_size - free_or_used, 0) if m2s else free_or_used


def totals(queues: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the sums over all queues of a direction."""
    return {
        side: {name: sum(q[name] for q in queues if q["direction"] == side) for name in _SUMMED}
        for side in ("rx", "tx")
    }


def as_dict(view: View) -> dict[str, Any]:
    """Return everything for a program; of the secret only whether there is one."""
    details = view.interface.details()
    result = asdict(details) | {"secret": bool(details.secret)}
    del result["rx_queues"], result["tx_queues"]
    counts = {key: value for key, value in view.interface.stats.items() if key not in ("rx", "tx")}
    queues = view.queues(details)
    return result | counts | {"queues": queues, "totals": totals(queues)}


# -- tables


def render(views: Sequence[View], width: int) -> RenderableType:
    """Return the picture of all interfaces, for a terminal of so many columns."""
    several = len(views) > 1
    what = f"New ends of {len(views)} links" if several else "A new end of the link"
    parts: list[RenderableType] = [Text(f"{what}: what arrives here is counted and dropped.", style="dim")]
    queues: list[dict[str, Any]] = []
    for view in views:
        view.look()
        details = view.interface.details()
        queues += [{"id": details.id, **queue} for queue in view.queues(details)]
        waits = "" if details.link_up else why_down(view.interface)
        rows = _interface_rows(details, waits, view.interface.stats, view.refusal)
        parts.append(_pairs_table(_short(rows) if several else rows))
    if views[0].history:
        rates = [sum(samples) for samples in zip(*(view.history for view in views), strict=False)]
        spark = f"{si(rates[-1], 'pps'):<9}  {sparkline(rates[-max(width - 24, 1) :])}"
        parts.append(_pairs_table([("rate", spark)]))
    return Group(*parts, _queue_table(queues, width, several=several))


def _pairs_table(rows: Sequence[tuple[str, str | Text]]) -> Table:
    """Names and values."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, value if isinstance(value, Text) else Text(escaped(value)))
    return table


def _interface_rows(
    details: Details, waits: str, stats: InterfaceStats, refusal: str | None
) -> list[tuple[str, str | Text]]:
    """State, peer and memory of an interface; `waits`: for whom and why, while it is down."""
    state = Text("up", style="green") if details.link_up else Text.assemble(("down", "red"), f", {waits}")
    rows: list[tuple[str, str | Text]] = [
        ("interface", f"{details.name}, id {details.id}, {details.role}, {details.mode}"),
        ("socket", details.socket),
        ("link", state),
    ]
    peer = details.peer
    if peer is not None:
        rows.append(("peer", f"{peer.name} ({peer.app_name}), pid {peer.pid}, uid {peer.uid}"))
    if details.disconnect_reason and stats["disconnects"]:
        rows.append(("last end", details.disconnect_reason))
    regions = ", ".join(f"{si(region.size, 'B')}" for region in details.regions)
    if regions:
        rows.append(("memory", f"{len(details.regions)} region{'s' * (len(details.regions) > 1)}: {regions}"))
    last = f", last: {refusal}" if refusal else ""
    rows.append(("connects", f"{stats['connects']}, {stats['disconnects']} ended; refused {stats['refused']}{last}"))
    return rows


def _short(rows: list[tuple[str, str | Text]]) -> list[tuple[str, str | Text]]:
    """What is shown of each of several interfaces."""
    return [row for row in rows if row[0] in ("interface", "link", "peer", "connects")]


_HEADINGS: Final = (
    Heading("queue", justify="left"),
    Heading("slots", 4),
    Heading("used", 3),
    Heading("buffer", 5),
    Heading("packets"),
    Heading("bytes", 2),
    Heading("pps"),
    Heading("bit/s", 1),
    Heading("drops"),
)


def _queue_table(queues: Sequence[dict[str, Any]], width: int, *, several: bool) -> RenderableType:
    """One row a queue, and the sums below. With several interfaces, each queue with the id of its own."""
    if not queues:
        return Text("")
    summed = [
        {"direction": "all", "qid": side, "id": "", "ring_size": None, "used": None, "buffer_size": None, **sums}
        for side, sums in totals(queues).items()
        if sum(q["direction"] == side for q in queues) > 1
    ]
    rows = [
        (
            f"{q['id']} {q['direction']} {q['qid']}".lstrip() if several else f"{q['direction']} {q['qid']}",
            _number(q["ring_size"]),
            _number(q["used"]),
            _number(q["buffer_size"]),
            si(q["packets"]),
            si(q["bytes"], "B"),
            si(q["pps"]),
            si(q["bps"]),
            Text(str(q["drops"]), style="red" if q["drops"] else ""),
        )
        for q in [*queues, *summed]
    ]
    return fit_table(_HEADINGS, rows, width, lambda: Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1)))


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)
