"""``memif doctor``: what is wrong with a link, in words."""

import sys
from dataclasses import asdict
from textwrap import TextWrapper
from typing import TYPE_CHECKING

import click

from memif.tools.columns import width_of
from memif.tools.options import complete_file, complete_socket, examples, json_option, read_secret
from memif.tools.terminal import print_json
from memif.tools.verb import Verb

if TYPE_CHECKING:
    from memif.doctor import Finding

_MARKS = {"ok": "ok", "fault": "FAULT", "note": "note", "skipped": "-"}


@click.command(
    "doctor",
    cls=Verb,
    epilog=examples(
        "doctor /run/vpp/memif.sock",
        "doctor /run/vpp/memif.sock --id 3 --vpp /run/vpp/api.sock",
        "doctor /tmp/m.sock --join --secret-file secret",
    ),
)
@click.argument("socket", shell_complete=complete_socket)
@click.option("--id", type=click.IntRange(0, 0xFFFFFFFF), default=0, show_default=True, help="Interface id.")
@click.option("--vpp", metavar="SOCKET", shell_complete=complete_file, help="Ask VPP, too, at its API socket.")
@click.option("--join", is_flag=True, help="Connect as a client. That takes the client's place for a moment.")
@click.option("--secret-file", metavar="FILE", shell_complete=complete_file, help="With --join: the secret.")
@click.option(
    "--mode", type=click.Choice(["ethernet", "ip"]), default="ethernet", show_default=True, help="With --join."
)
@click.option(
    "--watch",
    type=click.FloatRange(0, 3600),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to look at the rings of links that are up.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0.01, 3600),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="For each answer.",
)
@json_option
def command(
    socket: str,
    id: int,
    vpp: str | None,
    join: bool,
    secret_file: str | None,
    mode: str,
    watch: float,
    timeout: float,
    as_json: bool,
) -> None:
    """Look at the control socket SOCKET, at who listens, at the rings of its links, and say what is wrong.

    Nobody loses a link by that, unless --join is given: it connects, reads HELLO and hangs up. The rings of other
    programs are only read, which needs root or the rights of their user.

    Exit code: 0 when nothing is wrong, 1 when something is.
    """
    from memif.doctor import diagnose

    secret = None if secret_file is None else read_secret(secret_file)
    found = diagnose(socket, id=id, vpp=vpp, join=join, secret=secret, mode=mode, watch=watch, timeout=timeout)
    faults = [finding for finding in found if finding.state == "fault"]
    if as_json:
        print_json({"healthy": not faults, "findings": [asdict(finding) for finding in found]})
    else:
        width = width_of(sys.stdout) if sys.stdout.isatty() else None
        for finding in found:
            click.echo(lines_of(finding, width))
        click.echo(f"{len(faults)} fault{'s' if len(faults) != 1 else ''}" if faults else "nothing is wrong")
    sys.exit(1 if faults else 0)


def lines_of(finding: "Finding", width: int | None) -> str:
    """Return what is printed for a finding, in lines of `width` columns; None: as long as they are."""
    texts = [f"{_MARKS[finding.state]:5}  {finding.check}: {finding.text}"]
    texts += [f"       -> {finding.advice}"] if finding.advice else []
    if width is None:
        return "\n".join(texts)
    wrap = TextWrapper(width, break_long_words=False, break_on_hyphens=False)
    wrapped = []
    for text, indent in zip(texts, (7, 10), strict=False):
        wrap.subsequent_indent = " " * indent
        wrapped += wrap.wrap(text)
    return "\n".join(wrapped)
