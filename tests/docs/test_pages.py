"""What the pages say is true: code is the code of tested files, commands and names exist."""

import ast
import json
import re
import shlex
import tomllib
from importlib import import_module
from importlib.metadata import version

import click
import pytest

import memif
from docs.pages import ALL_BLOCKS, PAGES, ROOT, Block, blocks, commands
from memif.profiles import KEYS, variable
from memif.tools.cli import VERBS, cli

#: Pages whose code is checked by tests of their own.
OWN_TESTS = {"guide.md", "porting.md", "security.md", "security-evidence.md"}
COMMANDS = list(commands())


@pytest.fixture(autouse=True)
def profiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """The profiles that the pages speak of."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(ROOT / "examples" / "profiles"))


def _id(value: object) -> str:
    return " ".join(value) if isinstance(value, list) else str(value)


def parse(words: list[str]) -> None:
    """Parse a command line of the tool without running it; click.UsageError or AssertionError if it is wrong."""
    assert words[0] == "memif"
    context = click.Context(cli, info_name="memif")
    if words[1] in ("--version", "--help"):
        return
    assert words[1] in VERBS, f"there is no verb {words[1]}"
    command = cli.get_command(context, words[1])
    assert command is not None
    arguments = [word for word in words[2:] if word not in ("&", ">", "2>&1")]
    if "--help" not in arguments:
        command.make_context(f"memif {words[1]}", arguments, parent=context)


def test_readme_shows_the_first_example() -> None:
    shown = next(block for block in blocks(ROOT / "README.md") if block.language == "python")
    source = (ROOT / "examples" / "hello.py").read_text()
    docstring = ast.get_docstring(ast.parse(source), clean=False)
    assert source == f'"""{docstring}"""\n\n{shown.text}'


def test_readme_shows_it_within_the_first_screen() -> None:
    shown = next(block for block in blocks(ROOT / "README.md") if block.language == "python")
    assert shown.line + shown.text.count("\n") <= 40


@pytest.mark.parametrize("block", [b for b in ALL_BLOCKS if b.language.startswith("python")], ids=str)
def test_python_is_that_of_a_tested_file(block: Block) -> None:
    compile(block.text, str(block), "exec")
    if block.page.name in OWN_TESTS:
        return
    files = [*ROOT.glob("examples/**/*.py"), *ROOT.glob("tests/**/*.py")]
    assert any(block.text.strip() in file.read_text() for file in files), f"{block}: not part of any tested file"


@pytest.mark.parametrize(("block", "words"), [c for c in COMMANDS if c[1][0] == "memif"], ids=_id)
def test_command_of_the_tool_is_understood(block: Block, words: list[str]) -> None:
    parse(words)


@pytest.mark.parametrize("words", [words for _, words in COMMANDS if words[0] == "make" and len(words) > 1], ids=_id)
def test_make_target_exists(words: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in (word for word in words[1:] if "=" not in word):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target}"


@pytest.mark.parametrize("words", [words for _, words in COMMANDS if "examples/" in " ".join(words[:2])], ids=_id)
def test_program_exists(words: list[str]) -> None:
    program = next(word for word in words if word.startswith("examples/"))
    assert (ROOT / program).is_file()


@pytest.mark.parametrize("words", [words for _, words in COMMANDS if words[:2] == ["pip", "install"]], ids=_id)
def test_extras_exist(words: list[str]) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for word in words[2:]:
        for extra in re.findall(r"\[(.*)\]", word):
            assert set(extra.split(",")) <= extras.keys()


@pytest.mark.parametrize("path", sorted(ROOT.glob("examples/kubernetes/*.yaml")), ids=lambda path: path.name)
def test_commands_of_pods(path) -> None:
    text = path.read_text()
    assert "\t" not in text
    (command,) = re.findall(r"command: (\[.*\])", text)
    parse(json.loads(command))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_running_text(page) -> None:
    for text in re.findall(r"`(memif [a-z-]+(?: --?[a-z-]+)*)`", page.read_text()):
        words = shlex.split(text)
        assert words[1] in VERBS or words[1].startswith("--"), f"{page}: {text}"


def test_every_public_name_is_in_the_reference() -> None:
    reference = "\n".join(page.read_text() for page in (ROOT / "docs" / "reference").glob("*.md"))
    documented = set(re.findall(r"auto(?:class|data|function|module|exception):: (\S+)", reference))
    documented |= {f"memif.{name}" for name in re.findall(r"py:data:: (\S+)", reference)}
    whole = {name for name in documented if not name.rpartition(".")[2][0].isupper()}
    for name in memif.__all__:
        value = getattr(memif, name)
        home = getattr(value, "__module__", None)
        assert name == "__version__" or f"memif.{name}" in documented or home in whole or f"memif.{name}" in whole, (
            f"memif.{name} is not in docs/reference"
        )


def test_references_name_what_exists() -> None:
    text = "\n".join(page.read_text() for page in PAGES)
    for kind, name in re.findall(r"\{py:(\w+)\}`~?([\w.]+)`", text):
        module, _, rest = name.partition(".")
        value = import_module(module)
        for part in rest.split("."):
            value = getattr(value, part, None) or import_module(f"{value.__name__}.{part}")
        assert value is not None, f"{kind} {name}"


def test_one_version() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert declared == memif.__version__ == version("memif")
    assert f"## [{declared}]" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("page", sorted(ROOT.glob("*.md")), ids=lambda page: page.name)
def test_links_lead_somewhere(page) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_variables_on_the_page() -> None:
    page = (ROOT / "docs" / "howto" / "profiles.md").read_text()
    shown = dict(re.findall(r"^\| `([a-z-]+)` \| `(MEMIF_\w+)` \|$", page, re.MULTILINE))
    assert shown == {key: variable(key) for key in KEYS}
    assert f"`{variable('profile')}`" in page


#: What a page uses, and the extra that it needs for that.
USES = {
    "numpy": r"import numpy|memif\.packet import|\.(gather|scatter|lengths|recv_array|send_array)\b",
    "scapy": r"(import|from) scapy|memif\.scapy",
    "metrics": r"import prometheus_client|memif\.metrics",
    "numba": r"import numba",
    "tap": r"\btap:|memif\.tap",
    "cli": r"^[$#] memif |^\s*memif [a-z-]+ -",
}
BRINGS_NUMPY = {"cli", "scapy", "numba", "numpy", "all"}


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "howto").glob("[!i]*.md")), ids=lambda page: page.stem)
def test_a_how_to_says_what_it_needs(page) -> None:
    text = page.read_text()
    (needs,) = re.findall(r"^:Needs: (.*)$", text, re.MULTILINE)
    files = [page.parent / name for name in re.findall(r"\{literalinclude\} (\S+\.(?:py|sh))", text)]
    used = "\n".join([*(block.text for block in blocks(page)), *(file.read_text() for file in files)])
    named = {extra for word in re.findall(r"memif\[([\w,]+)\]", needs) for extra in word.split(",")}
    if named & BRINGS_NUMPY:
        named.add("numpy")
    assert {extra for extra, pattern in USES.items() if re.search(pattern, used, re.MULTILINE)} <= named
