"""``memif list``: the control sockets of this machine."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, cast

import click

from memif.errors import MemifValueError
from memif.tools.options import complete_socket, examples, json_option
from memif.tools.screen import escaped
from memif.tools.terminal import fail, print_json
from memif.tools.verb import Verb

if TYPE_CHECKING:
    from memif.discovery import Ask, FoundSocket, Process

_STATES = {
    "dead": "dead: its program has ended, and the next master takes the file over",
    "unreachable": "unreachable: somebody listens, but the file was removed or replaced",
    "elsewhere": "open in another network namespace",
    "other": "not a control socket, or it does not listen yet",
    "denied": "not for this user to know: no permission",
    "missing": "no such socket",
}


@click.command(
    "list",
    cls=Verb,
    epilog=examples("list", "list --json", "list /run/vpp /tmp/m.sock", "list --ask all"),
)
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=complete_socket)
@click.option(
    "--ask",
    type=click.Choice(["known", "all", "none"]),
    default="known",
    show_default=True,
    help="Whom to ask for name and version: known memif programs, all that may be one, or none.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Time that each has for its answer.",
)
@json_option
def command(names: tuple[str, ...], ask: str, timeout: float, as_json: bool) -> None:
    """List the memif sockets of this machine: who listens, and who is connected.

    With NAMEs, sockets or folders, list these only, also what a program that has ended has left behind.

    Shown are the sockets of programs that have memif in them, such as VPP's plugin, DPDK's driver, libmemif or this
    package, and those of other users' programs, which only root can look into. Sockets of other network namespaces are
    not seen.

    A known program is asked for its name and version: connect, read its HELLO, hang up. That takes no client's place:
    only a client that answers HELLO gets an interface. A program that does not accept connections just now is left
    alone.

    Exit code 0: found; 1: nothing, or no such NAME.
    """
    from memif.discovery import find_sockets

    try:
        found = find_sockets(names, ask=cast("Ask", ask), timeout=timeout)
    except MemifValueError as error:
        raise click.UsageError(error.detail.removeprefix("argument ")) from error
    if as_json:
        print_json([asdict(each) for each in found])
    for each in () if as_json else found:
        click.echo("\n".join(map(escaped, lines(each))))
    if not found and not as_json:
        fail("no memif socket here that anybody listens on")
    sys.exit(0 if found and all(each.state != "missing" for each in found) else 1)


def lines(found: "FoundSocket") -> Iterator[str]:
    """The lines that show a socket."""
    if found.state != "listening":
        yield f"{found.name}  {_STATES[found.state]}"
        return
    yield f"{found.name}  {_kind(found)}"
    owner = "" if found.uid is None else f", user {found.uid}"
    yield f"  master  {_names(found.listeners) or f'not to be seen from here{owner}'}"
    clients = [_names(each) or "somebody" for each in found.clients]
    clients += [f"{found.waiting} not accepted yet"] * bool(found.waiting)
    for client in clients or ["none"]:
        yield f"  client  {client}"


def _kind(found: "FoundSocket") -> str:
    if found.memif:
        return f"memif {found.version}, {found.app_name!r}"
    return "not memif" if found.memif is False else "has not said whether it speaks memif"


def _names(processes: "Sequence[Process]") -> str:
    return ", ".join(f"{each.program} (pid {each.pid}, user {each.uid})" for each in processes)
