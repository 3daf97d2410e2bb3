"""The pages of the tools: one for each verb, with output that the tools still give."""

import re
import shutil
from pathlib import Path

import pytest

import sessions
from memif.tools.cli import VERBS

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {page.stem: page.read_text() for page in (DOCS / "tools").glob("*.md")}


def test_every_verb_has_a_page() -> None:
    titles = "\n".join(text.partition("\n")[0] for text in PAGES.values())
    assert sorted(set(VERBS) - {"help"} - set(re.findall(r"`memif ([\w-]+)`", titles))) == []


def test_every_page_is_in_the_index_and_names_a_counterpart() -> None:
    listed = PAGES["index"].partition("```{toctree}\n")[2].partition("```")[0].split()
    assert set(listed) == set(PAGES) - {"index"}
    assert [name for name in listed if "*You know" not in PAGES[name]] == []


def test_the_output_on_the_pages_is_that_of_the_sessions() -> None:
    shown = set(re.findall(r"output/([\w-]+)\.txt", "\n".join(PAGES.values())))
    assert shown == set(sessions.SESSIONS) == {path.stem for path in sessions.OUTPUT.glob("*.txt")}
    for path in sessions.OUTPUT.glob("*.txt"):
        assert max(map(len, path.read_text().splitlines())) <= sessions.COLUMNS, path.name


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", sessions.SESSIONS)
def test_the_tools_still_say_that(name: str) -> None:
    """Numbers differ, and so does how often a line comes; what the lines say does not."""
    if shutil.which("tmux") is None:
        pytest.skip("tmux is missing")
    session = sessions.SESSIONS[name]
    again = sessions.shapes(sessions.run(session))
    text = (sessions.OUTPUT / f"{name}.txt").read_text()
    shown = sessions.shapes(text.partition(session.upto)[0] + session.upto if session.upto else text)
    shown = [line for line in shown if line != session.upto]
    assert [line for line in shown if line not in again] == []
