"""``memif icmp-responder``: answer ARP and ping over memif."""

from contextlib import suppress
from typing import Any

import click

from memif.errors import MemifDisconnectedError, MemifValueError
from memif.interface import Interface
from memif.tools.linking import Waiting
from memif.tools.options import LinkOptions, duration_option, examples, json_option, link_options
from memif.tools.terminal import Stop, print_json
from memif.tools.transfer import bursts
from memif.tools.values import parse_mac
from memif.tools.verb import Verb

#: Bytes that a row has at least: two VLAN tags, IPv6 and a neighbour solicitation fit.
WIDTH = 128
#: Bytes by which an answer can be longer than the request: the option of a neighbour advertisement.
GROWTH = 8
_LONGEST = 65536


@click.command(
    "icmp-responder",
    cls=Verb,
    epilog=examples("icmp-responder --role master --ip 192.168.1.2", "icmp-responder --mode ip --ip6 2001:db8::2"),
)
@click.option(
    "--ip",
    default="192.168.1.2",
    show_default=True,
    metavar="ADDR[/LEN]",
    help="Own IPv4 address; a length is not used.",
)
@click.option("--ip6", metavar="ADDR", help="Own IPv6 address.")
@click.option("--mac", default="02:fe:00:00:00:02", show_default=True, help="Own MAC address.")
@duration_option
@json_option
@link_options()
def command(link: LinkOptions, ip: str, ip6: str | None, mac: str, duration: float | None, as_json: bool) -> None:
    """Answer ARP requests and ICMP echo requests for one address, in any role, in ethernet and ip mode.

    It answers what the kernel of a host would, also ping to all IPv6 nodes (ff02::1). Fragments and packets with IP
    options are left alone and counted, as are frames for another MAC address. Ends with Ctrl-C and prints what it did.
    """
    import numpy as np

    from memif.packet import Responder

    hardware = parse_mac(mac)
    try:
        responder, other = (
            Responder(ip.partition("/")[0], ip6, hardware, "ip" if link.mode == "ip" else "ethernet") for _ in range(2)
        )
    except MemifValueError as error:
        raise click.BadParameter(error.detail, param_hint="--ip / --ip6 / --mac") from error
    # numpy loads much of itself on first use: not while the first ping waits.
    other.answer(np.zeros((1, WIDTH), np.uint8), np.array([60], np.uint32))
    with Stop(duration) as stop, link.open("icmp-responder") as interface:
        if not as_json:
            click.echo(f"answering for {ip}")
        serve(interface, responder, stop)
        report(interface, responder.counters, as_json)


def serve(interface: Interface, responder: Any, stop: Stop) -> None:
    """Answer until `stop`, over all connections.

    Answers are made in a copy: a request stays what was sent, for whoever looks on.
    """
    for item in bursts(interface, stop, waiting=Waiting(interface), count=256):
        if item is not None and interface.tx:
            queue, burst = item
            lengths = burst.lengths.copy()
            rows = burst.gather(min(max(int(lengths.max()) + GROWTH, WIDTH), _LONGEST))
            burst.release()
            answered = responder.answer(rows, lengths, new_lengths=(sizes := lengths.copy()))
            if not answered.all():
                rows, sizes = rows[answered], sizes[answered]
            with suppress(MemifDisconnectedError):
                interface.tx[queue.index % len(interface.tx)].send_array(rows, sizes)


def report(interface: Interface, counters: dict[str, int], as_json: bool) -> None:
    """Print how many packets were answered, ignored and dropped."""
    stats = interface.stats
    if as_json:
        print_json({"answered": counters, "stats": stats})
        return
    received = sum(q["packets"] for q in stats["rx"])
    sent = sum(q["packets"] for q in stats["tx"])
    lost = sum(q["ring_full"] for q in stats["tx"])
    click.echo(f"{received} packets received, {sent} answered, {lost} answers lost to a full ring")
    rest = ", ".join(f"{name} {count}" for name, count in counters.items() if count)
    if rest:
        click.echo(f"  {rest}")
