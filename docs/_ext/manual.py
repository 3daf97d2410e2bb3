"""The files beside the package that shells and man(1) read, made from the tool itself: `make share` writes them.

They are installed by the wheel, below ``share`` of its prefix.
"""

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from memif.profiles import KEYS, variable
from memif.tools.cli import VERBS, cli
from memif.tools.verb import LinkOption

ROOT = Path(__file__).parents[2] / "share"
#: Verb whose options all verbs with a link share.
_WITH_LINK = "sink"
_DESCRIPTION = """\
The verbs talk to FD.io VPP, to DPDK's memif driver, to libmemif or to each other over shared memory. Two programs
share a control socket and an interface id. One of them is the master, which listens, and the other one the slave, which
connects and owns the memory. The defaults are those of a slave of VPP."""


def completion(shell: str) -> str:
    """Return the file that makes a shell complete ``memif``: it asks the tool at each Tab."""
    kind = get_completion_class(shell)
    assert kind is not None
    source = kind(cli, {}, "memif", "_MEMIF_COMPLETE").source().strip("\n")
    first, _, rest = source.partition("\n")
    note = f"# Made by `make share`, with click {version('click')}."
    # zsh looks at the first line.
    return f"{first}\n{note}\n{rest}\n" if first.startswith("#compdef") else f"{note}\n{source}\n"


# -- the manual page


def page() -> str:
    """Return memif(1)."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield f'.\\" Made by `make share`, with click {version("click")}.'
    yield f'.TH MEMIF 1 "" "memif {version("memif")}" "memif for Python"'
    yield from (".SH NAME", "memif \\- packets over shared memory, from the command line")
    yield from (".SH SYNOPSIS", ".B memif", ".I VERB", "[\\fIOPTION\\fR]... [\\fIARGUMENT\\fR]...")
    yield from (".br", ".B memif help", "[\\fIVERB\\fR]")
    yield from (".SH DESCRIPTION", _text(_DESCRIPTION))
    context = click.Context(cli, info_name="memif")
    for verb, line in VERBS.items():
        yield from (".TP", f".B {_literal(verb)}", _text(line))
    yield ".SH VERBS"
    for verb in VERBS:
        command = cli.get_command(context, verb)
        assert command is not None
        yield from _verb(command, verb, context)
    yield from (".SH LINK OPTIONS", "Of all verbs that open a link, and of")
    yield from (".B memif console", "the first two.")
    linked = cli.get_command(context, _WITH_LINK)
    assert linked is not None
    yield from _options(linked, click.Context(linked, parent=context), link=True)
    yield from _surroundings()
    yield ".SH EXAMPLES"
    for verb in VERBS:
        command = cli.get_command(context, verb)
        yield from _examples((command.epilog if command else None) or "")
    yield from (".SH SEE ALSO", ".BR ping (8),", ".BR tcpdump (8),", ".BR tcpreplay (1),", ".BR wireshark (1)")


def _surroundings() -> Iterator[str]:
    """Environment, files, exit status."""
    yield from (".SH ENVIRONMENT", "Defaults of the link options, behind those of a profile:")
    for key in KEYS:
        yield from (".TP", f".B {variable(key)}", f"of \\fB\\-\\-{_literal(key)}\\fR")
    yield from (".TP", f".B {variable('profile')}", "of \\fB\\-\\-profile\\fR")
    yield from (".TP", ".B MEMIF_DEBUG", "set to 1: show which views of packets are still held, where that is an error")
    yield from (
        ".SH FILES",
        ".TP",
        ".I ~/.config/memif.toml",
        "Defaults and profiles of links. Keys are the link options",
    )
    yield from ("without their dashes; those at the top are for all links, those of a table", ".B [NAME]")
    yield from (
        "for the profile of that name:",
        ".nf",
        "ring\\-size = 2048",
        ".sp",
        "[lab]",
        'socket = "/tmp/lab.sock"',
    )
    yield from ("id = 3", 'secret\\-file = "lab.secret"', ".fi", ".TP", ".I ~/.memif_history")
    yield "What was typed in \\fBmemif console\\fR."
    yield from (
        ".SH EXIT STATUS",
        ".TP",
        ".B 0",
        "Success.",
        ".TP",
        ".B 1",
        "Failure; the reason is on standard error.",
    )
    yield from (".TP", ".B 2", "Wrong usage.", ".TP", ".B 130", "Ended by Ctrl\\-C before there was a result.")


def _verb(command: click.Command, name: str, parent: click.Context) -> Iterator[str]:
    context = click.Context(command, info_name=name, parent=parent)
    pieces = " ".join(_literal(piece) for piece in command.collect_usage_pieces(context))
    yield from (f'.SS "memif {_literal(name)} {pieces}"'.rstrip(), *_help(command.help or ""))
    yield from _options(command, context, link=False)
    if any(isinstance(param, LinkOption) for param in command.params):
        yield from (".PP", "And the link options, below.")
    if isinstance(command, click.Group):
        for word in command.list_commands(context):
            inner = command.get_command(context, word)
            assert inner is not None
            yield from _verb(inner, f"{name} {word}", parent)


def _options(command: click.Command, context: click.Context, *, link: bool) -> Iterator[str]:
    for param in command.params:
        record = param.get_help_record(context) if isinstance(param, click.Option) else None
        if record is not None and isinstance(param, LinkOption) is link:
            yield from (".TP", f"\\fB{_literal(record[0])}\\fR", _text(record[1]))


def _help(text: str) -> Iterator[str]:
    """The paragraphs of a docstring; one behind a backspace keeps its lines."""
    for paragraph in inspect.cleandoc(text.replace("\b", "\\b")).split("\n\n"):
        yield ".PP"
        if paragraph.startswith("\\b"):
            yield from (".nf", *map(_literal, paragraph.splitlines()[1:]), ".fi")
        else:
            yield _text(paragraph)


def _examples(epilog: str) -> Iterator[str]:
    for line in epilog.splitlines():
        if line.startswith("  memif "):
            yield from (".PP", ".nf", _literal(line.strip()), ".fi")


def _text(text: str) -> str:
    """Running text, with what is in backticks in bold."""
    return re.sub(r"`([^`]+)`", r"\\fB\1\\fR", _literal(" ".join(text.split())))


def _literal(text: str) -> str:
    """Text as roff takes it: nothing in it is a command."""
    safe = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + safe if safe.startswith((".", "'")) else safe


# -- the files


FILES: dict[str, Callable[[], str]] = {
    "man/man1/memif.1": page,
    "bash-completion/completions/memif": lambda: completion("bash"),
    "zsh/site-functions/_memif": lambda: completion("zsh"),
    "fish/vendor_completions.d/memif.fish": lambda: completion("fish"),
}


def main() -> None:
    """Write all files."""
    for name, make in FILES.items():
        file = ROOT / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(make())
        print(file.relative_to(ROOT.parent))


if __name__ == "__main__":
    sys.exit(main())
