"""Classes that users do not make show no arguments: the docstring of their ``__init__`` begins with "For"."""

from typing import Any

from sphinx.application import Sphinx


def hide_constructor(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str | None, result: str | None
) -> tuple[str, None] | None:
    """Handler of ``autodoc-process-signature``."""
    init = getattr(obj, "__init__", None) if what == "class" else None
    return ("", None) if (getattr(init, "__doc__", "") or "").startswith("For ") else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("autodoc-process-signature", hide_constructor)
    return {"parallel_read_safe": True}
