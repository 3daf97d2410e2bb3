"""Packages that come with an extra: an import that misses one says what to install.

``from memif.extras import numpy`` imports numpy; where more is imported from a package, `with_advice` is around it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

#: The extra that brings each package.
_EXTRAS = {"numpy": "numpy", "scapy": "scapy", "prometheus_client": "metrics", "pyroute2": "tap"}


@contextmanager
def with_advice() -> Iterator[None]:
    """Context of imports: `ModuleNotFoundError` says which extra brings the package that is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRAS:
            raise
        text = f"{package} is not installed; it comes with pip install 'memif[{_EXTRAS[package]}]'"
        raise ModuleNotFoundError(text, name=error.name) from None


def __getattr__(name: str) -> Any:
    if name not in _EXTRAS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with with_advice():
        return import_module(name)


def is_there(package: str) -> bool:
    """Whether a package is installed, without importing it."""
    try:
        return find_spec(package) is not None
    except (ModuleNotFoundError, ValueError):  # ValueError: loaded, and made by hand
        return False
