"""Small pieces of MyST text."""

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table; cells may hold MyST inline text."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines) + "\n"


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def first_paragraph(docstring: str | None) -> str:
    """Return the first paragraph of a docstring on one line, single backticks doubled as MyST wants for code."""
    return " ".join((docstring or "").strip().partition("\n\n")[0].split()).replace("``", "`")
