"""The command line pages: what ``--help`` prints, asked of the installed tool."""

import os
import subprocess
import sys

import click

from memif.tools.cli import VERBS, cli

#: Columns of the terminal that the pages show.
COLUMNS = 80


def help_text(*verb: str) -> str:
    """Return what ``memif VERB --help`` prints, or ``memif --help``."""
    words = [sys.executable, "-m", "memif", *verb, "--help"]
    environment = {**os.environ, "COLUMNS": str(COLUMNS)}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=30, check=True)
    return done.stdout.replace("python -m memif", "memif").rstrip("\n")


def pages() -> str:
    """One section for the tool and one a verb."""
    parts = ["## memif\n", f"```text\n{help_text()}\n```\n"]
    for verb, line in VERBS.items():
        parts += [f"## memif {verb}\n", f"{line}\n", f"```text\n{help_text(verb)}\n```\n"]
        command = cli.get_command(click.Context(cli), verb)
        for part in command.commands if isinstance(command, click.Group) else ():
            parts += [f"### memif {verb} {part}\n", f"```text\n{help_text(verb, part)}\n```\n"]
    return "\n".join(parts)
