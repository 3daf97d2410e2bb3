"""Docstrings of this package are written to be read in an editor; this turns their two habits into reStructuredText.

A run of lines in two columns (``name    meaning``) becomes a definition list, and an indented block after a line that
ends with a colon becomes a literal block, unless it is a doctest or a list.
"""

import re
from typing import Any

from sphinx.application import Sphinx

_ROW = re.compile(r"^(\s*)(\*{0,2}[A-Za-z_][\w, .*/()>-]{0,58}?)(?:\s{2,}|\t)(\S.*)$")
_LISTLIKE = (">>>", "- ", "* ", ":", "..", "=", "+", "|")


def columns_to_definitions(lines: list[str]) -> list[str]:
    """Rewrite rows of two columns; their continuation lines are those indented further than the row."""
    result: list[str] = []
    depth: int | None = None  # indentation of the rows, while there are some
    literal: int | None = None  # indentation of the line in front of a literal block, inside one
    table = False  # inside a table
    for number, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if literal is not None and line.strip() and indent <= literal:
            literal = None
        table = bool(line.strip()) and (table or line.lstrip().startswith("=="))
        row = _ROW.match(line) if literal is None and not table and _is_row(lines, number) else None
        if row:
            if depth is None and result and result[-1].strip():
                result.append("")
            depth = indent
            several = [row[2]] if "(" in row[2] else row[2].split(", ")
            names = ", ".join(f"``{name}``" for name in several)
            result += [f"{row[1]}{names}", f"{row[1]}   {row[3]}"]
        elif depth is not None and indent > depth:
            result.append(f"{' ' * depth}   {line.strip()}")
        else:
            if depth is not None and line.strip():
                result.append("")
                depth = None
            result.append(line)
        if literal is None and line.rstrip().endswith("::"):
            literal = indent
    return result


def _is_row(lines: list[str], number: int) -> bool:
    """Two blanks inside a sentence are no column: the words before them must not follow on running text."""
    before = lines[number - 1].strip() if number else ""
    return not before or bool(_ROW.match(lines[number - 1])) or lines[number - 1].startswith(" " * 6)


def blocks_to_literals(lines: list[str]) -> list[str]:
    """Mark indented blocks behind ``...:`` as literal."""
    result = list(lines)
    for number, line in enumerate(lines):
        if not line.rstrip().endswith(":") or line.rstrip().endswith("::") or number + 2 >= len(lines):
            continue
        following = lines[number + 2]
        deeper = len(following) - len(following.lstrip()) > len(line) - len(line.lstrip())
        if not lines[number + 1].strip() and deeper and not following.strip().startswith(_LISTLIKE):
            result[number] = line.rstrip() + ":"
    return result


def process(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Handler of ``autodoc-process-docstring``."""
    if obj.__class__.__name__ == "module" and not name.startswith("memif"):
        return
    lines[:] = columns_to_definitions(blocks_to_literals(lines))


def hide_constructor(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str | None, result: str | None
) -> tuple[str, None] | None:
    """Handler of ``autodoc-process-signature``: a class that users do not make shows no arguments."""
    init = getattr(obj, "__init__", None) if what == "class" else None
    return ("", None) if (getattr(init, "__doc__", "") or "").startswith("For ") else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", process)
    app.connect("autodoc-process-signature", hide_constructor)
    return {"parallel_read_safe": True}
