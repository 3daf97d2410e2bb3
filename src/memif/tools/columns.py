"""Lines and tables that fit the terminal: in a narrow one the columns of least importance go, and no number is cut."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TextIO

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

#: Columns of a line where there is no terminal.
PIPE_WIDTH = 80


def width_of(stream: TextIO) -> int:
    """Return how many columns the terminal of this stream has; `PIPE_WIDTH` if it is no terminal."""
    try:
        columns = os.get_terminal_size(stream.fileno()).columns if stream.isatty() else 0
    except (OSError, ValueError):
        columns = 0
    return columns or PIPE_WIDTH


def fit(cells: Iterable[tuple[int, str]], width: int) -> str:
    """Join cells to a line of at most `width` columns.

    Args:
        cells: Rank and text. The cells of the highest rank go first; those of rank 0 stay.
        width: Columns.
    """
    kept = [(rank, text) for rank, text in cells if text]
    while sum(len(text) + 2 for _, text in kept) - 2 > width and (worst := max(rank for rank, _ in kept)):
        kept = [(rank, text) for rank, text in kept if rank != worst]
    return "  ".join(text for _, text in kept).rstrip()


@dataclass(frozen=True, slots=True)
class Heading:
    """A column of a table.

    Attributes:
        name: Its heading.
        rank: The columns of the highest rank go first when there is no room; those of rank 0 stay.
        justify: Where its cells stand.
    """

    name: str
    rank: int = 0
    justify: Literal["left", "right"] = "right"


def fit_table(
    headings: Sequence[Heading], rows: Iterable[Sequence["str | Text"]], width: int, make: Callable[[], "Table"]
) -> "Table":
    """Make a table of at most `width` columns, if those of rank 0 let it.

    Args:
        headings: Its columns.
        rows: Its cells.
        width: Columns of the terminal.
        make: Returns an empty table.
    """
    from rich.console import Console
    from rich.measure import Measurement

    console, lines = Console(width=4 * width), list(rows)
    limit = max(heading.rank for heading in headings) + 1
    while True:
        table = make()
        chosen = [i for i, heading in enumerate(headings) if heading.rank < limit]
        for i in chosen:
            table.add_column(headings[i].name, justify=headings[i].justify, no_wrap=True)
        for line in lines:
            table.add_row(*(line[i] for i in chosen))
        if limit == 1 or Measurement.get(console, console.options, table).maximum <= width:
            return table
        limit = max(headings[i].rank for i in chosen)
