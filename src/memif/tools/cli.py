"""The group of all verbs. A verb's module is imported only when that verb is called or its help is shown."""

from importlib import import_module

import click

from memif import __version__

#: Verb, module in this package that has its command, and the line that ``memif --help`` shows.
VERBS: dict[str, tuple[str, str]] = {
    "icmp-responder": ("icmp_responder", "Answer ARP and ping over memif."),
    "ping": ("ping", "Send ICMP echo requests over memif and time the replies."),
}


class LazyGroup(click.Group):
    """A click group whose commands live in modules that are imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All verbs, in the order of the table."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a verb's module and return its ``command``."""
        if cmd_name not in VERBS:
            return None
        command = import_module(f"memif.tools.{VERBS[cmd_name][0]}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of verbs, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(verb, line) for verb, (_, line) in VERBS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="memif")
def cli() -> None:
    """Packets over shared memory: memif, the interface of FD.io VPP, DPDK and libmemif.

    \b
    Try it without any of them, in two terminals:
      memif icmp-responder --role master --ip 192.168.1.2
      memif ping --role slave --ip 192.168.1.1 192.168.1.2
    """
