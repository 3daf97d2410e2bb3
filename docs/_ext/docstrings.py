"""What Sphinx and its extensions do not do by themselves with docstrings and included programs."""

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.ext.napoleon import GoogleDocstring


def keep_sentences(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Handler of ``autodoc-process-docstring``, ahead of napoleon's.

    Napoleon takes what is before a colon in an attribute's first line for its type, and finds no sections there. So the
    sections are rendered here, and an empty comment in front makes napoleon leave the result as it is.
    """
    if what in ("attribute", "data", "property"):
        lines[:] = ["..", "", *GoogleDocstring(lines, app.config, app, "method", name, obj, options).lines()]


def hide_constructor(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str | None, result: str | None
) -> tuple[str, None] | None:
    """Handler of ``autodoc-process-signature``: a class that users do not make shows no arguments.

    The docstring of its ``__init__`` begins with "For".
    """
    init = getattr(obj, "__init__", None) if what == "class" else None
    return ("", None) if (getattr(init, "__doc__", "") or "").startswith("For ") else None


def hide_markers(app: Sphinx, doctree: nodes.document) -> None:
    """Handler of ``doctree-read``: markers such as ``# [run]`` are for the directive that includes parts of a file."""
    for block in doctree.findall(nodes.literal_block):
        text = re.sub(r"^ *# \[\w+\]\n", "", block.astext() + "\n", flags=re.MULTILINE)
        text = re.sub(r"^( *# )\[\w+\] (\w)", lambda found: found[1] + found[2].upper(), text, flags=re.MULTILINE)
        text = re.sub(r"\n{4,}", "\n\n\n", text).rstrip("\n")
        block.rawsource, block[:] = text, [nodes.Text(text)]


def break_names(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Handler of ``html-page-context``: long names in tables may go on in the next line, but not just anywhere."""
    if "body" in context:
        context["body"] = re.sub(
            r"<td>.*?</td>",
            lambda cell: re.sub(
                r'(<span class="pre">)([^<]{12,})(?=</span>)',
                lambda name: name[1] + re.sub(r"([_/.:(,=-])(?=[^_/.:(,=-])", r"\1<wbr>", name[2]),
                cell[0],
            ),
            context["body"],
            flags=re.DOTALL,
        )


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", keep_sentences)
    app.connect("autodoc-process-signature", hide_constructor)
    app.connect("doctree-read", hide_markers)
    app.connect("html-page-context", break_names)
    return {"parallel_read_safe": True}
