"""The command line's page shows what a user sees in a terminal."""

import re
from pathlib import Path

import pytest

from memif.tools.cli import VERBS

EXTENSIONS = Path(__file__).parents[2] / "docs" / "_ext"


def test_page_has_the_help_of_every_verb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXTENSIONS))
    import command_line

    text = command_line.pages()
    for verb in VERBS:
        assert f"## memif {verb}\n" in text
        assert re.search(rf"^usage: memif {verb}\b", text, re.MULTILINE | re.IGNORECASE), verb
    assert text.count("--help") > len(VERBS)
    assert max(map(len, text.splitlines())) <= command_line.COLUMNS
