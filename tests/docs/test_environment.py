"""The page of the environment names every variable, and none that is not read."""

import re
from pathlib import Path

from memif.profiles import KEYS, variable

ROOT = Path(__file__).parents[2]


def test_every_variable_is_on_the_page() -> None:
    source = "\n".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    read = set(re.findall(r"\"(MEMIF_[A-Z_]+)\"", source)) & {"MEMIF_DEBUG", "MEMIF_VPP", "MEMIF_VPP_API"}
    read |= set(re.findall(r"environ(?:\.get)?[\[(]\"(MEMIF_\w+)\"", source))
    read |= {variable(key) for key in (*KEYS, "profile")}
    page = (ROOT / "docs" / "environment.md").read_text()
    assert set(re.findall(r"`(MEMIF_\w+)", page)) == read
