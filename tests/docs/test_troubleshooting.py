"""The texts that people look up are those that the package says."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
#: Said by others: pip, compilers, shells, DPDK, VPP.
OTHERS = ("error: ext", "fatal error", "No CMAKE", "memif: command", "Invalid ring", "set interface state")
#: The page's dots stand for what differs; numbers and words of an example do, too.
DIFFERS = re.compile(r"\.\.\.|@\.\.\.|/run/|\b\d+\b|'memif\[numpy\]'|\b(ethernet|ip|numpy|incorrect|user|log2|id)\b")


def source() -> str:
    """All texts of the package, f-strings with "#" for what they show, without the breaks between their parts."""
    text = "\n".join(path.read_text() for path in (ROOT / "src").rglob("*.py") if "testing" not in path.parts)
    text = re.sub(r"\"\s*\n\s*f?\"", "", text)
    return re.sub(r"\{[^{}]*\}", "#", text)


TERMS = re.findall(r"^(`.+)\n: ", PAGE, re.MULTILINE)
TEXTS = [text for term in TERMS for text in re.findall(r"`([^`]+)`", term) if not text.startswith(OTHERS)]


@pytest.mark.parametrize("text", TEXTS)
def test_the_text_is_said(text: str) -> None:
    said = source()
    for part in DIFFERS.split(text):
        words = (part or "").strip(" ,;:()")
        assert words in said, words


def test_there_are_texts() -> None:
    assert len(TEXTS) > 15
