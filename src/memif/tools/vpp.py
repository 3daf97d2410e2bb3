"""``memif vpp``: VPP's end of a link, over VPP's API socket."""

import shlex
from dataclasses import asdict
from ipaddress import IPv4Interface, ip_interface
from itertools import islice
from typing import TYPE_CHECKING, Any, get_args

import click

from memif.errors import MemifStateError, MemifValueError
from memif.tools.options import complete_file, examples, json_option, read_secret
from memif.tools.terminal import print_json
from memif.tools.values import parse_mac
from memif.tools.verb import Verb, Verbs
from memif.types import ModeName, RoleName
from memif.vpp import API_SOCKET

if TYPE_CHECKING:
    from memif.vpp import Vpp, VppInterface


@click.group(
    "vpp",
    cls=Verbs,
    epilog=examples(
        "vpp up --address 192.168.1.1/24 /run/vpp/my.sock", "vpp show", "vpp down memif1/0", "vpp cli 'show errors'"
    ),
)
@click.option(
    "--api",
    default=API_SOCKET,
    show_default=True,
    metavar="SOCKET",
    envvar="MEMIF_VPP_API",
    show_envvar=True,
    shell_complete=complete_file,
    help="VPP's API socket.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0.1),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="For each answer.",
)
@click.pass_context
def command(ctx: click.Context, api: str, timeout: float) -> None:
    """Make, show and remove VPP's end of a link, over VPP's API socket.

    Needs the right to use that socket: root's, or that of the group that VPP's startup.conf names. VPP 18.10 or later.
    """
    ctx.obj = (api, timeout)


def _connect() -> "Vpp":
    from memif.vpp import Vpp

    api, timeout = click.get_current_context().obj
    return Vpp(api, timeout=timeout)


@command.command("up", cls=Verb, epilog=examples("vpp up --address 192.168.1.1/24 /run/vpp/my.sock"))
@click.argument("socket", required=False, shell_complete=complete_file)
@click.option("--address", multiple=True, metavar="ADDR/LEN", help="IP address of VPP's end; may be repeated.")
@click.option("--id", type=click.IntRange(0, 0xFFFFFFFF), default=0, show_default=True, help="Interface id.")
@click.option("--role", type=click.Choice(get_args(RoleName)), default="master", show_default=True, help="VPP's role.")
@click.option(
    "--mode", type=click.Choice(get_args(ModeName)[:2]), default="ethernet", show_default=True, help="Of the packets."
)
@click.option("--secret-file", metavar="FILE", shell_complete=complete_file, help="Its first line is the secret.")
@click.option("--rx-queues", type=click.IntRange(1, 255), default=1, show_default=True, help="VPP's (slave).")
@click.option("--tx-queues", type=click.IntRange(1, 255), default=1, show_default=True, help="VPP's (slave).")
@click.option("--ring-size", type=int, metavar="SLOTS", default=1024, show_default=True, help="Of each ring (slave).")
@click.option(
    "--buffer-size", type=int, metavar="BYTES", default=2048, show_default=True, help="Of each buffer (slave)."
)
@click.option("--zero-copy/--no-zero-copy", default=True, show_default=True, help="Share VPP's own buffers (slave).")
@click.option("--mac", help="MAC address of VPP's end.")
@click.option("--mtu", type=click.IntRange(64, 65535), help="Bytes of the largest IP packet.")
@click.option("--admin-up/--admin-down", default=True, show_default=True, help="Administrative state.")
@json_option
def up(socket: str | None, secret_file: str | None, mac: str | None, as_json: bool, **options: Any) -> None:
    """Make a memif in VPP, on the control socket SOCKET, and print the lines for the other side.

    SOCKET is VPP's own memif.sock if it is left out. It is made known to VPP if need be. The memif stays until "memif
    vpp down", or until VPP ends. If VPP refuses anything, nothing is left behind.
    """
    options |= {
        "secret": None if secret_file is None else read_secret(secret_file),
        "mac": None if mac is None else parse_mac(mac),
    }
    with _connect() as vpp:
        try:
            made = vpp.create(socket, **options)
        except MemifValueError as error:
            raise click.UsageError(error.detail.removeprefix("argument ")) from error
        name = vpp.sockets()[made.socket_id]
    lines = _other_side(name, made, options, secret_file)
    if as_json:
        print_json({**asdict(made), "socket": name, "other_side": lines})
        return
    state = "up" if made.admin_up else "down"
    click.echo(f"{made.name} of VPP {vpp.version} is {state}: {_role(made)} on {name}, id {made.id}")
    click.echo("the other side:\n" + "\n".join(f"  {line}" for line in lines))


