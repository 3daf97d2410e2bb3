"""The files below share that the wheel installs: as `make share` writes them, and understood by those who read them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import files, version
from pathlib import Path

import click
import pytest

import manual
from memif.tools.cli import VERBS, cli
from patience import within

SHARE = Path(__file__).parents[2] / "share"
PAGE = SHARE / "man/man1/memif.1"
#: Where the command itself is, for the shells.
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"


def run(*words: str, **variables: str) -> str:
    """What a program prints; AssertionError unless it ends well."""
    environment = {**os.environ, "PATH": PATH, **variables}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=within(40), check=False)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def here(program: str) -> pytest.MarkDecorator:
    """Only where there is such a program."""
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"there is no {program} here")


def commands(group: click.Group, context: click.Context) -> Iterator[click.Command]:
    """All commands of the tool, those inside others too."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield command
        if isinstance(command, click.Group):
            yield from commands(command, context)


def test_nothing_is_missing_in_the_manual() -> None:
    text = PAGE.read_text().replace("\\-", "-")
    for verb in VERBS:
        assert f'.SS "memif {verb}' in text
    for command in commands(cli, click.Context(cli)):
        for param in command.params:
            for name in param.opts if isinstance(param, click.Option) and not param.hidden else ():
                assert name in text, f"{command.name} {name}: `make share` writes the page anew"


@pytest.mark.parametrize("name", manual.FILES)
def test_the_files_are_current(name: str) -> None:
    """Another click may word usage and scripts differently, so the files say which one made them."""
    text = (SHARE / name).read_text()
    if f"with click {version('click')}." in text:
        assert text == manual.FILES[name](), "`make share` writes it anew"


@pytest.mark.parametrize("name", manual.FILES)
def test_the_package_installs_them(name: str) -> None:
    installed = [file for file in files("memif") or [] if str(file).endswith(f"share/{name}")]
    assert [Path(str(file.locate())).read_text() for file in installed] == [(SHARE / name).read_text()]


@here("man")
def test_man_shows_the_page() -> None:
    text = run("man", "--warnings", "-l", str(PAGE), MANWIDTH="78", LC_ALL="C.UTF-8", MANPAGER="cat")
    assert "memif - packets over shared memory" in text
    assert "MEMIF_RX_QUEUES" in text
    assert max(map(len, text.splitlines())) <= 100


def test_bash_loads_and_completes() -> None:
    file = SHARE / "bash-completion/completions/memif"
    program = f"""
source {file}
complete -p memif
answer() {{
  COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
  _memif_completion memif
  echo "${{COMPREPLY[*]}}"
}}
answer memif pi
answer memif ping --prof
"""
    bound, verbs, options = run("bash", "--norc", "-c", program).splitlines()
    assert "_memif_completion memif" in bound
    assert (verbs, options) == ("ping", "--profile")


@here("zsh")
def test_zsh_loads_and_completes(tmp_path: Path) -> None:
    folder = SHARE / "zsh/site-functions"
    # What zsh's own functions are told is printed; they themselves work only while a line is edited.
    program = f"""
fpath=({folder} $fpath)
autoload -Uz compinit
compinit -D -u
print -- $_comps[memif]
_describe() {{ print -l -- ${{(P)3}} ${{(P)2}} }}
compadd() {{ print -l -- $@ }}
compdef() {{ }}
words=(memif pi)
CURRENT=2
_memif
"""
    lines = run("zsh", "-f", "-c", program, ZDOTDIR=str(tmp_path)).splitlines()
    assert lines[0] == "_memif"
    assert any(line.startswith("ping:Send ICMP echo requests") for line in lines[1:])


@here("fish")
def test_fish_loads_and_completes(tmp_path: Path) -> None:
    file = SHARE / "fish/vendor_completions.d/memif.fish"
    text = run(
        "fish", "--no-config", "-c", f"source {file}; complete -C 'memif pi'", HOME=str(tmp_path), XDG_CONFIG_HOME=""
    )
    assert text.startswith("ping\tSend ICMP echo requests")
