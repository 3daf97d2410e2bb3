"""The group of all verbs. A verb's module is imported only when that verb is called or its help is shown.

Errors become messages and exit codes here, for all verbs. The verbs `bench`, `console` and `extcap`, which only start
other parts of the package, are here as well.
"""

import errno
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import click
from click.shell_completion import CompletionItem

from memif import __version__
from memif.errors import MemifError
from memif.tools.options import complete_file, examples, socket_options
from memif.tools.screen import fall_back_to_ascii, log_to_stderr
from memif.tools.terminal import ending_signals, fail, print_json, print_rich
from memif.tools.verb import Verb

#: Verb and the line that ``memif --help`` shows. The command of a verb that is not in this module is ``command`` in the
#: module of its name.
VERBS: dict[str, str] = {
    "list": "List memif sockets: who listens, who is connected.",
    "show": "Join links and show them: state, peers, queues, rates.",
    "ping": "Send ICMP echo requests over memif and time the replies.",
    "icmp-responder": "Answer ARP and ping over memif.",
    "send": "Generate traffic: sizes, mixes, rates, templates, numbered packets.",
    "sink": "Receive and measure: rate, loss, order, latency.",
    "capture": "Write received packets to pcapng files, or print a line for each.",
    "replay": "Send the packets of a pcap or pcapng file.",
    "bridge": "Join two memifs, or a memif and a TAP or network interface.",
    "sniff": "Tap the link between two other programs without being in their way.",
    "decode": "Explain control messages from strace, a hex dump or sniff's captures.",
    "console": "Create and examine interfaces by typed commands, as libmemif's example does.",
    "doctor": "Say what is wrong with a link, and what to do.",
    "vpp": "Make, show and remove VPP's end of a link, over VPP's API socket.",
    "bench": "Measure what this machine can do.",
    "help": "Show the help of a verb.",
    "extcap": "Wireshark's interface to memif; --install makes it known to Wireshark.",
}


class VerbGroup(click.Group):
    """A click group whose commands are imported on use, and which turns their errors into messages and exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return all verbs, in the order of the table."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a verb's command; None for a word that is not a verb."""
        if cmd_name in self.commands or cmd_name not in VERBS:
            return self.commands.get(cmd_name)
        command = import_module(f"memif.tools.{cmd_name.replace('-', '_')}").command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb of a command line; usage error, with the verb that was probably meant, if there is none."""
        word = args[0]
        if word not in VERBS and not word.startswith("-") and not ctx.resilient_parsing:
            near = [verb for verb in VERBS if verb.startswith(word)] or get_close_matches(word, VERBS, 1)
            hint = "did you mean " + " or ".join(map(repr, near)) + "?" if near else "memif --help lists them"
            ctx.fail(f"there is no verb {word!r}: {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of verbs, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete verbs, without importing them, and the group's own options."""
        return _verbs(incomplete) + click.Command.shell_complete(self, ctx, incomplete)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a verb."""
        with _messages():
            return super().invoke(ctx)


def _verbs(incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(verb, help=line) for verb, line in VERBS.items() if verb.startswith(incomplete)]


@contextmanager
def _messages() -> Iterator[None]:
    """An error becomes one line and exit code 1; Ctrl-C, SIGTERM and SIGHUP are an ordinary end, with exit code 130."""
    for number in ending_signals():
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    except MemifError as error:
        fail(error)
        sys.exit(1)
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise  # the reader of our output has gone: click ends without a word
        if error.errno == errno.EIO and error.filename is None and not isinstance(error, MemifError):
            raise BrokenPipeError(errno.EPIPE, "the terminal has gone") from error
        fail(f"{error.filename}: {error.strerror}" if error.filename else error)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


_EPILOG = """\b
memif help VERB shows the options of a verb, man memif those of all.
Completion, where the shell has not loaded it by itself (zsh, fish: likewise):
  eval "$(_MEMIF_COMPLETE=bash_source memif)"

Exit codes: 0 success, 1 failure, 2 wrong usage.
"""


@click.group(
    cls=VerbGroup, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="memif")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Packets over shared memory: memif, the interface of FD.io VPP, DPDK and libmemif.

    \b
    Try it without any of them, in two terminals:
      memif icmp-responder --role master --socket /tmp/m.sock
      memif ping --socket /tmp/m.sock 192.168.1.2
    """
    fall_back_to_ascii()
    if ctx.invoked_subcommand != "extcap":  # which reports to Wireshark, in its own way
        log_to_stderr()


def _complete_verb(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return _verbs(incomplete)


@cli.command("console", cls=Verb, epilog=examples("console", "console --socket /tmp/m.sock"))
@click.option(
    "--history",
    default="~/.memif_history",
    show_default=True,
    metavar="FILE",
    shell_complete=complete_file,
    help="Where lines typed on a terminal are remembered; empty: nowhere.",
)
@socket_options
def _console(socket: str, history: str) -> None:
    """Create interfaces, look at them, answer pings and send them, by typed commands.

    The console of libmemif's icmp_responder-epoll: `help` lists its commands. On a terminal it has a prompt, and
    lines can be edited, completed with Tab and recalled; else they are read one by one. Ends with `exit`, the end of
    input, or Ctrl-C.
    """
    from memif.console import Console, run

    sys.exit(run(Console(socket), history=history or None))


@cli.command("bench", cls=Verb, epilog="Example: memif bench --quick --only 'burst 256'")
@click.option("--quick", is_flag=True, help="A choice of rows, under two minutes.")
@click.option("--only", default="", metavar="TEXT", help="Only rows with this in their title.")
@click.option("--runs", type=click.IntRange(1, 100), default=5, show_default=True, help="Runs a row, at least.")
@click.option("--seconds", type=click.FloatRange(0.05, 10), default=0.4, show_default=True, help="Length of a run.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
def _bench(quick: bool, only: str, runs: int, seconds: float, as_json: bool) -> None:
    """Measure rates and round-trip times between two processes, each on a core of its own.

    A run in which a process did not have its core is left out. Where there is no other, the machine is too busy: the
    figure is less than it could be, and marked "(busy)".
    """
    from rich.progress import track

    from memif.bench import machine, measure, rows, select, table

    chosen = select(quick=quick, only=only)
    measured = [
        measure(s, runs=runs, seconds=seconds) for s in track(chosen, "measuring", transient=True, disable=as_json)
    ]
    if as_json:
        print_json({"machine": machine(), "outcomes": [m.as_dict() for m in measured]})
    else:
        print_rich(table(rows(measured), f"memif on {machine()['cpu']}, {machine()['cores']} cores"))


@cli.command("help", cls=Verb, epilog=examples("help", "help ping"))
@click.argument("verb", nargs=-1, metavar="[VERB]", shell_complete=_complete_verb)
def _help(verb: tuple[str, ...]) -> None:
    """Show the help of VERB, or the list of verbs."""
    cli.main([*verb, "--help"], prog_name="memif")


@cli.command(
    "extcap", add_help_option=False, context_settings={"ignore_unknown_options": True, "allow_extra_args": True}
)
@click.pass_context
def _extcap(ctx: click.Context) -> None:
    """Wireshark's interface to memif; --install makes it known to Wireshark."""
    from memif.extcap import main

    sys.exit(main(ctx.args))
