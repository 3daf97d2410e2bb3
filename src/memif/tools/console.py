"""``memif console``: create and examine interfaces by typed commands, as libmemif's example does."""

import sys

import click

from memif.address import DEFAULT_SOCKET
from memif.tools.options import complete_file, examples, run


@click.command("console", epilog=examples("console", "console --socket /tmp/m.sock"))
@click.option(
    "-s",
    "--socket",
    default=DEFAULT_SOCKET,
    show_default=True,
    metavar="NAME",
    envvar="MEMIF_SOCKET",
    show_envvar=True,
    shell_complete=complete_file,
    help="Control socket of all interfaces: a path or @abstract.",
)
@click.option(
    "--history",
    default="~/.memif_history",
    show_default=True,
    metavar="FILE",
    shell_complete=complete_file,
    help="Where lines typed on a terminal are remembered; empty: nowhere.",
)
def command(socket: str, history: str) -> None:
    """Create interfaces, look at them, answer pings and send them, by typed commands.

    The console of libmemif's icmp_responder-epoll: `help` lists its commands. On a terminal lines can be edited,
    completed with Tab and recalled; else they are read one by one. Ends with `exit`, the end of input, or Ctrl-C.
    """
    from memif.console import Console, run as run_console

    sys.exit(run(lambda: run_console(Console(socket), history=history or None)))
