"""Reads the documentation's sources: its fenced blocks, and the commands in them."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(p for p in ROOT.glob("docs/**/*.md") if "_build" not in p.parts)])

_FENCE = re.compile(r"^(?P<indent>[ ]*(?:- |\* )?[ ]*)(?P<fence>`{3,})(?P<language>[^`\n]*)$")
_PROMPTS = ("$ ", "# ")


@dataclass(frozen=True)
class Block:
    """One fenced block: where it stands, its language (or directive), its text."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """All fenced blocks of one page."""
    fence, start, body = None, 0, []
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if fence is None:
            match = _FENCE.match(line)
            if match:
                fence, start, body = match, number, []
        elif line.strip() == fence["fence"]:
            yield Block(page, start, fence["language"].strip(), "\n".join(body) + "\n")
            fence = None
        else:
            body.append(line[min(len(fence["indent"]), len(line) - len(line.lstrip())) :])
    assert fence is None, f"{page}: a block from line {start} on has no end"


ALL_BLOCKS = [block for page in PAGES for block in blocks(page)]


def commands() -> Iterator[tuple[Block, list[str]]]:
    """Words of every command line in blocks for the console, and in the README's and CONTRIBUTING's plain blocks."""
    for block in ALL_BLOCKS:
        plain = block.language == "" and block.page.parent == ROOT
        if block.language != "console" and not plain:
            continue
        for line in block.text.replace("\\\n", " ").splitlines():
            prompted = line.startswith(_PROMPTS)
            if (prompted or plain) and line.strip():
                words = shlex.split(line[2:] if prompted else line, comments=True)
                if words:
                    yield block, words[: words.index("|")] if "|" in words else words
