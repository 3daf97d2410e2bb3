"""Rich tables that fit 80 columns."""

import io
import sys
from collections.abc import Sequence
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from memif.interface import Details
from memif.tools.units import si
from memif.types import InterfaceStats


def show(what: RenderableType) -> None:
    """Print to standard output; without a terminal in 80 columns and without blanks at the ends of lines."""
    if sys.stdout.isatty():
        Console().print(what)
        return
    console = Console(width=80, file=io.StringIO(), no_color=True)
    with console.capture() as captured:
        console.print(what)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()).rstrip())


def stack(*parts: RenderableType) -> RenderableType:
    """One below the other."""
    return Group(*parts)


def pairs_table(rows: Sequence[tuple[str, str | Text]]) -> Table:
    """Names and values."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, value if isinstance(value, Text) else Text(value))
    return table


def interface_table(details: Details, stats: InterfaceStats, rate: str) -> Table:
    """State, peer and memory of an interface."""
    state = Text("up", style="green") if details.link_up else Text("down", style="red")
    rows: list[tuple[str, str | Text]] = [
        ("interface", f"{details.name}, id {details.id}, {details.role}, {details.mode}"),
        ("socket", details.socket),
        ("link", state),
    ]
    peer = details.peer
    if peer is not None:
        rows.append(("peer", f"{peer.name} ({peer.app_name}), pid {peer.pid}, uid {peer.uid}"))
    if details.disconnect_reason:
        rows.append(("last end", details.disconnect_reason))
    regions = ", ".join(f"{si(region.size, 'B')}" for region in details.regions)
    if regions:
        rows.append(("memory", f"{len(details.regions)} region{'s' * (len(details.regions) > 1)}: {regions}"))
    rows.append(("connects", f"{stats['connects']}, {stats['disconnects']} ended, {stats['refused']} refused"))
    if rate:
        rows.append(("rate", rate))
    return pairs_table(rows)


def queue_table(queues: Sequence[dict[str, Any]]) -> RenderableType:
    """One row a queue."""
    if not queues:
        return Text("")
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for name in ("queue", "slots", "used", "buffer", "packets", "bytes", "pps", "bit/s", "drops"):
        table.add_column(name, justify="left" if name == "queue" else "right", no_wrap=True)
    for q in queues:
        table.add_row(
            f"{q['direction']} {q['qid']}",
            str(q["ring_size"]),
            str(q["used"]),
            str(q["buffer_size"] or "-"),
            si(q["packets"]),
            si(q["bytes"], "B"),
            si(q["pps"]),
            si(q["bps"]),
            Text(str(q["drops"]), style="red" if q["drops"] else ""),
        )
    return table
