"""The group of all verbs. A verb's module is imported only when that verb is called or its help is shown."""

from importlib import import_module
from importlib.util import find_spec

import click
from click.shell_completion import CompletionItem

from memif import __version__

#: Verb, module in this package that has its command, and the line that ``memif --help`` shows.
VERBS: dict[str, tuple[str, str]] = {
    "show": ("show", "Show an interface: state, peer, queues, rings, rates."),
    "ping": ("ping", "Send ICMP echo requests over memif and time the replies."),
    "icmp-responder": ("icmp_responder", "Answer ARP and ping over memif."),
    "send": ("send", "Generate traffic: sizes, mixes, rates, templates, numbered packets."),
    "sink": ("sink", "Receive and measure: rate, loss, order, latency."),
    "capture": ("capture", "Write received packets to pcapng files, or print a line for each."),
    "replay": ("replay", "Send the packets of a pcap or pcapng file."),
    "bridge": ("bridge", "Join two memifs, or a memif and a TAP or network interface."),
    "sniff": ("sniff", "Tap the link between two other programs without being in their way."),
    "decode": ("decode", "Explain control messages from strace, a hex dump or sniff's captures."),
    "console": ("console", "Create and examine interfaces by typed commands, as libmemif's example does."),
    "bench": ("bench", "Measure what this machine can do."),
    "extcap": ("extcap", "Wireshark's interface to memif; --install makes it known to Wireshark."),
}


def available() -> dict[str, tuple[str, str]]:
    """The verbs whose modules are installed."""
    return {verb: row for verb, row in VERBS.items() if find_spec(f"memif.tools.{row[0]}") is not None}


class LazyGroup(click.Group):
    """A click group whose commands live in modules that are imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All verbs, in the order of the table."""
        return list(available())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a verb's module and return its ``command``."""
        row = available().get(cmd_name)
        if row is None:
            return None
        command = import_module(f"memif.tools.{row[0]}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of verbs, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(verb, line) for verb, (_, line) in available().items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Verbs, without importing them, and own options."""
        verbs = [
            CompletionItem(verb, help=line) for verb, (_, line) in available().items() if verb.startswith(incomplete)
        ]
        return verbs + click.Command.shell_complete(self, ctx, incomplete)


_EPILOG = """\b
Shell completion, for bash (zsh, fish: likewise):
  eval "$(_MEMIF_COMPLETE=bash_source memif)"

Exit codes: 0 success, 1 failure, 2 wrong usage.
"""


@click.group(
    cls=LazyGroup, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="memif")
def cli() -> None:
    """Packets over shared memory: memif, the interface of FD.io VPP, DPDK and libmemif.

    \b
    Try it without any of them, in two terminals:
      memif icmp-responder --role master --socket /tmp/m.sock
      memif ping --socket /tmp/m.sock 192.168.1.2
    """
