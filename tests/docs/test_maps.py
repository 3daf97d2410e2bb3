"""The pages that say where things are: what they name exists, and what exists is named."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "memif"
MAPS = [
    "CONTRIBUTING.md",
    "docs/architecture.md",
    *sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("docs/decisions/*.md")),
]
PATH = re.compile(r"`((?:src|tests|docs|benchmarks|examples|\.ci)/[\w./-]*)`")


@pytest.mark.parametrize("page", MAPS)
def test_every_path_exists(page: str) -> None:
    named = PATH.findall((ROOT / page).read_text())
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_map_is_complete() -> None:
    """Each folder and each module of the package, and each folder of tests that has no counterpart in it."""
    named = set(PATH.findall((ROOT / "CONTRIBUTING.md").read_text()))
    folders = {f"src/memif/{path.name}/" for path in SOURCE.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    modules = {f"src/memif/{path.name}" for path in SOURCE.glob("*.py") if path.name != "__init__.py"}
    assert sorted((folders | modules) - named) == []


def test_architecture_covers_the_core() -> None:
    """The layers under the public names are all there."""
    text = (ROOT / "docs/architecture.md").read_text()
    core = ["protocol", "memory", "ring", "aio", "libmemif", "packet", "capture", "tools"]
    assert [name for name in core if f"`src/memif/{name}/`" not in text] == []
    assert all(
        f"## {title}\n" in text for title in ("The layers", "A packet's way", "A control message's way", "The locks")
    )
