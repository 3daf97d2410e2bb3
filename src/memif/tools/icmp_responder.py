"""``memif icmp-responder``: answer ARP and ping over memif."""

import time
from typing import Any

import click

from memif.errors import MemifDisconnectedError
from memif.interface import Interface
from memif.tools.options import Link, duration_option, examples, json_option, link_options, print_json

#: Bytes of each packet that the responder looks at: two VLAN tags, IPv6, and a neighbour solicitation fit.
WIDTH = 128


@click.command("icmp-responder", epilog=examples(
    "icmp-responder --role master --ip 192.168.1.2", "icmp-responder --mode ip --ip6 2001:db8::2"))
@click.option("--ip", default="192.168.1.2", show_default=True, metavar="ADDR[/LEN]", help="Own IPv4 address.")
@click.option("--ip6", metavar="ADDR", help="Own IPv6 address.")
@click.option("--mac", default="02:fe:00:00:00:02", show_default=True, help="Own MAC address.")
@duration_option
@json_option
@link_options()
def command(link: Link, ip: str, ip6: str | None, mac: str, duration: float | None, as_json: bool) -> None:
    """Answer ARP requests and ICMP echo requests for one address, in any role, in ethernet and ip mode.

    Fragments and packets with IP options are left alone and counted. Ends with Ctrl-C and prints what it did.
    """
    import numpy as np

    from memif.packet import Responder

    hardware = parse_mac(mac)
    try:
        responder, other = (
            Responder(ip.partition("/")[0], ip6, hardware, "ip" if link.mode == "ip" else "ethernet") for _ in range(2))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--ip / --ip6 / --mac") from error
    # numpy loads much of itself on first use: not while the first ping waits.
    other.answer(np.zeros((1, WIDTH), np.uint8), np.array([60], np.uint32))
    deadline = None if duration is None else time.monotonic() + duration
    with link.open(name="icmp-responder") as interface:
        if not as_json:
            click.echo(f"answering for {ip} as {interface.role} on {interface.socket.address}, id {interface.id}")
        try:
            serve(interface, responder, deadline, quiet=as_json)
        except KeyboardInterrupt:
            pass
        report(interface, responder.counters, as_json)


def parse_mac(text: str, where: str = "--mac") -> bytes:
    """Six bytes from "02:fe:…"."""
    try:
        raw = bytes.fromhex(text.replace(":", "").replace("-", ""))
    except ValueError:
        raw = b""
    if len(raw) != 6:
        raise click.BadParameter(f"{text!r} is not six bytes like 02:fe:00:00:00:02", param_hint=where)
    return raw


def serve(interface: Interface, responder: Any, deadline: float | None, *, quiet: bool) -> None:
    """Answer until the deadline, through all connections."""
    while deadline is None or time.monotonic() < deadline:
        if not interface.up:
            interface.socket.poll(0.1)
            continue
        if not quiet and interface.peer is not None:
            click.echo(f"connected to {interface.peer.name} ({interface.peer.app_name})")
        try:
            while deadline is None or time.monotonic() < deadline:
                answer_once(interface, responder)
        except MemifDisconnectedError as error:
            if not quiet:
                click.echo(f"disconnected: {error.detail}")


def answer_once(interface: Interface, responder: Any) -> None:
    """Serve every receive queue once; wait only when there is a single one."""
    timeout = 0.1 if len(interface.rx) == 1 else 0.0
    busy = False
    for queue in interface.rx:
        with queue.recv(256, timeout) as burst:
            if burst:
                busy = True
                heads = burst.gather(WIDTH)
                answered = responder.answer(heads, burst.lengths)
                burst.scatter(heads)
                interface.tx[queue.index % len(interface.tx)].forward(burst, select=answered)
    if not busy and timeout == 0.0:
        interface.socket.poll(0.001)


def report(interface: Interface, counters: dict[str, int], as_json: bool) -> None:
    """What was answered, left alone and dropped."""
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