def _other_side(name: str, made: "VppInterface", options: dict[str, Any], secret_file: str | None) -> list[str]:
    """Lines to type there: the tool's, and Python's."""
    name = name.replace("abstract:", "@")
    role = "master" if made.slave else "slave"
    words = ["memif", "icmp-responder", "--socket", name, "--role", role]
    more = "" if made.id == 0 else f", id={made.id}"
    words += ["--id", str(made.id)] if made.id else []
    if options["mode"] != "ethernet":
        words += ["--mode", options["mode"]]
        more += f', mode="{options["mode"]}"'
    if secret_file is not None:
        words += ["--secret-file", secret_file]
        more += ", secret=..."
    found = [ip_interface(text) for text in options["address"]]
    for address in [a for a in found if isinstance(a, IPv4Interface)][:1]:
        others = (host for host in address.network.hosts() if host != address.ip)
        words += [word for host in islice(others, 1) for word in ("--ip", str(host))]  # none beside a /32
    call = "listen" if made.slave else "connect"
    return [shlex.join(words), f'memif.{call}("{name}"{more})']


def _role(interface: "VppInterface") -> str:
    return "slave" if interface.slave else "master"


@command.command("show", cls=Verb, epilog=examples("vpp show", "vpp show --json"))
@json_option
def show(as_json: bool) -> None:
    """Show VPP's memifs: name, control socket, id, role, administrative state, link."""
    with _connect() as vpp:
        sockets, found = vpp.sockets(), vpp.interfaces()
    if as_json:
        rows = [{**asdict(one), "socket": sockets.get(one.socket_id)} for one in found]
        print_json({"version": vpp.version, "interfaces": rows})
        return
    click.echo(f"VPP {vpp.version}, {len(found)} memif{'s' if len(found) != 1 else ''}")
    for one in found:
        state = f"{'up' if one.admin_up else 'down'}, {'connected' if one.connected else 'not connected'}"
        click.echo(f"  {one.name:12} {_role(one):6} {state:19} id {one.id} on {sockets.get(one.socket_id, '?')}")


@command.command("down", cls=Verb, epilog=examples("vpp down memif1/0", "vpp down /run/vpp/my.sock"))
@click.argument("names", nargs=-1)
@click.option(
    "--keep-socket", is_flag=True, help="Keep the control socket, which VPP else forgets with its last memif."
)
@json_option
def down(names: tuple[str, ...], keep_socket: bool, as_json: bool) -> None:
    """Remove memifs from VPP: NAMES are VPP's names for them, or control sockets for all memifs there.

    Without NAMES the only memif that VPP has.
    """
    with _connect() as vpp:
        sockets, all_names = vpp.sockets(), [one.name for one in vpp.interfaces()]
        if not names and len(all_names) != 1:
            raise MemifStateError(f"VPP has {len(all_names)} memifs: {' '.join(all_names)}; say which")
        removed = []
        for name in names or all_names:
            found = [one for one in vpp.interfaces() if name in (one.name, sockets.get(one.socket_id))]
            if not found:
                raise MemifStateError(f"VPP has no memif {name!r}; memif vpp show lists them")
            for one in found:
                vpp.delete(one, keep_socket=keep_socket)
                removed.append(one.name)
                if not as_json:
                    click.echo(f"{one.name} is removed")
    if as_json:
        print_json({"removed": removed})


@command.command("cli", cls=Verb, epilog=examples("vpp cli 'show errors'", "vpp cli show memif memif1/0"))
@click.argument("words", nargs=-1, required=True)
def cli(words: tuple[str, ...]) -> None:
    """Run a line of VPP's command line and print what VPP says. Exit code 1 where VPP says that it failed."""
    with _connect() as vpp:
        click.echo(vpp.cli(" ".join(words)), nl=False)
