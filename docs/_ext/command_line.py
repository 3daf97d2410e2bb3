"""The command line pages: what ``--help`` prints, asked of the real commands."""

import click

from memif.tools.cli import available, cli

_WIDTH = 96


def help_text(command: click.Command, name: str) -> str:
    """Return what ``name --help`` prints."""
    context = click.Context(command, info_name=name, terminal_width=_WIDTH, max_content_width=_WIDTH)
    return command.get_help(context)


def _block(text: str) -> str:
    return f"```text\n{text}\n```\n"


def pages() -> str:
    """One section for the tool and one a verb, then the subcommands of verbs that have some."""
    parts = ["## memif\n", _block(help_text(cli, "memif"))]
    for verb, (_, line) in available().items():
        context = click.Context(cli, info_name="memif")
        command = cli.get_command(context, verb)
        assert command is not None, verb
        parts += [f"## memif {verb}\n", f"{line}\n", _block(help_text(command, f"memif {verb}"))]
    return "\n".join(parts)
