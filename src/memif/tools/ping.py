"""``memif ping``: ICMP echo requests over memif, in the manner of ping(8)."""

import sys
from typing import Any

import click

from memif.tools.linking import Waiting, come_up
from memif.tools.options import LinkOptions, examples, json_option, link_options, timeout_option
from memif.tools.terminal import Stop, print_json
from memif.tools.values import parse_host, parse_mac
from memif.tools.verb import Verb

_LONGEST = 65536 - 42
_OWN = ("192.168.1.1", "192.168.1.2")  # the second one if the first is the target


@click.command(
    "ping",
    cls=Verb,
    epilog=examples(
        "ping --ip 192.168.1.1 -c 4 192.168.1.2", "ping --role master --mode ip --json -c 100 -i 0.01 192.168.1.2"
    ),
)
@click.argument("target")
@click.option("--ip", metavar="ADDR", help=f"Own IPv4 address.  [default: {_OWN[0]}, for that as target {_OWN[1]}]")
@click.option("--mac", default="02:fe:00:00:00:01", show_default=True, help="Own MAC address.")
@click.option("-c", "--count", type=click.IntRange(0), default=0, help="End after so many requests (0: never).")
@click.option("-i", "--interval", type=click.FloatRange(0), help="Seconds between two.  [default: 1, with -f 0]")
@click.option("-s", "--size", type=click.IntRange(0, 65507), default=56, show_default=True, help="Payload bytes.")
@click.option("-t", "--ttl", type=click.IntRange(1, 255), default=64, show_default=True, help="Time to live.")
@click.option(
    "-w",
    "--deadline",
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="End after so long. With -c then waits until so many replies have come.",
)
@click.option(
    "-W",
    "--wait",
    type=click.FloatRange(0),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the last replies, or twice the longest round trip if that is more (0: without end). "
    "Replies after this time are late.",
)
@timeout_option
@click.option(
    "-f",
    "--flood",
    is_flag=True,
    help="Send when a reply has come, 100 times a second at least. A dot for each request, taken back by its reply.",
)
@click.option("-D", "--timestamps", is_flag=True, help="Print the time in front of each line, in seconds since 1970.")
@click.option("-O", "--outstanding", is_flag=True, help="Say when a request has no answer before the next is sent.")
@click.option("-q", "--quiet", is_flag=True, help="Print the summary only.")
@json_option
@link_options()
def command(link: LinkOptions, target: str, as_json: bool, quiet: bool, timeout: float, **options: Any) -> None:
    """Ping TARGET, an IPv4 address behind the memif interface.

    Options, lines and counts are those of ping(8). A late reply counts as received, a second one as a duplicate.
    Replies with a wrong ICMP checksum are corrupted, those of another address than TARGET are counted on their own;
    neither is received. Errors are what routers say, and requests whose TARGET does not answer ARP. When the peer goes,
    requests are lost until it is back.

    Exit code 0: at least one reply, with -c and -w all; 1: less, or no link; 2: wrong usage.
    """
    from memif.tools.pinger import Pinger

    if link.mode != "ip" and options["size"] > _LONGEST:
        raise click.BadParameter(f"at most {_LONGEST} bytes with Ethernet headers", param_hint="--size")
    if options["interval"] is None:
        options["interval"] = 0.0 if options["flood"] else 1.0
    pinger = Pinger(
        where := parse_host(target, "TARGET"),
        own_address(options.pop("ip"), where),
        parse_mac(options.pop("mac")),
        link.mode != "ip",
        quiet=quiet or as_json,
        **options,
    )
    with link.open("ping") as interface, Stop(options["deadline"]) as stop:
        with stop.paused():
            come_up(interface, timeout, waiting := Waiting(interface))
        if not as_json:
            click.echo(f"PING {target} over memif, {pinger.size} bytes of data")
        pinger.run(interface, stop, waiting)
    print_json(pinger.summary()) if as_json else print_summary(pinger, target)
    enough = options["count"] if options["deadline"] is not None else 1
    sys.exit(0 if pinger.received >= max(enough, 1) else 1)


def own_address(text: str | None, target: bytes) -> bytes:
    """Return our IPv4 address, 4 bytes, which must not be the target's; None as text: a default that differs."""
    if text is None:
        return next(raw for raw in (parse_host(own, "--ip") for own in _OWN) if raw != target)
    own = parse_host(text, "--ip")
    if own == target:
        raise click.BadParameter(f"{text!r} is the target's address", param_hint="--ip")
    return own


def print_summary(pinger: Any, target: str) -> None:
    """Print the same as ping(8) does."""
    s = pinger.summary()
    counts = ("late", "duplicates", "corrupted", "errors", "from_others", "wrong_data")
    extra = "".join(f", +{s[name]} {name.replace('_', ' ')}" for name in counts if s[name])
    click.echo(f"\n--- {target} ping statistics ---")
    click.echo(
        f"{s['transmitted']} packets transmitted, {s['received']} received{extra}, "
        f"{s['loss_percent']:.3g}% packet loss, time {s['time_ms']:.0f}ms"
    )
    if s["rtt_ms"] is not None:
        click.echo("rtt min/avg/max/mdev = {min:.3f}/{avg:.3f}/{max:.3f}/{mdev:.3f} ms".format(**s["rtt_ms"]))
    if s["corrupted"]:
        click.echo(f"corrupted: the ICMP checksum of {s['corrupted']} replies was wrong")
