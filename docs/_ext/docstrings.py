"""Docstrings of this package are written to be read in an editor; this turns their two habits into reStructuredText.

A run of lines in two columns (``name    meaning``) becomes a definition list, and an indented block after a line that
ends with a colon becomes a literal block, unless it is a doctest or a list.
"""

import inspect
import re
import sys
from functools import cache
from typing import Any

from sphinx.application import Sphinx

_ROW = re.compile(r"^(\s*)(\*{0,2}[A-Za-z_][\w, .*/()>-]{0,58}?)(?:\s{2,}|\t)(\S.*)$")
#: A docstring in the Google style is left to napoleon.
_SECTIONS = {f"{name}:" for name in ("Args", "Returns", "Yields", "Raises", "Attributes", "Note", "Example")}
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
    if any(line in _SECTIONS for line in lines):
        return
    lines[:] = columns_to_definitions(blocks_to_literals(lines))


def hide_constructor(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str | None, result: str | None
) -> tuple[str, None] | None:
    """Handler of ``autodoc-process-signature``: a class that users do not make shows no arguments."""
    init = getattr(obj, "__init__", None) if what == "class" else None
    return ("", None) if (getattr(init, "__doc__", "") or "").startswith("For ") else None


#: Public by their place, but of no use to readers.
_HIDDEN = {"changed"}


def hide_internals(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Handler of ``autodoc-skip-member``: classes say by comments such as ``# -- for its queues`` where the part begins
    that is not for users; what is for them stands under ``# -- what ...``."""
    function = getattr(obj, "fget", obj)
    path = getattr(function, "__qualname__", "").split(".")
    if name in _HIDDEN or (len(path) == 2 and name in _internals(getattr(function, "__module__", ""), path[0])):
        return True
    return None


@cache
def _internals(module: str, kind: str) -> frozenset[str]:
    try:
        source = inspect.getsource(getattr(sys.modules[module], kind))
    except (TypeError, OSError, AttributeError, KeyError):
        return frozenset()
    found, hidden = set(), False
    for line in source.splitlines():
        if line.startswith("    # -- "):
            hidden = not line.startswith("    # -- what ")
        elif hidden and (match := re.match(r"    (?:async )?def (\w+)", line)):
            found.add(match[1])
    return frozenset(found)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", process)
    app.connect("autodoc-skip-member", hide_internals)
    app.connect("autodoc-process-signature", hide_constructor)
    return {"parallel_read_safe": True}
